"""Damaged files: an error that names the file, or exactly the data. Never something in between."""

import gzip
import logging
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import imagecodecs
import nibabel as nib
import numpy as np
import PIL.Image
import pytest
import SimpleITK as sitk
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_ctxseg import io
from napari_ctxseg.errors import FileError

RNG = np.random.default_rng(1)
# Smooth enough to compress, rough enough that every byte matters.
STACK = np.cumsum(RNG.integers(0, 3, (12, 20, 21)), axis=2).astype(np.uint16)


def _nifti(path):
    nib.Nifti1Image(STACK.astype(np.int16), np.eye(4)).to_filename(path)


def _mha(path, compressed=False):
    sitk.WriteImage(sitk.GetImageFromArray(STACK), str(path), compressed)


def _jpeg(path):
    PIL.Image.fromarray(STACK[0].astype(np.uint8)).save(path)


WRITERS = {
    "nii.gz": _nifti,
    "nii": _nifti,
    "mha": _mha,
    "z.mha": lambda path: _mha(path, True),
    "shaped.tif": lambda path: tifffile.imwrite(path, STACK, photometric="minisblack"),
    "shaped_z.tif": lambda path: tifffile.imwrite(path, STACK, photometric="minisblack", compression="zlib"),
    "lzw.tif": lambda path: tifffile.imwrite(path, STACK, photometric="minisblack", compression="lzw"),
    "plain_z.tif": lambda path: tifffile.imwrite(
        path, STACK, photometric="minisblack", compression="zlib", metadata=None
    ),
    "tiled.tif": lambda path: tifffile.imwrite(
        path, STACK, photometric="minisblack", tile=(16, 16), metadata=None
    ),
    "imagej.tif": lambda path: tifffile.imwrite(path, STACK, imagej=True, metadata={"axes": "ZYX"}),
    "imagej_z.tif": lambda path: tifffile.imwrite(
        path, STACK, imagej=True, metadata={"axes": "ZYX"}, compression="zlib"
    ),
    "x.ome.tif": lambda path: tifffile.imwrite(path, STACK, metadata={"axes": "ZYX"}, compression="zlib"),
    "raw.ome.tif": lambda path: tifffile.imwrite(path, STACK, metadata={"axes": "ZYX"}),
    "big.tif": lambda path: tifffile.imwrite(path, STACK, photometric="minisblack", bigtiff=True),
    "png": lambda path: path.write_bytes(imagecodecs.png_encode(STACK[0])),
    "jpg": _jpeg,
}
#: In these every bit of the voxels is under a checksum.
CHECKED = {"nii.gz", "png"}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    files = {}
    for name, writer in WRITERS.items():
        path = folder / f"a.{name}"
        writer(path)
        files[name] = (path.read_bytes(), io.read(path))
    return files


def outcome(path):
    """The image, or None for an error that names the file; any other exception fails the test."""
    try:
        return io.read(path)
    except FileError as error:
        named = path.name in str(error)
    assert named
    return None


@pytest.mark.parametrize("name", WRITERS)
def test_a_cut_file_is_an_error_or_all_there(name, good, tmp_path):
    data, image = good[name]
    head = 348 if "nii" in name else 200
    cuts = {
        0,
        1,
        2,
        8,
        head - 1,
        head,
        len(data) - 1,
        *(int(len(data) * share) for share in (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)),
    }
    path = tmp_path / f"cut.{name}"
    refused = 0
    for cut in sorted(cuts):
        path.write_bytes(data[:cut])
        result = outcome(path)
        if result is None:
            refused += 1
        else:
            assert cut > 0.9 * len(data), f"cut at {cut} of {len(data)} went unnoticed"
            np.testing.assert_array_equal(result.array, image.array)
            assert result.axes == image.axes
    assert refused >= 10


@pytest.mark.parametrize("name", WRITERS)
def test_a_flipped_bit_never_escapes_as_another_exception(name, good, tmp_path):
    data, image = good[name]
    path = tmp_path / f"flip.{name}"
    places = [*range(0, 64, 3), *RNG.integers(0, len(data), 48)]
    caught = 0
    for place in places:
        broken = bytearray(data)
        broken[place] ^= 1 << int(RNG.integers(8))
        path.write_bytes(broken)
        result = outcome(path)
        if result is None:
            caught += 1
        elif name in CHECKED:
            np.testing.assert_array_equal(result.array, image.array)
        else:  # no checksum over these bytes: the values may differ, the image must be whole
            assert np.isfinite(result.affine).all()
            assert result.array.size > 0
    assert caught > 0


@pytest.mark.parametrize("name", ["z.mha", "shaped_z.tif", "x.ome.tif", "imagej_z.tif"])
def test_a_bit_flipped_within_deflated_voxels_is_an_error(name, good, tmp_path):
    data, image = good[name]
    path = tmp_path / f"flip.{name}"
    middle = len(data) // 2
    for place in range(middle, middle + 200, 7):
        broken = bytearray(data)
        broken[place] ^= 1 << (place % 8)
        path.write_bytes(broken)
        result = outcome(path)
        # A bit between two strips belongs to none of them.
        assert result is None or np.array_equal(result.array, image.array)


def test_the_end_of_a_gzip_file_is_checked(tmp_path):
    _nifti(tmp_path / "a.nii.gz")
    data = (tmp_path / "a.nii.gz").read_bytes()
    broken = bytearray(data)
    broken[-6] ^= 1  # the checksum itself
    (tmp_path / "b.nii.gz").write_bytes(broken)
    with pytest.raises(FileError, match=r"b\.nii\.gz: is damaged: CRC"):
        io.read(tmp_path / "b.nii.gz")
    (tmp_path / "c.nii.gz").write_bytes(data[:-1])
    with pytest.raises(FileError, match="damaged"):
        io.read(tmp_path / "c.nii.gz")


def test_a_truncated_source_is_not_touched(good, tmp_path):
    for name, (data, _) in good.items():
        path = tmp_path / f"cut.{name}"
        path.write_bytes(data[: len(data) // 2])
        outcome(path)
        assert path.read_bytes() == data[: len(data) // 2]


def test_whole_sources_are_not_touched_and_may_be_read_only(good, tmp_path):
    for name, (data, _) in good.items():
        path = tmp_path / f"whole.{name}"
        path.write_bytes(data)
        path.chmod(0o444)
        before = path.stat()
        image = io.read(path)
        out = tmp_path / f"out.{name}".replace(".jpg", ".png")
        io.write_labels(out, np.zeros(image.spatial_shape, np.uint8), image)
        assert path.read_bytes() == data
        assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_readers_leave_tifffiles_log_as_it_was(good, tmp_path):
    logger = logging.getLogger("tifffile")
    before = (list(logger.handlers), list(logger.filters), logger.propagate, logger.level)
    path = tmp_path / "cut.tif"
    path.write_bytes(good["shaped_z.tif"][0][:3000])
    assert outcome(path) is None
    assert (list(logger.handlers), list(logger.filters), logger.propagate, logger.level) == before


def test_missing_strips_are_an_error_not_background(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK[0], rowsperstrip=5, metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        tag = tif.pages.first.tags["StripByteCounts"]
        place, size = tag.valueoffset, tag.dtype.name
    data = bytearray((tmp_path / "a.tif").read_bytes())
    width = {"SHORT": 2, "LONG": 4}[size]
    data[place : place + width] = bytes(width)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(FileError, match=r"strips|damaged|cut short"):
        io.read(tmp_path / "a.tif")


def test_png_and_compressed_metaimage_checksums(tmp_path):
    png = bytearray(imagecodecs.png_encode(STACK[0]))
    png[-5] ^= 1  # checksum of IEND
    (tmp_path / "a.png").write_bytes(png)
    with pytest.raises(FileError, match="checksum"):
        io.read(tmp_path / "a.png")
    _mha(tmp_path / "a.mha", True)
    data = bytearray((tmp_path / "a.mha").read_bytes())
    data[-1] ^= 1  # zlib's own checksum
    (tmp_path / "a.mha").write_bytes(data)
    with pytest.raises(FileError, match="incorrect data check"):
        io.read(tmp_path / "a.mha")


def test_trailing_bytes(tmp_path):
    """Padding after gzip data is allowed, a second stream of other data is not."""
    _nifti(tmp_path / "a.nii.gz")
    data = (tmp_path / "a.nii.gz").read_bytes()
    wanted = io.read(tmp_path / "a.nii.gz").array
    (tmp_path / "a.nii.gz").write_bytes(data + bytes(512))
    np.testing.assert_array_equal(io.read(tmp_path / "a.nii.gz").array, wanted)
    (tmp_path / "a.nii.gz").write_bytes(data + b"garbage")
    with pytest.raises(FileError, match="damaged"):
        io.read(tmp_path / "a.nii.gz")
    (tmp_path / "a.nii.gz").write_bytes(data + gzip.compress(bytes(80 << 20)))
    with pytest.raises(FileError, match="far more data"):
        io.read(tmp_path / "a.nii.gz")


def test_zlib_streams_of_the_wrong_length_are_refused(tmp_path):
    head = (
        "NDims = 2\nDimSize = 4 4\nElementType = MET_UCHAR\nCompressedData = True\nElementDataFile = LOCAL\n"
    )
    path = tmp_path / "a.mha"
    path.write_bytes(head.encode() + zlib.compress(bytes(16))[:-2])  # all voxels there, half the checksum
    assert outcome(path) is None
    for count, fits in ((15, False), (16, True), (17, False), (1 << 24, False)):
        path.write_bytes(head.encode() + zlib.compress(bytes(count)))
        assert (outcome(path) is not None) == fits


def test_a_circle_of_tiff_pages_ends(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK[:2], metadata=None, photometric="minisblack")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        first, last = tif.pages[0].offset, tif.pages[1].offset
    (count,) = struct.unpack_from("<H", data, last)
    struct.pack_into("<I", data, last + 2 + 12 * count, first)
    (tmp_path / "a.tif").write_bytes(data)
    result = outcome(tmp_path / "a.tif")
    assert result is None or result.array.shape == STACK[:2].shape


@pytest.fixture
def _silence():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("_silence")
@pytest.mark.parametrize("name", [name for name in WRITERS if "tif" in name])
def test_a_cut_tiff_is_noticed_without_a_log(name, good, tmp_path):
    data, image = good[name]
    path = tmp_path / f"cut.{name}"
    for share in (0.2, 0.5, 0.8, 0.99):
        path.write_bytes(data[: int(len(data) * share)])
        result = outcome(path)
        assert result is None or (share > 0.9 and np.array_equal(result.array, image.array))


@pytest.mark.usefixtures("_silence")
@pytest.mark.parametrize("name", ["shaped_z.tif", "imagej_z.tif", "x.ome.tif"])
def test_a_chain_of_pages_that_ends_early_contradicts_the_metadata(name, good, tmp_path):
    path = tmp_path / f"a.{name}"
    data = bytearray(good[name][0])
    path.write_bytes(data)
    with tifffile.TiffFile(path) as tif:
        place = tif.pages[5].offset
    (tags,) = struct.unpack_from("<H", data, place)
    struct.pack_into("<I", data, place + 2 + 12 * tags, 0)
    path.write_bytes(data)
    assert outcome(path) is None


def test_two_threads_do_not_hear_each_others_complaints(good, tmp_path):
    (tmp_path / "whole.tif").write_bytes(good["shaped_z.tif"][0])
    (tmp_path / "cut.tif").write_bytes(good["shaped_z.tif"][0][:3000])
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(outcome, [tmp_path / "whole.tif", tmp_path / "cut.tif"] * 20))
    assert all(result is not None for result in results[::2])
    assert all(result is None for result in results[1::2])


FIELDS = {
    "dim": st.lists(st.integers(-3, 9), min_size=8, max_size=8),
    "datatype": st.integers(0, 2304),
    "bitpix": st.sampled_from([0, 1, 8, 16, 32, 64, 128, -8]),
    "pixdim": st.lists(st.floats(width=32), min_size=8, max_size=8),
    "vox_offset": st.floats(width=32),
    "scl_slope": st.floats(width=32),
    "scl_inter": st.floats(width=32),
    "xyzt_units": st.integers(0, 255),
    "qform_code": st.integers(-2, 5),
    "sform_code": st.integers(-2, 5),
    "quatern_b": st.floats(width=32),
    "quatern_c": st.floats(-1, 1, width=32),
    "qoffset_x": st.floats(width=32),
    "srow_x": st.lists(st.floats(width=32), min_size=4, max_size=4),
    "srow_y": st.lists(st.floats(-10, 10, width=32), min_size=4, max_size=4),
}


@given(st.fixed_dictionaries({}, optional=FIELDS), st.integers(0, 1000))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_nifti_header_gives_an_image_or_a_file_error(tmp_path, fields, size):
    header = nib.Nifti1Header()
    header["dim"] = [3, 4, 5, 6, 1, 1, 1, 1]
    header["datatype"], header["bitpix"] = 4, 16
    header["vox_offset"], header["magic"] = 352, b"n+1"
    for key, value in fields.items():
        header[key] = value
    path = tmp_path / "a.nii"
    path.write_bytes(header.binaryblock + bytes(4 + size))
    image = outcome(path)
    if image is not None:
        assert np.isfinite(image.affine).all()
        assert np.isfinite(image.array).all()
        assert min(image.spacing) > 0
        out = tmp_path / "b.nii"
        io.write_labels(out, np.ones(image.spatial_shape, np.uint8), image)
        np.testing.assert_array_equal(io.read_labels(out).affine, image.affine)
