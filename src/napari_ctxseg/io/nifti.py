"""NIfTI-1 and NIfTI-2, one file. nibabel reads the header; the voxels are read here, to the last byte."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING, Any, Literal

import nibabel as nib
import numpy as np

from napari_ctxseg.atomic import write_atomic
from napari_ctxseg.errors import FileError
from napari_ctxseg.image import Image, Source, plain_affine
from napari_ctxseg.io import _common, geometry

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_UNITS = {0: "mm", 1: "m", 2: "mm", 3: "um"}
_UNIT_CODES = {"m": 1, "mm": 2, "um": 3}
_COLOURS = {128: ("red", "green", "blue"), 2304: ("red", "green", "blue", "alpha")}
#: More than this behind the voxels is no padding but another file, or a bomb.
_TRAILING = 64 << 20


def load(path: Path, size: int, *, labels: bool = False, fourth: Literal["channel"] | None = None) -> Image:
    """Read one file.

    Parameters
    ----------
    path : Path
        A plain file.
    size : int
        Its size in bytes.
    labels : bool
        Read integers, unscaled.
    fourth : "channel", optional
        What a fourth axis means.

    Returns
    -------
    Image
        Axes ``zyx`` or ``yx``, with a leading ``c`` for channels; affine in LPS.

    Raises
    ------
    FileError
        If the file is damaged, too large, or holds something that would have to be guessed.
    """
    header, grid = _load_grid(path, size)
    grid, spatial, names, notes = _split_axes(path, header, grid, labels, fourth)
    order, flips, affine, unit, doubts = _geometry(path, header, spatial)
    grid = geometry.turn(grid, order, flips)  # a view; copied once, below
    if labels:
        _refuse_scaling(path, header)
        array, more = _common.tidy_labels(path, grid)
    else:
        array, more = _common.tidy_image(path, _scaled(path, header, grid))
    block = header.binaryblock
    return Image(
        array,
        ("c" if names else "") + "tzyx"[-len(spatial) :],
        geometry.steps_of(affine),
        affine,
        names,
        unit,
        Source(path, "nifti", order, flips, {"block": block, "endianness": header.endianness}),
        (*notes, *more, *doubts),
    )


def save_labels(path: Path, labels: NDArray[Any], like: Image, *, suffix: str) -> None:
    """Write labels on the grid of `like`.

    Parameters
    ----------
    path : Path
        Ends in `suffix`.
    labels : ndarray of integers
        Shape ``like.spatial_shape``.
    like : Image
        If it came from a NIfTI file, the geometry in its header is written back bit for bit.
    suffix : str
        ``".nii"`` or ``".nii.gz"``.

    Raises
    ------
    FileError
        If it cannot be written, or does not read back the same.
    """
    save_map(path, _common.shrink(labels), like, suffix=suffix)


def save_map(path: Path, values: NDArray[Any], like: Image, *, suffix: str) -> None:
    """Write values of any number type on the grid of `like`; otherwise as `save_labels`."""
    header, grid = _source_header(values, like) or (_header_from(like), values.T)
    grid = _neutral(path, header, grid)
    head = header.binaryblock + b"\0\0\0\0"  # four zero bytes: no extensions
    # No file name and no time in the gzip header: the same labels give the same bytes.
    body = head + grid.tobytes(order="F")

    def writer(temp: Path) -> None:
        with open(temp, "wb") as file:
            if suffix == ".nii.gz":
                with gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as packed:
                    packed.write(body)
            else:
                file.write(body)

    def check(temp: Path) -> None:
        _common.must_equal(path, _load_grid(temp, temp.stat().st_size)[1], grid)

    write_atomic(path, writer, check=check, suffix=suffix)


def _load_grid(path: Path, size: int) -> tuple[Any, NDArray[Any]]:
    """Header and unscaled voxels in file order, nothing turned."""
    packed = _is_gzip(path)
    if packed != path.name.lower().endswith(".gz"):
        what = (
            "is compressed but its name does not end in .gz"
            if packed
            else "is not gzip data despite its name"
        )
        raise FileError(path, what, "Rename the file, or copy it again from where it came from")
    opener: Any = gzip.open if packed else open
    with opener(path, "rb") as file:
        try:
            header = _header(path, file.read(540))
            shape, dtype, offset = _layout(path, header)
            need = _common.check_memory(path, shape, dtype.itemsize)
            _common.check_stored(path, need + offset, size, deflated=packed)
            file.seek(offset)
            raw = bytearray(need)
            got = _read_into(file, memoryview(raw))
            if got != need:
                raise _common.damaged(path, f"cut short after {got} of {need} bytes of voxels")
            if packed:
                _drain(path, file)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise _common.damaged(path, error) from error
    return header, np.frombuffer(raw, dtype).reshape(shape, order="F")


def _is_gzip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _read_into(file: Any, view: memoryview) -> int:
    got = 0
    while got < len(view):
        count = file.readinto(view[got : got + (16 << 20)])
        if not count:
            break
        got += count
    return got


def _drain(path: Path, file: Any) -> None:
    """Read to the end, because only there gzip compares its checksum."""
    left = 0
    while chunk := file.read(1 << 20):
        left += len(chunk)
        if left > _TRAILING:
            raise _common.damaged(path, "there is far more data than its header says")


def _header(path: Path, block: bytes) -> Any:
    if len(block) < 348:
        raise _common.damaged(path, f"cut short: {len(block)} bytes where a header takes 348")
    kinds: tuple[Any, ...] = (nib.Nifti1Header, nib.Nifti2Header)
    for cls in kinds:
        size = cls.template_dtype.itemsize
        for endianness, order in (("<", "little"), (">", "big")):
            if int.from_bytes(block[:4], order) == size:  # type: ignore[arg-type]
                if len(block) < size:
                    raise _common.damaged(path, f"cut short: {len(block)} bytes where a header takes {size}")
                header = cls(block[:size], endianness=endianness, check=False)
                if bytes(header["magic"].item())[:3] != (b"n+1" if size == 348 else b"n+2"):
                    raise FileError(
                        path,
                        f"is not a one-file NIfTI image (magic {header['magic'].item()!r})",
                        "Save it as .nii or .nii.gz",
                    )
                return header
    raise FileError(path, "is not a NIfTI image", "Check that the file is what its name says")


def _layout(path: Path, header: Any) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, type and place of the voxels, from a header that nobody has checked."""
    ndim = int(header["dim"][0])
    if not 1 <= ndim <= 7:
        raise _common.damaged(path, f"{ndim} axes")
    shape = tuple(int(length) for length in header["dim"][1 : ndim + 1])
    _common.check_shape(path, shape)
    code, bits = int(header["datatype"]), int(header["bitpix"])
    try:
        dtype: np.dtype[Any] = header.get_data_dtype()
    except (KeyError, nib.spatialimages.HeaderDataError) as error:
        raise _common.damaged(path, f"voxel type {code} does not exist") from error
    if code not in _COLOURS and dtype.kind not in "iuf":
        raise FileError(
            path, f"holds voxels of NIfTI type {code} ({dtype})", "Convert it to integers or real numbers"
        )
    if dtype.itemsize * 8 != bits:
        raise _common.damaged(path, f"voxel type {dtype} with {bits} bits per voxel")
    offset = float(header["vox_offset"])
    if not (np.isfinite(offset) and offset == int(offset) and offset >= header.sizeof_hdr + 4):
        raise _common.damaged(path, f"voxels said to begin at byte {offset:g}")
    return shape, dtype, int(offset)


def _split_axes(
    path: Path, header: Any, grid: NDArray[Any], labels: bool, fourth: str | None
) -> tuple[NDArray[Any], tuple[int, ...], tuple[str, ...], tuple[str, ...]]:
    """Bring channels to the front; return the grid, its spatial shape, channel names and notes."""
    notes: tuple[str, ...] = ()
    spatial = grid.shape[:3]
    extra = grid.shape[3:]
    if len(spatial) < 2:
        raise FileError(path, f"has one axis only, of length {grid.size}", "An image has two or three axes")
    colours = _COLOURS.get(int(header["datatype"]))
    many = [count for count in extra if count > 1]
    if labels and (colours or many):
        what = "colours" if colours else f"{many} volumes"
        raise FileError(
            path, f"holds {what}, not one label per voxel", "Export the labels as one integer volume"
        )
    if len(many) > 1 or (many and colours):
        raise FileError(
            path, f"has shape {grid.shape} with more than four axes", "Split it into one volume per file"
        )
    if extra and not many:
        notes = ("Axes of length 1 after the third were dropped.",)
    if many:
        if fourth != "channel":
            raise _common.ask_fourth(path, many[0], "time points, channels, directions ...")
        grid = np.moveaxis(grid.reshape(*spatial, many[0]), -1, 0)
        return grid, spatial, tuple(f"channel {i}" for i in range(many[0])), notes
    grid = grid.reshape(spatial)
    if colours:
        if len(colours) == 4:
            notes = (*notes, "The alpha channel was dropped.")
        return np.stack([grid[name[0].upper()] for name in colours[:3]]), spatial, colours[:3], notes
    return grid, spatial, (), notes


def _slope(header: Any) -> tuple[float, float]:
    """Slope and intercept; (1, 0) where the header means "no scaling"."""
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not np.isfinite(slope):
        return 1.0, 0.0
    return slope, inter


def _refuse_scaling(path: Path, header: Any) -> None:
    slope, inter = _slope(header)
    if slope != 1 or inter != 0:
        raise FileError(
            path,
            f"scales its label values (scl_slope {slope:g}, scl_inter {inter:g})",
            "Save the labels as unscaled integers",
        )


def _scaled(path: Path, header: Any, grid: NDArray[Any]) -> NDArray[Any]:
    slope, inter = _slope(header)
    if not np.isfinite(inter):
        raise _common.damaged(path, f"scl_slope is {slope:g} but scl_inter is {inter:g}")
    if slope == 1 and inter == 0:
        return grid
    precise = grid.dtype.itemsize > 2 and grid.dtype != np.dtype("f4").newbyteorder(grid.dtype.byteorder)
    scaled: NDArray[Any] = grid.astype(np.float64 if precise else np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is counted as not finite later
        scaled *= slope
        scaled += inter
    return scaled


def _geometry(
    path: Path, header: Any, shape: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[bool, ...], NDArray[np.float64], str, tuple[str, ...]]:
    """Order, flips, affine, unit, and whatever had to be mended."""
    n = len(shape)
    notes: list[str] = []
    unit_code = int(header["xyzt_units"]) & 7
    unit = _UNITS.get(unit_code, "mm")
    if unit_code not in (1, 2, 3):
        notes.append("The header names no unit of length; millimetres were taken.")
    spacing, mended = _zooms(header, n)
    affine = _world(header, notes)
    if affine is not None and n == 2:
        affine = _in_plane(affine, notes)
    if affine is None:
        if mended:
            notes.append("Voxel size 0, negative or not a number in the header; 1.0 was taken for that axis.")
        order, flips = geometry.plain_order(n)
        return order, flips, plain_affine(tuple(spacing[axis] for axis in order)), unit, tuple(notes)
    order, flips = geometry.nearest_lps(affine)
    return order, flips, geometry.turned_affine(affine, shape, order, flips), unit, tuple(notes)


def _zooms(header: Any, n: int) -> tuple[tuple[float, ...], bool]:
    sizes = [float(size) for size in header["pixdim"][1 : n + 1]]
    good = [np.isfinite(size) and size > 0 for size in sizes]
    return tuple(size if ok else 1.0 for size, ok in zip(sizes, good, strict=True)), not all(good)


def _world(header: Any, notes: list[str]) -> NDArray[np.float64] | None:
    """LPS affine by nibabel's rule (sform, else qform); None where the header has no usable one."""
    candidates = []
    if header["sform_code"] > 0:
        candidates.append(("sform", header.get_sform))
    if header["qform_code"] > 0:
        candidates.append(("qform", header.get_qform))
    found: list[tuple[str, NDArray[np.float64]]] = []
    for name, get in candidates:
        try:
            affine = geometry.flip_lps_ras(np.asarray(get(), float))
        except (ValueError, nib.spatialimages.HeaderDataError):
            affine = np.full((4, 4), np.nan)
        if geometry.usable(affine):
            found.append((name, affine))
        else:
            notes.append(f"The {name} of the header is not usable (zero, singular or not a number).")
    if not found:
        notes.append("The file says nothing usable about its orientation; the voxel grid was kept as it is.")
        return None
    if len(found) == 2:
        off = _furthest_corner(header, found[0][1] - found[1][1])
        if off > 1e-2 * min(geometry.steps_of(found[0][1])):
            notes.append(f"sform and qform disagree by up to {off:.3g}; the sform was used.")
    return found[0][1]


def _furthest_corner(header: Any, difference: NDArray[np.float64]) -> float:
    """Largest distance, over the corners of the grid, between two affines given their difference."""
    lengths = [int(length) for length in header["dim"][1:4]]
    corners = np.array([[*corner, 1] for corner in np.ndindex(2, 2, 2)], float).T
    corners[:3] *= np.array(lengths)[:, None] - 1
    return float(np.linalg.norm((difference @ corners)[:3], axis=0).max())


def _in_plane(affine: NDArray[np.float64], notes: list[str]) -> NDArray[np.float64] | None:
    """Affine of a one-slice file, if that slice is roughly axial."""
    flat: NDArray[np.float64] = affine[np.ix_([0, 1, 3], [0, 1, 3])]
    steps = affine[:3, :2]
    if geometry.usable(flat) and (np.abs(steps[2]) < np.linalg.norm(steps[:2], axis=0)).all():
        return flat
    notes.append("The slice is not axial; its grid was kept as it is.")
    return None


def _source_header(labels: NDArray[Any], like: Image) -> tuple[Any, NDArray[Any]] | None:
    """Header of the file behind an image, and labels on that file's grid; None if there is no such grid."""
    source = like.source
    if source is None or source.format != "nifti":
        return None
    cls: Any = nib.Nifti1Header if len(source.header["block"]) == 348 else nib.Nifti2Header
    header = cls(source.header["block"], endianness=source.header["endianness"], check=False)
    grid = geometry.turn_back(labels, source.order, source.flips)
    # A cropped or resampled image keeps its source; its place is in the affine then.
    return (header, grid) if grid.shape == tuple(header["dim"][1 : grid.ndim + 1]) else None


def _header_from(like: Image) -> Any:
    """A header with the geometry of an image of another format."""
    header = nib.Nifti1Header()
    n = len(like.spatial_axes)
    header["pixdim"][1 : n + 1] = like.spacing[::-1]
    header["xyzt_units"] = _UNIT_CODES.get(like.unit, 0)
    if like.unit not in _UNIT_CODES or "t" in like.axes:
        return header  # pixels have no place in the world: both codes stay 0
    affine = np.eye(4)
    keep = [*range(n), 3]
    affine[np.ix_(keep, keep)] = geometry.reverse_axes(like.affine)
    affine = geometry.flip_lps_ras(affine)
    header.set_sform(affine, code=1)
    header.set_qform(affine, code=1)
    # A qform knows no shear. One that says something else than the sform is worse than none.
    if not np.allclose(header.get_qform(), affine, rtol=1e-4, atol=1e-3 * min(like.spacing)):
        header["qform_code"] = 0
    return header


def _neutral(path: Path, header: Any, grid: NDArray[Any]) -> NDArray[Any]:
    """Make the header one of unscaled values, geometry left alone; return the voxels in its byte order."""
    if max(grid.shape) > np.iinfo(header["dim"].dtype).max:
        raise FileError(path, f"shape {grid.shape} does not fit a NIfTI-1 header", "Save it as TIFF")
    header["dim"] = [grid.ndim, *grid.shape, *[1] * (7 - grid.ndim)]
    # Assigned by code, because nibabel's set_data_dtype has opinions about some integers.
    header["datatype"] = nib.nifti1.data_type_codes.code[str(grid.dtype)]
    header["bitpix"] = grid.dtype.itemsize * 8
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["cal_min"] = header["cal_max"] = 0
    header["intent_code"] = header["intent_p1"] = header["intent_p2"] = header["intent_p3"] = 0
    header["intent_name"] = b""
    header["vox_offset"] = header.sizeof_hdr + 4
    if header.sizeof_hdr == 348:
        header["glmin"] = header["glmax"] = 0
    header["magic"] = b"n+1" if header.sizeof_hdr == 348 else b"n+2\0\r\n\x1a\n"
    return grid.astype(grid.dtype.newbyteorder(header.endianness), copy=False)
