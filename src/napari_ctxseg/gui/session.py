"""State of the work in one viewer: what is chosen, what runs, what came of it. No Qt: the dock only shows it.

Layers are held as objects, never by name, and a running job works on a snapshot: layers may be renamed, edited
or deleted meanwhile.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from psygnal import Signal

from napari_ctxseg.cases import Case, class_indices
from napari_ctxseg.config import BudgetConfig, RunConfig, UNetConfig
from napari_ctxseg.errors import CtxsegError, InputError
from napari_ctxseg.events import (
    BudgetSet,
    CheckpointSaved,
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
from napari_ctxseg.gui.annotation import Census, Marks, unexplained_slices
from napari_ctxseg.gui.history import History

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_ctxseg.config import DataConfig
    from napari_ctxseg.engine.client import EngineClient

Phase = Literal["idle", "preparing", "training", "predicting"]
Policy = Literal["masks", "scribbles"]
#: Runs a function off the GUI thread, then one of two callbacks on it.
Background = "Callable[[Callable[[], None], Callable[[], None], Callable[[Exception], None]], None]"


@dataclass(frozen=True)
class ClassRow:
    """A class as the person knows it: name, painted value, colour (None: as the labels layer shows it)."""

    name: str
    value: int
    color: str | None = None


def run_now(work: Callable[[], None], done: Callable[[], None], failed: Callable[[Exception], None]) -> None:
    """Stand-in for a background runner where there is no event loop."""
    try:
        work()
    except CtxsegError as error:
        failed(error)
    else:
        done()


@dataclass
class _Job:
    """What a job needs to put its results in place."""

    shot: lay.Snapshot
    out: Path | None = None
    started: float = field(default_factory=time.monotonic)
    saved: Path | None = None
    stop: bool = False
    sent_slice: int | None = None


class Session:
    """Choices, checks, jobs and results.

    Parameters
    ----------
    viewer : napari.viewer.Viewer or napari.components.ViewerModel
        Where the layers are.
    engine : EngineClient
        Started by the caller.
    runs : Path
        Folder of this viewer's runs.
    background : callable
        Runs slow work off the GUI thread.
    """

    changed = Signal()
    curve_changed = Signal()
    failed = Signal(str)

    def __init__(
        self, viewer: Any, engine: EngineClient, runs: Path, background: Callable[..., None] = run_now
    ) -> None:
        self.viewer, self.engine, self.runs = viewer, engine, runs
        self._background = background
        self.images: list[Any] = []
        self.labels: Any = None
        self.policy: Policy = "masks"
        self.background_value = 2
        self.classes: list[ClassRow] = [ClassRow("class 1", 1)]
        self.config = RunConfig(network=UNetConfig(), budget=BudgetConfig(minutes=5))
        self.form_problem = ""
        self.from_scratch = False
        self.phase: Phase = "idle"
        self.status = ""
        self.fraction: float | None = None
        self.last_run: Path | None = None
        self.history = History()
        self.marks = Marks()
        self.census: Census | None = None
        self._job: _Job | None = None
        self._predictions: dict[
            int, tuple[Any, Any]
        ] = {}  # id of the image layer -> (image layer, its prediction)
        self._steps = 0

    # ------------------------------------------------------------ choices

    def choose(self, images: Sequence[Any], labels: Any) -> None:
        """Use these image layers as channels and this labels layer as annotation."""
        self.images = [lay.plain(layer) for layer in images]
        labels = lay.plain(labels) if labels is not None else None
        if labels is not self.labels:
            self._watch(labels)
        self.changed.emit()

    def _watch(self, labels: Any) -> None:
        if self.labels is not None:
            self.labels.events.paint.disconnect(self._on_paint)
            self.labels.events.data.disconnect(self._on_data)
        self.labels, self.marks, self.census = labels, Marks(), None
        if labels is not None:
            labels.events.paint.connect(self._on_paint)
            labels.events.data.connect(self._on_data)
            self._on_data()

    def _on_data(self, event: Any = None) -> None:
        """The layer got another array: count anew. Marks of slices stay."""
        self.census = None if self.labels.multiscale else Census(self.labels.data)

    def _on_paint(self, event: Any) -> None:
        if self.census is not None:
            self.census.touch(event.value)
        ndim = self.labels.ndim
        if ndim < 3:
            return
        dims = self.viewer.dims
        hidden = [axis - (dims.ndim - ndim) for axis in dims.not_displayed]
        axes = [axis for axis in hidden if axis >= 0]
        self.marks.stroke(event.value, axes[0] if axes else 0)

    def forget_missing_layers(self) -> None:
        """Drop choices that were deleted from the viewer."""
        present = list(map(lay.plain, self.viewer.layers))
        images = [layer for layer in self.images if layer in present]
        labels = self.labels if self.labels in present else None
        if images != self.images or labels is not self.labels:
            self.choose(images, labels)

    def new_labels(self) -> Any:
        """Add an empty labels layer on the chosen image's grid and choose it."""
        shot = lay.snapshot(self.images)
        values = [row.value for row in self.classes] + [self.background_value]
        layer = lay.add_labels(self.viewer, shot, f"{shot.name} labels", lay.dtype_for(values))
        layer.selected_label = self.classes[0].value if self.classes else 1
        self.viewer.layers.selection.active = layer
        self.choose(self.images, layer)
        self.recolor()
        return layer

    def set_classes(self, rows: Sequence[ClassRow]) -> None:
        """Take over an edited class table and show its colours."""
        self.classes = list(rows)
        self.recolor()
        self.changed.emit()

    def colors(self) -> dict[int, Any]:
        """Colour of every class value, and of the painted background."""
        found: dict[int, Any] = {}
        for index, row in enumerate(self.classes):
            found[row.value] = row.color or lay.PALETTE[index % len(lay.PALETTE)]
        if self.policy == "scribbles":
            found.setdefault(self.background_value, "#4d4d4d")
        return found

    def recolor(self) -> None:
        """Give the chosen labels and our predictions the class colours."""
        colors = self.colors()
        targets = [layer for _, layer in self._predictions.values()]
        for layer in [*targets, *([self.labels] if self.labels is not None else [])]:
            layer.colormap = lay.class_colormap(colors)

    def adopt_painted_classes(self) -> bool:
        """Add painted values that the table does not have; True if there were any."""
        if self.census is None or not self.census.complete:
            return False
        known = {row.value for row in self.classes}
        if self.policy == "scribbles":
            known.add(self.background_value)
        fresh = sorted(self.census.values - known)
        if not fresh or len(fresh) > 20:  # more than that are instance ids; training says so
            return False
        unused = len(self.classes) == 1 and self.classes[0] == ClassRow("class 1", 1)
        keep = [] if unused and 1 not in self.census.values else self.classes
        self.set_classes([*keep, *(ClassRow(f"class {value}", value) for value in fresh)])
        return True

    # ------------------------------------------------------------ checks

    def train_problem(self) -> str:
        """Why training cannot start now, in words for the person; empty if it can."""
        return (
            self._busy_problem()
            or lay.image_problem(self.images)
            or self._labels_problem()
            or self._model_problem()
        )

    def predict_problem(self) -> str:
        """Why prediction cannot start now; empty if it can."""
        problem = self._busy_problem() or lay.image_problem(self.images)
        if not problem and self.last_run is None:
            problem = "Train first: there is no model yet."
        return problem

    def _busy_problem(self) -> str:
        if self.phase != "idle":
            return f"The engine is {self.phase}."
        if self.engine.state == "starting":
            return "The engine is starting ..."
        if self.engine.state != "ready":
            return "The engine is not running; close this dock and open it again."
        return ""

    def _labels_problem(self) -> str:
        if problem := lay.labels_problem(self.images, self.labels):
            return problem
        if not self.classes:
            return "Add a class."
        values = [row.value for row in self.classes]
        if len(set(values)) < len(values):
            return f"Two classes have the same value ({max(values, key=values.count)})."
        scribbles = self.policy == "scribbles"
        if scribbles and self.background_value in values:
            return f"The background value {self.background_value} is also a class: choose another."
        census = self.census
        if census is None:
            return ""
        found = census.values
        if not found:
            return (
                f"Paint in '{self.labels.name}' first."
                if census.complete
                else f"Looking at '{self.labels.name}' ..."
            )
        if scribbles and len(found & {*values, self.background_value}) < 2:
            return f"Paint at least two kinds: a class, and background (value {self.background_value})."
        return ""

    def _model_problem(self) -> str:
        if self.form_problem:
            return self.form_problem
        if self.config.network.dims == 3 and len(lay.spatial_shape(self.images[0])) == 2:
            return "A 3-D model needs a volume: choose 2-D."
        return ""

    # ------------------------------------------------------------ jobs

    def run_config(self) -> RunConfig:
        """The configuration of the next run, as `ctxseg train` takes it too."""
        scribbles = self.policy == "scribbles"
        data = {
            "images": [layer.name for layer in self.images],
            "labels": [self.labels.name],
            "classes": {row.name: row.value for row in self.classes},
            "annotation": self.policy,
            "background": self.background_value if scribbles else None,
        }
        init = None if self.from_scratch or self.last_run is None else str(self.last_run)
        return self.config.updated(data=data, init=init)

    def train(self) -> None:
        """Begin training on a copy of the labels as they are now.

        Raises
        ------
        InputError
            With the reason, if it cannot start.
        """
        if problem := self.train_problem():
            raise InputError("training", problem)
        shot = lay.snapshot(self.images)
        config, labels = (
            self.run_config(),
            np.array(self.labels.data),
        )  # the person goes on painting in the original
        planes = {axis: set(indices) for axis, indices in self.marks.planes.items()}
        marks, self._job = self.marks, _Job(shot, self._next_run())
        out = self._job.out
        assert out is not None

        def work() -> None:
            labelled = None
            if labels.ndim == 3 and config.data.annotation == "masks":
                labelled = marks.counted(unexplained_slices(labels, planes))
            case = Case(shot.name, shot.image(), labels, shot.name, labelled)
            check_labels(case, config.data)
            self.engine.train(config, [case], out)

        self.history.begin_run(fresh=config.init is None)
        self._steps = 0
        self._enter("preparing", "Preparing the data ...")
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
        run = self.last_run
        assert run is not None
        shot, device = lay.snapshot(self.images), self.config.device
        self._job = _Job(shot)

        def work() -> None:
            self.engine.predict(run, Case(shot.name, shot.image()), device)

        self._enter("preparing", "Preparing the data ...")
        self._background(work, lambda: self._sent("predicting"), self._not_sent)

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

    @property
    def stopping(self) -> bool:
        """Whether the person has asked the running job to stop."""
        return self._job is not None and self._job.stop

    def _next_run(self) -> Path:
        numbers = [int(p.name[:4]) for p in self.runs.glob("[0-9][0-9][0-9][0-9]-*")]
        return self.runs / f"{max(numbers, default=0) + 1:04d}-{self.config.loss.kind}"

    def _enter(self, phase: Phase, status: str) -> None:
        self.phase, self.status, self.fraction = phase, status, None
        self.changed.emit()

    def _sent(self, phase: Phase) -> None:
        if self.phase != "preparing":  # the dock was closed, or the engine died meanwhile
            return
        self._enter(phase, "Training starts ..." if phase == "training" else "Predicting ...")
        if self.stopping:
            self.engine.stop()

    def _not_sent(self, error: Exception) -> None:
        text = str(error) if isinstance(error, CtxsegError) else f"{type(error).__name__}: {error}"
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
        if self.census is not None and self.census.work() and not self.adopt_painted_classes():
            self.changed.emit()

    def _tell_slice(self) -> None:
        job = self._job
        if job is None:
            return
        index, _ = lay.shown_slice(self.viewer, job.shot)
        if index != job.sent_slice:
            job.sent_slice = index
            self.engine.set_visible(job.shot.name, index)

    def handle(self, event: Event) -> None:
        """Take over one event of the running job."""
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
                self._show(event.index, event.labels)
            case PredictionBlock():
                self._show(event.start, event.labels)
                self._progress(event.done)
            case PredictionProgress():
                self._progress(event.done)
            case PredictionFinished():
                self.status = f"Predicted '{event.case}' in {event.seconds:.1f} s."
            case RunFinished():
                self._on_run_finished(event)
            case JobFailed():
                self._on_failed(event)
            case Note():
                self.status = event.text
            case JobDone():
                self._on_done()
        if not isinstance(event, StepEnd):
            self.changed.emit()

    def _on_step(self, event: StepEnd) -> None:
        self._steps = event.steps or self._steps
        if event.loss is not None:
            self.history.add_loss(event.step, event.loss)
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

    def _adopt_saved(self) -> None:
        """A run that ended badly but left a checkpoint is still a model to go on from."""
        if self._job is not None and self._job.saved is not None:
            self.last_run = self._job.saved

    def _show(self, start: int, labels: NDArray[Any]) -> None:
        job = self._job
        if job is None:
            return
        layer = self.prediction_layer(job.shot)
        shown, alone = lay.shown_slice(self.viewer, job.shot)
        lay.write_slices(layer, start, labels, shown if alone else None)

    def prediction_layer(self, shot: lay.Snapshot) -> Any:
        """The layer of our own that holds an image's prediction; made at first need, or again if deleted."""
        image, layer = self._predictions.get(id(shot.layer), (None, None))
        dtype = lay.dtype_for([row.value for row in self.classes])
        present = list(map(lay.plain, self.viewer.layers))
        if (
            image is shot.layer
            and layer in present
            and layer.data.shape == shot.shape
            and layer.data.dtype == dtype
        ):
            return layer
        layer = lay.add_labels(
            self.viewer,
            shot,
            f"{shot.name} prediction",
            dtype,
            opacity=0.5,
            colormap=lay.class_colormap(self.colors()),
            meta={"prediction_of": shot.name},
        )
        self._predictions[id(shot.layer)] = (shot.layer, layer)
        return layer

    def prepare(self) -> None:
        """Make the prediction layer ahead of the first preview, at the moment the person presses a button."""
        if self._job is not None:
            self.prediction_layer(self._job.shot)

    def close(self) -> None:
        """Let go of layers and engine. A running training saves a checkpoint and ends by itself."""
        self._watch(None)
        self.phase, self._job = "idle", None
        self.engine.close()


def check_labels(case: Case, data: DataConfig) -> None:
    """Refuse labels that cannot teach anything, before anything is written.

    Raises
    ------
    InputError
        If nothing, or only one kind of pixel, is labelled.
    """
    indices = class_indices(case, data.classes, data)
    found = np.flatnonzero(np.bincount((indices + 1).ravel().astype(np.intp), minlength=1))
    kinds = set(map(int, found)) - {0}
    if not kinds - {1}:
        raise InputError(
            case.name, "no pixel of a class is painted", "Paint one, or check the values in the class table"
        )
    if len(kinds) < 2:
        name = list(data.classes)[min(kinds) - 2]
        raise InputError(
            case.name,
            f"every labelled pixel is '{name}'",
            "Paint background too"
            if data.annotation == "scribbles"
            else "Leave background unpainted in some slice",
        )


def with_budget(config: RunConfig, amount: float, kind: str) -> RunConfig:
    """A configuration with another budget, in ``"minutes"`` or ``"steps"``."""
    value: float = int(amount) if kind == "steps" else amount
    return config.updated(budget={kind: value})


def renamed(rows: Sequence[ClassRow], index: int, **changes: Any) -> list[ClassRow]:
    """A class table with one row changed."""
    return [replace(row, **changes) if i == index else row for i, row in enumerate(rows)]
