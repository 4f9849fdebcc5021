"""Image, labels, cross-entropy, weights, weighted loss: where a loss comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg.errors import InputError
from napari_ctxseg.figures.overlay import Contours, Labelled
from napari_ctxseg.figures.scene import Part, any_class, class_values, make_scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from numpy.typing import NDArray

    from napari_ctxseg.config import LossAnatomyFigure
    from napari_ctxseg.figures.scene import Scene
    from napari_ctxseg.figures.sheet import Drawing
    from napari_ctxseg.figures.sources import Sources
    from napari_ctxseg.image import Image

#: Bars end at this percentile: a few pixels would darken all others.
BRIGHTEST = 99.9


def anatomy_scene(recipe: LossAnatomyFigure, sources: Sources) -> tuple[Scene, Image, dict[str, int]]:
    """Scene, labels and classes of a recipe, for whoever computes its maps.

    Raises
    ------
    CtxsegError
        If files are missing, or do not fit together.
    """
    image = sources.image(recipe.image)
    labels = sources.labels(recipe.labels, image)
    values = class_values(recipe.classes, [labels.array], foreground=recipe.foreground)
    mask = any_class(labels.array, values, foreground=recipe.foreground)
    return make_scene(image, recipe.view, recipe.style, [mask], recipe.channel), labels, values


def draw_loss_anatomy(recipe: LossAnatomyFigure, sources: Sources) -> Drawing:
    """Build the figure of a recipe.

    The maps of the shown slice are those of `Sources.computed` (``ce``, ``weight``, ``weighted``), or of the recipe's files.

    Raises
    ------
    CtxsegError
        If files are missing, or do not fit together, or nobody has computed the maps.
    """
    scene, labels, values = anatomy_scene(recipe, sources)
    ce, weight, weighted = _maps(recipe, sources, scene)
    drawn = Labelled("labels", scene.palette.reference, True, scene.plane.cut(labels.array))
    draw = Contours(scene, values, foreground=recipe.foreground, by_class=True)
    kind = recipe.loss.kind.replace("_", " ").replace(" ce", " CE")
    parts = [
        Part("image", scene.grey),
        Part("labels", draw.over_image([drawn])),
        Part("cross-entropy", _map(scene, ce), ""),
        Part(f"weights ({kind})" if recipe.weight is None else "weights", _map(scene, weight), ""),
        Part("weighted loss", _map(scene, weighted), ""),
    ]
    drawing = scene.drawing(parts, draw.handles([drawn]))
    total = float(np.sum(weighted, dtype=np.float64))
    drawing.chosen["weighted loss of the slice"] = float(f"{total:.6g}")
    return drawing


def _maps(
    recipe: LossAnatomyFigure, sources: Sources, scene: Scene
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    if recipe.ce is not None and recipe.weight is not None:
        ce, weight = (
            scene.plane.cut(sources.values(each, scene.image)) for each in (recipe.ce, recipe.weight)
        )
        return ce, weight, ce * weight
    known = sources.computed
    if not {"ce", "weight", "weighted"} <= set(known):
        raise InputError(
            "loss_anatomy",
            "needs maps that only torch can compute",
            "Use `ctxseg figure`, or name ce and weight",
        )
    return known["ce"], known["weight"], known["weighted"]


def _map(scene: Scene, values: NDArray[Any]) -> Any:
    """A function that draws a map; its scale begins at 0."""
    box = scene.plane.box
    shown = values[box[0] : box[0] + box[2], box[1] : box[1] + box[3]]
    high = float(np.percentile(shown, BRIGHTEST)) or float(shown.max()) or 1.0

    def paint(axes: Axes) -> ScalarMappable:
        return axes.imshow(
            values, cmap="inferno", vmin=0, vmax=high, interpolation="nearest", aspect="auto", gid="map"
        )

    return paint
