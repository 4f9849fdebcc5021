"""``ctxseg suggest``: which slices to label next, of a project or of files."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg import dataset
from napari_ctxseg.cases import Case
from napari_ctxseg.commands import report
from napari_ctxseg.config import DataConfig, DeviceConfig
from napari_ctxseg.errors import InputError
from napari_ctxseg.evaluation.next_slice import look, rank, rank_images
from napari_ctxseg.project import Project, find_predictions, find_run, is_project, write_prediction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_ctxseg.config import PredictConfig
    from napari_ctxseg.evaluation.next_slice import Candidate, Seen
    from napari_ctxseg.inference.predictor import Model
    from napari_ctxseg.project import Prediction

#: Slices that are ranked at least, so that images can be compared too.
MOST = 1000


class _Asker:
    """The network, loaded when it is first asked: stored predictions may do without it."""

    def __init__(self, run: Path, options: PredictConfig, device: DeviceConfig) -> None:
        self.run, self.options, self._device = run, options, device
        self._model: Model | None = None
        self._members: list[Model] = []

    @property
    def model(self) -> Model:
        """The run's."""
        from napari_ctxseg.inference import load_members, load_model

        if self._model is None:
            self._model = load_model(self.run, self._device)
            self._members = load_members(self._model, self.options, self._device)
        return self._model

    def arrays(self, case: Case, show: Callable[[float], None]) -> dict[str, NDArray[Any]]:
        """A prediction by the names that a project keeps it under."""
        from napari_ctxseg.inference import predict_case

        return predict_case(self.model, case, show, self.options, self._members).arrays


def suggest(
    where: Path,
    files: Sequence[str],
    *,
    run: str | None,
    roots: Mapping[str, Path],
    labels: Sequence[str],
    top: int,
    options: PredictConfig,
    device: str | None,
    threads: int | None,
    as_json: bool,
) -> tuple[list[Candidate], list[tuple[str, float]]]:
    """Rank slices and images.

    Parameters
    ----------
    where : Path
        A project, whose training images are ranked, or a run.
    files : sequence of str
        Images, with a run.
    run : str or None
        Which run of a project; the last one when left out.
    roots : mapping of str to Path
        Where this machine keeps folders that a project refers to.
    labels : sequence of str
        Label files of some of the images; slices in which they hold anything are labelled.
    top : int
        How many slices.
    options : PredictConfig
        Which uncertainty.

    Returns
    -------
    slices, images
        Best first.

    Raises
    ------
    CtxsegError
        If something cannot be read, or there is no model.
    """
    place = DeviceConfig.model_validate({"accelerator": device or "auto", "threads": threads})
    if is_project(where):
        if files or labels:
            raise InputError(where, "is a project, which has images and labels of its own", "Name no files")
        with Project.open(where, roots) as project:
            seen = _of_project(project, run, options, place, as_json)
    else:
        if run is not None:
            raise InputError(
                f"--run {run}", "names a run of a project", "Give the run folder instead of a project"
            )
        seen = _of_files(_Asker(where, options, place), files, labels, as_json)
    ranked = rank(seen, top=max(top, MOST))
    return ranked[:top], rank_images(ranked)


def show(slices: Sequence[Candidate], images: Sequence[tuple[str, float]], *, as_json: bool) -> None:
    """Print what was found."""
    if as_json:
        report.print_json(
            {
                "slices": [asdict(one) | {"reason": one.reason} for one in slices],
                "images": [{"image": name, "score": score} for name, score in images],
            }
        )
        return
    for one in slices:
        shares = ", ".join(f"{name} {share:.2f}" for name, share in one.reasons.items())
        report.print_line(f"{one.image}  slice {one.index}  {one.score:.3f}  {one.reason} ({shares})")
    if not slices:
        report.print_line("Every slice is labelled.")
    elif len(images) > 1:
        report.print_line("Images: " + ", ".join(f"{name} {score:.3f}" for name, score in images[:10]))
    report.print_line("A heuristic: nothing in it has been fitted to your data.")


def _of_project(
    project: Project, run: str | None, options: PredictConfig, device: DeviceConfig, as_json: bool
) -> list[Seen]:
    """Training images, with stored predictions where they are of the image as it is and hold what is asked for."""
    entry = find_run(project.path, run)
    asker = _Asker(entry.path, options, device)
    names = [name for name in project.names if project.role(name) == "train"]
    stored = find_predictions(project.path, entry.name)
    seen = []
    with report.progress("looking", len(names), as_json=as_json) as show_done:
        for number, name in enumerate(names):
            case = Case(name, project.image(name))
            known, sha256 = stored.get(name), project.spec.entry(name).sha256
            if known is not None and known.sha256 == sha256 and _holds(known, options):
                arrays, regions = {each: known.read(each) for each in known.arrays}, known.regions
            else:
                arrays = asker.arrays(case, lambda share, n=number: show_done(n + share))  # type: ignore[misc]
                regions = bool(asker.model.regions)
                if not project.read_only:
                    _keep(project, entry.name, case.name, arrays, asker.model, sha256)
            seen.append(_look(case, arrays, regions, _labelled_in(project, name)))
            show_done(number + 1)
    return seen


def _holds(known: Prediction, options: PredictConfig) -> bool:
    # Which uncertainty a stored one is, the project does not say: whatever was last asked for will do.
    return options.uncertainty == "none" or "uncertainty" in known.arrays


def _keep(
    project: Project, run: str, name: str, arrays: dict[str, NDArray[Any]], model: Model, sha256: str
) -> None:
    names = tuple(model.regions) or ("background", *model.classes)
    write_prediction(project.path, run, name, arrays, names=names, regions=bool(model.regions), sha256=sha256)


def _labelled_in(project: Project, name: str) -> tuple[int, ...]:
    """Slices along the first axis that are labelled; with scribbles those in which anything is painted."""
    if not project.has_labels(name):
        return ()
    store = project.labels(name)
    if project.spec.policy == "masks":
        return store.counted().get(0, ())
    return _painted(store.read())


def _painted(labels: NDArray[Any]) -> tuple[int, ...]:
    stack = labels[None] if labels.ndim == 2 else labels
    return tuple(int(index) for index in np.flatnonzero(stack.reshape(len(stack), -1).any(axis=1)))


def _of_files(asker: _Asker, files: Sequence[str], labels: Sequence[str], as_json: bool) -> list[Seen]:
    if not files:
        raise InputError(asker.run, "is no project, and no images are named", "Name images after the run")
    paths = dataset.find_files(files)
    pairs = dataset.pair_files(paths, None, asker.model.channels)
    if labels:
        pairs = dataset.with_labels(pairs, dataset.find_files(labels, "label files"))
    seen = []
    with report.progress("looking", len(pairs), as_json=as_json) as show_done:
        for number, pair in enumerate(pairs):
            case = dataset.read_case(pair, DataConfig())
            arrays = asker.arrays(case, lambda share, n=number: show_done(n + share))  # type: ignore[misc]
            labelled = () if case.labels is None else _painted(case.labels)
            seen.append(_look(case, arrays, bool(asker.model.regions), labelled))
            show_done(number + 1)
    return seen


def _look(case: Case, arrays: dict[str, NDArray[Any]], regions: bool, labelled: Iterable[int]) -> Seen:
    first = 0 if regions else 1  # background is no error mask of anything
    errors = {name: arrays[name][first:].max(axis=0) for name in ("fn", "fp") if name in arrays}
    labels = np.asarray(arrays["labels"].any(axis=0) if regions else arrays["labels"])
    brightness = np.asarray(case.image.channel_array, np.float32).mean(axis=0)
    return look(
        case.name, brightness, labels, uncertainty=arrays.get("uncertainty"), labelled=labelled, **errors
    )
