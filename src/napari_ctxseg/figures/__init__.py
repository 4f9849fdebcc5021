"""Figures from recipes: one file per type of figure. No torch here.

A recipe is a configuration (`napari_ctxseg.config.FigureConfig`); its builder makes a matplotlib figure of it. Maps that
only torch can compute come as files, or from the caller (see `napari_ctxseg.commands.figure`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg import config as c
from napari_ctxseg.atomic import write_bytes_atomic
from napari_ctxseg.errors import InputError
from napari_ctxseg.figures.boxplots import draw_boxplots
from napari_ctxseg.figures.contour import draw_contour
from napari_ctxseg.figures.errors import draw_errors
from napari_ctxseg.figures.loss_anatomy import draw_loss_anatomy
from napari_ctxseg.figures.montage import draw_montage
from napari_ctxseg.figures.overlay import draw_overlay
from napari_ctxseg.figures.probability import draw_probability
from napari_ctxseg.figures.recipe import ENDING, MADE, read_recipe, save_recipe
from napari_ctxseg.figures.refinement import draw_refinement
from napari_ctxseg.figures.saving import drawing_style, save_picture
from napari_ctxseg.figures.sheet import INCH, Drawing
from napari_ctxseg.figures.sources import Sources
from napari_ctxseg.figures.sweep import draw_sweep
from napari_ctxseg.figures.table import draw_table
from napari_ctxseg.figures.view import SeenLayer, View, draw_view, view_recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

#: Recipe class -> builder.
FIGURES: dict[type[c.Recipe], Callable[[Any, Sources], Drawing]] = {
    c.OverlayFigure: draw_overlay,
    c.ErrorsFigure: draw_errors,
    c.ProbabilityFigure: draw_probability,
    c.LossAnatomyFigure: draw_loss_anatomy,
    c.ContourFigure: draw_contour,
    c.RefinementFigure: draw_refinement,
    c.MontageFigure: draw_montage,
    c.BoxplotsFigure: draw_boxplots,
    c.SweepFigure: draw_sweep,
    c.TableFigure: draw_table,
    c.ViewFigure: draw_view,
}
FORMATS = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class Made:
    """What was written.

    Attributes
    ----------
    files : list of Path
        Pictures and texts.
    recipe : Path
        Beside them: all settings, hashes of the inputs, versions.
    notes : list of str
        What the person should know.
    chosen : dict
        What the recipe left open, and what was taken.
    """

    files: list[Path]
    recipe: Path
    notes: list[str]
    chosen: dict[str, Any]


def draw(recipe: c.Recipe, sources: Sources) -> Drawing:
    """Build a figure, for a preview: nothing is written.

    Parameters
    ----------
    recipe : Recipe
        As `napari_ctxseg.config.parse_figure` gives it.
    sources : Sources
        Reads the recipe's files.

    Raises
    ------
    CtxsegError
        If files are missing, or do not fit together or to the recipe.
    """
    with drawing_style(recipe.style):
        return FIGURES[type(recipe)](recipe, sources)


def needs_maps(recipe: c.Recipe) -> bool:
    """Whether a recipe needs maps that only torch can compute: `Sources.computed` must hold them."""
    if isinstance(recipe, c.LossAnatomyFigure):
        return recipe.ce is None
    return isinstance(recipe, c.ContourFigure) and recipe.interior is None


def render(recipe: c.Recipe, sources: Sources, width: int) -> tuple[NDArray[np.uint8], Drawing]:
    """A preview: pixels ``(h, w, 3)`` of a figure, about `width` of them wide, and its drawing.

    Raises
    ------
    CtxsegError
        As `draw`.
    """
    dpi = max(20, min(recipe.style.dpi, round(width / (recipe.style.width / INCH))))
    small = recipe.model_copy(update={"style": recipe.style.model_copy(update={"dpi": dpi})})
    with drawing_style(small.style):
        drawing = FIGURES[type(small)](small, sources)
        canvas: Any = drawing.figure.canvas
        canvas.draw()
        pixels: NDArray[np.uint8] = np.array(canvas.buffer_rgba())[..., :3]
    return pixels, drawing


def make_figure(recipe: c.Recipe, sources: Sources, out: Path, *, notes: Sequence[str] = ()) -> Made:
    """Build a figure and write it, with its recipe beside it; files of those names are replaced.

    Parameters
    ----------
    recipe : Recipe
    sources : Sources
        Reads the recipe's files.
    out : Path
        With one of the suffixes `FORMATS`: that format only. Without: all formats of the recipe's style.
    notes : sequence of str
        Said before, to be kept with the others.

    Returns
    -------
    Made

    Raises
    ------
    CtxsegError
        If files are missing, or do not fit together or to the recipe, or cannot be written.
    """
    base, suffixes = targets(out, recipe.style)
    beside = base.with_name(base.name + ENDING)
    with drawing_style(recipe.style):
        drawing = FIGURES[type(recipe)](recipe, sources)
        written = [base.with_name(base.name + suffix) for suffix in (*suffixes, *drawing.texts)]
        _protect(written, sources)
        for path in written:
            if path.suffix in drawing.texts:
                write_bytes_atomic(path, drawing.texts[path.suffix].encode())
            else:
                save_picture(drawing.figure, path, recipe.style)
    said = [*notes, *drawing.notes]
    made = {"chosen": drawing.chosen, "pictures": [path.name for path in written]}
    style = recipe.style.model_copy(
        update={"formats": tuple(suffix.removeprefix(".") for suffix in suffixes)}
    )
    save_recipe(beside, recipe.model_copy(update={"style": style}), sources.folder, made, sources.hashes)
    return Made(written, beside, said, drawing.chosen)


def targets(out: Path, style: c.FigureStyle) -> tuple[Path, list[str]]:
    """Name of a picture without its suffix, and the suffixes to write.

    Raises
    ------
    InputError
        If the suffix is none of `FORMATS`.
    """
    if out.suffix.lower() in FORMATS:
        return out.with_suffix(""), [out.suffix.lower()]
    if out.suffix and out.suffix[1:].isalpha():
        raise InputError(out, f"has the suffix {out.suffix}", f"Use {' '.join(FORMATS)}, or none")
    return out, [f".{form}" for form in dict.fromkeys(style.formats)]


def _protect(written: Sequence[Path], sources: Sources) -> None:
    """A picture never takes the place of what it is made from."""
    inputs = {path.resolve() for path in sources.hashes}
    for path in written:
        if path.resolve() in inputs:
            raise InputError(path, "is one of the recipe's own files", "Choose another name with --out")


__all__ = [
    "ENDING",
    "FIGURES",
    "FORMATS",
    "MADE",
    "Drawing",
    "Made",
    "SeenLayer",
    "Sources",
    "View",
    "draw",
    "make_figure",
    "needs_maps",
    "read_recipe",
    "render",
    "save_recipe",
    "targets",
    "view_recipe",
]
