"""Preparation steps against numpy, SimpleITK and scikit-image called directly."""

from __future__ import annotations

import typing

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from skimage import exposure, transform

from napari_ctxseg.cases import Case
from napari_ctxseg.errors import InputError
from napari_ctxseg.image import Image, image_from_array, plain_affine
from napari_ctxseg.recipes.steps import STEPS, apply, learn, parse_step
from napari_ctxseg.recipes.steps.config import AnyStep
from napari_ctxseg.recipes.steps.values import SCALE, learn_nyul, nyul_landmarks

RNG = np.random.default_rng(7)
#: An oblique grid: rotated by 20 degrees about x, in LPS, order z, y, x.
TURN = np.deg2rad(20)
ROTATION = np.array([[np.cos(TURN), -np.sin(TURN), 0], [np.sin(TURN), np.cos(TURN), 0], [0, 0, 1]])


def case_of(array, labels=None, spacing=None, axes=None):
    axes = axes or "zyx"[-array.ndim :]
    image = image_from_array(array, axes, spacing=spacing)
    shape = image.spatial_shape
    return Case("P1", image, np.zeros(shape, np.uint8) if labels is None else labels, "P1")


def one(steps, case, standards=()):
    (done,) = apply([parse_step(step) for step in steps], case, standards)
    return done


def blobs(shape):
    """Values and labels of three values that may only be moved."""
    values = np.add.outer(np.arange(shape[-2]) ** 1.5, 3.0 * np.arange(shape[-1]))
    values = np.broadcast_to(values, shape) + 2.0 * np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    labels = RNG.choice([0, 3, 7, 200], shape).astype(np.uint8)
    return values.astype(np.float32), labels


# ---------------------------------------------------------------- the table


def test_every_step_has_one_builder():
    assert set(STEPS) == set(typing.get_args(AnyStep))
    for cls in STEPS:
        assert type(parse_step(cls.model_fields["kind"].default)) is cls


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "resample", "spacing": [0, 1, 1]},
        {"kind": "crop_pad", "size": [0, 1]},
        {"kind": "crop_pad", "size": [1, 2, 3, 4]},
        {"kind": "window", "low": 5, "high": 5},
        {"kind": "percentiles", "low": 50, "high": 40},
        {"kind": "nyul", "percentiles": [50, 10]},
        {"kind": "nyul", "percentiles": [50]},
        {"kind": "z_score", "over": "brain"},
        {"kind": "sharpen"},
        {"kind": "min_max", "more": 1},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValidationError):
        parse_step(wrong)


# ---------------------------------------------------------------- grids


@pytest.mark.parametrize("how", ["linear", "bspline"])
def test_resampling_is_what_simpleitk_does_in_space(how):
    values, labels = blobs((6, 20, 22))
    steps = (3.0, 0.8, 0.7)
    affine = np.eye(4)
    affine[:3, :3] = ROTATION @ np.diag(steps)
    affine[:3, 3] = (5, -40, 12)
    image = Image(values, "zyx", steps, affine, unit="mm")
    done = one(
        [{"kind": "resample", "spacing": [1.5, 1.1, None], "interpolation": how}], Case("P", image, labels)
    )
    assert done.image.spacing == pytest.approx((1.5, 1.1, 0.7))

    def itk(array, grid, spacing):
        found = sitk.GetImageFromArray(array)
        found.SetSpacing(tuple(map(float, spacing[::-1])))
        found.SetOrigin(tuple(map(float, grid[:3, 3][::-1])))
        direction = (grid[:3, :3] / np.asarray(spacing))[::-1, ::-1]
        found.SetDirection(direction.reshape(-1).tolist())
        return found

    target = itk(np.zeros(done.image.array.shape, np.float32), done.image.affine, done.image.spacing)
    for array, own, mode in (
        (values, done.image.array, {"linear": sitk.sitkLinear, "bspline": sitk.sitkBSpline}[how]),
        (labels, done.labels, sitk.sitkNearestNeighbor),
    ):
        expected = sitk.GetArrayFromImage(
            sitk.Resample(
                itk(array, affine, steps), target, sitk.Transform(), mode, -999.0 if array is values else 99
            )
        )
        inside = expected != (-999.0 if array is values else 99)
        assert inside.mean() > 0.5
        if array is values:
            np.testing.assert_allclose(own[inside], expected[inside], rtol=1e-4, atol=1e-2)
        else:  # half-way places may be rounded either way
            assert (own[inside] == expected[inside]).mean() > 0.98


@given(
    st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9)),
    st.tuples(*[st.floats(0.3, 3)] * 3),
    st.tuples(*[st.one_of(st.none(), st.floats(0.3, 3))] * 3),
)
def test_resampling_keeps_centre_extent_and_values(shape, spacing, wanted):
    values, labels = blobs(shape)
    case = case_of(values, labels, spacing)
    done = one([{"kind": "resample", "spacing": wanted}], case)
    assert set(np.unique(done.labels)) <= set(np.unique(labels))
    assert done.image.array.min() >= values.min() - 1e-3
    assert done.image.array.max() <= values.max() + 1e-3
    for axis, (n, s, w) in enumerate(zip(shape, spacing, wanted, strict=True)):
        m = done.image.spatial_shape[axis]
        if w is None:
            assert m == n
        else:
            assert abs(m * w - n * s) <= 0.5 * w + 1e-9 or m == 1
            assert done.image.spacing[axis] == pytest.approx(w)
    centres = [
        (image.affine @ [*[(n - 1) / 2 for n in image.spatial_shape], 1])[:-1]
        for image in (case.image, done.image)
    ]
    np.testing.assert_allclose(*centres, atol=1e-6)


@given(st.tuples(*[st.integers(1, 9)] * 3), st.tuples(*[st.one_of(st.none(), st.integers(1, 12))] * 3))
def test_cropping_keeps_the_middle_and_its_place(shape, size):
    labels = (1 + np.arange(np.prod(shape))).reshape(shape)
    case = case_of(labels.astype(np.float32), labels, (2.0, 0.5, 0.7))
    done = one([{"kind": "crop_pad", "size": size}], case)
    assert done.labels.shape == tuple(n if w is None else w for n, w in zip(shape, size, strict=True))
    kept = np.argwhere(done.labels > 0)
    assert len(kept) == np.prod([min(n, w or n) for n, w in zip(shape, size, strict=True)])
    before = np.stack(np.unravel_index(done.labels[done.labels > 0] - 1, shape), axis=1)
    ones = np.ones((len(kept), 1))
    np.testing.assert_allclose(
        np.hstack([kept, ones]) @ done.image.affine.T,
        np.hstack([before, ones]) @ case.image.affine.T,
        atol=1e-9,
    )
    assert (done.image.array == done.labels)[done.labels > 0].all()
    assert done.image.array.min() == labels.min() or len(kept) < labels.size  # padded with the least value
    for n, w in zip(shape, size, strict=True):
        assert abs(((n - (w or n)) // 2) - (n - (w or n)) / 2) <= 0.5


def test_cropping_a_slice_takes_the_last_numbers_and_channels_stay():
    array = RNG.normal(size=(3, 10, 12))
    case = case_of(array, RNG.integers(0, 2, (10, 12)), axes="cyx")
    done = one([{"kind": "crop_pad", "size": [None, 6, 14]}], case)
    assert done.image.array.shape == (3, 6, 14)
    np.testing.assert_array_equal(done.image.array[:, :, 1:13], array[:, 2:8])
    assert done.image.channels == case.image.channels
    volume = one([{"kind": "crop_pad", "size": [5, 4]}], case_of(np.zeros((3, 8, 8))))
    assert volume.image.array.shape == (3, 5, 4)


@pytest.mark.parametrize("axes", ["yx", "cyx", "zyx"])
def test_resizing_is_scikit_images_and_never_makes_labels(axes):
    shape = {"yx": (30, 41), "cyx": (3, 30, 41), "zyx": (2, 30, 41)}[axes]
    array = RNG.normal(size=shape).astype(np.float32)
    labels = RNG.choice([0, 3, 200], shape[-len(axes.replace("c", "")) :]).astype(np.uint8)
    case = case_of(array, labels, axes=axes)
    done = one([{"kind": "resize", "size": [16, 20]}], case)
    flat = array.reshape(-1, 30, 41)
    expected = [
        transform.resize(a, (16, 20), order=1, mode="edge", anti_aliasing=True, preserve_range=True)
        for a in flat
    ]
    np.testing.assert_allclose(done.image.array.reshape(-1, 16, 20), expected, atol=1e-5)
    assert set(np.unique(done.labels)) <= {0, 3, 200}
    rows = np.floor((np.arange(16) + 0.5) * 30 / 16).astype(int)
    picked = labels[..., rows, :]
    assert done.labels.shape[-2:] == (16, 20)
    assert all(set(np.unique(done.labels[..., i, :])) <= set(np.unique(picked[..., i, :])) for i in range(16))
    assert done.image.spacing[-2:] == pytest.approx((30 / 16, 41 / 20))


def test_slices_of_a_volume():
    values, labels = blobs((5, 8, 9))
    labels[:] = 0
    labels[1, 2, 2] = labels[3, 4, 4] = 1
    case = case_of(values, labels, (4.0, 0.5, 0.6))
    kept = apply([parse_step({"kind": "slices", "keep": "foreground"})], case)
    assert [each.name for each in kept] == ["P1__z001", "P1__z003"]
    assert all(each.group == "P1" and each.image.spacing == (0.5, 0.6) for each in kept)
    np.testing.assert_array_equal(kept[1].image.array, values[3])
    np.testing.assert_array_equal(kept[1].labels, labels[3])
    assert len(apply([parse_step("slices")], case)) == 5
    flat = case_of(values[0], labels[0])
    assert apply([parse_step({"kind": "slices", "keep": "foreground"})], flat) == []
    assert apply([parse_step("slices")], flat) == [flat]
    channels = case_of(np.stack([values, -values]), labels, axes="czyx")
    assert apply([parse_step("slices")], channels)[2].image.axes == "cyx"


# ---------------------------------------------------------------- values

VALUES = RNG.gamma(3, 30, (2, 6, 12, 14)).astype(np.float32)
VALUES[:, :, :4] = 0
ORACLES = {
    "window": ({"low": 20, "high": 90}, lambda v: (np.clip(v, 20, 90) - 20) / 70),
    "percentiles": (
        {"low": 5, "high": 90},
        lambda v: np.clip(v, np.quantile(v, 0.05), np.quantile(v, 0.9)),
    ),
    "min_max": ({}, lambda v: (v - v.min()) / (v.max() - v.min())),
    "z_score": ({}, lambda v: (v - v.mean()) / v.std()),
    "equalise_histogram": ({"bins": 64}, lambda v: exposure.equalize_hist(v, nbins=64)),
}


@pytest.mark.parametrize("kind", list(ORACLES))
@pytest.mark.parametrize("axes", ["yx", "zyx", "czyx"])
def test_values_against_numpy(kind, axes):
    more, oracle = ORACLES[kind]
    array = {"yx": VALUES[0, 2], "zyx": VALUES[0], "czyx": VALUES}[axes]
    case = case_of(array, axes=axes)
    done = one([{"kind": kind, **more}], case)
    channels = array if axes.startswith("c") else array[None]
    expected = np.stack([oracle(channel.astype(np.float64)) for channel in channels])
    np.testing.assert_allclose(done.image.channel_array, expected, rtol=1e-5, atol=1e-6)
    assert done.image.array.dtype == np.float32
    assert done.labels is case.labels
    np.testing.assert_array_equal(done.image.affine, case.image.affine)


def test_z_score_of_the_brain_leaves_the_air_at_0():
    done = one([{"kind": "z_score", "over": "nonzero"}], case_of(VALUES, axes="czyx"))
    for channel, before in zip(done.image.array, VALUES, strict=True):
        inside = before != 0
        assert (channel[~inside] == 0).all()
        assert channel[inside].mean() == pytest.approx(0, abs=1e-5)
        assert channel[inside].std() == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(
            channel[inside], (before[inside] - before[inside].mean()) / before[inside].std(), atol=1e-4
        )


@pytest.mark.parametrize("kind", [*ORACLES, "n4"])
def test_constant_images_stay_finite(kind):
    more = ORACLES[kind][0] if kind in ORACLES else {"iterations": [2]}
    for value in (0.0, 5.0):
        done = one([{"kind": kind, **more}], case_of(np.full((4, 8, 8), value)))
        assert np.isfinite(done.image.array).all()


def test_n4_takes_out_a_slope():
    grid = np.linspace(-1, 1, 24)
    true = np.where(np.add.outer(grid**2, grid**2) < 0.9, np.where(grid > 0, 100.0, 160.0), 0.0)
    field = np.exp(0.5 * grid)[:, None] * np.ones(24)
    done = one(
        [{"kind": "n4", "shrink": 1, "iterations": [30, 30]}], case_of((true * field).astype(np.float32))
    )
    for tissue in (100.0, 160.0):
        spread = [
            v[true == tissue].std() / v[true == tissue].mean() for v in (true * field, done.image.array)
        ]
        assert spread[1] < 0.5 * spread[0]
    assert (done.image.array[true == 0] == 0).all()


# ---------------------------------------------------------------- Nyul


def test_nyul_makes_images_that_differ_by_gain_and_offset_the_same():
    base = RNG.gamma(3, 30, (5, 12, 14)) + 1
    base[:, :3] = 0
    inside = base > 0
    images = [np.where(inside, gain * base + offset, 0) for gain, offset in ((1, 0), (2.5, 40), (0.3, 7))]
    steps = [parse_step("nyul")]
    cases = [case_of(image) for image in images]
    standards = learn(steps, lambda: cases)
    done = [apply(steps, case, standards)[0].image.array for case in cases]
    for other in done[1:]:
        np.testing.assert_allclose(other, done[0], atol=2e-3)
    assert (done[0][~inside] == 0).all()
    found = np.percentile(done[0][inside].astype(np.float64), steps[0].percentiles)
    np.testing.assert_allclose(found, standards[0][0], atol=0.5)
    assert (standards[0][0][0], standards[0][0][-1]) == SCALE


def test_a_dark_voxel_inside_is_not_taken_for_outside_by_the_step_that_follows():
    """The first landmark of whole numbers, which many voxels have, is brought to 0, and 0 is outside elsewhere."""
    base = RNG.integers(1, 300, (5, 12, 14)).astype(np.float64)
    base[base < 12] = 12  # many voxels at the first percentile
    base[:, :3] = 0
    inside = base > 0
    steps = [parse_step("nyul"), parse_step({"kind": "z_score", "over": "nonzero"})]
    case = case_of(base)
    (done,) = apply(steps, case, learn(steps, lambda: [case]))
    values = done.image.array
    assert (values[~inside] == 0).all()
    assert (values[inside] != 0).all()
    assert values[inside].std() == pytest.approx(1, abs=1e-4)
    assert values[base == 12].max() < -1, "the darkest, not the mean"


def test_nyul_is_straight_lines_between_landmarks_and_beyond():
    config = parse_step({"kind": "nyul", "percentiles": [0, 50, 100], "over": "mean"})
    case = case_of(np.array([[0.0, 10.0], [20.0, 40.0]]))
    (marks,) = nyul_landmarks(config, case)
    np.testing.assert_allclose(marks, np.percentile([20.0, 40.0], [0, 50, 100]))  # above the mean, 17.5
    done = one([config], case, [((0.0, 30.0, 100.0),)]).image.array
    # 20 -> 0, 30 -> 30, 40 -> 100; below 20 the first line goes on.
    np.testing.assert_allclose(done, [[-60.0, -30.0], [0.0, 100.0]], atol=1e-4)


def test_nyul_learns_the_mean_of_scaled_landmarks():
    config = parse_step({"kind": "nyul", "percentiles": [0, 50, 100]})
    standard = learn_nyul(config, [((0.0, 1.0, 4.0),), ((10.0, 16.0, 20.0),), ((5.0, 5.0, 5.0),)])
    np.testing.assert_allclose(standard, [[0, (25 + 60) / 2, 100]])  # the constant image teaches nothing


def test_nyul_of_strange_images():
    config = parse_step("nyul")
    with pytest.raises(InputError, match="constant"):
        learn([config], lambda: [case_of(np.ones((4, 4)))])
    standard = tuple(float(v) for v in range(0, 110, 10))
    done = one([config], case_of(np.full((4, 4), 3.0)), [(standard,)])
    assert np.isfinite(done.image.array).all()
    with pytest.raises(InputError, match="channels"):
        one([config], case_of(VALUES, axes="czyx"), [(standard,)])


def test_a_standard_is_learnt_after_the_steps_before():
    steps = [parse_step({"kind": "window", "low": 0, "high": 100}), parse_step("nyul"), parse_step("min_max")]
    cases = [case_of(VALUES[0]), case_of(VALUES[1] * 2)]
    (own,) = learn(steps, lambda: cases)
    marks = [nyul_landmarks(steps[1], apply(steps[:1], case)[0]) for case in cases]
    assert own == learn_nyul(steps[1], marks)
    done = apply(steps, cases[0], [own])[0].image.array
    assert (done.min(), done.max()) == (0, 1)


def test_several_steps_in_a_row_keep_places():
    values, labels = blobs((4, 16, 18))
    affine = plain_affine((4.0, 1.0, 1.0))
    affine[:3, 3] = (100, 50, -20)
    case = Case("P", Image(values, "zyx", (4.0, 1.0, 1.0), affine), labels)
    done = one(
        [{"kind": "resample", "spacing": [4, 2, 2]}, "min_max", {"kind": "crop_pad", "size": [4, 6, 12]}],
        case,
    )
    assert done.image.spatial_shape == done.labels.shape == (4, 6, 12)
    # 8 x 9 voxels of 2 mm, cropped by 1 row and padded by 1 column at the start
    np.testing.assert_allclose(
        done.image.affine @ [0, 0, 0, 1], [100, 50 + 0.5 + 2 * 1, -20 + 0.5 - 2 * 1, 1], atol=1e-9
    )
