"""A form made from a configuration class: one editor per field, a choice of kinds where there are several."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from magicgui.widgets import create_widget
from pydantic import ValidationError
from qtpy.QtCore import QSignalBlocker, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QComboBox, QFormLayout, QHBoxLayout, QLabel, QMenu, QToolButton, QWidget

from napari_ctxseg.config import Config, preset_note, preset_values, presets_of
from napari_ctxseg.gui.editors import ConfigList, NumbersText, NumberText

if TYPE_CHECKING:
    from collections.abc import Collection

    from pydantic.fields import FieldInfo

ABBREVIATIONS = {
    "ce": "CE",
    "unet": "U-Net",
    "roi": "ROI",
    "dice": "Dice",
    "jaccard": "Jaccard",
    "resnet34": "ResNet-34",
    "vnet": "V-Net",
    "unetr": "UNETR",
    "deeplabv3": "DeepLabV3",
}
#: Names that would be too long for a dock, and cut off where they begin to differ.
SHORT = {
    "contour_weighted_ce": "Contour CE",
    "contour_weighted_ce_dice": "Contour CE + Dice",
    "dice_ce": "Dice + CE",
}
#: Letters that a choice of kinds has room for at least; the list that it opens is as wide as it needs.
KIND_LETTERS = 11


def kinds_of(annotation: Any) -> list[type[Config]]:
    """Configuration classes of a (tagged) union, or of a single class; empty for anything else."""
    if get_origin(annotation) is Annotated:
        return kinds_of(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        found = [kinds_of(member) for member in get_args(annotation)]
        return [cls for classes in found for cls in classes] if all(found) else []
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    return []


def item_of(annotation: Any) -> type[Config] | None:
    """Class of the items of ``tuple[Config, ...]``; None for anything else."""
    found = kinds_of(get_args(annotation)[0]) if get_origin(annotation) is tuple else []
    return found[0] if len(found) == 1 else None


def title_of(cls: type[Config]) -> str:
    """Readable name of a kind: ``dilated_balanced_ce`` becomes "Dilated balanced CE"."""
    kind = str(cls.model_fields["kind"].default)
    if kind in SHORT:
        return SHORT[kind]
    words = kind.split("_")
    text = " ".join(ABBREVIATIONS.get(word, word) for word in words)
    return text[0].upper() + text[1:]


def summary_of(cls: type[Config]) -> str:
    """First line of a class's docstring."""
    return (cls.__doc__ or "").strip().splitlines()[0]


def start_of(cls: type[Config]) -> Config:
    """What a newly chosen kind starts with: its recommended preset, else its defaults with lengths in pixels."""
    kind = cls.model_fields["kind"].default
    if "recommended" in presets_of(kind):
        return cls.model_validate(preset_values(kind, "recommended"))
    return cls.model_validate({"unit": "px"} if "unit" in cls.model_fields else {})


def is_advanced(info: FieldInfo) -> bool:
    """Whether a field is rarely changed."""
    return isinstance(info.json_schema_extra, dict) and bool(info.json_schema_extra.get("advanced"))


def is_off_screen(info: FieldInfo) -> bool:
    """Whether a field has no editor: the data decide it, or only files and the command line set it."""
    return isinstance(info.json_schema_extra, dict) and bool(info.json_schema_extra.get("off_screen"))


def _limits(info: FieldInfo) -> dict[str, Any]:
    """Bounds of a number as options of a spin box."""
    options: dict[str, Any] = {"min": -1e6, "max": 1e6}
    for rule in info.metadata:
        for name, option in (("ge", "min"), ("gt", "min"), ("le", "max"), ("lt", "max")):
            bound = getattr(rule, name, None)
            if bound is not None:
                options[option] = bound
    return options


def label_width(widget: QWidget) -> int:
    """Width of the labels in front of editors."""
    return widget.fontMetrics().horizontalAdvance("Context weight")


def simple_editor(info: FieldInfo, value: Any, title: str) -> Any:
    """Editor of a field that is no configuration: has `value`, `changed`, `native` and `tooltip`."""
    annotation, limits = info.annotation, _limits(info)
    numbers = [member for member in get_args(annotation) if get_origin(member) is tuple]
    if numbers and get_args(numbers[0])[0] is float:
        return NumbersText(value, title)
    options: dict[str, Any] = {}
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        inside = limits["min"] <= value <= limits["max"]
        if isinstance(value, float) and (0 < abs(info.default) < 0.01 or limits["max"] <= 0.1 or not inside):
            return NumberText(value, title)
        options = limits
        if isinstance(value, int):
            options = {key: int(bound) for key, bound in options.items()}
        else:
            options["step"] = 0.1 if value < 10 else 1.0
    if get_origin(annotation) is Literal:
        options = {"choices": list(get_args(annotation))}
    return create_widget(value=value, annotation=annotation, options=options)


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
        self.set_value(start_of(self._classes[index]))

    def _list_presets(self) -> None:
        menu = self.presets.menu()
        if menu is None:
            return
        menu.clear()
        kind = getattr(self._value, "kind", "")
        for name in presets_of(kind):
            made = type(self._value).model_validate(preset_values(kind, name))
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
            editor = ConfigForm(info.annotation, value, title, parent=self, without=self._without)
            if "kind" not in type(value).model_fields:
                editor.lend_more()
            self._insert(editor)
        elif item is not None:
            editor = ConfigList(value, title.lower().removesuffix("s"), self._item_form, self)
            self._insert(editor)
        else:
            editor = simple_editor(info, value, title)
            editor.tooltip = info.description or ""
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
