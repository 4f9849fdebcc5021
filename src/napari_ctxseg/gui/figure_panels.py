"""Sections of the dock Figure: what is taken from the viewer, and how the figure looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSignalBlocker, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_ctxseg.config import FigureStyle, ViewFigure
from napari_ctxseg.gui.form import ConfigForm

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Fields of a style that have no editor in the form, or one of their own.
OWN = {"formats", "scale_length", "palette"}
SAFE = "colour_blind"
ALL_LABELS = "All labels in sight"


class ViewPanel(QGroupBox):
    """What is taken from the viewer, in which panels, and which part is drawn larger."""

    #: Take what the viewer shows now; draw or drop the zoomed part; something else has changed.
    take, draw_zoom, drop_zoom, changed = Signal(), Signal(), Signal(), Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("From the viewer", parent)
        self.button = QPushButton("Figure from what I see")
        self.button.setToolTip("Take slice, zoom and visible layers as they are now.")
        self.button.clicked.connect(lambda: self.take.emit())
        self.follow = QCheckBox("Follow")
        self.follow.setChecked(True)
        self.follow.setToolTip(
            "The figure changes with slice, zoom and layers of the viewer. Without it, it stays as it was taken."
        )
        self.panels = QComboBox()
        self.panels.addItem("One panel, as seen", "one")
        self.panels.addItem("A panel for each labels layer", "each")
        self.panels.setToolTip(ViewFigure.model_fields["panels"].description or "")
        self.panels.currentIndexChanged.connect(lambda *_: self.changed.emit())
        self.labels = QComboBox()
        self.labels.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.labels.setMinimumContentsLength(12)
        self.labels.setToolTip("Which labels are drawn. Strokes in all of them are followed.")
        self.labels.addItem(ALL_LABELS)
        self.labels.activated.connect(lambda *_: self.take.emit())
        self._layers: list[Any] = []
        self.zoom, self.no_zoom = QPushButton("Draw a zoomed part"), QPushButton("No zoomed part")
        self.zoom.setToolTip("Draw a rectangle in the viewer: what is in it is also shown larger.")
        self.no_zoom.setToolTip("Remove the rectangle.")
        self.zoom.clicked.connect(lambda: self.draw_zoom.emit())
        self.no_zoom.clicked.connect(lambda: self.drop_zoom.emit())
        first, second = QHBoxLayout(), QHBoxLayout()
        first.addWidget(self.button, 1)
        first.addWidget(self.follow)
        second.addWidget(self.zoom)
        second.addWidget(self.no_zoom)
        column = QVBoxLayout(self)
        column.addLayout(first)
        column.addWidget(self.labels)
        column.addWidget(self.panels)
        column.addLayout(second)

    def offer_labels(self, layers: Sequence[Any]) -> None:
        """Offer these labels layers; the chosen one stays chosen, also under another name."""
        names = [ALL_LABELS, *(f"only {layer.name}" for layer in layers)]
        if names == [self.labels.itemText(n) for n in range(self.labels.count())] and all(
            one is other for one, other in zip(layers, self._layers, strict=False)
        ):
            return
        chosen = self.only
        with QSignalBlocker(self.labels):
            self.labels.clear()
            self.labels.addItems(names)
            self._layers = list(layers)
            place = next((n for n, layer in enumerate(layers, 1) if layer is chosen), 0)
            self.labels.setCurrentIndex(place)

    @property
    def only(self) -> Any:
        """The one labels layer that is drawn; None: all that are visible."""
        place = self.labels.currentIndex() - 1
        return self._layers[place] if 0 <= place < len(self._layers) else None

    @property
    def skipped(self) -> list[Any]:
        """Labels layers that are not drawn."""
        return [] if self.only is None else [layer for layer in self._layers if layer is not self.only]

    def show_recipe(self, recipe: ViewFigure) -> None:
        """Show what a stored recipe says; it is not followed by the viewer."""
        with QSignalBlocker(self.panels):
            self.panels.setCurrentIndex(self.panels.findData(recipe.panels))
        self.follow.setChecked(False)


class StylePanel(QGroupBox):
    """Style of a figure."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Style", parent)
        self._formats = FigureStyle().formats
        self.safe = QCheckBox("Colours for colour-blind people")
        self.safe.setToolTip("Okabe and Ito's colours, which can be told apart with defective colour vision.")
        self.form = ConfigForm(FigureStyle, FigureStyle(), "", OWN, self)
        self.bar = QDoubleSpinBox()
        self.bar.setRange(0.0, 1e6)
        self.bar.setSpecialValueText("automatic")
        self.bar.setToolTip("Length of the scale bar in the unit of the image.")
        row = QFormLayout()
        row.addRow("Bar length", self.bar)
        column = QVBoxLayout(self)
        column.addWidget(self.safe)
        column.addWidget(self.form)
        column.addLayout(row)
        self.safe.toggled.connect(lambda *_: self.changed.emit())
        self.bar.valueChanged.connect(lambda *_: self.changed.emit())
        self.form.changed.connect(lambda: self.changed.emit())

    @property
    def problem(self) -> str:
        """What is wrong with a line of the form."""
        return self.form.problem

    @property
    def value(self) -> FigureStyle:
        """The style as it stands in the form."""
        own = {
            "palette": SAFE if self.safe.isChecked() else "papers",
            "scale_length": self.bar.value() or None,
            "formats": self._formats,
        }
        return FigureStyle.model_validate(self.form.value.model_dump() | own)

    def show_style(self, style: FigureStyle) -> None:
        """Show the style of a stored recipe."""
        self._formats = style.formats
        with QSignalBlocker(self.safe), QSignalBlocker(self.bar):
            self.safe.setChecked(style.palette == SAFE)
            self.bar.setValue(style.scale_length or 0.0)
        self.form.set_value(style)
