"""Ours beside the paper's: what came of a recipe's runs, and what differs from the row that is printed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from napari_ctxseg.errors import FileError
from napari_ctxseg.evaluation.tables import csv_text, markdown_table
from napari_ctxseg.recipes.schema import Recipe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from napari_ctxseg.config import RunConfig
    from napari_ctxseg.recipes.prepare import Prepared
    from napari_ctxseg.recipes.schema import Printed, Row

RESULT = "result.json"
HEADER = ("recipe", "set", "table", "row", "measure", "of", "paper", "ours", "cases", "what differs")


def measured(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, tuple[float, int]]]:
    """Measure -> class -> mean over cases, and their number; the class ``""`` is the mean over classes.

    Parameters
    ----------
    records : sequence of mapping
        Stored runs; several folds and seeds give a case several values, all of which count alike.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for record in records:
        for classes in record["scores"].values():
            for name, scores in classes.items():
                for measure, value in scores.items():
                    if isinstance(value, int | float) and measure not in ("predicted", "reference"):
                        found.setdefault(measure, {}).setdefault(name, []).append(float(value))
    result: dict[str, dict[str, tuple[float, int]]] = {}
    for measure, by_class in found.items():
        means = {name: (sum(values) / len(values), len(values)) for name, values in by_class.items()}
        average = sum(mean for mean, _ in means.values()) / len(means)
        result[measure] = {"": (average, max(count for _, count in means.values())), **means}
    return result


def make_result(
    recipe: Recipe,
    name: str,
    config: RunConfig,
    prepared: Prepared,
    records: Sequence[Mapping[str, Any]],
    folds: int | None,
) -> dict[str, Any]:
    """What is kept of a recipe's runs, plain values for ``json.dumps``.

    Returns
    -------
    dict
        ``recipe``, ``source``, ``values`` (measure, class, printed, ours, cases, percent, unit; ours in the scale of the
        paper), ``runs``, ``steps``, ``seconds``, ``notes`` (what differs from the recipe), ``failed`` (errors of runs),
        ``differs`` and ``unknown`` of the recipe.
    """
    good = [record for record in records if not record["error"]]
    ours = measured(good)
    steps = sorted({int(record["steps"]) for record in good})
    values = [_value(each, ours) for each in recipe.printed]
    if not values:
        values = [
            {"measure": m, "class": "", "printed": None, "ours": ours[m][""][0], "cases": ours[m][""][1],
             "percent": False, "unit": ""}
            for m in recipe.measures if m in ours
        ]  # fmt: skip
    return {
        "recipe": name,
        "source": recipe.source,
        "values": values,
        "runs": len(good),
        "steps": steps,
        "seconds": round(sum(float(record["seconds"]) for record in good), 1),
        "notes": _differences(recipe, config, prepared, steps, folds),
        "failed": [str(record["error"]) for record in records if record["error"]],
        "differs": list(recipe.differs),
        "unknown": [each.model_dump() for each in recipe.unknown],
    }


def _value(printed: Printed, ours: Mapping[str, Mapping[str, tuple[float, int]]]) -> dict[str, Any]:
    mean, cases = ours.get(printed.measure, {}).get(printed.class_, (None, 0))
    scale = 100.0 if printed.percent else 1.0
    return {
        "measure": printed.measure, "class": printed.class_, "printed": printed.value,
        "ours": None if mean is None else mean * scale, "cases": cases, "percent": printed.percent, "unit": printed.unit,
    }  # fmt: skip


def _differences(
    recipe: Recipe, config: RunConfig, prepared: Prepared, steps: Sequence[int], folds: int | None
) -> list[str]:
    """What was done otherwise than the recipe says, a short phrase each."""
    found = []
    if steps and set(steps) != {recipe.steps}:
        found.append(f"{' or '.join(map(str, steps))} of {recipe.steps} steps")
    if prepared.whole and prepared.used != prepared.whole:
        found.append(f"{prepared.used} of {prepared.whole} cases of the set")
    if folds is not None:
        found.append(f"{folds} folds instead of one split")
    plain, own = (_flat(each.model_dump(mode="json")) for each in (recipe.config(), config))
    skipped = ("data.images", "data.labels", "budget.", "device.", "seed")
    changed = [n for n in own if not n.startswith(skipped) and own[n] != plain.get(n)]
    if changed:
        found.append("changed: " + ", ".join(f"{name}={own[name]}" for name in changed))
    return found


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{before}{key}.") if isinstance(value, dict) else {before + key: value}
    return flat


def read_result(folder: Path) -> dict[str, Any] | None:
    """What `make_result` gave for the recipe in a folder, if it was run.

    Raises
    ------
    FileError
        If the file is damaged.
    """
    path = folder / RESULT
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found["values"], list) or not isinstance(found["notes"], list):
            raise TypeError("of another form")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileError(path, f"is damaged ({error})", "Run the recipe again") from error
    return found


def table_rows(
    name: str, row: Row, result: Mapping[str, Any] | None, *, whole: bool = False
) -> list[list[str]]:
    """Lines of the table for one row: one for each measure, as `HEADER`.

    Parameters
    ----------
    name : str
    row : Row
    result : mapping, optional
        Of `make_result`.
    whole : bool
        Whether classes have a line each even where the paper prints their mean.
    """
    values = (
        [{**each, "cases": each["cases"] or ""} for each in result["values"]]
        if result
        else [_value(each, {}) for each in row.printed]
    )
    notes = [*result["notes"], *(f"failed: {error}" for error in result["failed"])] if result else []
    notes += [_reservations(row)] if isinstance(row, Recipe) and result else []
    notes += [row.note] if row.note else []
    notes = [note for note in notes if note]
    lines = []
    for measure in dict.fromkeys(each["measure"] for each in values) or ("",):
        own = [each for each in values if each["measure"] == measure]
        mean = [each for each in own if each["class"] == ""]
        for group in [[each] for each in own] if whole else [mean or own]:
            printed, ours = (" / ".join(_number(each[key]) for each in group) for key in ("printed", "ours"))
            of = " / ".join(each["class"] or "mean" for each in group)
            cases = max((int(each["cases"] or 0) for each in group), default=0)
            lines.append([
                name, row.set_, row.table, row.row, measure, of, printed if row.printed else "not printed",
                ours if result else "", str(cases or ""), "; ".join(notes),
            ])  # fmt: skip
    return lines


def _reservations(recipe: Recipe) -> str:
    """How many settings are not the paper's, or not known to be."""
    counts = (len(recipe.differs), "known to differ"), (len(recipe.unknown), "not stated by the paper")
    found = [f"{count} {what}" for count, what in counts if count]
    return f"settings: {', '.join(found)} (recipes show)" if found else ""


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def table_text(lines: Sequence[Sequence[str]], form: str) -> str:
    """Lines of `table_rows` as ``markdown`` or ``csv``."""
    return markdown_table(HEADER, lines) + "\n" if form == "markdown" else csv_text(HEADER, lines)
