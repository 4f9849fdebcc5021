"""The dock "Review": suspicious pieces of the prediction, one key each to go there, accept, reject."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

from qtpy.QtCore import QSignalBlocker, Qt, QTimer
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QFrame,
    QGridLayout,
    QGroupBox,
    QLabel,
    QPushButton,
    QScrollArea,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_ctxseg.config import PredictConfig, Uncertainty
from napari_ctxseg.gui import layers as lay
from napari_ctxseg.gui.background import Background
from napari_ctxseg.gui.dock import Dock
from napari_ctxseg.gui.predictions import Predictions
from napari_ctxseg.gui.review import Review
from napari_ctxseg.gui.review_data import image_of
from napari_ctxseg.gui.review_keys import Keys
from napari_ctxseg.gui.review_table import RowsModel, RowsView
from napari_ctxseg.gui.timing import timed
from napari_ctxseg.gui.train_dock import WIDEST, TrainDock, train_docks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import napari

TICK_MS = 40
#: Ticks between two looks for a Train dock and for new layers.
LOOK_EVERY = 8
#: Runs that an ensemble asks beside the last one.
MEMBERS = 3

#: Name, text, tooltip.
BUTTONS = (
    ("next", "Next (N)", "Go to the next suspicious piece."),
    ("accept", "Accept (A)", "It is there: write it into the annotation. One undo step."),
    ("reject", "Reject (R)", "It is not there: do not ask again. One undo step."),
    ("slice", "Next slice (G)", "Go to the slice that is most worth labelling."),
    (
        "labelled",
        "Fully labelled (U)",
        "This slice is labelled completely; again: it is not. With scribbles the rest of it becomes background.",
    ),
    (
        "copy",
        "Copy slice",
        "Write the prediction into the annotation of this slice, where nothing is labelled.",
    ),
    ("all", "Copy all", "Write the prediction into the annotation of all slices, where nothing is labelled."),
    ("again", "Ask again", "Forget what was accepted or rejected in this image; what was written stays."),
)


class ReviewDock(Dock):
    """Goes through a prediction.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer whose layers are used. If the dock "Train and predict" is open in it, annotation, classes and
        prediction are that dock's; otherwise two labels layers are chosen here.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.viewer = napari_viewer
        self._own = Predictions(napari_viewer)
        self._train: TrainDock | None = None
        self.review = Review(napari_viewer, self._own, Background())
        self._stale, self._ticks = True, 0
        self._layers_shown: list[tuple[int, str]] = []
        self._lay_out()
        self.review.changed.connect(self._mark_stale)
        review = self.review
        self.keys = Keys(
            napari_viewer,
            {
                "n": lambda: review.next(),
                "a": review.accept,
                "r": review.reject,
                "g": review.next_slice,
                "u": review.use_slice,
            },
        )
        self._look_around()
        self._timer = QTimer(self)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)
        keys = self.keys  # no reference to self: the widget is half gone when this runs

        def end() -> None:
            keys.release()
            review.close()

        self._if_destroyed(end)
        self._timer.start()

    # ------------------------------------------------------------ laying out

    def _lay_out(self) -> None:
        inner = QWidget()
        column = QVBoxLayout(inner)
        self.source = QLabel()
        self.source.setWordWrap(True)
        column.addWidget(self.source)
        column.addWidget(self._layer_box())
        self.model = RowsModel()
        self.table = RowsView(self.model)
        self.table.clicked.connect(self._clicked)
        self.table.activated.connect(self._clicked)
        column.addWidget(self.table, 1)
        column.addLayout(self._buttons())
        column.addWidget(self._settings())
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.status.setMinimumHeight(2 * self.status.fontMetrics().lineSpacing())
        column.addWidget(self.status)
        self.scroll_area = QScrollArea()
        self.scroll_area.setWidgetResizable(True)
        self.scroll_area.setFrameShape(QFrame.Shape.NoFrame)
        # As wide as its contents: scrolling sideways in a dock is a nuisance.
        self.scroll_area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.scroll_area.setWidget(inner)
        bar = self.scroll_area.verticalScrollBar()
        room = bar.sizeHint().width() if bar is not None else 0
        self.scroll_area.setMinimumWidth(min(inner.minimumSizeHint().width() + room + 2, WIDEST))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.scroll_area)

    def _layer_box(self) -> QGroupBox:
        self.layer_box = QGroupBox("Layers")
        form = QFormLayout(self.layer_box)
        self.annotation, self.predicted = QComboBox(), QComboBox()
        self.annotation.setToolTip("Labels that are written to.")
        self.predicted.setToolTip("Labels that are looked through.")
        for name, combo in (("Annotation", self.annotation), ("Prediction", self.predicted)):
            form.addRow(name, combo)
            combo.currentIndexChanged.connect(self._choose_layers)
        return self.layer_box

    def _buttons(self) -> QGridLayout:
        grid = QGridLayout()
        review = self.review
        self.buttons: dict[str, QPushButton] = {}
        slots = (
            review.next, review.accept, review.reject, review.next_slice, review.use_slice, review.copy_prediction,
            lambda: review.copy_prediction(everywhere=True), review.ask_again,
        )  # fmt: skip
        for place, ((name, title, tooltip), slot) in enumerate(zip(BUTTONS, slots, strict=True)):
            button = QPushButton(title)
            button.setToolTip(tooltip)
            button.clicked.connect(lambda *_, slot=slot: slot())
            self.buttons[name] = button
            grid.addWidget(button, place // 3, place % 3)
        return grid

    def _settings(self) -> QGroupBox:
        box = QGroupBox("Settings")
        form = QFormLayout(box)
        self.overwrite = QCheckBox("Overwrite what is painted")
        self.overwrite.setToolTip(
            "Accept writes over other classes, and Reject erases the class. Without it painted pixels are kept."
        )
        self.write_background = QCheckBox("Reject paints background")
        self.write_background.setToolTip("With scribbles: pixels without a label become background.")
        self.differences = QCheckBox("Show differences to the annotation")
        self.differences.setToolTip(
            "Layers FN (blue: annotated, not predicted) and FP (red: predicted, not annotated) of slices that count as "
            "labelled. A refined run has layers of its own."
        )
        for tick, slot in (
            (self.overwrite, self._set_overwrite),
            (self.write_background, self._set_background),
            (self.differences, self._set_differences),
        ):
            tick.toggled.connect(slot)
            form.addRow(tick)
        self.uncertainty = QComboBox()
        self.uncertainty.addItems(list(get_args(Uncertainty)))
        self.uncertainty.setFocusPolicy(Qt.FocusPolicy.TabFocus)  # a click must not make N choose "none"
        self.uncertainty.setCurrentText("entropy")
        self.uncertainty.setToolTip(
            f"{PredictConfig.model_fields['uncertainty'].description} From the next prediction on. An ensemble asks the "
            f"last runs of the same classes, {MEMBERS} at most, beside the one that predicts."
        )
        self.uncertainty.currentTextChanged.connect(self._set_uncertainty)
        form.addRow("Uncertainty", self.uncertainty)
        self.unsure, self.island = QDoubleSpinBox(), QSpinBox()
        self.unsure.setRange(0.01, 1.0)
        self.unsure.setSingleStep(0.05)
        self.unsure.setValue(self.review.limits.unsure)
        self.unsure.setToolTip("A piece whose mean uncertainty is above this is in the table.")
        self.island.setRange(0, 100_000)
        self.island.setValue(self.review.limits.island)
        self.island.setToolTip(
            "A piece of at most so many pixels that touches nothing of its class; 0: none is."
        )
        for name, spin in (("Unsure above", self.unsure), ("Islands up to", self.island)):
            spin.setKeyboardTracking(False)
            spin.valueChanged.connect(self._set_limits)
            form.addRow(name, spin)
        return box

    # ------------------------------------------------------------ where things come from

    def _look_around(self) -> None:
        """Follow the Train dock if one is open in this viewer, else the layers chosen here."""
        open_docks = train_docks(self.viewer)
        train = self._train if self._train in open_docks else next(iter(open_docks), None)
        if train is not self._train:
            self._drop_options()
            self._train = train
            self._layers_shown = []
            if train is not None:
                self.review.follow(train.session)
        self._set_uncertainty()
        if train is None:
            self._follow_layers()

    def _follow_layers(self) -> None:
        labels = lay.layers_of(self.viewer, "labels")
        shown = [(id(layer), layer.name) for layer in labels]
        if shown == self._layers_shown:
            return
        self._layers_shown = shown
        ours = [each for each in labels if lay.is_prediction(each)]
        first = [each for each in labels if each not in ours]
        wanted = (
            (self.annotation, self._own.labels, first),
            (self.predicted, self.review.prediction, ours or first[1:]),
        )
        for combo, chosen, offered in wanted:
            pick = chosen if chosen in labels else next(iter(offered), None)
            with QSignalBlocker(combo):
                combo.clear()
                for layer in labels:
                    combo.addItem(layer.name, layer)
                combo.setCurrentIndex(labels.index(pick) if pick is not None else -1)
        self._choose_layers()

    @timed
    def _choose_layers(self, *_: object) -> None:
        annotation, predicted = self.annotation.currentData(), self.predicted.currentData()
        images = lay.layers_of(self.viewer, "image")
        fitting = [
            each for each in images if predicted is not None and not lay.labels_problem([each], predicted)
        ]
        self._own.choose(fitting[:1], annotation)
        self.review.follow(self._own, None if predicted is annotation else predicted)

    # ------------------------------------------------------------ settings

    def _set_overwrite(self, on: bool) -> None:
        self.review.overwrite = on

    def _set_background(self, on: bool) -> None:
        self.review.write_background = on

    @timed
    def _set_differences(self, on: bool) -> None:
        self.review.layers.want_errors(on, self.review.prediction)

    @timed
    def _set_limits(self, *_: object) -> None:
        self.review.limits = replace(
            self.review.limits, unsure=self.unsure.value(), island=self.island.value()
        )

    @timed
    def _set_uncertainty(self, *_: object) -> None:
        """What the Train dock's next prediction gives; an ensemble without other runs is none."""
        if self._train is None:
            return
        kind, session = self.uncertainty.currentText(), self._train.session
        runs: tuple[str, ...] = ()
        if kind == "ensemble":
            runs = tuple(map(str, _other_runs(session.last_run, session.runs, session.values_of)))
            kind = kind if runs else "entropy"
        session.options = PredictConfig.model_validate({"uncertainty": kind, "runs": runs})

    def _drop_options(self) -> None:
        if self._train is not None:
            self._train.session.options = PredictConfig()

    # ------------------------------------------------------------ showing

    def _mark_stale(self) -> None:
        self._stale = True

    @timed
    def _clicked(self, index: Any) -> None:
        self.review.go(self.model.rows[index.row()])

    @timed
    def _tick(self) -> None:
        self._ticks += 1
        if self._ticks % LOOK_EVERY == 0:
            self._look_around()
            self.keys.take()  # another dock may have been closed that had them
            return
        self.review.tick()
        if self._stale:
            self._stale = False
            self._show()

    def _show(self) -> None:
        review = self.review
        if self.model.rows is not review.rows:
            names = {row.value: row.name for row in review.choices.classes}
            layer = review.prediction
            self.model.show_rows(review.rows, "" if layer is None else image_of(layer), names)
        if review.current in review.rows:
            self.table.selectRow(review.rows.index(review.current))
        else:
            self.table.clearSelection()
        self.layer_box.setVisible(self._train is None)
        self.source.setVisible(self._train is not None)
        labels = review.choices.labels
        self.source.setText(
            f"Annotation: {'(none)' if labels is None else labels.name}, as in Train and predict"
        )
        self.write_background.setEnabled(review.choices.policy == "scribbles")
        for name in ("accept", "reject"):
            self.buttons[name].setEnabled(review.current is not None)
        self.buttons["again"].setEnabled(review.decided)
        self.status.setText("\n".join(filter(None, (self._count(), review.status or self.keys.note))))

    def _count(self) -> str:
        review = self.review
        if review.problem:
            return review.problem
        number = len(review.rows)
        pieces = (
            "Nothing suspicious" if not number else f"{number} suspicious piece{'s' if number > 1 else ''}"
        )
        return f"{pieces}; looking ..." if review.busy else f"{pieces}."

    # ------------------------------------------------------------ the end

    def _end(self) -> None:
        """Stop following the viewer, give the keys back, remove the layers."""
        self._timer.stop()
        self.keys.release()
        self._drop_options()
        self.review.close()
        self._own.choose([], None)


def _other_runs(last: Path | None, runs: Path, values_of: Callable[[Path], tuple[int, ...]]) -> list[Path]:
    """The latest runs of the same classes beside the last one."""
    if last is None:
        return []
    found = sorted((p.parent for p in runs.glob("*/model.safetensors")), reverse=True)
    return [run for run in found if run != last and values_of(run) == values_of(last)][:MEMBERS]
