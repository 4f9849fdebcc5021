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
from napari_ctxseg.figures.sheet import Drawing, new_figure, small, top_legend, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from napari_ctxseg.config import FigureStyle, SweepFigure
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
    notes: list[str] = []
    if recipe.report is not None:
        chosen, notes = _from_report(axes, recipe, read_json(sources.path(recipe.report)))
    else:
        chosen = _from_points(axes, recipe, sources)
    if recipe.logarithmic:
        axes.set_xscale("log")
        axes.set_xticks(chosen["values"], [f"{value:g}" for value in chosen["values"]])
        axes.minorticks_off()
    axes.set_xlabel(recipe.label or chosen.get("setting", "setting"), fontsize=style.size)
    plain_axes(axes, small(style))
    handles, names = axes.get_legend_handles_labels()
    if style.legend and len(names) > 1:
        top_legend(figure, style, handles, names)
    return Drawing(figure, chosen, notes)


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
    _label_y(axes, f"{title_of(recipe.measure, kept)}: mean, and every case", recipe.style)
    return {"values": values, "means": means}


def _label_y(axes: Axes, text: str, style: FigureStyle) -> None:
    """A label that is broken before it grows longer than the axis."""
    axes.set_ylabel(wrapped(text, style.width * RATIO * 0.6, style), fontsize=style.size)


def _from_report(axes: Axes, recipe: SweepFigure, report: Any) -> tuple[dict[str, Any], list[str]]:
    """What was drawn, and which variants rest on some of their runs or on none."""
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
            of_family = [v for v in points if v["family"] == family]
            own = sorted((float(v["value"]), v["measures"][measure]) for v in of_family)
            complete = all(v.get("complete", True) for v in report["variants"] if v["family"] == family)
            means = [m["value"] for _, m in own]
            low = [m["value"] - (m["value"] if m["low"] is None else m["low"]) for _, m in own]
            high = [(m["value"] if m["high"] is None else m["high"]) - m["value"] for _, m in own]
            axes.errorbar(
                [v for v, _ in own], means, yerr=[low, high], marker="o", markersize=3.5, linewidth=1.2, capsize=2,
                color=nth(palette_of(style).methods, next(colours)),
                label=family if complete else f"{family} (incomplete)",
            )  # fmt: skip
        for each in level:
            axes.axhline(
                each["measures"][measure]["value"], linestyle="--", linewidth=1.0,
                label=each["name"] if each.get("complete", True) else f"{each['name']} (incomplete)",
                color=nth(palette_of(style).methods, next(colours)),
            )  # fmt: skip
        unit, setting = str(report["unit"]), str(points[0]["field"])
        lacking = [v for v in report["variants"] if not v.get("complete", True)]
        notes = [f"{v['name']}: {v['done']} of its {v['planned']} runs have numbers" for v in lacking]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileError(
            str(recipe.report), "does not hold what `ctxseg compare` writes (report.json)", "Give such a file"
        ) from error
    _label_y(axes, f"{title_of(measure)}: mean, 95 % interval over {unit}", style)
    return {"values": values, "setting": setting}, notes
