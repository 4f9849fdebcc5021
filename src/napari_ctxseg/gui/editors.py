"""Editors that magicgui does not have: numbers as text, and lists of configurations."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSignalBlocker, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_ctxseg.config import Config


class NumberText(QLineEdit):
    """One number as text: for sizes such as 1e-5, which spin boxes show as 0.

    `value` is the last good number; `problem` says what is wrong with the text.
    """

    changed = Signal()

    def __init__(self, value: Any, title: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._title, self._value, self.problem = title, value, ""
        self.value = value
        self.textChanged.connect(self._read)

    @property
    def native(self) -> QWidget:
        """The widget itself, as magicgui's editors name theirs."""
        return self

    @property
    def tooltip(self) -> str:
        """What the editor is for."""
        return self.toolTip()

    @tooltip.setter
    def tooltip(self, text: str) -> None:
        self.setToolTip(text)

    @property
    def value(self) -> Any:
        """The last good value."""
        return self._value

    @value.setter
    def value(self, value: Any) -> None:
        self._value, self.problem = value, ""
        with QSignalBlocker(self):
            self.setText(self.show_value(value))
        self.changed.emit()

    def show_value(self, value: Any) -> str:
        """Text of a value."""
        return f"{value:.12g}"

    def parse(self, text: str) -> Any:
        """Value of a text, or ValueError."""
        return _number(text)

    def _read(self, text: str) -> None:
        try:
            self._value, self.problem = self.parse(text.strip()), ""
        except ValueError:
            self.problem = f"{self._title}: {text.strip()!r} is not {self.wanted}."
        self.changed.emit()

    wanted = "a number"


class NumbersText(NumberText):
    """Numbers separated by commas; empty means None."""

    wanted = "numbers with commas between them"

    def __init__(self, value: Any, title: str, parent: QWidget | None = None) -> None:
        super().__init__(value, title, parent)
        self.setPlaceholderText("left empty: automatic")

    def show_value(self, value: Any) -> str:
        """Text of some numbers."""
        return ", ".join(f"{number:.12g}" for number in value or ())

    def parse(self, text: str) -> Any:
        """Numbers in a text, None where there are none."""
        return tuple(_number(word) for word in re.split(r"[,;\s]+", text.strip(",; "))) if text else None


class CountText(NumberText):
    """A whole number, or empty for None."""

    wanted = "a whole number above 0"

    def __init__(self, value: Any, title: str, parent: QWidget | None = None) -> None:
        super().__init__(value, title, parent)
        self.setPlaceholderText("left empty: automatic")

    def show_value(self, value: Any) -> str:
        """Text of a number."""
        return "" if value is None else str(value)

    def parse(self, text: str) -> Any:
        """Number in a text, None where there is none."""
        if not text:
            return None
        if int(text) < 1:
            raise ValueError(text)
        return int(text)


class RunChoice(QWidget):
    """A finished run, or None: what was chosen, a button to choose, and one to take the choice back."""

    changed = Signal()
    problem = ""

    def __init__(self, value: str | None, empty: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._empty, self._value = empty, value
        self.start = ""  # folder that the dialog opens in
        self.text, self.choose, self.forget = QLabel(), QPushButton("Use a run..."), QToolButton()
        self.text.setWordWrap(True)
        self.choose.setToolTip("Choose the folder of a finished run.")
        self.choose.clicked.connect(self._choose)
        self.forget.setText("x")
        self.forget.setToolTip(f"Back to: {empty}.")
        self.forget.clicked.connect(self._forget)
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.choose, 1)
        row.addWidget(self.forget)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self.text)
        column.addLayout(row)
        self.value = value

    @property
    def native(self) -> QWidget:
        """The widget itself."""
        return self

    @property
    def tooltip(self) -> str:
        """What the editor is for."""
        return self.toolTip()

    @tooltip.setter
    def tooltip(self, text: str) -> None:
        self.setToolTip(text)

    @property
    def value(self) -> str | None:
        """Path of the run, or None."""
        return self._value

    @value.setter
    def value(self, value: str | None) -> None:
        self._value = value
        self.text.setText(self._empty if value is None else Path(value).name)
        self.text.setToolTip(value or "")
        self.forget.setVisible(value is not None)
        self.changed.emit()

    def _choose(self, *_: object) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder of a run", self.start)
        if folder:
            self.value = folder

    def _forget(self, *_: object) -> None:
        self.value = None


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


class ConfigList(QWidget):
    """Configurations below each other, each with a form, and buttons to add and remove one.

    Parameters
    ----------
    value : sequence of Config
        At least one.
    what : str
        What one of them is called.
    make_form : callable
        Makes the form of one, given it and the form's parent.
    """

    changed = Signal()

    def __init__(
        self,
        value: Sequence[Config],
        what: str,
        make_form: Callable[[Config, QWidget], Any],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._what, self._make_form = what, make_form
        self._rows: list[tuple[QWidget, QLabel, QToolButton, Any]] = []
        self.add = QPushButton(f"Add {what}")
        self.add.setToolTip(f"Add a copy of the last {what}, to be changed.")
        self.add.clicked.connect(self._add)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.addWidget(self.add)
        for each in value:
            self._append(each)

    @property
    def native(self) -> QWidget:
        """The widget itself."""
        return self

    @property
    def tooltip(self) -> str:
        """What the editor is for."""
        return self.toolTip()

    @tooltip.setter
    def tooltip(self, text: str) -> None:
        self.setToolTip(text)

    @property
    def forms(self) -> list[Any]:
        """The forms, top to bottom."""
        return [row[3] for row in self._rows]

    @property
    def problem(self) -> str:
        """The first problem of a form, or nothing."""
        return next((form.problem for form in self.forms if form.problem), "")

    @property
    def value(self) -> tuple[Config, ...]:
        """The configurations as they stand in the forms."""
        return tuple(form.value for form in self.forms)

    @value.setter
    def value(self, value: Sequence[Config]) -> None:
        with QSignalBlocker(self):
            while len(self._rows) > len(value):
                self._drop(len(self._rows) - 1)
            for form, each in zip(self.forms, value, strict=False):
                form.set_value(each)
            for each in value[len(self._rows) :]:
                self._append(each)
        self.changed.emit()

    def remove(self, index: int) -> None:
        """Take one away; the last one stays."""
        if len(self._rows) > 1:
            self._drop(index)
            self.changed.emit()

    def _add(self) -> None:
        self._append(self.value[-1])
        self.changed.emit()

    def _append(self, value: Config) -> None:
        box, title, button = QWidget(self), QLabel(), QToolButton()
        font = title.font()
        font.setBold(True)
        title.setFont(font)
        button.setText("Remove")
        form = self._make_form(value, box)
        row = (box, title, button, form)
        button.clicked.connect(lambda: self.remove(self._rows.index(row)))
        form.changed.connect(self.changed)
        head = QHBoxLayout()
        head.addWidget(title)
        head.addStretch(1)
        head.addWidget(button)
        column = QVBoxLayout(box)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(head)
        column.addWidget(form)
        self._rows.append(row)
        self._column.insertWidget(self._column.count() - 1, box)
        self._number()

    def _drop(self, index: int) -> None:
        box = self._rows.pop(index)[0]
        self._column.removeWidget(box)
        box.hide()
        box.deleteLater()
        self._number()

    def _number(self) -> None:
        for number, (_, title, button, _) in enumerate(self._rows, start=1):
            title.setText(f"{self._what.capitalize()} {number}")
            button.setEnabled(len(self._rows) > 1)
            button.setToolTip(f"Remove {self._what} {number}.")
