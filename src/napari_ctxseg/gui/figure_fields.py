"""Editors for what a recipe names: a line for each of its fields, with a list of files where it is a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import yaml
from qtpy.QtCore import QSignalBlocker, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMenu,
    QToolButton,
    QWidget,
)

from napari_ctxseg.config import Config
from napari_ctxseg.config.figure_parts import LabelSource, ViewConfig
from napari_ctxseg.errors import InputError
from napari_ctxseg.evaluation.metrics import ALL_MEASURES
from napari_ctxseg.figures.examples import EXAMPLES
from napari_ctxseg.gui.figure_editors import ColourButton, Editor, NumberEditor, ViewEditor, number_type

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydantic.fields import FieldInfo

    from napari_ctxseg.config import Recipe

#: Fields with editors of their own.
ELSEWHERE = ("kind", "style")
#: What may be written in a line, where its default says nothing.
HINTS = {"Classes": {"LV": 1}}


def holds(annotation: Any, wanted: type) -> bool:
    """Whether a type is, or has somewhere in it, another one."""
    if isinstance(annotation, type):
        return issubclass(annotation, wanted) or (
            issubclass(annotation, Config)
            and any(info.annotation is Path for info in annotation.model_fields.values())
            and wanted is Path
        )
    return any(holds(each, wanted) for each in get_args(annotation))


class RecipeFields(QWidget):
    """The fields of one kind of recipe, style apart.

    Parameters
    ----------
    cls : Recipe class
    known : callable
        Titles and paths of files that can be offered.
    """

    changed = Signal()

    def __init__(
        self,
        cls: type[Recipe],
        known: Callable[[], Sequence[tuple[str, Path]]],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._known, self._editors = known, dict[str, QWidget]()
        self._colours: dict[str, ColourButton] = {}
        self._infos = {n: info for n, info in cls.model_fields.items() if n not in ELSEWHERE}
        example = EXAMPLES.get(str(cls.model_fields["kind"].default), {})
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        for name, info in self._infos.items():
            editor = self._editor(info, example.get(name))
            editor.setToolTip(info.description or "")
            self._editors[name] = editor
            title = info.title or name
            files = isinstance(editor, QLineEdit) and holds(info.annotation, Path)
            row: QWidget = editor
            if isinstance(editor, QLineEdit):
                buttons = [self._files_button(editor, info)] if files else []
                if holds(info.annotation, LabelSource) and get_origin(info.annotation) is not tuple:
                    self._colours[name] = ColourButton()
                    self._colours[name].changed.connect(lambda: self.changed.emit())
                    buttons.append(self._colours[name])
                if title == "Measures":
                    buttons.append(_names_button(editor, ALL_MEASURES))
                row = _in_a_row(editor, buttons)
            if isinstance(editor, ViewEditor):
                form.addRow(QLabel(title))
                form.addRow(editor)
            else:
                form.addRow(f"{title} *" if info.is_required() else title, row)

    def _editor(self, info: FieldInfo, example: Any) -> QWidget:
        if info.annotation is bool:
            check = QCheckBox()
            check.setChecked(bool(info.default))
            check.toggled.connect(lambda *_: self.changed.emit())
            return check
        if get_origin(info.annotation) is Literal:
            combo = QComboBox()
            combo.addItems([str(each) for each in get_args(info.annotation)])
            combo.setCurrentText(str(info.default))
            combo.currentIndexChanged.connect(lambda *_: self.changed.emit())
            return combo
        if info.annotation is ViewConfig:
            view = ViewEditor()
            view.changed.connect(lambda: self.changed.emit())
            return view
        if (number := number_type(info.annotation)) is not None:
            kind, optional = number
            box = NumberEditor(kind, optional=optional, default=_default(info), bounds=info.metadata)
            box.changed.connect(lambda: self.changed.emit())
            return box
        line = QLineEdit()
        example = HINTS.get(info.title or "") if example is None else example
        usual = _text(_default(info)) or "left empty: automatic"
        line.setPlaceholderText(usual if example is None else f"such as {_text(example)}")
        line.textChanged.connect(lambda *_: self.changed.emit())
        return line

    def _files_button(self, line: QLineEdit, info: FieldInfo) -> QToolButton:
        """A button that puts files into a line."""
        button = QToolButton()
        menu = QMenu(button)
        button.setText("...  ")  # napari's style draws the arrow over the last letter
        button.setToolTip(
            "Choose a file: of an open layer, of a comparison, or any other. A layer without a file is written beside the "
            "figure."
        )
        button.setMenu(menu)
        button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        several = get_origin(info.annotation) in (tuple, dict)

        def put(path: Path) -> None:
            text = line.text().strip()
            if get_origin(info.annotation) is dict:
                entry = f"{path.stem}: {path}"
                line.setText(f"{text}, {entry}" if text else entry)
            else:
                line.setText(f"{text}, {path}" if several and text else str(path))

        def browse() -> None:
            chosen, _ = QFileDialog.getOpenFileName(line, "File")
            if chosen:
                put(Path(chosen))

        def offer() -> None:
            menu.clear()
            menu.addAction("Choose a file...", browse)
            for title, path in self._known():
                action = menu.addAction(title, lambda path=path: put(path))
                if action is not None:
                    action.setToolTip(str(path))

        menu.aboutToShow.connect(offer)
        return button

    # ------------------------------------------------------------ values

    def values(self) -> dict[str, Any]:
        """What is filled in, as `napari_ctxseg.config.parse_figure` takes it.

        Raises
        ------
        InputError
            If a line is no YAML where it must be.
        """
        found: dict[str, Any] = {}
        for name, info in self._infos.items():
            editor = self._editors[name]
            if isinstance(editor, QCheckBox):
                found[name] = editor.isChecked()
            elif isinstance(editor, QComboBox):
                found[name] = editor.currentText()
            elif isinstance(editor, Editor):
                if (value := editor.value()) is not None:
                    found[name] = value
            elif isinstance(editor, QLineEdit) and (text := editor.text().strip()):
                found[name] = _parsed(text, info)
                if name in self._colours and (colour := self._colours[name].colour):
                    plain = found[name] if isinstance(found[name], dict) else {"file": found[name]}
                    found[name] = {"colour": colour, **plain}
        return found

    def missing(self) -> str:
        """Titles of lines that must be filled in and are not."""
        there = self.values()
        found = [
            info.title or name
            for name, info in self._infos.items()
            if info.is_required() and name not in there
        ]
        return " and ".join(found)

    def show_recipe(self, recipe: Recipe) -> None:
        """Fill in what a recipe says; `changed` is not emitted."""
        for name, editor in self._editors.items():
            value = getattr(recipe, name)
            with QSignalBlocker(editor):
                if isinstance(editor, QCheckBox):
                    editor.setChecked(bool(value))
                elif isinstance(editor, QComboBox):
                    editor.setCurrentText(str(value))
                elif isinstance(editor, Editor):
                    editor.put(value)
                elif isinstance(editor, QLineEdit):
                    if name in self._colours:
                        self._colours[name].put(value.colour if value is not None else None)
                        value = _without_colour(value)
                    same = value == _default(self._infos[name])
                    editor.setText("" if same else _text(value))


def _without_colour(source: LabelSource | None) -> Any:
    """What is left for the line when the button has the colour: mostly a path."""
    if source is None:
        return None
    rest = {n: getattr(source, n) for n in source.model_fields_set if n != "colour"}
    rest = {n: each for n, each in rest.items() if n == "file" or each not in (None, False)}
    return rest["file"] if set(rest) == {"file"} else rest


def _in_a_row(line: QLineEdit, buttons: Sequence[QWidget]) -> QWidget:
    if not buttons:
        return line
    holder = QWidget()
    row = QHBoxLayout(holder)
    row.setContentsMargins(0, 0, 0, 0)
    row.addWidget(line, 1)
    for button in buttons:
        row.addWidget(button)
    return holder


def _names_button(line: QLineEdit, names: Sequence[str]) -> QToolButton:
    """A button whose list ticks names in a line of names."""
    button = QToolButton()
    menu = QMenu(button)
    button.setText("...  ")
    button.setToolTip("Choose by a click.")
    button.setMenu(menu)
    button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)

    def chosen() -> list[str]:
        return [each.strip() for each in line.text().split(",") if each.strip()]

    def toggle(name: str) -> None:
        there = chosen()
        line.setText(", ".join([each for each in there if each != name] if name in there else [*there, name]))

    def offer() -> None:
        menu.clear()
        for name in names:
            action = menu.addAction(name, lambda name=name: toggle(name))
            if action is not None:
                action.setCheckable(True)
                action.setChecked(name in chosen())

    menu.aboutToShow.connect(offer)
    return button


def _default(info: FieldInfo) -> Any:
    return None if info.is_required() else info.get_default(call_default_factory=True)


def _parsed(text: str, info: FieldInfo) -> Any:
    annotation = info.annotation
    several = get_origin(annotation) is tuple
    if not text.startswith(("{", "[")):
        if several:
            return [each.strip() for each in text.split(",") if each.strip()]
        if holds(annotation, Path) and get_origin(annotation) is not dict:
            return text
        if annotation is str:
            return text
    if get_origin(annotation) is dict and not text.startswith("{"):
        text = "{" + text + "}"
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(
            info.title or "field", f"{text!r} cannot be read", "Write it as in a recipe, such as {margin: 8}"
        ) from error


def _text(value: Any) -> str:
    """A value as it is written in a line."""
    if value is None or value in ((), {}, ""):
        return ""
    if isinstance(value, str | Path):
        return str(value)
    plain = _plain(value)
    return (
        yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=10_000)
        .split("\n...")[0]
        .strip()
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Config):
        return {n: _plain(getattr(value, n)) for n in value.model_fields_set}
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value
