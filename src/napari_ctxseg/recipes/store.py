"""The recipes that come with the package, and reading one from a file."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from napari_ctxseg.errors import InputError
from napari_ctxseg.recipes.schema import CitedRow, Recipe, parse_row

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


def row_names(paper: str | None = None) -> list[str]:
    """Names of all rows, or of a paper's, in the order of papers, tables and sets."""
    names = sorted(p.name.removesuffix(".yaml") for p in _folder().iterdir() if p.name.endswith(".yaml"))
    return [name for name in names if paper is None or name.startswith(f"{paper}-")]


def load_row(name: str) -> Recipe | CitedRow:
    """A row by its name, or from a YAML file of one's own.

    Raises
    ------
    InputError
        If there is none, or a field is wrong.
    """
    return _read(_place(name))


def row_text(name: str) -> str:
    """YAML text of a row that `load_row` can read."""
    return _place(name).read_text(encoding="utf-8")


def _place(name: str) -> Traversable:
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    known = row_names()
    if name not in known:
        part = [each for each in known if name and name in each]
        hint = f"Did you mean {', '.join(part[:6])}" if part else "See `ctxseg recipes list`"
        raise InputError(f"recipe {name}", "is not known", hint)
    return _folder() / f"{name}.yaml"


def _read(path: Traversable) -> Recipe | CitedRow:
    try:
        values = _parsed(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(
            path, f"cannot be read as YAML ({type(error).__name__})", "Check the file"
        ) from error
    try:
        return parse_row(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:])
        text = str(first["msg"]).removeprefix("Value error, ")
        raise InputError(path, f"{field}: {text}" if field else text, "See docs/recipes.md") from error


def _parsed(text: str) -> Any:
    """As `yaml.safe_load`, ten times faster where PyYAML was built with its C library: there are over a hundred files."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _folder() -> Traversable:
    return files("napari_ctxseg.recipes") / "rows"
