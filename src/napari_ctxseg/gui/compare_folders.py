"""Where comparisons of the dock lie, and what they are called. No Qt."""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path

import platformdirs

from napari_ctxseg.compare.queue import OWN_IMAGES

#: In a project, or in the user's cache.
PARENT = "comparisons"
#: In a comparison's folder: copies of images and labels.
COPIES = OWN_IMAGES.split("/")[0]
#: Seconds.
ORPHAN_AGE = 86400.0


def comparisons_folder() -> Path:
    """Where comparisons of folders live: the user's cache."""
    return Path(platformdirs.user_cache_path("napari-ctxseg")) / PARENT


def fresh_folder(parent: Path) -> Path:
    """A folder that is not there yet, named by the time."""
    stem = time.strftime("%Y%m%d-%H%M%S")
    names = (stem if number == 1 else f"{stem}-{number}" for number in range(1, 1000))
    return next(parent / name for name in names if not (parent / name).exists())


def sweep_orphans(parent: Path, now: float | None = None) -> None:
    """Remove copies of data without a plan, of windows that were killed while they made them.

    Only folders that are named by the time, hold nothing else, and were left alone for a day: nobody waits for them.
    """
    now = time.time() if now is None else now
    with contextlib.suppress(OSError):  # a drive that is away, or another window was faster
        for path in list(parent.iterdir()) if parent.is_dir() else ():
            if title_of(path) == path.name or set(path.iterdir()) != {path / COPIES}:
                continue
            data = path / COPIES
            if now - max(each.stat().st_mtime for each in (path, data, *data.iterdir())) > ORPHAN_AGE:
                shutil.rmtree(path, ignore_errors=True)


def discard_copies(path: Path) -> bool:
    """Remove a folder that holds copies of data at most; one with a plan, a run or anything else stays."""
    with contextlib.suppress(OSError):
        if set(path.iterdir()) <= {path / COPIES}:
            shutil.rmtree(path, ignore_errors=True)
            return True
    return False


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
