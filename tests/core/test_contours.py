"""Contour bands of all classes at once, voxel for voxel against one scipy erosion per class."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from napari_ctxseg.config import ContourConfig
from napari_ctxseg.maps import contour as module
from napari_ctxseg.maps import contour_band, inner_band, interior
from napari_ctxseg.maps.contour import thickness
from napari_ctxseg.maps.windows import box_max, box_min
from tests.oracles import losses as toys
from tests.oracles import maps as oracle

LABELS = hnp.arrays(
    np.int64,
    hnp.array_shapes(min_dims=3, max_dims=4, min_side=1, max_side=8),
    elements=st.integers(-1, 3),
)


def blocks(rng: np.random.Generator, shape: tuple[int, ...], top: int = 3) -> np.ndarray:
    """Labels in lumps, so that something is left inside of them."""
    coarse = rng.integers(-1, top + 1, [-(-n // 5) for n in shape])
    for axis in range(len(shape)):
        coarse = coarse.repeat(5, axis=axis)
    return coarse[tuple(slice(n) for n in shape)].astype(np.int64)


def as_batch(labels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(labels))


def band(labels: np.ndarray, spacing: tuple[float, ...] | None = None, **fields: object) -> np.ndarray:
    contour = ContourConfig(**fields)  # type: ignore[arg-type]
    return contour_band(as_batch(labels), contour, spacing or (1.0,) * (labels.ndim - 1)).numpy()


# ---------------------------------------------------------------- the hard band


@settings(deadline=None, max_examples=60)
@given(labels=LABELS, iterations=st.integers(0, 4), border=st.sampled_from(["same", "contour"]))
def test_erosion_of_all_classes_equals_one_scipy_erosion_each(
    labels: np.ndarray, iterations: int, border: str
) -> None:
    ours = interior(as_batch(labels), iterations, border).numpy()
    for one, got in zip(labels, ours, strict=True):
        expected = np.zeros(one.shape, bool)
        for c in range(4):
            expected |= oracle.eroded(one == c, iterations, one < 0, border=border == "same")
        np.testing.assert_array_equal(got, expected)


@settings(deadline=None, max_examples=60)
@given(labels=LABELS, iterations=st.integers(0, 3), side=st.sampled_from(["inner", "outer", "both"]))
def test_bands_follow_their_definitions(labels: np.ndarray, iterations: int, side: str) -> None:
    ours = band(labels, iterations=iterations, side=side)
    expected = np.stack([oracle.band(one, 4, iterations, side) for one in labels])
    np.testing.assert_array_equal(ours, expected)


@settings(deadline=None, max_examples=30)
@given(labels=LABELS, iterations=st.integers(1, 3))
def test_both_sides_are_the_inner_and_the_outer_one(labels: np.ndarray, iterations: int) -> None:
    inner, outer, both = (band(labels, iterations=iterations, side=s) for s in ("inner", "outer", "both"))
    np.testing.assert_array_equal(both, np.maximum(inner, outer))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("side", ["inner", "outer", "both"])
def test_lumps_with_an_interior(dims: int, side: str) -> None:
    labels = blocks(np.random.default_rng(dims), (2, *[23] * dims))
    for iterations in (1, 2, 6):
        expected = np.stack([oracle.band(one, 4, iterations, side) for one in labels])
        np.testing.assert_array_equal(band(labels, iterations=iterations, side=side), expected)


@pytest.mark.parametrize(
    ("side", "left"), [(1, 0), (11, 0), (12, 0), (13, 1), (14, 8), (20, 512)], ids=lambda v: str(v)
)
def test_six_erosions_of_a_cube_leave_what_the_paper_says(side: int, left: int) -> None:
    labels = np.zeros((1, side + 4, side + 4, side + 4), np.int64)
    labels[0, 2:-2, 2:-2, 2:-2] = 1
    inside = interior(as_batch(labels), 6).numpy()
    assert int(inside[labels == 1].sum()) == left


def test_contours_of_the_toy_have_the_printed_sizes() -> None:
    _, labels = toys.toy3d()
    target = as_batch(labels)
    assert [int((labels == c).sum()) for c in range(3)] == [286, 80, 18]
    released = ~interior(target, 1, "contour").numpy()
    assert [int((released & (labels == c)).sum()) for c in range(3)] == [286, 68, 18]
    assert int(band(labels, side="inner").sum()) == 85  # the replicated border leaves one voxel of class 2


@pytest.mark.parametrize("border", ["same", "contour"])
def test_portions_do_not_show(border: str, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = as_batch(blocks(np.random.default_rng(4), (2, 33, 12, 13)))
    for iterations in (0, 1, 3):
        whole = interior(labels, iterations, border)
        with monkeypatch.context() as patch:
            patch.setattr(module, "CHUNK", 1)
            assert torch.equal(interior(labels, iterations, border), whole)


def test_many_classes_and_a_window_wider_than_the_image() -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 400, (1, 6, 7)).astype(np.int64)
    np.testing.assert_array_equal(
        band(labels, iterations=1, side="both")[0], oracle.band(labels[0], 400, 1, "both")
    )
    one = np.ones((1, 5, 5), np.int64)
    assert not band(one, iterations=50).any()
    one[0, 0, 0] = 0
    assert band(one, iterations=50).all()


@settings(deadline=None, max_examples=40)
@given(
    values=hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=9)),
    reach=st.integers(0, 11),
)
def test_box_windows_equal_scipy_filters(values: np.ndarray, reach: int) -> None:
    size = (1, *[2 * reach + 1] * (values.ndim - 1))
    for ours, theirs in ((box_max, ndimage.maximum_filter), (box_min, ndimage.minimum_filter)):
        np.testing.assert_array_equal(
            ours(torch.from_numpy(values), reach).numpy(), theirs(values, size, mode="nearest")
        )


# ---------------------------------------------------------------- unlabelled pixels


@settings(deadline=None, max_examples=30)
@given(labels=LABELS, data=st.data())
def test_unlabelled_voxels_neither_are_contour_nor_make_one(labels: np.ndarray, data: st.DataObject) -> None:
    fields = data.draw(
        st.sampled_from([{}, {"adapt": 0.5, "iterations": 2}, {"softness": 1.5}, {"side": "outer"}])
    )
    assert not band(labels, **fields)[labels < 0].any()
    halves = np.where(np.arange(labels.shape[-1]) % 2, -1, 1) * np.ones_like(labels)
    assert not band(halves, **fields).any()


# ---------------------------------------------------------------- thickness that fits the object


@pytest.mark.parametrize("side", ["inner", "outer", "both"])
def test_adapted_to_large_objects_only_it_is_the_plain_band(side: str) -> None:
    labels = np.zeros((1, 40, 44), np.int64)
    labels[0, 4:20, 5:30], labels[0, 24:38, 8:40] = 1, 2
    for iterations in (0, 1, 2, 4):
        np.testing.assert_array_equal(
            band(labels, adapt=1.0, iterations=iterations, side=side),
            band(labels, iterations=iterations, side=side),
        )


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), share=st.sampled_from([0.1, 0.3, 1.0]), dims=st.sampled_from([2, 3]))
def test_no_interior_vanishes(seed: int, share: float, dims: int) -> None:
    labels = np.maximum(blocks(np.random.default_rng(seed), (18,) * dims, top=2), 0)
    rim = band(labels[None], iterations=6, adapt=share, side="inner")[0]
    neighbours = np.ones((3,) * dims, bool)
    for c in (1, 2):
        pieces, count = ndimage.label(labels == c, neighbours)
        for k in range(1, count + 1):
            piece = pieces == k
            padded = np.pad(labels == c, 1, mode="edge")
            left = ndimage.binary_erosion(padded, neighbours)[(slice(1, -1),) * dims] & piece
            if left.any():  # thicker than two voxels: something can be left at all
                assert (piece & (rim == 0)).any()


def test_each_piece_has_its_own_thickness() -> None:
    labels = np.zeros((1, 60, 60), np.int64)
    labels[0, 5:35, 5:35] = 1  # depth 15: 0.3 of it are 4 erosions
    labels[0, 45:50, 45:50] = 1  # depth 3: none by share, one at least
    rim = band(labels, iterations=6, adapt=0.3, side="inner")[0]
    assert rim[5:35, 5:35].sum() == 30**2 - 22**2
    assert rim[45:50, 45:50].sum() == 25 - 9
    around = band(labels, iterations=6, adapt=0.3, side="outer")[0]
    assert around[:40, :40].sum() == 38**2 - 30**2
    assert around[41:, 41:].sum() == 49 - 25


@pytest.mark.parametrize(
    ("depth", "share", "most", "expected"),
    [(1, 0.3, 6, 1), (2, 1.0, 6, 1), (10, 0.3, 6, 3), (100, 0.3, 6, 6), (4, 1.0, 6, 3), (3, 0.0, 6, 1)],
)
def test_thickness_is_clipped(depth: int, share: float, most: int, expected: int) -> None:
    assert thickness(depth, share, most) == expected


# ---------------------------------------------------------------- soft band


def test_a_soft_band_is_a_gaussian_of_the_distance() -> None:
    labels = np.zeros((1, 1, 21), np.int64)
    labels[0, 0, 10:] = 1
    expected = np.exp(-((np.r_[np.arange(9, -1, -1), np.arange(11)] / 3.0) ** 2) / 2)
    np.testing.assert_allclose(band(labels, softness=3.0)[0, 0], expected, rtol=1e-6)
    inner = band(labels, softness=3.0, side="inner")[0, 0]
    np.testing.assert_allclose(inner, expected * (np.arange(21) >= 10), rtol=1e-6)
    outer = band(labels, softness=3.0, side="outer")[0, 0]
    np.testing.assert_allclose(outer, expected * (np.arange(21) < 10), rtol=1e-6)


def test_a_very_narrow_soft_band_is_the_voxels_that_touch() -> None:
    labels = blocks(np.random.default_rng(0), (1, 30, 30))
    soft = band(labels, softness=1e-3)[0]
    one = labels[0]
    touching = np.zeros(one.shape, bool)
    for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
        other = np.roll(one, step, axis)
        edge = [slice(None)] * 2
        edge[axis] = slice(0, 1) if step == 1 else slice(-1, None)
        other[tuple(edge)] = -1
        touching |= (other >= 0) & (other != one)
    np.testing.assert_array_equal(soft, touching & (one >= 0))


def test_a_very_wide_soft_band_is_everything() -> None:
    labels = np.maximum(blocks(np.random.default_rng(1), (1, 20, 20)), 0)
    np.testing.assert_allclose(band(labels, softness=1e6), 1.0, rtol=1e-6)


def test_a_soft_band_knows_the_spacing() -> None:
    labels = np.zeros((1, 5, 5, 5), np.int64)
    labels[0, 2:] = 1
    thick = band(labels, spacing=(10.0, 2.0, 2.0), softness=2.0)[0, :, 0, 0]
    # Slices are 5 finest voxels apart: the touching one is 5 - 1 = 4 voxels from the boundary, the next 9.
    np.testing.assert_allclose(thick[:3], np.exp(-((np.array([9, 4, 4]) / 2.0) ** 2) / 2), rtol=1e-6)


@settings(deadline=None, max_examples=50)
@given(
    labels=LABELS,
    side=st.sampled_from(["inner", "outer", "both"]),
    border=st.sampled_from(["same", "contour"]),
    spacing=st.sampled_from([(1.0, 1.0, 1.0), (5.0, 1.0, 1.0), (1.0, 1.0, 5.0)]),
)
def test_soft_bands_follow_their_definition(
    labels: np.ndarray, side: str, border: str, spacing: tuple[float, ...]
) -> None:
    steps = spacing[-(labels.ndim - 1) :]
    got = band(labels, steps, softness=1.5, side=side, border=border)
    for one, ours in zip(labels, got, strict=True):
        distance = oracle.to_another_class(one, side, steps, border=border == "contour")
        expected = np.exp(-((np.maximum(distance / min(steps[-2:]) - 1, 0) / 1.5) ** 2) / 2)
        np.testing.assert_allclose(ours, expected * (one >= 0), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("overhead", [-(10**6), 10**6])
@pytest.mark.parametrize("side", ["inner", "outer", "both"])
@pytest.mark.parametrize("border", ["same", "contour"])
@pytest.mark.parametrize("dims", [2, 3])
def test_soft_bands_object_by_object_or_all_at_once(
    dims: int, border: str, side: str, overhead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OVERHEAD", overhead)
    labels = np.zeros((25, 28) if dims == 2 else (9, 13, 12), np.int64)
    rng = np.random.default_rng(dims)
    for index in (1, 2, 1, 3, 2):
        corner = [int(rng.integers(0, n - 2)) for n in labels.shape]
        labels[tuple(slice(c, c + int(rng.integers(1, 7))) for c in corner)] = index
    steps = (2.0, 1.0, 1.3)[-dims:]
    got = band(labels[None], steps, softness=0.6, side=side, border=border)[0]
    distance = oracle.to_another_class(labels, side, steps, border=border == "contour")
    expected = np.exp(-((np.maximum(distance / min(steps[-2:]) - 1, 0) / 0.6) ** 2) / 2)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-8)


def test_the_inner_band_is_of_each_class_itself() -> None:
    labels = blocks(np.random.default_rng(2), (1, 25, 25))
    for side in ("inner", "outer", "both"):
        ours = inner_band(as_batch(labels), ContourConfig(side=side), (1.0, 1.0)).numpy()
        np.testing.assert_array_equal(ours[0], oracle.band(labels[0], 4, 1, "inner"))
