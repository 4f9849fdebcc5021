"""The text header of a MetaImage: parsed and checked before anything is done with it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg.errors import FileError
from napari_ctxseg.io import _common

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

TYPES = {
    "CHAR": "i1", "UCHAR": "u1", "SHORT": "i2", "USHORT": "u2", "INT": "i4", "UINT": "u4", "LONG": "i4",
    "ULONG": "u4", "LONG_LONG": "i8", "ULONG_LONG": "u8", "FLOAT": "f4", "DOUBLE": "f8",
}  # fmt: skip
#: One meaning, several spellings; the first one found is used.
SPACING = ("ElementSpacing", "ElementSize")
_OFFSET = ("Offset", "Position", "Origin")
_MATRIX = ("TransformMatrix", "Rotation", "Orientation")
_MSB = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
#: Lines that place the grid in the world; kept word for word when labels are written.
GEOMETRY = (*SPACING, *_OFFSET, *_MATRIX, "CenterOfRotation", "AnatomicalOrientation", "DistanceUnits")


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
    n = integer(path, "NDims", need("NDims"))
    if not 2 <= n <= 4:
        raise FileError(path, f"has {n} axes", "Two to four can be read")
    shape = tuple(integer(path, "DimSize", word) for word in need("DimSize").split())
    if len(shape) != n:
        raise _common.damaged(path, f"NDims is {n}, but DimSize is {fields['DimSize']!r}")
    _common.check_shape(path, shape)
    if not _flag(path, "BinaryData", fields.get("BinaryData", "True")):
        raise FileError(path, "holds its voxels as text (BinaryData = False)", "Save it as binary")
    name = need("ElementType").removeprefix("MET_").removesuffix("_ARRAY")
    if name not in TYPES:
        raise FileError(
            path, f"has ElementType {fields['ElementType']!r}", "Convert it to integers or real numbers"
        )
    big = [_flag(path, key, fields[key]) for key in _MSB if key in fields]
    if len(set(big)) > 1:
        raise _common.damaged(path, "the header gives two byte orders")
    channels = integer(path, "ElementNumberOfChannels", fields.get("ElementNumberOfChannels", "1"))
    if channels < 1:
        raise _common.damaged(path, f"{channels} channels")
    spacing = _numbers(path, fields, SPACING, n, (1.0,) * n)
    if min(spacing) <= 0:
        raise _common.damaged(path, f"voxel size {spacing}")
    matrix = np.array(_numbers(path, fields, _MATRIX, n * n, tuple(np.eye(n).ravel()))).reshape(n, n).T
    if abs(np.linalg.det(matrix)) < 1e-4:
        raise _common.damaged(path, "its axes are not independent (singular TransformMatrix)")
    skip = integer(path, "HeaderSize", fields.get("HeaderSize", "0"))
    if skip < -1:
        raise _common.damaged(path, f"HeaderSize {skip}")
    return MetaHeader(
        fields, shape, channels, np.dtype((">" if any(big) else "<") + TYPES[name]), spacing,
        _numbers(path, fields, _OFFSET, n, (0.0,) * n), matrix,
        _flag(path, "CompressedData", fields.get("CompressedData", "False")), skip,
        _data_name(path, need("ElementDataFile")),
    )  # fmt: skip


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


def integer(path: Path, key: str, word: str) -> int:
    """Parse a whole number strictly: digits, at most 18 of them.

    Raises
    ------
    FileError
        If `word` is anything else.
    """
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
