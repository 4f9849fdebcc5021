"""A probability map as the network gave it, with a colour bar."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_ctxseg.errors import InputError
from napari_ctxseg.figures import marks
from napari_ctxseg.figures.overlay import name_of
from napari_ctxseg.figures.palette import palette_of
from napari_ctxseg.figures.scene import Part, any_class, class_values, make_scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

    from napari_ctxseg.config import ProbabilityFigure
    from napari_ctxseg.figures.sheet import Drawing
    from napari_ctxseg.figures.sources import Sources

#: Single precision may go a little beyond.
SLACK = 1e-4


def draw_probability(recipe: ProbabilityFigure, sources: Sources) -> Drawing:
    """Build the figure of a recipe. The bar is 0 to 1, whatever the map holds.

    Raises
    ------
    CtxsegError
        If files are missing or do not fit together, or the map is none of probabilities.
    """
    image = sources.image(recipe.image)
    values = sources.values(recipe.probability, image)
    if values.min() < -SLACK or values.max() > 1 + SLACK:
        raise InputError(
            recipe.probability,
            f"holds {values.min():.4g} to {values.max():.4g}, not probabilities",
            "Give 0 to 1",
        )
    reference = None
    if recipe.reference is not None:
        labels = sources.labels(recipe.reference.file, image).array
        classes = class_values(recipe.classes, [labels], foreground=recipe.foreground)
        reference = any_class(labels, classes, foreground=recipe.foreground)
    important = [reference] if reference is not None else []
    scene = make_scene(image, recipe.view, recipe.style, [*important, values > 0.5], recipe.channel)
    colour = (recipe.reference and recipe.reference.colour) or palette_of(recipe.style).reference

    def outline(axes: Axes) -> None:
        if reference is not None:
            marks.contour(axes, scene.plane.cut(reference), colour, recipe.style)

    def picture(axes: Axes) -> None:
        scene.grey(axes)
        outline(axes)

    def paint(axes: Axes) -> ScalarMappable:
        shown = axes.imshow(
            np.asarray(scene.plane.cut(values), float), cmap=recipe.colours, vmin=0, vmax=1, interpolation="nearest",
            aspect="auto", gid="map",
        )  # fmt: skip
        outline(axes)
        return shown

    parts = (
        [Part("image", picture), Part(recipe.name, paint, "")]
        if recipe.show_image
        else [Part("", paint, recipe.name)]
    )
    handles = []
    if recipe.reference is not None:
        handles.append(marks.line_handle(name_of(recipe.reference), colour, recipe.style))
    return scene.drawing(parts, handles)
