"""The process that `crash_drill.py` kills: it paints and trains in a project as a person would.

`lean`: napari's layers and the plugin's own Workspace, Autosave, Session and engine, without a window, ticked by a loop as
the docks' timers do. `window`: the whole Workbench in a napari window. Each stroke is written with its time into a log
outside the project as soon as the layer has it.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from pathlib import Path

SHAPE = (8, 128, 128)
#: Places for strokes: cells of 4 x 4 pixels, a slice each in turn.
CELL = 4
ACROSS = SHAPE[1] // CELL
MOST = SHAPE[0] * ACROSS * ACROSS
NETWORK = {"kind": "unet", "features": (4, 8)}


def place(number: int) -> tuple[int, int, int, int]:
    """Slice, row and column of the first pixel of a stroke, and the value that it paints.

    When all places are used they are used again with the other value.
    """
    turn, here = divmod(number, MOST)
    cell, z = divmod(here, SHAPE[0])
    return z, CELL * (cell // ACROSS), CELL * (cell % ACROSS), 1 + (number + turn) % 2


class Calls:
    """Runs work in threads, and what follows in the loop's own thread, as the docks' `Background` does with Qt."""

    def __init__(self):
        self.waiting: queue.SimpleQueue = queue.SimpleQueue()

    def __call__(self, work, done, failed):
        def run():
            try:
                work()
            except Exception as error:  # noqa: BLE001 - handed on, as the docks do
                self.waiting.put(lambda error=error: failed(error))
            else:
                self.waiting.put(done)

        threading.Thread(target=run, daemon=True).start()

    def deliver(self):
        while not self.waiting.empty():
            self.waiting.get()()


class Painter:
    """Strokes, trainings, and the log of both."""

    def __init__(self, session, workspace, log: Path, number: int):
        self.session, self.workspace, self.number = session, workspace, number
        self.log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.engine, self.told, self.next_try = None, "", 0.0
        session.config = session.config.updated(
            network=NETWORK, patch={"size": (32, 32), "batch": 2}, budget={"steps": 150}
        )

    def note(self, *words):
        os.write(self.log, (" ".join(map(str, words)) + "\n").encode())

    def stroke(self):
        """A short drag of the brush, one step of the undo history."""
        z, y, x, value = place(self.number)
        labels = self.workspace.opened.labels
        labels.brush_size = 1
        with labels.block_history():
            for step in range(CELL - 1):
                labels.paint((z, y + step, x + step), value)
        self.note("stroke", self.number, time.time())
        self.number += 1

    def act(self):
        """One stroke, and Train whenever it can be pressed."""
        if self.workspace.opened is None or self.workspace.doing:
            return
        self.stroke()
        pid = self.session.engine.pid
        if self.session.engine.state == "ready" and pid != self.engine:
            self.engine = pid
            self.note("engine", pid, time.time())
        now = time.monotonic()
        if now > self.next_try and self.session.phase == "idle" and not self.session.train_problem():
            self.next_try = now + 0.5
            self.session.train()
        if self.session.phase != self.told:
            self.told = self.session.phase
            self.note("phase", self.told, time.time())


def lean(project: Path, log: Path, number: int) -> None:
    from napari.components import ViewerModel

    from napari_ctxseg.engine.client import EngineClient
    from napari_ctxseg.gui.project_training import ProjectTraining
    from napari_ctxseg.gui.session import Session
    from napari_ctxseg.gui.workspace import Workspace

    calls = Calls()
    session = Session(ViewerModel(), EngineClient(1), None, calls)
    session.engine.start()
    workspace = Workspace(session, calls)
    training = ProjectTraining(session, workspace, calls)
    painter = Painter(session, workspace, log, number)
    for each in (session.failed, workspace.failed):
        each.connect(lambda text: painter.note("failed", time.time(), repr(text)))
    workspace.open(project)
    while True:
        calls.deliver()
        for each in (workspace, session, training):
            each.tick()
        painter.act()
        time.sleep(0.03)


def window(project: Path, log: Path, number: int) -> None:
    import napari
    from qtpy.QtCore import QTimer

    from napari_ctxseg.engine.client import EngineClient
    from napari_ctxseg.gui.workbench import Workbench

    viewer = napari.Viewer()
    bench = Workbench(viewer, EngineClient(1))
    viewer.window.add_dock_widget(bench, name="Workbench")
    session, workspace = bench.train_dock.session, bench.project_dock.workspace
    painter = Painter(session, workspace, log, number)
    for each in (session.failed, workspace.failed):
        each.connect(lambda text: painter.note("failed", time.time(), repr(text)))
    workspace.open(project)
    timer = QTimer()
    timer.timeout.connect(painter.act)
    timer.start(60)
    napari.run()


if __name__ == "__main__":
    {"lean": lean, "window": window}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
