"""The workbench while something is under way: layers that go, change names and places, and a window that is closed."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest

from napari_ctxseg.engine.client import EngineClient, EngineError
from napari_ctxseg.events import (
    JobDone,
    LossMaps,
    PredictionBlock,
    PredictionFinished,
    Preview,
    RunFinished,
    StepEnd,
)
from napari_ctxseg.gui import comparing
from napari_ctxseg.gui import layers as lay
from napari_ctxseg.gui.compare_dock import CompareDock
from napari_ctxseg.gui.review_data import Material
from napari_ctxseg.gui.workbench import TABS, Workbench
from napari_ctxseg.image import Image, plain_affine
from napari_ctxseg.project import Project, SliceMarks, lock_run

from .conftest import FakeEngine

pytestmark = pytest.mark.viewer

SHAPE = (6, 40, 50)
#: Milliseconds until a test is taken to hang.
HANGS = 60_000


@pytest.fixture(autouse=True)
def own_settings(tmp_path, monkeypatch):
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: tmp_path / "settings")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: tmp_path / "cache")


class Trainer(FakeEngine):
    """Refuses work once it is closed, as the real one does; `gate`, if set, holds up the data on their way to it."""

    gate = None

    def train(self, config, cases, out, *, resume=False):
        if self.gate is not None:
            self.gate.wait()
        if self.state == "dead":
            raise EngineError("engine", "is dead", "Wait until it is ready")
        super().train(config, cases, out, resume=resume)


class Lane(FakeEngine):
    """An engine of the lane `maps` that answers when it is told to."""

    pid, answers = 1, True

    def maps(self, request):
        self.state = "busy"
        self.asked.append(request)
        if self.answers:
            weight = np.ones(SHAPE[1:], np.float32)
            self.said += [LossMaps(len(self.asked), 0.01, far=1.0, weight=weight), JobDone()]
        return len(self.asked)


@pytest.fixture
def viewer(make_napari_viewer_proxy):
    return make_napari_viewer_proxy(show=True)


@pytest.fixture
def told(monkeypatch):
    """Errors that the person is told of."""
    found = []
    monkeypatch.setattr("napari.utils.notifications.show_error", found.append)
    return found


@pytest.fixture
def make_bench(viewer, tmp_path):
    made = []

    def make(engine, lane):
        bench = Workbench(viewer, engine, lane, tmp_path / "runs")
        viewer.window.add_dock_widget(bench, name="Workbench")
        made.append(bench)
        return bench

    yield make
    for bench in made:
        bench.shut_down()
        bench.deleteLater()  # out of its dock nobody else does, and without a screen that would crash


@pytest.fixture
def path(tmp_path):
    folder = tmp_path / "heart.ctxseg"
    labels = np.zeros(SHAPE, np.uint8)
    labels[1, 5:15, 5:15] = 1
    with Project.create(folder, classes={"LV": 1}) as made:
        for number in range(3):
            array = np.random.default_rng(number).normal(size=SHAPE).astype(np.float32)
            image = Image(array, "zyx", (8.0, 1.5, 1.5), plain_affine((8.0, 1.5, 1.5)), unit="mm")
            made.add_array(image, f"p{number}")
            made.labels(f"p{number}").save(labels, [1], SliceMarks.of({0: [1]}))
    return folder


def stored(path, name="p0"):
    with Project.open(path, read_only=True) as found:
        return found.labels(name).read()


def opened(bench, qtbot, path):
    bench.project_dock.open_path(path)
    workspace, session = bench.project_dock.workspace, bench.train_dock.session
    qtbot.waitUntil(lambda: workspace.opened is not None and workspace.saving[0] == "saved", timeout=HANGS)
    qtbot.waitUntil(lambda: session.train_problem() == "", timeout=HANGS)
    return workspace


def tab(bench, qtbot, title):
    index = [each.title for each in TABS].index(title)
    bench.tabs.setCurrentIndex(index)
    qtbot.waitUntil(lambda: index in bench._made, timeout=HANGS)
    return bench._made[index]


def train(bench, qtbot, path):
    opened(bench, qtbot, path)
    session = bench.train_dock.session
    session.train()
    qtbot.waitUntil(lambda: session.phase == "training", timeout=HANGS)
    return session


def say(bench, qtbot, *events):
    engine = bench.train_dock.session.engine
    engine.said += events
    qtbot.waitUntil(lambda: not engine.said, timeout=HANGS)


def finish_training(bench, qtbot):
    """The engine ends its training; the workbench then has all images predicted, the open one first."""
    session = bench.train_dock.session
    run = session._job.out
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("{}")
    (run / "model.safetensors").write_bytes(b"weights")
    (run / "events.jsonl").write_text(json.dumps({"type": "RunFinished", "best_step": 1}) + "\n")
    say(bench, qtbot, RunFinished(run.name, 1, 1, False, 1, None, 0, 1.0), JobDone())
    qtbot.waitUntil(lambda: session.phase == "predicting", timeout=HANGS)


def refined_block(case):
    """What a CR-GAN predicts of half a volume."""
    maps = np.random.default_rng(0).random((3, 2, 3, *SHAPE[1:])).astype(np.float16)
    return PredictionBlock(case, 0, np.ones((3, *SHAPE[1:]), np.uint8), 0.5, *maps, (0.5, 0.5))


# ---------------------------------------------------------------- layers


@pytest.mark.parametrize(
    "name", ["p0", "p0 labels", "p0 prediction", "p0 FN", "p0 FP", "p0 uncertainty", "Lens: weight"]
)
def test_layers_renamed_moved_and_deleted_during_training(make_bench, viewer, qtbot, path, told, name):
    bench = make_bench(Trainer(), Lane())
    workspace = opened(bench, qtbot, path)
    session, labels = bench.train_dock.session, workspace.opened.labels
    tab(bench, qtbot, "Lens")
    tab(bench, qtbot, "Review")
    tab(bench, qtbot, "Lens")
    qtbot.waitUntil(lambda: "Lens: weight" in viewer.layers, timeout=HANGS)
    shot = bench.project_dock.training.shot()
    session.show_block(shot, refined_block("p0"), (1,))
    session.uncertain.show(shot, 0, np.full(SHAPE, 0.5, np.float16), SHAPE[0], session.prediction)
    target = lay.plain(viewer.layers[name])
    session.train()
    qtbot.waitUntil(lambda: session.phase == "training", timeout=HANGS)

    def go_on(step):
        labels.paint((2, 5 * step, 20), 1)
        plane = np.full(SHAPE[1:], step % 2, np.uint8)
        say(bench, qtbot, StepEnd(step, 9, 0.5, 1e-3, 0.1), Preview(step, "p0", 2, plane))
        qtbot.wait(60)  # a few ticks of every dock

    viewer.dims.set_current_step(0, 2)
    go_on(1)
    target.name = "anything"
    go_on(2)
    order = list(map(lay.plain, viewer.layers))
    if target in order:  # the masks of errors are gone by now: a preview has none
        viewer.layers.move(order.index(target), 0)
        viewer.layers.move(0, len(order))
        go_on(3)
    if target in map(lay.plain, viewer.layers):
        viewer.layers.remove(target)
    if target is not labels:
        go_on(4)
    painted = labels.data.copy()
    qtbot.waitUntil(lambda: np.array_equal(stored(path), painted), timeout=HANGS)
    finish_training(bench, qtbot)
    while session.phase != "idle":
        case = session.engine.asked[-1][2].name
        block = (
            refined_block(case) if case == "p0" else PredictionBlock(case, 0, np.zeros(SHAPE, np.uint8), 1.0)
        )
        asked = len(session.engine.asked)
        say(bench, qtbot, block, PredictionFinished(case, 0.1), JobDone())
        qtbot.waitUntil(
            lambda asked=asked: session.phase == "idle" or len(session.engine.asked) > asked, timeout=HANGS
        )
        qtbot.waitUntil(lambda: session.phase in ("idle", "predicting"), timeout=HANGS)
    assert told == []
    assert len(bench.project_dock.training.rounds) == 1 or name == "p0 labels"
    bench.shut_down()
    np.testing.assert_array_equal(stored(path), painted)
    with Project.open(path) as free:
        assert not free.read_only


# ---------------------------------------------------------------- closing


def asked_for_training(bench, qtbot, path, gate, monkeypatch):
    opened(bench, qtbot, path)
    bench.train_dock.session.engine.gate = gate
    bench.train_dock.session.train()
    assert bench.train_dock.session.phase == "preparing"


def training(bench, qtbot, path, gate, monkeypatch):
    train(bench, qtbot, path)
    say(bench, qtbot, StepEnd(1, 9, 0.5, 1e-3, 0.1), Preview(1, "p0", 2, np.ones(SHAPE[1:], np.uint8)))


def predicting_again(bench, qtbot, path, gate, monkeypatch):
    session = train(bench, qtbot, path)
    finish_training(bench, qtbot)
    say(bench, qtbot, PredictionBlock("p0", 0, np.ones(SHAPE, np.uint8), 1.0))
    say(bench, qtbot, PredictionFinished("p0", 0.1), JobDone())
    qtbot.waitUntil(lambda: session.engine.asked[-1][0] == "predict", timeout=HANGS)
    qtbot.waitUntil(lambda: session.phase == "predicting", timeout=HANGS)
    say(bench, qtbot, PredictionBlock("p1", 0, np.ones((3, *SHAPE[1:]), np.uint8), 0.5))


def searching(bench, qtbot, path, gate, monkeypatch):
    before, begun = Material.examine, threading.Event()

    def examine(self, index, limits):
        begun.set()
        gate.wait()
        return before(self, index, limits)

    monkeypatch.setattr(Material, "examine", examine)
    opened(bench, qtbot, path)
    shot = bench.project_dock.training.shot()
    bench.train_dock.session.show_slices(shot, 0, np.ones(SHAPE, np.uint8))
    dock = tab(bench, qtbot, "Review")
    qtbot.waitUntil(begun.is_set, timeout=HANGS)
    assert dock.review.busy


def looking(bench, qtbot, path, gate, monkeypatch):
    opened(bench, qtbot, path)
    lane = bench.lens_engine
    lane.answers = False
    tab(bench, qtbot, "Lens")
    qtbot.waitUntil(lambda: bool(lane.asked), timeout=HANGS)


def comparison(bench, qtbot, path, gate, monkeypatch):
    before, begun = comparing.write_cases, threading.Event()

    def write_cases(*args, **options):
        begun.set()
        gate.wait()
        before(*args, **options)

    monkeypatch.setattr(comparing, "write_cases", write_cases)
    opened(bench, qtbot, path)
    dock = tab(bench, qtbot, "Compare")
    assert isinstance(dock, CompareDock)
    dock.comparing._make_engine = lambda: pytest.fail("an engine after the window is closed")
    qtbot.waitUntil(lambda: len(dock.plan.offer.images) == 3, timeout=HANGS)
    for loss in ("dice_ce", "ce"):
        dock.plan.variants.put(loss, {"loss": loss})
    dock.begin()
    qtbot.waitUntil(begun.is_set, timeout=HANGS)
    assert dock.comparing.phase == "preparing"


@pytest.mark.parametrize(
    "reach",
    [asked_for_training, training, predicting_again, searching, looking, comparison],
    ids=lambda reach: reach.__name__,
)
def test_closed_in_the_middle(make_bench, viewer, qtbot, path, told, monkeypatch, reach):
    gate = threading.Event()
    bench = make_bench(Trainer(), Lane())
    try:
        reach(bench, qtbot, path, gate, monkeypatch)
        workspace, session = bench.project_dock.workspace, bench.train_dock.session
        viewer.dims.set_current_step(0, 3)
        workspace.opened.labels.paint((3, 20, 20), 1)
        painted, job = workspace.opened.labels.data.copy(), session._job
        viewer.window.remove_dock_widget(bench.parent())
        assert session.closed
        assert session.engine.state == "dead"
        if reach is looking:
            assert bench.lens_engine.state == "dead"
    finally:
        gate.set()  # what goes on in the background ends when the window has gone
    waiting = [dock._background for dock in bench._made.values() if hasattr(dock, "_background")]
    waiting += [session._background, workspace._background]
    qtbot.waitUntil(lambda: not any(each._waiting for each in waiting), timeout=HANGS)
    assert told == []
    np.testing.assert_array_equal(stored(path), painted)
    with Project.open(path) as free:
        assert not free.read_only
    if job is not None and job.out is not None:
        lock_run(job.out).release()
    assert not [layer for layer in viewer.layers if lay.is_lens(layer)]


def test_closed_while_the_engines_start(make_bench, viewer, qtbot, path):
    engine, lane = EngineClient(1), EngineClient(1, lane="maps")
    bench = make_bench(engine, lane)
    workspace = bench.project_dock.workspace
    bench.project_dock.open_path(path)
    tab(bench, qtbot, "Lens")
    qtbot.waitUntil(lambda: workspace.opened is not None, timeout=HANGS)
    assert engine.state == lane.state == "starting"
    processes = [engine._process, lane._process]
    workspace.opened.labels.paint((3, 20, 20), 1)
    painted = workspace.opened.labels.data.copy()
    viewer.window.remove_dock_widget(bench.parent())
    assert [process.wait(60) is not None for process in processes] == [True, True], "no engine is left"
    np.testing.assert_array_equal(stored(path), painted)
    Project.open(path).close()
