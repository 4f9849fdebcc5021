"""How long the GUI thread is away while a training runs: `uv run python benchmarks/gui_stall.py [--save]`.

A 10 ms timer on the GUI thread notes the gaps between its calls while a script paints and scrubs, beside a real
training; then Stop is pressed, and the same is measured beside the idle engine. Without a display it starts itself
under xvfb-run. The figures mean something only on a machine that does nothing else: see `load_before`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results" / "gui_stall.json"
SHAPE = (64, 512, 512)
LIMITS = {"p95_ms": 50.0, "max_ms": 400.0, "stop_s": 2.0}


def phantom():
    """A noisy volume with a ball to paint."""
    rng = np.random.default_rng(0)
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    ball = ((z - 32) / 24) ** 2 + ((y - 256) / 90) ** 2 + ((x - 256) / 90) ** 2 < 1
    return (ball * 60 + rng.normal(100, 20, SHAPE)).astype(np.float32), ball


class Probe:
    """Notes the gaps of a 10 ms timer while another timer paints and scrubs."""

    def __init__(self, viewer, labels):
        from qtpy.QtCore import QTimer

        self.viewer, self.labels, self.rng = viewer, labels, np.random.default_rng(1)
        self.gaps, self.last, self.turn = [], None, 0
        self.clock, self.script = QTimer(), QTimer()
        self.clock.setTimerType(self.clock.timerType().PreciseTimer)
        self.clock.setInterval(10)
        self.clock.timeout.connect(self.tick)
        self.script.setInterval(60)
        self.script.timeout.connect(self.act)

    def tick(self):
        now = time.perf_counter()
        if self.last is not None:
            self.gaps.append(now - self.last)
        self.last = now

    def act(self):
        self.turn += 1
        if self.turn % 4 == 0:
            self.viewer.dims.set_current_step(0, (self.turn // 4) % SHAPE[0])
        else:
            z = self.viewer.dims.current_step[0]
            y, x = self.rng.integers(200, 312, 2)
            self.labels.paint((z, y, x), 1)

    def run(self, seconds):
        self.gaps, self.last = [], None
        self.clock.start()
        self.script.start()
        pump(seconds)
        self.script.stop()
        self.clock.stop()
        gaps = 1000 * np.array(self.gaps)
        return {
            "p50_ms": round(float(np.percentile(gaps, 50)), 1),
            "p95_ms": round(float(np.percentile(gaps, 95)), 1),
            "p99_ms": round(float(np.percentile(gaps, 99)), 1),
            "max_ms": round(float(gaps.max()), 1),
            "ticks": len(gaps),
        }


def pump(seconds, until=None):
    """Let Qt work, as its own loop does, until the time or the wish is fulfilled."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop, done = QEventLoop(), []
    watch, end = QTimer(), QTimer()
    watch.timeout.connect(lambda: until is not None and until() and (done.append(1), loop.quit()))
    watch.start(20)
    end.setSingleShot(True)
    end.timeout.connect(loop.quit)
    end.start(int(1000 * seconds))
    loop.exec()
    watch.stop()
    return bool(done)


def measure(seconds):
    import napari

    from napari_ctxseg.gui.timing import costs

    viewer = napari.Viewer()
    viewer.window.resize(1280, 800)
    image, ball = phantom()
    viewer.add_image(image, name="phantom")
    _, dock = viewer.window.add_plugin_dock_widget("napari-ctxseg", "Train and predict")
    session = dock.session
    session.runs = Path(tempfile.mkdtemp(prefix="gui-stall-"))
    assert pump(60, dock.layer_panel.new.isEnabled)
    dock.layer_panel.new.click()
    labels = session.labels
    for z in (20, 32, 44):
        labels.data_setitem(tuple(np.nonzero(ball & (np.arange(SHAPE[0]) == z)[:, None, None])), 1)
    labels.brush_size = 20
    viewer.dims.set_current_step(0, 32)
    assert pump(120, dock.train_button.isEnabled), session.train_problem()
    probe = Probe(viewer, labels)
    probe.run(3)  # shaders, caches
    result = {}
    dock.train_button.click()
    assert pump(120, lambda: len(session.history.loss) > 25), session.status
    costs.clear()
    before = session.history.loss[-1][0], time.perf_counter()
    result["training"] = probe.run(seconds)
    steps, elapsed = session.history.loss[-1][0] - before[0], time.perf_counter() - before[1]
    result["training"]["steps_per_s"] = round(steps / elapsed, 2)
    result["callbacks_ms"] = {name: round(1000 * spent, 1) for name, spent in sorted(costs.ours.items())}
    pressed = time.perf_counter()
    dock.stop_button.click()
    assert pump(60, lambda: session.phase == "idle")
    result["stop_s"] = round(time.perf_counter() - pressed, 2)
    result["idle"] = probe.run(seconds)  # now, with the same layers on screen
    viewer.close()
    shutil.rmtree(session.runs, ignore_errors=True)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30, help="length of each measurement")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS}")
    args = parser.parse_args()
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        command = ["xvfb-run", "-a", "-s", "-screen 0 1280x800x24", sys.executable, *sys.argv]
        os.execvp(command[0], command)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    result = measure(args.seconds)
    result |= {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "load_before": None if load is None else round(load, 1),
        "limits": LIMITS,
        "seconds": args.seconds,
    }
    print(json.dumps(result, indent=2))
    if args.save:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    good = (
        result["training"]["p95_ms"] <= LIMITS["p95_ms"] and result["training"]["max_ms"] <= LIMITS["max_ms"]
    )
    sys.exit(0 if good and result["stop_s"] <= LIMITS["stop_s"] else 1)


if __name__ == "__main__":
    main()
