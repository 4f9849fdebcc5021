"""PNG and JPEG: two axes, no geometry. PNG chunks are checked here, because decoders skip the checksums."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any, Literal

import imagecodecs
import numpy as np
import PIL.Image

from napari_ctxseg.atomic import write_atomic
from napari_ctxseg.errors import FileError
from napari_ctxseg.image import Image, Source, plain_affine
from napari_ctxseg.io import _common

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: Samples per pixel by PNG colour type.
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ORIENTATION = 0x0112


def load(path: Path, size: int, *, labels: bool = False, fourth: Literal["channel"] | None = None) -> Image:
    """Read one file.

    Parameters
    ----------
    path : Path
        A plain file.
    size : int
        Its size in bytes.
    labels : bool
        Read integers: of a palette image the indices, of a 2- or 4-bit one the stored values.
    fourth : "channel", optional
        Of no use here; the same signature as the other formats.

    Returns
    -------
    Image
        Axes ``yx``, or ``cyx`` with channels red, green, blue; unit ``"pixel"``.

    Raises
    ------
    FileError
        If the file is damaged, too large, or its colours cannot be labels.
    """
    data = path.read_bytes()
    if data.startswith(_SIGNATURE):
        array, notes = _png(path, data, labels)
    elif data.startswith(b"\xff\xd8\xff"):
        if labels:
            raise FileError(
                path, "is a JPEG, which changes values when it is saved", "Save labels as PNG or TIFF"
            )
        array, notes = _jpeg(path, data)
    else:
        raise FileError(path, "is neither a PNG nor a JPEG", "Check that the file is what its name says")
    if labels and array.ndim > 2:
        raise FileError(
            path, f"holds {array.shape[2]} colours per pixel", "Save labels as one integer per pixel"
        )
    array, more = (_common.tidy_labels if labels else _common.tidy_image)(path, array)
    source = Source(path, "png", (0, 1), (False, False))
    flat = plain_affine((1.0, 1.0))
    if array.ndim == 2:
        return Image(array, "yx", (1.0, 1.0), flat, (), "pixel", source, (*notes, *more))
    array = np.ascontiguousarray(np.moveaxis(array, -1, 0))
    names = ("red", "green", "blue")
    return Image(array, "cyx", (1.0, 1.0), flat, names, "pixel", source, (*notes, *more))


def save_labels(path: Path, labels: NDArray[Any], like: Image, *, suffix: str) -> None:
    """Write labels as a grey PNG with 8 or 16 bits.

    Parameters
    ----------
    path : Path
        Ends in `suffix`.
    labels : ndarray of integers, shape (y, x)
        Values 0 to 65535.
    like : Image
        Of no use here: PNG keeps no geometry.
    suffix : str
        ``".png"``.

    Raises
    ------
    FileError
        If the labels do not fit a PNG, cannot be written, or do not read back the same.
    """
    if labels.ndim != 2:
        raise FileError(path, f"labels have {labels.ndim} axes, a PNG has two", "Save them as TIFF or NIfTI")
    labels = _common.shrink(labels)
    if labels.dtype not in (np.uint8, np.uint16):
        raise FileError(
            path,
            f"label values {labels.min()} to {labels.max()} do not fit a PNG (0 to 65535)",
            "Save them as TIFF",
        )
    labels = np.ascontiguousarray(labels)
    data = imagecodecs.png_encode(labels)

    def writer(temp: Path) -> None:
        with open(temp, "wb") as file:
            file.write(data)

    def check(temp: Path) -> None:
        _common.must_equal(path, _png(temp, temp.read_bytes(), True)[0], labels)

    write_atomic(path, writer, check=check, suffix=suffix)


def _png(path: Path, data: bytes, labels: bool) -> tuple[NDArray[Any], tuple[str, ...]]:
    width, height, bits, colour = _chunks(path, data)
    if colour not in _SAMPLES:
        raise _common.damaged(path, f"PNG colour type {colour}")
    _common.check_memory(path, (height, width, 4), 2 if bits == 16 else 1)
    _common.check_stored(path, (width * bits * _SAMPLES[colour] + 7) // 8 * height, len(data), deflated=True)
    image = _pillow(path, data, "PNG")
    notes = _exif_note(image)
    if colour == 3:
        # A palette may stand for labels or for colours; which one, the caller said.
        if labels:
            return np.asarray(image), notes
        transparent = "transparency" in image.info
        return np.asarray(image.convert("RGB")), (
            *notes,
            *(["The alpha channel was dropped."] if transparent else []),
        )
    array = imagecodecs.png_decode(data) if bits == 16 else np.asarray(image)
    if array.shape[:2] != (height, width):
        raise _common.damaged(path, f"{array.shape[:2]} pixels where {height} x {width} were announced")
    if labels and bits in (2, 4):
        array = array // (255 // (2**bits - 1))  # decoders stretch grey values to 8 bits
    if colour in (4, 6):
        array = array[..., 0] if colour == 4 else array[..., :3]
        notes = (*notes, "The alpha channel was dropped.")
    return array, notes


def _chunks(path: Path, data: bytes) -> tuple[int, int, int, int]:
    """Walk all chunks and their checksums; return width, height, bit depth and colour type."""
    seen: list[bytes] = []
    at = len(_SIGNATURE)
    header = b""
    while at < len(data):
        if at + 12 > len(data):
            raise _common.damaged(path, "cut short within a chunk")
        length, kind = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            raise _common.damaged(path, f"cut short within chunk {kind!r}")
        body = data[at + 4 : at + 8 + length]
        (checksum,) = struct.unpack_from(">I", data, at + 8 + length)
        if zlib.crc32(body) != checksum:
            raise _common.damaged(path, f"wrong checksum in chunk {kind!r}")
        if not seen:
            header = body[4:]
        seen.append(kind)
        at += 12 + length
        if kind == b"IEND":
            break
    if not seen or seen[0] != b"IHDR" or len(header) != 13 or seen[-1] != b"IEND" or b"IDAT" not in seen:
        raise _common.damaged(path, "cut short: not all of a PNG is there")
    width, height, bits, colour = struct.unpack_from(">IIBB", header)
    return width, height, bits, colour


def _jpeg(path: Path, data: bytes) -> tuple[NDArray[Any], tuple[str, ...]]:
    image = _pillow(path, data, "JPEG", decode=False)
    _common.check_memory(path, (image.height, image.width, 3), 1)
    # Within the compressed stream 0xFF is always followed by 0 or a restart marker, so this is the real end.
    if data.find(b"\xff\xd9", data.rfind(b"\xff\xda")) < 0:
        raise _common.damaged(path, "cut short: no end marker")
    image.load()
    if image.mode not in ("L", "RGB"):
        raise FileError(path, f"has colours of type {image.mode}", "Save it as grey or RGB")
    return np.asarray(image), _exif_note(image)


def _pillow(path: Path, data: bytes, kind: str, *, decode: bool = True) -> PIL.Image.Image:
    import io

    try:
        image = PIL.Image.open(io.BytesIO(data), formats=[kind])
        if decode:
            image.load()
    except PIL.Image.DecompressionBombError as error:
        raise FileError(path, f"is too large for one PNG or JPEG ({error})", "Save it as TIFF") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise _common.damaged(path, error) from error
    return image


def _exif_note(image: PIL.Image.Image) -> tuple[str, ...]:
    turned = image.getexif().get(_ORIENTATION, 1)
    if turned in (0, 1):
        return ()
    return (f"The file asks viewers to turn it (EXIF orientation {turned}); pixels were read as stored.",)
