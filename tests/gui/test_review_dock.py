"""The Review in a real napari window, with a real engine: keys, table, layers, and that all of it goes again."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt

from napari_ctxseg.config import PredictConfig
from napari_ctxseg.engine.client import EngineClient
from napari_ctxseg.gui import layers as lay
from napari_ctxseg.gui.review_dock import ReviewDock
from napari_ctxseg.gui.review_keys import Keys
from napari_ctxseg.gui.timing import costs
from napari_ctxseg.gui.train_dock import TrainDock

pytestmark = [pytest.mark.viewer, pytest.mark.slow]

SHAPE = (5, 40, 44)
PLACE = {"scale": (5, 1, 1), "translate": (10, 3, -2), "units": ("mm",) * 3, "axis_labels": ("z", "y", "x")}


@pytest.fixture
def viewer(make_napari_viewer_proxy):
    made = make_napari_viewer_proxy(show=True)
    rng = np.random.default_rng(0)
    image = rng.normal(0, 0.3, SHAPE).astype(np.float32)
    image[:, 10:24, 12:26] += 3
    made.add_image(image, name="mr", **PLACE)
    made.add_labels(np.zeros(SHAPE, np.uint8), name="mask", **PLACE)
    return made


def press(viewer, qtbot, *keys):
    """On the canvas, as a person does."""
    canvas = lay.plain(viewer).window._qt_viewer.canvas.native
    for key in keys:
        qtbot.keyClick(canvas, key)


def test_review_alone(viewer, qtbot):
    predicted = np.zeros(SHAPE, np.uint8)
    predicted[1, 5:7, 5:8], predicted[3, 30:32, 30:32] = 1, 1
    viewer.add_labels(predicted, name="from a file", **PLACE)
    taken = []
    viewer.bind_key("u", lambda _: taken.append(1))
    dock = ReviewDock(viewer)
    viewer.window.add_dock_widget(dock, name="Review")
    mask = viewer.layers["mask"]
    viewer.layers.selection.active = mask
    try:
        assert (dock.annotation.currentText(), dock.predicted.currentText()) == ("mask", "from a file")
        qtbot.waitUntil(lambda: dock.model.rowCount() == 2, timeout=20_000)
        cells = [dock.model.data(dock.model.index(0, column)) for column in range(6)]
        assert cells[:5] == ["from a file", 3, "class 1", 4, "island"]
        press(viewer, qtbot, Qt.Key.Key_N)
        assert viewer.dims.current_step[0] == 3
        np.testing.assert_allclose(lay.plain(viewer).scene.camera.center[-2:], (3 + 30.5, -2 + 30.5))
        press(viewer, qtbot, Qt.Key.Key_A)
        np.testing.assert_array_equal(mask.data, np.where(np.arange(5)[:, None, None] == 3, predicted, 0))
        assert viewer.layers.selection.active.name == "mask", "the person goes on painting"
        press(viewer, qtbot, Qt.Key.Key_N, Qt.Key.Key_R)
        qtbot.waitUntil(lambda: dock.model.rowCount() == 0, timeout=20_000)
        assert dock.status.text().startswith("Nothing suspicious")
        mask.undo()
        mask.undo()
        assert not mask.data.any()
        qtbot.waitUntil(lambda: dock.model.rowCount() == 2, timeout=20_000)
        # A letter typed on the table is a key of the viewer, not a search.
        dock.table.setFocus()
        qtbot.keyClick(dock.table, Qt.Key.Key_N)
        qtbot.waitUntil(lambda: dock.review.current is not None, timeout=5_000)
        dock.table.clicked.emit(dock.model.index(1, 0))
        assert viewer.dims.current_step[0] == 1
        press(viewer, qtbot, Qt.Key.Key_U)
        assert taken == [1], "the key of somebody else stays theirs"
        assert "key U" in dock.keys.note
        dock.differences.setChecked(True)
        assert "from a file FN" in viewer.layers
    finally:
        viewer.window.remove_dock_widget(dock)  # what the cross in its title bar does
    assert [layer.name for layer in viewer.layers] == ["mr", "mask", "from a file"]
    before = viewer.dims.current_step
    press(viewer, qtbot, Qt.Key.Key_N, Qt.Key.Key_A, Qt.Key.Key_G)
    assert viewer.dims.current_step == before
    assert not mask.data.any()
    press(viewer, qtbot, Qt.Key.Key_U)
    assert taken == [1, 1]


def test_review_of_what_the_train_dock_predicts(viewer, qtbot, tmp_path):
    train = TrainDock(viewer, EngineClient(threads=1), tmp_path / "runs")
    viewer.window.add_dock_widget(train, name="Train and predict")
    _, dock = viewer.window.add_plugin_dock_widget("napari-ctxseg", "Review", tabify=True)
    dock = lay.plain(dock)
    session, mask = train.session, viewer.layers["mask"]
    try:
        qtbot.waitUntil(lambda: session.labels is not None)
        qtbot.waitUntil(lambda: dock.review.choices is session, timeout=20_000)
        assert session.options == PredictConfig(uncertainty="entropy")
        assert "Predict first" in dock.review.problem
        viewer.dims.set_current_step(0, 2)
        mask.data_setitem(
            tuple(i + o for i, o in zip(np.indices((1, 14, 14)).reshape(3, -1), (2, 10, 12), strict=True)), 1
        )
        train.model_panel.unit.setCurrentText("steps")
        train.model_panel.amount.setValue(30)
        qtbot.waitUntil(train.train_button.isEnabled, timeout=120_000)
        train.train_button.click()
        qtbot.waitUntil(lambda: session.last_run is not None and session.phase == "idle", timeout=300_000)
        qtbot.waitUntil(train.predict_button.isEnabled, timeout=20_000)
        train.predict_button.click()
        qtbot.waitUntil(lambda: "Predicted 'mr'" in session.status, timeout=120_000)
        uncertainty = viewer.layers["mr uncertainty"]
        assert uncertainty.colorbar.visible
        assert 0 < uncertainty.data.max() <= 1
        assert (uncertainty.data.reshape(5, -1).max(axis=1) > 0).all()
        np.testing.assert_array_equal(uncertainty.scale, viewer.layers["mr"].scale)
        items = [train.layer_panel.images.item(i).text() for i in range(train.layer_panel.images.count())]
        assert items == ["mr"], "nothing of ours is an image to learn from"
        costs.clear()
        qtbot.waitUntil(lambda: not dock.review.busy, timeout=20_000)
        # 30 steps learn a square; whatever they learn, copying writes it where nothing is labelled.
        predicted = viewer.layers["mr prediction"].data
        painted = mask.data.copy()
        dock.buttons["all"].click()
        expected = np.where((painted == 0) & (np.arange(5)[:, None, None] != 2), predicted, painted)
        qtbot.waitUntil(lambda: np.array_equal(mask.data, expected), timeout=20_000)
        mask.undo()
        np.testing.assert_array_equal(mask.data, painted)
        press(viewer, qtbot, Qt.Key.Key_G)
        qtbot.waitUntil(lambda: dock.review.status.startswith("Slice"), timeout=20_000)
        assert viewer.dims.current_step[0] != 2, "that one is labelled"
        index = viewer.dims.current_step[0]
        press(viewer, qtbot, Qt.Key.Key_U)
        assert session.marks.has(0, index)
        assert {"Review.next_slice", "Findings._take"} <= set(costs.ours), "our callbacks are timed"
        dock.uncertainty.setCurrentText("ensemble")
        assert session.options.uncertainty == "entropy", "there is no other run to ask"
        dock.uncertainty.setCurrentText("tta")
        assert session.options.uncertainty == "tta"
        viewer.window.remove_dock_widget(dock)
        assert session.options == PredictConfig()
    finally:
        dock.shut_down()
        train.shut_down()


def test_keys_of_a_dock_that_was_closed_are_taken_by_the_other():
    viewer, pressed = ViewerModel(), []
    first = Keys(viewer, {"n": lambda: pressed.append("first")})
    second = Keys(viewer, {"n": lambda: pressed.append("second")})
    assert second.note == "Somebody else uses the key N: press the button."
    second.take()
    assert second.note
    first.release()
    second.take()
    assert second.note == ""
    (call,) = viewer.keymap.values()
    call(viewer)
    assert pressed == ["second"]
    second.release()
    assert not viewer.keymap
    second.take()
    assert not viewer.keymap, "what was given back is not taken again"
