"""The Review's rows as a table of Qt's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QWidget

from napari_ctxseg.evaluation.suspects import MEANING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qtpy.QtCore import QPersistentModelIndex
    from qtpy.QtGui import QKeyEvent

    from napari_ctxseg.gui.review_data import Row

    AnyIndex = QModelIndex | QPersistentModelIndex

COLUMNS = ("Image", "Slice", "Class", "Size", "Why", "Score")


class RowsModel(QAbstractTableModel):
    """Rows as they are now; nothing in the table can be edited."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: Sequence[Row] = ()
        self._image = ""
        self._names: Mapping[int, str] = {}

    def show_rows(self, rows: Sequence[Row], image: str, names: Mapping[int, str]) -> None:
        """Replace everything."""
        self.beginResetModel()
        self.rows, self._image, self._names = rows, image, dict(names)
        self.endResetModel()

    def rowCount(self, parent: AnyIndex | None = None) -> int:
        """Of the table itself; rows have no rows below them."""
        return 0 if parent is not None and parent.isValid() else len(self.rows)

    def columnCount(self, parent: AnyIndex | None = None) -> int:
        """As in `COLUMNS`."""
        return 0 if parent is not None and parent.isValid() else len(COLUMNS)

    def data(self, index: AnyIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Text, tooltip and alignment of a cell."""
        row, column = self.rows[index.row()], COLUMNS[index.column()]
        one = row.suspect
        if role == Qt.ItemDataRole.DisplayRole:
            name = self._names.get(one.value, str(one.value))
            cells = (self._image, row.index, name, row.size, one.reason, f"{one.score:.2f}")
            return cells[index.column()]
        if role == Qt.ItemDataRole.ToolTipRole:
            return MEANING[one.reason]
        if role == Qt.ItemDataRole.TextAlignmentRole and column in ("Slice", "Size", "Score"):
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        return None

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """Names of the columns."""
        if role == Qt.ItemDataRole.DisplayRole and orientation == Qt.Orientation.Horizontal:
            return COLUMNS[section]
        return None


class RowsView(QTableView):
    """The table. Letters are not searched for: they go on to the viewer, where some are keys of the Review."""

    def __init__(self, model: RowsModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setModel(model)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setWordWrap(False)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        below, across = self.verticalHeader(), self.horizontalHeader()
        if below is not None:
            below.setVisible(False)
            below.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)  # measuring 500 rows takes a while
            below.setDefaultSectionSize(self.fontMetrics().lineSpacing() + 6)
        if across is not None:
            letter = self.fontMetrics().horizontalAdvance("0")
            for column, letters in enumerate((7, 6, 11, 6, 11, 5)):
                self.setColumnWidth(column, letter * letters)
            across.setStretchLastSection(True)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Arrows move; everything that is a letter is left to the viewer."""
        if event is not None and event.text().isalpha():
            event.ignore()
        else:
            super().keyPressEvent(event)
