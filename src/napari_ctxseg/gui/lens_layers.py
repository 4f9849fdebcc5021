"""Layers of the Lens: made at first need, then written in place. No Qt here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg.gui import layers as lay
from napari_ctxseg.gui.timing import napari_works

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from napari_ctxseg.gui.lens_target import Grid

Box = tuple[tuple[int, int], ...]

#: Colour bars in pixels, smaller than napari's: there may be three.
BAR, BAR_FONT = (14, 100), 8

NO_WEIGHT = "This loss has no weight per pixel."
NO_REGION = "This loss looks at no region."
NO_CONTOUR = "This loss has no contour."
NO_MODEL = "Train first: cross-entropy needs a model."


@dataclass(frozen=True)
class Kind:
    """One layer of the Lens: its title, its looks, and why a loss may not have it."""

    title: str
    type: str  # "image", "labels" or "shapes"
    tooltip: str
    missing: str
    colormap: str = "gray"
    blending: str = "translucent"
    opacity: float = 1.0
    colorbar: bool = False


#: In the order of the dock, which is bottom to top in the layer list.
KINDS: dict[str, Kind] = {
    "crop": Kind(
        "ROI crop",
        "image",
        "The image inside the region of interest; black outside.",
        NO_REGION,
        blending="opaque",
    ),
    "weight": Kind(
        "weight",
        "image",
        "How much each pixel counts in the loss, all normalisers included.",
        NO_WEIGHT,
        "magma",
        opacity=0.65,
        colorbar=True,
    ),
    "ce": Kind(
        "CE",
        "image",
        "Cross-entropy of the trained network, pixel by pixel.",
        NO_MODEL,
        "viridis",
        colorbar=True,
    ),
    "weighted": Kind(
        "weighted loss",
        "image",
        "What each pixel adds to the loss: weight times cross-entropy.",
        NO_MODEL,
        "inferno",
        colorbar=True,
    ),
    "dilated": Kind(
        "dilated",
        "labels",
        "Each class as far as its weight reaches.",
        "This loss dilates nothing.",
        opacity=0.4,
    ),
    "interior": Kind(
        "eroded", "labels", "What is left of each class inside its contour.", NO_CONTOUR, opacity=0.6
    ),
    "contour": Kind(
        "contour",
        "image",
        "The pixels that count as contour.",
        NO_CONTOUR,
        "cyan",
        blending="additive",
        opacity=0.8,
    ),
    "roi": Kind("ROI", "shapes", "Boxes of the regions of interest.", NO_REGION),
}


class LensLayers:
    """The layers in one viewer.

    Parameters
    ----------
    viewer : napari.viewer.Viewer or napari.components.ViewerModel
        Where the layers go.
    """

    def __init__(self, viewer: Any) -> None:
        self.viewer = viewer
        self._layers: dict[str, Any] = {}
        self._colors: dict[str, Mapping[int, Any]] = {}
        self._aside: list[str] = []

    def get(self, kind: str) -> Any:
        """The layer of a kind if it is in the viewer, else None."""
        layer = self._layers.get(kind)
        return layer if layer is not None and layer in map(lay.plain, self.viewer.layers) else None

    def hide(self, kind: str) -> None:
        """Take a layer out of sight; it is kept for the next time."""
        layer = self.get(kind)
        if layer is not None:
            self._see(layer, False)

    @staticmethod
    def _see(layer: Any, visible: bool) -> None:
        if layer.visible != visible:
            with napari_works("show or hide a layer"):  # it puts its scene together anew, and draws it
                layer.visible = visible

    def set_aside(self, on: bool) -> None:
        """Take all layers out of sight that are in sight; said off, bring them back."""
        if on:
            seen = {kind: self.get(kind) for kind in self._layers}
            self._aside = [kind for kind, layer in seen.items() if layer is not None and layer.visible]
        for layer in filter(None, map(self.get, self._aside)):
            self._see(layer, not on)

    def clear(self) -> None:
        """Remove all layers."""
        for kind in list(self._layers):
            layer = self.get(kind)
            if layer is not None:
                with napari_works("remove a layer"):
                    self.viewer.layers.remove(layer)
        self._layers = {}

    # ------------------------------------------------------------ pixels

    def show(
        self,
        kind: str,
        plane: NDArray[Any],
        grid: Grid,
        index: int,
        limits: tuple[float, float] | None = None,
        colors: Mapping[int, Any] | None = None,
    ) -> None:
        """Show an array of one slice, ``(y, x)``, at its place in the stack."""
        data = plane if len(grid.shape) == 2 else plane[None]
        layer, translate = self.get(kind), _place(grid, index)
        if layer is None or layer.data.shape != data.shape or layer.data.dtype != data.dtype:
            self._remove(kind)
            with napari_works("make a layer"):
                layer = self._pixel_layer(kind, data, grid, translate, limits)
                if colors is not None:
                    layer.colormap = lay.class_colormap(colors)
                    self._colors[kind] = colors
            self._add(kind, layer, grid)
            return
        layer.data[...] = data
        if colors is not None and self._colors.get(kind) != colors:
            layer.colormap = lay.class_colormap(colors)
            self._colors[kind] = colors
        if limits is not None and tuple(layer.contrast_limits) != limits:
            layer.contrast_limits = limits
        self._move(layer, grid, translate)
        self._see(layer, True)
        layer.refresh(thumbnail=False, extent=False, highlight=False)

    def _move(self, layer: Any, grid: Grid, translate: NDArray[Any]) -> None:
        for name, value in grid.look.items():
            if name not in ("translate", "units", "affine") and np.any(getattr(layer, name) != value):
                setattr(layer, name, value)
        if not np.array_equal(layer.translate, translate):
            layer.translate = translate

    def _pixel_layer(
        self,
        kind: str,
        data: NDArray[Any],
        grid: Grid,
        translate: NDArray[Any],
        limits: tuple[float, float] | None,
    ) -> Any:
        from napari.layers import Image, Labels

        style = KINDS[kind]
        common = self._common(kind) | dict(grid.look) | {"translate": translate}
        if style.type == "labels":
            return Labels(np.array(data), **common)
        layer = Image(
            np.array(data),
            colormap=style.colormap,
            contrast_limits=limits,
            interpolation2d="nearest",
            **common,
        )
        layer.colorbar.size, layer.colorbar.font_size = BAR, BAR_FONT
        layer.colorbar.visible = layer.name_overlay.visible = style.colorbar
        return layer

    @staticmethod
    def _common(kind: str) -> dict[str, Any]:
        style = KINDS[kind]
        return {
            "name": f"Lens: {style.title}",
            "metadata": {"ctxseg": {"lens": kind}},
            "opacity": style.opacity,
            "blending": style.blending,
        }

    # ------------------------------------------------------------ boxes

    def show_boxes(self, boxes: Sequence[Box], grid: Grid, index: int) -> None:
        """Draw boxes as rectangles on the slice; boxes of a volume on the slices that they hold."""
        rectangles = _rectangles(boxes, grid, index)
        layer = self.get("roi")
        if layer is not None and layer.ndim != len(grid.shape):
            self._remove("roi")
            layer = None
        if layer is None:
            from napari.layers import Shapes

            with napari_works("make a layer"):
                layer = Shapes(
                    rectangles or None,
                    ndim=len(grid.shape),
                    shape_type="rectangle",
                    **_pen(grid),
                    **self._common("roi"),
                    **grid.look,
                )
            self._add("roi", layer, grid)
            return
        same = len(rectangles) == len(layer.data) and all(
            np.array_equal(one, other) for one, other in zip(rectangles, layer.data, strict=True)
        )
        if not same:
            with napari_works("draw boxes"):
                layer.data = []
                if rectangles:
                    layer.add_rectangles(rectangles, **_pen(grid))
                layer.selected_data = set()
        self._move(layer, grid, np.asarray(grid.look["translate"]))
        self._see(layer, True)

    # ------------------------------------------------------------ the list

    def _add(self, kind: str, layer: Any, grid: Grid) -> Any:
        """Insert a layer above its image in the order of `KINDS`, and keep the selection: the person paints."""
        active = self.viewer.layers.selection.active
        order = list(map(lay.plain, self.viewer.layers))
        kinds = list(KINDS)
        below = [grid.above, *(self._layers.get(k) for k in kinds[: kinds.index(kind)])]
        place = max((order.index(each) + 1 for each in below if each in order), default=len(order))
        with napari_works("insert a layer"):
            self.viewer.layers.insert(place, layer)
        if active is not None:
            with napari_works("select a layer"):
                self.viewer.layers.selection.active = active
        self._layers[kind] = layer
        return layer

    def _remove(self, kind: str) -> None:
        layer = self.get(kind)
        if layer is not None:
            with napari_works("remove a layer"):
                self.viewer.layers.remove(layer)
        self._layers.pop(kind, None)


def _place(grid: Grid, index: int) -> NDArray[np.float64]:
    """Translation of a layer that holds one slice of the stack."""
    translate = np.array(grid.look["translate"], float)
    if len(grid.shape) == 3:
        translate[-3] += index * float(grid.look["scale"][-3])
    return translate


def _pen(grid: Grid) -> dict[str, Any]:
    """How boxes are drawn."""
    width = max(1.0, min(grid.shape[-2:]) / 200)
    return {"edge_color": "yellow", "face_color": "transparent", "edge_width": width}


def _rectangles(boxes: Sequence[Box], grid: Grid, index: int) -> list[NDArray[np.float64]]:
    """Corners of boxes, ``(4, ndim)`` each; a box ends at the edge of its last pixel."""
    found = []
    for box in boxes:
        if len(box) == 3 and not box[0][0] <= index < box[0][1]:
            continue
        (y0, y1), (x0, x1) = ((start - 0.5, stop - 0.5) for start, stop in box[-2:])
        corners = np.array([(y0, x0), (y0, x1), (y1, x1), (y1, x0)])
        if len(grid.shape) == 3:
            corners = np.column_stack([np.full(4, float(index)), corners])
        found.append(corners)
    return found
