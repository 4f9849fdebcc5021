"""Recipes on disk: read, and saved beside their picture with what went into it."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from napari_ctxseg import __version__
from napari_ctxseg.atomic import write_bytes_atomic
from napari_ctxseg.config import Recipe, figure_kind, parse_figure, set_fields
from napari_ctxseg.errors import FileError, InputError
from napari_ctxseg.figures.sources import file_hash

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Section of a saved recipe that says how its picture was made. It is no setting.
MADE = "made"
ENDING = ".recipe.yaml"
LARGEST = 10_000_000


def read_recipe(path: Path, assignments: Sequence[str] = ()) -> tuple[Recipe, list[str]]:
    """A recipe, and what has changed since its picture was made.

    Parameters
    ----------
    path : Path
    assignments : sequence of str
        ``a.b=value``, which win over the file.

    Raises
    ------
    CtxsegError
        If it cannot be read, or a field is wrong.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise FileError(path, "is too large for a recipe", "Give a YAML file")
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error.__class__.__name__
        raise FileError(
            path, f"cannot be read as YAML ({reason})", "See `ctxseg figure --example overlay`"
        ) from error
    if not isinstance(values, dict):
        raise InputError(path, "holds no settings", "See `ctxseg figure --example overlay`")
    made = values.pop(MADE, None)
    recipe = parse_figure(set_fields(values, list(assignments)), str(path))
    return recipe, _changes(made, path.parent) if isinstance(made, dict) else []


def _changes(made: Mapping[str, Any], folder: Path) -> list[str]:
    """Inputs and versions that are not those of the picture."""
    notes = []
    inputs = made.get("inputs")
    for name, digest in (inputs if isinstance(inputs, dict) else {}).items():
        path = folder / str(name)
        if path.is_file() and file_hash(path) != digest:
            notes.append(f"{name} has changed since the picture was made")
    known = made.get("versions")
    for name, was in (known if isinstance(known, dict) else {}).items():
        now = versions().get(name)
        if now is not None and now != was:
            notes.append(f"the picture was made with {name} {was}, this is {now}")
    return notes


def versions() -> dict[str, str]:
    """What a picture depends on besides its inputs."""
    found = {name: version(name) for name in ("matplotlib", "numpy", "scipy", "scikit-image", "pillow")}
    return {"napari-ctxseg": __version__, "python": platform.python_version(), **found}


def save_recipe(
    path: Path, recipe: Recipe, folder: Path, made: Mapping[str, Any], inputs: Mapping[Path, str]
) -> None:
    """Write a recipe with all its settings, its files named relative to itself.

    Parameters
    ----------
    path : Path
        Where to.
    recipe : Recipe
    folder : Path
        What the recipe's paths are relative to now.
    made : mapping
        What else to say of how the picture was made.
    inputs : mapping of Path to str
        Files that were read, and their SHA-256.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    here = path.parent
    values = _plain(recipe.model_dump(), folder, here)
    said = {
        "versions": versions(),
        "inputs": {_relative(name, here): digest for name, digest in inputs.items()},
        **_plain(dict(made), folder, here),
    }
    whole = {"kind": figure_kind(recipe), **values, MADE: said}
    text = yaml.safe_dump(whole, sort_keys=False, allow_unicode=True)
    write_bytes_atomic(path, f"# ctxseg figure {path.name}\n{text}".encode())


def _plain(value: Any, folder: Path, here: Path) -> Any:
    """Values that YAML knows; paths relative to the recipe's new place."""
    if isinstance(value, Path):
        return _relative(folder / value, here)
    if isinstance(value, dict):
        return {key: _plain(each, folder, here) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, folder, here) for each in value]
    return value


def _relative(path: Path, here: Path) -> str:
    """Relative where the two share more than the root, so that a folder with both can be moved."""
    whole, start = path.absolute(), here.absolute()
    try:
        shared = os.path.commonpath([os.path.normpath(whole), os.path.normpath(start)])
    except ValueError:  # another drive
        return str(whole)
    return os.path.relpath(whole, start) if Path(shared) != Path(shared).parent else str(whole)
