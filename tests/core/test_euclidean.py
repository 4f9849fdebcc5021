"""Distances to one object and dilations of every piece, against measuring everything."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from napari_ctxseg.losses import make_loss
from napari_ctxseg.losses.base import SpatialLoss
from napari_ctxseg.maps import dilation, euclidean
from napari_ctxseg.maps.euclidean import Ruler, bell
from napari_ctxseg.maps.pieces import dilated_pieces
from tests.oracles import losses as oracle

SPACINGS = [(1.0, 1.0, 1.0), (5.0, 1.0, 1.0), (1.0, 1.0, 5.0), (0.2, 0.2, 0.2), (0.1, 0.3, 0.7)]


@settings(deadline=None, max_examples=80)
@given(
    mask=hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=7)),
    room=st.tuples(*[st.tuples(st.integers(0, 6), st.integers(0, 6))] * 3),
    reach=st.sampled_from([0.5, 1.0, 3.0, 7.5, 50.0, 500.0]),
    spacing=st.sampled_from(SPACINGS),
    most=st.sampled_from([-1, 10**9]),
)
def test_squares_are_exact_within_reach(
    mask: np.ndarray,
    room: tuple[tuple[int, int], ...],
    reach: float,
    spacing: tuple[float, ...],
    most: int,
) -> None:
    if not mask.any():
        return
    room, steps = room[: mask.ndim], spacing[-mask.ndim :]
    whole = np.pad(mask, room)
    place = tuple(slice(before, before + n) for (before, _), n in zip(room, mask.shape, strict=True))
    ruler = Ruler.up_to(reach, steps)
    with pytest.MonkeyPatch.context() as patch:  # by rows, or by a transform
        patch.setattr(euclidean, "MOST_ROWS", {2: most, 4: most})
        got = ruler.distances(ruler.squares(mask, place, whole.shape))
    expected = ndimage.distance_transform_edt(~whole, sampling=steps)
    near = expected <= reach
    np.testing.assert_allclose(got[near], expected[near], rtol=1e-6)
    assert (got[~near] > reach * (1 - 1e-6)).all()


def test_whole_numbers_where_they_do() -> None:
    assert Ruler.up_to(33, (1.0, 1.0, 1.0)).whole
    assert Ruler.up_to(6.6, (0.2, 0.2)).whole
    assert Ruler.up_to(33, (5.0, 1.0, 1.0)).reach == (7, 33, 33)
    assert not Ruler.up_to(33, (1.5, 1.0)).whole
    assert not Ruler.up_to(200, (1.0, 1.0)).whole


def test_a_bell_is_cut_where_float32_sees_nothing() -> None:
    distances = np.array([0, 1, 6.5, 6.51, np.inf], np.float32)
    np.testing.assert_allclose(bell(distances, 1.0)[:3], np.exp(-(distances[:3] ** 2) / 2), rtol=2e-6)
    assert not bell(distances, 1.0)[3:].any()
    assert np.float32(1) + bell(distances, 1.0)[2] == 1


# ---------------------------------------------------------------- dilation of every piece


def pieces_of(labels: np.ndarray) -> list[tuple[int, np.ndarray]]:
    found = []
    for c in np.unique(labels[labels > 0]):
        marks, count = ndimage.label(labels == c, np.ones((3,) * labels.ndim, bool))
        found += [(int(c), marks == k) for k in range(1, count + 1)]
    return found


def check_pieces(labels: np.ndarray, radius: float, spacing: tuple[float, ...]) -> None:
    """Every piece of ours, blown up to the batch, is one dilated piece of the oracle, and the other way round."""
    ours = []
    for index, place, mask in dilated_pieces(torch.from_numpy(labels), radius, spacing):
        whole = torch.zeros(labels.shape, dtype=torch.bool)
        whole[place] = mask
        ours.append((index, whole.numpy().tobytes()))
    background = [oracle.dilate(one == 0, radius, spacing) for one in labels]
    expected = [(0, np.stack(background).tobytes())]
    for n, one in enumerate(labels):
        for index, piece in pieces_of(one):
            whole = np.zeros(labels.shape, bool)
            whole[n] = oracle.dilate(piece, radius, spacing)
            expected.append((index, whole.tobytes()))
    assert sorted(ours) == sorted(expected)


@settings(deadline=None, max_examples=40)
@given(
    labels=hnp.arrays(
        np.int64,
        hnp.array_shapes(min_dims=3, max_dims=4, min_side=1, max_side=8),
        elements=st.integers(-1, 2),
    ),
    radius=st.sampled_from([0.0, 1.0, 2.5, 99.0]),
    spacing=st.sampled_from(SPACINGS[:3]),
)
def test_every_piece_is_dilated_by_itself(
    labels: np.ndarray, radius: float, spacing: tuple[float, ...]
) -> None:
    check_pieces(labels, radius, spacing[-(labels.ndim - 1) :])


@pytest.mark.parametrize("radius", [1.0, 3.0, 40.0])
def test_more_pieces_than_bits(radius: float) -> None:
    labels = np.zeros((2, 19, 19), np.int64)
    labels[0, ::2, ::2] = 1  # a hundred, which all meet at the largest radius
    labels[0, ::4, ::4] = 2
    labels[1, 3:5, 3:5] = 1
    check_pieces(labels, radius, (1.0, 1.0))


def test_portions_of_bits_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dilation, "MOST_BITS", 8)
    labels = np.zeros((1, 7, 9, 9), np.int64)
    labels[0, ::2, ::3, ::3] = 1
    check_pieces(labels, 2.0, (2.0, 1.0, 1.0))


def test_the_deciding_class_is_the_one_of_the_largest_weight_and_of_equal_ones_the_first() -> None:
    labels = np.zeros((1, 9, 15), np.int64)
    labels[0, 4, 3], labels[0, 4, 7], labels[0, 4, 13] = 2, 1, 3
    loss = make_loss({"kind": "dilated_balanced_ce", "radius": 3, "per": "component"})
    assert isinstance(loss, SpatialLoss)
    decides = loss.views(torch.from_numpy(labels), 4, (1.0, 1.0)).dilated
    expected = np.zeros_like(labels)
    largest = np.zeros(labels.shape)
    for index, piece in pieces_of(labels[0]):
        grown = oracle.dilate(piece, 3, (1.0, 1.0))
        weight = grown / (1 + grown.sum())
        expected[0] = np.where(weight > largest[0], index, expected[0])
        largest[0] = np.maximum(largest[0], weight)
    assert decides is not None
    np.testing.assert_array_equal(decides.numpy(), expected)
    assert decides[0, 4, 5] == 1  # both discs reach it and are as large
