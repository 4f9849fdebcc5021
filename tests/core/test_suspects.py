"""Suspicious pieces of a slice, against cases where the answer is plain and an oracle that looks at each pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from napari_ctxseg.evaluation.suspects import MEANING, REASONS, Limits, Stages, Suspect, suspects

SHAPE = (30, 36)


def blank():
    return np.zeros(SHAPE, np.uint8)


def full(one):
    """Its mask in the slice."""
    mask = np.zeros(SHAPE, bool)
    mask[one.box] = one.mask
    return mask


def told(found):
    return [(one.reason, one.value, one.size) for one in found]


ALL = np.ones(SHAPE, bool)


def test_every_reason_has_a_meaning():
    assert set(MEANING) == set(REASONS)


# ---------------------------------------------------------------- against the annotation


def test_what_only_one_of_them_has():
    prediction, annotation = blank(), blank()
    prediction[2:8, 2:8] = annotation[2:8, 2:8] = 3
    prediction[12:14, 12:14] = 5  # two pixels wide, and alone: no rim, however thin
    annotation[20:22, 20] = 3
    found = suspects(prediction, annotation=annotation, labelled=ALL)
    assert told(found) == [("not annotated", 5, 4), ("not predicted", 3, 2)]
    assert [one.score for one in found] == [1, 1]
    np.testing.assert_array_equal(full(found[0]), prediction == 5)
    assert found[0].middle == (12.5, 12.5)


def test_a_rim_is_no_suspect_but_a_lobe_is():
    prediction, annotation = blank(), blank()
    annotation[5:15, 5:15] = 1
    prediction[4:15, 5:17] = 1  # one row, and two columns more
    assert suspects(prediction, annotation=annotation, labelled=ALL) == []
    prediction[5:15, 5:18] = 1  # three columns more
    assert [one.reason for one in suspects(prediction, annotation=annotation, labelled=ALL)] == [
        "not annotated"
    ]


def test_another_class_is_both():
    prediction, annotation = blank(), blank()
    prediction[5:10, 5:10], annotation[5:10, 5:10] = 1, 2
    found = suspects(prediction, annotation=annotation, labelled=ALL)
    assert told(found) == [("not annotated", 1, 25), ("not predicted", 2, 25)]


def test_the_annotation_counts_only_where_it_is_labelled():
    prediction, annotation, labelled = blank(), blank(), np.zeros(SHAPE, bool)
    prediction[5:10, 5:10] = annotation[20:25, 20:25] = 1
    assert suspects(prediction, annotation=annotation, labelled=labelled) == []
    labelled[:, :8] = True
    found = suspects(prediction, annotation=annotation, labelled=labelled)
    assert told(found) == [("not annotated", 1, 15)]


def test_the_surer_the_odder():
    prediction, annotation = blank(), blank()
    prediction[5:10, 5:10] = prediction[20:25, 5:10] = 1
    uncertainty = np.full(SHAPE, 0.1, np.float16)
    uncertainty[20:] = 0.8
    found = suspects(prediction, annotation=annotation, labelled=ALL, uncertainty=uncertainty)
    assert [one.score for one in found] == pytest.approx([0.9, 0.2], abs=1e-3)
    assert {one.reason for one in found} == {"not annotated"}, "of labelled pixels nothing else is said"


# ---------------------------------------------------------------- without annotation


def test_unsure_pieces():
    prediction, uncertainty = blank(), np.zeros(SHAPE, np.float32)
    prediction[2:8, 2:8] = prediction[2:8, 20:26] = 4
    uncertainty[2:8, 2:8], uncertainty[2:5, 20:26] = 0.6, 0.9
    found = suspects(prediction, uncertainty=uncertainty)
    assert told(found) == [("unsure", 4, 36)]
    assert found[0].score == pytest.approx(0.6)
    assert len(suspects(prediction, uncertainty=uncertainty, limits=Limits(unsure=0.44))) == 2


def test_islands():
    prediction = blank()
    prediction[2, 2:10] = 1  # 8 pixels
    prediction[10, 2:11] = 1  # 9
    prediction[20, 20] = prediction[21, 21] = 1  # one piece: they touch at a corner
    found = suspects(prediction)
    assert told(found) == [("island", 1, 8), ("island", 1, 2)]
    assert found[1].score > found[0].score > 0
    assert suspects(prediction, limits=Limits(island=0)) == []
    above = blank()
    above[20, 20], above[2, 5] = 1, 2
    assert told(suspects(prediction, beside=[above])) == [("island", 1, 8)], (
        "a slice of something longer is none"
    )


def test_one_piece_is_there_once():
    prediction, uncertainty = blank(), np.full(SHAPE, 0.9, np.float32)
    prediction[3:5, 3:5] = 1
    assert told(suspects(prediction, uncertainty=uncertainty)) == [("unsure", 1, 4)]


# ---------------------------------------------------------------- two stages


def stages(**masks):
    first = np.zeros((3, *SHAPE), np.float16)
    first[0] = 1
    made = {"first": first, "fn": np.zeros((3, *SHAPE), np.float16), "fp": np.zeros((3, *SHAPE), np.float16)}
    return Stages((7, 9), thresholds=(0.5, 0.4), **(made | masks))


def test_what_the_second_stage_says():
    first, fn, fp = (np.zeros((3, *SHAPE), np.float16) for _ in range(3))
    first[0] = 0.5
    first[2, 10:14, 10:14] = 1
    fn[1, 2:5, 2:5] = 0.75
    fn[0, 10:14, 10:14] = 0.9  # background was missed there: said by the class that was made up
    fp[2, 10:14, 10:14] = 0.5
    fp[2, 20:24, 20:24] = 0.9  # nothing there that could have been made up
    fn[2, 26:28, 2:4] = fp[2, 26:28, 2:4] = 0.9  # both: neither
    found = suspects(blank(), stages=stages(first=first, fn=fn, fp=fp))
    assert told(found) == [("missed", 7, 9), ("made up", 9, 16)]
    assert [one.score for one in found] == [0.75, 0.5]
    nothing = suspects(blank(), stages=stages(first=first, fn=fn, fp=fp), annotation=blank(), labelled=ALL)
    assert nothing == [], "where the annotation counts, it has the last word"


# ---------------------------------------------------------------- in general


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.uint8, (9, 10), elements=st.integers(0, 2)),
    arrays(np.uint8, (9, 10), elements=st.integers(0, 2)),
    st.booleans(),
)
def test_disagreements_are_pieces_of_the_difference(prediction, annotation, half):
    labelled = np.ones((9, 10), bool)
    if half:
        labelled[:, 5:] = False
    found = suspects(prediction, annotation=annotation, labelled=labelled, limits=Limits(island=0))
    for one in found:
        mask = np.zeros((9, 10), bool)
        mask[one.box] = one.mask
        here, there = (prediction, annotation) if one.reason == "not annotated" else (annotation, prediction)
        different = (here == one.value) & (there != one.value) & labelled
        pieces, _ = ndimage.label(different, np.ones((3, 3)))
        (number,) = np.unique(pieces[mask])
        assert number
        np.testing.assert_array_equal(mask, pieces == number)
        tight = ndimage.find_objects(mask.astype(int))[0]
        assert one.box == tight
    # Whatever is not told is a rim: thin, and beside what both have.
    for value in (1, 2):
        for here, there, reason in (
            (prediction, annotation, "not annotated"),
            (annotation, prediction, "not predicted"),
        ):
            different = (here == value) & (there != value) & labelled
            both = (here == value) & (there == value) & labelled
            pieces, count = ndimage.label(different, np.ones((3, 3)))
            for number in range(1, count + 1):
                mask = pieces == number
                inner = [
                    all(mask[y + a, x + b] for a, b in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)))
                    for y in range(1, 8)
                    for x in range(1, 9)
                ]
                beside = (ndimage.binary_dilation(mask, np.ones((3, 3))) & both).any()
                expected = any(inner) or not beside
                same = [o for o in found if o.reason == reason and o.value == value and o.size == mask.sum()]
                assert not expected or same


@settings(max_examples=40, deadline=None)
@given(arrays(bool, (6, 7)), arrays(bool, (6, 7)), st.integers(0, 3), st.integers(0, 3))
def test_covered_is_the_share_of_pixels(one, other, dy, dx):
    def made(mask, dy, dx, value=1):
        box = (slice(dy, dy + 6), slice(dx, dx + 7))
        return Suspect(value, "unsure", box, mask, 0.5)

    if not one.any():
        return
    big = np.zeros((2, 12, 12), bool)
    big[0, :6, :7], big[1, dy : dy + 6, dx : dx + 7] = one, other
    a, b = made(one, 0, 0), made(other, dy, dx)
    assert a.covered(b) == pytest.approx((big[0] & big[1]).sum() / one.sum())
    assert a.covered(made(other, dy, dx, value=2)) == 0


def test_noise_does_not_flood_the_table():
    prediction = (np.random.default_rng(0).uniform(size=(512, 512)) > 0.9).astype(np.uint8)
    assert len(suspects(prediction, annotation=0 * prediction, labelled=prediction == prediction)) <= 100
    assert len(suspects(prediction)) <= 100
