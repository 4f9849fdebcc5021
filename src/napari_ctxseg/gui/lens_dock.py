"""The dock "Lens": what the chosen loss looks at, live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QSignalBlocker, QSize, Qt, QTimer
from qtpy.QtGui import QCursor, QIcon, QImage, QPixmap
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFrame,
    QGridLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QToolTip,
    QVBoxLayout,
    QWidget,
)

from napari_ctxseg.config import LossConfig
from napari_ctxseg.engine.client import EngineClient
from napari_ctxseg.errors import CtxsegError
from napari_ctxseg.gui import layers as lay
from napari_ctxseg.gui.background import Background
from napari_ctxseg.gui.choices import Choices
from napari_ctxseg.gui.dock import Dock
from napari_ctxseg.gui.form import ConfigForm
from napari_ctxseg.gui.lens import Lens
from napari_ctxseg.gui.lens_layers import KINDS
from napari_ctxseg.gui.lens_show import weigh
from napari_ctxseg.gui.lens_sliders import LossSliders
from napari_ctxseg.gui.timing import timed
from napari_ctxseg.gui.train_dock import WIDEST, TrainDock, train_docks

if TYPE_CHECKING:
    import napari
    from qtpy.QtGui import QHideEvent, QShowEvent

    from napari_ctxseg.config import Config

TICK_MS = 8
#: Layers from what the loss makes of the labels to what it makes of the network.
ORDER = ("roi", "crop", "interior", "contour", "dilated", "weight", "ce", "weighted")
#: Thickness of labels shown as outlines, in pixels.
OUTLINE = 1
SWATCH = QSize(28, 12)
#: Ticks between two looks for a Train dock and for new layers.
LOOK_EVERY = 40


def _swatch(colormap: str) -> QIcon:
    """A colormap as a small picture, dark to bright."""
    from napari.utils.colormaps import ensure_colormap

    width, height = SWATCH.width(), SWATCH.height()
    colors = (255 * ensure_colormap(colormap).map(np.linspace(0, 1, width))).astype(np.uint8)
    pixels = np.ascontiguousarray(np.broadcast_to(colors, (height, width, 4)))
    image = QImage(pixels.tobytes(), width, height, 4 * width, QImage.Format.Format_RGBA8888)
    return QIcon(QPixmap.fromImage(image))


class LensDock(Dock):
    """Shows what a loss sees.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer whose layers are used. If the dock "Train and predict" is open in it, labels, classes and loss are
        that dock's.
    engine : EngineClient, optional
        An engine of one's own, of the lane ``maps``; a fresh one when left out.
    """

    def __init__(
        self,
        napari_viewer: napari.viewer.Viewer,
        engine: EngineClient | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.viewer = napari_viewer
        self._own = Choices(napari_viewer)
        self._train: TrainDock | None = None
        engine = engine or EngineClient(threads=1, lane="maps")
        self.lens = Lens(napari_viewer, engine, self._own, alone=True, background=Background())
        self._stale, self._ticks, self._in_front = True, 0, True
        self._layers_shown: list[tuple[int, str]] = []
        # A labels layer shown as outlines, and its contour before.
        self._outlined: tuple[Any, int] = (None, 0)
        self._lay_out()
        self._look_around()
        self.lens.changed.connect(self._mark_stale)
        try:
            engine.start()
        except CtxsegError as error:
            self.lens.failure = str(error)
        self._timer = QTimer(self)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)
        lens = self.lens  # no reference to self: the widget is half gone when this runs
        self._if_destroyed(lambda: lens.close())
        self._timer.start()

    def _lay_out(self) -> None:
        self.labels = QComboBox()
        self.labels.setToolTip("The labels to look at. Every value above 0 is a class.")
        self.labels.currentIndexChanged.connect(self._choose_labels)
        self.source = QLabel()
        self.source.setWordWrap(True)
        loss = self._own.config.loss
        self.form = ConfigForm(LossConfig, loss, "Loss")
        self.form.changed.connect(self._form_changed)
        self.sliders = LossSliders(loss)
        self.sliders.moved.connect(self._slider_moved)
        self.boxes = {kind: QCheckBox(KINDS[kind].title) for kind in ORDER}
        self.outlines = QCheckBox("Labels as outlines")
        self.weigh = QCheckBox("What does this weigh?")
        self.weigh.setToolTip(
            "Says under the cursor how much a pixel counts, beside one far from everything."
        )
        self.weigh.toggled.connect(self._toggle_weigh)
        self.answer, self.status = QLabel(), QLabel()
        for label in (self.answer, self.status):
            label.setWordWrap(True)

        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(2, 2, 2, 2)
        column.addWidget(self._layer_row())
        column.addWidget(self._group("Loss", self.form))
        self._slider_group = self._group("Move the map", self.sliders)
        column.addWidget(self._slider_group)
        column.addWidget(self._layer_boxes())
        column.addStretch(1)
        self._inner, self.scroll_area = inner, QScrollArea()
        self.scroll_area.setWidgetResizable(True)
        self.scroll_area.setFrameShape(QFrame.Shape.NoFrame)
        self.scroll_area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.scroll_area.setWidget(inner)
        layout = QVBoxLayout(self)
        layout.addWidget(self.scroll_area, 1)
        layout.addWidget(self.weigh)
        layout.addWidget(self.answer)
        layout.addWidget(self.status)

    def _layer_boxes(self) -> QGroupBox:
        """A check box per layer in two columns, and one for the labels' own looks."""
        grid = QGridLayout()
        for place, kind in enumerate(ORDER):
            box = self.boxes[kind]
            box.setChecked(self.lens.wanted[kind])
            if KINDS[kind].colorbar:  # the bars on the canvas have no name: these say which is which
                box.setIcon(_swatch(KINDS[kind].colormap))
                box.setIconSize(SWATCH)
            box.toggled.connect(lambda on, kind=kind: self._want(kind, on))
            grid.addWidget(box, place % 4, place // 4)
        self.outlines.setToolTip("Show the labels as outlines, so that the map can be seen inside them too.")
        self.outlines.toggled.connect(self._outline)
        grid.addWidget(self.outlines, 4, 0, 1, 2)
        made = QGroupBox("Layers")
        made.setLayout(grid)
        return made

    def _fit_width(self) -> None:
        """As wide as the contents: scrolling sideways in a dock is a nuisance."""
        bar = self.scroll_area.verticalScrollBar()
        room = bar.sizeHint().width() if bar is not None else 0
        self.scroll_area.setMinimumWidth(min(self._inner.minimumSizeHint().width() + room + 2, WIDEST))

    def _layer_row(self) -> QWidget:
        made = QWidget()
        row = QHBoxLayout(made)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(QLabel("Labels"))
        row.addWidget(self.labels, 1)
        row.addWidget(self.source, 1)
        return made

    @staticmethod
    def _group(title: str, *widgets: QWidget) -> QGroupBox:
        box = QGroupBox(title)
        column = QVBoxLayout(box)
        for widget in widgets:
            column.addWidget(widget)
        return box

    # ------------------------------------------------------------ where labels and loss come from

    def _look_around(self) -> None:
        """Follow the Train dock if one is open in this viewer, else the layers chosen here."""
        open_docks = train_docks(self.viewer)
        train = self._train if self._train in open_docks else next(iter(open_docks), None)
        if train is not self._train:
            self._train = train
            choices = self._own if train is None else train.session
            self.lens.follow(choices, alone=train is None)
            self._mark_stale()
        if train is None:
            self._follow_layers()

    def _follow_layers(self) -> None:
        own = self._own
        own.forget_missing_layers()
        labels = [each for each in lay.layers_of(self.viewer, "labels") if not lay.is_prediction(each)]
        # Images too: one that is opened later may be the one that the labels belong to.
        shown = [(id(layer), layer.name) for layer in [*labels, *lay.layers_of(self.viewer, "image")]]
        if shown != self._layers_shown:
            self._layers_shown = shown
            chosen = own.labels if own.labels in labels else next(iter(labels), None)
            with QSignalBlocker(self.labels):
                self.labels.clear()
                for layer in labels:
                    self.labels.addItem(layer.name, layer)
                self.labels.setCurrentIndex(labels.index(chosen) if chosen is not None else -1)
            self._choose_labels()

    @timed
    def _choose_labels(self, *_: object) -> None:
        labels = self.labels.currentData()
        images = lay.layers_of(self.viewer, "image")
        fitting = [each for each in images if labels is not None and not lay.labels_problem([each], labels)]
        self._own.choose(fitting[:1], labels)

    # ------------------------------------------------------------ one loss in three places

    @timed
    def _form_changed(self) -> None:
        if not self.form.problem:
            self._set_loss(self.form.value)

    @timed
    def _slider_moved(self, config: Config) -> None:
        self._set_loss(config)

    def _set_loss(self, config: Config) -> None:
        """Make this the loss of the Train dock, if there is one, or our own; the widgets follow."""
        if config != self.lens.choices.config.loss:
            if self._train is not None:
                self._train.model_panel.loss.set_value(config)
            else:
                self._own.config = self._own.config.updated(loss=config.model_dump())
                self._own.changed.emit()
        self._show_loss()

    def _show_form(self) -> None:
        loss = self.lens.choices.config.loss
        if self.form.value != loss:
            with QSignalBlocker(self.form):
                self.form.set_value(loss)

    def _show_loss(self) -> None:
        loss = self.lens.choices.config.loss
        self._show_form()
        self.sliders.show_value(loss)
        self._slider_group.setVisible(bool(self.sliders.sliders))

    # ------------------------------------------------------------ showing

    def _mark_stale(self) -> None:
        self._stale = True

    @timed
    def _tick(self) -> None:
        # One thing a tick, so that no tick is long: new widgets and redrawn layers each take some 20 ms.
        self._ticks += 1
        if self._in_front != self.lens.in_sight:
            self.lens.see(self._in_front)
        elif self._ticks % LOOK_EVERY == 0:
            self._look_around()
        elif self.lens.tick():
            return
        elif self._stale or self.form.value != self.lens.choices.config.loss:
            self._stale = False
            self._show()

    def _show(self) -> None:
        if self.form.value != self.lens.choices.config.loss:
            self._show_form()
            self._stale = True
            return
        self._show_loss()
        labels = self.lens.choices.labels
        if self.outlines.isChecked() and self._outlined[0] is not labels:
            self._outline(True)
        self.labels.setVisible(self._train is None)
        self.source.setVisible(self._train is not None)
        name = "(none)" if labels is None else labels.name
        self.source.setText(f"{name}, as in Train and predict")
        for kind, box in self.boxes.items():
            reason = self.lens.missing(kind)
            with QSignalBlocker(box):  # the wish is kept for when there is something to show
                box.setChecked(self.lens.wanted[kind] and not reason)
            box.setEnabled(not reason)
            box.setToolTip(reason or KINDS[kind].tooltip)
        self.status.setText(self.lens.status)
        self._fit_width()

    @timed
    def _want(self, kind: str, wanted: bool) -> None:
        self.lens.want(kind, wanted)

    @timed
    def _outline(self, on: bool) -> None:
        """Outlines on the labels looked at; their own looks come back when it is unticked or the dock closes."""
        layer, before = self._outlined
        if layer is not None:
            layer.contour = before
        labels = self.lens.choices.labels if on else None
        self._outlined = (labels, 0) if labels is None else (labels, labels.contour)
        if labels is not None:
            labels.contour = OUTLINE

    # ------------------------------------------------------------ under the cursor

    def _toggle_weigh(self, on: bool) -> None:
        callbacks = self.viewer.mouse_move_callbacks
        if on:
            callbacks.append(self._mouse_moved)
        elif self._mouse_moved in callbacks:
            callbacks.remove(self._mouse_moved)
        self.answer.setText("")

    @timed
    def _mouse_moved(self, viewer: Any, event: Any) -> None:
        text = weigh(self.lens, event.position)
        self.answer.setText(text)
        QToolTip.showText(QCursor.pos(), text)

    def hideEvent(self, event: QHideEvent | None) -> None:
        """Behind another tab the maps are out of sight too: at the next tick, as the window may be closing now."""
        self._in_front = event is not None and event.spontaneous()
        super().hideEvent(event)

    def showEvent(self, event: QShowEvent | None) -> None:
        """In front again."""
        self._in_front = True
        super().showEvent(event)

    # ------------------------------------------------------------ the end

    def _end(self) -> None:
        """Stop following the viewer, remove the layers, let go of the engine."""
        self._timer.stop()
        self.weigh.setChecked(False)
        self._outline(False)
        self.lens.close()
        self._own.choose([], None)
