"""The project in one viewer: which it is, which of its images is open, and that all of it is saved. No Qt."""

from __future__ import annotations

import contextlib
import shutil
import time
from typing import TYPE_CHECKING, Any

from napari_ctxseg.errors import CtxsegError, InputError
from napari_ctxseg.gui import project_layers as own
from napari_ctxseg.gui.autosave import INTERVAL
from napari_ctxseg.gui.project_classes import ClassSync, specs_of
from napari_ctxseg.gui.project_images import ProjectImages
from napari_ctxseg.gui.timing import timed
from napari_ctxseg.project import LabelStore, Project, all_runs, set_patients

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from napari_ctxseg.gui.choices import Choices

#: Seconds between two signs of life in the project's lock.
REFRESH = 30.0


class Workspace(ProjectImages):
    """One project in one viewer.

    Parameters
    ----------
    choices : Choices
        Layers, classes and policy as the person sees them; they follow the project, and it follows them.
    background : callable
        Runs a function off the GUI thread, then one of two callbacks on it.
    interval : float
        Seconds between two savings.
    """

    def __init__(self, choices: Choices, background: Callable[..., None], interval: float = INTERVAL) -> None:
        super().__init__(choices, background, interval)
        #: Who needs the project's folder to stay where it is -> gives the reason, or nothing.
        self.holds: dict[object, Callable[[], str]] = {}
        self._refreshed = 0.0
        self._strokes = 0
        self._classes = ClassSync(choices)

    def _no_project(self) -> None:
        if self.project is not None:
            raise InputError(
                self.project.spec.name, "is open in this viewer", "Close it first, or use a second viewer"
            )

    # ------------------------------------------------------------ projects

    def new(self, path: Path | None = None) -> None:
        """Make a project of the classes, the policy and the image on screen; without a path an unnamed one.

        Raises
        ------
        InputError
            If one is open, or the images on screen cannot be used together.
        """
        self._no_project()
        chosen = self._chosen() if self.choices.images else None
        layers, labels = list(self.choices.images), self.choices.labels
        scribbles = self.choices.policy == "scribbles"
        settings: dict[str, Any] = {
            "classes": specs_of(self.choices),
            "policy": self.choices.policy,
            "background": self.choices.background_value if scribbles else None,
        }

        def work() -> Project:
            project = Project.unnamed(**settings) if path is None else Project.create(path, **settings)
            try:
                if chosen is not None:
                    own.add_to_project(project, *chosen)
            except BaseException:
                project.close()
                raise
            return project

        def done(project: Project) -> None:
            self._take(project)
            if chosen is not None:
                self._adopt(project.names[0], layers, labels)

        self._run("making the project", work, done)

    def open(self, path: Path, image: str | None = None) -> None:
        """Open a project, for reading only if somebody else writes in it, and one of its images.

        Raises
        ------
        InputError
            If one is open in this viewer already.
        """
        self._no_project()

        def done(project: Project) -> None:
            self._take(project)
            if project.names:
                labelled = [name for name in project.names if project.has_labels(name)]
                self.open_image(image or (labelled or project.names)[0])

        self._run("opening the project", lambda: Project.open(path), done)

    def _take(self, project: Project) -> None:
        self.project = project
        self.effort.begin(project.spec.id)
        self._classes.show(project)

    def set_patients(self, patients: Mapping[str, str], then: Callable[[], None] = lambda: None) -> None:
        """Say of images whose they are; the split follows. `then` is called when it is written.

        Raises
        ------
        InputError
            If the project cannot be changed now.
        """
        if problem := self.patients_problem():
            raise InputError("patients", f"cannot be changed: {problem}")
        project = self._require()
        self._run("writing the patients", lambda: set_patients(project, patients), lambda _: then())

    def set_regions(self, regions: Mapping[str, tuple[int, ...]]) -> None:
        """Learn overlapping regions from now on; an empty mapping: the classes.

        Raises
        ------
        CtxsegError
            If they cannot be, or the project cannot be changed now.
        """
        if self.doing:
            raise InputError(
                "regions", f"cannot be changed: the project is busy: {self.doing}", "Wait a moment"
            )
        self._require().update(regions=dict(regions))
        self.changed.emit()

    def patients_problem(self) -> str:
        """Why images cannot get other patients now; empty if they can."""
        project = self.project
        if project is None:
            return "There is no project."
        if project.read_only:
            return f"This project is open for reading only. {project.notice}"
        if self.doing:
            return f"The project is busy: {self.doing}."
        if getattr(self.choices, "phase", "idle") in ("preparing", "training"):
            return "A training is under way, and its patients for validation must stay. Wait, or press Stop."
        return "" if project.names else "There are no images yet."

    def save_as(self, path: Path) -> None:
        """Copy the project to a folder and go on there. Strokes made meanwhile are saved there too.

        Raises
        ------
        InputError
            If there is no project, or the engine writes in it.
        """
        project, opened = self._require(), self.opened
        self.check_movable()
        self._pause()

        def work() -> tuple[Project, str]:
            try:
                return project.save_as(path), ""
            except CtxsegError as error:
                return Project.open(project.path) if project.read_only else project, str(error)

        def go_on() -> None:
            here = opened is not None and opened is self.opened
            if here and self.project is not None and not self.project.read_only:
                assert opened is not None
                self._follow(opened)

        def done(result: tuple[Project, str]) -> None:
            self.project, problem = result
            go_on()
            if problem:
                self.failed.emit(problem)

        self._run("copying the project", work, done, go_on)

    def check_movable(self) -> None:
        """Refuse to copy a folder that is being written to: the copy would be of no moment, and an unnamed one moves.

        Raises
        ------
        InputError
            Saying who writes.
        """
        if getattr(self.choices, "phase", "idle") != "idle":
            raise InputError("project", "is being trained on or predicted", "Wait for its end, or press Stop")
        for reason in filter(None, (ask() for ask in self.holds.values())):
            raise InputError("project", f"cannot be copied now: {reason}", "Wait for its end, or press Pause")

    def close(self, seconds: float = 10.0) -> bool:
        """Save what is left, waiting for this long at most, and let others write; the layers stay.

        Returns
        -------
        bool
            Whether everything is on disk.
        """
        done, self._left = self.close_image(seconds, keep=True), None
        if self.project is not None:
            self.effort.save()
            self._discard_if_empty(self.project)
            self.project.close()
            self.project = None
        self.changed.emit()
        return done

    @staticmethod
    def _discard_if_empty(project: Project) -> None:
        """An unnamed project that nobody has painted in or trained leaves nothing behind."""
        if project.is_unnamed and not project.read_only:
            with contextlib.suppress(CtxsegError, OSError):
                painted = any(
                    project.has_labels(name)
                    and LabelStore.open(project.labels_path(name), read_only=True).contents().chunks
                    for name in project.names
                )
                if not (painted or all_runs(project.path)):
                    project.close()
                    shutil.rmtree(project.path, ignore_errors=True)

    def shut_down(self) -> None:
        """Close for good, with the window."""
        self.closed = True
        self.close()

    # ------------------------------------------------------------ all the time

    @timed
    def tick(self, now: float | None = None) -> None:
        """Save, count the minutes, follow the class table. For a timer, several times a second."""
        now = time.monotonic() if now is None else now
        opened, project = self.opened, self.project
        if project is None:
            return
        if opened is not None and opened.autosave is not None:
            opened.autosave.tick()
            opened.verdicts.tick(self._background, self.failed.emit, now)
            if opened.autosave.strokes != self._strokes:
                self._strokes = opened.autosave.strokes
                self.effort.note(now)
            if not opened.present and not opened.autosave.busy:
                self._left = opened  # the person has deleted the layer; the labels are on disk
                self.close_image(keep=True)
                self.changed.emit()
        if project.read_only or self.doing or getattr(self.choices, "closed", False):
            return
        if problem := self._classes.keep(project):
            self.failed.emit(problem)
        if now - self._refreshed > REFRESH and project.lock is not None:
            self._refreshed = now
            for work in (
                project.lock.refresh,
                self.effort.save,
            ):  # a killed program loses no more minutes than these
                self._background(work, lambda: None, lambda error: None)

    # ------------------------------------------------------------ what is shown

    @property
    def saving(self) -> tuple[str, str]:
        """State and sentence of saving."""
        opened, project = self.opened, self.project
        if self.doing:
            return "saving", f"{self.doing} ..."
        if project is None:
            return "saved", "no project"
        if project.read_only:
            return "failed", f"READ ONLY: {project.notice}"
        if opened is None or opened.autosave is None:
            return "saved", "saved"
        return opened.autosave.state, opened.autosave.sentence
