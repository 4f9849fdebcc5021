from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_ctxseg.gui.samples import sample_data, unlabelled_sample
from napari_ctxseg.phantom import CLASSES, PIXEL, SIDE, make_phantom


@pytest.fixture(scope="module")
def many():
    return make_phantom(subjects=12, seed=3)


def test_same_seed_same_phantom():
    first, again, other = make_phantom(2, 7), make_phantom(3, 7), make_phantom(2, 8)
    for a, b in zip(first, again[:2], strict=True):
        np.testing.assert_array_equal(a.image.array, b.image.array)
        np.testing.assert_array_equal(a.labels, b.labels)
    assert not np.array_equal(first[0].labels, other[0].labels)
    assert not np.array_equal(first[0].labels[0], first[1].labels[0])


def test_grid(many):
    assert [case.group for case in many] == [f"subject-{k}" for k in range(1, 13)]
    for case in many:
        image = case.image
        assert case.labels.shape == image.array.shape == (len(image.array), SIDE, SIDE)
        assert 6 <= len(image.array) <= 8
        assert (image.axes, image.unit, image.spacing[1:]) == ("zyx", "mm", (PIXEL, PIXEL))
        assert image.spacing[0] in (8, 9, 10)
        np.testing.assert_allclose(np.diag(image.affine)[:3], image.spacing)
        assert (image.array.dtype, case.labels.dtype) == (np.uint16, np.uint8)


def test_left_ventricle_is_small(many):
    shares = [(case.labels == CLASSES["LV"]).mean() for case in many]
    assert min(shares) > 0.01
    assert max(shares) < 0.03
    assert np.ptp(shares) > 0.002  # subjects differ


def test_ring(many):
    for case in many:
        for labels in case.labels:
            cavity, ring = labels == CLASSES["LV"], labels == CLASSES["myo"]
            assert set(np.unique(labels)) == {0, 1, 2}
            both = cavity | ring
            assert not both[[0, -1]].any()
            assert not both[:, [0, -1]].any()
            for mask in (cavity, both):
                assert ndimage.label(mask)[1] == 1
                assert ndimage.binary_fill_holes(mask).sum() == mask.sum()
            # The cavity touches nothing but the ring.
            assert both[ndimage.binary_dilation(cavity)].all()
            # Thickness: distance from the outside to the cavity, on the cavity's edge.
            depth = ndimage.distance_transform_edt(both) * PIXEL
            edge = depth[cavity & ndimage.binary_dilation(ring)]
            assert 3 < np.median(edge) < 13
            assert edge.min() > 2


def test_looks_like_mr(many):
    for case in many:
        array, middle = case.image.array.astype(float), len(case.labels) // 2
        labels = case.labels[middle]
        blood = np.median(array[middle][labels == 1])
        muscle = np.median(array[middle][labels == 2])
        air = array[:, :8, :8]
        assert blood > 1.8 * muscle
        # Rician noise around a signal near zero: positive, mean over deviation about 1.9.
        assert 1.5 < air.mean() / air.std() < 2.3
        # Papillary muscles are cavity, and as dark as myocardium.
        dark = array[middle][ndimage.binary_erosion(labels == 1, iterations=2)]
        assert dark.min() < 0.6 * blood


def test_refuses_no_subjects():
    with pytest.raises(ValueError, match="got 0"):
        make_phantom(subjects=0)


def test_sample_layers():
    layers = sample_data()
    assert [kind for _, _, kind in layers] == ["image", "labels"] * 2
    assert [meta["name"] for _, meta, _ in layers] == [
        "subject-1",
        "subject-1 labels",
        "subject-2",
        "subject-2 truth",
    ]
    for (image, place, _), (labels, place_of_labels, _) in zip(layers[::2], layers[1::2], strict=True):
        assert image.shape == labels.shape
        for key in ("scale", "translate", "units", "axis_labels"):
            assert place[key] == place_of_labels[key]
        assert place["metadata"] is not place_of_labels["metadata"]
    assert layers[2][1]["translate"][2] > SIDE * PIXEL  # side by side
    assert not layers[3][1]["visible"]


def test_unlabelled_sample():
    ((array, meta, kind),) = unlabelled_sample()
    np.testing.assert_array_equal(array, sample_data()[0][0])
    assert (kind, meta["name"]) == ("image", "subject-1")
