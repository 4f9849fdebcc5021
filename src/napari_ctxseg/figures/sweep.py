"""A measure over a swept setting."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from napari_ctxseg.errors import FileError, InputError
from napari_ctxseg.figures.boxplots import plain_axes
from napari_ctxseg.figures.palette import nth, palette_of
from napari_ctxseg.figures.scores import (
    evaluation,
    methods_and_classes,
    numbers,
    of_measure,
    read_json,
    title_of,
)
from napari_ctxseg.figures.sheet import Drawing, new_figure, small

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from napari_ctxseg.config import SweepFigure
    from napari_ctxseg.figures.sources import Sources

#: Height over width of a chart.
RATIO = 0.68


def draw_sweep(recipe: SweepFigure, sources: Sources) -> Drawing:
    """Build the figure of a recipe: means with every case as a point, or with the intervals of a comparison.

    Raises
    ------
    CtxsegError
        If the files hold no such scores.
    """
    style = recipe.style
    figure = new_figure(style, style.width * RATIO, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02)  # type: ignore[union-attr, call-arg]
    axes = figure.subplots()
    if recipe.report is not None:
        chosen = _from_report(axes, recipe, read_json(sources.path(recipe.report)))
    else:
        chosen = _from_points(axes, recipe, sources)
    if recipe.logarithmic:
        axes.set_xscale("log")
        axes.set_xticks(chosen["values"], [f"{value:g}" for value in chosen["values"]])
        axes.minorticks_off()
    axes.set_xlabel(recipe.label or chosen.get("setting", "setting"), fontsize=style.size)
    plain_axes(axes, small(style))
    if style.legend and len(axes.get_legend_handles_labels()[0]) > 1:
        figure.legend(loc="outside upper center", ncols=3, fontsize=style.size, frameon=False)
    return Drawing(figure, chosen)


def _from_points(axes: Axes, recipe: SweepFigure, sources: Sources) -> dict[str, Any]:
    values = sorted(recipe.points)
    scores = [s for value in values for s in evaluation(sources.path(recipe.points[value]), repr(value))]
    kept = of_measure(scores, recipe.measure)
    classes = methods_and_classes(kept)[1]
    means: dict[str, list[float | None]] = {}
    for number, label in enumerate(classes):
        colour = nth(palette_of(recipe.style).methods, number)
        each = [numbers(kept, recipe.measure, repr(value), label) for value in values]
        for value, points in zip(values, each, strict=True):
            axes.plot(
                [value] * len(points),
                points,
                "o",
                color=colour,
                markersize=2,
                alpha=0.35,
                markeredgewidth=0,
                gid="points",
            )
        known = [(v, math.fsum(p) / len(p)) for v, p in zip(values, each, strict=True) if p]
        axes.plot(
            *zip(*known, strict=True),
            "-o",
            color=colour,
            linewidth=1.2,
            markersize=3.5,
            label=label,
            gid="means",
        )
        means[label] = [math.fsum(p) / len(p) if p else None for p in each]
    axes.set_ylabel(f"{title_of(recipe.measure, kept)}: mean, and every case", fontsize=recipe.style.size)
    return {"values": values, "means": means}


def _from_report(axes: Axes, recipe: SweepFigure, report: Any) -> dict[str, Any]:
    style, measure = recipe.style, recipe.measure
    try:
        points = [v for v in report["variants"] if v["field"] and v["measures"].get(measure)]
        level = [v for v in report["variants"] if not v["field"] and v["measures"].get(measure)]
        if not points:
            raise InputError(
                recipe.report, f"holds no sweep with {measure}", "Give one of `ctxseg compare --sweep`"
            )
        values = sorted({float(v["value"]) for v in points})
        colours = iter(range(len(points) + len(level)))
        for family in dict.fromkeys(v["family"] for v in points):
            own = sorted((float(v["value"]), v["measures"][measure]) for v in points if v["family"] == family)
            means = [m["value"] for _, m in own]
            low = [m["value"] - (m["value"] if m["low"] is None else m["low"]) for _, m in own]
            high = [(m["value"] if m["high"] is None else m["high"]) - m["value"] for _, m in own]
            axes.errorbar(
                [v for v, _ in own], means, yerr=[low, high], marker="o", markersize=3.5, linewidth=1.2, capsize=2,
                color=nth(palette_of(style).methods, next(colours)), label=family,
            )  # fmt: skip
        for each in level:
            axes.axhline(
                each["measures"][measure]["value"], linestyle="--", linewidth=1.0, label=each["name"],
                color=nth(palette_of(style).methods, next(colours)),
            )  # fmt: skip
        unit, setting = str(report["unit"]), str(points[0]["field"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileError(
            str(recipe.report), "does not hold what `ctxseg compare` writes (report.json)", "Give such a file"
        ) from error
    axes.set_ylabel(f"{title_of(measure)}: mean, 95 % interval over {unit}", fontsize=style.size)
    return {"values": values, "setting": setting}
