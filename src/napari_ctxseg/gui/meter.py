"""How unbalanced the painted labels are, and which losses that speaks for, while one paints."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal
from qtpy.QtCore import Signal as QtSignal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QGroupBox, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_ctxseg.cases import Case, class_indices
from napari_ctxseg.evaluation.imbalance import Imbalance, Sample, measure
from napari_ctxseg.evaluation.suggest import Suggestion, suggest
from napari_ctxseg.gui import layers as lay
from napari_ctxseg.gui.annotation import Marks, unexplained_slices
from napari_ctxseg.gui.timing import timed
from napari_ctxseg.image import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_ctxseg.config import DataConfig
    from napari_ctxseg.gui.session import Session

#: Seconds without a stroke before the labels are looked at.
PAUSE = 0.5
TOOLTIP = "Of the labelled pixels, as a loss sees them. Follows your painting."


def labelled_sample(labels: Any, marks: Marks, data: DataConfig, shot: lay.Snapshot, dims: int) -> Sample:
    """The labelled part of a layer, copied slice by slice. Slow for large layers: call it off the GUI thread.

    Parameters
    ----------
    labels : array
        The layer's own. A stroke that falls into the copying is looked at the next time.
    marks : Marks
        A copy of the session's.
    data : DataConfig
        Classes and annotation policy.
    shot : Snapshot
        Of the image that the labels belong to.
    dims : int
        Of the network: 2 needs the labelled slices only, 3 all between them too.
    """
    planes = labels if len(labels.shape) == 3 else [labels]
    count = len(planes)
    counted: dict[int, Sequence[int]] | None = None
    if data.annotation == "masks" and len(labels.shape) == 3:
        counted = dict(marks.counted(unexplained_slices(labels, marks.planes)))
        chosen = range(count) if set(counted) - {0} else counted.get(0, ())
    else:
        chosen = [index for index in range(count) if np.asarray(planes[index]).any()]
    if dims == 3 and len(chosen):
        chosen = range(min(chosen), max(chosen) + 1)
    if len(labels.shape) == 2:
        piece = np.array(labels)
    else:
        piece = np.zeros((len(chosen), *labels.shape[1:]), labels.dtype)
        for place, index in enumerate(chosen):
            piece[place] = planes[index]
    if counted is not None:
        counted[0] = [place for place, index in enumerate(chosen) if index in set(counted.get(0, ()))]
    image = Image(piece, shot.axes, shot.spacing, shot.affine, unit=shot.unit)
    case = Case(shot.name, image, piece, labelled=counted)
    return Sample(class_indices(case, data.classes, data), shot.spacing, shot.unit, count)


def unbroken(text: str) -> str:
    """Text in which no line begins with the unit of a number at the end of the line before."""
    return text.replace(" %", "\u00a0%").replace(" px", "\u00a0px")


class Meter:
    """Looks at a session's labels whenever they have changed and then rested. No Qt.

    Parameters
    ----------
    session : Session
        Whose labels.
    background : callable
        Runs a function off the GUI thread, then one of two callbacks on it.
    """

    changed = Signal()

    def __init__(self, session: Session, background: Callable[..., None]) -> None:
        self.session, self._background = session, background
        self.text = ""
        self.found: Imbalance | None = None
        self.suggestions: list[Suggestion] = []
        self._seen: Any = None
        self._done: Any = None
        self._since = 0.0
        self._running = False

    @timed
    def tick(self, now: float | None = None) -> None:
        """Start looking if there is something new that has rested. For a timer."""
        now = time.monotonic() if now is None else now
        if problem := self.session.layers_problem():
            self._done = None
            if problem != self.text:
                self._show(problem, None)
            return
        state = self._state()
        if state != self._seen:
            self._seen, self._since = state, now
        if not self._running and state != self._done and now - self._since >= PAUSE:
            self._start(state)

    def _state(self) -> Any:
        """What the numbers depend on. The images give the spacing."""
        session, marks = self.session, self.session.marks
        planes = tuple(sorted((axis, len(indices)) for axis, indices in marks.planes.items()))
        rows = tuple((row.name, row.value) for row in session.classes)
        # Undo and redo send no event of their own: only the lengths of their lists tell.
        past = tuple(len(getattr(session.labels, name, ())) for name in ("_undo_history", "_redo_history"))
        images = tuple(
            (id(each), tuple(map(float, each.scale)), lay.unit_of(each)) for each in session.images
        )
        chosen = (id(session.labels), session.policy, session.background_value, session.config.network.dims)
        return (*chosen, session.edits, past, rows, planes, len(marks.cleared), images)

    def _start(self, state: Any) -> None:
        session = self.session
        labels, marks, data = session.labels.data, session.marks.copy(), session.run_config().data
        shot, dims = lay.snapshot(session.images), session.config.network.dims
        results: list[Imbalance] = []

        def work() -> None:
            sample = labelled_sample(labels, marks, data, shot, dims)
            results.append(measure([sample], list(data.classes), dims))

        self._running = True
        self._background(work, lambda: self._finished(state, results[0]), lambda e: self._failed(state, e))

    @timed
    def _finished(self, state: Any, found: Imbalance) -> None:
        self._running = False
        if not self.session.closed and not self.session.layers_problem():
            self._done = state  # only what was shown: else the text of the problem stays
            self._show(found.sentence(), found)

    @timed
    def _failed(self, state: Any, error: Exception) -> None:
        self._running, self._done = False, state
        self._show(f"The labels cannot be measured: {error}", None)

    def _show(self, text: str, found: Imbalance | None) -> None:
        self.text, self.found = text, found
        self.suggestions = suggest(found) if found is not None else []
        self.changed.emit()


class MeterPanel(QGroupBox):
    """The numbers, and a row for each suggestion with a button that takes it.

    `chosen` is emitted with the loss of the suggestion that was taken.
    """

    chosen = QtSignal(object)

    def __init__(self, meter: Meter, parent: QWidget | None = None) -> None:
        super().__init__("Imbalance", parent)
        self.meter = meter
        self.buttons: list[QPushButton] = []
        self.reasons: list[QLabel] = []
        self.numbers = QLabel()
        self.numbers.setWordWrap(True)
        self._rows: list[QWidget] = []
        self._column = QVBoxLayout(self)
        self._column.addWidget(self.numbers)
        meter.changed.connect(self._show)
        self._show()

    def refresh(self) -> None:
        """Mark the suggestion that the session's loss is."""
        for button, one in zip(self.buttons, self.meter.suggestions, strict=True):
            used = self.meter.session.config.loss == one.loss
            button.setEnabled(not used)
            button.setText("In use" if used else "Use this")

    @timed
    def _show(self) -> None:
        self.numbers.setText(unbroken(self.meter.text))
        details = "" if self.meter.found is None else self.meter.found.details()
        self.numbers.setToolTip("\n\n".join(filter(None, (TOOLTIP, details))))
        for row in self._rows:
            self._column.removeWidget(row)
            row.hide()
            row.deleteLater()
        self._rows, self.buttons, self.reasons = [], [], []
        for one in self.meter.suggestions:
            self._add(one)
        self.refresh()

    def _add(self, one: Suggestion) -> None:
        row, title, reason, button = (
            QWidget(self),
            QLabel(one.title),
            QLabel(unbroken(one.reason)),
            QPushButton(),
        )
        font = title.font()
        font.setBold(True)
        title.setFont(font)
        title.setWordWrap(True)
        reason.setWordWrap(True)
        button.setToolTip(
            "Put this loss and its settings into the form below. A suggestion from rules: only a comparison tells "
            "what is best for your data."
        )
        button.clicked.connect(lambda: self.chosen.emit(one.loss))
        head = QHBoxLayout()
        head.addWidget(title, 1)
        head.addWidget(button)
        column = QVBoxLayout(row)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addLayout(head)
        column.addWidget(reason)
        self._column.addWidget(row)
        self._rows.append(row)
        self.buttons.append(button)
        self.reasons.append(reason)
