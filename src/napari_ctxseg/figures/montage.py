"""Labels over several slices."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_ctxseg.errors import InputError
from napari_ctxseg.figures import marks
from napari_ctxseg.figures.overlay import Contours, Labelled, name_of
from napari_ctxseg.figures.palette import palette_of
from napari_ctxseg.figures.planes import around
from napari_ctxseg.figures.scene import Part, any_class, class_values, make_scene

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_ctxseg.config import MontageFigure
    from napari_ctxseg.figures.sheet import Drawing
    from napari_ctxseg.figures.sources import Sources


def draw_montage(recipe: MontageFigure, sources: Sources) -> Drawing:
    """Build the figure of a recipe. All slices have one grey scale, so that they can be compared.

    Raises
    ------
    CtxsegError
        If files are missing or do not fit together, the image has no slices, or one of them does not exist.
    """
    image = sources.image(recipe.image)
    labels = sources.labels(recipe.labels.file, image).array
    if len(image.spatial_shape) == 2:
        raise InputError(recipe.image, "has no slices", "Use an overlay for a 2-D image")
    values = class_values(recipe.classes, [labels], foreground=recipe.foreground)
    mask = any_class(labels, values, foreground=recipe.foreground)
    plain = {"crop": None} if recipe.view.crop == "auto" else {}
    view = recipe.view.model_copy(update={"zoom": None, **plain})
    first = make_scene(image, view, recipe.style, [mask], recipe.channel)
    axis = first.plane.axis
    slices = list(recipe.slices) or _spread(mask, axis, recipe.count)
    outside = [index for index in slices if index not in range(mask.shape[axis])]
    if outside:
        raise InputError(
            "slices", f"{outside[0]} is outside the image", f"Its slices are 0 to {mask.shape[axis] - 1}"
        )
    box = first.plane.box
    if recipe.view.crop == "auto":  # around the structures of all slices
        box = around(np.any(mask, axis=axis), recipe.view.margin, first.plane.shape)
    window = recipe.view.window or _window(image.channel_array[recipe.channel or 0], slices, axis)
    parts = []
    for index in slices:
        plane = replace(first.plane, index=index, box=box)
        scene = replace(first, plane=plane, view=view.model_copy(update={"window": window}))
        drawn = Labelled(
            name_of(recipe.labels),
            palette_of(recipe.style).reference,
            recipe.labels.filled,
            plane.cut(labels),
        )
        draw = Contours(scene, values, foreground=recipe.foreground, by_class=True)
        parts.append(Part(f"{image.spatial_axes[axis]} = {index}", draw.over_image([drawn])))
    drawing = replace(first, plane=replace(first.plane, box=box)).drawing(parts, draw.handles([drawn]))
    drawing.chosen["index"] = slices
    return drawing


def _spread(mask: NDArray[np.bool_], axis: int, count: int) -> list[int]:
    """Slices from the first labelled one to the last, evenly."""
    filled = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
    if len(filled) == 0:
        raise InputError("slices", "cannot be chosen, because nothing is labelled", "Name the slices")
    return sorted({int(i) for i in np.rint(np.linspace(filled[0], filled[-1], count))})


def _window(array: NDArray[np.generic], slices: list[int], axis: int) -> tuple[float, float]:
    return marks.grey_window(np.take(array, slices, axis=axis))
