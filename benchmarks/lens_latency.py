"""How soon a stroke is seen in the Lens: `uv run python benchmarks/lens_latency.py [--save]`.

Strokes on a 512 x 512 slice of a stack, one after the other; each is timed from the brush to the canvas that has drawn the
weight map of the labels with that stroke in them. First beside idle engines, then beside a real training. Without a
display it starts itself under xvfb-run. The figures mean something only on a machine that does nothing else: see
`load_before`.
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
from gui_stall import pump

RESULTS = Path(__file__).parent / "results" / "lens_latency.json"
SHAPE = (8, 512, 512)
LIMITS = {"idle_p95_s": 0.15, "training_p95_s": 0.5, "callback_ms": 50.0}
LOSSES = {
    "dilated_balanced_ce": {"kind": "dilated_balanced_ce", "radius": 20, "unit": "px"},
    "contour_weighted_ce_dice": {"kind": "contour_weighted_ce_dice"},
    "context_ce": {"kind": "context_ce"},
}


def scene():
    """A noisy stack with two structures to paint."""
    rng = np.random.default_rng(0)
    _, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    far = np.hypot(y - 256, x - 256) + np.zeros(SHAPE)
    truth = np.where(far < 40, 1, np.where(far < 60, 2, 0)).astype(np.uint8)
    return (truth * 40 + rng.normal(100, 20, SHAPE)).astype(np.float32), truth


class Strokes:
    """Paints, and waits until the canvas shows the map of what was painted."""

    def __init__(self, viewer, labels, lens):
        self.viewer, self.labels, self.lens = viewer, labels, lens
        self.rng, self.drawn = np.random.default_rng(1), 0.0
        canvas = viewer.window._qt_viewer.canvas._scene_canvas
        canvas.events.draw.connect(self._on_draw, position="last")
        self.written, self._write, lens._draw = None, lens._draw, self._draw

    def _draw(self):
        """The lens's own writing of layers, with a look at the clock when the map is up to date."""
        self._write()
        if self.written is None and self.up_to_date():
            self.written = time.perf_counter()

    def _on_draw(self, _):
        self.drawn = time.perf_counter()

    def up_to_date(self):
        """Whether the weight layer was written from the labels as they are."""
        shown = self.lens.shown
        if shown is None or "weight" in self.lens._pending:
            return False
        index = self.viewer.dims.current_step[0]
        painted = np.asarray(self.labels.data[index])
        return shown.index == index and np.array_equal(np.clip(shown.target, 0, None), painted)

    def one(self):
        z = self.viewer.dims.current_step[0]
        y, x = self.rng.integers(150, 360, 2)
        value = int(self.rng.integers(1, 3))
        before = self.labels.data[z].copy()
        start, self.written = time.perf_counter(), None
        self.labels.paint((z, y, x), value)
        if np.array_equal(before, self.labels.data[z]):
            return None
        good = wait(lambda: self.written is not None and self.drawn > self.written)
        return (self.drawn if good else time.perf_counter()) - start

    def run(self, count):
        times = []
        while len(times) < count:
            took = self.one()
            if took is not None:
                times.append(took)
            pump(0.05)
        found = np.array(times)
        return {
            "p50_s": round(float(np.percentile(found, 50)), 3),
            "p95_s": round(float(np.percentile(found, 95)), 3),
            "max_s": round(float(found.max()), 3),
            "strokes": count,
        }


def wait(wish, seconds=10.0):
    """Let Qt work until the wish is fulfilled."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop, done, watch, end = QEventLoop(), [], QTimer(), QTimer()
    watch.timeout.connect(lambda: wish() and (done.append(1), loop.quit()))
    watch.start(5)
    end.setSingleShot(True)
    end.timeout.connect(loop.quit)
    end.start(int(1000 * seconds))
    loop.exec()
    watch.stop()
    return bool(done)


def measure(count):
    import napari

    from napari_ctxseg.config import parse_loss
    from napari_ctxseg.gui.timing import costs

    viewer = napari.Viewer()
    viewer.window.resize(1280, 800)
    image, truth = scene()
    viewer.add_image(image, name="scene")
    labels = viewer.add_labels(truth.copy(), name="labels")
    labels.brush_size = 20
    viewer.dims.set_current_step(0, 4)
    _, train = viewer.window.add_plugin_dock_widget("napari-ctxseg", "Train and predict")
    session = train.session
    session.runs = Path(tempfile.mkdtemp(prefix="lens-latency-"))
    assert pump(120, train.train_button.isEnabled), session.train_problem()
    opened = time.perf_counter()
    _, dock = viewer.window.add_plugin_dock_widget("napari-ctxseg", "Lens", tabify=True)
    assert pump(120, lambda: dock.lens.maps is not None), dock.lens.status
    result = {"open_to_first_map_s": round(time.perf_counter() - opened, 1)}
    strokes = Strokes(viewer, labels, dock.lens)

    def all_losses(count):
        found = {}
        for name, loss in LOSSES.items():
            dock.form.set_value(parse_loss(loss))
            pump(1)
            costs.clear()
            found[name] = strokes.run(count)
            ours = {key: spent for key, spent in costs.ours.items() if key.startswith("Lens")}
            found[name]["longest_callback_ms"] = round(1000 * max(ours.values()), 1)
        return found

    strokes.run(5)
    result["idle"] = all_losses(count)
    train.train_button.click()
    assert pump(120, lambda: len(session.history.loss) > 25), session.status
    result["training"] = all_losses(count)
    train.stop_button.click()
    assert pump(60, lambda: session.phase == "idle")
    viewer.close()
    shutil.rmtree(session.runs, ignore_errors=True)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strokes", type=int, default=40, help="strokes per loss and state")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS}")
    args = parser.parse_args()
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        command = ["xvfb-run", "-a", "-s", "-screen 0 1280x800x24", sys.executable, *sys.argv]
        os.execvp(command[0], command)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    result = measure(args.strokes)
    result |= {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "load_before": None if load is None else round(load, 1),
        "limits": LIMITS,
    }
    print(json.dumps(result, indent=2))
    if args.save:
        RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    rows = [(state, row) for state in ("idle", "training") for row in result[state].values()]
    good = all(row["p95_s"] <= LIMITS[f"{state}_p95_s"] for state, row in rows)
    good = good and all(row["longest_callback_ms"] <= LIMITS["callback_ms"] for _, row in rows)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
