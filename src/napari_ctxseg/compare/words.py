"""Sentences under a comparison: what its numbers show, and what they do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_ctxseg.evaluation.comparison import sentence
from napari_ctxseg.evaluation.metrics import LESS_IS_BETTER
from napari_ctxseg.evaluation.statistics import FEWEST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_ctxseg.evaluation.comparison import Comparison


def conclusions(report: Mapping[str, Any], comparisons: Sequence[Comparison]) -> list[str]:
    """All sentences, the result first.

    Parameters
    ----------
    report : mapping
        As `napari_ctxseg.compare.report.make_report` builds it.
    comparisons : sequence of Comparison
        Of that report.
    """
    return [
        *_unfinished(report),
        *_compared(report, comparisons),
        *_base(report),
    ]


def shown_name(variant: Mapping[str, Any]) -> str:
    """Name of a variant of a report, and whether its runs are all there."""
    state = "" if variant["complete"] else " (incomplete)" if variant["done"] else " (no numbers)"
    return f"{variant['name']}{state}"


def _unfinished(report: Mapping[str, Any]) -> list[str]:
    runs = report["runs"]
    found = []
    if runs["missing"]:
        found.append(
            f"The comparison is not finished: {runs['missing']} of {runs['planned']} runs are still to be done "
            "(Resume, or --resume at the command line). What follows holds for the runs that are done."
        )
    for variant in report["variants"]:
        failed = sum(row["variant"] == variant["name"] for row in report["failed"])
        if failed and failed == variant["planned"]:
            found.append(f"{variant['name']} has no numbers: all {failed} of its runs failed.")
        elif failed:
            found.append(
                f"{variant['name']} is incomplete: {failed} of its {variant['planned']} runs failed. Its mean is that "
                "of the other runs, and it is compared with the reference only where both have one."
            )
        skipped = variant["skipped"]
        if skipped["runs"]:
            found.append(
                f"In {skipped['runs']} of the {variant['done']} runs of {variant['name']} steps were not finite and were "
                f"skipped, {_percent(skipped['share'])} of them in one run: its numbers may tell of the learning rate or "
                "the precision more than of the loss."
            )
    return found


def _many(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def _percent(share: float) -> str:
    return "less than 1 %" if share < 0.01 else f"up to {100 * share:.0f} %"


def _compared(report: Mapping[str, Any], comparisons: Sequence[Comparison]) -> list[str]:
    measure, unit = report["primary"], report["unit"]
    found = []
    for comparison in comparisons:
        text = sentence(comparison, measure, unit, less_is_better=measure in LESS_IS_BETTER)
        differences = next(
            row["seed_differences"] for row in report["comparisons"] if row["variant"] == comparison.variant
        )
        if len(differences) > 1:
            each = ", ".join(f"{value:+.3f}" for value in differences.values())
            text += f" Seed by seed the mean difference is {each}."
        if comparison.left_out:
            text += f" {comparison.left_out} {unit} are left out of this, because only one of the two has a {measure} there."
        found.append(text)
    if not comparisons:
        found.append("There is only one variant, so there is nothing to compare it with.")
    return found


def _base(report: Mapping[str, Any]) -> list[str]:
    unit, measure = report["unit"], report["primary"]
    judged = max((len(v["patients"]) for v in report["variants"]), default=0)
    images = "" if unit == "images" else f", {_many(report['tested'], 'image')}"
    found = [f"The numbers rest on {_many(judged, unit[:-1])} that the networks had not seen{images}."]
    if judged < FEWEST:
        found.append(
            f"With fewer than {FEWEST} {unit} no paired test can reach p = 0.05: there are no p values, and the intervals "
            "say little about other data."
        )
    if unit == "images":
        found.append(
            "Every image counts for itself, because nothing names its patient (on screen: Patients... in the tab Project, "
            "or the line Patient of a comparison of folders; at the command line --group): if several show one patient or "
            "sample, the intervals are too narrow and the p values too small."
        )
    seeds = len(report["seeds"])
    if seeds > 1:
        found.append(f"The {seeds} seeds are averaged for each case first; they are no further {unit}.")
    else:
        found.append("One seed only: how much another start of the training would change is not known.")
    if report["folds"] is not None:
        found.append(
            "Networks of different folds share training images, so their patients are not quite independent."
        )
    if len(report["measures"]) > 1:
        found.append(f"Only {measure} is tested; the other measures are described.")
    empty = [
        label
        for label in report["classes"]
        if all(v["classes"][label][measure] is None for v in report["variants"])
    ]
    found += [
        f"The class {label} is in no reference and no prediction: it has no numbers." for label in empty
    ]
    return [*found, *_fewer(report), *_invented(report), *_budget(report)]


def _most_units(variant: Mapping[str, Any]) -> int:
    return max((each["units"] for each in variant["measures"].values() if each), default=0)


def _fewer(report: Mapping[str, Any]) -> list[str]:
    """Measures whose mean leaves units out, by the variant that leaves out most: it can look better than it is."""
    found = []
    for measure in report["measures"]:
        known = [
            (v["measures"][measure]["units"], v["name"])
            for v in report["variants"]
            if v["measures"][measure] and v["measures"][measure]["units"] < _most_units(v)
        ]
        if known:
            least, name = min(known)
            found.append(
                f"The mean {measure} of {name} is over {_many(least, report['unit'][:-1])} only, because the others have "
                "none (a structure that is missed has no distance): it does not compare with a mean over all."
            )
    return found


def _invented(report: Mapping[str, Any]) -> list[str]:
    """Classes that only networks have seen: 0 for whoever predicts them, nothing for the others."""
    found = []
    for label in report["classes"]:
        counts = [v["class_counts"][label] for v in report["variants"]]
        seen = sum(each["cases"] for each in counts)
        if seen and seen == sum(each["invented"] for each in counts):
            names = [
                v["name"] for v, each in zip(report["variants"], counts, strict=True) if each["invented"]
            ]
            found.append(
                f"The class {label} is in no reference, but {', '.join(names)} predicted it, which counts 0 in the mean "
                "over classes; leave it out, or test on cases that have it."
            )
    return found


def _budget(report: Mapping[str, Any]) -> list[str]:
    steps = [v["steps"] for v in report["variants"] if v["steps"]]
    if report["budget"]["minutes"] is None or not steps:
        return []
    low, high = min(s[0] for s in steps), max(s[1] for s in steps)
    return [
        f"Every run had {report['budget']['minutes']:g} min of training, which were {low:g} to {high:g} steps: slower "
        "variants took fewer."
    ]
