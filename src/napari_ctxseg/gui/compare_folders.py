"""Where comparisons of the dock lie, and what they are called. No Qt."""

from __future__ import annotations

import time
from pathlib import Path

import platformdirs

#: In a project, or in the user's cache.
PARENT = "comparisons"


def comparisons_folder() -> Path:
    """Where comparisons of folders live: the user's cache."""
    return Path(platformdirs.user_cache_path("napari-ctxseg")) / PARENT


def fresh_folder(parent: Path) -> Path:
    """A folder that is not there yet, named by the time."""
    stem = time.strftime("%Y%m%d-%H%M%S")
    names = (stem if number == 1 else f"{stem}-{number}" for number in range(1, 1000))
    return next(parent / name for name in names if not (parent / name).exists())


def title_of(path: Path) -> str:
    """``2026-11-27 12:30:05`` of a folder named by the time; others as they are."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.strptime(path.name[:15], "%Y%m%d-%H%M%S"))
    except ValueError:
        return path.name


def duration(seconds: float) -> str:
    """``a minute``, ``12 min``, ``3.5 h``."""
    minutes = seconds / 60
    if minutes < 1:
        return "a minute"
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
