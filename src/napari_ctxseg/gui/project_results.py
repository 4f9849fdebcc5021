"""Predictions of a project's images: kept in its folder, block by block, and shown again from there. No Qt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg.cases import Case
from napari_ctxseg.errors import CtxsegError
from napari_ctxseg.gui import layers as lay
from napari_ctxseg.project import find_predictions, write_prediction

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_ctxseg.events import PredictionBlock
    from napari_ctxseg.gui.session import Session
    from napari_ctxseg.gui.workspace import Workspace
    from napari_ctxseg.project import Project


@dataclass
class _Predicting:
    """A prediction that is gathered block by block."""

    run: str
    name: str
    labels: NDArray[Any]
    regions: tuple[str, ...]


class ProjectResults:
    """What runs of a project have predicted; see `napari_ctxseg.gui.project_training.ProjectTraining`."""

    def __init__(self, session: Session, workspace: Workspace, background: Callable[..., None]) -> None:
        self.session, self.workspace = session, workspace
        self._background = background
        self._project: Project | None = None
        self._gathered: _Predicting | None = None
        self._queue: list[str] = []
        self._went_on = False  # the last prediction was not stopped

    def shot(self) -> lay.Snapshot:
        """The open image under its name in the project."""
        opened = self.workspace.opened
        assert opened is not None
        return self.named(lay.snapshot(opened.images))

    def named(self, shot: lay.Snapshot) -> lay.Snapshot:
        """See `napari_ctxseg.gui.jobs.Host`."""
        opened = self.workspace.opened
        ours = opened is not None and shot.layer in opened.images
        return replace(shot, name=opened.name) if ours and opened is not None else shot

    def _ours(self, run: Path | None) -> bool:
        return run is not None and self._project is not None and run.parent == self._project.path / "runs"

    def _predict_next(self) -> None:
        """Go on with the images that wait to be predicted."""
        project, session = self._project, self.session
        if session.phase != "idle" or not self._went_on:  # the person has asked for something else
            self._queue = []
        if not self._queue or project is None or session.closed or not self._ours(session.last_run):
            return
        name = self._queue.pop(0)
        opened, shot, first = self.workspace.opened, None, 0
        if (
            opened is not None
            and opened.name == name
            and opened.present
            and not lay.image_problem(opened.images)
        ):
            shot = self.shot()
            first, _ = lay.shown_slice(self.workspace.viewer, shot)

        def load() -> Case:
            return Case(name, shot.image() if shot is not None else project.image(name))

        self._went_on, remark = False, session.remark
        session.predict_case(load, shot, first)
        session.remark = remark

    def _take(self, block: PredictionBlock) -> None:
        """Gather what is predicted of an image of ours."""
        run, project = self.session.last_run, self._project
        if project is None or run is None or not self._ours(run) or block.case not in project.names:
            return
        shape = project.spec.entry(block.case).shape
        gathered = self._gathered
        if gathered is None or gathered.name != block.case:
            full = (len(block.regions), *shape) if block.regions else shape
            labels = np.zeros(full, block.labels.dtype)
            gathered = self._gathered = _Predicting(run.name, block.case, labels, block.regions)
        target = gathered.labels
        if len(shape) == 2:
            target[...] = block.labels
        else:
            count = block.labels.shape[-3]
            target[..., block.start : block.start + count, :, :] = block.labels

    def _keep(self, name: str) -> None:
        gathered, self._gathered = self._gathered, None
        project = self._project
        if gathered is None or gathered.name != name or project is None:
            return
        entry, path = project.spec.entry(name), project.path

        def work() -> None:
            write_prediction(
                path, gathered.run, name, {"labels": gathered.labels},
                names=gathered.regions, regions=bool(gathered.regions), sha256=entry.sha256,
            )  # fmt: skip

        self._background(work, lambda: None, self._told)

    def _drop(self) -> None:
        """A job is over: what it has not finished is not kept."""
        self._gathered = None

    def _told(self, error: Exception) -> None:
        text = str(error) if isinstance(error, CtxsegError) else f"{type(error).__name__}: {error}"
        self.session.failed.emit(text)

    def show_stored(self, run: str = "", *, beside: bool = False) -> None:
        """Show what a run has predicted of the open image; `beside`: in a layer of its own, as outlines, to compare."""
        project, opened, last = self._project, self.workspace.opened, self.session.last_run
        if project is None or opened is None or not (run or self._ours(last)):
            return
        assert run or last is not None
        chosen = run or (last.name if last is not None else "")
        name, shot = opened.name, self.shot()
        sha256 = project.spec.entry(name).sha256
        found: list[Any] = []

        def work() -> None:
            prediction = find_predictions(project.path, chosen).get(name)
            if prediction is not None and prediction.sha256 == sha256:
                found.append((prediction, prediction.read()))

        def done() -> None:
            if self.workspace.opened is not opened or self.session.phase == "training":
                return
            if not found:
                if run:
                    self.session.status = (
                        f"{chosen} has not predicted '{name}' yet: use its model and press Predict."
                    )
                    self.session.changed.emit()
                return
            prediction, labels = found[0]
            if beside:
                self._show_beside(shot, chosen, labels.max(axis=0) if prediction.regions else labels)
            elif prediction.regions:
                self.session.show_regions(shot, 0, labels, prediction.names)
            else:
                self.session.show_slices(shot, 0, labels)

        self._background(work, done, self._told)

    def _show_beside(self, shot: lay.Snapshot, run: str, labels: NDArray[Any]) -> None:
        colors = lay.class_colormap(self.session.colors())
        layer = lay.add_labels(
            self.workspace.viewer, shot, f"{shot.name} {run}", labels.dtype,
            colormap=colors, meta={"prediction_of": shot.name},
        )  # fmt: skip
        layer.data = labels
        layer.contour = 2 if labels.ndim == 2 or 0 in self.workspace.viewer.dims.not_displayed else 0
