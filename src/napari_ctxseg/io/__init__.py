"""Files in and out. Damaged or ambiguous files are errors, never guesses."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_ctxseg.atomic import write_atomic
from napari_ctxseg.errors import CtxsegError, FileError
from napari_ctxseg.io._common import must_equal, plain_file

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    from napari_ctxseg.image import Image

__all__ = [
    "LABEL_SUFFIXES",
    "MAP_SUFFIXES",
    "SUPPORTED",
    "read",
    "read_labels",
    "stem_of",
    "suffix_of",
    "write_labels",
    "write_map",
]

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
#: Every suffix that real numbers can be written to.
MAP_SUFFIXES = (*(suffix for suffix in LABEL_SUFFIXES if suffix != ".png"), ".npy")


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
    labels = labels.astype(np.uint8) if labels.dtype.kind == "b" else labels
    _write("labels", "save_labels", Path(path), labels, like, LABEL_SUFFIXES)


def write_map(path: str | os.PathLike[str], values: NDArray[Any], like: Image) -> None:
    """Write real numbers, such as the weights of a loss, so that they lie on an image, with its geometry.

    The old file, if there is one, stays until the new one is complete, on disk and read back.

    Parameters
    ----------
    path : path
        One of `MAP_SUFFIXES`. The same format as the image keeps its header geometry bit for bit; ``.npy`` keeps none.
    values : ndarray of float
        Shape ``like.spatial_shape``, axes as in `like`, all finite. Stored as float32.
    like : Image
        The image, or the labels, that the map belongs to.

    Raises
    ------
    FileError
        If `path` is the image itself, cannot be written, or cannot hold real numbers.
    ValueError
        If shape, type or values do not fit.
    """
    values = np.asarray(values)
    if values.dtype.kind != "f":
        raise ValueError(f"a map must hold real numbers, got {values.dtype}")
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    if not np.isfinite(single).all():
        raise ValueError("a map must be finite, in single precision")
    _write("a map", "save_map", Path(path), single, like, MAP_SUFFIXES)


def _write(
    what: str, function: str, path: Path, values: NDArray[Any], like: Image, suffixes: tuple[str, ...]
) -> None:
    """Check what every format needs, and hand over to the module of the suffix."""
    verb = "have" if what == "labels" else "has"
    if values.shape != like.spatial_shape:
        raise ValueError(f"{what} {verb} shape {values.shape}, the image {like.spatial_shape}")
    if 0 in values.shape:
        raise ValueError(f"{what} {'are' if verb == 'have' else 'is'} empty: shape {values.shape}")
    suffix = suffix_of(path)
    if suffix not in suffixes:
        known = suffix or "a file without a suffix"
        raise FileError(path, f"{what} cannot be written as {known}", "Use one of " + " ".join(suffixes))
    if like.source is not None and _same(path, like.source.path):
        raise FileError(path, f"is the image itself; {what} would overwrite it", "Choose another name")
    if suffix == ".npy":
        _save_npy(path, values)
        return
    module = import_module(f"napari_ctxseg.io.{SUPPORTED[suffix]}")
    try:
        getattr(module, function)(path, values, like, suffix=suffix)
    except CtxsegError:
        raise
    except Exception as error:
        raise FileError(
            path, f"cannot be written: {error or type(error).__name__}", "Try another format"
        ) from error


def _save_npy(path: Path, values: NDArray[Any]) -> None:
    def writer(temp: Path) -> None:
        with open(temp, "wb") as file:
            np.save(file, np.ascontiguousarray(values), allow_pickle=False)

    def check(temp: Path) -> None:
        must_equal(path, np.load(temp, allow_pickle=False), values)

    write_atomic(path, writer, check=check, suffix=".npy")


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
