"""Label arrays as zarr v3 on a local disk, each chunk replaced as a whole and carrying its own checksum."""

from __future__ import annotations

import shutil
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.storage import LocalStore

from napari_ctxseg.atomic import write_bytes_atomic
from napari_ctxseg.errors import FileError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from zarr.core.buffer import Buffer

#: 2-D images with more pixels than this are cut into tiles, so that a stroke rewrites little.
WHOLE, TILE = 1 << 20, 512
META = "zarr.json"


class DamagedChunkError(FileError):
    """A piece of labels whose checksum does not fit, or that is missing.

    Parameters
    ----------
    path : Path
        The labels.
    index : int
        Number of the chunk: for a volume, the slice along its first axis.
    reason, remedy : str
        As `FileError`.
    """

    def __init__(self, path: Path, index: int, reason: str, remedy: str = "") -> None:
        super().__init__(path, reason, remedy)
        self.path, self.index = path, index

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.index, self.reason, self.remedy)


class ChunkFolder(LocalStore):
    """Zarr's folder store, except that what it writes is on disk before it takes its name.

    Zarr 3.1 renames a temporary file too but does not force it to disk, leaves it behind when it is killed, and makes the
    folder anew when a drive has vanished. The names themselves are forced to disk by whoever writes, once for many chunks.
    """

    async def set(self, key: str, value: Buffer) -> None:
        """Write one key."""
        self.set_sync(key, value)

    def set_sync(self, key: str, value: Buffer) -> None:
        """Write one key."""
        self._check_writable()
        write_bytes_atomic(self.root / key, value.to_bytes(), sync=False)


def chunk_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """One slice of a volume; a small image whole, a large one in tiles."""
    if len(shape) > 2:
        return (1, *shape[1:])
    return shape if prod(shape) <= WHOLE else tuple(min(TILE, n) for n in shape)


def smallest_dtype(value: int) -> np.dtype[Any]:
    """Smallest unsigned type that holds a value.

    Raises
    ------
    ValueError
        If none does, or the value is negative.
    """
    if not 0 <= value < 2**32:
        raise ValueError(f"the value {value} cannot be stored: labels are 0 to {2**32 - 1}")
    return np.dtype(np.min_scalar_type(value))


def create_array(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> zarr.Array[Any]:
    """Make an empty array in a folder that exists."""
    return _create(ChunkFolder(path), shape, dtype, chunk_shape(shape))


def _create(store: Any, shape: tuple[int, ...], dtype: Any, chunks: tuple[int, ...]) -> zarr.Array[Any]:
    return zarr.create_array(
        store=store,
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        fill_value=0,
        compressors=[ZstdCodec(level=1), Crc32cCodec()],
        # All chunks lie in one folder: one sync of it makes all their names safe.
        chunk_key_encoding={"name": "default", "separator": "."},
        # An erased slice is a chunk of zeros. A chunk that is not there has never been written, or is lost.
        config={"write_empty_chunks": True},
    )


def open_array(path: Path, *, read_only: bool) -> zarr.Array[Any]:
    """Open an array.

    Raises
    ------
    FileError
        If it is not there, damaged, or something else.
    """
    if not (path / META).is_file():
        raise FileError(path, "holds no labels", "Check the drive, or restore the folder from a backup")
    try:
        array = zarr.open_array(ChunkFolder(path, read_only=read_only), mode="r" if read_only else "r+")
    except Exception as error:
        raise FileError(
            path / META,
            f"is damaged ({type(error).__name__})",
            f"Take an earlier state: `ctxseg project restore PROJECT --image {path.name.removesuffix('.zarr')}`",
        ) from error
    if array.dtype.kind != "u" or not 2 <= array.ndim <= 3:
        raise FileError(
            path / META, f"says {array.dtype}, {array.shape}: no labels", "Restore it from a backup"
        )
    return array.with_config({"write_empty_chunks": True})


class Grid:
    """How an array is cut into numbered chunks, in row-major order.

    Parameters
    ----------
    shape, chunks : tuple of int
        Of the array and of one chunk.
    """

    def __init__(self, shape: tuple[int, ...], chunks: tuple[int, ...]) -> None:
        self.shape, self.chunks = shape, chunks
        self.counts = tuple(-(-n // c) for n, c in zip(shape, chunks, strict=True))

    def __len__(self) -> int:
        return prod(self.counts)

    def box(self, index: int) -> tuple[slice, ...]:
        """Where a chunk lies."""
        places = np.unravel_index(index, self.counts)
        return tuple(
            slice(int(i) * c, min((int(i) + 1) * c, n))
            for i, c, n in zip(places, self.chunks, self.shape, strict=True)
        )

    def key(self, index: int) -> str:
        """Name of a chunk's file."""
        return ".".join(["c", *(str(int(i)) for i in np.unravel_index(index, self.counts))])

    def within(self, box: tuple[slice, ...]) -> set[int]:
        """Chunks that a box of the array touches."""
        limits = [s.indices(n)[:2] for s, n in zip(box, self.shape, strict=True)]
        if any(stop <= start for start, stop in limits):
            return set()
        ranges = [range(a // c, -(-b // c)) for (a, b), c in zip(limits, self.chunks, strict=True)]
        grid = np.meshgrid(*ranges, indexing="ij")
        return {int(i) for i in np.ravel_multi_index([g.ravel() for g in grid], self.counts)}


def read_chunk(path: Path, grid: Grid, index: int) -> NDArray[Any]:
    """Read one chunk of the array in a folder and check it.

    Raises
    ------
    DamagedChunkError
        If it is missing or its checksum does not fit.
    """
    array = open_array(path, read_only=True)
    return checked(array, path, grid, index)


def checked(array: zarr.Array[Any], path: Path, grid: Grid, index: int) -> NDArray[Any]:
    """One chunk of an open array, checked."""
    if not (path / grid.key(index)).is_file():
        raise DamagedChunkError(path, index, f"{chunk_name(grid, index)} is missing")
    try:
        return np.asarray(array[grid.box(index)])
    except (ValueError, RuntimeError, OSError) as error:
        raise DamagedChunkError(path, index, f"{chunk_name(grid, index)} is damaged") from error


def chunk_name(grid: Grid, index: int) -> str:
    """What a person calls a chunk."""
    if len(grid.shape) > 2:
        return f"slice {index}"
    return "the image" if len(grid) == 1 else f"tile {index}"


def remove_folder(path: Path) -> None:
    """Remove a folder of ours, if it is there."""
    shutil.rmtree(path, ignore_errors=True)
