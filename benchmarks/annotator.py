"""A scripted person annotates in a real viewer: Dice on test patients against strokes and seconds.

    uv run python benchmarks/annotator.py run [--sets chase_db1 ...] [--seeds 0 1 2]
    uv run python benchmarks/annotator.py first --save
    uv run python benchmarks/annotator.py figure

`run` plays cells (set, strategy, seed), each in a process of its own; cells that are in ``results/annotator.json`` are
skipped, and each is appended as soon as it ends. `suggested` takes the next slice from the Review's key G, `random` draws
it. The first two slices are drawn, the same for both. After each round of labelling the person presses Train and waits
until the pool is predicted. The test images are never in the project: they are predicted beside it, off the clock.

`first` measures from the click on Train to the first better picture of the slice in sight.

Without a display the script starts itself under xvfb-run. The person is described in `annotator_person.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from annotator_data import SETS, load
from annotator_person import SECONDS, Effort, dice, label_slice, worth_mending
from gui_stall import pump

RESULTS = Path(__file__).parent / "results" / "annotator.json"
FIRST = Path(__file__).parent / "results" / "first_improvement.json"
STRATEGIES = ("suggested", "random")
ROUNDS, EACH = 5, 2
STEPS = 120
NETWORK = {"kind": "unet", "features": (16, 32, 64)}
PATCH = {"size": (128, 128), "batch": 4}
#: Seconds that anything may take before the script gives up.
HANG = 900


class Desk:
    """The Workbench with a project of one stack of slices to label."""

    def __init__(self, pool, *, defaults=False, threads=1):
        import napari

        from napari_ctxseg.engine.client import EngineClient
        from napari_ctxseg.gui.workbench import Workbench
        from napari_ctxseg.project import Project

        self.pool = pool
        self.folder = Path(tempfile.mkdtemp(prefix="annotator-"))
        with Project.create(self.folder / "study.ctxseg", classes={"structure": 1}) as project:
            project.add_array(as_image(pool.images), "pool")
        self.viewer = napari.Viewer()
        self.viewer.window.resize(1280, 800)
        self.bench = Workbench(self.viewer, EngineClient(threads))
        self.viewer.window.add_dock_widget(self.bench, name="Workbench")
        self.session, self.workspace = self.bench.train_dock.session, self.bench.project_dock.workspace
        self.training = self.bench.project_dock.training
        self.session.failed.connect(self._failed)
        self.session.told.connect(self._told)
        self.problems, self.blocks, self.finished, self.trained = [], {}, set(), 0.0
        wait(lambda: self.session.engine.state == "ready", "the engine")
        self.workspace.open(self.folder / "study.ctxseg", "pool")
        wait(lambda: self.workspace.opened is not None and not self.workspace.doing, "the project")
        if not defaults:
            self.session.config = self.session.config.updated(
                network=NETWORK, patch=PATCH, budget={"steps": STEPS}
            )
        self.bench.tabs.setCurrentIndex(3)  # the Review asks for uncertainty, and gives the key G
        self.review_dock = self.bench._made[3]
        wait(lambda: self.session.options.uncertainty == "entropy", "the Review")

    def _failed(self, text):
        self.problems.append(text)

    def _told(self, event):
        match type(event).__name__:
            case "PredictionBlock":
                self.blocks.setdefault(event.case, []).append((event.start, event.labels))
            case "PredictionFinished":
                self.finished.add(event.case)
            case "RunFinished":
                self.trained = time.perf_counter()

    @property
    def labels(self):
        return self.workspace.opened.labels

    def go(self, index):
        self.viewer.dims.set_current_step(0, index)

    def train(self):
        """Press Train and wait for the model and for the pool's prediction; seconds of either."""
        wait(lambda: not self.session.train_problem() and self.workspace.saving[0] == "saved", "Train")
        self.finished.clear()
        began = time.perf_counter()
        self.bench.train_dock.train_button.setEnabled(True)
        self.bench.train_dock.train_button.click()
        wait(lambda: "pool" in self.finished or self.problems, "the training")
        assert not self.problems, self.problems
        wait(lambda: self.session.phase == "idle" and not self.training._queue, "the prediction")
        return self.trained - began, time.perf_counter() - self.trained

    def suggestion(self):
        """The slice that the key G goes to."""
        review = self.review_dock.review
        review.status = ""
        review.next_slice()
        wait(lambda: review.status.startswith("Slice "), "a suggestion")
        return self.viewer.dims.current_step[0]

    def predicted(self, index):
        """What the screen shows as prediction of a slice."""
        return np.asarray(self.session.prediction.data[index])

    def copy_slice(self):
        """The Review's *Copy slice*."""
        review = self.review_dock.review
        review.status = ""
        review.copy_prediction()
        wait(lambda: bool(review.status), "the copy")

    def predict(self, images):
        """Of a stack that is not in the project."""
        from napari_ctxseg.cases import Case

        self.blocks.pop("test", None)
        self.finished.clear()
        self.session.predict_case(lambda: Case("test", as_image(images)), None, 0)
        wait(lambda: "test" in self.finished and self.session.phase == "idle", "the test images")
        found = np.zeros(images.shape, np.uint8)
        for start, part in self.blocks.pop("test"):
            found[start : start + len(part)] = part
        return found

    def close(self):
        self.viewer.close()
        pump(0.5)
        shutil.rmtree(self.folder, ignore_errors=True)


def as_image(stack):
    from napari_ctxseg.image import Image, plain_affine

    spacing = (10.0, 1.0, 1.0)
    return Image(stack, "zyx", spacing, plain_affine(spacing), unit="mm")


def wait(wish, what):
    assert pump(HANG, wish), f"gave up waiting for {what}"


def score(found, truth, groups):
    """Mean over the slices of each group, then over groups."""
    each = {}
    for group, one, reference in zip(groups, found, truth, strict=True):
        value = dice(one > 0, reference > 0)
        if value is not None:
            each.setdefault(group, []).append(value)
    return float(np.mean([np.mean(values) for values in each.values()]))


def play(name, strategy, seed):
    """One cell."""
    pool, test = load(name)
    rng, effort, rows = np.random.default_rng(seed), Effort(), []
    start = [int(i) for i in rng.choice(with_something(pool), EACH, replace=False)]
    desk, waited, labelled = Desk(pool), 0.0, []
    marks = desk.session.marks
    for number in range(ROUNDS):
        strokes, copied = effort.strokes, 0
        for turn in range(EACH):
            if number == 0:
                index = start[turn]
            elif strategy == "suggested":
                index = desk.suggestion()
            else:
                index = int(rng.choice(sorted(set(range(len(pool.images))) - set(labelled))))
            labelled.append(index)
            desk.go(index)
            effort.turn()
            if number and worth_mending(desk.predicted(index), pool.truth[index]):
                copied += 1
                desk.copy_slice()
            label_slice(desk.labels, index, pool.truth[index], effort)
            if not marks.has(0, index):
                desk.review_dock.review.use_slice()
        train_s, predict_s = desk.train()
        waited += train_s + predict_s
        value = score(desk.predict(test.images), test.truth, test.groups)
        rows.append(
            {
                "round": number + 1,
                "slices": len(labelled),
                "strokes": effort.strokes,
                "round_strokes": effort.strokes - strokes,
                "copied": copied,
                "person_s": round(effort.seconds, 1),
                "train_s": round(train_s, 1),
                "predict_s": round(predict_s, 1),
                "seconds": round(effort.seconds + waited, 1),
                "dice": round(value, 4),
            }
        )
        print(json.dumps({"set": name, "strategy": strategy, "seed": seed} | rows[-1]), flush=True)
    desk.close()
    return {"set": name, "strategy": strategy, "seed": seed, "rounds": rows, "labelled": labelled}


def with_something(pool):
    """Slices to begin with: a person begins where there is something to draw."""
    return [i for i, one in enumerate(pool.truth) if one.sum() >= 50]


def stored():
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {"cells": []}


def run(args):
    """Cells that are not there yet, one after the other."""
    for seed in args.seeds:
        for name in args.sets:
            for strategy in STRATEGIES:
                key = (name, strategy, seed)
                if key in {(c["set"], c["strategy"], c["seed"]) for c in stored()["cells"]}:
                    continue
                began = time.perf_counter()
                with tempfile.TemporaryDirectory() as temp:
                    out = Path(temp) / "cell.json"
                    words = ["cell", name, strategy, str(seed), str(out)]
                    subprocess.run([sys.executable, __file__, *words], check=True)
                    cell = json.loads(out.read_text())
                cell |= {
                    "wall_s": round(time.perf_counter() - began, 1),
                    "load": round(os.getloadavg()[0], 1),
                }
                table = stored() | {
                    "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
                    "person": SECONDS,
                    "settings": {"rounds": ROUNDS, "slices_each": EACH, "steps": STEPS, "network": NETWORK}
                    | {"patch": PATCH, "threads": 1},
                }
                table["cells"].append(cell)
                RESULTS.write_text(json.dumps(table, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    cells = commands.add_parser("run")
    cells.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    cells.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    cell = commands.add_parser("cell", help="one cell, into a file")
    cell.add_argument("set", choices=list(SETS))
    cell.add_argument("strategy", choices=STRATEGIES)
    cell.add_argument("seed", type=int)
    cell.add_argument("out", type=Path)
    first = commands.add_parser("first")
    first.add_argument("--times", type=int, default=5)
    first.add_argument("--threads", type=int, default=1, help="of the engine; the dock's default is 1")
    first.add_argument("--save", action="store_true")
    commands.add_parser("figure", help="docs/images/annotator.png and the table of docs/annotator.md")
    args = parser.parse_args()
    if args.command == "figure":
        from annotator_figure import draw

        draw(stored())
        return
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        command = ["xvfb-run", "-a", "-s", "-screen 0 1280x800x24", sys.executable, *sys.argv]
        os.execvp(command[0], command)
    if args.command == "run":
        run(args)
    elif args.command == "cell":
        args.out.write_text(json.dumps(play(args.set, args.strategy, args.seed)))
    else:
        from annotator_first import measure

        result = measure(args.times, args.threads)
        print(json.dumps(result, indent=1))
        if args.save:
            FIRST.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
