"""Class values of the Lens on its own: those of the whole layer."""

from __future__ import annotations

import numpy as np
import pytest

from napari_ctxseg.gui.choices import Choices
from napari_ctxseg.gui.lens import Lens
from napari_ctxseg.gui.lens_target import _all_values

from .test_lens_model import FakeLane


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_alone_a_class_keeps_its_number(viewer_model, dtype):
    data = np.zeros((3, 400, 500), dtype)
    data[0, 2, 2], data[1, 5, 5], data[2, 7, 7] = 100, 7, -3 if dtype == np.int16 else 0
    layer, own = viewer_model.add_labels(data, name="own"), Choices(viewer_model)
    own.choose([], layer)
    lens = Lens(viewer_model, FakeLane(), own, alone=True)
    lane = lens.engine
    viewer_model.dims.set_current_step(0, 0)
    for index, place, expected in ((0, (2, 2), 2), (1, (5, 5), 1), (2, (7, 7), 0)):
        viewer_model.dims.set_current_step(0, index)
        lens.tick()
        lane.answer(lens)
        lens.tick()
        while lane.state == "busy":
            lane.answer(lens)
        assert lane.asked[-1].values == (7, 100)
        assert lane.asked[-1].target[place] == expected
        assert lane.asked[-1].target.max() == expected
    layer.data[2, 1, 1] = 50  # in place, which the census has no word of
    layer.refresh()
    viewer_model.dims.set_current_step(0, 0)
    lens.tick()
    lane.answer(lens)
    viewer_model.dims.set_current_step(0, 2)
    lens.tick()
    lane.answer(lens)
    viewer_model.dims.set_current_step(0, 0)
    lens.tick()
    assert lane.asked[-1].values == (7, 50, 100), "it is looked for from now on"


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_alone_a_large_slice(dtype):
    labels = np.random.default_rng(0).integers(0, 5, (2048, 2048)).astype(dtype)
    target, values = _all_values(labels, set())
    np.testing.assert_array_equal(target, labels)
    assert values == (1, 2, 3, 4)
