"""``ctxseg predict``: a label file for each image, or one for each of its regions."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from napari_ctxseg import __version__, dataset, io
from napari_ctxseg.atomic import write_bytes_atomic
from napari_ctxseg.commands import report
from napari_ctxseg.config import DataConfig, DeviceConfig, PredictConfig, Uncertainty, from_yaml
from napari_ctxseg.errors import CtxsegError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from napari_ctxseg.image import Image
    from napari_ctxseg.inference import Model, Predicted

#: Beside the predicted label files: which run made them and what their values mean.


def predict(
    run: Path,
    files: Sequence[str],
    out: Path,
    *,
    device: str | None,
    threads: int | None,
    overwrite: bool,
    as_json: bool,
    maps: bool = False,
    options: PredictConfig | None = None,
) -> int:
    """Predict files one by one; a broken one is named and the rest is done.

    With an uncertainty in `options` its map is written beside those of a second stage.

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
    from napari_ctxseg.inference import load_members, load_model, predict_case

    options = options or PredictConfig()
    place = DeviceConfig.model_validate({"accelerator": device or "auto", "threads": threads})
    model = load_model(run, place)
    members = load_members(model, options, place)
    if maps and model.thresholds is None and options.uncertainty == "none":
        raise InputError(
            run, "has no second stage, so there are no maps", "Leave out --maps, or add --uncertainty entropy"
        )
    pairs = dataset.pair_files(paths, None, model.channels)
    targets = {pair.name: _targets(out / label_name(pair), model.regions) for pair in pairs}
    _check_output(out, [each for of_pair in targets.values() for each in of_pair], paths, overwrite)
    done, failed = [], []
    with report.progress("predicting", len(pairs), as_json=as_json) as show:
        for number, pair in enumerate(pairs):
            source, written = pair.images[0], targets[pair.name]
            try:
                case = dataset.read_case(pair, DataConfig())
                found = predict_case(model, case, lambda share, n=number: show(n + share), options, members)  # type: ignore[misc]
                for target, labels in zip(written, found.layers, strict=True):
                    io.write_labels(target, labels, case.image)
                _write_maps(
                    out / label_name(pair), found if maps else found.without_stages, model, case.image
                )
            except CtxsegError as error:
                failed.append(str(error))
                _say({"file": str(source), "error": str(error)}, f"! {error}", as_json)
            else:
                done += [target.name for target in written]
                for target in written:
                    _say({"file": str(source), "labels": str(target)}, str(target), as_json)
            show(number + 1)
    _record(out, run, model, done)
    if failed and not as_json:
        report.print_line(f"{len(failed)} of {len(pairs)} images could not be predicted")
    return len(failed)


def predict_options(uncertainty: str, ensemble: Sequence[str] = ()) -> PredictConfig:
    """Options as a person gives them.

    Raises
    ------
    InputError
        If there is no such uncertainty, or an ensemble has no other run.
    """
    known = get_args(Uncertainty)
    if uncertainty not in known:
        raise InputError(f"--uncertainty {uncertainty}", "is unknown", f"Choose from {', '.join(known)}")
    if (uncertainty == "ensemble") != bool(ensemble):
        raise InputError(
            "--uncertainty ensemble", "goes together with --ensemble RUN", "Name at least one other run"
        )
    return PredictConfig.model_validate({"uncertainty": uncertainty, "runs": tuple(ensemble)})


def _write_maps(target: Path, found: Predicted, model: Model, image: Image) -> None:
    """``maps/NAME_fn_LV.nii.gz`` for ``NAME.nii.gz``; formats that hold no real numbers become ``.npy``."""
    if not found.maps and found.uncertainty is None:
        return
    folder = target.parent / "maps"
    folder.mkdir(exist_ok=True)
    suffix = io.suffix_of(target)
    stem, ending = target.name.removesuffix(suffix), suffix if suffix in io.MAP_SUFFIXES else ".npy"
    for name, values in found.maps.items():
        for value, label in zip(values, model.regions or ["background", *model.classes], strict=True):
            safe = re.sub(r"[^\w-]+", "-", label)
            io.write_map(folder / f"{stem}_{name}_{safe}{ending}", value.astype(np.float32), image)
    if found.uncertainty is not None:
        io.write_map(folder / f"{stem}_uncertainty{ending}", found.uncertainty.astype(np.float32), image)


def _targets(labels: Path, regions: Mapping[str, Any]) -> list[Path]:
    """Files of an image: its labels, or ``NAME_WT.nii.gz`` for each region."""
    suffix = io.suffix_of(labels)
    stem = labels.name.removesuffix(suffix)
    return [labels.with_name(f"{stem}_{region}{suffix}") for region in regions] or [labels]


def label_name(pair: dataset.Pair) -> str:
    """Name of the label file of an image: same stem and format; JPEG would change values, so it becomes PNG.

    The stem of several channel files is what they have in common, as it is for label files to train on.
    """
    suffix = io.suffix_of(pair.images[0])
    return f"{pair.name}{suffix if suffix in io.LABEL_SUFFIXES else '.png'}"


def _check_output(out: Path, targets: Sequence[Path], sources: Sequence[Path], overwrite: bool) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_bytes_atomic(out / f".probe-{os.getpid()}", b"")
        (out / f".probe-{os.getpid()}").unlink()
    except (OSError, CtxsegError) as error:
        raise InputError(out, "cannot be written to", "Choose another output folder") from error
    twice = [target for target, count in Counter(targets).items() if count > 1]
    if twice:
        raise InputError(twice[0], "would be written for two images", "Predict them into two folders")
    own = {path.resolve() for path in sources}
    for target in targets:
        if target.resolve() in own:
            raise InputError(out, "is the folder of the images themselves", "Choose another output folder")
        if target.exists() and not overwrite:
            raise InputError(target, "is there already", "Choose another folder, or use --overwrite")


def _record(out: Path, run: Path, model: Model, files: Sequence[str]) -> None:
    config = run / "config.yaml"
    foreground = config.is_file() and from_yaml(config).data.foreground
    weights = run if run.is_file() else run / "model.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    record = {
        "version": __version__,
        "run": str(run.absolute()),
        "model_sha256": digest,
        "classes": dict(model.classes),
        "regions": {name: list(values) for name, values in model.regions.items()},
        "foreground": foreground,
        "thresholds": None
        if model.thresholds is None
        else dict(zip(("fn", "fp"), model.thresholds, strict=True)),
        "files": list(files),
    }
    write_bytes_atomic(out / dataset.PREDICTIONS, json.dumps(record, indent=2).encode())


def _say(record: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        report.print_json(record)
    else:
        report.print_line(text)
