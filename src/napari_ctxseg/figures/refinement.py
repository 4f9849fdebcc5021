"""First stage, its predicted false negatives and false positives, and what is left after them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg.composition import RELEASED, compose_regions
from napari_ctxseg.dataset import PREDICTIONS
from napari_ctxseg.errors import FileError
from napari_ctxseg.figures import marks
from napari_ctxseg.figures.overlay import FILL
from napari_ctxseg.figures.scene import Part, any_class, class_values, make_scene
from napari_ctxseg.figures.scores import read_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from napari_ctxseg.config import RefinementFigure
    from napari_ctxseg.figures.sheet import Drawing
    from napari_ctxseg.figures.sources import Sources


def draw_refinement(recipe: RefinementFigure, sources: Sources) -> Drawing:
    """Build the figure of a recipe.

    Error maps are tinted by their probability; a contour marks where they are above their threshold.

    Raises
    ------
    CtxsegError
        If files are missing, or do not fit together.
    """
    image = sources.image(recipe.image)
    p, fn, fp = (sources.values(each, image) for each in (recipe.stage1, recipe.fn, recipe.fp))
    stage1, thresholds = p > 0.5, _thresholds(recipe, sources)
    if recipe.refined is None:
        refined = compose_regions(stage1, fn, fp, *thresholds)
    else:
        labels = sources.labels(recipe.refined, image).array
        values = class_values(recipe.classes, [labels], foreground=recipe.foreground)
        refined = any_class(labels, values, foreground=recipe.foreground)
    masks = [stage1, refined]
    reference = None
    if recipe.reference is not None:
        drawn = sources.labels(recipe.reference.file, image).array
        values = class_values(recipe.classes, [drawn], foreground=recipe.foreground)
        reference = any_class(drawn, values, foreground=recipe.foreground)
        masks.insert(0, reference)
    scene = make_scene(image, recipe.view, recipe.style, masks, recipe.channel)
    palette, style, cut = scene.palette, recipe.style, scene.plane.cut
    colour = palette.mask

    def over(*layers: Callable[[Axes], object]) -> Callable[[Axes], None]:
        def paint(axes: Axes) -> None:
            scene.grey(axes)
            for layer in layers:
                layer(axes)
            if reference is not None:
                marks.contour(axes, cut(reference), palette.reference, style)

        return paint

    def mask(values: NDArray[np.bool_]) -> Callable[[Axes], object]:
        def layer(axes: Axes) -> None:
            marks.tint(axes, cut(values), colour, FILL)
            marks.contour(axes, cut(values), colour, style)

        return layer

    def error(values: NDArray[np.floating], shade: str, threshold: float) -> Callable[[Axes], object]:
        def layer(axes: Axes) -> None:
            one = np.clip(np.asarray(cut(values), float), 0, 1)
            marks.tint(axes, np.ones(one.shape, bool), shade, one)
            marks.contour(axes, one > threshold, shade, style)

        return layer

    parts = [
        Part("stage 1", over(mask(stage1))),
        Part("predicted FN", over(error(fn, palette.fn, thresholds[0]))),
        Part("predicted FP", over(error(fp, palette.fp, thresholds[1]))),
        Part("refined", over(mask(refined))),
    ]
    handles = [
        marks.patch_handle(recipe.name, colour),
        marks.patch_handle("false negative", palette.fn),
        marks.patch_handle("false positive", palette.fp),
    ]
    if reference is not None:
        name = (recipe.reference and recipe.reference.name) or "reference"
        handles.append(marks.line_handle(name, palette.reference, style))
    drawing = scene.drawing(parts, handles)
    drawing.chosen["thresholds"] = list(thresholds)
    drawing.chosen["changed pixels"] = int((cut(stage1) != cut(refined)).sum())
    return drawing


def _thresholds(recipe: RefinementFigure, sources: Sources) -> tuple[float, float]:
    """Of false negatives and false positives: the recipe's, else those of the run that made the maps, else the released."""
    record = recipe.fn.parent.parent / PREDICTIONS
    known: Any = None
    if None in (recipe.fn_threshold, recipe.fp_threshold) and (sources.folder / record).is_file():
        path = sources.path(record)
        known = read_json(path)
        known = known.get("thresholds") if isinstance(known, dict) else None
        if known is not None and not (
            isinstance(known, dict) and all(isinstance(known.get(key), float | int) for key in ("fn", "fp"))
        ):
            raise FileError(path, "holds no thresholds", "Give them in the recipe")
    stored = RELEASED if known is None else (float(known["fn"]), float(known["fp"]))
    given = recipe.fn_threshold, recipe.fp_threshold
    fn, fp = (own if one is None else one for one, own in zip(given, stored, strict=True))
    return fn, fp
