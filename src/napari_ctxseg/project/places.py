"""Where projects live: the cache folder of those without a name, and copying one as a whole."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import platformdirs

from napari_ctxseg.atomic import file_error
from napari_ctxseg.errors import InputError
from napari_ctxseg.project import manifest

#: By custom the end of a project folder's name.
SUFFIX = ".ctxseg"
LABELS, LOCK = "labels", ".lock"


def unnamed_folder() -> Path:
    """Where projects without a name live."""
    return Path(platformdirs.user_cache_path("napari-ctxseg")) / "projects"


def unnamed_projects() -> list[Path]:
    """Unnamed projects that are there, the one last changed first."""
    folder = unnamed_folder()
    found = [path for path in folder.iterdir() if manifest.is_project(path)] if folder.is_dir() else []
    return sorted(
        found,
        key=lambda path: (path / LABELS).stat().st_mtime if (path / LABELS).is_dir() else 0,
        reverse=True,
    )


def _not_copied(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name.endswith((LOCK, ".new", ".old")) or name.startswith(".ctxseg-")}


def copy_project(source: Path, target: Path) -> None:
    """Copy a project to a new folder; the folder takes its name when all is there.

    Raises
    ------
    InputError
        If the folder is not empty, or lies in the project.
    FileError
        If there is no room.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(target, "is there already and not empty", "Choose a new folder")
    if target.resolve().is_relative_to(source.resolve()):
        raise InputError(target, "lies inside the project itself", "Choose another folder")
    temp = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, temp, ignore=_not_copied, symlinks=True)
        if target.exists():
            target.rmdir()
        os.rename(temp, target)
    except (OSError, shutil.Error) as error:
        shutil.rmtree(temp, ignore_errors=True)
        raise file_error(target, error) from error
