"""Pages "Runs" and "Results" of the dock Compare: the queue as a table; sentences, numbers, pictures, worst cases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QUrl, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QDesktopServices, QImage, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QLabel,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_ctxseg.compare.report import short_table
from napari_ctxseg.evaluation.tables import number
from napari_ctxseg.gui.timing import timed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from napari_ctxseg.compare.prepare import RunState

#: Pictures of a report, in the order in which they are shown, and the pixels they are wide.
PICTURES, WIDTH = ("boxes", "curves", "sweep"), 720
#: Pixels that the first column of a table of results may take.
FIRST = 130
NOTHING = "There is no result yet: the first comes when a run has ended."
STATES = {"waiting": "waiting", "begun": "interrupted", "done": "done", "failed": "FAILED"}


class Picture(QLabel):
    """A picture as wide as its page; a click opens the file, which is larger."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.file: Path | None = None
        self.setScaledContents(True)
        self.setToolTip("Click to open the file.")

    def mouseReleaseEvent(self, event: Any) -> None:
        """Open the file with whatever shows pictures on this machine."""
        if self.file is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.file)))


class RunsPage(QWidget):
    """All runs of a comparison, failed ones with their reason."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.table = _table(["variant", "fold", "seed", "state"])
        self.reason = QLabel("Choose a failed run to read its reason.")
        self.reason.setWordWrap(True)
        self.reason.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.table.currentCellChanged.connect(lambda row, *_: self._tell(row))
        column = QVBoxLayout(self)
        column.setContentsMargins(2, 2, 2, 2)
        column.addWidget(self.table, 1)
        column.addWidget(self.reason)
        self._rows: Sequence[RunState] = ()
        self._current: int | None = None

    @timed
    def show_rows(self, rows: Sequence[RunState], current: int | None) -> None:
        """Show the queue; only what has changed is written."""
        if len(rows) != self.table.rowCount():
            self._rows = ()
            self.table.setRowCount(len(rows))
        before = [*self._rows, *[None] * (len(rows) - len(self._rows))]
        for place, (row, old) in enumerate(zip(rows, before, strict=True)):
            running = place == current
            if row == old and running == (place == self._current):
                continue
            state = "running" if running else STATES[row.state]
            for column, text in enumerate((row.variant, str(row.fold), str(row.seed), state)):
                item = QTableWidgetItem(text)
                item.setToolTip(row.error or text)
                self.table.setItem(place, column, item)
        if current is not None and current != self._current and current < len(rows):
            self.table.scrollToItem(self.table.item(current, 0))
        self._rows, self._current = tuple(rows), current
        self.reason.setVisible(any(row.error for row in rows))

    def _tell(self, row: int) -> None:
        if 0 <= row < len(self._rows):
            self.reason.setText(self._rows[row].error or "This run has not failed.")


class ResultsPage(QWidget):
    """What a comparison shows, and what it does not.

    Parameters
    ----------
    background : callable
        Runs a function off the GUI thread, then one of two callbacks on it.
    """

    #: A worst case was double-clicked: its name.
    wanted = Signal(str)

    def __init__(self, background: Callable[..., None], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._background = background
        self.folder: Path | None = None
        self.incomplete = QLabel()
        self.incomplete.setWordWrap(True)
        self.sentences = QLabel(NOTHING)
        self.sentences.setWordWrap(True)
        self.sentences.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.table, self.failed = _table([]), _table(["variant", "fold", "seed", "error"])
        self.worst = _table(["variant", "case", "value", "reference"])
        self.worst.setToolTip("Double-click opens the image.")
        self.worst.cellDoubleClicked.connect(lambda row, _: self._open(row))
        self.pictures = {name: Picture() for name in PICTURES}
        self.open_folder = QPushButton("Open the report's folder")
        self.open_folder.setToolTip("report.md, .csv, .json, .tex, and the pictures as SVG and PNG.")
        self.open_folder.clicked.connect(lambda: self._open_folder())
        self.worst_title, self.failed_title = QLabel("Worst cases"), QLabel("Failed runs")
        column = QVBoxLayout(self)
        column.setContentsMargins(2, 2, 2, 2)
        for widget in (
            self.incomplete, self.table, self.sentences, self.failed_title, self.failed, *self.pictures.values(),
            self.worst_title, self.worst, self.open_folder,
        ):  # fmt: skip
            column.addWidget(widget)
        column.addStretch(1)
        self.show_report(None, None)

    @timed
    def show_report(self, report: Mapping[str, Any] | None, folder: Path | None) -> None:
        """Show a report, or that there is none; its pictures follow when they are read."""
        self.folder = folder
        there = report is not None
        for widget in (self.table, self.worst, self.worst_title, self.open_folder):
            widget.setVisible(there)
        for label in self.pictures.values():
            label.hide()
        self.failed.setVisible(there and bool(report and report["failed"]))
        self.failed_title.setVisible(there and bool(report and report["failed"]))
        if report is None:
            self.incomplete.hide()
            self.sentences.setText(NOTHING)
            return
        self.incomplete.setText(incomplete_text(report["runs"]))
        self.incomplete.setVisible(bool(self.incomplete.text()))
        self.sentences.setText("\n\n".join(report["sentences"]))
        header, rows = short_table(report)
        # What is looked for first stands first: a dock is narrow.
        order = [0, 3, len(header) - 1, *(n for n in range(len(header) - 1) if n not in (0, 3))]
        _fill(self.table, [[row[n] for n in order] for row in rows], [header[n] for n in order])
        _fill(
            self.failed,
            [[str(row[k]) for k in ("variant", "fold", "seed", "error")] for row in report["failed"]],
        )
        worst = [
            [name, row["case"], number(row["value"]), number(row["reference"])]
            for name, cases in report["worst"].items()
            for row in cases
        ]
        self.worst_title.setText(f"Worst cases by {report['primary']}")
        _fill(self.worst, worst)
        self._load_pictures()

    def _load_pictures(self) -> None:
        folder = self.folder
        images: dict[str, QImage] = {}

        def work() -> None:
            assert folder is not None
            for name in PICTURES:
                path = folder / f"{name}.png"
                if path.is_file() and not (image := QImage(str(path))).isNull():
                    smooth = Qt.TransformationMode.SmoothTransformation
                    images[name] = image.scaledToWidth(WIDTH, smooth)

        def done() -> None:
            if self.folder != folder:
                return
            for name, image in images.items():
                self.pictures[name].setPixmap(QPixmap.fromImage(image))
                self.pictures[name].file = None if folder is None else folder / f"{name}.png"
                self._fit(self.pictures[name])
                self.pictures[name].show()

        self._background(work, done, lambda error: None)

    def _fit(self, label: QLabel) -> None:
        """As wide as the page, never wider: the page decides the width."""
        pixmap = label.pixmap()
        if pixmap is None or pixmap.isNull():
            return
        label.setMinimumWidth(1)
        width = max(100, self.width() - 8)
        label.setFixedHeight(round(width * pixmap.height() / pixmap.width()))
        label.setMaximumWidth(width)

    def resizeEvent(self, event: Any) -> None:
        """Keep the pictures' shape."""
        super().resizeEvent(event)
        for label in self.pictures.values():
            self._fit(label)

    def _open(self, row: int) -> None:
        item = self.worst.item(row, 1)
        if item is not None:
            self.wanted.emit(item.text())

    def _open_folder(self) -> None:
        if self.folder is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.folder)))


def incomplete_text(runs: Mapping[str, int]) -> str:
    """That numbers rest on some of the runs only; empty if on all of them."""
    if not runs["missing"]:
        return ""
    return f"<b>Incomplete</b>: {runs['done']} of {runs['planned']} runs are in these numbers."


def _table(header: Sequence[str]) -> QTableWidget:
    table = QTableWidget(0, len(header))
    table.setHorizontalHeaderLabels(list(header))
    table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    if (rows := table.verticalHeader()) is not None:
        rows.hide()
    if (columns := table.horizontalHeader()) is not None:
        columns.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
    return table


def _fill(table: QTableWidget, rows: Sequence[Sequence[str]], header: Sequence[str] | None = None) -> None:
    """Put texts into a table, which becomes as high as they are."""
    if header is not None:
        table.setColumnCount(len(header))
        table.setHorizontalHeaderLabels(list(header))
    table.setRowCount(len(rows))
    for place, texts in enumerate(rows):
        for column, text in enumerate(texts):
            item = QTableWidgetItem(text)
            item.setToolTip(text)
            table.setItem(place, column, item)
    columns = table.horizontalHeader()
    if (
        columns is not None and rows
    ):  # long names must not push the numbers out of sight; the tooltip has them whole
        columns.setSectionResizeMode(0, QHeaderView.ResizeMode.Interactive)
        table.setColumnWidth(0, min(table.sizeHintForColumn(0) + 6, FIRST))
    line = table.fontMetrics().lineSpacing() + 10
    table.setFixedHeight(line * (min(len(rows), 8) + 2) + 6)
