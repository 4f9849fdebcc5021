"""MetaImage (`.mha`, `.mhd`). The header is read here, because it names a file: only a neighbour will do."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_ctxseg.atomic import write_atomic
from napari_ctxseg.errors import FileError
from napari_ctxseg.image import Image, Source
from napari_ctxseg.io import _common, geometry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

_TYPES = {
    "CHAR": "i1", "UCHAR": "u1", "SHORT": "i2", "USHORT": "u2", "INT": "i4", "UINT": "u4", "LONG": "i4",
    "ULONG": "u4", "LONG_LONG": "i8", "ULONG_LONG": "u8", "FLOAT": "f4", "DOUBLE": "f8",
}  # fmt: skip
_NAMES = {np.dtype(code): name for name, code in _TYPES.items() if "LONG" not in name or code.endswith("8")}
#: One meaning, several spellings; the first one found is used.
_SPACING = ("ElementSpacing", "ElementSize")
_OFFSET = ("Offset", "Position", "Origin")
_MATRIX = ("TransformMatrix", "Rotation", "Orientation")
_MSB = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
#: Lines that place the grid in the world; kept word for word when labels are written.
GEOMETRY = (*_SPACING, *_OFFSET, *_MATRIX, "CenterOfRotation", "AnatomicalOrientation", "DistanceUnits")
_UNITS = {"mm": "mm", "um": "um", "cm": "cm", "?": "mm", "": "mm"}
_MAX_HEADER = 1 << 16


@dataclass(frozen=True)
class MetaHeader:
    """A parsed and checked header.

    Parameters
    ----------
    fields : dict
        Key to value, both as in the file, in its order.
    shape : tuple of int
        ``DimSize``, fastest axis first.
    channels : int
        Values per voxel.
    dtype : numpy.dtype
        With the byte order of the file.
    spacing, offset : tuple of float
        One per axis of `shape`.
    matrix : ndarray, shape (n, n)
        Column i is the direction of axis i.
    compressed : bool
        Whether the voxels are zlib-compressed.
    skip : int
        Bytes before the voxels in a separate file; -1: the voxels are its end.
    data : str
        ``"LOCAL"`` or the bare name of a file in the same folder.
    """

    fields: dict[str, str]
    shape: tuple[int, ...]
    channels: int
    dtype: np.dtype[Any]
    spacing: tuple[float, ...]
    offset: tuple[float, ...]
    matrix: NDArray[np.float64]
    compressed: bool
    skip: int
    data: str


def parse_header(path: Path, text: str) -> MetaHeader:
    """Parse the text of a header, up to and including the ``ElementDataFile`` line.

    Parameters
    ----------
    path : Path
        For messages.
    text : str
        ``Key = value`` lines.

    Raises
    ------
    FileError
        If a line is no such line, a key comes twice, a needed one is missing, or a value makes no sense.
    """
    fields = _fields(path, text)

    def need(key: str) -> str:
        if key not in fields:
            raise _common.damaged(path, f"the header has no {key}")
        return fields[key]

    if fields.get("ObjectType", "Image").lower() != "image":
        raise FileError(path, f"is a MetaIO {fields['ObjectType']}, not an image", "Choose an image")
    n = _integer(path, "NDims", need("NDims"))
    if not 2 <= n <= 4:
        raise FileError(path, f"has {n} axes", "Two to four can be read")
    shape = tuple(_integer(path, "DimSize", word) for word in need("DimSize").split())
    if len(shape) != n:
        raise _common.damaged(path, f"NDims is {n}, but DimSize is {fields['DimSize']!r}")
    _common.check_shape(path, shape)
    if not _flag(path, "BinaryData", fields.get("BinaryData", "True")):
        raise FileError(path, "holds its voxels as text (BinaryData = False)", "Save it as binary")
    name = need("ElementType").removeprefix("MET_").removesuffix("_ARRAY")
    if name not in _TYPES:
        raise FileError(
            path, f"has ElementType {fields['ElementType']!r}", "Convert it to integers or real numbers"
        )
    big = [_flag(path, key, fields[key]) for key in _MSB if key in fields]
    if len(set(big)) > 1:
        raise _common.damaged(path, "the header gives two byte orders")
    channels = _integer(path, "ElementNumberOfChannels", fields.get("ElementNumberOfChannels", "1"))
    if channels < 1:
        raise _common.damaged(path, f"{channels} channels")
    spacing = _numbers(path, fields, _SPACING, n, (1.0,) * n)
    if min(spacing) <= 0:
        raise _common.damaged(path, f"voxel size {spacing}")
    matrix = np.array(_numbers(path, fields, _MATRIX, n * n, tuple(np.eye(n).ravel()))).reshape(n, n).T
    if abs(np.linalg.det(matrix)) < 1e-4:
        raise _common.damaged(path, "its axes are not independent (singular TransformMatrix)")
    skip = _integer(path, "HeaderSize", fields.get("HeaderSize", "0"))
    if skip < -1:
        raise _common.damaged(path, f"HeaderSize {skip}")
    return MetaHeader(
        fields, shape, channels, np.dtype((">" if any(big) else "<") + _TYPES[name]), spacing,
        _numbers(path, fields, _OFFSET, n, (0.0,) * n), matrix,
        _flag(path, "CompressedData", fields.get("CompressedData", "False")), skip,
        _data_name(path, need("ElementDataFile")),
    )  # fmt: skip


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
    if not any(key in header.fields for key in _SPACING):
        notes.append("The header names no voxel size; 1.0 was taken.")
    # MetaImage is LPS by definition; its directions are the columns of the matrix.
    raw = path if header.data == "LOCAL" else path.with_name(header.data)
    affine = np.eye(n + 1)
    affine[:n, :n] = header.matrix[:n, :n] * header.spacing[:n]
    affine[:n, n] = header.offset[:n]
    if not geometry.usable(affine):
        raise _common.damaged(path, "its axes are not independent (singular TransformMatrix)")
    array, more = (_common.tidy_labels if labels else _common.tidy_image)(path, grid)
    shape = header.shape[:n]
    order, flips = geometry.nearest_lps(affine)
    turned_affine = geometry.turned_affine(affine, shape, order, flips)
    return Image(
        np.ascontiguousarray(geometry.turn(array, order, flips)),
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
    source, n = like.source, len(like.spatial_axes)
    if source is not None and source.format == "metaimage" and source.header["ndim"] == n:
        grid = geometry.turn_back(labels, source.order, source.flips)
        lines = {key: source.header["fields"][key] for key in source.header["fields"] if key in GEOMETRY}
    else:
        grid, lines = labels.T, _lines_from(like)
    grid = _common.shrink(grid)
    grid = grid.astype(grid.dtype.newbyteorder("<"), copy=False)
    packed = zlib.compress(grid.tobytes(order="F"), 6)
    raw = path.with_name(path.name[: -len(suffix)] + ".zraw")
    fields = {
        "ObjectType": "Image", "NDims": str(n), "BinaryData": "True", "BinaryDataByteOrderMSB": "False",
        "CompressedData": "True", "CompressedDataSize": str(len(packed)), **lines,
        "DimSize": " ".join(map(str, grid.shape)), "ElementType": f"MET_{_NAMES[grid.dtype]}",
        "ElementDataFile": "LOCAL" if suffix == ".mha" else raw.name,
    }  # fmt: skip
    head = "".join(f"{key} = {value}\n" for key, value in fields.items()).encode("latin-1")

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


def _fields(path: Path, text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, equals, value = (part.strip() for part in line.partition("="))
        if not line.strip():
            continue
        if not equals or not re.fullmatch(r"[A-Za-z][\w.-]*", key):
            raise FileError(path, f"is not a MetaImage: {line[:40]!r} is no header line", "Check the file")
        if key in fields:
            raise _common.damaged(path, f"the header gives {key} twice")
        fields[key] = value
    return fields


def _integer(path: Path, key: str, word: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", word):
        raise _common.damaged(path, f"{key} is {word!r}")
    return int(word)


def _numbers(
    path: Path, fields: dict[str, str], keys: tuple[str, ...], count: int, default: tuple[float, ...]
) -> tuple[float, ...]:
    key = next((key for key in keys if key in fields), None)
    if key is None:
        return default
    try:
        values = tuple(float(word) for word in fields[key].split())
    except ValueError:
        values = ()
    if len(values) != count or not np.isfinite(values).all():
        raise _common.damaged(path, f"{key} should be {count} numbers, is {fields[key]!r}")
    return values


def _flag(path: Path, key: str, word: str) -> bool:
    if word.lower() in ("true", "t", "1"):
        return True
    if word.lower() in ("false", "f", "0"):
        return False
    raise _common.damaged(path, f"{key} is {word!r}")


def _data_name(path: Path, name: str) -> str:
    """Accept LOCAL or a bare file name: a header from elsewhere must not reach into other folders."""
    if name.upper() == "LOCAL":
        return "LOCAL"
    if name.split(" ")[0].upper() == "LIST" or "%" in name:
        raise FileError(path, f"spreads its voxels over several files ({name!r})", "Save it as one .mha file")
    if not name or name in (".", "..") or any(sign in name for sign in '/\\:\0"'):
        raise FileError(
            path, f"names voxels outside its own folder ({name!r})", "Put both files into one folder"
        )
    return name


def _split(path: Path) -> tuple[str, int]:
    """Text of the header and the byte where it ends."""
    with open(path, "rb") as file:
        block = file.read(_MAX_HEADER)
    found = re.search(rb"^[ \t]*ElementDataFile[ \t]*=[^\n]*(\n|\Z)", block, re.MULTILINE)
    if found is None:
        raise FileError(
            path, "is not a MetaImage, or is cut short: no ElementDataFile line", "Check the file"
        )
    return block[: found.end()].decode("latin-1"), found.end()


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
    told = _integer(path, "CompressedDataSize", fields.get("CompressedDataSize", str(len(packed))))
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
    if like.unit in ("um", "cm"):
        lines["DistanceUnits"] = like.unit
    return lines
