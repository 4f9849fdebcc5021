"""Mean and standard deviation of each method: drawn, and as text."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.lines import Line2D

from napari_ctxseg.errors import InputError
from napari_ctxseg.evaluation.metrics import LESS_IS_BETTER, WITHOUT_DIRECTION
from napari_ctxseg.evaluation.tables import latex, markdown_table
from napari_ctxseg.figures.scores import (
    methods_and_classes,
    numbers,
    of_measure,
    read_scores,
    title_of,
)
from napari_ctxseg.figures.sheet import POINT, Drawing, new_figure, text_width

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from napari_ctxseg.config import FigureStyle, TableFigure
    from napari_ctxseg.figures.scores import Score
    from napari_ctxseg.figures.sources import Sources

#: Shown when the recipe names none.
USUAL = ("dice", "precision", "recall", "hd95")
#: Columns that hold words.
WORDS = ("method", "class")
#: Millimetres between columns; height of a row in text sizes.
BETWEEN, ROW = 3.5, 1.6


@dataclass(frozen=True)
class Cell:
    """Text of a cell, and whether it stands out."""

    text: str
    bold: bool = False


def draw_table(recipe: TableFigure, sources: Sources) -> Drawing:
    """Build the figure of a recipe, and its texts.

    Raises
    ------
    CtxsegError
        If the files hold no such scores, or the table is wider than the figure.
    """
    found = read_scores(recipe, sources)
    apart = _apart(recipe, found.values)
    header, rows = _cells(recipe, found.values, apart)
    note = f"Mean (standard deviation) over {found.unit}; n: {found.unit} measured."
    drawing = _drawn(header, rows, note, recipe.style)
    made = {"md": _markdown(header, rows, note), "tex": _latex(header, rows, note)}
    drawing.notes += [*found.notes, *apart.values()]
    drawing.texts = {f".{form}": made[form] for form in recipe.texts}
    return drawing


def _cells(
    recipe: TableFigure, scores: Sequence[Score], apart: Container[tuple[str, str]]
) -> tuple[list[str], list[list[Cell]]]:
    measures = _measures(recipe, scores)
    for measure in measures:
        of_measure(scores, measure)
    methods, classes = methods_and_classes(scores)
    several = len(classes) > 1
    rows = []
    for label in classes:
        best = {m: _best(scores, m, methods, label, recipe.digits) for m in measures}
        for method in methods:
            row = [Cell(method)] + ([Cell(label)] if several else [])
            each = {m: numbers(scores, m, method, label) for m in measures}
            most = max(map(len, each.values()))
            row += [
                _cell(values, best[m] if recipe.bold and (m, label) not in apart else None, recipe, most)
                for m, values in each.items()
            ]
            rows.append([*row, Cell(str(most))])
    return ["method", *(["class"] if several else []), *(title_of(m, scores) for m in measures), "n"], rows


def _measures(recipe: TableFigure, scores: Sequence[Score]) -> list[str]:
    known = dict.fromkeys(name for score in scores for name in score.values)
    return list(recipe.measures) or [m for m in USUAL if m in known] or list(known)


def _apart(recipe: TableFigure, scores: Sequence[Score]) -> dict[tuple[str, str], str]:
    """Measures of classes that not all methods have of the same units, and a sentence: no mean of them is the best."""
    methods, classes = methods_and_classes(scores)
    found = {}
    for measure in _measures(recipe, scores):
        for label in classes:
            units = {
                method: frozenset(
                    s.unit
                    for s in scores
                    if (s.method, s.label) == (method, label) and s.values.get(measure) is not None
                )
                for method in methods
            }
            if len(set(units.values())) > 1:
                of = f" of {label}" if len(classes) > 1 else ""
                found[measure, label] = (
                    f"{title_of(measure, scores)}{of} is not of the same units for all methods, so none is bold"
                )
    return found


def _best(
    scores: Sequence[Score], measure: str, methods: Sequence[str], label: str, digits: int
) -> str | None:
    """The best mean as it is printed; None where there is nothing to compare."""
    means = [statistics.fmean(v) for m in methods if (v := numbers(scores, measure, m, label))]
    if len(means) < 2:
        return None
    if measure in WITHOUT_DIRECTION:
        return f"{min(means, key=abs):.{digits}f}"
    return f"{min(means) if measure in LESS_IS_BETTER else max(means):.{digits}f}"


def _cell(values: Sequence[float], best: str | None, recipe: TableFigure, most: int) -> Cell:
    """`most` units have some measure; a mean over fewer of them says so."""
    if not values:
        return Cell("n/a")
    mean = f"{statistics.fmean(values):.{recipe.digits}f}"
    spread = f" ({statistics.stdev(values):.{recipe.digits}f})" if len(values) > 1 else ""
    fewer = f", n = {len(values)}" if len(values) < most else ""
    return Cell(mean + spread + fewer, mean == best)


def _drawn(header: Sequence[str], rows: Sequence[Sequence[Cell]], note: str, style: FigureStyle) -> Drawing:
    # Bold letters are wider; a tenth is enough for the fonts at hand.
    widths = [
        max(text_width(c.text, style) * (1.1 if c.bold else 1.0) for c in [Cell(name, True), *column])
        for name, *column in zip(header, *rows, strict=True)
    ]
    need = sum(widths) + BETWEEN * len(widths)
    if need > style.width:
        raise InputError(
            "style.width", f"{style.width:g} mm is too narrow for the table, which needs {need:.0f} mm",
            "Widen it, make style.size smaller, or choose fewer measures",
        )  # fmt: skip
    line = ROW * style.size * POINT
    total = line * (len(rows) + 2) + 1.0
    figure = new_figure(style, total)
    space = (style.width - sum(widths)) / len(widths)
    top = total - 0.5
    for number, cells in enumerate([[Cell(name, True) for name in header], *rows]):
        y = (top - line * (number + 0.5)) / total
        left = space / 2
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True)):
            text = column < len(header) - 1 and header[column] in WORDS
            figure.text(
                (left if text else left + width) / style.width, y, cell.text, ha="left" if text else "right",
                va="center_baseline", fontsize=style.size, fontweight="bold" if cell.bold else "normal", gid="cell",
            )  # fmt: skip
            left += width + space
    for number, weight in ((0, 1.0), (1, 0.5), (len(rows) + 1, 1.0)):
        y = (top - line * number) / total
        figure.add_artist(_rule(y, weight))
    figure.text(space / 2 / style.width, (top - line * (len(rows) + 1.5)) / total, note,
                ha="left", va="center_baseline", fontsize=max(style.size - 1.5, 4), gid="note")  # fmt: skip
    return Drawing(figure, {"rows": len(rows)})


def _rule(y: float, weight: float) -> Line2D:
    return Line2D([0.0, 1.0], [y, y], color="black", linewidth=weight, gid="rule")


def _markdown(header: Sequence[str], rows: Sequence[Sequence[Cell]], note: str) -> str:
    table = markdown_table(header, [[f"**{c.text}**" if c.bold else c.text for c in row] for row in rows])
    return f"{table}\n\n{note}\n"


def _latex(header: Sequence[str], rows: Sequence[Sequence[Cell]], note: str) -> str:
    lines = [
        [rf"\textbf{{{latex(c.text)}}}" if c.bold else latex(c.text) for c in row]
        for row in [[Cell(name) for name in header], *rows]
    ]
    texts = [" & ".join(line) + r" \\" for line in lines]
    words = sum(name in WORDS for name in header)
    columns = "l" * words + "r" * (len(header) - words)
    return "\n".join(
        [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", texts[0], r"\midrule", *texts[1:], r"\bottomrule",
         r"\end{tabular}", f"% {note}", ""]
    )  # fmt: skip
