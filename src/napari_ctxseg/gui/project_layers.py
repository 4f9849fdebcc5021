"""Images of a project as layers, and layers as images of a project. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg.gui import layers as lay
from napari_ctxseg.gui.contributions import image_layers, layer_metadata
from napari_ctxseg.gui.timing import napari_works

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_ctxseg.image import Image
    from napari_ctxseg.project import ImageEntry, Project

#: Channels that are shown together, each in its colour.
RGB = ("red", "green", "blue")


def add_image_layers(viewer: Any, image: Image, name: str) -> list[Any]:
    """Show an image: a layer for each channel, the first of several visible unless they are red, green and blue."""
    made = []
    together = image.channels[:3] == RGB
    with napari_works("make image layers"):
        for number, (data, options, _) in enumerate(image_layers(image, name)):
            if together and number < len(RGB):
                options |= {"colormap": RGB[number], "blending": "additive"}
            made.append(viewer.add_image(data, visible=together or number == 0, **options))
    return made


def add_annotation_layer(
    viewer: Any, image: Image, labels: NDArray[Any], name: str, colors: Any, *, editable: bool
) -> Any:
    """Show the labels of an image on its grid, above everything, ready to be painted in."""
    meta = layer_metadata(image)
    with napari_works("make a layer"):
        layer = viewer.add_labels(labels, name=f"{name} labels", colormap=lay.class_colormap(colors), **meta)
        layer.editable = editable
    return layer


def files_behind(layers: Sequence[Any], arrays: Sequence[Any]) -> Path | None:
    """The file that image layers show as a whole, if our reader opened it and nothing was changed since."""
    image = layers[0].metadata.get("ctxseg", {}).get("image")
    source = getattr(image, "source", None)
    if source is None:
        return None
    shown = list(image.channel_array)
    same = len(shown) == len(arrays) and all(
        a is b or (isinstance(a, np.ndarray) and a.shape == b.shape and np.shares_memory(a, b))
        for a, b in zip(arrays, shown, strict=True)
    )
    path: Path = source.path
    return path if same and path.is_file() else None


def add_to_project(
    project: Project, shot: lay.Snapshot, path: Path | None, group: str | None = None
) -> ImageEntry:
    """Bring what is on screen into a project, as the file it came from or as an array. Off the GUI thread."""
    if path is not None:
        return project.add_image([path], shot.name, group)
    return project.add_array(shot.image(), shot.name, group)
