"""What a napari viewer shows, as the plain description that a figure is made from. No Qt.

`capture` runs on the GUI thread and copies the shown slice only; `Captured.view` does the rest in any thread.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_ctxseg.errors import InputError
from napari_ctxseg.figures import SeenLayer, View
from napari_ctxseg.figures.planes import letters_of, oriented
from napari_ctxseg.gui import layers as lay
from napari_ctxseg.image import Image

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

Corners = tuple[float, float, float, float]
#: Colours that a colour map is sampled at; more values than this in labels are ids, without names.
SAMPLES, MOST_NAMES = 64, 12
#: Blendings that a figure draws as the canvas does, or nearly so.
BLENDINGS = ("translucent", "translucent_no_depth", "additive", "opaque")


@dataclass(frozen=True)
class _Seen:
    """A visible layer: its shown slice, not yet looked through."""

    name: str
    kind: Literal["image", "rgb", "labels"]
    data: Any
    scale: tuple[float, float]
    translate: tuple[float, float]
    opacity: float
    additive: bool
    colormap: Any
    limits: tuple[float, float] | None = None
    gamma: float = 1.0
    contour: bool = False
    only: int | None = None  # the one label that is shown
    names: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Captured:
    """A viewer at one moment.

    Attributes
    ----------
    field : tuple of float
        Top, left, bottom, right of what is in sight, in world coordinates of the displayed axes.
    unit : str
    ends : tuple of str or None
        Letters of orientation at left, right, top and bottom.
    notes : list of str
        What is in sight but not in the figure.
    """

    layers: list[_Seen]
    field: Corners
    unit: str
    ends: tuple[str, str, str, str] | None
    notes: list[str]

    def view(self) -> View:
        """For `napari_ctxseg.figures.view_recipe`. Off the GUI thread: pixels are looked through."""
        several = sum(layer.kind == "labels" for layer in self.layers) > 1
        layers = [_described(layer, several=several) for layer in self.layers]
        return View(layers, self.field, unit=self.unit, ends=self.ends)


def capture(viewer: Any, names: Mapping[int, str], skip: Sequence[Any] = ()) -> Captured:
    """Note down what the viewer shows: slice, zoom, visible layers.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    names : mapping of int to str
        Classes by their values, for the legend.
    skip : sequence of layers
        Left out, such as the frame of the zoomed part.

    Raises
    ------
    InputError
        If the viewer shows volumes, or no image or labels.
    """
    if viewer.dims.ndisplay != 2:
        raise InputError("the viewer", "shows the volume", "Switch to 2-D: the square below the layer list")
    shown = tuple(viewer.dims.displayed)
    found, notes, extents = [], [], []
    left_out = [lay.plain(each) for each in skip]
    for layer in map(lay.plain, viewer.layers):
        if not layer.visible or layer in left_out:
            continue
        kind = _kind_of(layer)
        if kind is None:
            notes.append(f"'{layer.name}' is not drawn: only images and labels are")
            continue
        seen = _seen(layer, kind, viewer, shown, names)
        if seen is None:
            continue
        if kind != "labels" and layer.blending not in BLENDINGS:
            notes.append(f"'{layer.name}' is drawn as translucent, not as {layer.blending}")
        found.append(seen)
        extents.append(_extent(seen))
    if not found:
        raise InputError("the viewer", "shows no image or labels here", "Make a layer visible, or move to it")
    first = next(layer for layer in map(lay.plain, viewer.layers) if layer.visible and _kind_of(layer))
    return Captured(found, _field(viewer, extents), lay.unit_of(first), _ends(first, viewer, shown), notes)


def look_of_viewer(viewer: Any) -> tuple[Any, ...]:
    """What a capture depends on, cheap to compare: slice, zoom, layers and how they look."""
    camera, dims = viewer.scene.camera, viewer.dims
    layers = tuple(_look_of(layer) for layer in map(lay.plain, viewer.layers) if _kind_of(layer) is not None)
    place = (
        tuple(camera.center),
        camera.zoom,
        tuple(viewer.canvas.size),
        tuple(dims.point),
        tuple(dims.displayed),
    )
    return (*place, layers)


def _look_of(layer: Any) -> tuple[Any, ...]:
    look = (
        "name",
        "visible",
        "opacity",
        "contrast_limits",
        "gamma",
        "contour",
        "show_selected_label",
        "selected_label",
    )
    values = (getattr(layer, name, None) for name in look)
    plain = tuple(tuple(value) if isinstance(value, list) else value for value in values)
    return (id(layer), str(layer.blending), id(getattr(layer, "colormap", None)), id(layer.data), *plain)


def _kind_of(layer: Any) -> Literal["image", "rgb", "labels"] | None:
    from napari.layers import Image as ImageLayer
    from napari.layers import Labels

    if isinstance(layer, Labels):
        return "labels"
    if isinstance(layer, ImageLayer):
        return "rgb" if layer.rgb else "image"
    return None


def _seen(
    layer: Any,
    kind: Literal["image", "rgb", "labels"],
    viewer: Any,
    shown: tuple[int, ...],
    names: Mapping[int, str],
) -> _Seen | None:
    """The shown slice of a layer, copied; None where the slider stands beside it."""
    data, n, world = lay.base_data(layer), layer.ndim, viewer.dims.ndim
    own = [axis - (world - n) for axis in shown]  # of the layer; its axes are the world's last ones
    if min(own) < 0:
        return None
    part: list[Any] = [slice(None)] * n
    for axis in set(range(n)) - set(own):
        point = viewer.dims.point[axis + world - n]
        index = round((point - layer.translate[axis]) / layer.scale[axis])
        if not 0 <= index < data.shape[axis]:
            return None
        part[axis] = index
    cut = data[tuple(part)]
    if own[0] > own[1]:  # shown transposed
        cut = cut.swapaxes(0, 1)
    if isinstance(cut, np.ndarray):
        cut = cut.copy()  # strokes go on
    scale, translate = (
        tuple(float(values[axis]) for axis in own) for values in (layer.scale, layer.translate)
    )
    labels = kind == "labels"
    return _Seen(
        layer.name, kind, cut, (scale[0], scale[1]), (translate[0], translate[1]),
        1.0 if layer.blending == "opaque" else float(layer.opacity), layer.blending == "additive",
        None if kind == "rgb" else layer.colormap,
        limits=None if kind != "image" else (float(layer.contrast_limits[0]), float(layer.contrast_limits[1])),
        gamma=1.0 if kind != "image" else float(layer.gamma),
        contour=labels and layer.contour > 0,
        only=int(layer.selected_label) if labels and layer.show_selected_label else None,
        names={} if "errors_of" in layer.metadata.get("ctxseg", {}) else names,
    )  # fmt: skip


def _extent(seen: _Seen) -> Corners:
    """Top, left, bottom, right of a layer's pixels in the world."""
    starts = [seen.translate[a] - seen.scale[a] / 2 for a in (0, 1)]
    stops = [starts[a] + seen.scale[a] * seen.data.shape[a] for a in (0, 1)]
    return starts[0], starts[1], stops[0], stops[1]


def _field(viewer: Any, extents: Sequence[Corners]) -> Corners:
    """The part of the canvas that holds any layer: black around the image is no part of a figure.

    Raises
    ------
    InputError
        If no layer is in sight.
    """
    zoom = float(viewer.scene.camera.zoom)
    center = [float(c) for c in viewer.scene.camera.center[-2:]]
    half = [float(side) / zoom / 2 for side in viewer.canvas.size]
    low = [max(center[a] - half[a], min(e[a] for e in extents)) for a in (0, 1)]
    high = [min(center[a] + half[a], max(e[a + 2] for e in extents)) for a in (0, 1)]
    if low[0] >= high[0] or low[1] >= high[1]:
        raise InputError("the viewer", "shows no layer here", "Press the house below the layer list")
    return low[0], low[1], high[0], high[1]


def _ends(layer: Any, viewer: Any, shown: tuple[int, ...]) -> tuple[str, str, str, str] | None:
    """Letters of orientation, where the layer's file says how the body lies."""
    image = layer.metadata.get("ctxseg", {}).get("image")
    if not isinstance(image, Image) or not oriented(image):
        return None
    rows, columns = (axis - (viewer.dims.ndim - layer.ndim) for axis in shown)
    top, bottom = letters_of(image.affine[:3, rows])
    left, right = letters_of(image.affine[:3, columns])
    return left, right, top, bottom


def _described(seen: _Seen, *, several: bool) -> SeenLayer:
    """A layer with its colours, as many as it needs; `several`: it is not the only one with labels."""
    values = np.asarray(seen.data)
    plain: dict[str, Any] = {
        "scale": seen.scale, "translate": seen.translate, "opacity": seen.opacity, "additive": seen.additive,
    }  # fmt: skip
    if seen.kind == "rgb":
        return SeenLayer(seen.name, values, "rgb", **plain)
    if seen.kind == "image":
        steps = np.linspace(0, 1, SAMPLES) ** seen.gamma
        colours = tuple(_hex(rgba) for rgba in seen.colormap.map(steps))
        values = values.astype(np.float32) if values.dtype == bool else values
        return SeenLayer(seen.name, values, "image", colours=colours, limits=seen.limits, **plain)
    found = [int(v) for v in np.unique(values) if v != 0 and seen.only in (None, int(v))]
    colours_of = dict(zip(found, seen.colormap.map(np.array(found)), strict=True)) if found else {}
    labels = {value: _hex(rgba) for value, rgba in colours_of.items() if rgba[3] > 0}
    names = _names(seen, list(labels), several=several)
    return SeenLayer(
        seen.name, values, "labels", labels=labels, names=names, contour=seen.contour, **plain
    )  # fmt: skip


def _names(seen: _Seen, values: Sequence[int], *, several: bool) -> dict[int, str]:
    """Names in the legend: the classes', with the layer's behind outlines among others; else the layer's."""
    if len(values) > MOST_NAMES:
        return {}
    own = {v: f"{seen.name} {v}" if len(values) > 1 else seen.name for v in values}
    behind = f", {seen.name}" if seen.contour and several else ""
    return {v: f"{seen.names[v]}{behind}" if v in seen.names else own[v] for v in values}


def _hex(rgba: NDArray[Any]) -> str:
    red, green, blue = (round(255 * float(np.clip(part, 0, 1))) for part in rgba[:3])
    return f"#{red:02x}{green:02x}{blue:02x}"
