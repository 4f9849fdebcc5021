"""``ctxseg figure``: a picture from a recipe. The maps that only torch can compute are computed here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from napari_ctxseg.commands import report
from napari_ctxseg.config import figure_classes, figure_kind, parse_figure
from napari_ctxseg.figures import ENDING, Sources, make_figure, needs_maps, read_recipe
from napari_ctxseg.figures.examples import EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_ctxseg.config import Recipe


def example(kind: str) -> str:
    """A recipe to begin with, as YAML with every setting.

    Raises
    ------
    InputError
        If there is no such figure.
    """
    recipe = parse_figure({"kind": kind, **EXAMPLES.get(kind, {})}, f"--example {kind}")
    about = (type(recipe).__doc__ or "").splitlines()[0]
    needed = ", ".join(name for name in EXAMPLES[kind] if name != "style")
    values = {"kind": kind, **recipe.model_dump(mode="json")}
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return f"# {about}\n# Files are looked for beside this recipe. Put in your own {needed}; the rest are defaults.\n{text}"


def show_kinds(*, as_json: bool) -> None:
    """Print the kinds of figures and what they show."""
    kinds = {kind: (cls.__doc__ or "").splitlines()[0] for kind, cls in figure_classes().items()}
    if as_json:
        report.print_json(kinds)
        return
    for kind, about in kinds.items():
        report.print_line(f"{kind:13} {about}")


def figure(path: Path, out: Path | None, assignments: Sequence[str], *, as_json: bool) -> None:
    """Make the picture of a recipe.

    Raises
    ------
    CtxsegError
        If recipe and files do not fit together, or the picture cannot be written.
    """
    recipe, changed = read_recipe(path, assignments)
    sources = Sources(path.parent)
    sources.computed.update(computed(recipe, sources))
    made = make_figure(recipe, sources, out or default_out(path), notes=changed)
    if as_json:
        report.print_json(
            {
                "kind": figure_kind(recipe), "files": [str(each) for each in made.files], "recipe": str(made.recipe),
                "notes": made.notes, "chosen": made.chosen,
            }
        )  # fmt: skip
        return
    for note in made.notes:
        report.print_line(f"! {note}")
    for each in (*made.files, made.recipe):
        report.print_line(str(each))


def default_out(path: Path) -> Path:
    """The picture of ``fig2.yaml`` and of ``fig2.recipe.yaml`` is ``fig2``."""
    name = path.name
    for ending in (ENDING, ".yaml", ".yml"):
        if name.endswith(ending) and name != ending:
            return path.with_name(name.removesuffix(ending))
    return path.with_name(f"{name}-figure")


def computed(recipe: Recipe, sources: Sources) -> dict[str, NDArray[Any]]:
    """Maps that the recipe needs and names no files of, see `napari_ctxseg.inference.figure_maps`; torch only if any.

    Raises
    ------
    CtxsegError
        If files are missing, or do not fit together.
    """
    if not needs_maps(recipe):
        return {}
    from napari_ctxseg.inference.figure_maps import computed as maps

    return maps(recipe, sources)
