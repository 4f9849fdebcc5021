"""Variants against a reference on the same patients: numbers, and the sentence that they allow."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from napari_ctxseg.evaluation.statistics import (
    ALPHA,
    FEWEST,
    Interval,
    Test,
    holm,
    median_interval,
    paired_p,
    smallest_p,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Comparison:
    """One variant against the reference in one measure.

    Parameters
    ----------
    variant, reference, measure : str
    units : int
        Patients for whom both have the measure.
    left_out : int
        Patients for whom only one of them has it.
    difference : Interval or None
        Median of variant minus reference over these patients; None without any.
    p : float or None
        Of the paired test; None below six units.
    corrected : float or None
        After Holm, over the `comparisons` made.
    comparisons : int
        Tests made together.
    """

    variant: str
    reference: str
    measure: str
    units: int
    left_out: int
    difference: Interval | None
    p: float | None
    corrected: float | None = None
    comparisons: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``json.dumps``."""
        return asdict(self)


def compare(
    variants: Mapping[str, Mapping[str, float]],
    reference: str,
    measure: str,
    *,
    test: Test = "wilcoxon",
    seed: int = 0,
) -> list[Comparison]:
    """Every variant against the reference, on the patients that both have; corrected for the number of tests.

    Parameters
    ----------
    variants : mapping of str to mapping of str to float
        Variant -> patient -> value.
    reference : str
        One of the variants.
    measure : str
        Passed on.
    test : str
        As for `paired_p`.
    seed : int
        Of the bootstrap.

    Returns
    -------
    list of Comparison
        In the order of `variants`, without the reference.
    """
    base = variants[reference]
    found = []
    for name, values in variants.items():
        if name == reference:
            continue
        shared = sorted(set(values) & set(base))
        differences = [values[unit] - base[unit] for unit in shared]
        middle = median_interval(differences, seed=seed) if shared else None
        p = paired_p(differences, test=test, seed=seed) if len(shared) >= FEWEST else None
        left_out = len(set(values) ^ set(base))
        found.append(Comparison(name, reference, measure, len(shared), left_out, middle, p))
    return with_holm(found)


def with_holm(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The same comparisons, corrected for all of them together."""
    made = sum(c.p is not None for c in comparisons)
    corrected = holm([c.p for c in comparisons])
    return [replace(c, corrected=p, comparisons=made) for c, p in zip(comparisons, corrected, strict=True)]


def sentence(
    comparison: Comparison,
    label: str | None = None,
    unit: str = "patients",
    *,
    less_is_better: bool = False,
    digits: int = 3,
) -> str:
    """What one comparison shows, and what it does not.

    Parameters
    ----------
    comparison : Comparison
    label : str, optional
        Name of the measure in running text.
    unit : str
        Name of the units.
    less_is_better : bool
        Whether a negative difference is the better one.
    digits : int
        Of the difference.
    """
    c = comparison
    what = label or c.measure
    if c.difference is None:
        return f"{c.variant} and {c.reference} have no {unit} in common: nothing can be said of their {what}."
    shift = _shift(c.difference, digits)
    if c.units < FEWEST:
        those = f"{c.units} {unit}" if c.units > 1 else f"one of the {unit}"
        return (
            f"{c.variant} against {c.reference} in {what} on {those}: {shift}; no test is possible below "
            f"{FEWEST} {unit}, so nothing is shown."
        )
    assert c.p is not None
    p = c.p if c.corrected is None else c.corrected
    after = f" after correction for {c.comparisons} comparisons" if c.comparisons > 1 else ""
    found = f"on these {c.units} {unit} ({_p(p)}{after}; {shift})."
    if p < ALPHA:
        better = "better" if (c.difference.value < 0) == less_is_better else "worse"
        if c.difference.value == 0:
            better = "different"
        return f"{c.variant} is {better} than {c.reference} in {what} {found}"
    text = f"{c.variant} and {c.reference} are not shown to differ in {what} {found}"
    least = smallest_p(c.units) * max(1, c.comparisons)
    if least >= ALPHA:
        return f"{text} {c.units} {unit} cannot show any difference after this correction: the least p is {least:.2g}."
    return f"{text} That does not show that they are equal."


def _shift(difference: Interval, digits: int) -> str:
    text = f"median difference {_signed(difference.value, digits)}"
    if difference.low is None or difference.high is None:
        return text
    return f"{text}, 95 % interval {_signed(difference.low, digits)} to {_signed(difference.high, digits)}"


def _signed(value: float, digits: int) -> str:
    """With so many digits, or with one that says something where these would all be 0."""
    text = f"{value:+.{digits}f}"
    return f"{value:+.1g}" if value and not float(text) else text


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}" if p < 0.1 else f"p = {p:.2f}"
