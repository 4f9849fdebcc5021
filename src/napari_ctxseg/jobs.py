"""The work behind the commands: settings from options, training, prediction, evaluation, a look at the machine."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import signal
import sys
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg import __version__, dataset, io, report
from napari_ctxseg.atomic import write_bytes_atomic
from napari_ctxseg.config import DataConfig, DeviceConfig, RunConfig, from_yaml, parse_config, set_fields
from napari_ctxseg.errors import CheckpointError, CtxsegError, InputError
from napari_ctxseg.evaluation.metrics import evaluate_case, summarise
from napari_ctxseg.events import PredictionBlock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from napari_ctxseg.cases import Case

#: Beside the predicted label files: which run made them and what their values mean.
RECORD = "predictions.json"


# ---------------------------------------------------------------- settings


def settings(
    config: Path | None,
    options: Mapping[str, Any],
    *,
    loss: str | None,
    classes: str | None,
    assignments: list[str],
) -> RunConfig:
    """A run's configuration from a YAML file, options, and ``--set`` assignments, the later ones winning.

    Raises
    ------
    InputError
        Naming the setting that is wrong.
    """
    values: dict[str, Any] = from_yaml(config).model_dump(mode="json") if config else {}
    if options.get("budget.steps") is not None and options.get("budget.minutes") is not None:
        raise InputError("--minutes and --steps", "are two budgets", "Give one of them")
    for name, value in options.items():
        if value is None:
            continue
        section, _, field = name.partition(".")
        if not field:
            values[section] = value
        elif section == "budget":
            values["budget"] = {field: value}
        else:
            values[section] = {**(values.get(section) or {}), field: value}
    if loss is not None:
        values["loss"] = loss
    if classes is not None:
        values.setdefault("data", {})["classes"] = parse_classes(classes)
    return parse_config(set_fields(values, assignments), "settings")


def parse_classes(text: str) -> dict[str, int]:
    """``LV=1,myo=2`` as a mapping.

    Raises
    ------
    InputError
        If it is not of that form.
    """
    result: dict[str, int] = {}
    for part in text.split(","):
        name, sign, value = part.strip().rpartition("=")
        if not sign or not name or not value.strip().isdigit() or int(value) == 0 or name in result:
            raise InputError(
                f"--classes {text}", f"has {part.strip()!r} where NAME=VALUE is wanted", "Write LV=1,myo=2"
            )
        result[name.strip()] = int(value)
    return result


def refuse_beside_resume(given: Sequence[str]) -> None:
    """A resumed run keeps its own settings: say so instead of ignoring options.

    Raises
    ------
    InputError
        If any were given.
    """
    if given:
        raise InputError(
            "--resume",
            f"takes its settings from the run; {', '.join(given)} cannot be changed",
            "Use --init for a new run",
        )


# ---------------------------------------------------------------- training


@contextmanager
def _stop_on_signal() -> Iterator[Callable[[], bool]]:
    """First Ctrl-C or SIGTERM ends the running step and saves; the second ends at once."""
    asked: list[int] = []

    def handler(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def train(config: RunConfig | None, out: Path, *, resume: bool, as_json: bool) -> None:
    """Run a training to its end or to Ctrl-C.

    Raises
    ------
    CtxsegError
        If data, settings or folder do not allow it.
    KeyboardInterrupt
        After a stop by signal; the state is saved.
    """
    if config is None:
        path = out / "config.yaml"
        if not path.is_file():
            raise CheckpointError(out, "holds no run to go on with", "Train without --resume")
        config = from_yaml(path)
    cases = dataset.training_cases(config.data)
    from napari_ctxseg.training import fit

    absolute = config.data.model_copy(
        update={"images": _absolute(config.data.images), "labels": _absolute(config.data.labels)}
    )
    with _stop_on_signal() as stop:
        finished = report.follow_training(
            fit(config.updated(data=absolute), cases, out, stop=stop, resume=resume), as_json=as_json
        )
    if finished is not None and finished.stopped:
        raise KeyboardInterrupt


def _absolute(places: Sequence[str]) -> tuple[str, ...]:
    """Places that still hold when the run is resumed from another folder."""
    return tuple(
        f"@{Path(p[1:]).absolute()}" if p.startswith("@") else str(Path(p).absolute()) for p in places
    )


# ---------------------------------------------------------------- prediction


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
    targets = {pair.name: out / label_name(pair.images[0]) for pair in pairs}
    _check_output(out, targets.values(), paths, overwrite)
    done, failed = [], []
    for pair in pairs:
        try:
            case = dataset.read_case(pair, DataConfig())
            labels = predict_labels(model, case)
            io.write_labels(targets[pair.name], labels, case.image)
        except CtxsegError as error:
            failed.append(str(error))
            _say({"file": str(pair.images[0]), "error": str(error)}, f"! {error}", as_json)
        else:
            done.append(targets[pair.name].name)
            _say(
                {"file": str(pair.images[0]), "labels": str(targets[pair.name])},
                str(targets[pair.name]),
                as_json,
            )
    _record(out, run, model.classes, done)
    if failed and not as_json:
        print_line(f"{len(failed)} of {len(pairs)} images could not be predicted")
    return len(failed)


def predict_labels(model: Any, case: Case) -> np.ndarray:
    """All blocks of one case put together: class values of shape ``case.image.spatial_shape``."""
    from napari_ctxseg.inference import predict as events

    labels: np.ndarray | None = None
    for event in events(model, case):
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


def label_name(image: Path) -> str:
    """Name of the label file of an image: same stem and format; JPEG would change values, so it becomes PNG."""
    suffix = io.suffix_of(image)
    kept = suffix if suffix in io.LABEL_SUFFIXES else ".png"
    return f"{io.stem_of(image)}{kept}"


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
        print_line(text)


def print_line(text: str) -> None:
    """One line for the person."""
    import typer

    typer.echo(text)


# ---------------------------------------------------------------- evaluation


def evaluate(
    pred: Sequence[str], ref: Sequence[str], *, classes: str | None, foreground: bool
) -> dict[str, Any]:
    """Compare label files.

    Returns
    -------
    dict
        ``{"mean": ..., "classes": ..., "cases": ..., "notes": ...}``.

    Raises
    ------
    CtxsegError
        If nothing can be compared, or shapes differ.
    """
    predictions = dataset.find_files(pred, "predicted label files")
    pairs = dataset.pair_files(
        predictions, _references(predictions, dataset.find_files(ref, "reference label files"))
    )
    values, foreground = _classes_to_compare(pred, classes, foreground)
    loaded = [
        (pair.name, io.read_labels(pair.images[0]), io.read_labels(_given(pair.label))) for pair in pairs
    ]
    if not values and not foreground:
        found = {int(v) for _, a, b in loaded for image in (a, b) for v in np.unique(image.array)} - {0}
        values = {f"class {v}": v for v in sorted(found)}
    cases = {}
    for name, guess, truth in loaded:
        if guess.spatial_shape != truth.spatial_shape:
            raise InputError(
                name,
                f"prediction {guess.spatial_shape} and reference {truth.spatial_shape} have different shapes",
                "Compare masks of the same image",
            )
        a, b = (np.minimum(image.array, 1) if foreground else image.array for image in (guess, truth))
        table = {"foreground": 1} if foreground else values
        cases[name] = evaluate_case(a, b, table, truth.spacing, truth.unit)
    result = summarise(cases).to_json()
    result["notes"] = _unpaired(ref, pairs)
    return result


def _given(path: Path | None) -> Path:
    if path is None:
        raise InputError("references", "are incomplete", "Give one reference for each prediction")
    return path


def _references(predictions: Sequence[Path], references: Sequence[Path]) -> list[Path]:
    """References of the predictions at hand; more of them may lie in the folder."""
    stems = {io.stem_of(path) for path in predictions}
    return [
        p for p in references if any(io.stem_of(p) == s or io.stem_of(p).startswith(f"{s}_") for s in stems)
    ]


def _unpaired(ref: Sequence[str], pairs: Sequence[dataset.Pair]) -> list[str]:
    used = {pair.label for pair in pairs}
    left = [path for path in dataset.find_files(ref) if path not in used]
    return [f"{len(left)} references have no prediction and are not part of the means"] if left else []


def _classes_to_compare(
    pred: Sequence[str], classes: str | None, foreground: bool
) -> tuple[dict[str, int], bool]:
    if foreground:
        return {}, True
    if classes is not None:
        return parse_classes(classes), False
    record = Path(pred[0]) / RECORD
    if len(pred) == 1 and record.is_file():
        try:
            known = json.loads(record.read_text(encoding="utf-8"))
            return {str(k): int(v) for k, v in known["classes"].items()}, bool(known["foreground"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                record, f"cannot be read ({error})", "Name the classes with --classes"
            ) from error
    return {}, False


# ---------------------------------------------------------------- the machine


def doctor() -> dict[str, Any]:
    """Facts about this machine, most telling first."""
    from napari_ctxseg.training.plan import device_text, resolve_device

    device = resolve_device(DeviceConfig())
    packages = (
        "torch",
        "monai",
        "lightning-fabric",
        "napari",
        "npe2",
        "numpy",
        "nibabel",
        "tifffile",
        "SimpleITK",
    )
    return {
        "napari-ctxseg": __version__,
        "device": device_text(device),
        "precision": device.precision,
        "cores": os.cpu_count(),
        "display": has_display(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: _version(name) for name in packages},
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def has_display() -> bool:
    """Whether a window can be opened."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
