"""A form made from a configuration class: one editor per field, a choice of kinds where there are several."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from magicgui.widgets import create_widget
from pydantic import ValidationError
from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QComboBox, QFormLayout, QLabel, QWidget

from napari_ctxseg.config import Config

if TYPE_CHECKING:
    from collections.abc import Collection

    from pydantic.fields import FieldInfo

ABBREVIATIONS = {"ce": "CE", "unet": "U-Net", "roi": "ROI"}


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


def title_of(cls: type[Config]) -> str:
    """Readable name of a kind: ``dilated_balanced_ce`` becomes "Dilated balanced CE"."""
    words = str(cls.model_fields["kind"].default).split("_")
    text = " ".join(ABBREVIATIONS.get(word, word) for word in words)
    return text[0].upper() + text[1:]


def summary_of(cls: type[Config]) -> str:
    """First line of a class's docstring."""
    return (cls.__doc__ or "").strip().splitlines()[0]


def _limits(info: FieldInfo) -> dict[str, Any]:
    """Bounds of a number as options of a spin box."""
    options: dict[str, Any] = {"max": 1e6}
    for rule in info.metadata:
        for name, option in (("ge", "min"), ("gt", "min"), ("le", "max"), ("lt", "max")):
            bound = getattr(rule, name, None)
            if bound is not None:
                options[option] = bound
    return options


def label_width(widget: QWidget) -> int:
    """Width of the labels in front of editors."""
    return widget.fontMetrics().horizontalAdvance("Context weight")


class ConfigForm(QWidget):
    """Editors for a configuration; `value` is always a valid one.

    Parameters
    ----------
    annotation : type
        A `Config` class or a tagged union of them.
    value : Config
        What the form shows at first.
    label : str
        Label of the choice of kinds.
    hidden : collection of str
        Fields without an editor; they keep their value.
    """

    changed = Signal()

    def __init__(
        self,
        annotation: Any,
        value: Config,
        label: str = "Kind",
        hidden: Collection[str] = (),
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._classes, self._hidden, self._value = kinds_of(annotation), set(hidden), value
        self._editors: dict[str, Any] = {}
        self.problem = ""
        self._form = QFormLayout(self)
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self._kinds = QComboBox()
        for cls in self._classes:
            self._kinds.addItem(title_of(cls))
            self._kinds.setItemData(self._kinds.count() - 1, summary_of(cls), 3)  # 3: tooltip
        self._kinds.setCurrentIndex(self._classes.index(type(value)))
        self._kinds.currentIndexChanged.connect(self._choose_kind)
        self._form.addRow(self._label(label), self._kinds)
        self._fill()

    @property
    def value(self) -> Config:
        """The configuration as it stands in the form."""
        return self._value

    def _choose_kind(self, index: int) -> None:
        self._value = self._classes[index]()
        self._fill()
        self.changed.emit()

    def _fill(self) -> None:
        """Make the editors of the present kind."""
        while self._form.rowCount() > 1:
            self._form.removeRow(1)
        self._editors = {}
        self._kinds.setToolTip(summary_of(type(self._value)))
        for name, info in type(self._value).model_fields.items():
            if name != "kind" and name not in self._hidden:
                self._add_editor(name, info)

    def _add_editor(self, name: str, info: FieldInfo) -> None:
        value, title = getattr(self._value, name), info.title or name.replace("_", " ")
        if kinds_of(info.annotation):
            nested = ConfigForm(info.annotation, value, title, parent=self)
            nested.changed.connect(self._collect)
            self._editors[name] = nested
            self._form.addRow(nested)
            return
        options: dict[str, Any] = {}
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            options = _limits(info)
            if isinstance(value, int):
                options |= {key: int(bound) for key, bound in options.items()}
            else:
                options["step"] = 0.1 if value < 10 else 1.0
        annotation = info.annotation
        if get_origin(annotation) is Literal:
            options["choices"] = list(get_args(annotation))
        editor: Any = create_widget(value=value, annotation=annotation, options=options)
        editor.tooltip = info.description or ""
        editor.changed.connect(self._collect)
        self._editors[name] = editor
        text = self._label(title)
        text.setToolTip(info.description or "")
        self._form.addRow(text, editor.native)

    def _label(self, text: str) -> QLabel:
        """A row's label; all short ones are equally wide, so that forms below each other line up."""
        label = QLabel(text)
        label.setMinimumWidth(label_width(self))
        return label

    def _collect(self, *_: object) -> None:
        """Take over what the editors say, if it is valid."""
        values = self._value.model_dump()
        values |= {name: editor.value for name, editor in self._editors.items()}
        values = {k: v.model_dump() if isinstance(v, Config) else v for k, v in values.items()}
        try:
            self._value = type(self._value).model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            self.problem = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        else:
            self.problem = ""
        self.changed.emit()
