"""napari as a person runs it, in a process of its own: something is done, and the window is closed.

Arguments: project folder or ``-``, how to close, folder for settings and cache. Prints what another program would see.
"""

from __future__ import annotations

import sys
from pathlib import Path

import napari
import numpy as np
import platformdirs
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from napari_ctxseg.gui.workbench import Workbench
from napari_ctxseg.project import Project

project, how, home = sys.argv[1], sys.argv[2], Path(sys.argv[3])
platformdirs.user_config_path = lambda *_, **__: home / "settings"
platformdirs.user_cache_path = lambda *_, **__: home / "cache"
viewer = napari.Viewer()
other = napari.Viewer() if "beside" in how else None
viewer.window.add_plugin_dock_widget("napari-ctxseg", "Workbench")
timers = []


def bench():
    """Found each time: a person holds no reference to it."""
    return next(widget for widget in QApplication.allWidgets() if isinstance(widget, Workbench))


def until(wish, then):
    timer = QTimer()

    def look():
        if wish():
            timer.stop()
            then()

    timer.timeout.connect(look)
    timer.start(50)
    timers.append(timer)


def close():
    if "window" in how:
        viewer.window._qt_window.close()
    else:
        viewer.close()
    if other is not None:
        QTimer.singleShot(1500, look_from_beside)


def look_from_beside():
    with Project.open(Path(project)) as again:
        sys.stdout.write("locked\n" if again.read_only else "writable\n")
    other.close()


def paint_and_close():
    workspace = bench().project_dock.workspace
    workspace.effort.seconds += 90
    workspace.opened.labels.paint((2, 30, 30), 1)
    close()


def begin():
    dock = bench().project_dock
    if project == "-":
        viewer.add_image(np.random.default_rng(0).random((4, 32, 32)), name="mr")
        panel = bench().train_dock.layer_panel
        until(panel.new.isEnabled, lambda: (panel.new.click(), until(lambda: dock.workspace.opened, close)))
        return
    dock.open_path(Path(project))
    workspace = dock.workspace
    until(lambda: workspace.opened is not None and workspace.saving[0] == "saved", paint_and_close)


QTimer.singleShot(300, close if "at once" in how else begin)
napari.run()
sys.stdout.write("over\n")
