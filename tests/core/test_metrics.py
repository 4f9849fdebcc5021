from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_ctxseg.evaluation.metrics import MEASURES, evaluate_case, summarise
from tests.oracles import metrics as oracle

VALUES = {"LV": 7, "myo": 300}
small = hnp.array_shapes(min_dims=2, max_dims=3, min_side=2, max_side=6)
steps = st.floats(0.1, 12, allow_nan=False)


@st.composite
def label_pairs(draw):
    shape = draw(small)
    labels = hnp.arrays(np.uint16, shape, elements=st.sampled_from([0, 0, 7, 300, 5]))
    return draw(labels), draw(labels), tuple(draw(steps) for _ in shape)


def one(prediction, reference, spacing=None):
    return evaluate_case(np.asarray(prediction), np.asarray(reference), {"x": 1}, spacing)["x"]


@settings(max_examples=150, deadline=None)
@given(label_pairs())
def test_equals_brute_force(pair):
    prediction, reference, spacing = pair
    for name, scores in evaluate_case(prediction, reference, VALUES, spacing, "mm").items():
        p, r = prediction == VALUES[name], reference == VALUES[name]
        assert (scores.predicted, scores.reference, scores.unit) == (p.sum(), r.sum(), "mm")
        if not p.any() and not r.any():
            assert all(getattr(scores, m) is None for m in MEASURES)
            continue
        for measure, value in oracle.overlap(p, r).items():
            assert getattr(scores, measure) == pytest.approx(value)
        if p.any() and r.any():
            assert (scores.hausdorff, scores.hd95) == pytest.approx(oracle.distances(p, r, spacing))
        else:
            assert scores.dice == scores.iou == scores.precision == scores.recall == 0
            assert scores.hausdorff is scores.hd95 is None


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((40, 52), None), ((40, 52), (1.4, 0.7)), ((14, 30, 26), None), ((14, 30, 26), (8.0, 1.3, 1.4))],
)
def test_equals_monai(shape, spacing):
    import torch
    from monai.metrics import compute_hausdorff_distance, compute_iou
    from monai.metrics.meandice import compute_dice
    from scipy import ndimage

    rng = np.random.default_rng(1)
    smooth = ndimage.gaussian_filter(rng.normal(size=(2, *shape)), (0, *(2,) * len(shape)))
    prediction, reference = ((s > s.std() * 0.5).astype(np.uint8) for s in smooth)
    assert reference.any(axis=tuple(range(1, reference.ndim)))[0]  # touches the border: the convention shows
    scores = one(prediction, reference, spacing)
    p, r = torch.from_numpy(prediction)[None, None], torch.from_numpy(reference)[None, None]
    for percentile, value in ((None, scores.hausdorff), (95, scores.hd95)):
        expected = compute_hausdorff_distance(
            p, r, include_background=True, percentile=percentile, spacing=spacing
        )
        assert value == pytest.approx(float(expected), rel=1e-5)
    assert scores.dice == pytest.approx(float(compute_dice(p, r)), rel=1e-6)
    assert scores.iou == pytest.approx(float(compute_iou(p, r)), rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(label_pairs())
def test_symmetry_and_identity(pair):
    a, b, spacing = pair
    for name, there in evaluate_case(a, b, VALUES, spacing).items():
        back = evaluate_case(b, a, VALUES, spacing)[name]
        assert (there.dice, there.iou, there.hausdorff, there.hd95) == (
            back.dice,
            back.iou,
            back.hausdorff,
            back.hd95,
        )
        assert (there.precision, there.recall) == (back.recall, back.precision)
    for name, same in evaluate_case(a, a, VALUES, spacing).items():
        expected = (1, 1, 1, 1, 0, 0) if (a == VALUES[name]).any() else (None,) * 6
        assert tuple(getattr(same, m) for m in MEASURES) == expected


@settings(max_examples=60, deadline=None)
@given(label_pairs(), st.floats(0.1, 50))
def test_distances_scale_with_the_spacing_and_overlap_does_not(pair, factor):
    a, b, spacing = pair
    plain = evaluate_case(a, b, VALUES, spacing)
    scaled = evaluate_case(a, b, VALUES, tuple(s * factor for s in spacing))
    for name, scores in plain.items():
        assert scaled[name].dice == scores.dice
        if scores.hausdorff is not None:
            assert scaled[name].hausdorff == pytest.approx(scores.hausdorff * factor)
            assert scaled[name].hd95 == pytest.approx(scores.hd95 * factor)


@settings(max_examples=40, deadline=None)
@given(label_pairs(), st.integers(0, 2))
def test_one_slice_is_the_image(pair, axis):
    a, b, spacing = (
        pair[0].reshape(pair[0].shape[0], -1),
        pair[1].reshape(pair[1].shape[0], -1),
        pair[2][:2],
    )
    thick = [*spacing]
    thick.insert(axis, 9.0)
    assert evaluate_case(np.expand_dims(a, axis), np.expand_dims(b, axis), VALUES, thick) == evaluate_case(
        a, b, VALUES, spacing
    )


def test_single_voxels():
    a, b = np.zeros((5, 6, 7), np.int64), np.zeros((5, 6, 7), np.int64)
    a[0, 0, 0] = b[3, 4, 6] = 1
    scores = one(a, b, (10, 2, 1))
    assert (scores.dice, scores.iou, scores.precision, scores.recall) == (0, 0, 0, 0)
    assert scores.hausdorff == scores.hd95 == pytest.approx(math.sqrt(30**2 + 8**2 + 6**2))
    assert one(np.ones((1, 1), bool), np.ones((1, 1), bool)).hausdorff == 0


def test_the_image_border_is_a_boundary():
    # Two rectangles that fill the height: without the border's voxels only the cut sides would count.
    a, b = np.zeros((9, 20), np.uint8), np.zeros((9, 20), np.uint8)
    a[:, :10], b[:, :14] = 1, 1
    assert one(a, b).hausdorff == 4


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int32, np.int64, np.uint32])
def test_label_types(dtype):
    a = np.zeros((4, 5), dtype)
    a[1:3, 2:4] = 100
    view = np.asfortranarray(a)
    assert evaluate_case(a, view, {"c": 100, "other": 1000})["c"].dice == 1
    assert evaluate_case(a == 100, np.asfortranarray(a == 100), {"c": 1})["c"].dice == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((np.zeros((2, 2), int), np.zeros((2, 3), int), {"x": 1}), r"\(2, 2\).*\(2, 3\)"),
        ((np.zeros((2, 2)), np.zeros((2, 2), int), {"x": 1}), "integers, got float64"),
        ((np.zeros((2, 2), int), np.zeros((2, 2), int), {"x": 1, "y": 1}), "share"),
        ((np.zeros((2, 2), int), np.zeros((2, 2), int), {"x": 1}, (1, 2, 3)), "needs 2"),
        ((np.zeros((2, 2), int), np.zeros((2, 2), int), {"x": 1}, (1, 0)), "positive"),
        ((np.zeros((2, 2), int), np.zeros((2, 2), int), {"x": 1}, (1, math.nan)), "positive"),
    ],
)
def test_refuses(arguments, words):
    with pytest.raises(ValueError, match=words):
        evaluate_case(*arguments)


def cases():
    full, empty, half = np.ones((2, 2), int), np.zeros((2, 2), int), np.array([[1, 1], [0, 0]])
    pairs = {"good": (full, full), "half": (half, full), "missed": (empty, full), "invented": (half, empty)}
    pairs["absent"] = (empty, empty)
    return {name: evaluate_case(p, r, {"x": 1, "y": 2}, unit="mm") for name, (p, r) in pairs.items()}


def test_summary_counts_and_means():
    summary = summarise(cases())
    row = summary.classes["x"]
    assert row["dice"] == pytest.approx((1 + 2 / 3 + 0 + 0) / 4)
    assert row["hausdorff"] == pytest.approx((0 + 1) / 2)
    counts = {k: row[k] for k in ("cases", "absent", "missed", "invented", "distances")}
    assert counts == {"cases": 4, "absent": 1, "missed": 1, "invented": 1, "distances": 2}
    assert summary.classes["y"]["dice"] is None
    assert summary.classes["y"]["absent"] == 5
    assert summary.mean["dice"] == row["dice"]  # a class that is nowhere does not count as 0
    assert summary.mean["unit"] == "mm"


def test_summary_is_a_mean_over_cases_then_classes():
    two = {"x": 1, "y": 2}
    perfect, swapped = np.array([[1, 2]]), np.array([[1, 0]])
    summary = summarise(
        {"a": evaluate_case(perfect, perfect, two), "b": evaluate_case(swapped, perfect, two)}
    )
    assert (summary.classes["x"]["dice"], summary.classes["y"]["dice"]) == (1, 0.5)
    assert summary.mean["dice"] == 0.75


def test_summary_as_json():
    text = json.dumps(summarise(cases()).to_json(), allow_nan=False)
    record = json.loads(text)
    assert set(record) == {"mean", "classes", "cases"}
    assert set(MEASURES) <= set(record["mean"])
    assert [c["name"] for c in record["cases"]] == ["good", "half", "missed", "invented", "absent"]
    assert record["cases"][0]["classes"]["x"]["dice"] == 1
    assert summarise({}).to_json() == {
        "mean": {**dict.fromkeys(MEASURES), "unit": None},
        "classes": {},
        "cases": [],
    }


def test_units_that_differ_have_no_mean_distance():
    one_px = np.ones((2, 2), int)
    mixed = {u: evaluate_case(one_px, one_px, {"x": 1}, unit=u) for u in ("mm", "pixel")}
    summary = summarise(mixed)
    assert summary.classes["x"]["dice"] == 1
    assert summary.classes["x"]["hausdorff"] is summary.mean["hd95"] is None
