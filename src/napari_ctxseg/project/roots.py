"""What this machine calls the folders that projects refer to. Kept in the person's settings, never in a project."""

from __future__ import annotations

import json
from pathlib import Path

import platformdirs

from napari_ctxseg.atomic import write_bytes_atomic
from napari_ctxseg.errors import InputError
from napari_ctxseg.project.schema import check_name


def table() -> Path:
    """File of the known roots."""
    return Path(platformdirs.user_config_path("napari-ctxseg")) / "roots.json"


def known(project: str) -> dict[str, Path]:
    """Roots of a project on this machine, by its id; a table that cannot be read is empty."""
    found = _read().get(project, {})
    return {str(name): Path(str(folder)) for name, folder in found.items()} if isinstance(found, dict) else {}


def remember(project: str, roots: dict[str, Path]) -> None:
    """Keep the roots of a project for the next time.

    Raises
    ------
    FileError
        If the settings cannot be written.
    """
    values = _read()
    values[project] = {name: str(folder.absolute()) for name, folder in sorted(roots.items())}
    table().parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(table(), json.dumps(values, indent=1).encode())


def _read() -> dict[str, object]:
    try:
        values = json.loads(table().read_bytes())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def parse_roots(texts: list[str]) -> dict[str, Path]:
    """``NAME=DIR`` from the command line.

    Raises
    ------
    InputError
        If one is not of that form, or the folder is not there.
    """
    result = {}
    for text in texts:
        name, sign, folder = text.partition("=")
        try:
            check_name(name)
        except ValueError as error:
            raise InputError(f"--root {text}", str(error), "Write --root NAME=DIR") from error
        if not sign or not Path(folder).is_dir():
            raise InputError(f"--root {text}", "names no folder that is there", "Write --root NAME=DIR")
        result[name] = Path(folder)
    return result
