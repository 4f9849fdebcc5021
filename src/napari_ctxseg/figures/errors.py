"""False positives and false negatives over the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_ctxseg.figures import marks
from napari_ctxseg.figures.palette import palette_of
from napari_ctxseg.figures.scene import Part, any_class, class_values, make_scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from napari_ctxseg.config import ErrorsFigure
    from napari_ctxseg.figures.sheet import Drawing
    from napari_ctxseg.figures.sources import Sources
    from napari_ctxseg.image import Image

Masks = dict[str, "NDArray[np.bool_]"]


def draw_errors(recipe: ErrorsFigure, sources: Sources) -> Drawing:
    """Build the figure of a recipe.

    A pixel of a wrong class is neither: a structure was there and was found, but misnamed. It has a colour of its own.

    Raises
    ------
    CtxsegError
        If files are missing, or do not fit together.
    """
    image = sources.image(recipe.image)
    masks, reference = (
        _from_labels(recipe, sources, image) if recipe.prediction else _from_maps(recipe, sources, image)
    )
    important = [reference] if reference is not None else []
    scene = make_scene(
        image, recipe.view, recipe.style, [*important, np.any(list(masks.values()), axis=0)], recipe.channel
    )
    palette = palette_of(recipe.style)
    colours = {"false positive": palette.fp, "false negative": palette.fn, "wrong class": palette.wrong}

    def paint(axes: Axes) -> None:
        scene.grey(axes)
        for name, mask in masks.items():
            marks.tint(axes, scene.plane.cut(mask), colours[name], recipe.opacity)
        if recipe.outline and reference is not None:
            marks.contour(axes, scene.plane.cut(reference), "#ffffff", recipe.style)

    handles = [marks.patch_handle(name, colours[name]) for name in masks]
    if recipe.outline and reference is not None:
        handles.append(marks.rimmed_handle("reference", "#ffffff", recipe.style))
    if not any(scene.plane.cut(mask).any() for mask in masks.values()):
        scene.notes.append("there is no error in this slice")
    drawing = scene.drawing([Part("", paint)], handles)
    drawing.chosen["pixels"] = {name: int(scene.plane.cut(mask).sum()) for name, mask in masks.items()}
    return drawing


def _from_labels(recipe: ErrorsFigure, sources: Sources, image: Image) -> tuple[Masks, NDArray[np.bool_]]:
    assert recipe.reference is not None
    assert recipe.prediction is not None
    truth = sources.labels(recipe.reference, image).array
    guess = sources.labels(recipe.prediction, image).array
    values = class_values(recipe.classes, [truth, guess], foreground=recipe.foreground)
    drawn, found = (any_class(a, values, foreground=recipe.foreground) for a in (truth, guess))
    masks: Masks = {"false positive": found & ~drawn, "false negative": drawn & ~found}
    if len(values) > 1:
        masks["wrong class"] = drawn & found & (truth != guess)
    return masks, drawn


def _from_maps(
    recipe: ErrorsFigure, sources: Sources, image: Image
) -> tuple[Masks, NDArray[np.bool_] | None]:
    assert recipe.fp is not None
    assert recipe.fn is not None
    reference = None
    if recipe.reference is not None:
        truth = sources.labels(recipe.reference, image).array
        values = class_values(recipe.classes, [truth], foreground=recipe.foreground)
        reference = any_class(truth, values, foreground=recipe.foreground)
    return {
        "false positive": sources.values(recipe.fp, image) > recipe.threshold,
        "false negative": sources.values(recipe.fn, image) > recipe.threshold,
    }, reference
