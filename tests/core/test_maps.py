"""Regions and dilations, voxel for voxel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.morphology import ball, disk

from napari_ctxseg.config import DynamicRoi, StaticRoi
from napari_ctxseg.maps import dilate_classes, dynamic_box, radius_in_world, roi_mask, static_box
from napari_ctxseg.maps import dilation as module
from tests.oracles import losses as oracle


def by_minima(labels: torch.Tensor, classes: int, radius: float, spacing: tuple[float, ...]) -> torch.Tensor:
    """The way of a GPU, on the CPU."""
    masks = dict(module._by_minima(labels, classes, radius, spacing))
    return torch.stack([masks[c] for c in range(classes)], dim=1)


@settings(deadline=None, max_examples=60)
@given(
    labels=hnp.arrays(
        np.int64,
        hnp.array_shapes(min_dims=3, max_dims=4, min_side=1, max_side=9),
        elements=st.integers(-1, 4),
    ),
    radius=st.sampled_from([0.0, 0.3, 0.9, 1.0, 1.5, 2.0, 3.0, 7.0, 100.0]),
    spacing=st.sampled_from([(1.0, 1.0, 1.0), (5.0, 1.0, 1.0), (1.0, 1.0, 5.0), (0.1, 0.3, 0.7)]),
)
def test_dilation_equals_the_distance_transform(
    labels: np.ndarray, radius: float, spacing: tuple[float, ...]
) -> None:
    steps = spacing[-(labels.ndim - 1) :]
    ours = dilate_classes(torch.from_numpy(labels), 5, radius, steps).numpy()
    as_on_gpu = by_minima(torch.from_numpy(labels), 5, radius, steps).numpy()
    for n, c in np.ndindex(ours.shape[:2]):
        wanted = oracle.dilate(labels[n] == c, radius, steps)
        np.testing.assert_array_equal(ours[n, c], wanted)
        np.testing.assert_array_equal(as_on_gpu[n, c], wanted)


@pytest.mark.parametrize("radius", [1, 3, 10])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_point_grows_into_the_disk(radius: int, dims: int) -> None:
    side = 2 * radius + 5
    labels = np.zeros((1, *[side] * dims), np.int64)
    labels[(0, *[side // 2] * dims)] = 1
    grown = dilate_classes(torch.from_numpy(labels), 2, radius, (1.0,) * dims)[0, 1].numpy()
    inner = (slice(2, -2),) * dims
    np.testing.assert_array_equal(grown[inner], (disk if dims == 2 else ball)(radius).astype(bool))


@pytest.mark.parametrize("spacing", [(2.0, 1.0, 1.0), (1.0, 1.0, 5.0), (0.1, 0.3, 0.7), (3.7, 0.71, 0.72)])
@pytest.mark.parametrize("radius", [0.0, 1.0, 2.9, 3.0, 7.5, 40.0])
@pytest.mark.parametrize("exact", [True, False])
def test_all_ways_of_computing_agree(
    radius: float, spacing: tuple[float, ...], exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = torch.randint(-1, 70, (2, 5, 9, 8), generator=torch.Generator().manual_seed(1))
    by_rows = module._dilate_bits(labels, 0, 64, radius, spacing)
    if not exact:  # as if the distances lay too close together for the fast transform
        monkeypatch.setattr(module, "_between_distances", lambda *_: None)
    by_shifts = by_minima(labels, 64, radius, spacing)
    for c in range(64):
        assert torch.equal((by_rows >> c & 1).bool(), by_shifts[:, c])
        by_distance = module._by_distance(labels == c, radius, spacing)
        assert torch.equal((by_rows >> c & 1).bool(), by_distance)


@pytest.mark.parametrize("most", [0, 10**9])
def test_either_way_is_chosen_for_any_number_of_classes(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ROWS", most)
    labels = torch.randint(-1, 70, (2, 5, 9, 8), generator=torch.Generator().manual_seed(2))
    grown = dilate_classes(labels, 70, 3.0, (2.0, 1.0, 1.0)).numpy()
    for n, c in np.ndindex(grown.shape[:2]):
        wanted = oracle.dilate(labels[n].numpy() == c, 3.0, (2.0, 1.0, 1.0))
        np.testing.assert_array_equal(grown[n, c], wanted)


def test_portions_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = torch.randint(-1, 5, (2, 7, 9, 8), generator=torch.Generator().manual_seed(3))
    whole = dilate_classes(labels, 5, 2.5, (1.0, 1.0, 1.0))
    monkeypatch.setattr(module, "CHUNK", 1)
    monkeypatch.setattr(module, "MOST_SQUARES", 2 * labels.numel())
    assert torch.equal(dilate_classes(labels, 5, 2.5, (1.0, 1.0, 1.0)), whole)
    assert torch.equal(by_minima(labels, 5, 2.5, (1.0, 1.0, 1.0)), whole)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 0.5, 0.7)])
@pytest.mark.parametrize("radius", [2.0, 5.2, 9.0])
def test_a_class_that_is_nearly_everywhere(radius: float, spacing: tuple[float, ...]) -> None:
    for hole in (0, 3, 6, 9):  # filled by the ball or not, with and without a transform
        mask = np.ones((10, 20, 20), bool)
        mask[:hole, : 2 * hole, : 2 * hole] = False
        ours = module._by_distance(torch.from_numpy(mask)[None], radius, spacing)[0].numpy()
        np.testing.assert_array_equal(ours, oracle.dilate(mask, radius, spacing))


def test_a_limit_lies_between_the_distances() -> None:
    assert module._between_distances((9, 9, 9), 3.0, (1.0, 1.0, 1.0)) == pytest.approx(9.5)  # 9 and 10
    # 1.0 and 1.0000001: float32 cannot tell them apart.
    assert module._between_distances((5, 5, 5), 1.0, (1.0, 1.0000001, 3.0)) is None


def test_units_of_the_radius() -> None:
    assert radius_in_world(3, "world", (10, 20, 30), (5.0, 0.5, 0.7)) == 3
    assert radius_in_world(3, "px", (10, 20, 30), (5.0, 0.5, 0.7)) == pytest.approx(1.5)
    assert radius_in_world(0.1, "fraction", (10, 20, 30), (5.0, 0.5, 0.7)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("radius", "spacing"), [(-1, (1, 1)), (float("nan"), (1, 1)), (1, (0, 1)), (1, (1,))]
)
def test_nonsense_is_refused(radius: float, spacing: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"radius|spacing"):
        dilate_classes(torch.zeros(1, 4, 4, dtype=torch.long), 2, radius, spacing)


def test_boxes_of_the_toy() -> None:
    _, labels = oracle.toy2d()
    tight = [dynamic_box(torch.from_numpy(one > 0)) for one in labels]
    assert tight == [((2, 7), (2, 6)), ((1, 3), (4, 7))]
    # The second centroid is (1, 5): a side of 4 would start at -1 and is shifted inside.
    fixed = [static_box(torch.from_numpy(one > 0), 4) for one in labels]
    assert fixed == [((1, 5), (1, 5)), ((0, 4), (3, 7))]


def test_boxes_stay_inside_and_empty_masks_have_none() -> None:
    target = torch.zeros(2, 6, 6, dtype=torch.long)
    target[0, 0, 5] = 1
    assert dynamic_box(target[0] > 0, margin=3) == ((0, 4), (2, 6))
    assert static_box(target[0] > 0, 99) == ((0, 6), (0, 6))
    assert dynamic_box(target[1] > 0) is None
    for roi in (StaticRoi(size=3), DynamicRoi()):
        mask = roi_mask(target, roi)
        assert mask[0].sum() == (9 if isinstance(roi, StaticRoi) else 1)
        assert not mask[1].any()
