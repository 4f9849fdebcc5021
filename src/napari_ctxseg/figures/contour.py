"""Mask, its erosion, and the contour between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import to_rgb

from napari_ctxseg.errors import InputError
from napari_ctxseg.figures import marks
from napari_ctxseg.figures.palette import nth
from napari_ctxseg.figures.scene import Part, any_class, class_mask, class_values, make_scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from napari_ctxseg.config import ContourFigure
    from napari_ctxseg.figures.scene import Scene
    from napari_ctxseg.figures.sheet import Drawing
    from napari_ctxseg.figures.sources import Sources
    from napari_ctxseg.image import Image


def contour_scene(recipe: ContourFigure, sources: Sources) -> tuple[Scene, Image, dict[str, int]]:
    """Scene, labels and classes of a recipe, for whoever computes its maps.

    Raises
    ------
    CtxsegError
        If files are missing, or do not fit together.
    """
    labels = sources.labels(recipe.labels)
    image = sources.image(recipe.image) if recipe.image is not None else labels
    labels = sources.labels(recipe.labels, image)
    values = class_values(recipe.classes, [labels.array], foreground=recipe.foreground)
    mask = any_class(labels.array, values, foreground=recipe.foreground)
    return make_scene(image, recipe.view, recipe.style, [mask], recipe.channel), labels, values


def draw_contour(recipe: ContourFigure, sources: Sources) -> Drawing:
    """Build the figure of a recipe.

    Interior (class values) and band (0 to 1) of the shown slice are those of `Sources.computed` (``interior``, ``band``), or
    of the recipe's files.

    Raises
    ------
    CtxsegError
        If files are missing, or do not fit together, or nobody has computed the maps.
    """
    scene, labels, values = contour_scene(recipe, sources)
    if recipe.interior is not None and recipe.band is not None:
        interior = scene.plane.cut(sources.labels(recipe.interior, scene.image).array)
        band = scene.plane.cut(sources.values(recipe.band, scene.image))
    elif {"interior", "band"} <= set(sources.computed):
        interior, band = sources.computed["interior"], sources.computed["band"]
    else:
        raise InputError(
            "contour",
            "needs maps that only torch can compute",
            "Use `ctxseg figure`, or name interior and band",
        )
    mask = scene.plane.cut(labels.array)
    steps = recipe.contour.iterations
    eroded = "interior" if recipe.contour.softness else f"eroded {steps} time{'s' if steps != 1 else ''}"
    parts = [
        Part("mask", _classes(scene, mask, values, foreground=recipe.foreground)),
        Part(eroded, _classes(scene, interior, values, foreground=recipe.foreground)),
        Part(f"contour ({recipe.contour.side})", _band(scene, band)),
    ]
    if recipe.image is not None:
        parts.insert(0, Part("image", scene.grey))
    handles = [marks.patch_handle(name, nth(scene.palette.classes, n)) for n, name in enumerate(values)]
    return scene.drawing(parts, handles if len(values) > 1 else ())


def _classes(scene: Scene, labels: NDArray[Any], values: dict[str, int], *, foreground: bool) -> Any:
    """A function that draws classes in their colours on black; a single class is white."""
    shown = np.zeros((*labels.shape, 3))
    for number, value in enumerate(values.values()):
        colour = nth(scene.palette.classes, number) if len(values) > 1 else "#ffffff"
        shown[class_mask(labels, value, foreground=foreground)] = to_rgb(colour)

    def paint(axes: Axes) -> None:
        axes.imshow(shown, interpolation="nearest", aspect="auto", gid="map")

    return paint


def _band(scene: Scene, band: NDArray[Any]) -> Any:
    def paint(axes: Axes) -> None:
        axes.imshow(band, cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="auto", gid="map")

    return paint
