"""Files behind a figure: read once, checked against each other, and fingerprinted."""

from __future__ import annotations

import hashlib
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg import io
from napari_ctxseg.dataset import check_grid
from napari_ctxseg.errors import FileError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_ctxseg.image import Image

#: Arrays of a view are slices: more than this in one file is none of ours.
MOST_BYTES = 1 << 30


class Sources:
    """Reads what a recipe names.

    Parameters
    ----------
    folder : Path
        Where relative names are looked for: the recipe's folder.
    computed : mapping of str to ndarray, shape ``(h, w)``, optional
        Maps of the shown slice that somebody with torch has computed.
    """

    def __init__(self, folder: Path, computed: Mapping[str, NDArray[Any]] | None = None) -> None:
        self.folder = folder
        self.computed = dict(computed or {})
        self.hashes: dict[Path, str] = {}
        self._images: dict[tuple[Path, bool], Image] = {}

    def path(self, name: Path) -> Path:
        """Where a file of the recipe lies.

        Raises
        ------
        FileError
            If it does not exist.
        """
        path = self.folder / name
        if not path.exists():
            raise FileError(
                path, "is not there", "Correct the path in the recipe; it is relative to the recipe"
            )
        if path.is_file() and path not in self.hashes:
            self.hashes[path] = file_hash(path)
        return path

    def image(self, name: Path) -> Image:
        """An image file."""
        return self._read(self.path(name), labels=False)

    def labels(self, name: Path, like: Image | None = None) -> Image:
        """A label file, on the grid of an image.

        Raises
        ------
        CtxsegError
            If it cannot be read, or lies on another grid.
        """
        image = self._read(self.path(name), labels=True)
        self._check(image.spatial_shape, name, like)
        if like is not None:
            check_grid(str(self.folder / name), like, image, "image", "file")
        return image

    def values(self, name: Path, like: Image | None = None) -> NDArray[Any]:
        """A map of real numbers, on the grid of an image; ``.npy`` as well.

        Raises
        ------
        CtxsegError
            If it cannot be read, or lies on another grid.
        """
        path = self.path(name)
        if path.suffix == ".npy":
            values = _npy(path)
        else:
            image = self._read(path, labels=False)
            if image.axes.startswith("c"):
                raise InputError(path, "has several channels", "Give a map with one number per pixel")
            values = image.array
            if like is not None and values.shape == like.spatial_shape:
                check_grid(str(path), like, image, "image", "map")
        self._check(values.shape, name, like)
        return values

    def arrays(self, name: Path) -> dict[str, NDArray[Any]]:
        """All arrays of a ``.npz`` file.

        Raises
        ------
        FileError
            If it is no such file, or holds objects.
        """
        path = self.path(name)
        try:
            with zipfile.ZipFile(path) as archive:
                size = sum(info.file_size for info in archive.infolist())
            if size > MOST_BYTES:
                raise FileError(path, f"says it holds {size} bytes", "Make the figure again from the viewer")
            with np.load(path, allow_pickle=False) as stored:
                return {key: stored[key] for key in stored.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, MemoryError) as error:
            raise FileError(
                path, f"cannot be read ({error})", "Make the figure again from the viewer"
            ) from error

    def _read(self, path: Path, *, labels: bool) -> Image:
        key = (path, labels)
        if key not in self._images:
            self._images[key] = io.read_labels(path) if labels else io.read(path)
        return self._images[key]

    def _check(self, shape: tuple[int, ...], name: Path, like: Image | None) -> None:
        if like is not None and shape != like.spatial_shape:
            raise InputError(
                self.folder / name,
                f"has shape {shape}, the image {like.spatial_shape}",
                "Give files that lie on the same grid",
            )


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _npy(path: Path) -> NDArray[Any]:
    try:
        # Mapped, so that a header that promises more than the file holds is seen before anything is allocated.
        values = np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise FileError(path, f"cannot be read ({error})", "Write the map again") from error
    if values.dtype.kind not in "iufb" or not np.isfinite(values).all():
        raise FileError(path, "holds values that are no finite real numbers", "Write the map again")
    return values
