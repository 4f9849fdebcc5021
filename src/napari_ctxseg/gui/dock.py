"""What all our docks share: however one is closed, its work ends once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QWidget

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtGui import QCloseEvent


class Dock(QWidget):
    """A widget for napari's docks. Subclasses say in `_end` what is to be let go.

    napari takes a widget out of its dock to close it, or closes the window; Qt may destroy it without either.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._closed = False
        self._orphaned: Callable[[], object] | None = None

    def _if_destroyed(self, end: Callable[[], object]) -> None:
        """Have `end` called if the widget is destroyed before `shut_down`; it must not hold the widget."""
        self._orphaned = end
        self.destroyed.connect(end)

    def event(self, event: QEvent | None) -> bool:
        """Notice when napari takes the widget out of its dock: that is how it closes one."""
        if event is not None and event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.shut_down()
        return super().event(event)

    def closeEvent(self, event: QCloseEvent | None) -> None:
        """End with the window."""
        self.shut_down()
        if event is not None:
            event.accept()

    def shut_down(self) -> None:
        """End the dock's work; may be called twice."""
        if self._closed:
            return
        self._closed = True
        if self._orphaned is not None:
            # Python's garbage collector may be what destroys the widget: it would call a function that it has emptied.
            self.destroyed.disconnect(self._orphaned)
        self._end()

    def _end(self) -> None:
        """Let go of engine, layers, timers."""
