"""Panels on a sheet of a given width: placed by hand in millimetres, so that nothing overlaps and nothing is left over."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

    from napari_ctxseg.config import FigureStyle

#: Millimetres of an inch, and of a point.
INCH, POINT = 25.4, 25.4 / 72
#: Millimetres between panels, and the narrowest panel that is still of use.
GAP, NARROWEST = 1.5, 25.0
#: Millimetres: a figure is never higher than a journal's page.
HIGHEST = 225.0
#: Millimetres: height of a colour bar, and its distance from the panel.
BAR, BAR_GAP = 2.2, 1.0
LINE = 1.25


@dataclass(frozen=True)
class Panel:
    """One picture on a sheet.

    Attributes
    ----------
    draw : callable
        Gets the axes; returns what a colour bar shows, or nothing.
    aspect : float
        Height over width.
    title : str
    bar : str or None
        Name below the colour bar; None: no bar.
    letter : bool
        Whether it counts for the letters a, b, c ...
    """

    draw: Callable[[Axes], ScalarMappable | None]
    aspect: float
    title: str = ""
    bar: str | None = None
    letter: bool = True


#: Millimetres that the mark of a legend takes, with the space around it.
MARK = 12.0


@dataclass
class Drawing:
    """A figure that is ready to be saved.

    Attributes
    ----------
    figure : matplotlib Figure
    chosen : dict
        What was left to the builder and what it chose, such as the slice.
    notes : list of str
        What the person should know about it.
    texts : dict of str to str
        Suffix -> text to write beside it.
    """

    figure: Figure
    chosen: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)


def small(style: FigureStyle) -> float:
    """Size in pt of scale bars, letters and ticks."""
    return max(style.size - 1.0, 4.0)


def text_width(text: str, style: FigureStyle, size: float | None = None) -> float:
    """Width in mm."""
    if not text.strip():
        return 0.0
    path = TextPath((0, 0), text, size=size or style.size, prop=FontProperties(family=style.font))
    return float(path.get_extents().width) * POINT


def wrapped(text: str, width: float, style: FigureStyle) -> str:
    """Text broken between words so that it stays within a width in mm, as far as its words allow."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, style) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)


def new_figure(style: FigureStyle, height: float, *, layout: Any = None) -> Figure:
    """An empty figure of the style's width and a height in mm."""
    figure = Figure(figsize=(style.width / INCH, height / INCH), dpi=style.dpi, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def columns_of(count: int, style: FigureStyle) -> int:
    """Panels in a row."""
    if style.columns is not None:
        return min(style.columns, count)
    most = max(1, int((style.width + GAP) // (NARROWEST + GAP)))
    rows = math.ceil(count / most)
    return math.ceil(count / rows)  # rows of about the same length


def lay_out(rows: Sequence[Sequence[Panel]], style: FigureStyle, handles: Sequence[Artist] = ()) -> Figure:
    """Draw rows of panels, each as wide as the sheet, and a legend below.

    Parameters
    ----------
    rows : sequence of sequences of Panel
        A row that is shorter than the first one has panels of the same size.
    style : FigureStyle
    handles : sequence of Artist
        Of the legend.
    """
    figure = new_figure(style, HIGHEST)
    legend_height = _legend(figure, style, handles) if style.legend and handles else 0.0
    slots = max(len(row) for row in rows)
    heights = [_row_height(row, slots, style) for row in rows]
    room = max(HIGHEST - legend_height - GAP * (len(rows) - 1), 10.0)
    heights = [height * min(1.0, room / sum(heights)) for height in heights]
    titles = _titles(rows, heights, style)
    extras = [
        _title_height(t, row, style) + _bar_height(row, style) for t, row in zip(titles, rows, strict=True)
    ]
    fixed = sum(extras) + GAP * (len(rows) - 1) + legend_height
    shrink = min(1.0, max(HIGHEST - fixed, 10.0) / sum(heights))
    heights = [height * shrink for height in heights]
    total = fixed + sum(heights)
    figure.set_size_inches(style.width / INCH, total / INCH)
    top = total
    letters = iter(ascii_lowercase * 10 if style.letters else "")
    for row, names, height, extra in zip(rows, titles, heights, extras, strict=True):
        head = _title_height(names, row, style)
        widths = [height / panel.aspect for panel in row]
        # Where a row as long as the first would begin.
        left = (style.width - sum(widths) - widths[0] * (slots - len(row)) - GAP * (slots - 1)) / 2
        for panel, name, width in zip(row, names, widths, strict=True):
            place = (left, top - head - height, width, height)
            letter = next(letters, "") if panel.letter else ""
            _panel(figure, panel, name, letter, place, total, style)
            left += width + GAP
        top -= height + extra + GAP
    return figure


def _row_height(row: Sequence[Panel], slots: int, style: FigureStyle) -> float:
    """Common height in mm of the panels of a row that fills the sheet."""
    inverse = [1 / panel.aspect for panel in row]
    inverse += [inverse[0]] * (slots - len(row))
    return (style.width - GAP * (slots - 1)) / sum(inverse)


def _titles(rows: Sequence[Sequence[Panel]], heights: Sequence[float], style: FigureStyle) -> list[list[str]]:
    """Titles broken into lines, or nothing."""
    if not style.titles:
        return [[""] * len(row) for row in rows]
    aside = 4 * style.size * POINT * 0.6 if style.letters else 0.0  # a letter stands at the left
    return [
        [wrapped(panel.title, height / panel.aspect - aside, style) for panel in row]
        for row, height in zip(rows, heights, strict=True)
    ]


def _title_height(names: Sequence[str], row: Sequence[Panel], style: FigureStyle) -> float:
    lines = max(name.count("\n") + 1 if name else 0 for name in names)
    lines = max(lines, int(style.letters and any(panel.letter for panel in row)))
    return (lines * LINE + 0.35) * style.size * POINT if lines else 0.0


def _bar_height(row: Sequence[Panel], style: FigureStyle) -> float:
    if all(panel.bar is None for panel in row):
        return 0.0
    named = any(panel.bar for panel in row)
    return BAR_GAP + BAR + (small(style) * 1.6 + style.size * (1.5 if named else 0.3)) * POINT


def _panel(
    figure: Figure,
    panel: Panel,
    name: str,
    letter: str,
    place: tuple[float, float, float, float],
    total: float,
    style: FigureStyle,
) -> None:
    """Draw one panel at (left, bottom, width, height) in mm."""
    axes = _axes(figure, place, total, style)
    axes.set_gid("panel")
    axes.set_axis_off()
    shown = panel.draw(axes)
    left, bottom, width, height = place
    # Line by line, because the lowest baselines of neighbours are to be level.
    for number, line in enumerate(reversed(name.split("\n"))):
        if line:
            y = bottom + height + (0.45 + number * LINE) * style.size * POINT
            x = (left + width / 2) / style.width
            figure.text(x, y / total, line, ha="center", va="baseline", fontsize=style.size, gid="title")
    if letter:
        y = bottom + height + 0.45 * style.size * POINT
        figure.text(
            left / style.width, y / total, letter, ha="left", va="baseline", fontsize=style.size, fontweight="bold",
            gid="letter",
        )  # fmt: skip
    if panel.bar is not None and shown is not None:
        where = (left + 0.06 * width, bottom - BAR_GAP - BAR, 0.88 * width, BAR)
        _colour_bar(figure, _axes(figure, where, total, style), shown, panel.bar, style)


def _axes(figure: Figure, place: tuple[float, float, float, float], total: float, style: FigureStyle) -> Axes:
    left, bottom, width, height = place
    return figure.add_axes((left / style.width, bottom / total, width / style.width, height / total))


def _colour_bar(figure: Figure, axes: Axes, shown: ScalarMappable, name: str, style: FigureStyle) -> None:
    axes.set_gid("colour_bar")
    bar = figure.colorbar(shown, cax=axes, orientation="horizontal")
    low, high = shown.get_clim()
    ticks = [low, high] if axes.bbox.width / figure.dpi * INCH < 30 else [low, (low + high) / 2, high]
    bar.set_ticks(ticks, labels=[tick_text(tick) for tick in ticks])
    bar.ax.tick_params(labelsize=small(style), length=1.5, width=0.4, pad=1.5)
    bar.ax.get_xticklabels()[0].set_horizontalalignment("left")  # within the panel
    bar.ax.get_xticklabels()[-1].set_horizontalalignment("right")
    bar.outline.set_linewidth(0.4)
    if name:
        bar.set_label(name, size=style.size, labelpad=1.0)


def tick_text(value: float) -> str:
    """A number of three digits at most, without a needless exponent."""
    if value == 0:
        return "0"
    text = f"{value:.2g}" if abs(value) < 100 else f"{value:.3g}"
    if "e" in text:
        mantissa, _, power = text.partition("e")
        return rf"${mantissa}\cdot10^{{{int(power)}}}$" if mantissa != "1" else rf"$10^{{{int(power)}}}$"
    return text


def top_legend(figure: Figure, style: FigureStyle, handles: Sequence[Artist], names: Sequence[str]) -> None:
    """A legend above the axes of a chart, in as many columns as its names leave room for; the page grows by it."""
    widest = style.width - MARK
    wide = max(text_width(name, style) for name in names) + MARK
    columns = max(1, min(len(names), int(style.width / wide)))
    legend = figure.legend(
        handles, [wrapped(name, widest, style) for name in names], loc="outside upper center", ncols=columns,
        fontsize=style.size, frameon=False,
    )  # fmt: skip
    box = legend.get_window_extent(figure.canvas.get_renderer())  # type: ignore[attr-defined]
    wide_in, high_in = figure.get_size_inches()
    figure.set_size_inches(wide_in, high_in + box.height / figure.dpi)


def _legend(figure: Figure, style: FigureStyle, handles: Sequence[Artist]) -> float:
    """Add a legend at the bottom; returns its height in mm."""
    names = [str(handle.get_label()) for handle in handles]
    for columns in range(len(handles), 0, -1):
        legend = figure.legend(
            handles, names, loc="lower center", ncols=columns, fontsize=style.size, frameon=False,
            handlelength=1.4, handletextpad=0.5, columnspacing=1.4, borderaxespad=0.15, borderpad=0.2, labelspacing=0.3,
        )  # fmt: skip
        box = legend.get_window_extent(figure.canvas.get_renderer())  # type: ignore[attr-defined]
        if box.width / figure.dpi * INCH <= style.width or columns == 1:
            return float(box.height) / figure.dpi * INCH + 0.8
        legend.remove()
    return 0.0
