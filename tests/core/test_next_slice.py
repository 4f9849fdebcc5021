"""What to label next, in made cases where the answer is plain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_ctxseg.evaluation.next_slice import (
    CLEAR,
    NEAR,
    Candidate,
    Seen,
    features,
    look,
    rank,
    rank_images,
)

SHAPE = (12, 40, 44)


def volume(seed=0, shape=SHAPE):
    """Noise that differs from slice to slice, and a predicted square in each."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=shape) * rng.uniform(0.5, 2, (shape[0], 1, 1)) + rng.normal(size=(shape[0], 1, 1))
    prediction = np.zeros(shape, np.uint8)
    for z in range(shape[0]):
        y, x = rng.integers(2, 20, 2)
        prediction[z, y : y + rng.integers(3, 12), x : x + rng.integers(3, 12)] = 1 + z % 2
    return image, prediction


def order(found):
    return [(one.image, one.index) for one in found]


# ---------------------------------------------------------------- what comes first


def test_the_slice_that_is_unsure_comes_first():
    image, prediction = volume()
    uncertainty = np.where(prediction > 0, 0.1, 0.01)
    uncertainty[7] = np.where(prediction[7] > 0, 0.9, 0.01)
    found = rank([look("a", image, prediction, uncertainty=uncertainty)])
    assert order(found)[0] == ("a", 7)
    assert found[0].reason == "unsure"
    assert found[0].score == 1.0
    assert len(found) == SHAPE[0]


def test_doubt_far_from_everything_counts_only_where_it_is_clear():
    image, prediction = volume()
    prediction[:] = 0
    prediction[:, 10:14, 10:14] = 1
    uncertainty = np.zeros(SHAPE)
    uncertainty[2] = CLEAR - 0.1
    uncertainty[2, 10 - NEAR : 14 + NEAR, 10 - NEAR : 14 + NEAR] = 0  # beyond reach, and faint
    uncertainty[3, 9 - NEAR, 12] = CLEAR - 0.1  # beyond reach by a pixel
    uncertainty[4, 10 - NEAR, 12] = CLEAR - 0.1  # just within
    uncertainty[5, 35, 35] = CLEAR + 0.1  # a structure that may have been missed
    seen = look("a", image, prediction, uncertainty=uncertainty)
    expected = np.zeros(SHAPE[0])
    expected[4], expected[5] = CLEAR - 0.1, CLEAR + 0.1
    np.testing.assert_allclose(seen.unsure, expected)


def test_probable_errors_come_first():
    image, prediction = volume()
    flat = np.full(SHAPE, 0.2)
    fn, fp = flat.copy(), flat.copy()
    fn[4, 5:9, 5:9] = 0.9
    fp[9, 5:9, 5:8] = 0.8
    seen = look("a", image, prediction, fn=fn, fp=fp)
    np.testing.assert_allclose(seen.errors[[4, 9]], [16 * 0.9, 12 * 0.8])
    assert seen.errors.sum() == pytest.approx(16 * 0.9 + 12 * 0.8)
    found = rank([seen])
    assert order(found)[:2] == [("a", 4), ("a", 9)]
    assert found[0].reason == "probable errors"


def test_what_is_unlike_the_labelled_slices_comes_first():
    image, prediction = volume()
    image[:] = np.random.default_rng(1).normal(size=SHAPE)
    prediction[:] = 0
    prediction[:, 5:9, 5:9] = 1
    image[8] = 5 * image[8] + 3
    found = rank([look("a", image, prediction, labelled=[0, 1])])
    assert order(found)[0] == ("a", 8)
    assert found[0].reason == "unlike what is labelled"


def test_both_reasons_beat_one():
    image, prediction = volume()
    uncertainty, fn = np.zeros(SHAPE), np.zeros(SHAPE)
    uncertainty[2, prediction[2] > 0] = 0.5
    uncertainty[8, prediction[8] > 0] = 0.5
    uncertainty[2] *= uncertainty[8].sum() / uncertainty[2].sum()
    fn[8, :4, :4] = 1
    assert order(rank([look("a", image, prediction, uncertainty=uncertainty, fn=fn)]))[:2] == [
        ("a", 8),
        ("a", 2),
    ]


# ---------------------------------------------------------------- what never comes, and what comes later


@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(0, 11)), st.integers(0, 2**31), st.integers(0, 30))
def test_labelled_slices_never_come(labelled, seed, top):
    image, prediction = volume(seed)
    uncertainty = np.random.default_rng(seed).uniform(size=SHAPE)
    found = rank([look("a", image, prediction, uncertainty=uncertainty, labelled=labelled)], top=top)
    indices = [one.index for one in found]
    assert not labelled & set(indices)
    assert len(set(indices)) == len(indices) == min(top, 12 - len(labelled))
    scores = [one.score for one in found]
    assert all(0 <= score <= 1 for score in scores)
    assert scores == sorted(scores, reverse=True)


def test_neighbours_of_a_choice_wait():
    image, prediction = volume()
    uncertainty = np.zeros(SHAPE)
    for z, value in ((3, 1.0), (4, 0.95), (5, 0.9), (10, 0.5)):
        uncertainty[z, :10, :10] = value
        prediction[z, :10, :10] = 1
    found = order(rank([look("a", image, prediction, uncertainty=uncertainty)], top=4))
    assert found[:2] == [("a", 3), ("a", 10)]


def test_a_copy_elsewhere_waits():
    (image, prediction), (other, other_prediction) = volume(0), volume(1)
    uncertainty, other_uncertainty = np.zeros(SHAPE), np.zeros(SHAPE)
    uncertainty[3, :30, :30] = 1
    uncertainty[10, :15, :15] = 1
    # The twin of a whole image: each slice looks like its original.
    found = order(
        rank([
            look("a", image, prediction, uncertainty=uncertainty),
            look("b", image.copy(), prediction.copy(), uncertainty=uncertainty.copy()),
            look("c", other, other_prediction, uncertainty=other_uncertainty),
        ])
    )  # fmt: skip
    assert found[0] == ("a", 3)
    assert found[1] in (("a", 10), ("b", 10)), "not its twin, though that is as unsure"
    assert not {z for _, z in found[2:10]} & {3, 10}, "the twins of both wait"


def test_of_equals_the_first():
    flat = np.zeros((5, 8, 8))
    seen = [look(name, flat, flat.astype(int)) for name in "ab"]
    assert order(rank(seen)) == [(name, z) for name in "ab" for z in range(5)]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31))
def test_the_same_each_time(seed):
    image, prediction = volume(seed)
    uncertainty = np.random.default_rng(seed).uniform(size=SHAPE).astype(np.float16)
    once, again = (
        rank([look("a", image, prediction, uncertainty=uncertainty, labelled=[2])]) for _ in range(2)
    )
    assert once == again


def test_brightness_and_contrast_of_the_whole_do_not_matter():
    image, prediction = volume()
    np.testing.assert_allclose(features(image, prediction), features(7 * image + 300, prediction), atol=1e-9)


def test_flat_images_are_slices_of_their_own():
    rng = np.random.default_rng(0)
    seen = []
    for name, amount in (("a", 0.1), ("b", 0.9), ("c", 0.4)):
        prediction = rng.integers(0, 2, (20, 20))
        uncertainty = np.full((20, 20), amount)
        seen.append(look(name, rng.normal(size=(20, 20)), prediction, uncertainty=uncertainty))
    assert order(rank(seen))[0] == ("b", 0)
    labelled = look("b", rng.normal(size=(20, 20)), prediction, uncertainty=uncertainty, labelled=[0])
    assert "b" not in [name for name, _ in order(rank([seen[0], labelled, seen[2]]))]


def test_images_by_their_best_slices():
    found = [
        Candidate(*each)
        for each in (("a", 0, 0.9), ("b", 0, 0.8), ("b", 4, 0.8), ("b", 8, 0.7), ("a", 5, 0.1))
    ]
    assert rank_images(found) == [("b", pytest.approx(23 / 30)), ("a", 0.5)]
    assert rank_images(found, most=1)[0] == ("a", 0.9)
    assert rank_images([]) == []


# ---------------------------------------------------------------- odd input


def test_nothing_to_suggest():
    assert rank([]) == []
    image, prediction = volume()
    assert rank([look("a", image, prediction, labelled=range(12))]) == []
    assert rank([Seen("a", None, None, np.zeros((3, 0)))], top=0) == []


def test_what_does_not_fit_is_refused():
    image, prediction = volume()
    with pytest.raises(ValueError, match="one shape"):
        look("a", image, prediction[1:])
    with pytest.raises(ValueError, match="one shape"):
        look("a", image[None], prediction[None])
    with pytest.raises(ValueError, match="same name"):
        rank([look("a", image, prediction)] * 2)
