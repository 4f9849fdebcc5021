"""A dock ends its work once, however it is closed, and leaves nothing behind that the garbage collector could call."""

from __future__ import annotations

import pytest
from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QApplication, QVBoxLayout, QWidget

from napari_ctxseg.gui.dock import Dock

pytestmark = pytest.mark.viewer


class Made(Dock):
    def __init__(self, ended, parent=None):
        super().__init__(parent)
        self.ended = ended
        self._if_destroyed(lambda: ended.append("destroyed"))

    def _end(self):
        self.ended.append("closed")


def destroy(widget: QObject) -> None:
    widget.deleteLater()
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


@pytest.mark.parametrize("how", ["closed", "taken out", "twice"])
def test_the_end_comes_once(qtbot, how):
    ended = []
    window = QWidget()
    qtbot.addWidget(window)
    layout = QVBoxLayout(window)
    dock = Made(ended)
    layout.addWidget(dock)
    before = dock.receivers(dock.destroyed)
    if how == "taken out":
        dock.setParent(None)
    else:
        dock.close()
    if how == "twice":
        dock.shut_down()
    assert ended == ["closed"]
    # napari died here: the collector destroyed a closed dock, whose signal called a function that was emptied already.
    assert dock.receivers(dock.destroyed) == before - 1
    destroy(dock)
    assert ended == ["closed"]


def test_destroyed_without_having_been_closed(qtbot):
    ended = []
    destroy(Made(ended))
    assert ended == ["destroyed"]
