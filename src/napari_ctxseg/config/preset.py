"""Presets: named YAML files that expand to the fields of a loss, network or method, and are never a field themselves."""

from __future__ import annotations

import functools
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import yaml

from napari_ctxseg.errors import InputError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

#: Folders below ``presets/`` that hold ``KIND.NAME.yaml``: of the losses, the networks, the methods.
FOLDERS = ("", "networks", "methods")


@functools.cache  # the files are the package's own; the docks ask for all of them at each change
def presets_of(kind: str) -> tuple[str, ...]:
    """Names of the presets that a kind of loss, network or method has, ours last."""
    if not re.fullmatch("[a-z0-9_]+", kind):
        return ()
    names = [p.name.split(".")[1] for folder in _folders() for p in folder.iterdir() if _is_of(p.name, kind)]
    return tuple(sorted(names, key=lambda name: (name == "recommended", name)))


def preset_values(kind: str, name: str, what: str = "loss") -> dict[str, Any]:
    """Fields of a named preset, as plain values.

    Parameters
    ----------
    kind, name : str
        Kind of loss, network or method, and name of its preset.
    what : str
        What an error calls the kind.

    Raises
    ------
    InputError
        If the kind has no such preset.
    """
    known = presets_of(kind)
    if name not in known:
        raise InputError(
            f"preset {name!r}",
            f"is not known for the {what} {kind!r}",
            f"It has: {', '.join(known) or 'none'}",
        )
    values: dict[str, Any] = yaml.safe_load(preset_text(kind, name))
    return values


def preset_note(kind: str, name: str) -> str:
    """What a preset of `presets_of` stands for: the comment in the first line of its file."""
    return preset_text(kind, name).splitlines()[0].lstrip("# ")


def preset_text(kind: str, name: str) -> str:
    """YAML text of a preset of `presets_of`."""
    found = (folder / f"{kind}.{name}.yaml" for folder in _folders())
    return next(path for path in found if path.is_file()).read_text(encoding="utf-8")


def expanded(value: Any, what: str) -> Any:
    """A bare name stands for its defaults; ``preset`` expands to that preset's fields, the others given win.

    Raises
    ------
    ValueError
        If the kind has no such preset: validation reports it with the field's name.
    """
    if isinstance(value, str):
        return {"kind": value}
    if isinstance(value, dict) and "preset" in value:
        given = dict(value)
        kind, name = given.get("kind"), given.pop("preset")
        try:
            return preset_values(str(kind), str(name), what) | given
        except InputError as error:
            raise ValueError(str(error)) from error
    return value


def _folders() -> list[Traversable]:
    top = files("napari_ctxseg.config") / "presets"
    return [top / folder if folder else top for folder in FOLDERS]


def _is_of(file: str, kind: str) -> bool:
    return re.fullmatch(rf"{kind}\.[a-z0-9_]+\.yaml", file) is not None
