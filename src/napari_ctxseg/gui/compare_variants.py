"""The list of what is compared: variants made with the forms of losses, methods and networks, and a sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from qtpy.QtCore import QSignalBlocker, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QHBoxLayout,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_ctxseg.compare.plan import parse_sweep
from napari_ctxseg.config import LossConfig, MethodConfig, NetworkConfig, preset_values, presets_of
from napari_ctxseg.gui.fields import kinds_of, start_of, title_of
from napari_ctxseg.gui.form import ConfigForm

if TYPE_CHECKING:
    from napari_ctxseg.config import Config

#: Section of a run -> its title, its kinds, and fields that are chosen elsewhere.
SECTIONS: dict[str, tuple[str, Any, set[str]]] = {
    "loss": ("Loss", LossConfig, set()),
    "method": ("Method", MethodConfig, {"dims"}),
    "network": ("Network", NetworkConfig, {"dims"}),
}
SETTINGS = Qt.ItemDataRole.UserRole


def variant_name(value: Config) -> str:
    """Kind, and the preset or what differs from what the form starts with: ``Dilated balanced CE, radius 12``."""
    title, kind = title_of(type(value)), getattr(value, "kind", "")
    start = start_of(type(value))
    if value == start:
        return title
    for name in presets_of(kind):
        if type(value).model_validate(preset_values(kind, name)) == value:
            return f"{title}, {name}"
    changed = []
    for name in type(value).model_fields:
        now, before = getattr(value, name), getattr(start, name)
        if now != before and name != "dims":
            kind_of_field = getattr(now, "kind", None)
            text = f"{now:g}" if isinstance(now, float) else str(kind_of_field or now)
            changed.append(f"{name.replace('_', ' ')} {text}")
    return ", ".join([title, *changed[:3]])


class VariantList(QWidget):
    """Variants that are compared; the first is the reference."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.section = QComboBox()
        self.forms: dict[str, ConfigForm] = {}
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.section)
        for name, (title, _, _) in SECTIONS.items():
            self.section.addItem(f"{title} to add:", name)
        self._place = QVBoxLayout()
        column.addLayout(self._place)
        self._show_form()
        self.section.setToolTip("In what a variant differs; all else is as in the tab Train, or the default.")
        self.section.currentIndexChanged.connect(self._show_form)
        self.add, self.remove = QPushButton("Add"), QPushButton("Remove")
        self.add.setToolTip("Put what the form says on the list of what is compared.")
        self.remove.setToolTip("Take the chosen variant off the list.")
        self.add.clicked.connect(lambda: self.add_variant())
        self.remove.clicked.connect(lambda: self._remove())
        row = QHBoxLayout()
        row.addWidget(self.add)
        row.addWidget(self.remove)
        column.addLayout(row)
        self.list = QListWidget()
        self.list.setToolTip(
            "What is compared. The first is the reference that the others are tested against: drag to reorder, "
            "double-click to rename."
        )
        self.list.setMinimumHeight(5 * self.list.fontMetrics().lineSpacing())
        self.list.setMaximumHeight(7 * self.list.fontMetrics().lineSpacing())
        self.list.setDragDropMode(QAbstractItemView.DragDropMode.InternalMove)
        self.list.itemChanged.connect(lambda *_: self.changed.emit())
        if (model := self.list.model()) is not None:
            model.rowsMoved.connect(lambda *_: self.changed.emit())
        column.addWidget(self.list)
        self.sweep = QLineEdit()
        self.sweep.setPlaceholderText("Sweep, such as loss.radius=2,5,10")
        self.sweep.setToolTip(
            "Every variant that has the field takes part once for each value of it; the others stay as they are."
        )
        self.sweep.textChanged.connect(lambda *_: self.changed.emit())
        column.addWidget(self.sweep)

    def _show_form(self, *_: object) -> None:
        """Bring the section's form to the front; it is made when it is first looked at."""
        section = self.section.currentData()
        if section not in self.forms:
            title, union, hidden = SECTIONS[section]
            form = ConfigForm(union, start_of(kinds_of(union)[0]), title, hidden, self)
            self.forms[section] = form
            self._place.addWidget(form)
        for name, form in self.forms.items():
            form.setVisible(name == section)

    def add_variant(self) -> None:
        """Put what the shown form says on the list."""
        section = self.section.currentData()
        value = self.forms[section].value
        self.put(variant_name(value), {section: value.model_dump(mode="json", exclude={"dims"})})

    def put(self, name: str, settings: dict[str, Any]) -> None:
        """Add a variant under a name that no other has."""
        taken = set(self.variants())
        unique, number = name, 2
        while unique in taken:
            unique, number = f"{name} ({number})", number + 1
        item = QListWidgetItem(unique)
        item.setFlags(item.flags() | Qt.ItemFlag.ItemIsEditable)
        item.setData(SETTINGS, settings)
        item.setToolTip(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True).strip())
        with QSignalBlocker(self.list):
            self.list.addItem(item)
        self.list.setCurrentItem(item)
        self.changed.emit()

    def _remove(self) -> None:
        self.list.takeItem(self.list.currentRow())
        self.changed.emit()

    def variants(self) -> dict[str, dict[str, Any]]:
        """Name -> the settings in which it differs."""
        items = [self.list.item(row) for row in range(self.list.count())]
        return {item.text(): item.data(SETTINGS) for item in items if item is not None}

    def sweeps(self) -> dict[str, list[Any]]:
        """Field -> values.

        Raises
        ------
        InputError
            If it is not of the form ``a.b=v,w``.
        """
        text = self.sweep.text().strip()
        return dict([parse_sweep(text)]) if text else {}

    def problem(self) -> str:
        """Why nothing can be compared; empty if something can."""
        names = [item.text() for row in range(self.list.count()) if (item := self.list.item(row)) is not None]
        if len(set(names)) < len(names):
            return "Two variants have the same name."
        if len(names) < 2 and not self.sweep.text().strip():
            return "Add at least two variants to compare."
        return next((form.problem for form in self.forms.values() if form.problem), "")
