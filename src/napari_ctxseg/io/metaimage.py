"""MetaImage (`.mha`, `.mhd`). The header is read here, because it names a file: only a neighbour will do."""

from __future__ import annotations

import re
import zlib
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_ctxseg.atomic import write_atomic
from napari_ctxseg.errors import FileError
from napari_ctxseg.image import Image, Source
from napari_ctxseg.io import _common, geometry
from napari_ctxseg.io.metaimage_header import GEOMETRY, SPACING, TYPES, MetaHeader, integer, parse_header

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

_NAMES = {np.dtype(code): name for name, code in TYPES.items() if "LONG" not in name or code.endswith("8")}
_UNITS = {"mm": "mm", "um": "um", "cm": "cm", "?": "pixel", "": "mm"}
_MAX_HEADER = 1 << 16


def load(path: Path, size: int, *, labels: bool = False, fourth: Literal["channel"] | None = None) -> Image:
    """Read one image.

    Parameters
    ----------
    path : Path
        A plain file.
    size : int
        Its size in bytes.
    labels : bool
        Read integers.
    fourth : "channel", optional
        What a fourth axis means.

    Returns
    -------
    Image
        Axes ``zyx`` or ``yx``, with a leading ``c`` for channels; affine in LPS.

    Raises
    ------
    FileError
        If the file is damaged, too large, names voxels elsewhere, or would have to be guessed at.
    """
    header, grid = _load_grid(path, size)
    n, notes = len(header.shape), []
    if header.channels > 1 and labels:
        raise FileError(
            path, f"holds {header.channels} values per voxel", "A label file holds one integer per voxel"
        )
    names: tuple[str, ...] = ()
    if header.channels > 1:
        grid = np.moveaxis(grid, -1, 0)
        names = tuple(f"channel {i}" for i in range(header.channels))
    if n == 4:
        grid, names = _fourth(path, header, grid, names, labels, fourth)
        n = 3
    if not any(key in header.fields for key in SPACING):
        notes.append("The header names no voxel size; 1.0 was taken.")
    # MetaImage is LPS by definition; its directions are the columns of the matrix.
    raw = path if header.data == "LOCAL" else path.with_name(header.data)
    affine = np.eye(n + 1)
    affine[:n, :n] = header.matrix[:n, :n] * header.spacing[:n]
    affine[:n, n] = header.offset[:n]
    if not geometry.usable(affine):
        raise _common.damaged(path, "its axes are not independent (singular TransformMatrix)")
    order, flips = geometry.nearest_lps(affine)
    turned = geometry.turn(grid, order, flips)  # a view; copied once, in the next line
    array, more = (_common.tidy_labels if labels else _common.tidy_image)(path, turned)
    turned_affine = geometry.turned_affine(affine, header.shape[:n], order, flips)
    return Image(
        array,
        ("c" if names else "") + "tzyx"[-n:],
        geometry.steps_of(turned_affine),
        turned_affine,
        names,
        _UNITS.get(header.fields.get("DistanceUnits", "").lower(), "mm"),
        Source(
            path, "metaimage", order, flips, {"fields": header.fields, "ndim": len(header.shape), "raw": raw}
        ),
        (*notes, *more),
    )


def voxel_file(path: Path) -> Path | None:
    """The file of the voxels where they are not in the header's own.

    Raises
    ------
    FileError
        If the header is damaged, or names a file elsewhere.
    """
    data = parse_header(path, _split(path)[0]).data
    return None if data == "LOCAL" else path.with_name(data)


def save_labels(path: Path, labels: NDArray[Any], like: Image, *, suffix: str) -> None:
    """Write labels on the grid of `like`, zlib-compressed.

    Parameters
    ----------
    path : Path
        With ``.mhd`` the voxels go to a ``.zraw`` file of the same stem.
    labels : ndarray of integers
        Shape ``like.spatial_shape``.
    like : Image
        If it came from a MetaImage, the lines of its geometry are written back word for word.
    suffix : str
        ``".mha"`` or ``".mhd"``.

    Raises
    ------
    FileError
        If it cannot be written, or does not read back the same.
    """
    save_map(path, _common.shrink(labels), like, suffix=suffix)


def save_map(path: Path, values: NDArray[Any], like: Image, *, suffix: str) -> None:
    """Write values of any number type on the grid of `like`; otherwise as `save_labels`."""
    path, source = path.resolve(), like.source  # the two files of a pair must end up in one folder
    grid, lines = _source_lines(values, like) or (values.T, _lines_from(like))
    grid = grid.astype(grid.dtype.newbyteorder("<"), copy=False)
    packed = zlib.compress(grid.tobytes(order="F"), 6)
    raw = path.with_name(path.name[: -len(suffix)] + ".zraw")
    fields = {
        "ObjectType": "Image", "NDims": str(values.ndim), "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False", "CompressedData": "True",
        "CompressedDataSize": str(len(packed)), **lines,
        "DimSize": " ".join(map(str, grid.shape)), "ElementType": f"MET_{_NAMES[grid.dtype]}",
        "ElementDataFile": "LOCAL" if suffix == ".mha" else raw.name,
    }  # fmt: skip
    head = "".join(f"{key} = {value}\n" for key, value in fields.items()).encode("utf-8", "surrogateescape")

    def check(temp: Path) -> None:
        _common.must_equal(path, _load_grid(temp, temp.stat().st_size)[1], grid)

    if suffix == ".mha":
        write_atomic(path, _bytes_writer(head + packed), check=check, suffix=suffix)
        return
    if source is not None and raw.resolve() == source.header.get("raw", source.path).resolve():
        raise FileError(path, f"would overwrite the image's own voxels in {raw.name}", "Choose another name")
    # Voxels first: should the second step never come, the old header meets data of another compressed size.
    write_atomic(raw, _bytes_writer(packed), check=lambda temp: _same_bytes(raw, temp, packed))
    write_atomic(path, _bytes_writer(head), check=check, suffix=suffix)


def _bytes_writer(data: bytes) -> Callable[[Path], None]:
    def writer(temp: Path) -> None:
        with open(temp, "wb") as file:
            file.write(data)

    return writer


def _same_bytes(path: Path, temp: Path, data: bytes) -> None:
    if temp.read_bytes() != data:
        raise FileError(
            path, "what was written does not read back the same", "Check the disk, then try again"
        )


def _split(path: Path) -> tuple[str, int]:
    """Text of the header and the byte where it ends."""
    with open(path, "rb") as file:
        block = file.read(_MAX_HEADER)
    found = re.search(rb"^[ \t]*ElementDataFile[ \t]*=[^\n]*(\n|\Z)", block, re.MULTILINE)
    if found is None:
        raise FileError(
            path, "is not a MetaImage, or is cut short: no ElementDataFile line", "Check the file"
        )
    return block[: found.end()].decode("utf-8", "surrogateescape"), found.end()


def _load_grid(path: Path, size: int) -> tuple[MetaHeader, NDArray[Any]]:
    """Header and voxels in file order (channels last), nothing turned."""
    text, end = _split(path)
    header = parse_header(path, text)
    need = _common.check_memory(path, (*header.shape, header.channels), header.dtype.itemsize)
    if header.data == "LOCAL":
        data, start = path, end + max(header.skip, 0)
    else:
        data, size = _common.plain_file(path.with_name(header.data))
        start = max(header.skip, 0)
        if data.samefile(path):
            raise _common.damaged(path, "it names itself as the file of its voxels")
    if header.skip == -1:
        if header.compressed:
            raise _common.damaged(path, "HeaderSize -1 together with compressed voxels")
        start = size - need
    if start < 0 or start > size:
        raise _common.damaged(path, f"cut short: voxels said to begin at byte {start} of {size}")
    _common.check_stored(path, need, size - start, deflated=header.compressed)
    with open(data, "rb") as file:
        file.seek(start)
        raw = _inflate(path, file.read(), need, header.fields) if header.compressed else file.read(need)
    shape = (header.channels, *header.shape) if header.channels > 1 else header.shape
    grid = np.frombuffer(raw, header.dtype, prod(shape)).reshape(shape, order="F")
    return header, np.moveaxis(grid, 0, -1) if header.channels > 1 else grid


def _inflate(path: Path, packed: bytes, need: int, fields: dict[str, str]) -> bytes:
    told = integer(path, "CompressedDataSize", fields.get("CompressedDataSize", str(len(packed))))
    if told and told != len(packed):
        raise _common.damaged(path, f"{len(packed)} compressed bytes where the header says {told}")
    try:
        stream = zlib.decompressobj()
        raw = stream.decompress(packed, need + 1)
        if len(raw) == need and not stream.eof:
            raw += stream.decompress(
                stream.unconsumed_tail, 1
            )  # the checksum is compared only at the very end
    except zlib.error as error:
        raise _common.damaged(path, error) from error
    if len(raw) != need or not stream.eof:
        raise _common.damaged(path, f"its compressed voxels do not unpack to {need} bytes")
    return raw


def _fourth(
    path: Path,
    header: MetaHeader,
    grid: NDArray[Any],
    names: tuple[str, ...],
    labels: bool,
    fourth: str | None,
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Resolve a fourth axis: the last of the grid, the channels of which are in front by now."""
    count = header.shape[3]
    if count == 1:
        return grid[..., 0], names
    if labels:
        raise FileError(path, f"holds {count} volumes", "A label file holds one")
    if names:
        raise FileError(path, "has both channels and a fourth axis", "Split it into one volume per file")
    if fourth != "channel":
        raise _common.ask_fourth(path, count, "time points, channels ...")
    return np.moveaxis(grid, -1, 0), tuple(f"channel {i}" for i in range(count))


def _source_lines(labels: NDArray[Any], like: Image) -> tuple[NDArray[Any], dict[str, str]] | None:
    """Labels on the grid of the file behind an image, and its geometry lines; None if there is no such."""
    source = like.source
    if source is None or source.format != "metaimage" or source.header["ndim"] != labels.ndim:
        return None
    fields = source.header["fields"]
    grid = geometry.turn_back(labels, source.order, source.flips)
    # A cropped or resampled image keeps its source; its place is in the affine then.
    if " ".join(map(str, grid.shape)) != " ".join(fields["DimSize"].split()):
        return None
    return grid, {key: fields[key] for key in fields if key in GEOMETRY}


def _lines_from(like: Image) -> dict[str, str]:
    """Geometry lines for an image of another format."""
    n = len(like.spatial_axes)
    affine = geometry.reverse_axes(like.affine)
    steps = np.linalg.norm(affine[:n, :n], axis=0)
    words = {
        "TransformMatrix": (affine[:n, :n] / steps).T.ravel(),
        "Offset": affine[:n, n],
        "CenterOfRotation": np.zeros(n),
        "ElementSpacing": steps,
    }
    lines = {key: " ".join(repr(float(value)) for value in values) for key, values in words.items()}
    if like.unit != "mm":
        lines["DistanceUnits"] = like.unit if like.unit in _UNITS else "?"
    return lines
