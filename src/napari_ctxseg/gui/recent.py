"""Projects that were open lately, in the person's settings, and those in the cache that have no name yet. No Qt."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import platformdirs

from napari_ctxseg.atomic import write_bytes_atomic
from napari_ctxseg.errors import CtxsegError
from napari_ctxseg.project import is_project, unnamed_projects

#: Projects that are kept in mind.
MOST = 12


def _file() -> Path:
    return Path(platformdirs.user_config_path("napari-ctxseg")) / "recent.json"


def recent_projects() -> list[Path]:
    """Projects that are still there, the last one first."""
    try:
        listed = [Path(str(each)) for each in json.loads(_file().read_bytes())]
    except (OSError, ValueError, TypeError):
        listed = []
    every = dict.fromkeys([*listed, *unnamed_projects()])
    with contextlib.suppress(OSError):
        return [path for path in every if is_project(path)][:MOST]
    return []


def remember(path: Path) -> None:
    """Put a project at the top of the list; settings that cannot be written cost no more than the list."""
    every = [path.absolute(), *(each for each in recent_projects() if each != path.absolute())]
    with contextlib.suppress(OSError, CtxsegError):
        _file().parent.mkdir(parents=True, exist_ok=True)
        write_bytes_atomic(_file(), json.dumps([str(each) for each in every[:MOST]]).encode())
