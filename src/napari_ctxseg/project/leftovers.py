"""Files of images that a project does not list: of an addition that failed or was killed, or of a list that was restored."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from typing import TYPE_CHECKING

from napari_ctxseg.atomic import file_error
from napari_ctxseg.project.places import LABELS
from napari_ctxseg.project.sources import IMAGES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

#: Within the folder of the labels.
UNLISTED = "unlisted"


def _of_image(project: Path, name: str) -> Iterator[Path]:
    """Labels, their history, and what was decided about them."""
    for ending in (".zarr", ".history", ".verdicts.json"):
        path = project / LABELS / f"{name}{ending}"
        if path.exists():
            yield path


def set_aside(project: Path, name: str) -> None:
    """Move labels under the name of an image that is about to be listed out of its way: they are another image's.

    They are kept, in ``labels/unlisted/``.

    Raises
    ------
    FileError
        If they cannot be moved.
    """
    for path in list(_of_image(project, name)):
        folder = project / LABELS / UNLISTED / f"{name}-{time.time_ns()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            os.rename(path, folder / path.name)
        except OSError as error:
            raise file_error(path, error) from error


def remove_unlisted(project: Path, names: Sequence[str]) -> None:
    """Remove what a failed addition has made of images that are not listed; what cannot be is left, it does no harm."""
    for name in names:
        for path in [*_of_image(project, name), project / IMAGES / name]:
            with contextlib.suppress(OSError):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
