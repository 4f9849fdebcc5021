"""Damaged labels made readable again from their earlier states."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from napari_ctxseg.atomic import write_bytes_atomic
from napari_ctxseg.errors import CtxsegError, FileError
from napari_ctxseg.project.chunks import META
from napari_ctxseg.project.generations import History, history_of
from napari_ctxseg.project.marks import STATE
from napari_ctxseg.project.store import LabelStore

if TYPE_CHECKING:
    from pathlib import Path


def repair(path: Path) -> str:
    """Mend labels whose header or marks are damaged, from the newest generation that has them whole.

    Returns
    -------
    str
        What was done, for the person.

    Raises
    ------
    CtxsegError
        If there is nothing to take them from.
    """
    try:
        LabelStore.open(path)
        return "nothing was damaged"
    except FileError as error:
        if "newer version" in error.reason:
            raise
    history = History(history_of(path))
    for generation in reversed(history.all()):
        for names in ((STATE,), (META,), (STATE, META)):
            if _mended(path, history.folder(generation.number), names):
                return f"{' and '.join(names)} taken from generation {generation.number}"
    raise FileError(path, "cannot be mended: no earlier state is whole", "Take the folder from a backup")


def _mended(path: Path, source: Path, names: tuple[str, ...]) -> bool:
    before = {name: (path / name).read_bytes() if (path / name).exists() else None for name in names}
    with contextlib.suppress(CtxsegError, OSError):
        for name in names:
            write_bytes_atomic(path / name, (source / name).read_bytes())
        LabelStore.open(path)
        return True
    for name, data in before.items():
        if data is not None:
            write_bytes_atomic(path / name, data)
    return False
