"""TIFF: plain, ImageJ and OME, by tifffile, opened for reading only and distrusted about its own length."""

from __future__ import annotations

import logging
import struct
import threading
from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import tifffile

from napari_ctxseg.atomic import write_atomic
from napari_ctxseg.errors import FileError
from napari_ctxseg.image import Image, Source, plain_affine
from napari_ctxseg.io import _common
from napari_ctxseg.io.tiff_scale import Scale, ome_pixels, read_scale

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_DEFLATE = (8, 32946)
_LOGGER = logging.getLogger("tifffile")
#: Axes that tifffile names when the file does not.
_UNNAMED = "IQ"


def load(path: Path, size: int, *, labels: bool = False, fourth: Literal["channel"] | None = None) -> Image:
    """Read one file.

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
        Axes ``yx``, ``zyx`` or ``tyx``, with a leading ``c`` for channels.

    Raises
    ------
    FileError
        If the file is damaged, cut short, too large, spread over several files, or ambiguous.
    """
    with _open(path) as tif:
        ome = ome_pixels(path, tif)
        series, notes = _one_series(path, tif)
        page = series.keyframe
        _check_length(path, tif, series, size, ome)
        grid = series.asarray()
        if grid.shape != series.shape:
            raise _common.damaged(path, f"shape {grid.shape} where {series.shape} was announced")
        scale = read_scale(path, tif, ome)
        alpha = bool(page.extrasamples) and page.extrasamples[0] in (1, 2)
        photometric = page.photometric.name
    grid, axes, names, more = _axes(path, grid, series.axes, alpha, fourth, ome)
    if labels and names:
        raise FileError(
            path, f"holds {len(names)} channels or colours per pixel", "Export one integer per pixel"
        )
    if not labels and photometric == "PALETTE":
        notes.append("The image has a colour table; its index values were taken as grey values.")
    if not labels and photometric == "MINISWHITE":
        notes.append("The file says that 0 is white; values were kept as stored.")
    array, last = (_common.tidy_labels if labels else _common.tidy_image)(path, grid)
    spatial = axes.removeprefix("c")
    steps = tuple(scale.steps[axis] for axis in spatial)
    source = Source(path, "tiff", tuple(range(len(spatial))), (False,) * len(spatial), {"scale": scale})
    return Image(
        array,
        axes,
        steps,
        plain_affine(steps),
        names,
        scale.unit,
        source,
        (*notes, *more, *scale.notes, *last),
    )


def save_labels(path: Path, labels: NDArray[Any], like: Image, *, suffix: str) -> None:
    """Write labels with the resolution, spacing and unit of `like`, zlib-compressed.

    Parameters
    ----------
    path : Path
        Ends in `suffix`.
    labels : ndarray of integers
        Shape ``like.spatial_shape``, written in that order.
    like : Image
        From a TIFF file: same kind (plain, ImageJ, OME), tags kept. From any other: ImageJ if that can hold
        the values, else OME. TIFF has no place for an origin or a direction.
    suffix : str
        ``".tif"``, ``".tiff"``, ``".ome.tif"`` or ``".ome.tiff"``.

    Raises
    ------
    FileError
        If it cannot be written, or does not read back the same.
    """
    save_map(path, _common.shrink(labels), like, suffix=suffix)


def save_map(path: Path, values: NDArray[Any], like: Image, *, suffix: str) -> None:
    """Write values of any number type like `like`; otherwise as `save_labels`."""
    values = np.ascontiguousarray(values)
    scale = _scale_of(like)
    options = scale.options(like.spatial_axes, values.dtype, ome=suffix.startswith(".ome"))

    def writer(temp: Path) -> None:
        tifffile.imwrite(temp, values, compression="zlib", photometric="minisblack", **options)

    def check(temp: Path) -> None:
        whole = values.dtype.kind != "f"
        _common.must_equal(path, load(temp, temp.stat().st_size, labels=whole).array, values)

    write_atomic(path, writer, check=check, suffix=suffix)


def _scale_of(like: Image) -> Scale:
    if like.source is not None and like.source.format == "tiff":
        scale: Scale = like.source.header["scale"]
        return scale
    steps = {
        "t": 1.0,
        "z": 1.0,
        "y": 1.0,
        "x": 1.0,
        **dict(zip(like.spatial_axes, like.spacing, strict=True)),
    }
    return Scale("imagej" if len(like.spacing) > 2 or like.unit != "pixel" else "plain", steps, like.unit)


@contextmanager
def _open(path: Path) -> Iterator[tifffile.TiffFile]:
    """Open a file, and turn what tifffile only logs as an error (a broken chain of pages) into one."""
    complaints: list[str] = []
    thread = threading.get_ident()

    def listen(record: logging.LogRecord) -> bool:
        if record.levelno < logging.ERROR or record.thread != thread:  # another thread reads another file
            return True
        complaints.append(record.getMessage())
        return False  # said once, by us

    _LOGGER.addFilter(listen)
    try:
        with tifffile.TiffFile(path, mode="r", _multifile=False) as tif:
            yield tif
    except tifffile.TiffFileError as error:
        raise _common.damaged(path, error) from error
    finally:
        _LOGGER.removeFilter(listen)
    if complaints:
        raise _common.damaged(path, complaints[0])


def _one_series(path: Path, tif: tifffile.TiffFile) -> tuple[Any, list[str]]:
    """Return the only image; smaller copies of it (thumbnails, pyramid levels) do not count."""
    if not len(tif.pages):
        raise _common.damaged(path, "no page in it")
    _check_chain(path, tif)
    notes = []
    whole = [series for series in tif.series if not getattr(series.keyframe, "is_reduced", False)]
    if not whole:
        raise _common.damaged(path, "no full-size image in it")
    if len(whole) > 1:
        shapes = ", ".join(str(series.shape) for series in whole[:4])
        raise FileError(
            path, f"holds {len(whole)} images of their own ({shapes})", "Save each to a file of its own"
        )
    if len(tif.series) > 1 or len(whole[0].levels) > 1:
        notes.append("Smaller copies of the image in the file were left out.")
    return whole[0], notes


def _check_chain(path: Path, tif: tifffile.TiffFile) -> None:
    """Refuse a chain of pages without an end: tifffile drops the rest, and its log can be off."""
    form, file = tif.tiff, tif.filehandle
    file.seek(tif.pages[len(tif.pages) - 1].offset)
    (tags,) = struct.unpack(form.tagnoformat, file.read(form.tagnosize))
    file.seek(tags * form.tagsize, 1)
    if any(file.read(form.offsetsize)):
        raise _common.damaged(path, f"the chain of its pages breaks off after {len(tif.pages)}")


def _check_length(
    path: Path, tif: tifffile.TiffFile, series: Any, size: int, ome: dict[str, str] | None
) -> None:
    """Compare what the file says about itself with what is there, before anything is allocated."""
    page = series.keyframe
    dtype = np.dtype(series.dtype or "V1")
    _common.check_memory(path, series.shape, dtype.itemsize)
    planes = prod(series.shape) // (page.imagelength * page.imagewidth)
    if page.samplesperpixel > 1:
        planes //= page.samplesperpixel
    for wanted, who in _promises(path, tif, ome, page.samplesperpixel):
        if wanted != planes:
            raise _common.damaged(path, f"{planes} planes are there, its {who} says {wanted}")
    if series.dataoffset is not None:  # one run of bytes; there need not be a page for each plane
        _common.check_stored(path, series.nbytes, size - series.dataoffset)
        return
    for one in series.pages:
        if one is None:
            raise _common.damaged(path, "a plane is missing")
        _check_page(path, one, page, size)


def _check_page(path: Path, page: Any, key: Any, size: int) -> None:
    offsets, counts = page.dataoffsets, page.databytecounts
    if len(offsets) != len(counts) or len(offsets) != prod(key.chunked):
        raise _common.damaged(path, f"{len(offsets)} strips or tiles where {prod(key.chunked)} belong")
    if any(n <= 0 or at <= 0 or at + n > size for at, n in zip(offsets, counts, strict=True)):
        raise _common.damaged(path, "strips or tiles outside the file, or empty ones")
    if key.compression == 1:
        bits = key.bitspersample if isinstance(key.bitspersample, int) else max(key.bitspersample)
        _common.check_stored(path, prod(key.shape) * bits // 8, sum(counts))
    elif key.compression in _DEFLATE:
        _common.check_stored(path, key.nbytes, sum(counts), deflated=True)


def _promises(
    path: Path, tif: tifffile.TiffFile, ome: dict[str, str] | None, samples: int
) -> Iterator[tuple[int, str]]:
    """Every number of planes that the metadata gives."""
    if ome is not None:
        channels = int(ome["SizeC"])
        # Colours of one plane count as channels there.
        yield int(ome["SizeZ"]) * int(ome["SizeT"]) * (channels // samples or 1), "OME-XML"
        return
    if tif.is_imagej:
        yield int((tif.imagej_metadata or {}).get("images", 1)), "ImageJ header"
    if tif.is_shaped:
        first = tif.pages.first
        for shaped in (tif.shaped_metadata or ())[:1]:
            yield prod(shaped["shape"]) // (first.imagelength * first.imagewidth * samples), "shape entry"


def _axes(
    path: Path, grid: NDArray[Any], axes: str, alpha: bool, fourth: str | None, ome: dict[str, str] | None
) -> tuple[NDArray[Any], str, tuple[str, ...], list[str]]:
    """Drop axes of length 1, bring channels to the front, and refuse what cannot be told apart."""
    notes: list[str] = []
    if "S" in axes and alpha:
        samples = axes.index("S")
        grid = np.delete(grid, -1, axis=samples)
        notes.append("The alpha channel was dropped.")
    keep = [i for i, axis in enumerate(axes) if axis in "YX" or grid.shape[i] > 1]
    grid = grid.reshape([grid.shape[i] for i in keep])
    axes = "".join(axes[i] for i in keep)
    names: tuple[str, ...] = ()
    channels = [axis for axis in axes if axis in "CS"]
    if len(channels) > 1:
        raise FileError(path, f"has both channels and colours (axes {axes})", "Save it with one of them")
    stack = [axis for axis in axes if axis not in "CSYX"]
    if len(stack) == 2 and not channels:
        at = axes.index("T") if "T" in axes else axes.index(stack[0])
        if fourth != "channel":
            raise _common.ask_fourth(path, grid.shape[at], f"axes {axes}")
        channels, stack = [axes[at]], [axis for axis in stack if axis != axes[at]]
    if len(stack) > 1:
        raise FileError(path, f"has axes {axes}", "Save it as one stack, with or without channels")
    if channels:
        at = axes.index(channels[0])
        grid = np.moveaxis(grid, at, 0)
        axes = axes[:at] + axes[at + 1 :]
        names = _channel_names(channels[0], grid.shape[0], ome)
    if stack and stack[0] not in "ZT":
        known = stack[0] in _UNNAMED
        notes.append(
            f"The stack of {grid.shape[axes.index(stack[0]) + bool(names)]} planes "
            + ("does not name its axis" if known else f"has an axis {stack[0]!r}")
            + "; it was taken as z."
        )
    order = "".join({"Y": "y", "X": "x", "T": "t"}.get(axis, "z") for axis in axes)
    if order not in ("yx", "zyx", "tyx"):
        raise FileError(path, f"has axes {axes}", "Save it with rows and columns last")
    return grid, ("c" if names else "") + order, names, notes


def _channel_names(axis: str, count: int, ome: dict[str, str] | None) -> tuple[str, ...]:
    if axis == "S" and count == 3:
        return ("red", "green", "blue")
    told = (ome or {}).get("names", "").split("\n")
    if len(told) == count and all(told) and len(set(told)) == count:
        return tuple(told)
    return tuple(f"channel {i}" for i in range(count))
