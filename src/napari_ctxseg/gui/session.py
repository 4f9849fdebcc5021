"""The work in one viewer: what runs, and what comes of it. No Qt: the dock only shows it.

A running job works on a snapshot, so that layers may be renamed, edited or deleted meanwhile.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_ctxseg.cases import Case
from napari_ctxseg.config.combinations import stages
from napari_ctxseg.errors import CtxsegError, InputError
from napari_ctxseg.events import (
    BudgetSet,
    CheckpointSaved,
    Described,
    EpochEnd,
    Event,
    JobDone,
    JobFailed,
    Note,
    PredictionBlock,
    PredictionFinished,
    PredictionProgress,
    Preview,
    RunFinished,
    RunStarted,
    StepEnd,
)
from napari_ctxseg.gui import layers as lay
from napari_ctxseg.gui.choices import check_labels, open_case
from napari_ctxseg.gui.history import History
from napari_ctxseg.gui.jobs import Host, Job, Phase, run_now
from napari_ctxseg.gui.predictions import Predictions
from napari_ctxseg.gui.timing import timed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_ctxseg.config.combinations import Facts
    from napari_ctxseg.engine.client import EngineClient


class Session(Predictions):
    """Choices, jobs and results.

    Parameters
    ----------
    viewer : napari.viewer.Viewer or napari.components.ViewerModel
        Where the layers are.
    engine : EngineClient
        Started by the caller.
    runs : Path
        Folder of this viewer's runs.
    background : callable
        Runs a function off the GUI thread, then one of two callbacks on it.
    """

    curve_changed = Signal()
    failed = Signal(str)
    described = Signal(Described)
    #: Every event of a job, after the session has taken it over.
    told = Signal(object)

    def __init__(
        self, viewer: Any, engine: EngineClient, runs: Path, background: Callable[..., None] = run_now
    ) -> None:
        super().__init__(viewer)
        self.engine, self.runs, self._background = engine, runs, background
        self.from_scratch = False
        self.phase: Phase = "idle"
        self.status = self.remark = ""
        self.fraction: float | None = None
        self.last_run: Path | None = None
        self.closed = False
        self.history = History()
        self.host: Host | None = None
        self._job: Job | None = None
        self._then: Callable[[], None] | None = None
        self._steps = self._number = 0

    def facts(self) -> Facts | None:
        """What is known of the data; of a project all labelled patients count."""
        found, host = super().facts(), self.host
        patients, training = (1, None) if host is None else host.patients()
        return None if found is None else replace(found, patients=patients, training=training)

    def train_problem(self) -> str:
        """Why training cannot start now, in words for the person; empty if it can."""
        return (
            self._busy_problem()
            or lay.image_problem(self.images)
            or self._settings_problem()
            or (self.host.problem() if self.host is not None else "")
            or ("" if self.host is not None and self.host.labelled_elsewhere() else self._paint_problem())
            or self._model_problem()
        )

    def predict_problem(self) -> str:
        """Why prediction cannot start now; empty if it can."""
        problem = self._busy_problem() or lay.image_problem(self.images)
        if not problem and self.last_run is None:
            problem = "Train first: there is no model yet."
        return problem

    def _busy_problem(self) -> str:
        if self.phase != "idle" and not (self._job is not None and self._job.gives_way):
            return f"The engine is {self.phase}."
        if self.engine.state == "starting":
            return "The engine is starting ..."
        if self.engine.state != "ready" and self.phase == "idle":
            return "The engine is not running; close this dock and open it again."
        return ""

    # ------------------------------------------------------------ jobs

    def train(self) -> None:
        """Begin training on a copy of the labels as they are now.

        Raises
        ------
        InputError
            With the reason, if it cannot start.
        """
        if problem := self.train_problem():
            raise InputError("training", problem)
        if self.phase != "idle":
            self._after_this(self.train)
            return
        shot = lay.snapshot(self.images)
        init = None if self.from_scratch or self.last_run is None else str(self.last_run)
        config = self.run_config(init)
        # Copies: the person goes on painting, and this run learns from what is there now.
        labels, marks, host = np.array(self.labels.data), self.marks.copy(), self.host
        out = self._next_run()
        shot = host.named(shot) if host is not None else shot
        gather = host.begin(config, shot, labels, marks, out) if host is not None else None
        self._job = Job(shot, out)

        def work() -> None:
            chosen, cases = gather() if gather else (config, [open_case(shot, labels, marks, config)])
            check_labels(cases, chosen.data)
            self.engine.train(chosen, cases, out)

        self.history.begin_run(fresh=config.init is None)
        self._steps = 0
        self._enter("preparing", f"Preparing the data ... {stages(config.method)}".rstrip())
        self._background(work, lambda: self._sent("training"), self._not_sent)

    def predict(self) -> None:
        """Begin predicting the chosen image with the last run's model.

        Raises
        ------
        InputError
            With the reason, if it cannot start.
        """
        if problem := self.predict_problem():
            raise InputError("prediction", problem)
        if self.phase != "idle":
            self._after_this(self.predict)
            return
        shot = lay.snapshot(self.images)
        shot = self.host.named(shot) if self.host is not None else shot
        self._predict(Job(shot), lambda: Case(shot.name, shot.image()))

    def predict_case(self, load: Callable[[], Case], shot: lay.Snapshot | None, first: int) -> None:
        """Begin predicting an image with the last run's model, until the person wants the engine for something else.

        Parameters
        ----------
        load : callable
            Reads the image, off the GUI thread.
        shot : Snapshot or None
            Where to show it; None if it is not open.
        first : int
            The slice to begin with.
        """
        self._predict(Job(shot, gives_way=True), load, first=first)

    def _predict(self, job: Job, load: Callable[[], Case], first: int = 0) -> None:
        run, device = self.last_run, self.config.device
        assert run is not None
        self._job, options = job, self.options

        def work() -> None:
            job.values = self.values_of(run)
            self.engine.predict(run, load(), device, options=options, first=first)

        self._enter("preparing", "Preparing the data ...")
        self._background(work, lambda: self._sent("predicting"), self._not_sent)

    def _after_this(self, action: Callable[[], None]) -> None:
        """End a job that gives way, then act."""
        self._then = action
        if not self.stopping:
            self.stop()

    def look_at(self, shot: lay.Snapshot) -> None:
        """Another image of the project is in sight: show the running job's results in it, where they are of it."""
        job = self._job
        if job is not None and (job.out is not None or (job.shot is not None and job.shot.name == shot.name)):
            job.shot, job.sent_slice = shot, None
        elif job is not None:
            job.shot = None

    def stop(self) -> None:
        """Ask the job to end after its step; asked a second time, end it at once."""
        job = self._job
        if job is None or self.phase == "idle":
            return
        if job.stop and self.phase != "preparing":
            self.engine.kill()
            self.status = "Ending the engine ..."
        else:
            job.stop = True
            self.status = "Stopping after this step ... (press again to end at once)"
            self.engine.stop()
        self.changed.emit()

    def use_run(self, run: Path) -> None:
        """Take the model of an earlier run: to predict with, or to train on from.

        Raises
        ------
        InputError
            If the folder holds no model, or the engine is at work.
        """
        if self.phase != "idle":
            raise InputError("engine", f"is {self.phase}", "Wait for its end, or press Stop")
        if not (run / "model.safetensors").is_file():
            raise InputError(run, "holds no model", "Choose a folder that training has made")
        self.last_run, self.from_scratch = run, False
        self._enter("idle", f"The model of {run.name} is ready to predict with, or to train on from.")

    @property
    def stopping(self) -> bool:
        """Whether the person has asked the running job to stop."""
        return self._job is not None and self._job.stop

    def _next_run(self) -> Path:
        if self.host is not None:
            return self.host.next_run(self.config.loss.kind)
        numbers = [int(p.name[:4]) for p in self.runs.glob("[0-9][0-9][0-9][0-9]-*")]
        self._number = max(self._number, *numbers, 0) + 1
        return self.runs / f"{self._number:04d}-{self.config.loss.kind}"

    def _enter(self, phase: Phase, status: str) -> None:
        self.remark = ""
        self.phase, self.status, self.fraction = phase, status, None
        self.changed.emit()

    @timed
    def _sent(self, phase: Phase) -> None:
        if self.phase != "preparing":  # the dock was closed, or the engine died meanwhile
            return
        self._enter(phase, "Training starts ..." if phase == "training" else "Predicting ...")
        if self.stopping:
            self.engine.stop()

    @timed
    def _not_sent(self, error: Exception) -> None:
        text = str(error) if isinstance(error, CtxsegError) else f"{type(error).__name__}: {error}"
        if not self.closed:  # the window has gone, and nobody is there to be told
            self._fail(text)
        self._job = None

    def _fail(self, text: str) -> None:
        self._enter("idle", text)
        self.failed.emit(text)

    # ------------------------------------------------------------ what the engine says

    def tick(self) -> None:
        """Take the engine's messages, tell it the slice in sight, look on at the labels. For a timer."""
        before = self.engine.state, self.engine.device
        for event in self.engine.poll():
            self.handle(event)
        if (self.engine.state, self.engine.device) != before and self.phase == "idle":
            self.changed.emit()
        if self.phase == "training":
            self._tell_slice()
        self.work_on_predictions()
        if self.census is not None and self.census.work() and not self.adopt_painted_classes():
            self.changed.emit()

    def _tell_slice(self) -> None:
        job = self._job
        if job is None or job.shot is None:
            return
        index, _ = lay.shown_slice(self.viewer, job.shot)
        if index != job.sent_slice:
            job.sent_slice = index
            self.engine.set_visible(job.shot.name, index)

    def handle(self, event: Event) -> None:
        """Take over one event of the running job."""
        shot = self._job.shot if self._job is not None else None
        match event:
            case StepEnd():
                self._on_step(event)
            case RunStarted():
                self._steps = event.steps
                self.history.curve = event.curve
                self.status = f"Training on {event.device}, {event.precision}."
            case BudgetSet():
                self._steps = event.steps
            case EpochEnd():
                self.history.add_dice(event.step, event.dice, event.mean)
                self.curve_changed.emit()
            case CheckpointSaved():
                if self._job is not None:
                    self._job.saved = self._job.out
            case Preview():
                if shot is not None and event.case == shot.name and event.regions:
                    self.show_regions(shot, event.index, event.labels, event.regions)
                elif shot is not None and event.case == shot.name:
                    self.show_slices(shot, event.index, event.labels)
            case PredictionBlock():
                if self._job is not None and shot is not None:
                    self.show_block(shot, event, self._job.values)
                self._progress(event.done)
            case PredictionProgress():
                self._progress(event.done)
            case PredictionFinished():
                self.status = f"Predicted '{event.case}' in {event.seconds:.1f} s."
            case RunFinished():
                self._on_run_finished(event)
            case JobFailed():
                self._on_failed(event)
            case Described():
                self.described.emit(event)
            case Note():
                self.status = self.remark = event.text
            case JobDone():
                self._on_done()
        self.told.emit(event)
        if not isinstance(event, StepEnd):
            self.changed.emit()

    def _on_step(self, event: StepEnd) -> None:
        self._steps = event.steps or self._steps
        if event.loss is not None:
            self.history.add_loss(event.step, event.loss)
            self.history.add_parts(event.step, event.parts)
            self.curve_changed.emit()
        if self._steps:
            self.fraction = event.step / self._steps
        if not self.stopping:
            self.status = self.history.sentence(event, self._steps)
        self.changed.emit()

    def _progress(self, done: float) -> None:
        self.fraction = done
        if not self.stopping:
            self.status = f"Predicting ... {done:.0%}"

    def _on_run_finished(self, event: RunFinished) -> None:
        if self._job is not None and self._job.out is not None:
            self.last_run = self._job.out
        how = "Stopped" if event.stopped else "Finished"
        dice = f", {self.history.curve} {event.dice:.3f}" if event.dice is not None else ""
        skipped = f"; {event.skipped} steps were skipped (not finite)" if event.skipped else ""
        self.status = f"{how} after {event.step} steps{dice}{skipped}. Predict labels all slices."

    def _on_failed(self, event: JobFailed) -> None:
        text = " ".join(part for part in (event.error, event.remedy) if part)
        self._adopt_saved()
        self._fail(f"{text} Log: {event.log}" if event.log else text)

    def _on_done(self) -> None:
        self._adopt_saved()
        self._job, self.phase, self.fraction = None, "idle", None
        then, self._then = self._then, None
        if then is not None:
            try:
                then()
            except CtxsegError as error:  # what was asked for meanwhile cannot be any more
                self._fail(str(error))

    def _adopt_saved(self) -> None:
        """A run that ended badly but left a checkpoint is still a model to go on from."""
        if self._job is not None and self._job.saved is not None:
            self.last_run = self._job.saved

    def prepare(self) -> None:
        """Make the prediction layer ahead of the first preview, at the moment the person presses a button."""
        if self._job is not None and self._job.shot is not None:
            self.prediction_layer(self._job.shot)

    def close(self) -> None:
        """Let go of layers and engine. A running training saves a checkpoint and ends by itself."""
        self._watch(None)
        self.phase, self._job, self._then, self.closed = "idle", None, None, True
        self.engine.close()
