"""The lane `figures` of the engine: previews of recipes, and their pictures. Torch is loaded if a recipe needs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_ctxseg.events import Event, FigureDrawn
from napari_ctxseg.figures import Sources, make_figure, needs_maps, read_recipe, render

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def draw_figure(message: Mapping[str, Any], threads: int) -> Iterator[Event]:
    """The preview of a recipe, or with ``out`` its picture, exactly as `ctxseg figure` makes it.

    Raises
    ------
    CtxsegError
        If recipe and files do not fit together, or the picture cannot be written.
    """
    path, out = Path(message["recipe"]), message.get("out")
    recipe, changed = read_recipe(path)
    sources = Sources(path.parent)
    if needs_maps(recipe):
        import torch

        from napari_ctxseg.inference.figure_maps import computed

        torch.set_num_threads(threads)
        sources.computed.update(computed(recipe, sources))
    if not out:
        pixels, drawing = render(recipe, sources, int(message["width"]))
        yield FigureDrawn(pixels, notes=(*changed, *drawing.notes))
        return
    made = make_figure(recipe, sources, Path(out), notes=changed)
    yield FigureDrawn(files=tuple(map(str, made.files)), recipe=str(made.recipe), notes=tuple(made.notes))
