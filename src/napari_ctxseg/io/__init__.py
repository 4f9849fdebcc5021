"""Files in and out. Damaged or ambiguous files are errors, never guesses."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_ctxseg.errors import CtxsegError, FileError
from napari_ctxseg.io._common import plain_file

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    from napari_ctxseg.image import Image

__all__ = ["LABEL_SUFFIXES", "SUPPORTED", "read", "read_labels", "stem_of", "suffix_of", "write_labels"]

#: Every suffix that can be read, and the module that reads it.
SUPPORTED: dict[str, str] = {
    ".nii.gz": "nifti",
    ".nii": "nifti",
    ".mha": "metaimage",
    ".mhd": "metaimage",
    ".ome.tif": "tiff",
    ".ome.tiff": "tiff",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".png": "png",
    ".jpg": "png",
    ".jpeg": "png",
}
#: Every suffix that labels can be written to. JPEG is not one of them: it changes values.
LABEL_SUFFIXES = tuple(suffix for suffix in SUPPORTED if suffix not in (".jpg", ".jpeg"))


def suffix_of(path: str | os.PathLike[str]) -> str:
    """Return the suffix in lower case, with double ones (``.nii.gz``, ``.ome.tif``) whole.

    Parameters
    ----------
    path : path
        Need not exist.
    """
    name = Path(path).name.lower()
    return next((suffix for suffix in SUPPORTED if name.endswith(suffix)), Path(name).suffix)


def stem_of(path: str | os.PathLike[str]) -> str:
    """Return the file name without its suffix: ``case_1`` of ``case_1.nii.gz``.

    Parameters
    ----------
    path : path
        Need not exist.
    """
    name = Path(path).name
    return name[: len(name) - len(suffix_of(path))]


def read(path: str | os.PathLike[str], *, fourth: Literal["channel"] | None = None) -> Image:
    """Read an image.

    Parameters
    ----------
    path : path
        One of `SUPPORTED`.
    fourth : "channel", optional
        What a fourth axis means. Without it a file that has one is refused.

    Returns
    -------
    Image
        Shape ``(z, y, x)`` or ``(y, x)``, channels in front; turned to the nearest LPS orientation, not
        resampled. Values as stored (scaled where the file says so), all finite. `Image.notes` lists what had
        to be mended.

    Raises
    ------
    FileError
        If the file is missing, damaged, too large for this machine, of another format, or ambiguous.
    """
    return _read(path, labels=False, fourth=fourth)


def read_labels(path: str | os.PathLike[str]) -> Image:
    """Read labels: one integer per pixel, values as in the file.

    Parameters
    ----------
    path : path
        One of `SUPPORTED`, but not a JPEG.

    Returns
    -------
    Image
        `array` has an integer type and no channel axis. Negative values are kept and mean nothing special.

    Raises
    ------
    FileError
        As `read`, and if values are scaled, not integers, or colours.
    """
    return _read(path, labels=True, fourth=None)


def write_labels(path: str | os.PathLike[str], labels: NDArray[Any], like: Image) -> None:
    """Write labels so that they lie on an image, with its geometry.

    The old file, if there is one, stays until the new one is complete, on disk and read back.

    Parameters
    ----------
    path : path
        One of `LABEL_SUFFIXES`. The same format as the image keeps its header geometry bit for bit.
    labels : ndarray of integers or bool
        Shape ``like.spatial_shape``, axes as in `like`. Stored in the smallest integer type that holds them.
    like : Image
        The image that the labels belong to.

    Raises
    ------
    FileError
        If `path` is the image itself, cannot be written, or cannot hold the labels.
    ValueError
        If shape or type of the labels do not fit.
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "biu":
        raise ValueError(f"labels must be integers, got {labels.dtype}")
    if labels.shape != like.spatial_shape:
        raise ValueError(f"labels have shape {labels.shape}, the image {like.spatial_shape}")
    if 0 in labels.shape:
        raise ValueError(f"labels are empty: shape {labels.shape}")
    path, suffix = Path(path), suffix_of(path)
    if suffix not in LABEL_SUFFIXES:
        raise FileError(
            path, f"labels cannot be written as {suffix or 'a file without a suffix'}", _choices()
        )
    if like.source is not None and _same(path, like.source.path):
        raise FileError(path, "is the image itself; labels would overwrite it", "Choose another name")
    module = import_module(f"napari_ctxseg.io.{SUPPORTED[suffix]}")
    labels = labels.astype(np.uint8) if labels.dtype.kind == "b" else labels
    try:
        module.save_labels(path, labels, like, suffix=suffix)
    except CtxsegError:
        raise
    except Exception as error:
        raise FileError(
            path, f"cannot be written: {error or type(error).__name__}", "Try another format"
        ) from error


def _read(path: str | os.PathLike[str], *, labels: bool, fourth: Literal["channel"] | None) -> Image:
    if fourth not in (None, "channel"):
        raise ValueError(f'fourth must be "channel" or None, got {fourth!r}')
    path, size = plain_file(path)
    suffix = suffix_of(path)
    if suffix not in SUPPORTED:
        raise FileError(path, f"has the suffix {suffix!r}, which cannot be read", _choices())
    module = import_module(f"napari_ctxseg.io.{SUPPORTED[suffix]}")
    try:
        image: Image = module.load(path, size, labels=labels, fourth=fourth)
    except CtxsegError:
        raise
    except MemoryError as error:
        raise FileError(
            path, "does not fit into memory", "Crop it, or use a machine with more memory"
        ) from error
    except Exception as error:
        reason = getattr(error, "strerror", None) or error or type(error).__name__
        raise FileError(path, f"cannot be read: {reason}", "Copy it again from where it came from") from error
    return image


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return False


def _choices() -> str:
    return "Use one of " + " ".join(SUPPORTED)
