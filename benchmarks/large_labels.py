"""Labels of 1 GiB in the Workbench: how long the GUI thread is away, and how much memory it takes.

    uv run python benchmarks/large_labels.py [--save]

A 10 ms timer notes the gaps between its calls (as `gui_stall.py` does; Python's garbage collector is timed beside it)
while a script makes 100 strokes in random slices of a project's image of 256 x 2048 x 2048, one byte a voxel, with the
Review open; then *Copy all* of a prediction of 1.1 million pixels, undo and redo. The same strokes in napari without the
plugin are measured first, in a process of its own.
Without a display it starts itself under xvfb-run.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from gui_stall import pump

RESULTS = Path(__file__).parent / "results" / "large_labels.json"
SHAPE = (256, 2048, 2048)
STROKES = 100
PAUSE_S = 0.25


class Gaps:
    """A 10 ms timer of the GUI thread."""

    def __init__(self):
        from qtpy.QtCore import QTimer

        self.found, self.last, self.began, self.collected = [], None, None, []
        self.timer = QTimer()
        self.timer.setTimerType(self.timer.timerType().PreciseTimer)
        self.timer.setInterval(10)
        self.timer.timeout.connect(self.tick)

    def tick(self):
        now = time.perf_counter()
        if self.last is not None:
            self.found.append(now - self.last)
        self.last = now

    def during(self, action):
        self.found, self.last, self.collected = [], None, []
        self.timer.start()
        gc.callbacks.append(self.collecting)
        pump(0.2)
        action()
        pump(0.5)
        gc.callbacks.remove(self.collecting)
        self.timer.stop()
        gaps = 1000 * np.array(self.found)
        p50, p95 = (round(float(np.percentile(gaps, q)), 1) for q in (50, 95))
        return {
            "p50_ms": p50,
            "p95_ms": p95,
            "max_ms": round(float(gaps.max()), 1),
            "ticks": len(gaps),
            # Python's garbage collector stops whatever callback is running: it is told apart from our own work.
            "collector_max_ms": round(1000 * max(self.collected, default=0.0), 1),
        }

    def collecting(self, phase, info):
        if threading.current_thread() is not threading.main_thread():
            return
        if phase == "start":
            self.began = time.thread_time()
        elif self.began is not None:
            self.collected.append(time.thread_time() - self.began)


def memory():
    """Resident memory now and at its peak, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"now_mib": round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20), "peak_mib": round(peak / 1024)}


def strokes(viewer, labels, times):
    """Short drags in random slices, each as one step of the history; seconds of each call into `times`."""
    rng = np.random.default_rng(1)
    labels.brush_size = 20

    def paint():
        for _ in range(STROKES):
            z, y, x = int(rng.integers(SHAPE[0])), *(int(n) for n in rng.integers(200, 1800, 2))
            viewer.dims.set_current_step(0, z)
            pump(PAUSE_S / 2)
            began = time.perf_counter()
            with labels.block_history():
                for step in range(8):
                    labels.paint((z, y + 3 * step, x + 2 * step), 1)
            times.append(time.perf_counter() - began)
            pump(PAUSE_S / 2)

    return paint


def image():
    """Cheap to hold: one slice repeated without a copy."""
    plane = np.random.default_rng(0).integers(0, 255, SHAPE[1:], np.uint8)
    return np.broadcast_to(plane, SHAPE)


def alone():
    """napari without the plugin."""
    import napari

    viewer = napari.Viewer()
    viewer.window.resize(1280, 800)
    viewer.add_image(image(), name="large", contrast_limits=(0, 255))
    labels = viewer.add_labels(np.zeros(SHAPE, np.uint8), name="labels")
    gaps, times = Gaps(), []
    pump(2)
    before = memory()
    found = gaps.during(strokes(viewer, labels, times))
    result = {"strokes": found, "memory_before": before, "memory": memory()}
    result["stroke_p95_ms"] = round(1000 * float(np.percentile(times, 95)), 1)
    viewer.close()
    pump(0.3)
    return result


def ours():
    """The Workbench, a project, the Review, strokes, and Copy all."""
    import napari

    from napari_ctxseg.gui.timing import costs
    from napari_ctxseg.gui.workbench import Workbench

    folder = Path(tempfile.mkdtemp(prefix="large-labels-"))
    os.environ["XDG_CACHE_HOME"] = str(folder)
    viewer = napari.Viewer()
    viewer.window.resize(1280, 800)
    layer = viewer.add_image(image(), name="large", contrast_limits=(0, 255))
    bench = Workbench(viewer)
    viewer.window.add_dock_widget(bench, name="Workbench")
    session, workspace = bench.train_dock.session, bench.project_dock.workspace
    assert pump(120, lambda: session.engine.state == "ready" and bench.train_dock.layer_panel.new.isEnabled())
    session.choose([layer], None)
    session.new_labels()  # an unnamed project begins by itself
    assert pump(300, lambda: workspace.opened is not None and workspace.saving[0] == "saved"), (
        workspace.saving
    )
    bench.tabs.setCurrentIndex(3)
    review, gaps, times = bench._made[3].review, Gaps(), []
    pump(3)
    costs.clear()
    before = memory()
    result = {"strokes": gaps.during(strokes(viewer, session.labels, times)), "memory_before": before}
    result["memory"] = memory()
    result["stroke_p95_ms"] = round(1000 * float(np.percentile(times, 95)), 1)
    result["callbacks_ms"] = worst(costs)
    prediction = np.zeros(SHAPE, np.uint8)
    prediction[40:200, 600:683, 700:783] = 1  # 1.1 million pixels
    other = viewer.add_labels(prediction, name="prediction")
    review.follow(review.choices, other)
    assert pump(120, lambda: not review.busy)
    viewer.dims.set_current_step(0, 100)
    pump(1)
    for name, action in (
        ("copy_all", lambda: review.copy_prediction(everywhere=True)),
        ("undo", session.labels.undo),
        ("redo", session.labels.redo),
    ):
        costs.clear()
        result[name] = gaps.during(lambda action=action: (action(), pump(5))) | {"callbacks_ms": worst(costs)}
    result["memory_after_copy"] = memory()
    result["copied"] = int(np.count_nonzero(session.labels.data[40:200, 600:683, 700:783]))
    viewer.close()
    pump(1)
    shutil.rmtree(folder, ignore_errors=True)
    return result


def worst(costs):
    """The five longest callbacks of ours."""
    found = sorted(costs.ours.items(), key=lambda item: -item[1])[:5]
    return {name: round(1000 * spent, 1) for name, spent in found}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS}")
    parser.add_argument("--part", choices=["alone", "ours"], help="for the script's own processes")
    args = parser.parse_args()
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        os.execvp("xvfb-run", ["xvfb-run", "-a", "-s", "-screen 0 1280x800x24", sys.executable, *sys.argv])
    if args.part:
        print(json.dumps({"alone": alone, "ours": ours}[args.part]()))
        return
    result = {"machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}"}
    result["load_before"] = round(os.getloadavg()[0], 1)
    for part in ("alone", "ours"):
        command = [sys.executable, __file__, "--part", part]
        output = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout
        result[part] = json.loads(output.splitlines()[-1])
    print(json.dumps(result, indent=1))
    if args.save:
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
