"""The Lens in a real napari window, with its real engine, against tests/oracles."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtWidgets import QLabel, QTabWidget

from napari_ctxseg.config import parse_loss
from napari_ctxseg.engine.client import EngineClient
from napari_ctxseg.gui import layers as lay
from napari_ctxseg.gui.lens_dock import LensDock
from napari_ctxseg.gui.timing import costs
from napari_ctxseg.gui.train_dock import TrainDock
from tests.oracles import losses as oracle

from .test_lens_model import FakeLane

pytestmark = [pytest.mark.viewer, pytest.mark.slow]

SHAPE = (4, 60, 70)


@pytest.fixture
def viewer(make_napari_viewer_proxy):
    made = make_napari_viewer_proxy(show=True)
    rng = np.random.default_rng(0)
    place = {"scale": (5, 1, 1), "translate": (10, 3, -2), "units": ("mm",) * 3, "axis_labels": "zyx"}
    made.add_image(rng.normal(size=SHAPE).astype(np.float32), name="mr", **place)
    made.add_labels(np.zeros(SHAPE, np.uint8), name="mask", **place)
    return made


@pytest.fixture
def lens_dock(viewer, qtbot):
    made = LensDock(viewer)
    viewer.window.add_dock_widget(made, name="Lens")
    qtbot.waitUntil(lambda: made.lens.engine.state == "ready", timeout=120_000)
    costs.clear()
    yield made
    made.shut_down()


def use_dilated(dock, radius=6):
    dock.form.set_value(parse_loss({"kind": "dilated_balanced_ce", "radius": radius, "unit": "px"}))


def weight(viewer):
    return viewer.layers["Lens: weight"].data[0]


def shows(viewer, name, expected, **tolerance):
    """Whether a Lens layer stands at the shown slice and holds an array."""
    if name not in viewer.layers:
        return False
    layer = viewer.layers[name]
    here = np.isclose(layer.translate[0], viewer.layers["mr"].translate[0] + 5 * viewer.dims.current_step[0])
    return bool(here and np.allclose(layer.data[0], expected, **tolerance))


def weights_of(mask, radius=6.0):
    classes = max(2, len(np.unique(mask)))
    return oracle.dilated_weights(mask.astype(np.int64), classes, radius, (1, 1))


def test_weight_follows_brush_slice_and_slider(viewer, lens_dock, qtbot):
    mask, dock = viewer.layers["mask"], lens_dock
    use_dilated(dock)
    viewer.dims.set_current_step(0, 1)
    mask.brush_size = 7
    mask.selected_label = 1
    mask.paint((1, 20, 30), 1)
    qtbot.waitUntil(
        lambda: shows(viewer, "Lens: weight", weights_of(mask.data[1]), atol=1e-6), timeout=20_000
    )
    assert viewer.layers.selection.active.name == "mask", "the person goes on painting"
    mask.paint((1, 45, 50), 2)
    qtbot.waitUntil(
        lambda: shows(viewer, "Lens: weight", weights_of(mask.data[1]), atol=1e-6), timeout=20_000
    )
    mask.undo()
    qtbot.waitUntil(
        lambda: shows(viewer, "Lens: weight", weights_of(mask.data[1]), atol=1e-6), timeout=20_000
    )
    mask.data[2, 5:9, 5:9] = 3
    viewer.dims.set_current_step(0, 2)
    expected = weights_of((mask.data[2] > 0) * 1)
    qtbot.waitUntil(lambda: shows(viewer, "Lens: weight", expected, atol=1e-6), timeout=20_000)
    slider = dock.sliders.sliders[("radius",)]
    slider.setValue(11)
    expected = weights_of((mask.data[2] > 0) * 1, 11)
    qtbot.waitUntil(lambda: shows(viewer, "Lens: weight", expected, atol=1e-6), timeout=20_000)
    assert dock.form.value.radius == 11


def test_boxes_crop_contour_and_dilated_layers(viewer, lens_dock, qtbot):
    mask, dock = viewer.layers["mask"], lens_dock
    truth = np.zeros(SHAPE[1:], np.uint8)
    truth[20:32, 25:45], truth[40:48, 10:20] = 1, 3
    mask.data[2] = truth
    viewer.dims.set_current_step(0, 2)
    dock.form.set_value(parse_loss({"kind": "context_ce", "roi": {"kind": "dynamic", "margin": 4}}))
    qtbot.waitUntil(lambda: "Lens: ROI" in viewer.layers, timeout=20_000)
    inside = oracle.roi_dynamic(truth.astype(int), 4)
    (box,) = viewer.layers["Lens: ROI"].data
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    np.testing.assert_allclose(box.min(axis=0), (2, rows[0] - 0.5, columns[0] - 0.5))
    np.testing.assert_allclose(box.max(axis=0), (2, rows[-1] + 0.5, columns[-1] + 0.5))
    image = viewer.layers["mr"]
    dock.boxes["crop"].setChecked(True)
    expected = np.where(inside, image.data[2], image.contrast_limits[0])
    qtbot.waitUntil(lambda: shows(viewer, "Lens: ROI crop", expected))
    assert not dock.boxes["contour"].isEnabled()
    assert dock.boxes["contour"].toolTip() == "This loss has no contour."

    viewer.dims.set_current_step(0, 0)
    qtbot.waitUntil(
        lambda: len(viewer.layers["Lens: ROI"].data) == 0 or not viewer.layers["Lens: ROI"].visible
    )
    viewer.dims.set_current_step(0, 2)
    dock.boxes["contour"].setChecked(True)
    dock.boxes["interior"].setChecked(True)
    contour = {"iterations": 2, "side": "inner"}
    dock.form.set_value(parse_loss({"kind": "contour_weighted_ce", "contour": contour, "alpha": 3}))
    from scipy import ndimage

    core = np.zeros_like(truth)
    for value in (1, 3):
        core[ndimage.binary_erosion(truth == value, np.ones((3, 3)), iterations=2, border_value=1)] = value
    qtbot.waitUntil(lambda: shows(viewer, "Lens: eroded", core), timeout=20_000)
    rim = ((truth > 0) & (core == 0)).astype(float)
    qtbot.waitUntil(lambda: shows(viewer, "Lens: contour", rim))
    qtbot.waitUntil(lambda: not viewer.layers["Lens: ROI"].visible)
    qtbot.waitUntil(lambda: not viewer.layers["Lens: ROI crop"].visible)
    roi = dock.boxes["roi"]
    qtbot.waitUntil(lambda: not (roi.isChecked() or roi.isEnabled()))
    assert dock.lens.wanted["roi"], "the wish is kept for the next loss with a region"

    dock.boxes["dilated"].setChecked(True)
    use_dilated(dock, 3)
    reach = np.zeros_like(truth)
    for value in (1, 3):
        reach[oracle.dilate(truth == value, 3, (1, 1))] = value
    qtbot.waitUntil(lambda: shows(viewer, "Lens: dilated", reach), timeout=20_000)
    for layer in (
        viewer.layers["Lens: dilated"],
        viewer.layers["Lens: eroded"],
        viewer.layers["Lens: weight"],
    ):
        np.testing.assert_array_equal(layer.scale, image.scale)
        assert layer.units == image.units
        assert tuple(layer.axis_labels) == tuple(image.axis_labels)
    viewer.layers.remove("Lens: weight")  # by hand
    mask.paint((2, 50, 50), 1)
    qtbot.waitUntil(lambda: "Lens: weight" in viewer.layers, timeout=20_000)


def test_behind_another_tab_the_maps_are_out_of_sight(viewer, qtbot):
    tabs = QTabWidget()
    dock = LensDock(viewer)
    tabs.addTab(QLabel("another"), "Train")
    tabs.addTab(dock, "Lens")
    tabs.setCurrentIndex(1)
    viewer.window.add_dock_widget(tabs, name="Tabs")
    qtbot.waitUntil(lambda: dock.lens.engine.state == "ready", timeout=120_000)
    mask = viewer.layers["mask"]
    use_dilated(dock)
    viewer.dims.set_current_step(0, 2)
    mask.paint((2, 20, 30), 1)
    qtbot.waitUntil(
        lambda: shows(viewer, "Lens: weight", weights_of(mask.data[2]), atol=1e-6), timeout=20_000
    )
    layer = viewer.layers["Lens: weight"]
    dock.boxes["dilated"].setChecked(True)
    qtbot.waitUntil(lambda: "Lens: dilated" in viewer.layers, timeout=20_000)
    dock.boxes["dilated"].setChecked(False)
    qtbot.waitUntil(lambda: not viewer.layers["Lens: dilated"].visible)
    before = layer.data.copy()
    tabs.setCurrentIndex(0)
    qtbot.waitUntil(lambda: not layer.visible)
    mask.paint((2, 50, 50), 1)
    qtbot.wait(300)
    assert not layer.visible, "painting does not bring it back"
    np.testing.assert_array_equal(layer.data, before)
    tabs.setCurrentIndex(1)
    qtbot.waitUntil(
        lambda: shows(viewer, "Lens: weight", weights_of(mask.data[2]), atol=1e-6), timeout=20_000
    )
    assert layer.visible
    assert not viewer.layers["Lens: dilated"].visible, "only what was in sight comes back"
    dock.shut_down()


def test_what_does_this_weigh(viewer, lens_dock, qtbot):
    mask, dock = viewer.layers["mask"], lens_dock
    mask.data[1, 20:26, 20:30] = 1
    viewer.dims.set_current_step(0, 1)
    use_dilated(dock, 3)
    dock.weigh.setChecked(True)
    expected = weights_of(mask.data[1], 3)
    qtbot.waitUntil(lambda: shows(viewer, "Lens: weight", expected, atol=1e-6), timeout=20_000)
    (callback,) = viewer.mouse_move_callbacks

    def at(z, y, x):
        class Moved:
            position = (10 + 5 * z, 3 + y, -2 + x)

        callback(viewer, Moved())
        return dock.answer.text()

    ratio = expected[22, 22] / expected[59, 69]
    assert at(1, 22, 22) == f"this pixel counts {ratio:.3g} x a far background pixel"
    assert at(1, 59, 69) == "this pixel counts 1 x a far background pixel"
    assert at(1, -5, 0) == ""
    assert at(3, 22, 22) == "", "another slice than the shown one"
    dock.form.set_value(parse_loss("dice"))
    qtbot.waitUntil(lambda: at(1, 22, 22) == "This loss has no weight per pixel.", timeout=20_000)
    dock.weigh.setChecked(False)
    assert not viewer.mouse_move_callbacks


def test_an_image_opened_later_is_used(make_napari_viewer_proxy):
    viewer, lane = make_napari_viewer_proxy(), FakeLane()
    viewer.add_labels(np.zeros(SHAPE, np.uint8), name="mask")
    lane.start = lambda: None
    dock = LensDock(viewer, lane)
    try:
        assert dock.lens.choices.images == []
        image = viewer.add_image(np.zeros(SHAPE, np.float32), name="late")
        dock._look_around()
        assert dock.lens.choices.images == [lay.plain(image)]
    finally:
        dock.shut_down()


def test_closing_removes_layers_and_ends_the_lane(viewer, qtbot):
    dock = LensDock(viewer)
    viewer.window.add_dock_widget(dock, name="Lens")
    mask = viewer.layers["mask"]
    mask.data[0, 5:9, 5:9] = 1
    viewer.dims.set_current_step(0, 0)
    qtbot.waitUntil(lambda: "Lens: weight" in viewer.layers, timeout=120_000)
    dock.outlines.setChecked(True)
    assert mask.contour == 1
    process = dock.lens.engine._process
    viewer.window.remove_dock_widget(dock)  # what the cross in its title bar does
    assert [layer.name for layer in viewer.layers] == ["mr", "mask"]
    assert mask.contour == 0
    assert process.wait(10) == 0
    mask.paint((0, 20, 20), 1)  # nothing listens any more
    viewer.dims.set_current_step(0, 1)


def test_an_engine_that_dies_is_replaced(viewer, lens_dock, qtbot):
    mask, dock = viewer.layers["mask"], lens_dock
    use_dilated(dock)
    mask.data[1, 20:26, 20:30] = 1
    viewer.dims.set_current_step(0, 1)
    qtbot.waitUntil(
        lambda: shows(viewer, "Lens: weight", weights_of(mask.data[1]), atol=1e-6), timeout=20_000
    )
    pid = dock.lens.engine.pid
    dock.lens.engine._process.kill()
    qtbot.waitUntil(lambda: dock.lens.engine.pid not in (None, pid), timeout=20_000)
    mask.paint((1, 45, 45), 1)
    qtbot.waitUntil(
        lambda: shows(viewer, "Lens: weight", weights_of(mask.data[1]), atol=1e-6), timeout=120_000
    )


def test_with_the_train_dock_one_loss_and_its_network(viewer, lens_dock, qtbot, tmp_path):
    dock = lens_dock
    train = TrainDock(viewer, EngineClient(threads=1), tmp_path / "runs")
    viewer.window.add_dock_widget(train, name="Train and predict")
    session, mask = train.session, viewer.layers["mask"]
    qtbot.waitUntil(lambda: session.labels is not None)
    qtbot.waitUntil(lambda: dock.lens.choices is session, timeout=20_000)
    assert dock.source.text() == "mask, as in Train and predict"
    viewer.dims.set_current_step(0, 1)
    mask.brush_size = 9
    for value, place in ((1, (1, 20, 30)), (5, (1, 40, 50))):
        mask.paint(place, value)
    # One loss, in both docks and on the slider.
    use_dilated(dock)
    assert session.config.loss.radius == 6
    train.model_panel.loss.set_value(parse_loss({"kind": "dilated_balanced_ce", "radius": 9, "unit": "px"}))
    qtbot.waitUntil(lambda: dock.sliders.sliders[("radius",)].value() == 9)
    qtbot.waitUntil(lambda: sorted(row.value for row in session.classes) == [1, 5], timeout=20_000)
    expected = oracle.dilated_weights(np.searchsorted([0, 1, 5], mask.data[1]), 3, 9, (1, 1))
    qtbot.waitUntil(lambda: shows(viewer, "Lens: weight", expected, atol=1e-6), timeout=20_000)
    # The policy "masks": a slice without paint is unlabelled and counts nothing.
    viewer.dims.set_current_step(0, 3)
    qtbot.waitUntil(lambda: shows(viewer, "Lens: weight", np.zeros(SHAPE[1:])), timeout=20_000)
    viewer.dims.set_current_step(0, 1)
    assert [layer.name for layer in session.images] == ["mr"], "Lens layers are no images to learn from"
    items = [train.layer_panel.images.item(i).text() for i in range(train.layer_panel.images.count())]
    assert items == ["mr"]
    qtbot.waitUntil(lambda: dock.boxes["ce"].toolTip() == "Train first: cross-entropy needs a model.")

    train.model_panel.unit.setCurrentText("steps")
    train.model_panel.amount.setValue(5)
    qtbot.waitUntil(train.train_button.isEnabled, timeout=120_000)
    train.train_button.click()
    qtbot.waitUntil(lambda: session.last_run is not None and session.phase == "idle", timeout=300_000)
    for kind in ("ce", "weighted"):
        qtbot.waitUntil(dock.boxes[kind].isEnabled)
        dock.boxes[kind].setChecked(True)
    qtbot.waitUntil(lambda: "Lens: weighted loss" in viewer.layers, timeout=60_000)
    ce, weighted = (viewer.layers[f"Lens: {name}"].data[0] for name in ("CE", "weighted loss"))
    np.testing.assert_allclose(ce, oracle_ce(session, mask.data[1]), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(weighted, weight(viewer) * ce, rtol=1e-4, atol=1e-9)
    # A stroke: the new labels' cross-entropy comes by itself.
    mask.paint((1, 30, 10), 5)
    qtbot.waitUntil(
        lambda: np.allclose(
            viewer.layers["Lens: CE"].data[0], oracle_ce(session, mask.data[1]), rtol=1e-3, atol=1e-4
        ),
        timeout=30_000,
    )
    train.shut_down()
    qtbot.waitUntil(lambda: dock.lens.alone, timeout=20_000)
    assert "LensDock._tick" in costs.ours, "timed, for benchmarks/callbacks.py"


def oracle_ce(session, labels):
    """Cross-entropy of the last run's network on slice 1, by scipy's formulas from its logits."""
    import torch

    from napari_ctxseg.config import DeviceConfig
    from napari_ctxseg.inference import load_model
    from napari_ctxseg.inference.blocks import logit_blocks
    from napari_ctxseg.training.data import normalise

    # Like the lane, in full precision: `auto` is bfloat16 on some processors.
    model = load_model(session.last_run, DeviceConfig(accelerator="cpu", precision="32-true"))
    image = normalise(np.asarray(session.images[0].data)[None], "")
    with torch.inference_mode():
        blocks = [b.numpy() for _, b, _ in logit_blocks(model, image, model.tiles) if b is not None]
    logits = np.concatenate(blocks, axis=1)[:, 1]
    indices = np.searchsorted([0, 1, 5], labels)
    return oracle.ce(logits[None], indices[None])[0]
