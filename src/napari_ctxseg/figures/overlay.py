"""Contours of a reference and of predictions over the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_ctxseg import io
from napari_ctxseg.figures import marks
from napari_ctxseg.figures.palette import nth, palette_of
from napari_ctxseg.figures.scene import Part, any_class, class_mask, class_values, make_scene

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from napari_ctxseg.config import LabelSource, OverlayFigure
    from napari_ctxseg.figures.scene import Scene
    from napari_ctxseg.figures.sheet import Drawing
    from napari_ctxseg.figures.sources import Sources

#: Opacity of filled structures.
FILL = 0.35


@dataclass(frozen=True)
class Labelled:
    """One label file as it is drawn: its slice, its name and its colour."""

    name: str
    colour: str
    filled: bool
    labels: NDArray[Any]


def draw_overlay(recipe: OverlayFigure, sources: Sources) -> Drawing:
    """Build the figure of a recipe.

    Raises
    ------
    CtxsegError
        If files are missing, or do not fit together.
    """
    image = sources.image(recipe.image)
    named = ([recipe.reference] if recipe.reference else []) + list(recipe.predictions)
    arrays = [sources.labels(source.file, image).array for source in named]
    foreground = recipe.foreground
    values = class_values(recipe.classes, arrays, foreground=foreground)
    masks = [any_class(array, values, foreground=foreground) for array in arrays]
    scene = make_scene(image, recipe.view, recipe.style, masks, recipe.channel)
    shown = [
        Labelled(name, source.colour or colour, source.filled, scene.plane.cut(array))
        for name, source, colour, array in zip(_names(named), named, _colours(recipe), arrays, strict=True)
    ]
    alone = len(shown) == 1 or recipe.panels == "each"
    by_class = recipe.colour_by == "class" or (recipe.colour_by == "auto" and alone and len(values) > 1)
    draw = Contours(scene, values, foreground=foreground, by_class=by_class)
    for each in shown:
        if not any_class(each.labels, values, foreground=foreground).any():
            scene.notes.append(f"{each.name}: nothing is labelled in this slice")
    if recipe.panels == "each":
        parts = [Part("image", scene.grey), *(Part(s.name, draw.over_image([s])) for s in shown)]
    else:
        parts = [Part("", draw.over_image(shown))]
    return scene.drawing(parts, draw.handles(shown))


def name_of(source: LabelSource) -> str:
    """Name of a label file in the legend."""
    return source.name or io.stem_of(source.file)


def _names(sources: Sequence[LabelSource]) -> list[str]:
    """Names of all of them; folders tell files of the same name apart."""
    names = [name_of(source) for source in sources]
    return [
        f"{source.file.parent.name}/{name}" if not source.name and names.count(name) > 1 else name
        for source, name in zip(sources, names, strict=True)
    ]


def _colours(recipe: OverlayFigure) -> list[str]:
    palette = palette_of(recipe.style)
    first = [palette.reference] if recipe.reference else []
    return first + [nth(palette.predictions, n) for n in range(len(recipe.predictions))]


@dataclass(frozen=True)
class Contours:
    """Draws label files by the colours of their classes, or by their own.

    Attributes
    ----------
    scene : Scene
    values : dict of str to int
        Class names and values.
    foreground : bool
        Whether every label above 0 is one class.
    by_class : bool
        Whether colours tell classes; else files, and line styles tell classes.
    """

    scene: Scene
    values: dict[str, int]
    foreground: bool
    by_class: bool

    def over_image(self, shown: Sequence[Labelled]) -> Any:
        """A function that draws the image and these files on axes."""

        def paint(axes: Axes) -> None:
            self.scene.grey(axes)
            for each in shown:
                self.draw(axes, each)

        return paint

    def draw(self, axes: Axes, each: Labelled) -> None:
        """Draw one file."""
        # Nested structures share a boundary: the inner ones, named first, are drawn on top.
        for number, value in reversed(list(enumerate(self.values.values()))):
            mask = class_mask(each.labels, value, foreground=self.foreground)
            colour, dashes = self._look(each, number)
            if each.filled:
                marks.tint(axes, mask, colour, FILL)
            marks.contour(axes, mask, colour, self.scene.style, dashes=dashes)

    def _look(self, each: Labelled, number: int) -> tuple[str, marks.Dashes]:
        if self.by_class:
            return nth(self.scene.palette.classes, number), "-"
        return each.colour, marks.LINES[number % len(marks.LINES)]

    def handles(self, shown: Sequence[Labelled]) -> list[Artist]:
        """Of the legend."""
        style, names = self.scene.style, list(self.values)
        if self.by_class:
            make = marks.patch_handle if all(s.filled for s in shown) else None
            return [
                make(name, nth(self.scene.palette.classes, n))
                if make
                else marks.line_handle(name, nth(self.scene.palette.classes, n), style)
                for n, name in enumerate(names)
            ]
        handles = [marks.line_handle(s.name, s.colour, style) for s in shown]
        if len(names) > 1:
            handles += [
                marks.line_handle(name, "#606060", style, dashes=marks.LINES[n % len(marks.LINES)])
                for n, name in enumerate(names)
            ]
        return handles
