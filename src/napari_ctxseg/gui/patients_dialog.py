"""Which patient each image of the project shows: a table to write in, a pattern for many at once, and what comes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import (
    QAbstractItemView,
    QDialog,
    QDialogButtonBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_ctxseg.errors import CtxsegError
from napari_ctxseg.gui.timing import timed
from napari_ctxseg.project import by_pattern, regrouped
from napari_ctxseg.project.patients import sentences

if TYPE_CHECKING:
    from napari_ctxseg.project import ProjectSpec

COLUMNS = ("Image", "Patient", "For")
PATIENT, ROLE = 1, 2
HELP = (
    "Images of one patient (or sample, or animal) stay together: all of them train, or none. Write in the column Patient, "
    "or take the patient from the names by a regular expression, as <tt>--group</tt> does."
)


class PatientsDialog(QDialog):
    """Shows what would come of other patients before anything is written.

    Parameters
    ----------
    spec : ProjectSpec
        The project as it is.
    trained : bool
        Whether there are runs: their numbers may not compare with later ones.
    """

    #: Image -> patient, when the person agrees.
    agreed = Signal(dict)

    def __init__(self, spec: ProjectSpec, *, trained: bool, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Patients")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._spec, self._trained = spec, trained
        self.pattern = QLineEdit()
        self.pattern.setPlaceholderText(r"such as P\d+, or ^([^_]+)_")
        self.pattern.setToolTip("Its first group in brackets, or all that it matches, is the patient.")
        self.pattern.textEdited.connect(self._apply_pattern)
        self.own = QPushButton("Each image its own")
        self.own.setToolTip("Every image is a patient, called like the image.")
        self.own.clicked.connect(self._own)
        self.table = self._make_table()
        self.note = QLabel()
        self.note.setWordWrap(True)
        self.note.setMinimumHeight(4 * self.note.fontMetrics().lineSpacing())
        self.note.setAlignment(Qt.AlignmentFlag.AlignTop)
        standard = QDialogButtonBox.StandardButton
        self.buttons = QDialogButtonBox(standard.Ok | standard.Cancel)
        self.buttons.accepted.connect(self._agree)
        self.buttons.rejected.connect(self.reject)
        explanation = QLabel(HELP)
        explanation.setWordWrap(True)
        line = QHBoxLayout()
        for widget in (QLabel("Pattern"), self.pattern, self.own):
            line.addWidget(widget)
        column = QVBoxLayout(self)
        column.addWidget(explanation)
        column.addLayout(line)
        column.addWidget(self.table, 1)
        column.addWidget(self.note)
        column.addWidget(self.buttons)
        self.resize(560, 520)
        self._unmatched: list[str] = []
        self._preview()

    def _make_table(self) -> QTableWidget:
        images = self._spec.images
        table = QTableWidget(len(images), len(COLUMNS))
        table.setHorizontalHeaderLabels(list(COLUMNS))
        triggers = QAbstractItemView.EditTrigger
        table.setEditTriggers(triggers.DoubleClicked | triggers.EditKeyPressed | triggers.AnyKeyPressed)
        for row, image in enumerate(images):
            for column, text in enumerate((image.name, image.group, "")):
                item = QTableWidgetItem(text)
                item.setToolTip(text)
                if column != PATIENT:
                    item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsEditable)
                table.setItem(row, column, item)
        header, side = table.horizontalHeader(), table.verticalHeader()
        assert header is not None
        assert side is not None
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(PATIENT, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(ROLE, QHeaderView.ResizeMode.ResizeToContents)
        side.hide()
        table.itemChanged.connect(lambda *_: self._edited())
        return table

    # ------------------------------------------------------------ what is written in the table

    def patients(self) -> dict[str, str]:
        """Image -> patient as the table says."""
        found = {}
        for row, image in enumerate(self._spec.images):
            item = self.table.item(row, PATIENT)
            found[image.name] = item.text().strip() if item is not None else image.group
        return found

    def _put(self, patients: dict[str, str]) -> None:
        with QSignalBlocker(self.table):
            for row, image in enumerate(self._spec.images):
                if (item := self.table.item(row, PATIENT)) is not None:
                    item.setText(patients.get(image.name, image.group))
                    item.setToolTip(item.text())

    @timed
    def _edited(self) -> None:
        self._unmatched = []
        self._preview()

    @timed
    def _own(self, *_: object) -> None:
        self.pattern.clear()
        self._unmatched = []
        self._put({image.name: image.name for image in self._spec.images})
        self._preview()

    @timed
    def _apply_pattern(self, text: str) -> None:
        """Names that it does not match keep the patient that they have in the project."""
        names = [image.name for image in self._spec.images]
        self._unmatched = []
        try:
            found = by_pattern(names, text) if text else {}
        except CtxsegError as error:
            self._refuse(str(error))
            return
        self._put(found)
        if text:
            self._unmatched = [name for name in names if name not in found]
        self._preview()

    # ------------------------------------------------------------ what comes of it

    def _refuse(self, why: str) -> None:
        self.note.setText(why)
        self._allow(why)

    def _allow(self, problem: str) -> None:
        button = self.buttons.button(QDialogButtonBox.StandardButton.Ok)
        if button is not None:
            button.setEnabled(not problem)
            button.setToolTip(problem)

    def _preview(self) -> None:
        try:
            made = regrouped(self._spec, self.patients())
        except CtxsegError as error:
            self._refuse(str(error))
            return
        changed = set(made.changed)
        with QSignalBlocker(self.table):
            for row, (image, role) in enumerate(zip(made.spec.images, made.roles(), strict=True)):
                before = made.moved.get(image.name)
                if (item := self.table.item(row, ROLE)) is not None:
                    item.setText(f"{before[0]} \u2192 {role}" if before else role)
                self._mark(row, ROLE, bold=before is not None)
                self._mark(row, PATIENT, bold=image.name in changed)
        lines = sentences(made, runs=self._trained)
        if self._unmatched:
            count = len(self._unmatched)
            which = ", ".join(self._unmatched[:4]) + (" ..." if count > 4 else "")
            lines.insert(0, f"Not matched, so as before: {which}")
        self.note.setText("\n".join(lines))
        self._allow("" if made.changed else "Nothing is changed yet.")

    def _mark(self, row: int, column: int, *, bold: bool) -> None:
        if (item := self.table.item(row, column)) is not None:
            font = item.font()
            font.setBold(bold)
            item.setFont(font)

    def _agree(self) -> None:
        self.agreed.emit(self.patients())
        self.accept()
