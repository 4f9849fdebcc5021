"""Figure from what a viewer shows: a plain description of its layers, and the recipe that keeps it."""

from __future__ import annotations

import io as memory
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_rgba

from napari_ctxseg.atomic import write_bytes_atomic
from napari_ctxseg.config import FigureStyle, ViewedLayer, ViewFigure
from napari_ctxseg.errors import InputError
from napari_ctxseg.figures import marks
from napari_ctxseg.figures.palette import nth, palette_of
from napari_ctxseg.figures.planes import Plane
from napari_ctxseg.figures.sheet import GAP, INCH, Drawing, Panel, columns_of, lay_out

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from napari_ctxseg.figures.planes import Box
    from napari_ctxseg.figures.sources import Sources

Corners = tuple[float, float, float, float]
#: Pixels: a picture of a view is no wider.
WIDEST = 4096


@dataclass(frozen=True)
class SeenLayer:
    """A visible layer, as whoever looks at a viewer describes it.

    Attributes
    ----------
    name : str
    data : ndarray
        Two axes, or three with `View.axis` among them; of type ``"rgb"`` one more, last. Labels hold integers.
    type : str
        ``"image"``, ``"rgb"`` or ``"labels"``.
    scale, translate : sequence of float
        Size of a pixel, and world coordinates of the first pixel's centre, one for each spatial axis of `data`.
    opacity : float
    colours : sequence of str
        Of an image: ``#rrggbb`` from low to high.
    limits : tuple of float or None
        Lowest and highest value shown.
    additive : bool
        Whether it adds its light to what lies below.
    labels : mapping of int to str
        Value -> ``#rrggbb``; other values are not drawn.
    names : mapping of int to str
        Value -> name in the legend.
    contour : bool
        Outlines instead of insides.
    """

    name: str
    data: NDArray[Any]
    type: Literal["image", "rgb", "labels"] = "image"
    scale: Sequence[float] = (1.0, 1.0)
    translate: Sequence[float] = (0.0, 0.0)
    opacity: float = 1.0
    colours: Sequence[str] = ("#000000", "#ffffff")
    limits: tuple[float, float] | None = None
    additive: bool = False
    labels: Mapping[int, str] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)
    contour: bool = False


@dataclass(frozen=True)
class View:
    """What a viewer shows.

    Attributes
    ----------
    layers : sequence of SeenLayer
        The visible ones, from the lowest to the highest.
    field : tuple of float
        Top, left, bottom, right of the canvas in world coordinates of the displayed axes.
    axis : int
        The axis of 3-D layers that is cut.
    position : float
        World coordinate of the shown slice along `axis`.
    unit : str
        Of the world coordinates.
    ends : tuple of str or None
        Letters of orientation at left, right, top and bottom.
    caption : str
        Title of the figure.
    """

    layers: Sequence[SeenLayer]
    field: Corners
    axis: int = 0
    position: float = 0.0
    unit: str = "pixel"
    ends: tuple[str, str, str, str] | None = None
    caption: str = ""


def view_recipe(view: View, arrays: Path, style: FigureStyle | None = None) -> ViewFigure:
    """Keep a view: its visible slices go to a file, what is said of them to a recipe.

    Parameters
    ----------
    view : View
    arrays : Path
        File ``.npz`` to write, without pickle; lay it beside the recipe.
    style : FigureStyle, optional

    Returns
    -------
    ViewFigure
        A recipe for `napari_ctxseg.figures.make_figure`; it names the file of arrays by its whole path.

    Raises
    ------
    CtxsegError
        If nothing is visible, a layer does not fit its description, or the file cannot be written.
    """
    kept: dict[str, NDArray[Any]] = {}
    layers = []
    for number, layer in enumerate(view.layers):
        seen = _slice(layer, view)
        if seen is None:
            continue
        values, scale, translate = seen
        kept[f"layer_{number}"] = np.ascontiguousarray(values)
        layers.append(
            ViewedLayer(
                name=layer.name, type=layer.type, array=f"layer_{number}", scale=scale, translate=translate,
                opacity=layer.opacity, colours=tuple(layer.colours), limits=layer.limits, additive=layer.additive,
                labels=dict(layer.labels), names=dict(layer.names), contour=layer.contour,
            )
        )  # fmt: skip
    if not layers:
        raise InputError("the view", "shows no layer here", "Make a layer visible")
    buffer = memory.BytesIO()
    np.savez_compressed(buffer, **kept)  # type: ignore[arg-type]
    write_bytes_atomic(arrays, buffer.getvalue())
    return ViewFigure(
        style=style or FigureStyle(), arrays=arrays.absolute(), layers=tuple(layers), field=view.field,
        unit=view.unit, ends=view.ends, caption=view.caption,
    )  # fmt: skip


def _slice(
    layer: SeenLayer, view: View
) -> tuple[NDArray[Any], tuple[float, float], tuple[float, float]] | None:
    """The part of a layer that is seen, with its place; None where the slice lies beside the layer."""
    values = np.asarray(layer.data)
    n = values.ndim - (layer.type == "rgb")
    if n not in (2, 3) or len(layer.scale) != n or len(layer.translate) != n:
        raise InputError(
            layer.name, f"has {n} axes, {len(layer.scale)} scales and {len(layer.translate)} places",
            "Give two or three axes, and one of each for every axis",
        )  # fmt: skip
    if layer.type == "labels" and values.dtype.kind not in "biu":
        raise InputError(
            layer.name, f"holds {values.dtype} where labels are wanted", "Convert it to a Labels layer"
        )
    kept = list(range(n))
    if n == 3:
        index = round((view.position - layer.translate[view.axis]) / layer.scale[view.axis])
        if not 0 <= index < values.shape[view.axis]:
            return None
        values = np.take(values, index, axis=view.axis)
        kept.remove(view.axis)
    rows, columns = kept
    scale, translate = layer.scale, layer.translate
    return (
        values,
        (float(scale[rows]), float(scale[columns])),
        (float(translate[rows]), float(translate[columns])),
    )


# ---------------------------------------------------------------- drawing


def draw_view(recipe: ViewFigure, sources: Sources) -> Drawing:
    """Build the figure of a recipe.

    With the palette for colour-blind people the colours of labels are replaced, each by one of its own.

    Raises
    ------
    CtxsegError
        If the file of arrays is missing, damaged, or does not fit the recipe.
    """
    stored = sources.arrays(recipe.arrays)
    _check(recipe, stored)
    layers = _safe_colours(recipe) if recipe.style.palette == "colour_blind" else recipe.layers
    groups = _groups(layers, recipe)
    columns = columns_of(len(groups), recipe.style)
    rows: list[list[Panel]] = []
    for start in range(0, len(groups), columns):
        some = groups[start : start + columns]
        beside = recipe.zoom is not None and len(groups) == 1
        among = len(some) + beside
        whole = [
            _panel(recipe, recipe.field, stored, group, title, among, marked=start + place == 0)
            for place, (title, group) in enumerate(some)
        ]
        larger = [
            _panel(recipe, recipe.zoom, stored, group, "", among, marked=start + place == 0)
            for place, (_, group) in enumerate(some)
            if recipe.zoom is not None
        ]
        rows += [[*whole, *larger]] if beside else [whole, *([larger] if larger else [])]
    drawn = [layer for _, group in groups for layer in group]
    handles = [
        marks.line_handle(name, layer.labels[value], recipe.style)
        if layer.contour
        else marks.patch_handle(name, layer.labels[value])
        for layer in layers
        if layer in drawn
        for value, name in layer.names.items()
        if value in layer.labels
    ]
    # Layers that show the same classes in the same way are one line of the legend.
    unlike = {(str(h.get_label()), type(h).__name__, _handle_colour(h)): h for h in handles}
    return Drawing(
        lay_out(rows, recipe.style, list(unlike.values())),
        {"layers": [layer.name for layer in recipe.layers]},
    )


def _handle_colour(handle: Any) -> str:
    """Colour of a line or a box in a legend."""
    return str(handle.get_color() if hasattr(handle, "get_color") else handle.get_facecolor())


def _check(recipe: ViewFigure, stored: Mapping[str, NDArray[Any]]) -> None:
    for name in ("field", "zoom"):
        corners = getattr(recipe, name)
        if corners is not None and (corners[0] == corners[2] or corners[1] == corners[3]):
            raise InputError(name, f"{list(corners)} is empty", "Give top, left, bottom, right")
    missing = [layer.array for layer in recipe.layers if layer.array not in stored]
    if missing:
        raise InputError(
            recipe.arrays, f"holds no array {missing[0]}", "Make the figure again from the viewer"
        )


def _safe_colours(recipe: ViewFigure) -> tuple[ViewedLayer, ...]:
    """The layers with a colour of the palette for each colour of labels, those of the palette kept."""
    palette = palette_of(recipe.style).classes
    seen = list(dict.fromkeys(c.lower() for layer in recipe.layers for c in layer.labels.values()))
    free = tuple(each for each in palette if each.lower() not in seen) or palette
    table: dict[str, str] = {}
    for colour in seen:
        known = colour in [each.lower() for each in palette]
        table[colour] = colour if known else nth(free, sum(c != t for c, t in table.items()))
    return tuple(
        layer.model_copy(update={"labels": {v: table[c.lower()] for v, c in layer.labels.items()}})
        for layer in recipe.layers
    )


def _groups(layers: Sequence[ViewedLayer], recipe: ViewFigure) -> list[tuple[str, list[ViewedLayer]]]:
    """Title and layers of each panel."""
    images = [layer for layer in layers if layer.type != "labels"]
    labels = [layer for layer in layers if layer.type == "labels"]
    if recipe.panels == "one" or not labels:
        return [(recipe.caption, list(layers))]
    alone = [(images[-1].name, images)] if images else []
    return [*alone, *((layer.name, [*images, layer]) for layer in labels)]


def _panel(
    recipe: ViewFigure,
    field: Corners,
    stored: Mapping[str, NDArray[Any]],
    layers: Sequence[ViewedLayer],
    title: str,
    among: int,
    *,
    marked: bool,
) -> Panel:
    """A part of the world with some layers, as one of so many panels in a row; `marked`: with its marks."""
    style, whole = recipe.style, field == recipe.field
    top, left, bottom, right = field
    width = min(round((style.width - GAP * (among - 1)) / among / INCH * style.dpi), WIDEST)
    shape = (max(round(width * abs(bottom - top) / abs(right - left)), 1), width)
    spacing = (abs(bottom - top) / shape[0], abs(right - left) / shape[1])
    plane = Plane(0, 0, shape, spacing, recipe.unit, recipe.ends, False, (0, 0, *shape), True)

    def draw(axes: Axes) -> None:
        light = _light(field, layers, stored, shape)
        axes.imshow(light, interpolation="nearest", aspect="auto", gid="image")
        for layer in layers:
            if layer.contour:
                _outlines(axes, layer, stored[layer.array], recipe, field, shape)
        marks.frame_to(axes, plane.box, upward=False)
        if whole and recipe.zoom is not None:
            marks.frame(axes, _in_pixels(recipe.zoom, field, shape))
        if marked:
            marks.scale_bar(axes, plane.box, plane, style)
        if marked and whole:
            marks.orientation(axes, plane, style)

    return Panel(draw, plane.aspect, title, letter=whole)


def _in_pixels(part: Corners, field: Corners, shape: tuple[int, int]) -> Box:
    """A part of the world as top, left, height and width in pixels of a picture, at least two of each."""
    places = []
    for axis in (0, 1):
        start, stop = field[axis], field[axis + 2]
        ends = sorted(round((part[n] - start) / (stop - start) * shape[axis]) for n in (axis, axis + 2))
        places.append((ends[0], max(ends[1] - ends[0], 2)))
    return places[0][0], places[1][0], places[0][1], places[1][1]


def _light(
    field: Corners, layers: Sequence[ViewedLayer], stored: Mapping[str, NDArray[Any]], shape: tuple[int, int]
) -> NDArray[np.float64]:
    """All layers over each other on black, as ``(h, w, 3)``."""
    light = np.zeros((*shape, 3))
    for layer in layers:
        if layer.contour:
            continue
        rows, columns = (_places(field, layer, shape, axis) for axis in (0, 1))
        colours = _coloured(layer, stored[layer.array])
        h, w = colours.shape[:2]
        seen = np.outer((rows >= 0) & (rows < h), (columns >= 0) & (columns < w))
        sampled = colours[np.clip(rows, 0, h - 1)][:, np.clip(columns, 0, w - 1)]
        alpha = (sampled[..., 3] * seen * layer.opacity)[..., None]
        light = light * (1.0 if layer.additive else 1.0 - alpha) + sampled[..., :3] * alpha
    return np.clip(light, 0, 1)


def _places(field: Corners, layer: ViewedLayer, shape: tuple[int, int], axis: int) -> NDArray[np.int64]:
    """Row or column of a layer at each row or column of the picture; outside the layer as well."""
    start, stop = field[axis], field[axis + 2]
    world = start + (np.arange(shape[axis]) + 0.5) / shape[axis] * (stop - start)
    return np.floor((world - layer.translate[axis]) / layer.scale[axis] + 0.5).astype(np.int64)


def _coloured(layer: ViewedLayer, values: NDArray[Any]) -> NDArray[np.float64]:
    """A layer's pixels as colours with opacity, ``(h, w, 4)``."""
    wanted = (2, 3)[layer.type == "rgb"]
    if values.ndim != wanted or (layer.type == "rgb" and values.shape[-1] not in (3, 4)):
        raise InputError(layer.name, f"has the shape {values.shape}", "Make the figure again from the viewer")
    if layer.type == "labels":
        result = np.zeros((*values.shape, 4))
        for value, colour in layer.labels.items():
            result[values == value] = to_rgba(colour)
        return result
    if layer.type == "rgb":
        plain = values / 255.0 if values.dtype == np.uint8 else np.clip(values.astype(float), 0, 1)
        opaque = np.ones((*values.shape[:2], 1))
        return plain if plain.shape[-1] == 4 else np.concatenate([plain, opaque], axis=-1)
    low, high = layer.limits or marks.grey_window(values)
    scaled = np.clip((values.astype(float) - low) / (high - low or 1.0), 0, 1)
    painted: NDArray[np.float64] = LinearSegmentedColormap.from_list("layer", list(layer.colours))(scaled)
    return painted


def _outlines(
    axes: Axes,
    layer: ViewedLayer,
    values: NDArray[Any],
    recipe: ViewFigure,
    field: Corners,
    shape: tuple[int, int],
) -> None:
    """Contours of the labels, in pixels of the picture."""
    grid = []
    for axis in (0, 1):
        start, stop = field[axis], field[axis + 2]
        world = layer.translate[axis] + layer.scale[axis] * np.arange(-1, values.shape[axis] + 1)
        grid.append((world - start) / (stop - start) * shape[axis] - 0.5)
    for value, colour in layer.labels.items():
        marks.contour(axes, values == value, colour, recipe.style, grid=(grid[0], grid[1]))
