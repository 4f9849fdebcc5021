"""What measures of several patients show: means with intervals, paired tests, and a sentence that says no more than that.

The unit is the patient. Cases of a patient are averaged first (`per_unit`); slices of one heart are not independent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

#: Below so many units no test is made: the smallest p of five pairs is 0.0625 whatever the data.
FEWEST = 6
#: Probability of an interval, and the p below which a difference counts as shown.
LEVEL, ALPHA = 0.95, 0.05
#: Resamples of a bootstrap, and of a permutation test that has too many units for all of them.
DRAWS = 10_000
#: Units up to which all patterns of signs are looked at: 65 536.
ALL_SIGNS = 16

Test = Literal["wilcoxon", "signs"]


@dataclass(frozen=True)
class Interval:
    """A mean or median over units.

    Parameters
    ----------
    value : float
    low, high : float or None
        Ends of the 95 % bootstrap interval; None below two units.
    units : int
    """

    value: float
    low: float | None
    high: float | None
    units: int


def per_unit(values: Mapping[str, float | None], groups: Mapping[str, str]) -> dict[str, float]:
    """Mean of each patient's cases.

    Parameters
    ----------
    values : mapping of str to float or None
        Case -> measure. Cases without one (n/a) are left out; a patient who has only such is not in the result.
    groups : mapping of str to str
        Case -> patient.

    Returns
    -------
    dict of str to float
        In the order in which the patients first appear.
    """
    found: dict[str, list[float]] = {}
    for case, value in values.items():
        if value is not None:
            found.setdefault(groups[case], []).append(value)
    return {unit: math.fsum(each) / len(each) for unit, each in found.items()}


def mean_interval(
    values: Sequence[float],
    *,
    seed: int = 0,
    draws: int = DRAWS,
    level: float = LEVEL,
    method: Literal["bca", "percentile"] = "bca",
) -> Interval:
    """Mean over units with its bootstrap interval.

    Parameters
    ----------
    values : sequence of float
        One number per unit, at least one.
    seed, draws : int
        Of the resampling.
    level : float
        Probability of the interval.
    method : str
        ``"bca"``: bias-corrected and accelerated (Efron 1987, doi 10.1080/01621459.1987.10478410); ``"percentile"``.

    Returns
    -------
    Interval

    Raises
    ------
    ValueError
        If there are no values, or one is not finite.
    """
    data = _checked(values)
    if data.size < 2:
        return Interval(float(data[0]), None, None, 1)
    means = _resampled(data, seed, draws, lambda samples: samples.mean(axis=1))
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if method == "bca":
        tails = _corrected(data, means, tails)
    low, high = np.quantile(means, tails)
    return Interval(float(data.mean()), float(low), float(high), data.size)


def median_interval(
    values: Sequence[float], *, seed: int = 0, draws: int = DRAWS, level: float = LEVEL
) -> Interval:
    """Median over units with its percentile bootstrap interval; arguments as for `mean_interval`."""
    data = _checked(values)
    middle = float(np.median(data))
    if data.size < 2:
        return Interval(middle, None, None, 1)
    medians = _resampled(data, seed, draws, lambda samples: np.median(samples, axis=1))
    low, high = np.quantile(medians, [(1 - level) / 2, (1 + level) / 2])
    return Interval(middle, float(low), float(high), data.size)


def paired_p(differences: Sequence[float], *, test: Test = "wilcoxon", seed: int = 0) -> float:
    """Two-sided p of paired differences being symmetric around 0.

    Parameters
    ----------
    differences : sequence of float
        One per unit.
    test : str
        ``"wilcoxon"``: signed ranks, exact for any number of ties (mid-ranks), zeros after Pratt 1959: they are ranked, then
        left out. ``"signs"``: permutation of the signs of the mean, all of them up to 16 units, else 10 000 at random.
    seed : int
        Of the random signs.

    Returns
    -------
    float
        1 where all differences are 0.

    Raises
    ------
    ValueError
        If there are no differences, or one is not finite.
    """
    data = _checked(differences)
    if not data.any():
        return 1.0
    return _signed_rank_p(data) if test == "wilcoxon" else _signs_p(data, seed)


def smallest_p(units: int) -> float:
    """The least p that a paired test of so many units can give, whatever the data."""
    return min(1.0, 2.0 ** (1 - units))


def holm(values: Sequence[float | None]) -> list[float | None]:
    """P values corrected for all comparisons made (Holm 1979); None, a test not made, stays and does not count.

    Parameters
    ----------
    values : sequence of float or None

    Returns
    -------
    list of float or None
        In the same order; never below the uncorrected ones.
    """
    made = sorted((p, place) for place, p in enumerate(values) if p is not None)
    result: list[float | None] = [None] * len(values)
    highest = 0.0
    for rank, (p, place) in enumerate(made):
        highest = max(highest, min(1.0, p * (len(made) - rank)))
        result[place] = highest
    return result


# ---------------------------------------------------------------- how


def _checked(values: Sequence[float]) -> NDArray[np.float64]:
    data = np.asarray(values, float)
    if data.ndim != 1 or not data.size or not np.isfinite(data).all():
        raise ValueError(f"needs one finite number per unit, got {list(values)[:5]}")
    return np.sort(data)  # neither random draws nor rounding must depend on the order of the units


def _resampled(
    data: NDArray[np.float64],
    seed: int,
    draws: int,
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """A statistic of samples drawn with replacement."""
    chosen = np.random.default_rng(seed).integers(0, data.size, (draws, data.size))
    return statistic(data[chosen])


def _corrected(
    data: NDArray[np.float64], means: NDArray[np.float64], tails: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Tail probabilities after correction for bias and for the change of the error with the mean."""
    centre = data.mean()
    spread = data - centre
    rounding = 1e-12 * max(1.0, float(np.abs(data).max()))
    if np.abs(spread).max() <= rounding:
        return tails
    # Samples that are the data in another order have the mean itself; they count half on either side.
    below = (np.mean(means < centre - rounding) + np.mean(means <= centre + rounding)) / 2
    half = 0.5 / means.size  # a bias of no draw at all on one side is not infinite
    bias = ndtri(np.clip(below, half, 1 - half))
    # Jackknife means move against the value that is left out: cubes of the deviations themselves are enough.
    pull = (spread**3).sum() / (6 * (spread**2).sum() ** 1.5)
    quantile = bias + ndtri(tails)
    corrected: NDArray[np.float64] = ndtr(bias + quantile / (1 - pull * quantile))
    return corrected


def _signed_rank_p(data: NDArray[np.float64]) -> float:
    ranks = np.rint(2 * rankdata(np.abs(data)))[data != 0].astype(
        int
    )  # doubled: mid-ranks become whole numbers
    positive = int(ranks[data[data != 0] > 0].sum())
    total = int(ranks.sum())
    # How many patterns of signs give each sum, as a share of all.
    shares = np.zeros(total + 1)
    shares[0] = 1.0
    for rank in ranks:
        shifted = np.zeros_like(shares)
        shifted[rank:] = shares[: shares.size - rank]
        shares = (shares + shifted) / 2
    extreme = min(positive, total - positive)
    return min(1.0, 2 * float(shares[: extreme + 1].sum()))


def _signs_p(data: NDArray[np.float64], seed: int) -> float:
    observed = abs(data.sum())
    if data.size <= ALL_SIGNS:
        bits = np.arange(2**data.size)[:, None] >> np.arange(data.size) & 1
        sums = np.abs((1 - 2 * bits) @ data)
        return float(np.mean(sums >= observed * (1 - 1e-12)))
    signs = np.random.default_rng(seed).integers(0, 2, (DRAWS, data.size)) * 2 - 1
    extreme = np.count_nonzero(np.abs(signs @ data) >= observed * (1 - 1e-12))
    return (extreme + 1) / (DRAWS + 1)
