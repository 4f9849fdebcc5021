"""What all our docks share: however one is closed, its work ends once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QWidget

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtCore import QObject
    from qtpy.QtGui import QCloseEvent, QShowEvent


class Dock(QWidget):
    """A widget for napari's docks. Subclasses say in `_end` what is to be let go.

    napari takes a widget out of its dock to close it, or closes the window, which only the window itself is told of; Qt may
    destroy it without either.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._closed = False
        self._window: QWidget | None = None
        self._window_closing = False
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

    def showEvent(self, event: QShowEvent | None) -> None:
        """Listen to the window, now that there is one; a dock within another one ends with that."""
        super().showEvent(event)
        above, inside = self.parentWidget(), False
        while above is not None:
            inside = inside or isinstance(above, Dock)
            window, above = above, above.parentWidget()
            if above is None and not inside and window is not self._window and not self._closed:
                if self._window is not None:
                    self._window.removeEventFilter(self)
                self._window = window
                window.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """End when the window has agreed to close: it is hidden then, before the program ends."""
        if event is not None and watched is self._window and not self._closed:
            if event.type() == QEvent.Type.Close:
                self._window_closing = True
                # Of a window that is not shown nothing will be hidden, and nobody is asked.
                if self._window is not None and not self._window.isVisible():
                    self.shut_down()
            elif event.type() == QEvent.Type.Hide and self._window_closing and not event.spontaneous():
                self.shut_down()
            elif event.type() in (QEvent.Type.WindowActivate, QEvent.Type.MouseButtonPress):
                self._window_closing = False  # the person was asked, and stayed
        return super().eventFilter(watched, event)

    def closeEvent(self, event: QCloseEvent | None) -> None:
        """End when closed as a window of its own."""
        self.shut_down()
        if event is not None:
            event.accept()

    def shut_down(self) -> None:
        """End the dock's work; may be called twice."""
        if self._closed:
            return
        self._closed = True
        if self._window is not None:
            self._window.removeEventFilter(self)
            self._window = None
        if self._orphaned is not None:
            # Python's garbage collector may be what destroys the widget: it would call a function that it has emptied.
            self.destroyed.disconnect(self._orphaned)
        self._end()

    def _end(self) -> None:
        """Let go of engine, layers, timers."""
