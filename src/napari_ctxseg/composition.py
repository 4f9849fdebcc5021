"""Putting the masks of CR-GAN's second stage onto those of the first (arXiv 1810.03871, equations 5-7).

The paper's text says once to add what equation 7 subtracts; the released code agrees with the equation: predicted false
negatives are added, predicted false positives taken away. Arrays are numpy's; torch tensors pass through the ``compose``
functions and `error_targets` too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

#: A numpy array, or a torch tensor.
Array: TypeAlias = Any
#: First stage, false negatives, false positives, truth.
Case: TypeAlias = "tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]"

#: Thresholds where none are fitted: those of the released code, 0.5 of a tanh, as probabilities.
RELEASED = (0.75, 0.75)
#: Thresholds that are tried. At 1 an error mask never counts.
GRID = tuple(round(0.1 * k, 1) for k in range(1, 11))


def error_targets(truth: Array, stage1: Array) -> tuple[Array, Array]:
    """What the second stage has to predict: ``clip(y - y_hat, 0, 1)`` and ``clip(y_hat - y, 0, 1)`` (equations 5 and 6).

    Parameters
    ----------
    truth, stage1 : array of bool or numbers, one shape
        One-hot masks of the classes, or the regions' masks; `stage1` the hard ones.

    Returns
    -------
    fn, fp : array of float, the same shape
        What the first stage missed, and what it made up.
    """
    y, y_hat = truth * 1.0, stage1 * 1.0
    return (y - y_hat).clip(0, 1), (y_hat - y).clip(0, 1)


def compose_regions(
    stage1_mask: Array, fn: Array, fp: Array, fn_threshold: float = 0.5, fp_threshold: float = 0.5
) -> Array:
    """Refined masks of regions, each for itself (the released rule).

    Only the false negatives fire: foreground. Only the false positives: background. Both or none: as it was.

    Parameters
    ----------
    stage1_mask : array of bool or numbers, any shape
        Masks of the first stage, foreground above 0.
    fn, fp : array of float, the same shape
        Predicted error masks, 0 to 1.
    fn_threshold, fp_threshold : float
        An error mask fires above its threshold; at 1 it never does.

    Returns
    -------
    array of bool, the same shape
    """
    missed, made_up = fn > fn_threshold, fp > fp_threshold
    return ((stage1_mask > 0) | (missed & ~made_up)) & ~(made_up & ~missed)


def compose_classes(
    p: Array, fn: Array, fp: Array, fn_threshold: float = 0.5, fp_threshold: float = 0.5, *, axis: int = 0
) -> Array:
    """Refined classes: the highest of ``p + fn - fp``, background included.

    An error mask counts only above its threshold, and not where the other one of its class fires as well. With two
    classes whose error masks mirror each other and one threshold of at least a half, this is the rule of
    `compose_regions`.

    Parameters
    ----------
    p : array of float, shape ``(K, *S)``
        Probabilities of the first stage.
    fn, fp : array of float, the same shape
        Predicted error masks, 0 to 1.
    fn_threshold, fp_threshold : float
        An error mask counts above its threshold; at 1 it never does.
    axis : int
        Axis of the classes.

    Returns
    -------
    array of int64, shape ``S``
        Class indices.
    """
    missed, made_up = fn > fn_threshold, fp > fp_threshold
    return (p + fn * (missed & ~made_up) - fp * (made_up & ~missed)).argmax(axis)


def compose(
    p: Array,
    fn: Array,
    fp: Array,
    fn_threshold: float = 0.5,
    fp_threshold: float = 0.5,
    *,
    regions: bool = False,
) -> Array:
    """`compose_classes`, or `compose_regions` of the regions above a half; parameters as there, channels first.

    Returns
    -------
    array of int64, shape ``S``, or of bool, shape ``(K, *S)``
    """
    if regions:
        return compose_regions(p > 0.5, fn, fp, fn_threshold, fp_threshold)
    return compose_classes(p, fn, fp, fn_threshold, fp_threshold)


def compose_soft(p: Array, fn: Array, fp: Array) -> Array:
    """``clip(p + fn - fp, 0, 1)``: the composition that both stages can be trained through together.

    Over classes the scores need not sum to 1; they do where the error masks are as consistent as the targets.
    """
    return (p + fn - fp).clip(0, 1)


@dataclass(frozen=True)
class Thresholds:
    """Best thresholds of some cases.

    Attributes
    ----------
    fn, fp : float
        Thresholds of the two error masks.
    dice : float or None
        Mean Dice with them; None where no case has any class, and the thresholds are the released ones.
    stage1 : float or None
        Mean Dice of the first stage alone.
    """

    fn: float
    fp: float
    dice: float | None
    stage1: float | None


def fit_thresholds(
    cases: Iterable[Case], *, regions: bool = False, grid: Sequence[float] = GRID
) -> Thresholds:
    """Thresholds with the highest mean Dice: over the cases of each class, then over the classes.

    A class in neither truth nor prediction of a case is left out of that mean. Of equals the pair nearest to `RELEASED` is
    taken. Cases are looked at one after the other, and only where some error mask exceeds the lowest threshold.

    Parameters
    ----------
    cases : iterable of (stage1, fn, fp, truth)
        Validation cases. `stage1`, `fn` and `fp`, shape ``(K, *S)``: probabilities of the classes, background first, or
        masks of the regions, and the error masks. `truth`: class indices of shape ``S``, or the regions' masks, shape
        ``(K, *S)``; -1 where unlabelled.
    regions : bool
        Whether the channels are overlapping regions.
    grid : sequence of float
        Thresholds to try, for both.

    Raises
    ------
    ValueError
        If there are no thresholds to try.
    """
    values = sorted(set(grid))
    if not values:
        raise ValueError("there are no thresholds to try")
    tables = [_table(case, regions, values) for case in cases]
    refined = _mean([table for table, _ in tables])
    stage1 = _mean([alone for _, alone in tables])
    before = None if stage1 is None or np.isnan(stage1) else float(stage1)
    if refined is None or np.isnan(refined).all():
        return Thresholds(*RELEASED, None, before)
    best = np.argwhere(refined >= np.nanmax(refined) - 1e-12)
    pairs = [(values[i], values[j]) for i, j in best]
    fn, fp = min(pairs, key=lambda pair: (round(math.dist(pair, RELEASED), 6), [-each for each in pair]))
    return Thresholds(fn, fp, float(np.nanmax(refined)), before)


def _mean(tables: list[NDArray[np.float64]]) -> NDArray[np.float64] | None:
    """Over cases, then over classes (the last axis), leaving out what is not applicable."""
    if not tables:
        return None
    stack = np.stack(tables)
    counts = (~np.isnan(stack)).sum(axis=0)
    classes = np.where(counts > 0, np.nansum(stack, axis=0) / np.maximum(counts, 1), np.nan)
    known = (~np.isnan(classes)).sum(axis=-1)
    means: NDArray[np.float64] = np.where(
        known > 0, np.nansum(classes, axis=-1) / np.maximum(known, 1), np.nan
    )
    return means


def _table(
    case: Case, regions: bool, grid: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Dice of each pair of thresholds and class, ``(G, G, K)``, and of the first stage, ``(K,)``; NaN if not applicable."""
    stage1, fn, fp = (np.asarray(a).reshape(len(a), -1) for a in case[:3])
    truth = np.asarray(case[3]).reshape(len(stage1) if regions else 1, -1)
    valid = truth >= 0
    first = 0 if regions else 1
    drawn = truth > 0 if regions else truth == np.arange(first, len(stage1))[:, None]
    drawn = drawn & valid

    def masks(a: float, b: float, chosen: NDArray[np.bool_] | slice) -> NDArray[np.bool_]:
        parts = stage1[:, chosen], fn[:, chosen], fp[:, chosen]
        if regions:
            made = compose_regions(*parts, a, b)
        else:
            made = compose_classes(*parts, a, b) == np.arange(first, len(stage1))[:, None]
        inside: NDArray[np.bool_] = made & valid[:, chosen]
        return inside

    alone = masks(np.inf, np.inf, slice(None))
    size, overlap = alone.sum(axis=1), (alone & drawn).sum(axis=1)
    hot = np.asarray(((fn > grid[0]) | (fp > grid[0])).any(axis=0))
    cold_size = size - alone[:, hot].sum(axis=1)
    cold_overlap = overlap - (alone & drawn)[:, hot].sum(axis=1)
    total = drawn.sum(axis=1)
    drawn_hot = drawn[:, hot]
    rows = []
    for a in grid:
        made = [masks(a, b, hot) for b in grid]
        rows.append(
            [
                _dice(cold_overlap + (m & drawn_hot).sum(axis=1), cold_size + m.sum(axis=1), total)
                for m in made
            ]
        )
    return np.array(rows), _dice(overlap, size, total)


def _dice(overlap: NDArray[Any], size: NDArray[Any], total: NDArray[Any]) -> NDArray[np.float64]:
    both: NDArray[np.float64] = np.where(size + total > 0, 2 * overlap / np.maximum(size + total, 1), np.nan)
    return both
