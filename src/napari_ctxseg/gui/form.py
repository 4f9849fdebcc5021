"""A form made from a configuration class: one editor per field, a choice of kinds where there are several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from qtpy.QtCore import QSignalBlocker, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QStandardItemModel
from qtpy.QtWidgets import QComboBox, QFormLayout, QHBoxLayout, QLabel, QMenu, QToolButton, QWidget

from napari_ctxseg.config import Config, preset_note, preset_values, presets_of
from napari_ctxseg.gui.editors import ConfigList
from napari_ctxseg.gui.fields import (
    is_advanced,
    is_off_screen,
    item_of,
    kinds_of,
    label_width,
    left_out,
    simple_editor,
    start_of,
    summary_of,
    title_of,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pydantic.fields import FieldInfo

#: Letters that a choice of kinds has room for at least; the list that it opens is as wide as it needs.
KIND_LETTERS = 11


def enable_item(box: QComboBox, row: int, reason: str, tooltip: str) -> None:
    """Grey an entry of a list with the reason as its tooltip, or let it be chosen."""
    model = box.model()
    item = model.item(row) if isinstance(model, QStandardItemModel) else None
    if item is not None:
        item.setEnabled(not reason)
        item.setToolTip(reason or tooltip)


class ConfigForm(QWidget):
    """Editors for a configuration; `value` is always a valid one.

    Parameters
    ----------
    annotation : type
        A `Config` class or a tagged union of them.
    value : Config
        What the form shows at first.
    label : str
        Label of the choice of kinds; heading of a class that has none.
    hidden : collection of str
        Fields without an editor; they keep their value.
    without : collection of Config classes
        Kinds that are not offered, so that a sum does not hold sums.
    """

    changed = Signal()

    def __init__(
        self,
        annotation: Any,
        value: Config,
        label: str = "Kind",
        hidden: Collection[str] = (),
        parent: QWidget | None = None,
        without: Collection[type[Config]] = (),
    ) -> None:
        super().__init__(parent)
        self._classes = [cls for cls in kinds_of(annotation) if cls not in without]
        self._hidden, self._without, self._value = set(hidden), tuple(without), value
        self._editors: dict[str, Any] = {}
        self._shown: dict[str, tuple[Any, Any]] = {}
        self._grey: Mapping[str, str] = {}
        self._filling = self._open = False
        self._lent = False
        self.problem = ""
        self._form = QFormLayout(self)
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self._kinds, self.presets, self._more = QComboBox(self), QToolButton(self), QToolButton(self)
        if "kind" in type(value).model_fields:
            self._add_head(label)
        else:
            self._add_heading(label)
        self._heads = self._form.rowCount()
        self._form.addRow(self._more)
        self._more.setAutoRaise(True)
        self._more.setCheckable(True)
        self._more.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self._more.toggled.connect(self.open_more)
        self._fill()

    @property
    def value(self) -> Config:
        """The configuration as it stands in the form."""
        return self._value

    def set_value(self, config: Config) -> None:
        """Show another configuration; `changed` is emitted once.

        Parameters
        ----------
        config : Config
            Of any class that the form offers.
        """
        same, self._value, self.problem = type(config) is type(self._value), config, ""
        if same:
            self._update()
        else:
            self._fill()
        self.changed.emit()

    # ------------------------------------------------------------ head: kind and preset

    def _add_head(self, label: str) -> None:
        for cls in self._classes:
            self._kinds.addItem(title_of(cls))
            self._kinds.setItemData(self._kinds.count() - 1, summary_of(cls), Qt.ItemDataRole.ToolTipRole)
        self._kinds.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._kinds.setMinimumContentsLength(KIND_LETTERS)
        if (listed := self._kinds.view()) is not None:
            listed.setMinimumWidth(listed.sizeHintForColumn(0) + listed.fontMetrics().height())
        self._kinds.currentIndexChanged.connect(self._choose_kind)
        menu = QMenu(self.presets)
        menu.setToolTipsVisible(True)
        menu.aboutToShow.connect(self._list_presets)
        self.presets.setText("Preset  ")  # napari's style draws the arrow over the last letter
        self.presets.setToolTip("Fill the fields with settings of the paper, of its code, or of ours.")
        self.presets.setMenu(menu)
        self.presets.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._kinds, 1)
        row.addWidget(self.presets)
        self._form.addRow(self._label(label), row)

    def _add_heading(self, label: str) -> None:
        self._kinds.hide()
        self.presets.hide()
        if label:
            heading = QLabel(label)
            font = heading.font()
            font.setBold(True)
            heading.setFont(font)
            self._form.addRow(heading)

    def _choose_kind(self, index: int) -> None:
        self.set_value(self._keeping_hidden(start_of(self._classes[index]), ()))

    def _keeping_hidden(self, made: Config, but: Collection[str]) -> Config:
        """A new value with the hidden fields of the present one, as far as it has them: they are chosen elsewhere."""
        old, fields = self._value, type(made).model_fields
        kept = {n: getattr(old, n) for n in self._hidden - set(but) if n in fields and hasattr(old, n)}
        return type(made).model_validate(made.model_dump() | kept) if kept else made

    def _list_presets(self) -> None:
        menu = self.presets.menu()
        if menu is None:
            return
        menu.clear()
        kind = getattr(self._value, "kind", "")
        for name in presets_of(kind):
            values = preset_values(kind, name)
            made = self._keeping_hidden(type(self._value).model_validate(values), values)
            action = menu.addAction(name)
            if action is not None:
                action.setToolTip(preset_note(kind, name))
                action.setCheckable(True)
                action.setChecked(made == self._value)
                action.triggered.connect(lambda _=False, made=made: self.set_value(made))

    def _show_head(self) -> None:
        cls = type(self._value)
        if "kind" not in cls.model_fields:
            return
        if cls not in self._classes:  # from a file that holds more than the form would offer
            self._classes.append(cls)
            with QSignalBlocker(self._kinds):
                self._kinds.addItem(title_of(cls))
        with QSignalBlocker(self._kinds):
            self._kinds.setCurrentIndex(self._classes.index(cls))
        self._grey_kinds()
        self._kinds.setToolTip(summary_of(cls))
        self.presets.setVisible(bool(presets_of(cls.model_fields["kind"].default)))

    # ------------------------------------------------------------ fields

    def _fill(self) -> None:
        """Make the editors of the present kind."""
        for row in reversed(range(self._heads, self._form.rowCount() - 1)):
            self._form.removeRow(row)
        self._editors, self._shown = {}, {}
        self._show_head()
        for name, info in type(self._value).model_fields.items():
            if name != "kind" and name not in self._hidden and not is_off_screen(info):
                self._add_editor(name, info)
        self._note_shown()
        self.open_more(self._open)

    def _update(self) -> None:
        """Show the present value in the editors that are there."""
        self._show_head()
        self._filling = True
        try:
            for name, editor in self._editors.items():
                value = getattr(self._value, name)
                if isinstance(editor, ConfigForm):
                    editor.set_value(value)
                else:
                    editor.value = value
        except ValueError:  # beyond a spin box: another editor is needed
            self._fill()
        finally:
            self._filling = False
        self._note_shown()
        self._name_more()

    def _note_shown(self) -> None:
        """What the editors make of the value: a spin box rounds, and what nobody touched must stay exact."""
        self._shown = {
            name: (editor.value, getattr(self._value, name)) for name, editor in self._editors.items()
        }

    def _add_editor(self, name: str, info: FieldInfo) -> None:
        value, title = getattr(self._value, name), info.title or name.replace("_", " ")
        item = item_of(info.annotation)
        editor: Any
        if kinds_of(info.annotation):
            without = (*self._without, *left_out(info))
            editor = ConfigForm(info.annotation, value, title, self._hidden, self, without)
            if "kind" not in type(value).model_fields:
                editor.lend_more()
            self._insert(editor)
        elif item is not None:
            editor = ConfigList(value, title.lower().removesuffix("s"), self._item_form, self)
            self._insert(editor)
        else:
            editor = simple_editor(info, value, title)
            editor.tooltip = info.description or ""
            self._grey_values(name, editor)
            text = self._label(title)
            text.setToolTip(info.description or "")
            self._form.insertRow(self._form.rowCount() - 1, text, editor.native)
        editor.changed.connect(self._collect)
        self._editors[name] = editor

    def _item_form(self, value: Config, parent: QWidget) -> ConfigForm:
        return ConfigForm(type(value), value, "", parent=parent, without=(*self._without, type(self._value)))

    def _insert(self, editor: QWidget) -> None:
        self._form.insertRow(self._form.rowCount() - 1, editor)

    def _label(self, text: str) -> QLabel:
        """A row's label; all short ones are equally wide, so that forms below each other line up."""
        label = QLabel(text)
        label.setMinimumWidth(label_width(self))
        return label

    def _collect(self, *_: object) -> None:
        """Take over what the editors say, if it is valid."""
        if self._filling:
            return
        values = {name: getattr(self._value, name) for name in type(self._value).model_fields}
        for name, editor in self._editors.items():
            seen, meant = self._shown[name]
            values[name] = meant if editor.value == seen else editor.value
        self.problem = next((p for e in self._editors.values() if (p := getattr(e, "problem", ""))), "")
        try:
            self._value = type(self._value).model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            self.problem = self.problem or f"{where}: {first['msg']}".removeprefix(": ")
        self._name_more()
        self.changed.emit()

    # ------------------------------------------------------------ what cannot be chosen

    def nested(self, name: str) -> ConfigForm | None:
        """Form of a field that is a configuration itself, if the present kind has it."""
        editor = self._editors.get(name)
        return editor if isinstance(editor, ConfigForm) else None

    def editor(self, name: str) -> Any:
        """Editor of a field of the present kind."""
        return self._editors[name]

    def grey(self, reasons: Mapping[str, str]) -> None:
        """Grey kinds, and values of choices, with the reason as tooltip.

        Parameters
        ----------
        reasons : mapping
            ``"KIND"`` or ``"FIELD.VALUE"`` -> why it cannot be chosen. All others can.
        """
        if reasons == self._grey:
            return
        self._grey = dict(reasons)
        self._grey_kinds()
        for name, editor in self._editors.items():
            self._grey_values(name, editor)

    def _grey_kinds(self) -> None:
        for row, cls in enumerate(self._classes):
            if "kind" in cls.model_fields:
                reason = self._grey.get(cls.model_fields["kind"].default, "")
                enable_item(self._kinds, row, reason, summary_of(cls))

    def _grey_values(self, name: str, editor: Any) -> None:
        box = getattr(editor, "native", None)
        if isinstance(box, QComboBox):
            for row in range(box.count()):
                enable_item(box, row, self._grey.get(f"{name}.{box.itemText(row)}", ""), "")

    # ------------------------------------------------------------ rarely used fields

    def open_more(self, opened: bool) -> None:
        """Show or hide the rarely used fields, those of a nested class without kinds too."""
        self._open = opened
        for name, editor in self._editors.items():
            if is_advanced(type(self._value).model_fields[name]):
                self._form.setRowVisible(getattr(editor, "native", editor), opened)
            elif isinstance(editor, ConfigForm) and editor._lent:
                editor.open_more(opened)
        with QSignalBlocker(self._more):
            self._more.setChecked(opened)
        self._more.setArrowType(Qt.ArrowType.DownArrow if opened else Qt.ArrowType.RightArrow)
        self._name_more()

    def lend_more(self) -> None:
        """Leave the toggle of rarely used fields to the form around this one."""
        self._lent = True
        self._name_more()

    def advanced(self) -> list[bool]:
        """Whether it differs from its default, for each rarely used field that this form's toggle shows."""
        found = []
        for name, editor in self._editors.items():
            info = type(self._value).model_fields[name]
            if is_advanced(info):
                found.append(getattr(self._value, name) != info.get_default())
            elif isinstance(editor, ConfigForm) and editor._lent:
                found += editor.advanced()
        return found

    def _name_more(self) -> None:
        differ = self.advanced()
        self._form.setRowVisible(self._more, bool(differ) and not self._lent)
        self._more.setText(f"More ({sum(differ)} changed)" if any(differ) else "More")
        self._more.setToolTip("Rarely changed settings; changed are those that differ from their default.")
