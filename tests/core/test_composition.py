"""The second stage's masks on the first stage's: the released truth table, and what must hold for any masks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_ctxseg.composition import (
    GRID,
    compose_classes,
    compose_regions,
    compose_soft,
    error_targets,
    fit_thresholds,
)

#: methods.md section 7: (first stage, FN fires, FP fires) -> foreground.
TRUTH_TABLE = {
    (0, 0, 0): 0,
    (0, 0, 1): 0,
    (0, 1, 0): 1,
    (0, 1, 1): 0,
    (1, 0, 0): 1,
    (1, 0, 1): 0,
    (1, 1, 0): 1,
    (1, 1, 1): 1,
}
unit = st.floats(0, 1, width=32)


def maps(*shape: int) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.float32, shape, elements=unit)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(4 * x)
    return e / e.sum(axis=0)


@pytest.mark.parametrize("thresholds", [(0.5, 0.5), (0.75, 0.75), (0.65, 0.9), (0.9, 0.65)])
@pytest.mark.parametrize(("case", "expected"), TRUTH_TABLE.items())
def test_truth_table(case: tuple[int, int, int], expected: int, thresholds: tuple[float, float]) -> None:
    mask, missed, made_up = case
    fn = np.array([thresholds[0] + (0.05 if missed else -0.05)])
    fp = np.array([thresholds[1] + (0.05 if made_up else -0.05)])
    for stage1 in (np.array([bool(mask)]), np.array([mask], np.uint8), np.array([2.0 * mask - 1])):
        assert compose_regions(stage1, fn, fp, *thresholds).tolist() == [bool(expected)]


@given(maps(3, 4, 5), maps(3, 4, 5), maps(3, 4, 5))
def test_thresholds_of_one_change_nothing(p: np.ndarray, fn: np.ndarray, fp: np.ndarray) -> None:
    assert np.array_equal(compose_classes(p, fn, fp, 1, 1), p.argmax(0))
    assert np.array_equal(compose_regions(p > 0.5, fn, fp, 1, 1), p > 0.5)


@given(maps(6), maps(6), maps(6), st.floats(0.5, 1))
def test_two_classes_with_mirrored_errors_are_one_region(
    p: np.ndarray, fn: np.ndarray, fp: np.ndarray, threshold: float
) -> None:
    both = np.stack([1 - p.astype(np.float64), p])
    classes = compose_classes(both, np.stack([fp, fn]), np.stack([fn, fp]), threshold, threshold)
    assert np.array_equal(classes == 1, compose_regions(both.argmax(0), fn, fp, threshold, threshold))


@given(maps(3, 5), hnp.arrays(np.int64, 5, elements=st.integers(0, 2)))
def test_perfect_error_masks_give_the_truth(x: np.ndarray, labels: np.ndarray) -> None:
    p = softmax(x)
    truth, hard = labels == np.arange(3)[:, None], p.argmax(0) == np.arange(3)[:, None]
    fn, fp = error_targets(truth, hard)
    assert fn.min() >= 0
    assert fp.max() <= 1
    assert not (fn * fp).any()
    assert np.array_equal(truth * 1.0 - hard, fn - fp)
    assert np.array_equal(compose_classes(p, fn, fp), labels)
    assert np.array_equal(compose_regions(hard, fn, fp), truth)
    assert np.array_equal(compose_soft(hard * 1.0, fn, fp), truth)


@given(maps(2, 3, 4), maps(2, 3, 4), maps(2, 3, 4), unit, unit)
def test_torch_agrees_with_numpy(p: np.ndarray, fn: np.ndarray, fp: np.ndarray, a: float, b: float) -> None:
    tensors = [torch.from_numpy(x) for x in (p, fn, fp)]
    assert np.array_equal(
        compose_classes(*tensors, a, b, axis=1).numpy(), compose_classes(p, fn, fp, a, b, axis=1)
    )
    assert np.array_equal(
        compose_regions(tensors[0] > 0.5, *tensors[1:], a, b), compose_regions(p > 0.5, fn, fp, a, b)
    )
    assert np.array_equal(compose_soft(*tensors), compose_soft(p, fn, fp))
    for one, other in zip(
        error_targets(tensors[0] > 0.5, tensors[1] > 0.5), error_targets(p > 0.5, fn > 0.5), strict=True
    ):
        assert np.array_equal(one.numpy(), other)


# ---------------------------------------------------------------- thresholds


def case_of(seed: int, regions: bool) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    shape = (3, 6, 7)
    stage1 = rng.random(shape) > 0.5 if regions else softmax(rng.random(shape))
    truth = rng.integers(-1, 2, shape) if regions else rng.integers(-1, 3, shape[1:])
    return stage1, rng.random(shape), rng.random(shape), truth


def brute(cases: list[tuple[np.ndarray, ...]], regions: bool, a: float, b: float) -> float:
    """Mean Dice as the metrics define it, class by class."""
    scores: dict[int, list[float]] = {}
    for stage1, fn, fp, truth in cases:
        if regions:
            pairs = [
                (m[t >= 0], t[t >= 0] > 0)
                for m, t in zip(compose_regions(stage1, fn, fp, a, b), truth, strict=True)
            ]
        else:
            made = compose_classes(stage1, fn, fp, a, b)
            pairs = [((made == c)[truth >= 0], (truth == c)[truth >= 0]) for c in (1, 2)]
        for c, (m, t) in enumerate(pairs):
            if m.any() or t.any():
                scores.setdefault(c, []).append(2 * (m & t).sum() / (m.sum() + t.sum()))
    return float(np.mean([np.mean(s) for s in scores.values()]))


@pytest.mark.parametrize("regions", [False, True])
def test_thresholds_against_trying_all(regions: bool) -> None:
    cases = [case_of(seed, regions) for seed in range(3)]
    if not regions:
        cases[0][3][cases[0][3] == 2] = 0  # a class absent from one case
    table = {(a, b): brute(cases, regions, a, b) for a, b in itertools.product(GRID, GRID)}
    found = fit_thresholds(iter(cases), regions=regions)
    assert found.dice == pytest.approx(max(table.values()), abs=1e-12)
    assert table[found.fn, found.fp] == pytest.approx(found.dice, abs=1e-12)
    assert found.stage1 == pytest.approx(brute(cases, regions, 1, 1), abs=1e-12)
    assert found.dice >= found.stage1


def test_of_equal_thresholds_those_near_the_released_ones_are_taken() -> None:
    truth = np.array([0, 1, 1, 0])
    stage1 = np.array([[0.9, 0.9, 0.1, 0.1], [0.1, 0.1, 0.9, 0.9]])
    fn, fp = error_targets(truth == np.arange(2)[:, None], stage1.argmax(0) == np.arange(2)[:, None])
    found = fit_thresholds([(stage1, fn * 0.95, fp * 0.95, truth)])
    assert (found.fn, found.fp, found.dice, found.stage1) == (
        0.8,
        0.8,
        1.0,
        0.5,
    )  # 0.7 is as near; the careful one
    # Wrong errors everywhere: best left alone.
    wrong = fit_thresholds([(np.eye(2)[truth].T, 1 - fn, 1 - fp, truth)])
    assert wrong.dice == 1.0


def test_nothing_to_fit_gives_the_released() -> None:
    for cases in ([], [(np.ones((1, 4)) * [[1]], np.zeros((1, 4)), np.zeros((1, 4)), np.zeros(4))]):
        found = fit_thresholds(cases)
        assert (found.fn, found.fp, found.dice, found.stage1) == (0.75, 0.75, None, None)
    with pytest.raises(ValueError, match="no thresholds"):
        fit_thresholds([], grid=())
