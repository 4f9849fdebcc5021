"""Layers of the Review: an outline around the piece in question, and where annotation and prediction differ. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_ctxseg.gui import layers as lay
from napari_ctxseg.gui.refined import COLORS
from napari_ctxseg.gui.review_data import grid_of, image_of
from napari_ctxseg.gui.timing import napari_works

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_ctxseg.evaluation.suspects import Suspect
    from napari_ctxseg.gui.review_data import Examined

#: Colour of the line: of no error mask, and brighter than any class.
YELLOW = "#ffff00"
_CROSS = ndimage.generate_binary_structure(2, 1)


class ReviewLayers:
    """The layers in one viewer.

    Parameters
    ----------
    viewer : napari.viewer.Viewer or napari.components.ViewerModel
        Where the layers go.
    """

    def __init__(self, viewer: Any) -> None:
        self.viewer = viewer
        self.wanted = False  # the differences are shown when asked for
        self._layers: dict[str, Any] = {}
        self._known: dict[int, Examined] = {}

    def _get(self, name: str) -> Any:
        layer = self._layers.get(name)
        return layer if layer is not None and layer in map(lay.plain, self.viewer.layers) else None

    def clear(self) -> None:
        """Remove all layers."""
        for name in list(self._layers):
            self._remove(name)
        self._layers, self._known = {}, {}

    def _remove(self, name: str) -> None:
        layer = self._get(name)
        if layer is not None:
            with napari_works("remove a layer"):
                self.viewer.layers.remove(layer)

    # ------------------------------------------------------------ the piece in question

    def outline(self, prediction: Any, index: int, suspect: Suspect) -> None:
        """Draw a line around a piece, a pixel away from it so that it can be seen itself.

        The layer holds one slice alone and stands at its place in the stack.
        """
        shape = prediction.data.shape[-2:] if prediction.data.ndim == 2 else (1, *prediction.data.shape[-2:])
        layer = self._get("outline")
        if layer is not None and layer.data.shape != shape:
            self._remove("outline")
            layer = None
        if layer is None:
            layer = self._make_outline(prediction, shape)
        layer.data[...] = 0
        plane = layer.data if layer.data.ndim == 2 else layer.data[0]
        near = tuple(slice(max(0, s.start - 2), s.stop + 2) for s in suspect.box)
        piece = np.zeros(plane[near].shape, bool)
        at = tuple(slice(s.start - n.start, s.stop - n.start) for s, n in zip(suspect.box, near, strict=True))
        piece[at] = suspect.mask
        beside = ndimage.binary_dilation(piece, _CROSS)
        plane[near] = ndimage.binary_dilation(beside, _CROSS) & ~beside
        translate = np.array(prediction.translate, float)
        if layer.data.ndim > 2:
            translate[-3] += index * float(prediction.scale[-3])
        if not np.array_equal(layer.translate, translate):
            layer.translate = translate
        self._see(layer, True)
        layer.refresh(thumbnail=False, extent=False, highlight=False)

    def _make_outline(self, prediction: Any, shape: tuple[int, ...]) -> Any:
        from napari.layers import Labels

        with napari_works("make a layer"):
            layer = Labels(
                np.zeros(shape, np.uint8),
                name="Review: in question",
                colormap=lay.class_colormap({1: YELLOW}),
                metadata={"ctxseg": {"review": "outline"}},
                **lay.look_of(prediction),
            )
        lay.insert_above(self.viewer, layer, list(map(lay.plain, self.viewer.layers)))
        self._layers["outline"] = layer
        return layer

    def hide(self) -> None:
        """Take the line away."""
        layer = self._get("outline")
        if layer is not None:
            self._see(layer, False)

    @staticmethod
    def _see(layer: Any, visible: bool) -> None:
        if layer.visible != visible:
            with napari_works("show or hide a layer"):
                layer.visible = visible

    # ------------------------------------------------------------ differences

    def want_errors(self, wanted: bool, prediction: Any) -> None:
        """Show the differences to the annotation as two layers, or remove them."""
        self.wanted = wanted
        if not wanted:
            self._remove_errors()
        elif prediction is not None and self._known:
            self._write(prediction, self._known)

    def drop_errors(self) -> None:
        """There are others now, of the prediction itself."""
        if self._known:
            self._known = {}
            self._remove_errors()

    def _remove_errors(self) -> None:
        for name in COLORS:
            self._remove(name)
            self._layers.pop(name, None)

    def show_errors(self, prediction: Any, found: Mapping[int, Examined]) -> None:
        """Take over slices that were looked at."""
        self._known |= found
        if self.wanted:
            self._write(prediction, found)

    def _write(self, prediction: Any, found: Mapping[int, Examined]) -> None:
        shown, alone = lay.shown_slice(self.viewer, grid_of(prediction))
        for name in COLORS:
            layer = self._get(name) or self._make_errors(prediction, name)
            for index, examined in found.items():
                mask = examined.fn if name == "FN" else examined.fp
                (layer.data[index] if layer.data.ndim > 2 else layer.data)[...] = mask
            if layer.visible and (not alone or shown in found):
                layer.refresh(thumbnail=False, extent=False, highlight=False)

    def _make_errors(self, prediction: Any, name: str) -> Any:
        from napari.layers import Image

        of = image_of(prediction)
        with napari_works("make a layer"):
            layer = Image(
                np.zeros(prediction.data.shape, np.uint8),
                name=f"{of} {name}",
                colormap=COLORS[name],
                blending="additive",
                opacity=0.6,
                contrast_limits=(0, 1),
                interpolation2d="nearest",
                metadata={"ctxseg": {"review": name, "errors_of": of}},
                **lay.look_of(prediction),
            )
        lay.insert_above(self.viewer, layer, [prediction, *filter(None, map(self._get, COLORS))])
        self._layers[name] = layer
        return layer
