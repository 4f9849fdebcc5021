"""``ctxseg predict``: a label file for each image."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg import __version__, dataset, io
from napari_ctxseg.atomic import write_bytes_atomic
from napari_ctxseg.commands import report
from napari_ctxseg.config import DataConfig, DeviceConfig, from_yaml
from napari_ctxseg.errors import CtxsegError, InputError
from napari_ctxseg.events import PredictionBlock, PredictionProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from napari_ctxseg.cases import Case

#: Beside the predicted label files: which run made them and what their values mean.
RECORD = "predictions.json"


def predict(
    run: Path,
    files: Sequence[str],
    out: Path,
    *,
    device: str | None,
    threads: int | None,
    overwrite: bool,
    as_json: bool,
) -> int:
    """Predict files one by one; a broken one is named and the rest is done.

    Returns
    -------
    int
        How many could not be predicted.

    Raises
    ------
    CtxsegError
        If the run cannot be loaded, the folder not written, or no file be found.
    """
    paths = dataset.find_files(files)
    from napari_ctxseg.inference import load_model

    model = load_model(
        run, DeviceConfig.model_validate({"accelerator": device or "auto", "threads": threads})
    )
    pairs = dataset.pair_files(paths, None, model.channels)
    targets = {pair.name: out / label_name(pair) for pair in pairs}
    _check_output(out, targets.values(), paths, overwrite)
    done, failed = [], []
    with report.progress("predicting", len(pairs), as_json=as_json) as show:
        for number, pair in enumerate(pairs):
            source, target = pair.images[0], targets[pair.name]
            try:
                case = dataset.read_case(pair, DataConfig())
                labels = predict_labels(model, case, lambda share, n=number: show(n + share))  # type: ignore[misc]
                io.write_labels(target, labels, case.image)
            except CtxsegError as error:
                failed.append(str(error))
                _say({"file": str(source), "error": str(error)}, f"! {error}", as_json)
            else:
                done.append(target.name)
                _say({"file": str(source), "labels": str(target)}, str(target), as_json)
            show(number + 1)
    _record(out, run, model.classes, done)
    if failed and not as_json:
        report.print_line(f"{len(failed)} of {len(pairs)} images could not be predicted")
    return len(failed)


def predict_labels(model: Any, case: Case, show: Callable[[float], None] = lambda share: None) -> np.ndarray:
    """All blocks of one case put together: class values of shape ``case.image.spatial_shape``.

    `show` is told the share of the image that is done.
    """
    from napari_ctxseg.inference import predict as events

    labels: np.ndarray | None = None
    for event in events(model, case):
        if isinstance(event, PredictionProgress | PredictionBlock):
            show(event.done)
        if isinstance(event, PredictionBlock):
            if labels is None:
                labels = np.zeros(case.image.spatial_shape, event.labels.dtype)
            if labels.ndim == 2:
                labels[:] = event.labels
            else:
                labels[event.start : event.start + len(event.labels)] = event.labels
    if labels is None:
        raise InputError(case.name, "gave no prediction", "This is a fault of ours: please report it")
    return labels


def label_name(pair: dataset.Pair) -> str:
    """Name of the label file of an image: same stem and format; JPEG would change values, so it becomes PNG.

    The stem of several channel files is what they have in common, as it is for label files to train on.
    """
    suffix = io.suffix_of(pair.images[0])
    return f"{pair.name}{suffix if suffix in io.LABEL_SUFFIXES else '.png'}"


def _check_output(out: Path, targets: Any, sources: Sequence[Path], overwrite: bool) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_bytes_atomic(out / f".probe-{os.getpid()}", b"")
        (out / f".probe-{os.getpid()}").unlink()
    except (OSError, CtxsegError) as error:
        raise InputError(out, "cannot be written to", "Choose another output folder") from error
    own = {path.resolve() for path in sources}
    for target in targets:
        if target.resolve() in own:
            raise InputError(out, "is the folder of the images themselves", "Choose another output folder")
        if target.exists() and not overwrite:
            raise InputError(target, "is there already", "Choose another folder, or use --overwrite")


def _record(out: Path, run: Path, classes: Mapping[str, int], files: Sequence[str]) -> None:
    config = run / "config.yaml"
    foreground = config.is_file() and from_yaml(config).data.foreground
    weights = run if run.is_file() else run / "model.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    record = {
        "version": __version__,
        "run": str(run.absolute()),
        "model_sha256": digest,
        "classes": dict(classes),
        "foreground": foreground,
        "files": list(files),
    }
    write_bytes_atomic(out / RECORD, json.dumps(record, indent=2).encode())


def _say(record: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        report.print_json(record)
    else:
        report.print_line(text)
