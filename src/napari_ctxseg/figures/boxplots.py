"""A box for each method, a point for each unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ctxseg.figures import marks
from napari_ctxseg.figures.palette import nth, palette_of
from napari_ctxseg.figures.scores import methods_and_classes, numbers, of_measure, read_scores, title_of
from napari_ctxseg.figures.sheet import Drawing, new_figure, small, text_width, top_legend, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from napari_ctxseg.config import BoxplotsFigure
    from napari_ctxseg.figures.scores import Score
    from napari_ctxseg.figures.sources import Sources

#: Millimetres of height: of a box, and of what is above and below all of them.
BOX, AROUND = 6.5, 13.0


def draw_boxplots(recipe: BoxplotsFigure, sources: Sources) -> Drawing:
    """Build the figure of a recipe.

    Boxes show quartiles and median, whiskers the farthest values within 1.5 interquartile ranges; every value is a point.

    Raises
    ------
    CtxsegError
        If the files hold no such scores.
    """
    found = read_scores(recipe, sources)
    scores, unit = found.values, found.unit
    shown = {measure: of_measure(scores, measure) for measure in recipe.measures}
    methods, classes = methods_and_classes(scores)
    style = recipe.style
    legend = style.legend and len(classes) > 1
    titles = {m: _title(m, kept, methods, classes, unit) for m, kept in shown.items()}
    # As many panels in a row as their titles leave room for beside the names.
    room = style.width - max(text_width(name, style) for name in methods) - 5
    wide = max(max(text_width(line, style) for line in title) for title in titles.values()) + 3
    columns = max(1, min(len(shown), int(room / wide)))
    lines = -(-len(shown) // columns)
    height = (AROUND + BOX * len(methods) * max(1.0, 0.7 * len(classes))) * lines
    figure = new_figure(style, height, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02)  # type: ignore[union-attr, call-arg]
    every = figure.subplots(lines, columns, sharey=True, squeeze=False)
    for axes, (measure, kept) in zip(every.flat, shown.items(), strict=False):
        _boxes(axes, recipe, kept, measure, methods, classes)
        name, about = titles[measure]
        fits = text_width(f"{name} {about}", style) <= room / columns - 3
        axes.set_xlabel(f"{name} {about}" if fits else f"{name}\n{about}", fontsize=style.size)
    for axes in list(every.flat)[len(shown) :]:
        axes.set_visible(False)
    names = [wrapped(name, style.width * 0.3, style) for name in methods]
    for axes in every[:, 0]:
        axes.set_yticks(range(len(methods)), names, fontsize=style.size)
    every[0, 0].invert_yaxis()
    if legend:
        handles = [marks.patch_handle(c, nth(palette_of(style).methods, n)) for n, c in enumerate(classes)]
        top_legend(figure, style, handles, classes)
    drawing = Drawing(figure, notes=list(found.notes))
    absent = {m: len(scores) - len(kept) for m, kept in shown.items() if len(kept) < len(scores)}
    drawing.notes += [f"{title_of(m)}: {n} values do not apply and are left out" for m, n in absent.items()]
    drawing.chosen = {"methods": methods, "classes": classes, "unit": unit}
    return drawing


def _title(
    measure: str, kept: list[Score], methods: list[str], classes: list[str], unit: str
) -> tuple[str, str]:
    """Name of a measure, and of how many units it is."""
    counts = [len(numbers(kept, measure, m, c)) for m in methods for c in classes]
    many = f"{counts[0]}" if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"
    return f"{title_of(measure, kept)},", f"{many} {unit}"


def _boxes(
    axes: Axes,
    recipe: BoxplotsFigure,
    kept: list[Score],
    measure: str,
    methods: list[str],
    classes: list[str],
) -> None:
    style, colours = recipe.style, palette_of(recipe.style).methods
    wide = 0.8 / len(classes)
    for row, method in enumerate(methods):
        for part, label in enumerate(classes):
            values = numbers(kept, measure, method, label)
            if not values:
                continue
            colour = nth(colours, part if len(classes) > 1 else row)
            place = row + (part - (len(classes) - 1) / 2) * wide
            axes.boxplot(
                [values], positions=[place], orientation="horizontal", widths=wide * 0.75, showfliers=False,
                manage_ticks=False, boxprops={"color": colour}, whiskerprops={"color": colour},
                capprops={"color": colour}, medianprops={"color": "black", "linewidth": 1.2},
            )  # fmt: skip
            # Beside each other by the golden section, not at random: the same points every time.
            shifts = [((i * 0.618034) % 1 - 0.5) * wide * 0.5 for i in range(len(values))]
            axes.plot(
                values, [place + s for s in shifts], "o", color=colour, markersize=2, alpha=0.6,
                markeredgewidth=0, gid="points",
            )  # fmt: skip
    plain_axes(axes, small(style))


def plain_axes(axes: Axes, size: float) -> None:
    """Axes of a chart: no frame at the top and the right, thin lines."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_linewidth(0.6)
    axes.tick_params(labelsize=size, width=0.6, length=2.5)
