"""The report of a comparison: one dictionary, and the texts that are made from it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from napari_ctxseg.compare.words import conclusions, shown_name
from napari_ctxseg.evaluation.metrics import LESS_IS_BETTER
from napari_ctxseg.evaluation.statistics import mean_interval
from napari_ctxseg.evaluation.tables import csv_text, latex_table, markdown_table, number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from napari_ctxseg.compare.results import Results

#: Worst cases listed for each variant.
WORST = 5
#: What stands beside the measures: pairs of case and class over all runs.
COUNTS = ("absent", "missed", "invented")


def make_report(results: Results) -> dict[str, Any]:
    """All numbers of a comparison.

    Parameters
    ----------
    results : Results

    Returns
    -------
    dict
        Plain values: ``variants`` (means with intervals over patients, overall and per class, and counts), ``comparisons``,
        ``sentences``, ``worst`` (cases per variant), ``failed`` runs, and what was planned.
    """
    plan = results.plan
    comparisons = results.comparisons()
    variants = [_variant(results, each.name) for each in plan.variants]
    report: dict[str, Any] = {
        "reference": plan.base,
        "primary": plan.primary,
        "measures": list(plan.measures.names),
        "paired_test": plan.paired_test,
        "unit": unit_name(results),
        "units": len(set(results.groups.values())),
        "images": len(results.groups),
        "tested": len({name for cell in results.cells for name in cell.test}),
        "classes": results.classes,
        "seeds": list(plan.seeds),
        "folds": plan.folds,
        "test": list(plan.test),
        "budget": plan.run.budget.model_dump(mode="json"),
        "runs": {
            "planned": len(results.cells),
            "done": sum(each["done"] for each in variants),
            "failed": len(results.failed()),
            "missing": results.missing,
        },
        "failed": [
            {key: record[key] for key in ("variant", "fold", "seed", "error")} for record in results.failed()
        ],
        "variants": variants,
        "comparisons": [
            c.to_json() | {"seed_differences": results.seed_differences(c.variant)} for c in comparisons
        ],
        "worst": {each.name: _worst(results, each.name) for each in plan.variants},
    }
    return report | {"sentences": conclusions(report, comparisons)}


def unit_name(results: Results) -> str:
    """``patients``, or ``images`` where nothing says which images belong to one patient."""
    return "images" if results.plan.run.data.group is None else "patients"


def _variant(results: Results, name: str) -> dict[str, Any]:
    done = results.done(name)
    measures = results.plan.measures.names
    summary: dict[str, Any] = {
        "name": name,
        "planned": results.planned(name),
        "done": len(done),
        "complete": len(done) == results.planned(name),
        "measures": {m: _interval(results.units(name, m)) for m in measures},
        "classes": {
            label: {m: _interval(results.units(name, m, label=label)) for m in measures}
            for label in results.classes
        },
        "patients": results.units(name, results.plan.primary),
        "seed_spread": results.seed_spread(name, results.plan.primary),
        "counts": results.counts(name),
        "class_counts": {label: results.counts(name, label) for label in results.classes},
        "steps": _range([record["steps"] for record in done.values()]),
        "skipped": _skipped(done.values()),
        "seconds": _range([round(record["seconds"], 1) for record in done.values()]),
        "curves": [
            {"fold": fold, "seed": seed, "points": record["curve"], "name": record["curve_name"]}
            for (fold, seed), record in done.items()
        ],
        "notes": sorted({note for record in done.values() for note in record["notes"]}),
    }
    variant = next(each for each in results.plan.variants if each.name == name)
    return summary | {"field": variant.field, "value": variant.value, "family": variant.family or name}


def _interval(values: Mapping[str, float]) -> dict[str, Any] | None:
    return dataclasses.asdict(mean_interval(list(values.values()))) if values else None


def _skipped(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Runs in which steps were not finite, and the largest share of such steps in one run."""
    shares = [record.get("skipped", 0) / max(record["steps"], 1) for record in records]
    return {"runs": sum(share > 0 for share in shares), "share": max(shares, default=0.0)}


def _range(values: Sequence[float]) -> list[float] | None:
    return [min(values), max(values)] if values else None


def _worst(results: Results, name: str) -> list[dict[str, Any]]:
    measure = results.plan.primary
    values = results.units(name, measure, by_case=True)
    base = results.units(results.plan.base, measure, by_case=True)
    order = sorted(values, key=lambda case: (values[case], case), reverse=measure in LESS_IS_BETTER)
    return [
        {
            "case": case,
            "patient": results.groups[case],
            "value": values[case],
            "reference": base.get(case),
        }
        for case in order[:WORST]
    ]


# ---------------------------------------------------------------- texts


def main_table(report: Mapping[str, Any], label: str | None = None) -> tuple[list[str], list[list[str]]]:
    """Header and rows: a variant in each, its runs, measures with intervals, counts, p against the reference.

    With `label` the measures and counts are those of one class, and the last two columns are left out. A mean over other
    units than that of the tested measure says over how many.
    """
    measures, unit = report["measures"], report["unit"]
    corrected = {c["variant"]: c for c in report["comparisons"]}
    more = [*COUNTS, *([] if label else [f"spread of {report['primary']} over seeds", "p (Holm)"])]
    header = ["variant", "runs", unit, *(f"{m} [95 %]" for m in measures), *more]
    rows = []
    for variant in report["variants"]:
        values = variant["classes"][label] if label else variant["measures"]
        tested = values[report["primary"]]
        row = [
            shown_name(variant),
            f"{variant['done']} of {variant['planned']}",
            "0" if tested is None else str(tested["units"]),
            *(_over(values[m], tested, _digits(m)) for m in measures),
        ]
        counts = variant["class_counts"][label] if label else variant["counts"]
        row += [f"{counts[key]} of {counts['cases'] + counts['absent']}" for key in COUNTS]
        if not label:
            found = corrected.get(variant["name"])
            p = "reference" if found is None else _p_text(found)
            spread = variant["seed_spread"]
            row += [number(spread), p]
        rows.append(row)
    return header, rows


def short_table(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The columns of `main_table` that fit on a screen: the tested measure, and p."""
    header, rows = main_table(report)
    kept = [0, 1, 2, 3 + report["measures"].index(report["primary"]), *range(len(header) - 4, len(header))]
    return [header[i] for i in kept], [[row[i] for i in kept] for row in rows]


def _over(interval: Mapping[str, Any] | None, tested: Mapping[str, Any] | None, digits: int) -> str:
    text = interval_text(interval, digits)
    if interval is None or tested is None or interval["units"] == tested["units"]:
        return text
    return f"{text}, n = {interval['units']}"


def interval_text(interval: Mapping[str, Any] | None, digits: int = 3) -> str:
    """``0.91 [0.88, 0.93]``."""
    if interval is None:
        return "n/a"
    text = f"{interval['value']:.{digits}f}"
    if interval["low"] is None:
        return text
    return f"{text} [{interval['low']:.{digits}f}, {interval['high']:.{digits}f}]"


def _digits(measure: str) -> int:
    return 2 if measure in ("hausdorff", "hd95", "assd", "mssd") else 3


def _p_text(comparison: Mapping[str, Any]) -> str:
    p = comparison["corrected"]
    return "no test" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def markdown(report: Mapping[str, Any], figures: Sequence[str]) -> str:
    """The report as a page; `figures` are names of pictures beside it."""
    lines = ["# Comparison", "", *(f"- {text}" for text in report["sentences"]), ""]
    lines += ["## Results", "", markdown_table(*main_table(report)), ""]
    lines += [f"![{name.removesuffix('.svg')}]({name})" for name in figures if name.endswith(".svg")]
    if len(report["classes"]) > 1:
        for label in report["classes"]:
            lines += ["", f"## {label}", "", markdown_table(*main_table(report, label))]
    lines += ["", f"## Worst cases by {report['primary']}", ""]
    rows = [
        [name, row["case"], row["patient"], number(row["value"]), number(row["reference"])]
        for name, worst in report["worst"].items()
        for row in worst
    ]
    header = ["variant", "case", "patient", report["primary"], f"the same of {report['reference']}"]
    lines += [markdown_table(header, rows)]
    if report["failed"]:
        failed = [[str(row[key]) for key in ("variant", "fold", "seed", "error")] for row in report["failed"]]
        lines += ["", "## Failed runs", "", markdown_table(["variant", "fold", "seed", "error"], failed)]
    notes = [[v["name"], note] for v in report["variants"] for note in v["notes"]]
    if notes:
        lines += ["", "## Warnings during training", "", markdown_table(["variant", "warning"], notes)]
    return "\n".join(lines) + "\n"


def latex(report: Mapping[str, Any]) -> str:
    """The main table, with the sentences as comments."""
    return (
        "\n".join([*(f"% {text}" for text in report["sentences"]), latex_table(*main_table(report))]) + "\n"
    )


def long_csv(results: Results) -> str:
    """Every number: one row per variant, fold, seed, case and class; and one per run without numbers that says why."""
    measures = list(results.plan.measures.names)
    header = [
        "variant", "fold", "seed", "case", "patient", "class", *measures, "predicted", "reference", "unit", "error",
    ]  # fmt: skip
    rows: list[list[Any]] = []
    for variant in results.plan.variants:
        for (fold, seed), record in results.done(variant.name).items():
            for case, classes in record["scores"].items():
                for label, scores in classes.items():
                    values = ["" if scores[m] is None else scores[m] for m in measures]
                    counts = [scores[key] for key in ("predicted", "reference", "unit")]
                    rows.append(
                        [variant.name, fold, seed, case, results.groups[case], label, *values, *counts, ""]
                    )
        rows += [
            [variant.name, fold, seed, *[""] * (len(header) - 4), why]
            for (fold, seed), why in results.without_numbers(variant.name).items()
        ]
    return csv_text(header, rows)
