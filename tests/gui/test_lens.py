"""The Lens in a real napari window, with its real engine, against tests/oracles."""

from __future__ import annotations

import numpy as np
import pytest

from napari_ctxseg.config import parse_loss
from napari_ctxseg.engine.client import EngineClient
from napari_ctxseg.gui.lens_dock import LensDock
from napari_ctxseg.gui.timing import costs
from napari_ctxseg.gui.train_dock import TrainDock
from tests.oracles import losses as oracle

from .conftest import FakeEngine

pytestmark = [pytest.mark.viewer, pytest.mark.slow]

#: Thread time, in seconds, that a callback of ours may take on the GUI thread.
LIMIT = 0.05
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
    dock.form.show_value(parse_loss({"kind": "dilated_balanced_ce", "radius": radius, "unit": "px"}))


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


def settled(dock, qtbot):
    qtbot.waitUntil(lambda: dock.lens._flight is None and not dock.lens._stale, timeout=20_000)


def test_weight_follows_brush_slice_and_slider(viewer, lens_dock, qtbot):
    mask, dock = viewer.layers["mask"], lens_dock
    use_dilated(dock)
    viewer.dims.set_current_step(0, 1)
    mask.brush_size = 7
    mask.selected_label = 1
    mask.paint((1, 20, 30), 1)
    qtbot.waitUntil(lambda: shows(viewer, "Lens: weight", weights_of(mask.data[1]), atol=1e-6), timeout=20_000)
    assert viewer.layers.selection.active.name == "mask", "the person goes on painting"
    mask.paint((1, 45, 50), 2)
    qtbot.waitUntil(lambda: shows(viewer, "Lens: weight", weights_of(mask.data[1]), atol=1e-6), timeout=20_000)
    mask.undo()
    qtbot.waitUntil(lambda: shows(viewer, "Lens: weight", weights_of(mask.data[1]), atol=1e-6), timeout=20_000)
    mask.data[2, 5:9, 5:9] = 3
    viewer.dims.set_current_step(0, 2)
    expected = weights_of((mask.data[2] > 0) * 1)
    qtbot.waitUntil(lambda: shows(viewer, "Lens: weight", expected, atol=1e-6), timeout=20_000)
    slider = dock.sliders.sliders[("radius",)]
    slider.setValue(11)
    expected = weights_of((mask.data[2] > 0) * 1, 11)
    qtbot.waitUntil(lambda: shows(viewer, "Lens: weight", expected, atol=1e-6), timeout=20_000)
    assert dock.form.value.radius == 11
    assert max(costs.ours.values()) < LIMIT, costs.ours
