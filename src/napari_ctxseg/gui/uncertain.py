"""How sure a prediction is, as an image layer beside it. No Qt here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg.gui import layers as lay
from napari_ctxseg.gui.timing import napari_works

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Colour bar in pixels, smaller than napari's: the Lens may have some too.
BAR, BAR_FONT = (14, 100), 8


class UncertaintyLayers:
    """A layer for each predicted image that has one.

    Parameters
    ----------
    viewer : napari.viewer.Viewer or napari.components.ViewerModel
        Where the layers are.
    """

    def __init__(self, viewer: Any) -> None:
        self.viewer = viewer
        self._layers: dict[int, tuple[Any, Any]] = {}  # id of an image layer -> (the layer, its uncertainty)

    def get(self, image: Any) -> Any:
        """The layer of an image if it is in the viewer, else None."""
        known, layer = self._layers.get(id(image), (None, None))
        return layer if known is image and layer in map(lay.plain, self.viewer.layers) else None

    def show(
        self, shot: lay.Snapshot, start: int, values: NDArray[Any] | None, count: int, above: Any
    ) -> None:
        """Put slices in place; where there are none any more, nothing is said of them.

        Parameters
        ----------
        shot : Snapshot
            Of the image.
        start, count : int
            Slices along the first axis.
        values : ndarray or None
            0 to 1, shape ``(n, y, x)`` or ``(y, x)``.
        above : Labels
            The prediction, above which a new layer is put.
        """
        layer = self.get(shot.layer)
        if layer is not None and layer.data.shape != shot.shape:
            with napari_works("remove a layer"):
                self.viewer.layers.remove(layer)
            layer = None
        if values is None:
            if layer is not None:
                part = slice(start, start + count) if len(shot.shape) == 3 else slice(None)
                if layer.data[part].any():
                    self._write(layer, shot, start, np.zeros_like(layer.data[part]))
            return
        self._write(layer or self._make(shot, above), shot, start, values)

    def _write(self, layer: Any, shot: lay.Snapshot, start: int, values: NDArray[Any]) -> None:
        shown, alone = lay.shown_slice(self.viewer, shot)
        lay.write_slices(layer, start, values, shown if alone else None)

    def _make(self, shot: lay.Snapshot, above: Any) -> Any:
        from napari.layers import Image

        with napari_works("make a layer"):
            layer = Image(
                np.zeros(shot.shape, np.float16),
                name=f"{shot.name} uncertainty",
                colormap="magenta",  # of no class, and of no error mask
                blending="additive",  # black, where all is sure, lets the image through
                opacity=0.6,
                contrast_limits=(0, 1),
                interpolation2d="nearest",
                metadata={"ctxseg": {"uncertainty_of": shot.name}},
                **shot.look,
            )
            layer.colorbar.size, layer.colorbar.font_size = BAR, BAR_FONT
            layer.colorbar.visible = True
        lay.insert_above(self.viewer, layer, [above])
        self._layers[id(shot.layer)] = shot.layer, layer
        return layer
