"""Editors for what a recipe often says: numbers, a colour, and which part of an image is shown."""

from __future__ import annotations

import math
from typing import Any, get_args

from qtpy.QtCore import Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QColorDialog,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QMenu,
    QSpinBox,
    QToolButton,
    QWidget,
)

from napari_ctxseg.config.figure_parts import ViewConfig, ZoomConfig
from napari_ctxseg.errors import InputError

AUTOMATIC = "auto"
MOST = 1_000_000
WHOLE, AROUND, BOX = "the whole slice", "around the structures", "a box"
NO_ZOOM = "none"


def number_type(annotation: Any) -> tuple[type, bool] | None:
    """Int or float, and whether it may be left open; None of other types."""
    optional = type(None) in get_args(annotation)
    kinds = [each for each in get_args(annotation) if each is not type(None)] or [annotation]
    kind = kinds[0]
    return (kind, optional) if len(kinds) == 1 and kind in (int, float) else None


class Editor(QWidget):
    """What all of them have: a value, None where it is left open."""

    changed = Signal()

    def value(self) -> Any:
        """As a recipe takes it."""
        raise NotImplementedError

    def put(self, value: Any) -> None:
        """Show a value; `changed` may be emitted."""
        raise NotImplementedError


class NumberEditor(Editor):
    """A number between bounds.

    Parameters
    ----------
    kind : int or float
    optional : bool
        Whether it may be left open.
    default : int, float or None
    bounds : sequence
        Constraints of the field: ``ge``, ``gt``, ``le``, ``lt``.
    """

    def __init__(
        self,
        kind: type,
        *,
        optional: bool,
        default: Any = None,
        bounds: Any = (),
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._optional, self._kind = optional, kind
        self.box: QSpinBox | QDoubleSpinBox = QSpinBox() if kind is int else QDoubleSpinBox()
        low, high = _bounds(bounds, kind)
        step = 1 if kind is int else 0.05 if high <= 1 else 1.0
        self._open = low - step  # below all that is allowed: stands for nothing
        self.box.setRange(self._open if optional else low, high)  # type: ignore[arg-type]
        self.box.setSingleStep(step)  # type: ignore[arg-type]
        if optional:
            self.box.setSpecialValueText(AUTOMATIC)
        self.put(default)
        self.box.valueChanged.connect(lambda *_: self.changed.emit())
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.box)

    def value(self) -> int | float | None:
        """None: left open."""
        found = self.box.value()
        return None if self._optional and found <= self._open else found

    def put(self, value: Any) -> None:
        """Show a number; None: left open."""
        if value is not None:
            self.box.setValue(value)
        elif self._optional:
            self.box.setValue(self._open)  # type: ignore[arg-type]


def _bounds(metadata: Any, kind: type) -> tuple[float, float]:
    low, high, tiny = -MOST, MOST, 1 if kind is int else 0.01
    for each in metadata:
        low = getattr(each, "ge", low) if hasattr(each, "ge") else low
        low = each.gt + tiny if hasattr(each, "gt") else low
        high = getattr(each, "le", high) if hasattr(each, "le") else high
        high = each.lt - tiny if hasattr(each, "lt") else high
    return kind(low), kind(high)


class ColourButton(QToolButton):
    """A colour, or none: then the palette decides."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.colour: str | None = None
        menu = QMenu(self)
        menu.addAction("Colour...", self._ask)
        menu.addAction("From the palette", lambda: self._choose(None))
        self.setMenu(menu)
        self.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.put(None)

    def put(self, colour: str | None) -> None:
        """Show a colour, ``#rrggbb``."""
        self.colour = colour
        icon = QIcon()
        if colour is not None:
            pixels = QPixmap(14, 14)
            pixels.fill(QColor(colour))
            icon = QIcon(pixels)
        self.setIcon(icon)
        self.setText("  " if colour else f"{AUTOMATIC}  ")  # napari's style draws the arrow over the end
        self.setToolTip(f"Its colour: {colour or 'from the palette'}.")

    def _ask(self) -> None:
        chosen = QColorDialog.getColor(QColor(self.colour or "#ff0000"), self, "Colour")
        if chosen.isValid():
            self._choose(chosen.name())

    def _choose(self, colour: str | None) -> None:
        self.put(colour)
        self.changed.emit()


class ViewEditor(Editor):
    """Which slice, which part of it, black and white, and a zoomed part."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        fields, kept = ViewConfig.model_fields, ZoomConfig.model_fields
        self._zoom_box: Any = None  # of a recipe; drawn by nobody here
        self.axis = _combo([AUTOMATIC, "z", "y", "x", "t"], fields["axis"].description)
        self.index = NumberEditor(int, optional=True, bounds=fields["index"].metadata or _FROM_0)
        self.crop = _combo([WHOLE, AROUND, BOX], fields["crop"].description)
        self.box = QLineEdit()
        self.box.setPlaceholderText("top, left, height, width")
        self.margin = NumberEditor(int, optional=False, default=fields["margin"].default, bounds=_FROM_0)
        self.low, self.high = QLineEdit(), QLineEdit()
        for line, text in ((self.low, "black"), (self.high, "white")):
            line.setPlaceholderText(text)
            line.setToolTip(fields["window"].description or "")
        self.zoom = _combo([NO_ZOOM, "beside", "inset"], kept["place"].description)
        self.zoom_margin = NumberEditor(int, optional=False, default=kept["margin"].default, bounds=_FROM_0)
        self.index.setToolTip(fields["index"].description or "")
        self.margin.setToolTip(fields["margin"].description or "")
        self.zoom_margin.setToolTip(kept["margin"].description or "")
        form = QFormLayout(self)
        form.setContentsMargins(8, 0, 0, 0)
        for title, parts in (
            ("Axis, slice", (self.axis, self.index)),
            ("Crop", (self.crop,)),
            ("", (self.margin, self.box)),
            ("Window", (self.low, self.high)),
            ("Zoom, margin", (self.zoom, self.zoom_margin)),
        ):
            row = QHBoxLayout()
            for part in parts:
                row.addWidget(part, 1)
            form.addRow(title, row)
        for combo in (self.axis, self.crop, self.zoom):
            combo.currentIndexChanged.connect(self._changed)
        for line in (self.box, self.low, self.high):
            line.textChanged.connect(self._changed)
        for number in (self.index, self.margin, self.zoom_margin):
            number.changed.connect(self._changed)
        self._fit()

    def _changed(self, *_: object) -> None:
        self._fit()
        self.changed.emit()

    def _fit(self) -> None:
        """Only what counts is shown, or can be changed."""
        self.box.setVisible(self.crop.currentText() == BOX)
        self.margin.setVisible(self.crop.currentText() == AROUND)
        self.zoom_margin.setEnabled(self.zoom.currentText() != NO_ZOOM)

    def value(self) -> dict[str, Any]:
        """As a recipe's `view`.

        Raises
        ------
        InputError
            If a number cannot be read.
        """
        found: dict[str, Any] = {"margin": self.margin.value()}
        if self.axis.currentIndex():
            found["axis"] = self.axis.currentText()
        if (index := self.index.value()) is not None:
            found["index"] = index
        if self.crop.currentText() == AROUND:
            found["crop"] = "auto"
        elif self.crop.currentText() == BOX:
            found["crop"] = [int(each) for each in _numbers(self.box.text(), 4, "the box of the crop")]
        texts = [line.text().strip() for line in (self.low, self.high)]
        if all(texts):
            found["window"] = _numbers(", ".join(texts), 2, "the window")
        elif any(texts):
            raise InputError("the window", "needs both numbers", "Fill in black and white, or neither")
        if self.zoom.currentText() != NO_ZOOM:
            found["zoom"] = {"place": self.zoom.currentText(), "margin": self.zoom_margin.value()}
            if self._zoom_box is not None:
                found["zoom"]["box"] = list(self._zoom_box)
        return found

    def put(self, value: ViewConfig) -> None:
        """Show the view of a recipe."""
        self.axis.setCurrentText(value.axis or AUTOMATIC)
        self.index.put(value.index)
        self.crop.setCurrentText(WHOLE if value.crop is None else AROUND if value.crop == "auto" else BOX)
        self.box.setText(", ".join(map(str, value.crop)) if isinstance(value.crop, tuple) else "")
        self.margin.put(value.margin)
        for line, number in zip((self.low, self.high), value.window or ("", ""), strict=True):
            line.setText(f"{number:g}" if number != "" else "")
        self._zoom_box = value.zoom.box if value.zoom is not None else None
        self.zoom.setCurrentText(value.zoom.place if value.zoom is not None else NO_ZOOM)
        self.zoom_margin.put(value.zoom.margin if value.zoom is not None else 6)


class _From0:
    ge = 0


_FROM_0 = (_From0,)


def _combo(items: list[str], tooltip: str | None) -> QComboBox:
    combo = QComboBox()
    combo.addItems(items)
    combo.setToolTip(tooltip or "")
    return combo


def _numbers(text: str, count: int, what: str) -> list[float]:
    try:
        found = [float(each) for each in text.split(",")]
    except ValueError:
        found = []
    if len(found) != count or not all(map(math.isfinite, found)):
        raise InputError(what, f"needs {count} numbers with commas between, not {text!r}", "")
    return found
