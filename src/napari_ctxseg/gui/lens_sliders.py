"""Sliders for the numbers of a loss that move its map: radius, thickness, weights ..."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSignalBlocker, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QFormLayout, QLabel, QWidget
from superqt import QLabeledDoubleSlider, QLabeledSlider

from napari_ctxseg.config import Config, parse_loss
from napari_ctxseg.gui.fields import is_advanced, label_width

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

#: Fields that shape a map, and how far their slider goes; a larger value in the form stretches it.
REACH: dict[str, float] = {
    "radius": 100,
    "iterations": 20,
    "size": 256,
    "margin": 64,
    "weight": 10,
    "ce_weight": 10,
    "alpha": 10,
    "gamma": 5,
    "w0": 50,
    "sigma": 30,
}

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Number:
    """One number of a configuration."""

    path: Path
    title: str
    tooltip: str
    value: float
    least: float
    most: float
    whole: bool


def numbers_of(config: Config, path: Path = ()) -> Iterator[Number]:
    """Numbers of a loss that its map depends on, also those of its region, contour or terms; no rarely used ones."""
    fraction = getattr(config, "unit", "") == "fraction"
    for name, info in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, Config):
            yield from numbers_of(value, (*path, name))
        elif isinstance(value, tuple):
            for place, each in enumerate(value):
                if isinstance(each, Config):  # a term of a sum
                    for number in numbers_of(each, (*path, name, place)):
                        yield replace(number, title=f"{place + 1}: {number.title}")
        elif name in REACH and isinstance(value, int | float) and not is_advanced(info):
            reach = 1.0 if fraction and name in ("radius", "sigma") else REACH[name]
            yield Number(
                (*path, name),
                info.title or name,
                info.description or "",
                float(value),
                _least(info),
                max(reach, float(value)),
                isinstance(value, int),
            )


def _least(info: FieldInfo) -> float:
    """Lowest value that a slider may take; just above a bound that is itself not allowed."""
    for rule in info.metadata:
        if hasattr(rule, "ge"):
            return float(rule.ge)
        if hasattr(rule, "gt"):
            return float(rule.gt) + 0.1
    return 0.0


def with_number(config: Config, path: Path, value: float) -> Config:
    """The configuration with one number changed.

    Raises
    ------
    pydantic.ValidationError
        If the value is not allowed.
    """
    values = config.model_dump()
    place: Any = values
    for step in path[:-1]:
        place[step] = list(place[step]) if isinstance(place[step], tuple) else place[step]
        place = place[step]
    place[path[-1]] = value
    return parse_loss(values)


class LossSliders(QWidget):
    """One slider per number; `moved` carries the new configuration."""

    moved = Signal(object)

    def __init__(self, config: Config, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._form = QFormLayout(self)
        self._form.setContentsMargins(0, 0, 0, 0)
        self._config = config
        self.sliders: dict[Path, QLabeledSlider | QLabeledDoubleSlider] = {}
        self._made_for: list[tuple[Path, float, bool]] = []
        self.show_value(config)

    def show_value(self, config: Config) -> None:
        """Show a configuration; sliders are made anew only if it has other numbers."""
        self._config = config
        numbers = list(numbers_of(config))
        made_for = [(number.path, number.least, number.whole) for number in numbers]
        if made_for != self._made_for:
            self._made_for = made_for
            self._make(numbers)
        for number in numbers:
            slider: Any = self.sliders[number.path]
            with QSignalBlocker(slider):
                if number.value > slider.maximum():
                    slider.setMaximum(number.value)
                slider.setValue(int(number.value) if number.whole else number.value)

    def _make(self, numbers: list[Number]) -> None:
        while self._form.rowCount():
            self._form.removeRow(0)
        self.sliders = {}
        for number in numbers:
            slider: Any = (QLabeledSlider if number.whole else QLabeledDoubleSlider)(
                Qt.Orientation.Horizontal
            )
            low, high = number.least, number.most
            slider.setRange(int(low) if number.whole else low, int(high) if number.whole else high)
            if not number.whole:
                slider.setDecimals(2 if high <= 1 else 1)
                slider.setSingleStep(0.01 if high <= 1 else 0.1)
            slider.setToolTip(number.tooltip)
            slider.valueChanged.connect(lambda value, path=number.path: self._move(path, value))
            label = QLabel(number.title)
            label.setMinimumWidth(label_width(self))
            label.setToolTip(number.tooltip)
            self.sliders[number.path] = slider
            self._form.addRow(label, slider)

    def _move(self, path: Path, value: float) -> None:
        try:
            self._config = with_number(self._config, path, value)
        except ValueError:  # a bound between two steps of the slider
            return
        self.moved.emit(self._config)
