"""The frame of a figure's zoomed part: a rectangle that the person draws in the viewer. No Qt."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_ctxseg.errors import InputError
from napari_ctxseg.gui import layers as lay
from napari_ctxseg.gui.timing import napari_works

NAME = "figure zoom"


class ZoomFrame:
    """A Shapes layer of ours; the last rectangle in it counts.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    def __init__(self, viewer: Any) -> None:
        self.viewer = viewer
        self.layer: Any = None

    @property
    def present(self) -> Any:
        """The layer, None if there is none or it was deleted."""
        if self.layer is not None and self.layer not in map(lay.plain, self.viewer.layers):
            self.layer = None
        return self.layer

    def draw(self) -> None:
        """Let the person draw a rectangle.

        Raises
        ------
        InputError
            If there is nothing to draw on.
        """
        if not len(self.viewer.layers):
            raise InputError("the viewer", "is empty", "Open an image")
        if self.present is None:
            first = lay.plain(self.viewer.layers[0])
            with napari_works("make a layer"):
                made = self.viewer.add_shapes(
                    name=NAME, ndim=2, edge_color="white", face_color="transparent", edge_width=1,
                    units=first.units[-2:],
                )  # fmt: skip
            self.layer = lay.plain(made)
        self.viewer.layers.selection.active = self.layer
        self.layer.mode = "add_rectangle"

    def clear(self) -> None:
        """Remove the frame."""
        if self.present is not None:
            with napari_works("remove a layer"):
                self.viewer.layers.remove(self.layer)
        self.layer = None

    def corners(self) -> tuple[float, float, float, float] | None:
        """Top, left, bottom, right in world coordinates of the displayed axes; None if nothing is drawn."""
        layer = self.present
        if layer is None or not len(layer.data):
            return None
        points = np.asarray(layer.data[-1], float)[:, -2:]
        points = points * np.asarray(layer.scale[-2:]) + np.asarray(layer.translate[-2:])
        (top, left), (bottom, right) = points.min(axis=0), points.max(axis=0)
        if bottom <= top or right <= left:
            return None
        return float(top), float(left), float(bottom), float(right)
