"""Scores as ``ctxseg evaluate`` and ``ctxseg compare`` write them."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from napari_ctxseg.errors import FileError, InputError
from napari_ctxseg.evaluation.metrics import DISTANCES
from napari_ctxseg.figures.marks import unit_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from napari_ctxseg.config.figure_parts import ScoresRecipe
    from napari_ctxseg.figures.sources import Sources

#: Columns of the long table of a comparison that are no measures.
PLAIN = ("variant", "fold", "seed", "case", "patient", "class", "predicted", "reference", "unit", "error")


@dataclass(frozen=True)
class Score:
    """One measured value of one unit: a patient where the file names patients, else a case.

    Attributes
    ----------
    method, unit, label : str
        `label` is the class.
    values : dict of str to float or None
        Measure -> value; None where it does not apply.
    length : str
        Unit of the distances.
    """

    method: str
    unit: str
    label: str
    values: dict[str, float | None]
    length: str = ""


@dataclass(frozen=True)
class Scores:
    """All scores of a recipe.

    Attributes
    ----------
    values : list of Score
    unit : str
        What a unit is: ``"cases"``, ``"images"`` or ``"patients"``.
    notes : list of str
        What a reader of the figure should know.
    """

    values: list[Score]
    unit: str = "cases"
    notes: list[str] = field(default_factory=list)


def read_scores(recipe: ScoresRecipe, sources: Sources) -> Scores:
    """What the files of a recipe hold of its classes.

    Raises
    ------
    CtxsegError
        If a file does not hold scores, or none are left.
    """
    if recipe.report is not None:
        found = _long_table(sources.path(recipe.report))
    else:
        found = Scores(
            [s for name, path in recipe.scores.items() for s in evaluation(sources.path(path), name)]
        )
    kept = [s for s in found.values if not recipe.classes or s.label in recipe.classes]
    if not kept:
        known = ", ".join(dict.fromkeys(s.label for s in found.values)) or "none"
        raise InputError("classes", "leave no scores", f"The files have: {known}")
    return replace(found, values=kept)


def evaluation(path: Path, method: str) -> list[Score]:
    """Scores of a file of ``ctxseg evaluate --json``.

    Raises
    ------
    FileError
        If it is none.
    """
    known = read_json(path)
    try:
        return [
            Score(
                method, str(case["name"]), str(label), _measures(values, path), str(values.get("unit") or "")
            )
            for case in known["cases"]
            for label, values in case["classes"].items()
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise _foreign(path, "`ctxseg evaluate --json`") from error


def read_json(path: Path) -> Any:
    """A JSON file.

    Raises
    ------
    FileError
        If it is none.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(path, f"cannot be read as JSON ({error})", "Write it again with --json") from error


def _foreign(path: Path, command: str) -> FileError:
    return FileError(path, f"does not hold what {command} writes", "Give such a file")


def _measures(values: Mapping[str, Any], path: Path) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name, value in values.items():
        if name in PLAIN:
            continue
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)
        ):
            raise FileError(path, f"holds {value!r} as {name}", "Write it again with --json")
        found[name] = None if value is None else float(value)
    return found


def _long_table(path: Path) -> Scores:
    """Patients' means over seeds and cases, of ``report.csv``; ``"images"`` where nobody said which belong to a patient.

    Runs without numbers have a row with nothing but their place and the reason: their variant is marked.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            every = list(reader)
        if not {"variant", "patient", "class"} <= set(reader.fieldnames or ()):
            raise ValueError("it has other columns")
        rows = [row for row in every if row["patient"]]
        lacking = [row["variant"] for row in every if not row["patient"]]
        keys = [(row["variant"], row["patient"], row["class"]) for row in rows]
        measures = [name for name in rows[0] if name not in PLAIN] if rows else []
        lengths = {key: row.get("unit") or "" for key, row in zip(keys, rows, strict=True)}
        found: dict[tuple[str, str, str], dict[str, list[float]]] = {}
        for key, row in zip(keys, rows, strict=True):
            each = found.setdefault(key, {name: [] for name in measures})
            for name in measures:
                if row[name] not in ("", None):
                    each[name].append(float(row[name]))
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise _foreign(path, "`ctxseg compare` (report.csv)") from error
    unit = "images" if all(row.get("case") == row["patient"] for row in rows) else "patients"
    there = {variant for variant, _, _ in found}
    scores = [
        Score(
            f"{variant} (incomplete)" if variant in lacking else variant, patient, label,
            {name: math.fsum(v) / len(v) if v else None for name, v in values.items()},
            lengths[variant, patient, label],
        )
        for (variant, patient, label), values in found.items()
    ]  # fmt: skip
    notes = [
        f"{variant}: {lacking.count(variant)} of its runs have no numbers"
        + ("" if variant in there else "; it is not in the figure")
        for variant in dict.fromkeys(lacking)
    ]
    return Scores(scores, unit, notes)


def of_measure(scores: Iterable[Score], measure: str) -> list[Score]:
    """Scores that have a value of a measure.

    Raises
    ------
    InputError
        If no file has that measure.
    """
    scores = list(scores)
    known = dict.fromkeys(name for score in scores for name in score.values)
    if measure not in known:
        raise InputError("measures", f"{measure} is not in the scores", f"They have: {', '.join(known)}")
    return [score for score in scores if score.values.get(measure) is not None]


def numbers(scores: Sequence[Score], measure: str, method: str, label: str) -> list[float]:
    """Values of one method and class, those that do not apply left out."""
    return [
        value
        for score in scores
        if (score.method, score.label) == (method, label) and (value := score.values.get(measure)) is not None
    ]


def methods_and_classes(scores: Sequence[Score]) -> tuple[list[str], list[str]]:
    """In the order of their first appearance."""
    return list(dict.fromkeys(s.method for s in scores)), list(dict.fromkeys(s.label for s in scores))


def title_of(measure: str, scores: Sequence[Score] = ()) -> str:
    """A measure as people write it; a distance with its unit, if all scores have the same."""
    known = {
        "dice": "Dice", "iou": "IoU", "hd95": "HD95", "assd": "ASSD", "mssd": "MSSD", "cldice": "clDice", "fpr": "FPR",
        "fnr": "FNR", "hausdorff": "Hausdorff", "seg": "SEG", "voe": "VOE", "rvd": "RVD",
    }  # fmt: skip
    name = known.get(measure, measure.replace("_", " "))
    units = {score.length for score in scores}
    if measure in DISTANCES and len(units) == 1 and units != {""}:
        return f"{name} ({unit_text(units.pop())})"
    return name
