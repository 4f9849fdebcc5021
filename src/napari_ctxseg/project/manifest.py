"""`project.yaml` on disk: replaced as a whole, with its last states kept in ``.history/``."""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING

from napari_ctxseg.atomic import file_error, write_bytes_atomic
from napari_ctxseg.errors import CtxsegError, FileError, InputError
from napari_ctxseg.project.schema import MOST_BYTES, ProjectSpec, parse, to_text

if TYPE_CHECKING:
    from pathlib import Path

FILE, HISTORY = "project.yaml", ".history"
#: States of project.yaml that are kept.
KEPT = 5
_STATE = re.compile(r"^project\.(\d{1,12})\.yaml$")


def is_project(path: Path) -> bool:
    """Whether a folder is, or was, a project."""
    return (path / FILE).is_file() or (path / HISTORY).is_dir()


def load(path: Path) -> ProjectSpec:
    """Read ``project.yaml``.

    Raises
    ------
    InputError
        If it is missing, damaged or from a newer version; where an earlier state is whole, the message offers it.
    """
    file = path / FILE
    if not path.is_dir():
        raise InputError(path, "is not there", "Check the drive, and the name of the project folder")
    try:
        return parse(_text(file), file)
    except InputError as error:
        if "newer version" in error.reason:
            raise
        remedy = "Name a folder made by `ctxseg project create`"
        with contextlib.suppress(InputError):
            found, _ = last_good(path)
            remedy = f"Its last good state is {found.name}: take it with `ctxseg project restore {path}`"
        raise InputError(file, error.reason, remedy) from error


def save(path: Path, spec: ProjectSpec) -> str:
    """Write ``project.yaml``, its new state into the history first; returns the text.

    Raises
    ------
    FileError
        If the disk is full or the folder gone; the state before stays.
    """
    text = to_text(spec)
    history = path / HISTORY
    if not path.is_dir():
        raise FileError(path, "is not there any more", "Check the drive; nothing was written")
    try:
        history.mkdir(exist_ok=True)
    except OSError as error:
        raise file_error(history, error) from error
    numbers = _states(path)
    data = text.encode()
    write_bytes_atomic(history / f"project.{max(numbers, default=0) + 1}.yaml", data)
    write_bytes_atomic(path / FILE, data)
    for number in sorted(_states(path), reverse=True)[KEPT:]:
        with contextlib.suppress(OSError):
            (history / f"project.{number}.yaml").unlink()
    return text


def last_good(path: Path) -> tuple[Path, ProjectSpec]:
    """Newest state in the history that is whole.

    Raises
    ------
    InputError
        If there is none.
    """
    for number in sorted(_states(path), reverse=True):
        file = path / HISTORY / f"project.{number}.yaml"
        with contextlib.suppress(CtxsegError):
            return file, parse(_text(file), file)
    raise InputError(path, "keeps no earlier state that is whole", "Copy the project again from a backup")


def restore(path: Path) -> Path:
    """Make the last good state ``project.yaml`` again; the damaged file is kept beside it.

    Returns
    -------
    Path
        The state that was taken.

    Raises
    ------
    InputError
        If there is no good state, or nothing is damaged.
    """
    file = path / FILE
    with contextlib.suppress(InputError):
        load(path)
        raise FileError(file, "is whole", "There is nothing to restore")
    state, spec = last_good(path)
    if file.exists():
        _newer_stays(file)
        os.replace(file, path / f"{FILE}.damaged")
    write_bytes_atomic(file, to_text(spec).encode())
    return state


def _newer_stays(file: Path) -> None:
    try:
        parse(_text(file), file)
    except InputError as error:
        if "newer version" in error.reason:
            raise


def _text(file: Path) -> str:
    try:
        if file.stat().st_size > MOST_BYTES:
            raise InputError(file, "is far too large for a project file", "")
        return file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(file, "is not there", "") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(file, f"cannot be read ({type(error).__name__})", "") from error


def _states(path: Path) -> list[int]:
    folder = path / HISTORY
    if not folder.is_dir():
        return []
    return [int(match[1]) for entry in folder.iterdir() if (match := _STATE.match(entry.name))]
