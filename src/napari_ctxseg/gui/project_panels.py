"""Sections of the tab "Project": images, earlier states, rounds. Each shows the project and changes it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QFileDialog,
    QGroupBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QMenu,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
)

from napari_ctxseg.errors import CtxsegError
from napari_ctxseg.gui.panels import FILES
from napari_ctxseg.gui.patients_dialog import PatientsDialog
from napari_ctxseg.gui.rounds_plot import RoundsPlot
from napari_ctxseg.gui.summary import counts
from napari_ctxseg.gui.timing import timed
from napari_ctxseg.project import from_files, helped
from napari_ctxseg.project.rounds import since
from napari_ctxseg.project.schema import ROLES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_ctxseg.gui.project_training import ProjectTraining
    from napari_ctxseg.project import Project

ROWS = 6
ROLE_TIP = "What the selected image's patient is for. Validation measures each round; test images are never looked at."
PATIENTS_TIP = "Say which images are of one patient: by hand, or all at once by a pattern over their names."


class TextTable(QTableWidget):
    """A table whose rows are chosen as a whole and not edited; its first column takes the room."""

    def __init__(self, headers: Sequence[str], tooltip: str) -> None:
        super().__init__(0, len(headers))
        self._shown: tuple[list[tuple[str, ...]], int] = ([], -1)
        self.setHorizontalHeaderLabels(list(headers))
        self.setToolTip(tooltip)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        header, side = self.horizontalHeader(), self.verticalHeader()
        assert header is not None
        assert side is not None
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for column in range(1, len(headers)):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        side.setVisible(False)
        self.setMinimumHeight(3 * side.defaultSectionSize())
        self.setMaximumHeight((ROWS + 1) * side.defaultSectionSize())

    def fill(self, rows: Sequence[tuple[str, ...]], bold: int = -1) -> None:
        """Show these texts, one row in bold; the chosen row stays chosen. Free when nothing has changed."""
        if (list(rows), bold) == self._shown:
            return
        self._shown, chosen = (list(rows), bold), self.currentRow()
        with QSignalBlocker(self):
            self.setRowCount(len(rows))
            for index, texts in enumerate(rows):
                for column, text in enumerate(texts):
                    item = QTableWidgetItem(text)
                    font = item.font()
                    font.setBold(index == bold)
                    item.setFont(font)
                    self.setItem(index, column, item)
            if 0 <= chosen < len(rows):
                self.setCurrentCell(chosen, 0)


class ImagePanel(QGroupBox):
    """The images of the project: what is labelled, which patients are kept apart; one is open."""

    def __init__(self, training: ProjectTraining, tell: Callable[[str], None]) -> None:
        super().__init__("Images")
        self.training, self.workspace, self._tell = training, training.workspace, tell
        self.dialog: PatientsDialog | None = None
        self.table = TextTable(
            ["Image", "Labelled", "For", "Patient"],
            "Double click: open the image. The one before is saved and closed.",
        )
        self.table.cellDoubleClicked.connect(self._open)
        self.table.currentCellChanged.connect(lambda *_: self._show_role())
        self.counts = QLabel()
        self.counts.setWordWrap(True)
        self.advice = QLabel()
        self.advice.setWordWrap(True)
        self.role = QComboBox()
        self.role.addItems(ROLES)
        self.role.activated.connect(self._choose_role)
        self.add, self.add_files = QPushButton("Add ticked image"), QPushButton("Add files...")
        self.add.setToolTip(
            "Add the image that is ticked in the tab Train; its labels are saved from then on."
        )
        self.add.clicked.connect(self._add)
        self.add_files.clicked.connect(self._add_files)
        self.patients = QPushButton("Patients...")
        self.patients.clicked.connect(self._edit_patients)
        self.states = QPushButton("Earlier states")
        self.states.setToolTip("Put the labels of the open image back to how they were.")
        self._menu = QMenu(self.states)
        self._menu.aboutToShow.connect(self._list_states)
        self.states.setMenu(self._menu)
        self.mark = QPushButton("Slice is fully labelled (Shift+U)")
        self.mark.setToolTip(
            "Count the shown slice as labelled, or no longer: what is unpainted in it is then background."
        )
        self.mark.clicked.connect(self.toggle_mark)
        layout = QVBoxLayout(self)
        for shown in (self.counts, self.advice, self.table):
            layout.addWidget(shown)
        for widgets in (
            (QLabel("Selected is for"), self.role, self.states),
            (self.add, self.add_files, self.patients),
            (self.mark,),
        ):
            line = QHBoxLayout()
            for widget in widgets:
                line.addWidget(widget)
            layout.addLayout(line)

    def refresh(self) -> None:
        """Show what the project holds."""
        rows, workspace = self.training.rows, self.workspace
        here = workspace.opened.name if workspace.opened is not None else ""
        names = [row.name for row in rows]
        shown = [
            (row.name, row.problem or f"{row.labelled} of {row.slices}", row.role, row.group) for row in rows
        ]
        # A dock is narrow: names are not said twice.
        self.table.setColumnHidden(3, all(row.group == row.name for row in rows))
        self.table.fill(shown, names.index(here) if here in names else -1)
        self.counts.setText(counts(rows) if rows else "No images yet.")
        self.advice.setText(self.training.advice())
        self.advice.setVisible(bool(self.advice.text()))
        project = workspace.project
        writable = project is not None and not project.read_only
        for widget in (self.add, self.add_files, self.mark):
            widget.setEnabled(writable and not workspace.doing)
        self.states.setEnabled(writable and workspace.opened is not None)
        problem = workspace.patients_problem()
        self.patients.setEnabled(not problem)
        self.patients.setToolTip(problem or PATIENTS_TIP)
        self.role.setEnabled(not problem)
        self.role.setToolTip(problem or ROLE_TIP)
        self._show_role()

    def _selected(self) -> int:
        row = self.table.currentRow()
        return row if 0 <= row < len(self.training.rows) else -1

    def _show_role(self) -> None:
        row = self._selected()
        if row >= 0:
            self.role.setCurrentText(self.training.rows[row].role)

    def _try(self, action: Callable[[], object]) -> None:
        try:
            action()
        except CtxsegError as error:
            self._tell(str(error))

    @timed
    def _open(self, row: int, _column: int) -> None:
        self._try(lambda: self.workspace.open_image(self.training.rows[row].name))

    @timed
    def _choose_role(self, *_: object) -> None:
        row, project = self._selected(), self.workspace.project
        if row < 0 or project is None:
            return
        group, role = self.training.rows[row].group, ROLES[self.role.currentIndex()]
        self._try(lambda: project.set_role(group, role))
        self.training.look()

    @timed
    def _edit_patients(self, *_: object) -> None:
        project = self.workspace.project
        if project is None or self.workspace.patients_problem():
            return
        # Not waited for: painting and saving go on behind it.
        self.dialog = PatientsDialog(project.spec, trained=bool(self.training.runs), parent=self)
        self.dialog.agreed.connect(lambda found: self._set_patients(project, found))
        self.dialog.open()

    @timed
    def _set_patients(self, project: Project, patients: dict[str, str]) -> None:
        if project is self.workspace.project:
            self._try(lambda: self.workspace.set_patients(patients, self.training.look))

    @timed
    def _add(self, *_: object) -> None:
        self._try(self.workspace.add_chosen)

    def _add_files(self, *_: object) -> None:
        names = QFileDialog.getOpenFileNames(self, "Images to add", "", FILES)[0]
        if names:
            self._try(lambda: self.workspace.add_files(from_files(names).images))

    @timed
    def toggle_mark(self, *_: object) -> None:
        """Count the shown slice as labelled, or no longer."""
        self._try(lambda: self._tell_quietly(self.workspace.toggle_mark()))

    def _tell_quietly(self, text: str) -> None:
        self.training.session.status = text
        self.training.session.changed.emit()

    def _list_states(self) -> None:
        self._menu.clear()
        for state in self.workspace.generations():
            at = time.strftime("%d %b %H:%M:%S", time.localtime(state.time))
            action = self._menu.addAction(f"{at}   {state.label}".rstrip())
            assert action is not None
            action.triggered.connect(
                lambda _=False, number=state.number: self._try(lambda: self.workspace.restore(number))
            )
        if self._menu.isEmpty():
            nothing = self._menu.addAction("There are none yet")
            assert nothing is not None
            nothing.setEnabled(False)


class RoundsPanel(QGroupBox):
    """Whether each round helped, and the runs to go back to."""

    def __init__(self, training: ProjectTraining, tell: Callable[[str], None]) -> None:
        super().__init__("Rounds")
        self.training, self._tell = training, tell
        self.plot = RoundsPlot()
        self.verdict = QLabel()
        self.verdict.setWordWrap(True)
        self.table = TextTable(
            ["Run", "Minutes", "Dice"], "Every training of this project, and the annotating before it."
        )
        self.use, self.compare = QPushButton("Use this model"), QPushButton("Compare")
        self.use.setToolTip(
            "Predict with it and train on from it; shows what it predicted of the open image."
        )
        self.use.clicked.connect(self._use)
        self.compare.setToolTip(
            "Show what it predicted of the open image as outlines, beside the present prediction."
        )
        self.compare.clicked.connect(self._compare)
        layout = QVBoxLayout(self)
        for widget in (self.plot, self.verdict, self.table):
            layout.addWidget(widget)
        line = QHBoxLayout()
        line.addWidget(self.use)
        line.addWidget(self.compare)
        layout.addLayout(line)

    def refresh(self) -> None:
        """Show the rounds, newest run first."""
        rounds, runs = self.training.rounds, self.training.runs
        self.plot.show_rounds(rounds)
        previous = rounds[-2] if len(rounds) > 1 else None
        notes = "\n".join(self.training.notes)
        self.verdict.setText("\n".join(filter(None, [helped(previous, rounds[-1]) if rounds else "", notes])))
        self.verdict.setVisible(bool(self.verdict.text()))
        last = self.training.session.last_run
        rows, bold = [], -1
        for index, run in enumerate(reversed(runs)):
            made = since(rounds, run.name)
            dice = made.after.mean if made is not None and made.after is not None else None
            state = "" if run.finished else " (unfinished)" if run.has_model else " (no model)"
            rows.append(
                (
                    run.name + state,
                    f"{made.minutes:.0f}" if made else "",
                    f"{dice:.2f}" if dice is not None else "",
                )
            )
            if last is not None and run.path == last:
                bold = index
        self.table.fill(rows, bold)
        for widget in (self.use, self.compare):
            widget.setEnabled(bool(runs))

    def _chosen(self) -> str:
        row, runs = self.table.currentRow(), self.training.runs[::-1]
        return runs[row].name if 0 <= row < len(runs) else runs[0].name if runs else ""

    @timed
    def _use(self, *_: object) -> None:
        try:
            self.training.use(self._chosen())
        except CtxsegError as error:
            self._tell(str(error))
        self.refresh()

    @timed
    def _compare(self, *_: object) -> None:
        if run := self._chosen():
            self.training.show_stored(run, beside=True)
