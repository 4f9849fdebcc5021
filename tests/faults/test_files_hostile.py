"""Files made to deceive: huge claims, paths to elsewhere, things that are no files."""

import gzip
import os
import struct
import time
import zlib

import nibabel as nib
import numpy as np
import pytest
import tifffile

from napari_ctxseg import io
from napari_ctxseg.errors import FileError

resource = pytest.importorskip("resource")


@pytest.fixture(autouse=True)
def _quick_and_small():
    """Every refusal comes within a second and without allocating what the file claims."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.monotonic()
    yield
    assert time.monotonic() - start < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # KiB


def refuse(path, match):
    start = time.monotonic()
    with pytest.raises(FileError, match=match) as caught:
        io.read(path)
    assert time.monotonic() - start < 1
    assert str(path) in str(caught.value)
    with pytest.raises(FileError):
        io.read_labels(path)


@pytest.mark.parametrize("suffix", io.SUPPORTED)
def test_things_that_are_no_images(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    refuse(path, "No such file")
    path.touch()
    refuse(path, "empty")
    path.write_text("This is a text file.\n" * 40)
    refuse(path, "")
    path.unlink()
    path.mkdir()
    refuse(path, "is a folder")
    path.rmdir()
    os.mkfifo(path)
    refuse(path, "not a plain file")
    path.unlink()
    path.symlink_to(path)
    refuse(path, "cannot be opened")
    path.unlink()
    path.write_bytes(os.urandom(5000))
    refuse(path, "")


def test_a_nul_in_the_name_and_unknown_suffixes(tmp_path):
    with pytest.raises(FileError):
        io.read("a\0b.nii")
    (tmp_path / "a.doc").write_text("x")
    refuse(tmp_path / "a.doc", r"'\.doc'.*Use one of \.nii\.gz")


def test_the_content_must_be_what_the_suffix_says(tmp_path):
    nib.Nifti1Image(np.zeros((3, 4, 5), np.uint8), np.eye(4)).to_filename(tmp_path / "a.nii")
    data = (tmp_path / "a.nii").read_bytes()
    for suffix in io.SUPPORTED:
        if suffix != ".nii":
            (tmp_path / f"b{suffix}").write_bytes(data)
            refuse(tmp_path / f"b{suffix}", "")
    (tmp_path / "c.nii").write_bytes(gzip.compress(data))
    refuse(tmp_path / "c.nii", "compressed but its name does not end in .gz")


# ---- NIfTI headers


def nifti(path, body=b"", **fields):
    header = nib.Nifti1Header()
    header["dim"] = [3, 4, 5, 6, 1, 1, 1, 1]
    header["vox_offset"], header["magic"] = 352, b"n+1"
    header["datatype"], header["bitpix"] = 2, 8
    for key, value in fields.items():
        header[key] = value
    data = header.binaryblock + bytes(4) + (body or bytes(120))
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"dim": [3, 30000, 30000, 30000, 1, 1, 1, 1]}, "memory|cut short"),
        ({"dim": [7, 32767, 32767, 32767, 32767, 32767, 32767, 32767]}, "memory"),
        ({"dim": [3, 0, 40, 40, 1, 1, 1, 1]}, "shape"),
        ({"dim": [3, -1, 40, 40, 1, 1, 1, 1]}, "shape"),
        ({"dim": [99, 4, 5, 6, 1, 1, 1, 1]}, "99 axes"),
        ({"dim": [0, 4, 5, 6, 1, 1, 1, 1]}, "0 axes"),
        ({"dim": [1, 120, 1, 1, 1, 1, 1, 1]}, "one axis"),
        ({"dim": [3, 4, 5, 7, 1, 1, 1, 1]}, "cut short"),
        ({"datatype": 1}, "NIfTI type|voxel type|damaged"),
        ({"datatype": 77}, "damaged"),
        ({"datatype": 32, "bitpix": 64}, "complex"),
        ({"datatype": 1536, "bitpix": 128}, "cut short|type"),
        ({"bitpix": 16}, "16 bits"),
        ({"vox_offset": 0}, "begin at byte 0"),
        ({"vox_offset": np.nan}, "begin at byte"),
        ({"vox_offset": 1e30}, "cut short"),
        ({"vox_offset": 400.5}, "begin at byte"),
        ({"magic": b"ni1"}, "not a one-file NIfTI"),
    ],
)
def test_nifti_headers_that_lie(suffix, fields, match, tmp_path):
    refuse(nifti(tmp_path / f"a{suffix}", **fields), match)


def test_a_gzip_bomb_is_refused_by_its_ratio_or_the_memory(tmp_path):
    # 2 GB claimed in a few hundred bytes: more than deflate can hold
    refuse(nifti(tmp_path / "a.nii.gz", dim=[3, 1290, 1290, 1290, 1, 1, 1, 1]), "cut short|memory")


# ---- TIFF


def test_tiff_claims_larger_than_the_file(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((64, 64), np.uint8), compression="zlib", metadata=None)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        tags = [
            (tif.pages.first.tags[code].valueoffset, tif.pages.first.tags[code].dtype.name)
            for code in (256, 257, 278)
        ]
    for place, kind in tags:
        struct.pack_into({"SHORT": "<H", "LONG": "<I"}[kind], data, place, 60000)
    (tmp_path / "a.tif").write_bytes(data)
    refuse(tmp_path / "a.tif", "cut short|memory|damaged")


def ome(path, xml, planes=1):
    tifffile.imwrite(
        path,
        np.ones((planes, 4, 5), np.uint8),
        description=xml.encode(),
        metadata=None,
        photometric="minisblack",
    )
    return path


PIXELS = (
    '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" '
    'SizeX="5" SizeY="4" SizeZ="{z}" SizeC="1" SizeT="1">{data}</Pixels>'
)
OME = (
    '{head}<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" {root}>'
    '<Image ID="Image:0">{pixels}</Image></OME>'
)


def xml_of(data='<TiffData IFD="0"/>', z=1, head='<?xml version="1.0" encoding="UTF-8"?>', root=""):
    return OME.format(head=head, root=root, pixels=PIXELS.format(z=z, data=data))


def test_a_good_hand_made_ome_file_reads(tmp_path):
    image = io.read(ome(tmp_path / "a.ome.tif", xml_of()))
    assert image.array.shape == (4, 5)


def test_ome_companions_are_never_followed(tmp_path):
    (tmp_path / "inner").mkdir()
    tifffile.imwrite(tmp_path / "secret.tif", np.full((4, 5), 77, np.uint8))
    data = '<TiffData IFD="0"><UUID FileName="../secret.tif">urn:uuid:1</UUID></TiffData>'
    refuse(
        ome(tmp_path / "inner" / "a.ome.tif", xml_of(data, root='UUID="urn:uuid:2"')), "other files.*secret"
    )
    # Without an UUID of its own the file may be a renamed one: its own planes are read, never the other's.
    image = io.read(ome(tmp_path / "inner" / "b.ome.tif", xml_of(data)))
    assert (image.array == 1).all()
    two = data + data.replace("secret", "other")
    refuse(ome(tmp_path / "inner" / "c.ome.tif", xml_of(two, z=2)), "other files")
    refuse(
        ome(tmp_path / "inner" / "d.ome.tif", OME.format(head="", root="", pixels="") + "", 1),
        "another file|damaged|OME",
    )


def test_ome_with_missing_planes_or_wild_xml_is_refused(tmp_path):
    refuse(ome(tmp_path / "a.ome.tif", xml_of(z=3)), "a plane is missing|OME-XML says 3")
    bomb = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">]>'
    refuse(ome(tmp_path / "b.ome.tif", xml_of(head=bomb)), "DOCTYPE")
    refuse(ome(tmp_path / "c.ome.tif", xml_of(data="<broken")), "cannot be parsed")
    padded = xml_of().replace("<Image", "<!--" + "x" * (17 << 20) + "--><Image")
    refuse(ome(tmp_path / "d.ome.tif", padded), "characters of OME-XML")


# ---- MetaImage


HEAD = (
    "ObjectType = Image\nNDims = 2\nDimSize = 4 3\nElementType = MET_UCHAR\nElementSpacing = 1 1\n"
    "{extra}ElementDataFile = {data}\n"
)


def mhd(path, data="a.raw", extra="", body=b""):
    path.write_bytes(HEAD.format(data=data, extra=extra).encode() + body)
    return path


@pytest.mark.parametrize(
    "name",
    ["../secret.raw", "/etc/passwd", "sub/../../secret.raw", "..", ".", "", "C:\\secret.raw",
     "..\\secret.raw", "LIST", "list", "LIST 2", "slice%03d.raw 1 3 1", "a\0b", "~/secret",
     "file:secret.raw"],
)  # fmt: skip
def test_metaimage_reads_only_a_bare_neighbour(name, tmp_path):
    (tmp_path / "secret.raw").write_bytes(bytes(12))
    (tmp_path / "inner").mkdir()
    path = mhd(tmp_path / "inner" / "a.mhd", name)
    refuse(path, "outside its own folder|several files|damaged|no header line|ElementDataFile")


def test_metaimage_neighbours(tmp_path):
    path = mhd(tmp_path / "a.mhd")
    with pytest.raises(FileError, match=r"a\.raw.*No such file"):
        io.read(path)
    (tmp_path / "a.raw").write_bytes(bytes(range(11)))
    refuse(path, "cut short")
    (tmp_path / "a.raw").write_bytes(bytes(range(12)))
    np.testing.assert_array_equal(io.read(path).array, np.arange(12).reshape(3, 4))
    (tmp_path / "a.raw").unlink()
    os.mkfifo(tmp_path / "a.raw")
    with pytest.raises(FileError, match="not a plain file"):
        io.read(path)
    refuse(mhd(tmp_path / "b.mhd", "b.mhd"), "itself|cut short")


@pytest.mark.parametrize(
    ("extra", "match"),
    [
        ("DimSize = 4 3\n", "DimSize twice"),
        ("CompressedData = maybe\n", "'maybe'"),
        ("BinaryData = False\n", "as text"),
        ("TransformMatrix = 1 0 0\n", "4 numbers"),
        ("TransformMatrix = 1 0 1 0\n", "singular"),
        ("TransformMatrix = 1 0 nan 1\n", "4 numbers"),
        ("Offset = 1e999 0\n", "2 numbers"),
        ("HeaderSize = -2\n", "HeaderSize"),
        ("HeaderSize = 1000000\n", "cut short"),
        ("HeaderSize = 5e3\n", "'5e3'"),
        ("ElementNumberOfChannels = 0\n", "channels"),
        ("ElementNumberOfChannels = 2000000000\n", "cut short|memory"),
        ("ElementByteOrderMSB = True\nBinaryDataByteOrderMSB = False\n", "two byte orders"),
        ("a line without a sign\n", "no header line"),
    ],
)
def test_metaimage_headers_that_lie(extra, match, tmp_path):
    refuse(mhd(tmp_path / "a.mha", "LOCAL", extra, bytes(12)), match)


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("NDims = 2", "NDims = 9", "9 axes"),
        ("DimSize = 4 3", "DimSize = 4", "DimSize"),
        ("DimSize = 4 3", "DimSize = 4 0", "shape"),
        ("DimSize = 4 3", "DimSize = 4 -3", "shape"),
        ("DimSize = 4 3", "DimSize = 999999999999 999999999999", "memory"),
        ("MET_UCHAR", "MET_STRING", "ElementType"),
        ("ElementSpacing = 1 1", "ElementSpacing = 0 1", "voxel size"),
        ("ElementSpacing = 1 1", "ElementSpacing = nan 1", "2 numbers"),
        ("ElementSpacing = 1 1", "ElementSpacing = -1 1", "voxel size"),
        ("ObjectType = Image", "ObjectType = Mesh", "not an image"),
        ("NDims = 2\n", "", "no NDims"),
    ],
)
def test_metaimage_values_that_make_no_sense(old, new, match, tmp_path):
    path = mhd(tmp_path / "a.mha", "LOCAL", "", bytes(12))
    text = path.read_bytes().replace(old.encode(), new.encode())
    path.write_bytes(text)
    refuse(path, match)


@pytest.mark.parametrize("msb", ["BinaryDataByteOrderMSB", "ElementByteOrderMSB"])
def test_metaimage_byte_order_header_size_and_channels(msb, tmp_path):
    values = np.arange(12, dtype=">u2")
    head = HEAD.replace("UCHAR", "USHORT")
    text = head.format(data="a.raw", extra=f"{msb} = True\nHeaderSize = -1\n")
    (tmp_path / "a.mhd").write_text(text)
    (tmp_path / "a.raw").write_bytes(b"some other header" + values.tobytes())
    np.testing.assert_array_equal(io.read(tmp_path / "a.mhd").array, values.reshape(3, 4))
    (tmp_path / "a.mhd").write_text(text.replace("HeaderSize = -1", "HeaderSize = 17"))
    np.testing.assert_array_equal(io.read(tmp_path / "a.mhd").array, values.reshape(3, 4))
    body = np.arange(24, dtype=np.uint8)
    image = io.read(mhd(tmp_path / "c.mha", "LOCAL", "ElementNumberOfChannels = 2\n", body.tobytes()))
    np.testing.assert_array_equal(image.array, np.moveaxis(body.reshape(3, 4, 2), -1, 0))
    four = HEAD.replace("NDims = 2", "NDims = 4").replace("4 3", "2 2 1 3").replace("1 1", "1 1 1 1")
    (tmp_path / "d.mha").write_bytes(four.format(data="LOCAL", extra="").encode() + bytes(range(12)))
    with pytest.raises(FileError, match="holds 3 volumes"):
        io.read(tmp_path / "d.mha")
    image = io.read(tmp_path / "d.mha", fourth="channel")
    np.testing.assert_array_equal(image.array, np.arange(12).reshape(3, 1, 2, 2))
    io.write_labels(tmp_path / "e.mha", image.array[0], image)
    np.testing.assert_array_equal(io.read_labels(tmp_path / "e.mha").array, image.array[0])


# ---- PNG


def test_a_png_bomb_is_refused(tmp_path):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    for width in (2**31 - 1, 30000):
        head = struct.pack(">IIBBBBB", width, width, 8, 0, 0, 0, 0)
        data = (
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", head)
            + chunk(b"IDAT", zlib.compress(bytes(99)))
            + chunk(b"IEND", b"")
        )
        (tmp_path / "a.png").write_bytes(data)
        refuse(tmp_path / "a.png", "memory|cut short|too large")
