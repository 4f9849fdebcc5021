"""Checks that every format shares: before anything is allocated, and on the values afterwards."""

from __future__ import annotations

import stat
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from napari_ctxseg.errors import FileError

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

#: Deflate cannot shrink data further than this (zlib's own technical notes).
MAX_DEFLATE_RATIO = 1032

_DAMAGED = "Copy the file again from where it came from"


def plain_file(path: str | os.PathLike[str]) -> tuple[Path, int]:
    """Return path and size of a plain file, without opening it: a pipe would block for ever.

    Raises
    ------
    FileError
        If it is missing, empty, or not a plain file.
    """
    try:
        path = Path(path)
        info = path.stat()
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FileError(path, f"cannot be opened: {reason}", "Check the name and the permissions") from error
    if stat.S_ISDIR(info.st_mode):
        raise FileError(path, "is a folder", "Choose a file in it")
    if not stat.S_ISREG(info.st_mode):
        raise FileError(path, "is not a plain file", "Choose an image file")
    if info.st_size == 0:
        raise FileError(path, "is empty (0 bytes)", _DAMAGED)
    return path, info.st_size


def check_shape(path: Path, shape: tuple[int, ...]) -> None:
    """Refuse shapes with an axis of length zero or less."""
    if not shape or min(shape) < 1:
        raise FileError(
            path, f"says its shape is {shape}", "An image needs at least one voxel along each axis"
        )


def check_memory(path: Path, shape: tuple[int, ...], itemsize: int) -> int:
    """Return the number of bytes an array takes, or refuse before it is allocated.

    Parameters
    ----------
    path : Path
        The file, for the message.
    shape : tuple of int
        All axes, channels too.
    itemsize : int
        Bytes per value.
    """
    check_shape(path, shape)
    need = prod(map(int, shape)) * itemsize
    # The raw bytes and the array made of them exist side by side for a moment.
    if 2 * need > psutil.virtual_memory().available:
        raise FileError(
            path,
            f"says its shape is {shape}, which needs {need / 2**30:.1f} GiB, more than half the free memory",
            "Crop the image, or use a machine with more memory",
        )
    return need


def check_stored(path: Path, need: int, stored: int, *, deflated: bool = False) -> None:
    """Refuse data that cannot be as large as the header says.

    Parameters
    ----------
    path : Path
        The file, for the message.
    need : int
        Bytes the header asks for.
    stored : int
        Bytes there are in the file.
    deflated : bool
        Whether these are deflate-compressed.
    """
    limit = stored * MAX_DEFLATE_RATIO if deflated else stored
    if need > limit:
        raise FileError(path, f"is cut short: its header promises {need} bytes, {stored} are there", _DAMAGED)


def damaged(path: Path, why: object) -> FileError:
    """Make the error for a file whose content contradicts itself."""
    return FileError(path, f"is damaged: {why}", _DAMAGED)


def ask_fourth(path: Path, count: int, what: str) -> FileError:
    """Make the error that asks what a fourth axis means."""
    return FileError(
        path,
        f"holds {count} volumes along a fourth axis ({what})",
        'Say fourth="channel" to read them as channels, or split the file into one volume each',
    )


def tidy_image(path: Path, array: NDArray[Any]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Make an array fit to train on: native byte order, no booleans, every value finite.

    Returns
    -------
    array : ndarray
        C-contiguous, native byte order, writable; the input itself where nothing had to change.
    notes : tuple of str
        What was changed.

    Raises
    ------
    FileError
        If it is complex or structured, or more than 1 % of the values are not finite.
    """
    kind = array.dtype.kind
    if kind not in "biuf":
        raise FileError(path, f"holds values of type {array.dtype}", "Convert it to integers or real numbers")
    if kind == "b":
        array = array.astype(np.uint8)
    elif kind == "f" and array.dtype.itemsize not in (4, 8):
        array = array.astype(np.float32 if array.dtype.itemsize < 4 else np.float64)
    array = _own(array)
    if array.dtype.kind != "f":
        return array, ()
    finite = np.isfinite(array)
    bad = array.size - int(np.count_nonzero(finite))
    if not bad:
        return array, ()
    if bad > array.size // 100:
        raise FileError(
            path,
            f"{bad} of {array.size} values are NaN or infinite (more than 1 %)",
            "Mend or mask the image first",
        )
    array = np.where(finite, array, array[finite].min())
    return array, (f"{bad} values were NaN or infinite and were set to the lowest finite value.",)


def tidy_labels(path: Path, array: NDArray[Any]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Make label values integers, without guessing.

    Returns
    -------
    array : ndarray of integers
        C-contiguous, native byte order.
    notes : tuple of str
        What was changed.

    Raises
    ------
    FileError
        If a value is not within 1e-3 of an integer, or the values are not numbers.
    """
    kind = array.dtype.kind
    if kind in "biu":
        array = array.astype(np.uint8) if kind == "b" else array
        return _own(array), ()
    if kind != "f":
        raise FileError(
            path, f"holds values of type {array.dtype}", "A label file holds one integer per voxel"
        )
    rounded = np.rint(array)
    # Written so that NaN and infinity fail too.
    with np.errstate(invalid="ignore"):
        wrong = ~(np.abs(array - rounded) <= 1e-3)
    if wrong.any():
        example = array[wrong].flat[0]
        raise FileError(
            path,
            f"{int(wrong.sum())} values are not integers, for instance {example}",
            "A label file holds one integer per voxel; was it interpolated, or is it an image?",
        )
    if np.abs(rounded).max() > 2**31:
        raise FileError(path, f"holds the value {rounded.flat[np.abs(rounded).argmax()]}", "That is no label")
    low, high = int(rounded.min()), int(rounded.max())
    exact = np.array_equal(rounded, array)
    notes = () if exact else ("Labels were stored as real numbers close to integers; they were rounded.",)
    return np.ascontiguousarray(rounded.astype(smallest_dtype(low, high))), notes


def _own(array: NDArray[Any]) -> NDArray[Any]:
    """C-contiguous, native byte order, writable (what decoders return may be a view of read-only bytes)."""
    return np.require(array, array.dtype.newbyteorder("="), ["C", "W"])


def smallest_dtype(low: int, high: int) -> np.dtype[Any]:
    """Smallest integer type that holds both values; unsigned unless `low` is negative."""
    types = ("u1", "u2", "u4", "u8") if low >= 0 else ("i1", "i2", "i4", "i8")
    for name in types:
        info = np.iinfo(name)
        if info.min <= low and high <= info.max:
            return np.dtype(name)
    raise ValueError(f"no integer type holds both {low} and {high}")


def shrink(labels: NDArray[Any]) -> NDArray[Any]:
    """Return labels in the smallest sufficient integer type."""
    return labels.astype(smallest_dtype(int(labels.min()), int(labels.max())), copy=False)


def must_equal(path: Path, written: NDArray[Any], wanted: NDArray[Any]) -> None:
    """Refuse a file that does not read back as what was meant to be written."""
    if written.shape != wanted.shape or not np.array_equal(written, wanted):
        raise FileError(
            path, "what was written does not read back the same", "Check the disk, then try again"
        )
