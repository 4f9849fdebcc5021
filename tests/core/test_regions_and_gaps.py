"""Regions of interest, gaps between objects, sizes and pieces."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_ctxseg.config import DynamicRoi, MaskRoi, StaticRoi
from napari_ctxseg.maps import class_sizes, dilate, gap_map, inverse, paint, roi_boxes, roi_mask, roi_masks
from napari_ctxseg.maps.components import components
from tests.oracles import losses as toys
from tests.oracles import maps as oracle

SPACINGS = [(1.0, 1.0, 1.0), (1.0, 1.0, 5.0), (5.0, 1.0, 1.0)]


def labels_of(low: int, high: int, side: int = 8) -> st.SearchStrategy[np.ndarray]:
    shapes = hnp.array_shapes(min_dims=3, max_dims=4, min_side=1, max_side=side)
    return hnp.arrays(np.int64, shapes, elements=st.integers(low, high))


# ---------------------------------------------------------------- regions


@settings(deadline=None, max_examples=50)
@given(labels=labels_of(-1, 2), margin=st.integers(0, 3), per=st.sampled_from(["class", "component"]))
def test_boxes_of_classes_and_pieces(labels: np.ndarray, margin: int, per: str) -> None:
    roi = DynamicRoi(margin=margin, per=per)  # type: ignore[arg-type]
    ours = roi_masks(torch.from_numpy(labels), roi, (1.0,) * (labels.ndim - 1))
    for one, regions in zip(labels, ours, strict=True):
        expected = oracle.boxes_per_piece(one, margin, by_class=per == "class")
        assert len(regions) == len(expected)
        for got, wanted in zip(regions, expected, strict=True):
            np.testing.assert_array_equal(got.numpy(), wanted)


def test_one_piece_has_the_same_box_whatever_the_rule() -> None:
    labels = torch.zeros(1, 9, 9, dtype=torch.int64)
    labels[0, 3:6, 2:5] = 1
    union, by_class, by_piece = (
        roi_masks(labels, DynamicRoi(margin=1, per=per), (1.0, 1.0))
        for per in ("union", "class", "component")
    )
    assert torch.equal(union[0][0], by_class[0][0])
    assert torch.equal(union[0][0], by_piece[0][0])
    assert roi_boxes(labels[0], DynamicRoi(margin=1)) == [((2, 7), (1, 6))]


@settings(deadline=None, max_examples=50)
@given(
    labels=labels_of(-1, 2),
    radius=st.sampled_from([0.0, 1.0, 2.5, 99.0]),
    spacing=st.sampled_from(SPACINGS),
)
def test_mask_region_is_the_dilated_foreground(
    labels: np.ndarray, radius: float, spacing: tuple[float, ...]
) -> None:
    steps = spacing[-(labels.ndim - 1) :]
    ours = roi_mask(torch.from_numpy(labels), MaskRoi(radius=radius), steps).numpy()
    for one, got in zip(labels, ours, strict=True):
        np.testing.assert_array_equal(got, toys.dilate(one > 0, radius, steps) & (one >= 0))


def test_mask_region_of_radius_zero_is_the_foreground_and_of_a_huge_one_the_image() -> None:
    _, labels = toys.toy2d()
    target = torch.from_numpy(labels)
    assert torch.equal(roi_mask(target, MaskRoi(radius=0)), target > 0)
    assert bool(roi_mask(target, MaskRoi(radius=1e9)).all())


def test_units_of_the_mask_region() -> None:
    target = torch.zeros(1, 20, 30, dtype=torch.int64)
    target[0, 10, 10] = 1
    two_pixels = roi_mask(target, MaskRoi(radius=2, unit="px"), (0.5, 0.5))
    assert torch.equal(two_pixels, roi_mask(target, MaskRoi(radius=1.0, unit="world"), (0.5, 0.5)))
    assert torch.equal(two_pixels, roi_mask(target, MaskRoi(radius=0.1, unit="fraction"), (0.5, 0.5)))


def test_nothing_has_no_region() -> None:
    nothing = torch.full((2, 5, 5), -1)
    nothing[1] = 0
    for roi in (StaticRoi(), DynamicRoi(), DynamicRoi(per="component"), MaskRoi()):
        assert roi_masks(nothing, roi, (1.0, 1.0)) == [[], []]


def test_a_window_at_the_border_keeps_its_side() -> None:
    _, labels = toys.toy2d()
    (box,) = roi_boxes(torch.from_numpy(labels[1]), StaticRoi(size=4))
    assert box == ((0, 4), (3, 7))  # naively it would start at row -1


# ---------------------------------------------------------------- dilation by hand


@settings(deadline=None, max_examples=30)
@given(
    mask=hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=6)),
    radius=st.sampled_from([0.0, 1.0, 1.4, 2.0, 5.0, 50.0]),
    spacing=st.sampled_from(SPACINGS),
)
def test_dilation_equals_asking_every_voxel(
    mask: np.ndarray, radius: float, spacing: tuple[float, ...]
) -> None:
    steps = spacing[-mask.ndim :]
    ours = dilate(torch.from_numpy(mask)[None], radius, steps)[0].numpy()
    np.testing.assert_array_equal(ours, oracle.dilated_by_hand(mask, radius, steps))


# ---------------------------------------------------------------- gaps


@settings(deadline=None, max_examples=40)
@given(labels=labels_of(-1, 2, side=7), sigma=st.sampled_from([0.7, 2.0]), spacing=st.sampled_from(SPACINGS))
def test_gaps_equal_measuring_every_object(
    labels: np.ndarray, sigma: float, spacing: tuple[float, ...]
) -> None:
    steps = spacing[-(labels.ndim - 1) :]
    ours = gap_map(torch.from_numpy(labels), sigma, steps).numpy()
    for one, got in zip(labels, ours, strict=True):
        np.testing.assert_allclose(got, oracle.gap(one, sigma, steps), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.5, 0.5, 0.5), (3.1, 0.7, 0.9)])
@pytest.mark.parametrize("dims", [2, 3])
def test_gaps_of_objects_that_lie_partly_out_of_reach(dims: int, spacing: tuple[float, ...]) -> None:
    shape = (31, 37) if dims == 2 else (9, 14, 17)
    rng = np.random.default_rng(dims)
    labels = np.zeros((1, *shape), np.int64)
    for index in (1, 2, 1, 3):
        corner = [int(rng.integers(0, n - 3)) for n in shape]
        labels[(0, *(slice(c, c + int(rng.integers(1, 6))) for c in corner))] = index
    for sigma in (0.3, 0.8):
        ours = gap_map(torch.from_numpy(labels), sigma, spacing[-dims:]).numpy()[0]
        expected = oracle.gap(labels[0], sigma, spacing[-dims:])
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-8)


def test_a_gap_needs_two_objects() -> None:
    labels = torch.zeros(1, 9, 9, dtype=torch.int64)
    labels[0, 4, 4] = 1
    assert not gap_map(labels, 5.0, (1.0, 1.0)).any()
    labels[0, 4, 6] = 1
    middle = gap_map(labels, 5.0, (1.0, 1.0))[0, 4, 5]
    assert float(middle) == pytest.approx(np.exp(-(2**2) / 50))


# ---------------------------------------------------------------- sizes and pieces


@settings(deadline=None, max_examples=30)
@given(labels=labels_of(-1, 3))
def test_sizes_and_painting(labels: np.ndarray) -> None:
    target = torch.from_numpy(labels)
    sizes = class_sizes(target, 4)
    assert sizes.tolist() == [[int((one == c).sum()) for c in range(4)] for one in labels]
    painted = paint(target, inverse(sizes)).double()
    for one, row in zip(painted, sizes, strict=True):
        assert float(one.sum()) == pytest.approx(int((row > 0).sum()), rel=1e-5)
    assert not painted[target < 0].any()


def test_pieces_that_touch_at_a_corner_are_one() -> None:
    labels = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 2], [1, 0, 2]])
    found = [(piece.index, int(piece.mask.sum())) for piece in components(labels)]
    assert found == [(1, 2), (1, 1), (2, 2)]
