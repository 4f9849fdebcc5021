"""The meter: what it says of painted labels, and that it does not disturb painting."""

from __future__ import annotations

import numpy as np
import pytest

from napari_ctxseg.config import BalancedCE, ContextCE, DilatedBalancedCE, DynamicRoi, UNetConfig
from napari_ctxseg.gui import layers as lay
from napari_ctxseg.gui.annotation import Marks
from napari_ctxseg.gui.choices import ClassRow
from napari_ctxseg.gui.meter import PAUSE, Meter, labelled_sample, unbroken
from napari_ctxseg.gui.session import run_now
from napari_ctxseg.gui.timing import costs
from napari_ctxseg.gui.train_dock import TrainDock

from .conftest import FakeEngine

# ---------------------------------------------------------------- without a window


def settle(session, meter, now=0.0):
    """What the dock's timer does, long enough for the labels to have rested."""
    session.tick()
    meter.tick(now)
    meter.tick(now + PAUSE)


@pytest.fixture
def meter(session):
    return Meter(session, run_now)


def test_it_says_what_is_missing(session, meter, viewer_model):
    settle(session, meter)
    assert "Choose a labels layer" in meter.text
    session.new_labels()
    settle(session, meter)
    assert meter.text.startswith("Paint in")
    session.labels.data[:] = 1
    session.labels.data = session.labels.data
    settle(session, meter)
    assert "label background too" in meter.text
    assert meter.suggestions == []
    viewer_model.layers.remove(session.labels)
    session.forget_missing_layers()
    settle(session, meter)
    assert "Choose a labels layer" in meter.text


def test_it_waits_for_a_rest_and_looks_once(session, meter):
    layer, told = session.new_labels(), []
    meter.changed.connect(lambda: told.append(meter.text))
    layer.brush_size = 3
    layer.paint((2, 8, 8), 1)
    session.tick()
    meter.tick(0.0)
    meter.tick(PAUSE / 2)
    layer.paint((2, 9, 9), 1)
    meter.tick(0.6 * PAUSE)
    meter.tick(1.1 * PAUSE)
    assert told == []
    meter.tick(1.7 * PAUSE)
    assert told == [meter.text]
    assert meter.text.startswith("1 of 6 slices labelled, class 1 ")
    meter.tick(9.0)
    assert len(told) == 1
    layer.undo()
    assert layer.data.sum() < 18
    meter.tick(10.0)
    meter.tick(10.0 + PAUSE)
    assert len(told) == 2, "undo is a change too"


def test_classes_policy_and_dims_change_the_numbers(session, meter):
    layer = session.new_labels()
    layer.data[1, 4:8, 4:8], layer.data[4, 5:9, 5:9] = 1, 2
    layer.data = layer.data
    session.set_classes([ClassRow("a", 1), ClassRow("b", 2)])
    settle(session, meter)
    assert [one.name for one in meter.found.foreground] == ["a", "b"]
    assert (meter.found.slices, meter.found.slices_labelled, meter.found.dims) == (6, 2, 2)
    session.config = session.config.updated(network=UNetConfig(dims=3).model_dump())
    settle(session, meter, 10)
    assert (meter.found.slices, meter.found.slices_labelled, meter.found.dims) == (6, 2, 3)
    assert meter.found.unlabelled == 0
    session.policy, session.background_value = "scribbles", 2
    session.set_classes([ClassRow("a", 1)])
    settle(session, meter, 20)
    assert meter.found.unlabelled > 0.9
    assert [one.loss for one in meter.suggestions] == [BalancedCE()]


def test_a_failure_is_said_and_not_repeated(session, meter, monkeypatch):
    layer = session.new_labels()
    layer.paint((2, 8, 8), 1)
    calls = []

    def failing(work, done, failed):
        calls.append(work)
        failed(MemoryError("too much"))

    meter._background = failing
    settle(session, meter)
    meter.tick(50.0)
    assert meter.text == "The labels cannot be measured: too much"
    assert len(calls) == 1


def test_a_problem_that_comes_and_goes_while_it_looks(session, meter, viewer_model):
    layer, later = session.new_labels(), []
    layer.paint((2, 8, 8), 1)
    meter._background = lambda work, done, failed: (work(), later.append(done))
    settle(session, meter)
    images = session.images
    session.images = []
    meter.tick(5.0)
    later.pop()()
    problem = meter.text
    session.images = images
    meter.tick(10.0)
    meter.tick(10.0 + PAUSE)
    later.pop()()
    assert meter.text != problem
    assert meter.text.startswith("1 of 6 slices")


def test_another_spacing_is_looked_at(session, meter):
    layer = session.new_labels()
    layer.paint((2, 8, 8), 1)
    settle(session, meter)
    before = meter.found.foreground[0].smallest_size
    for each in (session.images[0], layer):
        each.scale = (8, 3, 3)
    settle(session, meter, 10)
    assert meter.found.foreground[0].smallest_size == pytest.approx(4 * before)


@pytest.mark.parametrize("dims", [2, 3])
def test_only_the_labelled_part_is_copied(session, dims):
    layer = session.new_labels()
    layer.data[2, 3:5, 3:5] = layer.data[4, 3:5, 3:5] = 1
    marks = Marks()
    marks.set(0, 4)
    session.marks.set(0, 4)
    data, shot = session.run_config().data, lay.snapshot(session.images)
    sample = labelled_sample(layer.data, marks, data, shot, dims)
    assert sample.slices == 6
    assert sample.indices.shape[0] == (2 if dims == 2 else 3)
    if dims == 3:
        assert (sample.indices[1] == -1).all(), "between them nothing is known"
    assert not np.shares_memory(sample.indices, layer.data)
    marks.set(1, 7)  # painted in a side view: lines of every slice are labelled
    whole = labelled_sample(layer.data, marks, data, shot, 2)
    assert whole.indices.shape == layer.data.shape
    assert (whole.indices[0, 7] == 0).all()
    assert (whole.indices[0, 6] == -1).all()


# ---------------------------------------------------------------- in a real window


@pytest.fixture
def viewer(make_napari_viewer_proxy):
    return make_napari_viewer_proxy(show=True)


@pytest.fixture
def dock(viewer, tmp_path, qtbot):
    rng = np.random.default_rng(0)
    viewer.add_image(rng.normal(size=(8, 128, 128)).astype(np.float32), name="mr")
    made = TrainDock(viewer, FakeEngine(), tmp_path / "runs")
    viewer.window.add_dock_widget(made, name="Train and predict")
    qtbot.waitUntil(made.layer_panel.new.isEnabled, timeout=20_000)
    made.layer_panel.new.click()
    yield made
    made.shut_down()


@pytest.mark.viewer
def test_paint_read_and_use(dock, qtbot):
    panel, session = dock.meter_panel, dock.session
    qtbot.waitUntil(lambda: panel.numbers.text().startswith("Paint in"))
    session.labels.brush_size = 7
    session.labels.paint((3, 60, 60), 1)
    qtbot.waitUntil(lambda: len(panel.buttons) == 2)
    assert panel.numbers.text().startswith("1 of 8 slices labelled, class 1 0.")
    assert "background: " in panel.numbers.toolTip()
    first, second = panel.meter.suggestions
    assert isinstance(first.loss, DilatedBalancedCE)
    assert second.loss == ContextCE(roi=DynamicRoi(margin=4))
    assert panel.reasons[0].text() == unbroken(first.reason)
    panel.buttons[0].click()
    assert dock.model_panel.loss.value == first.loss
    assert session.config.loss == first.loss
    qtbot.waitUntil(lambda: panel.buttons[0].text() == "In use")
    assert not panel.buttons[0].isEnabled()
    panel.buttons[1].click()
    assert session.config.loss == second.loss
    qtbot.waitUntil(lambda: [b.text() for b in panel.buttons] == ["Use this", "In use"])
    session.labels.brush_size = 60
    session.labels.paint((3, 60, 60), 1)
    qtbot.waitUntil(lambda: "class 1 1" in panel.numbers.text())
    assert dock.minimumSizeHint().width() <= 420


@pytest.mark.viewer
def test_a_large_stack_is_measured_in_the_background(viewer, tmp_path, qtbot):
    viewer.add_image(np.zeros((64, 512, 512), np.uint8), name="large")
    labels = np.zeros((64, 512, 512), np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(200):
        z, y, x = rng.integers((0, 20, 20), (64, 480, 480))
        labels[z, y - 9 : y + 9, x - 9 : x + 9] = 1
    viewer.add_labels(labels, name="lesions")
    dock = TrainDock(viewer, FakeEngine(), tmp_path / "runs")
    viewer.window.add_dock_widget(dock, name="Train and predict")
    try:
        qtbot.waitUntil(lambda: dock.meter_panel.meter.found is not None, timeout=60_000)
        assert {"Meter.tick", "TrainDock._tick"} <= set(costs.ours), "timed, for benchmarks/callbacks.py"
    finally:
        dock.shut_down()
