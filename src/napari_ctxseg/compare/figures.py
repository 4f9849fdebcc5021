"""Pictures of a comparison, each as SVG and PNG: box plots, validation curves, sweeps."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Any

from napari_ctxseg.atomic import write_atomic
from napari_ctxseg.compare.words import shown_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Okabe and Ito's colours, which colour-blind people can tell apart.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
WIDTH, DPI = 7.0, 200
DRAWN = ("boxes", "curves", "sweep")


def draw_figures(report: Mapping[str, Any], folder: Path) -> list[str]:
    """Draw all that the report has numbers for.

    Parameters
    ----------
    report : mapping
        As `napari_ctxseg.compare.report.make_report` builds it.
    folder : Path
        Where the pictures go.

    Returns
    -------
    list of str
        Names of the files, SVG and PNG of each picture.
    """
    from matplotlib import rc_context

    written = []
    for name, draw in zip(DRAWN, (boxes, curves, sweep), strict=True):
        # Text stays text in the SVG, and the same numbers give the same file.
        with rc_context({"svg.fonttype": "none", "svg.hashsalt": "ctxseg", "font.size": 9}):
            figure = draw(report)
            if figure is None:
                continue
            for suffix in (".svg", ".png"):
                more: dict[str, Any] = {"metadata": {"Date": None}} if suffix == ".svg" else {"dpi": DPI}
                write_atomic(
                    folder / f"{name}{suffix}",
                    lambda path, f=figure, s=suffix, m=more: f.savefig(path, format=s[1:], **m),  # type: ignore[misc]
                    suffix=suffix,
                )
                written.append(f"{name}{suffix}")
    return written


def forget_figures(folder: Path) -> list[str]:
    """Remove what `draw_figures` has drawn; gives the names that are left: none."""
    for name in DRAWN:
        for suffix in (".svg", ".png"):
            (folder / f"{name}{suffix}").unlink(missing_ok=True)
    return []


def _figure(height: float) -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _legend(axes: Axes) -> None:
    axes.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))  # on no data


def boxes(report: Mapping[str, Any]) -> Figure | None:
    """Patients' values of the primary measure: a box for each variant, a point for each patient."""
    shown = list(report["variants"])
    if not any(v["patients"] for v in shown):
        return None
    figure, axes = _figure(1.0 + 0.45 * len(shown))
    places = list(range(len(shown), 0, -1))
    values = [list(v["patients"].values()) for v in shown]
    there = [(points, place) for points, place in zip(values, places, strict=True) if points]
    axes.boxplot(
        [points for points, _ in there], positions=[place for _, place in there], orientation="horizontal", widths=0.6,
        showfliers=False, medianprops={"color": "black"},
    )  # fmt: skip
    for place, points, color in zip(places, values, cycle(COLORS), strict=False):
        shifts = [
            ((i * 0.618) % 1 - 0.5) * 0.3 for i in range(len(points))
        ]  # beside each other, not at random
        axes.plot(points, [place + shift for shift in shifts], ".", color=color, alpha=0.7)
    axes.set_yticks(places, [shown_name(v) for v in shown])
    axes.set_ylim(0.4, len(shown) + 0.6)  # a row for those without numbers too
    axes.set_xlabel(f"{report['primary']}, one point for each of the {report['unit']}")
    return figure


def curves(report: Mapping[str, Any]) -> Figure | None:
    """Dice of the validation over the minutes of training: thin a run, thick the mean of a variant's runs."""
    shown = [v for v in report["variants"] if any(_known(c["points"]) for c in v["curves"])]
    if not shown:
        return None
    figure, axes = _figure(3.4)
    for variant, color in zip(shown, cycle(COLORS), strict=False):
        runs = [points for c in variant["curves"] if (points := _known(c["points"]))]
        for points in runs:
            axes.plot(*zip(*points, strict=True), color=color, linewidth=0.6, alpha=0.35)
        axes.plot(*_mean_curve(runs), color=color, linewidth=2, label=shown_name(variant))
    axes.set_xlabel("minutes of training")
    axes.set_ylabel(next(c["name"] for v in shown for c in v["curves"]) or "Dice")
    _legend(axes)
    return figure


def _known(points: Any) -> list[tuple[float, float]]:
    return [(seconds / 60, dice) for _, seconds, dice in points if dice is not None]


def _mean_curve(runs: list[list[tuple[float, float]]]) -> tuple[Any, Any]:
    """Mean of the runs over the time that all of them cover."""
    import numpy as np

    start, end = max(run[0][0] for run in runs), min(run[-1][0] for run in runs)
    times = np.linspace(start, max(start, end), 50)
    heights = [np.interp(times, [t for t, _ in run], [dice for _, dice in run]) for run in runs]
    return times, np.mean(heights, axis=0)


def sweep(report: Mapping[str, Any]) -> Figure | None:
    """Primary measure over a swept field: mean and interval; variants without the field as level lines."""
    points = [v for v in report["variants"] if v["field"] and v["measures"][report["primary"]]]
    if not points:
        return None
    figure, axes = _figure(3.4)
    colors = cycle(COLORS)
    numeric = all(isinstance(v["value"], int | float) for v in points)
    values = (
        sorted({v["value"] for v in points}) if numeric else list(dict.fromkeys(v["value"] for v in points))
    )
    for family in dict.fromkeys(v["family"] for v in points):
        own = {v["value"]: v["measures"][report["primary"]] for v in points if v["family"] == family}
        chosen = [value for value in values if value in own]
        x = [float(value) if numeric else float(values.index(value)) for value in chosen]
        means = [own[value]["value"] for value in chosen]
        low = [
            m - (own[v]["low"] if own[v]["low"] is not None else m)
            for m, v in zip(means, chosen, strict=True)
        ]
        high = [
            (own[v]["high"] if own[v]["high"] is not None else m) - m
            for m, v in zip(means, chosen, strict=True)
        ]
        axes.errorbar(
            x,
            means,
            yerr=[low, high],
            marker="o",
            capsize=3,
            color=next(colors),
            label=_family_name(report, family),
        )
    for variant in report["variants"]:
        interval = variant["measures"][report["primary"]]
        if not variant["field"] and interval:
            axes.axhline(interval["value"], linestyle="--", color=next(colors), label=shown_name(variant))
    if not numeric:
        axes.set_xticks(range(len(values)), [str(value) for value in values])
    elif min(values) > 0 and max(values) >= 10 * min(values):
        axes.set_xscale("log")
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.minorticks_off()
    axes.set_xlabel(points[0]["field"])
    axes.set_ylabel(f"{report['primary']}, mean and 95 % interval over {report['unit']}")
    _legend(axes)
    return figure


def _family_name(report: Mapping[str, Any], family: str) -> str:
    """Name of a line, with the points that lack runs."""
    lacking = [
        f"{v['value']}"
        for v in report["variants"]
        if v["field"] and v["family"] == family and not v["complete"]
    ]
    return f"{family} (incomplete at {', '.join(lacking)})" if lacking else family
