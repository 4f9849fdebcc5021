"""Evaluations as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Formats by the suffix of a file.
SUFFIXES = {".json": "json", ".csv": "csv", ".md": "markdown", ".tex": "latex"}
FORMATS = tuple(SUFFIXES.values())
#: What stands beside the measures of a class, and of a case.
CLASS_COUNTS = ("cases", "absent", "missed", "invented", "distances")
CASE_COUNTS = ("predicted", "reference")
_TEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
)


def number(value: Any, digits: int = 3) -> str:
    """A measure, a count or a name as text."""
    if value is None:
        return "n/a"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def evaluation_text(result: Mapping[str, Any], form: str) -> str:
    """An evaluation in one of `FORMATS`.

    Parameters
    ----------
    result : mapping
        As `Summary.to_json`, with ``"notes"`` if there are any.
    form : str
        ``"csv"`` holds one row per case and class, for programs; ``"markdown"`` and ``"latex"`` a table of the classes
        and one of the cases.

    Returns
    -------
    str
        Ends with a line end.
    """
    if form == "json":
        return json.dumps(result, indent=2) + "\n"
    header, rows = case_rows(result)
    if form == "csv":
        plain = [["" if cell is None else cell for cell in row] for row in rows]
        return csv_text([*header, "unit"], plain)
    classes = class_rows(result)
    unit = result["mean"]["unit"] or "mixed units"
    notes = [f"{len(result['cases'])} cases; distances in {unit}.", *result.get("notes", [])]
    make = markdown_table if form == "markdown" else latex_table
    tables = [make(*classes), make(header, [[number(cell) for cell in row[:-1]] for row in rows])]
    comment = "% " if form == "latex" else ""
    return "\n\n".join([*(f"{comment}{note}" for note in notes), *tables]) + "\n"


def class_rows(result: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the classes and their mean."""
    measures = [name for name in result["mean"] if name != "unit"]
    rows = [
        [name, *(number(values[key]) for key in (*measures, *CLASS_COUNTS))]
        for name, values in result["classes"].items()
    ]
    rows.append(["mean", *(number(result["mean"][m]) for m in measures), *[""] * len(CLASS_COUNTS)])
    return ["class", *measures, *CLASS_COUNTS], rows


def case_rows(result: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Header (without the unit) and rows of the cases, one per class, as values; the unit stands last."""
    measures = [name for name in result["mean"] if name != "unit"]
    rows = [
        [case["name"], name, *(values[key] for key in (*measures, *CASE_COUNTS, "unit"))]
        for case in result["cases"]
        for name, values in case["classes"].items()
    ]
    return ["case", "class", *measures, *CASE_COUNTS], rows


def csv_text(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Comma-separated values with a header."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def latex_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A LaTeX table in the style of ``booktabs``."""
    lines = [" & ".join(latex(cell) for cell in line) + r" \\" for line in [header, *rows]]
    body = [
        rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", r"\toprule", lines[0], r"\midrule",
        *lines[1:], r"\bottomrule", r"\end{tabular}",
    ]  # fmt: skip
    return "\n".join(body)


def latex(text: str) -> str:
    """Text with LaTeX's special characters made plain."""
    return text.translate(_TEX)
