"""Small parts of the dock Compare."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFrame, QScrollArea

from napari_ctxseg.gui.train_dock import WIDEST

if TYPE_CHECKING:
    from qtpy.QtWidgets import QPushButton, QWidget


def scrolled(page: QWidget) -> QScrollArea:
    """A page that scrolls up and down only, as wide as its contents: scrolling sideways in a dock is a nuisance."""
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidget(page)
    bar = area.verticalScrollBar()
    room = bar.sizeHint().width() if bar is not None else 0
    area.setMinimumWidth(min(page.minimumSizeHint().width() + room + 2, WIDEST))
    return area


def enable(button: QPushButton, problem: str, tooltip: str) -> None:
    """Let a button be pressed, or grey it and say why."""
    button.setEnabled(not problem)
    button.setToolTip(problem or tooltip)
