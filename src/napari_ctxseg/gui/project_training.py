"""Training and prediction of a project: rounds, runs in its folder, predictions kept. No Qt.

A `Session` asks it where runs belong and what is learned from; it listens to the session's events.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_ctxseg.cases import Case
from napari_ctxseg.errors import CtxsegError, InputError
from napari_ctxseg.events import (
    JobDone,
    JobFailed,
    PredictionBlock,
    PredictionFinished,
    RunFinished,
)
from napari_ctxseg.gui.choices import open_case
from napari_ctxseg.gui.project_results import ProjectResults
from napari_ctxseg.gui.summary import Summary, split_problem
from napari_ctxseg.gui.timing import timed
from napari_ctxseg.gui.watching import Watcher, show_elsewhere
from napari_ctxseg.project import (
    all_runs,
    begin_round,
    finish_round,
    helped,
    last_model,
    load_rounds,
    lock_run,
    new_id,
    next_run,
)
from napari_ctxseg.project.snapshot import annotation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_ctxseg.config import RunConfig
    from napari_ctxseg.events import Event
    from napari_ctxseg.gui import layers as lay
    from napari_ctxseg.gui.annotation import Marks
    from napari_ctxseg.gui.session import Session
    from napari_ctxseg.gui.summary import ImageRow
    from napari_ctxseg.gui.workspace import Workspace
    from napari_ctxseg.project import Lock, Project, Round, RunEntry

#: Seconds between two looks at the folder: labels counted anew, runs that others make.
LOOK = 1.5
#: Seconds that a training waits for the labels to be on disk.
PATIENCE = 60.0


@dataclass
class _Training:
    """A round that is under way."""

    project: Project
    out: Path
    parent: str
    minutes: float
    round_id: str = field(default_factory=new_id)
    begun: dict[str, Any] | None = None
    error: CtxsegError | None = None
    lock: Lock | None = None
    finished: bool = False


class ProjectTraining(ProjectResults):
    """Rounds of one viewer's project.

    Parameters
    ----------
    session : Session
        Trains and predicts.
    workspace : Workspace
        Holds the project and its open image.
    background : callable
        Runs a function off the GUI thread, then one of two callbacks on it.
    """

    #: Rounds, runs or counts have changed.
    changed = Signal()

    def __init__(self, session: Session, workspace: Workspace, background: Callable[..., None]) -> None:
        super().__init__(session, workspace, background)
        self.rounds: list[Round] = []
        self.runs: list[RunEntry] = []
        self.rows: list[ImageRow] = []
        self.notes: list[str] = []
        self.verdict = ""  # whether the last round helped
        self._summary = Summary()
        self._watcher: Watcher | None = None
        self._opened: Any = None
        self._training: _Training | None = None
        self._own: set[str] = set()
        self._models: set[str] = set()  # runs that have had a model
        self._gone: set[str] = set()  # and have it no longer
        self._looking = self._closed = False
        self._looked = 0.0
        workspace.changed.connect(self._follow)
        session.told.connect(self._on_event)

    # ------------------------------------------------------------ which project, which image

    @timed
    def _follow(self) -> None:
        project = self.workspace.project
        if project is not self._project:
            self._change_project(project)
        opened = self.workspace.opened
        if opened is not self._opened and (opened is None or self.session.images):
            self._opened = opened
            if opened is not None:
                self.session.look_at(self.shot())
                self.show_stored()

    def _change_project(self, project: Project | None) -> None:
        before, self._project = self._project, project
        session = self.session
        self._queue, self.rounds, self.runs, self.rows = [], [], [], []
        session.host = None if project is None else self
        self._watcher = None if project is None else Watcher(project.path)
        if project is None:
            self.changed.emit()
            return
        session.runs = project.path / "runs"
        run = session.last_run
        moved = before is not None and run is not None and run.parent == before.path / "runs"
        same = before is not None and before.spec.id == project.spec.id
        if moved and same and run is not None:
            session.last_run = project.path / "runs" / run.name
        elif session.phase == "idle":
            usable = [each for each in all_runs(project.path) if each.has_model]
            session.last_run = usable[-1].path if usable else None
        self.look()

    # ------------------------------------------------------------ what the session asks

    def problem(self) -> str:
        """See `napari_ctxseg.gui.jobs.Host`."""
        opened, last = self.workspace.opened, self.session.last_run
        if last is not None and not self.session.from_scratch and last.name in self._gone:
            return (
                f"The model of {last.name} is gone: take another run with Use this model in the tab Project, or tick "
                "Start from scratch."
            )
        if opened is None or opened.labels is not self.session.labels:
            return "These labels are not the project's: open one of its images, or add this one."
        if opened.autosave is not None and opened.autosave.state == "failed":
            return f"The labels are not saved: {opened.autosave.reason}"
        project = self._project
        ours = project is not None and opened.name in project.names
        if self.rows and ours and project is not None and project.role(opened.name) != "train":
            return "" if self.labelled_elsewhere() else self.advice()
        return ""

    def advice(self) -> str:
        """See `napari_ctxseg.gui.jobs.Host`."""
        return split_problem(self.rows)

    def labelled_elsewhere(self) -> bool:
        """See `napari_ctxseg.gui.jobs.Host`."""
        opened = self.workspace.opened
        here = opened.name if opened is not None else ""
        return any(row.labelled and row.role == "train" for row in self.rows if row.name != here)

    def patients(self) -> tuple[int, int]:
        """See `napari_ctxseg.gui.jobs.Host`."""
        opened, project = self.workspace.opened, self._project
        if project is None:
            return 1, 1
        here = opened.name if opened is not None else ""
        useful = {row.name for row in self.rows if row.labelled} | {here}
        roles = project.spec.split.groups
        labelled = {entry.group for entry in project.spec.images if entry.name in useful}
        found = [roles.get(group, "train") for group in labelled]
        training = found.count("train")
        return max(1, training + found.count("validation")), max(1, training)

    def next_run(self, slug: str) -> Path:
        """See `napari_ctxseg.gui.jobs.Host`."""
        assert self._project is not None
        return next_run(self._project.path, slug)

    def begin(
        self, config: RunConfig, shot: lay.Snapshot, labels: NDArray[Any], marks: Marks, out: Path
    ) -> Callable[[], tuple[RunConfig, list[Case]]]:
        """See `napari_ctxseg.gui.jobs.Host`."""
        project, opened = self._project, self.workspace.opened
        assert project is not None
        parent = self.session.last_run if config.init else None
        name = parent.name if parent is not None and parent.parent == out.parent else ""
        begun = self._training = _Training(project, out, name, self.workspace.effort.minutes)
        self._queue = []
        self._own.add(out.name)
        ready = threading.Event()

        def note() -> None:
            try:
                begun.begun = begin_round(project, begun.round_id)
            except CtxsegError as error:
                begun.error = error
            finally:
                ready.set()

        if opened is not None and opened.autosave is not None:
            opened.autosave.ask(note)
        else:
            note()

        def gather() -> tuple[RunConfig, list[Case]]:
            if not ready.wait(PATIENCE):
                raise InputError("labels", "are not on disk yet", "See the line at the bottom")
            if begun.error is not None:
                raise begun.error
            cases = _cases(project, open_case(shot, labels, marks, config))
            begun.lock = lock_run(out)
            if self._closed:  # the window has gone meanwhile, and nobody would give it back
                begun.lock.release()
                raise InputError("training", "has been given up")
            data = project.spec.data_config(project.groups("validation"))
            return config.updated(data=data.model_copy(update={"planes": config.data.planes})), cases

        return gather

    # ------------------------------------------------------------ what the session says

    @timed
    def _on_event(self, event: Event) -> None:
        match event:
            case RunFinished():
                if self._training is not None:
                    self._training.finished = True
            case PredictionBlock():
                self._take(event)
            case PredictionFinished():
                self._went_on = not self.session.stopping
                self._keep(event.case)
            case JobFailed():  # one broken image does not hold up the others
                self._went_on = True
            case JobDone():
                self._drop()
                if self._training is not None:
                    self._end_training()
                elif self._queue or not self._went_on:
                    self._predict_next()
                elif self.verdict and self.session.phase == "idle":
                    self.session.status = f"{self.verdict} All labelled images are predicted."

    def _end_training(self) -> None:
        """Write the round down, then predict every labelled image anew, the open one first."""
        training, self._training = self._training, None
        assert training is not None
        if training.lock is not None:
            training.lock.release()
        if not training.finished or training.begun is None:
            return
        self.workspace.effort.take(training.minutes)
        self.verdict = ""
        found: list[Round] = []
        previous = self.rounds[-1] if self.rounds else None

        def work() -> None:
            assert training.begun is not None
            found.append(
                finish_round(
                    training.project.path, training.out.name, training.round_id, training.begun,
                    parent=training.parent, minutes=training.minutes,
                )
            )  # fmt: skip

        def done() -> None:
            self.look()
            self.verdict = helped(previous, found[0])
            if self.session.phase != "training":
                self.session.remark = self.verdict
                self.session.changed.emit()

        self._background(work, done, self._told)
        if self._project is training.project:
            here = self.workspace.opened.name if self.workspace.opened is not None else ""
            labelled = {row.name for row in self.rows if row.labelled} | {here}
            self._queue = sorted(labelled & set(training.project.names), key=lambda name: name != here)
            self._went_on = True
            self._predict_next()

    def shut_down(self) -> None:
        """Let others go on with the run that is under way; its engine saves its state and ends."""
        self._closed = True
        training, self._training = self._training, None
        if training is not None and training.lock is not None:
            training.lock.release()

    # ------------------------------------------------------------ rounds

    def use(self, run: str) -> None:
        """Take a run's model, to predict with and to train on from, and show what it predicted.

        Raises
        ------
        InputError
            If it holds no model, or the engine is at work.
        """
        assert self._project is not None
        self.session.use_run(self._project.path / "runs" / run)
        self.show_stored()

    # ------------------------------------------------------------ all the time

    @timed
    def tick(self, now: float | None = None) -> None:
        """Look at the folder now and then. For a timer."""
        now = time.monotonic() if now is None else now
        if self._training is not None and self.session.phase == "idle":  # it could not begin
            self._end_training()
        if self._project is not None and not self._looking and now - self._looked > LOOK:
            self._look(now)

    def _go_on_with(self, before: Sequence[RunEntry]) -> None:
        """Train and predict with the last model, also if it was trained elsewhere; a model that was chosen stays."""
        there = {run.name for run in self.runs if run.has_model}
        self._gone, self._models = (self._gone | self._models) - there, self._models | there
        session, newest, newest_before = self.session, last_model(self.runs), last_model(before)
        if session.phase != "idle" or newest is None or newest.name in self._own:
            return
        if newest_before is not None and newest.name <= newest_before.name:
            return
        if session.last_run in (None, newest_before):
            session.last_run = newest

    def look(self) -> None:
        """Look at the folder now."""
        self._look(time.monotonic())

    def _look(self, now: float) -> None:
        """Read rounds, runs, labelled slices, and what a training elsewhere has written."""
        project, watcher = self._project, self._watcher
        if project is None or watcher is None:
            return
        if self._looking:
            self._looked = 0.0  # again, as soon as this look is over
            return
        self._looked, self._looking = now, True
        seen: list[Any] = []

        def work() -> None:
            rounds, notes = load_rounds(project.path)
            events = watcher.poll(frozenset(self._own))
            seen.extend([rounds, notes, all_runs(project.path), self._summary.rows(project), events])

        def done() -> None:
            self._looking = False
            if self._project is not project:
                return
            before = self.rounds, self.notes, self.runs, self.rows
            self.rounds, self.notes, self.runs, self.rows, events = seen
            self._go_on_with(before[2])
            if events and self.session.phase == "idle":
                show_elsewhere(self.session, watcher.run, events)
            if (self.rounds, self.notes, self.runs, self.rows) != before:
                self.changed.emit()
                self.session.changed.emit()

        def failed(error: Exception) -> None:
            self._looking = False  # a drive that is away; the labels' own line says it

        self._background(work, done, failed)


def _cases(project: Project, here: Case) -> list[Case]:
    """Everything labelled that is for training or validation; the image on screen as it was at the click."""
    found = []
    for entry in project.spec.images:
        if project.role(entry.name) == "test":
            continue
        if entry.name == here.name:
            assert here.labels is not None
            if here.labelled or here.labels.any():
                found.append(replace(here, group=entry.group))
            continue
        labels, labelled = annotation(project, entry.name)
        if labels is not None:
            image = project.image(entry.name)
            found.append(Case(entry.name, image, labels, entry.group, labelled))
    if not any(project.role(case.name) == "train" for case in found):
        raise InputError(
            "project", "has no labelled image to train on", "Paint in one whose role in the table is train"
        )
    return found
