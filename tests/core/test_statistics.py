"""Intervals, tests and corrections against scipy, enumeration and made data whose truth is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from napari_ctxseg.evaluation.comparison import compare, sentence
from napari_ctxseg.evaluation.statistics import (
    FEWEST,
    holm,
    mean_interval,
    median_interval,
    paired_p,
    per_unit,
    smallest_p,
)

coarse = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=9)  # ties and zeros abound


def enumerated(differences):
    """Two-sided signed-rank p from every pattern of signs; zeros are ranked, then left out."""
    d = np.array(differences)
    ranks = stats.rankdata(np.abs(d))[d != 0]
    d = d[d != 0]
    if not d.size:
        return 1.0
    total, observed = ranks.sum(), ranks[d > 0].sum()
    extreme = min(observed, total - observed)
    sums = [sum(itertools.compress(ranks, kept)) for kept in itertools.product((0, 1), repeat=d.size)]
    return min(1.0, 2 * np.mean([s <= extreme + 1e-9 for s in sums]))


@settings(max_examples=80, deadline=None)
@given(coarse)
def test_signed_rank_equals_enumeration(differences):
    assert paired_p(differences) == pytest.approx(enumerated(differences))


@pytest.mark.parametrize("n", [6, 9, 25, 49])
def test_signed_rank_equals_scipy_without_ties(n):
    d = np.random.default_rng(n).normal(0.3, 1, n)
    assert paired_p(d) == pytest.approx(stats.wilcoxon(d, method="exact").pvalue)


def test_signed_rank_of_many_units_nears_the_normal_one():
    d = np.random.default_rng(0).normal(0.1, 1, 300)
    assert paired_p(d) == pytest.approx(stats.wilcoxon(d, method="approx").pvalue, rel=0.02)


@settings(max_examples=40, deadline=None)
@given(coarse.filter(lambda values: len(values) > 1))
def test_signs_equal_scipys_permutation(differences):
    d = np.array(differences)
    expected = stats.permutation_test(
        (d,), np.sum, permutation_type="samples", n_resamples=np.inf, vectorized=False
    ).pvalue
    assert paired_p(d, test="signs") == pytest.approx(min(1.0, expected) if d.any() else 1.0)


def test_signs_of_many_units_are_drawn():
    d = np.random.default_rng(1).normal(0.25, 1, 40)
    p = paired_p(d, test="signs", seed=3)
    assert p == paired_p(d, test="signs", seed=3)
    assert p == pytest.approx(stats.ttest_1samp(d, 0).pvalue, abs=0.02)
    assert paired_p(np.full(40, 1.0), test="signs") > 0  # never 0 from a finite number of draws


@settings(max_examples=60, deadline=None)
@given(coarse, st.randoms(use_true_random=False), st.sampled_from(["wilcoxon", "signs"]))
def test_p_ignores_order_sign_and_scale(differences, random, test):
    p = paired_p(differences, test=test)
    shuffled = random.sample(differences, len(differences))
    assert 0 < p <= 1
    assert p >= smallest_p(len(differences)) - 1e-12
    assert paired_p(shuffled, test=test) == pytest.approx(p)
    assert paired_p([-d for d in differences], test=test) == pytest.approx(p)
    assert paired_p([4 * d for d in differences], test=test) == pytest.approx(p)


def test_p_is_uniform_under_no_difference():
    rng = np.random.default_rng(5)
    for test in ("wilcoxon", "signs"):
        p = np.array([paired_p(rng.normal(size=10), test=test) for _ in range(400)])
        assert 0.02 < np.mean(p <= 0.05) < 0.075


@pytest.mark.parametrize("bad", [[], [np.nan], [np.inf, 1.0]])
def test_refuses(bad):
    for call in (paired_p, mean_interval, median_interval):
        with pytest.raises(ValueError, match="finite"):
            call(bad)


# ---------------------------------------------------------------- intervals


@pytest.mark.parametrize(("kind", "n"), [("normal", 20), ("skewed", 30)])
def test_mean_interval_equals_scipy(kind, n):
    rng = np.random.default_rng(7)
    data = rng.normal(0.8, 0.1, n) if kind == "normal" else rng.exponential(size=n)
    for method, name in (("bca", "BCa"), ("percentile", "percentile")):
        ours = mean_interval(data, method=method, draws=40_000)
        theirs = stats.bootstrap((data,), np.mean, method=name, n_resamples=40_000, rng=1).confidence_interval
        width = theirs.high - theirs.low
        assert ours.value == pytest.approx(data.mean())
        assert ours.low == pytest.approx(theirs.low, abs=0.02 * width)
        assert ours.high == pytest.approx(theirs.high, abs=0.02 * width)


def test_median_interval_equals_scipy():
    data = np.random.default_rng(8).normal(size=21)
    ours = median_interval(data, draws=20_000)
    theirs = stats.bootstrap((data,), np.median, method="percentile", n_resamples=20_000, rng=1)
    interval = theirs.confidence_interval
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), abs=0.05)


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(11)
    hits = 0
    for _ in range(400):
        found = mean_interval(rng.normal(0.8, 0.1, 20), draws=1000, seed=int(rng.integers(1e6)))
        hits += found.low <= 0.8 <= found.high
    assert 0.90 <= hits / 400 <= 0.97  # a bootstrap of 20 is known to fall a little short of 0.95


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=12), st.randoms(use_true_random=False))
def test_intervals_ignore_order_and_hold_the_data(values, random):
    for call in (mean_interval, median_interval):
        found = call(values, draws=300)
        again = call(random.sample(values, len(values)), draws=300)
        assert (found.low, found.high) == (again.low, again.high)
        assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9
        assert found.units == len(values)


def test_one_unit_has_no_interval():
    assert mean_interval([0.4]) == median_interval([0.4])
    assert mean_interval([0.4]).low is None
    same = mean_interval([0.4] * 5)
    assert (same.low, same.high) == pytest.approx((0.4, 0.4))


# ---------------------------------------------------------------- many comparisons


def test_holm_by_hand():
    # Holm 1979: 0.01 * 4, 0.013 * 3 lifted to it, 0.03 * 2, 0.4 * 1.
    assert holm([0.01, 0.4, 0.03, 0.013]) == pytest.approx([0.04, 0.4, 0.06, 0.04])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([None, 0.03, None]) == [None, 0.03, None]
    assert holm([]) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=7), st.randoms(use_true_random=False))
def test_holm_ignores_order_and_never_helps(values, random):
    places = random.sample(range(len(values)), len(values))
    corrected = holm(values)
    assert holm([values[i] for i in places]) == [corrected[i] for i in places]
    made = sum(v is not None for v in values)
    for p, c in zip(values, corrected, strict=True):
        assert (p is None) == (c is None)
        if p is not None and c is not None:
            assert p <= c <= min(1.0, p * made) + 1e-12


def test_holm_keeps_the_share_of_false_alarms():
    rng = np.random.default_rng(13)
    wrong = sum(min(holm([paired_p(rng.normal(size=12)) for _ in range(4)])) < 0.05 for _ in range(200))
    assert wrong / 200 < 0.1


# ---------------------------------------------------------------- units and sentences


def test_cases_of_a_patient_are_averaged_first():
    values = {"a1": 0.2, "a2": 0.4, "a3": None, "b1": 0.9, "c1": None}
    groups = {name: name[0] for name in values}
    assert per_unit(values, groups) == pytest.approx({"a": 0.3, "b": 0.9})


def made(n, shift, seed=0):
    rng = np.random.default_rng(seed)
    base = rng.uniform(0.5, 0.9, n)
    other = base + shift + rng.normal(0, 0.01, n)
    names = [f"P{i}" for i in range(n)]
    return {"dice_ce": dict(zip(names, base, strict=True)), "dbce": dict(zip(names, other, strict=True))}


def test_no_p_below_six_units():
    (found,) = compare(made(FEWEST - 1, 0.2), "dice_ce", "dice")
    assert found.p is found.corrected is None
    text = sentence(found, "Dice")
    assert "5 patients" in text
    assert "no test is possible below 6 patients, so nothing is shown" in text
    assert "p =" not in text
    (one,) = compare(made(1, 0.2), "dice_ce", "dice")
    assert "no test is possible" in sentence(one)
    assert one.difference.low is None


def test_a_difference_that_is_there_and_one_that_is_not():
    (found,) = compare(made(12, 0.05), "dice_ce", "dice")
    assert found.p == pytest.approx(2 / 2**12)
    assert sentence(found, "Dice").startswith(
        "dbce is better than dice_ce in Dice on these 12 patients (p < 0.001;"
    )
    assert "dbce is worse" in sentence(found, "HD95", less_is_better=True)
    (same,) = compare(made(12, 0.0, seed=3), "dice_ce", "dice")
    text = sentence(same, "Dice")
    assert same.p > 0.05
    assert "not shown to differ" in text
    assert text.endswith("That does not show that they are equal.")


def test_six_patients_and_four_comparisons_cannot_show_anything():
    base = made(6, 0.2)
    variants = {"dice_ce": base["dice_ce"], **{f"v{i}": base["dbce"] for i in range(4)}}
    found = compare(variants, "dice_ce", "dice")
    assert [c.corrected for c in found] == pytest.approx([4 * 2 / 64] * 4)
    assert "6 patients cannot show any difference after this correction: the least p is 0.12" in sentence(
        found[0]
    )


def test_only_shared_patients_are_compared_and_the_others_counted():
    variants = made(8, 0.05)
    del variants["dbce"]["P3"]
    (found,) = compare(variants, "dice_ce", "dice")
    assert (found.units, found.left_out) == (7, 1)
    (apart,) = compare({"a": {"x": 1.0}, "b": {"y": 1.0}}, "a", "dice")
    assert "nothing can be said" in sentence(apart)


def test_small_differences_are_not_written_as_zeros():
    values = {"a": {str(n): 0.5 for n in range(7)}, "b": {str(n): 0.5 - 0.0004 * n for n in range(7)}}
    (found,) = compare(values, "a", "dice")
    assert "median difference -0.001" in sentence(found)
    values["b"] = {str(n): 0.5 - 0.00004 * n for n in range(7)}
    (found,) = compare(values, "a", "dice")
    assert "median difference -0.0001, 95 % interval -0.0002 to" in sentence(found)
    values["b"] = values["a"]
    (found,) = compare(values, "a", "dice")
    assert "median difference +0.000" in sentence(found)
