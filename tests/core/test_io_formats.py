"""What each format gives, checked against nibabel, SimpleITK, tifffile and Pillow as writers."""

import hashlib

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
import SimpleITK as sitk
import tifffile

from napari_ctxseg import io
from napari_ctxseg.errors import FileError

RNG = np.random.default_rng(0)
STACK = RNG.integers(0, 1000, (5, 7, 9)).astype(np.uint16)
REAL = [
    "sunnybrook_lv/ed_stacks/images/SC-HF-I-1.nii.gz",
    "msd_hippocampus/images/hippocampus_003.nii.gz",
    "tiny_msd_spleen_crop/images/spleen2_crop.nii.gz",
    "tiny_sct_t2/images/t2.nii.gz",
    "chase_db1/images/Image_01L.jpg",
    "sunnybrook_lv/images/SC-HF-I-1_0048.tif",
    "dsb2018_fluo/images/003cee89357d9fe1.png",
]


def label_of(image_path):
    name = image_path.name.replace(".jpg", "_1stHO.png")
    return image_path.parents[1] / "labels" / name


def sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.data
@pytest.mark.parametrize("name", REAL)
def test_real_images_and_labels_go_out_and_come_back(name, data_dir, tmp_path):
    path = data_dir / name
    before = sha(path), sha(label_of(path))
    image, labels = io.read(path), io.read_labels(label_of(path))
    assert image.spatial_shape == labels.array.shape
    assert len(np.unique(labels.array)) > 1
    suffix = io.suffix_of(path).replace(".jpg", ".png")
    io.write_labels(tmp_path / f"out{suffix}", labels.array, image)
    back = io.read_labels(tmp_path / f"out{suffix}")
    np.testing.assert_array_equal(back.array, labels.array)
    np.testing.assert_allclose(back.affine, image.affine, atol=1e-6)
    assert (sha(path), sha(label_of(path))) == before


@pytest.mark.data
@pytest.mark.parametrize("name", [name for name in REAL if name.endswith(".nii.gz")])
def test_real_volumes_hold_nibabels_values(name, data_dir):
    path = data_dir / name
    image, oracle = io.read(path), nib.load(path)
    values = oracle.get_fdata()
    for index in RNG.integers(0, image.array.shape, (50, 3)):
        zyx = image.affine @ [*index, 1]
        ijk = np.linalg.solve(oracle.affine, [-zyx[2], -zyx[1], zyx[0], 1])[:3]
        np.testing.assert_allclose(
            image.array[tuple(index)], values[tuple(np.rint(ijk).astype(int))], rtol=1e-6
        )


# ---- NIfTI


def nifti(path, grid, **fields):
    """A file whose header fields are exactly these, whatever nibabel thinks of them."""
    header = nib.Nifti1Header()
    header.set_data_dtype(grid.dtype)
    header.set_data_shape(grid.shape)
    header.set_sform(np.eye(4), 1)
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    for key, value in fields.items():
        header[key] = value
    path.write_bytes(header.binaryblock + bytes(4) + grid.tobytes(order="F"))
    return path


@pytest.mark.parametrize(
    ("slope", "inter", "factor", "shift"),
    [(0, 5, 1, 0), (np.nan, np.nan, 1, 0), (1, 0, 1, 0), (2, 0, 2, 0), (0.5, -3, 0.5, -3), (np.inf, 0, 1, 0)],
)
def test_nifti_values_are_scaled_as_the_header_says(slope, inter, factor, shift, tmp_path):
    grid = STACK.astype(np.int16)
    path = nifti(tmp_path / "a.nii", grid, scl_slope=slope, scl_inter=inter)
    image = io.read(path)
    expected = np.flip(grid.T, (1, 2)) * factor + shift
    np.testing.assert_allclose(image.array, expected, rtol=1e-6)
    if (factor, shift) == (1, 0):
        assert image.array.dtype == np.int16
        np.testing.assert_array_equal(io.read_labels(path).array, expected)
    else:
        with pytest.raises(FileError, match="scl_slope"):
            io.read_labels(path)


def test_a_fourth_nifti_axis_is_asked_about(tmp_path):
    grid = RNG.integers(0, 9, (3, 4, 5, 6)).astype(np.int16)
    path = nifti(tmp_path / "a.nii", grid)
    with pytest.raises(FileError, match=r"holds 6 volumes.*fourth=\"channel\""):
        io.read(path)
    image = io.read(path, fourth="channel")
    assert (image.axes, image.array.shape, len(image.channels)) == ("czyx", (6, 5, 4, 3), 6)
    np.testing.assert_array_equal(image.array[2], np.flip(grid[..., 2].T, (1, 2)))
    with pytest.raises(FileError, match="one label per voxel"):
        io.read_labels(path)
    io.write_labels(tmp_path / "b.nii", image.array[1], image)
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "b.nii").dataobj), grid[..., 1])
    single = io.read(nifti(tmp_path / "c.nii", grid[..., :1]))
    assert single.array.shape == (5, 4, 3)
    assert any("length 1" in note for note in single.notes)


def test_nifti_colours_are_channels_and_never_labels(tmp_path):
    grid = np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    for channel in "RGB":
        grid[channel] = RNG.integers(0, 255, grid.shape)
    nib.Nifti1Image(grid, np.diag([-1, -1, 1, 1])).to_filename(tmp_path / "a.nii")
    image = io.read(tmp_path / "a.nii")
    assert image.channels == ("red", "green", "blue")
    np.testing.assert_array_equal(image.array[1], grid["G"].T)
    with pytest.raises(FileError, match="colours"):
        io.read_labels(tmp_path / "a.nii")


def test_complex_voxels_and_more_axes_are_refused(tmp_path):
    nib.Nifti1Image(np.zeros((3, 4, 5), np.complex64), np.eye(4)).to_filename(tmp_path / "a.nii")
    with pytest.raises(FileError, match="complex"):
        io.read(tmp_path / "a.nii")
    with pytest.raises(FileError, match="more than four axes"):
        io.read(nifti(tmp_path / "b.nii", np.zeros((2, 2, 2, 3, 4), np.uint8)), fourth="channel")


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_every_number_type_is_exact_in_both_volume_formats(dtype, tmp_path):
    grid = RNG.integers(0, 100, (3, 4, 5)).astype(dtype)
    nifti(tmp_path / "a.nii", grid)
    np.testing.assert_array_equal(io.read(tmp_path / "a.nii").array, np.flip(grid.T, (1, 2)))
    sitk.WriteImage(sitk.GetImageFromArray(grid), str(tmp_path / "a.mha"))
    image = io.read(tmp_path / "a.mha")
    np.testing.assert_array_equal(image.array, grid)
    assert image.array.dtype == np.dtype(dtype)


@pytest.mark.parametrize(
    ("fields", "note"),
    [
        ({"srow_x": [np.nan] * 4}, "sform"),
        ({"srow_x": [0, 0, 0, 0]}, "sform"),
        ({"sform_code": 0, "pixdim": [1, 0, 2, 3, 0, 0, 0, 0]}, "1.0 was taken"),
        ({"sform_code": 0, "pixdim": [1, np.nan, 2, 3, 0, 0, 0, 0]}, "1.0 was taken"),
        ({"sform_code": 0, "qform_code": 1, "quatern_b": 5.0}, "qform"),
    ],
)
def test_unusable_nifti_geometry_is_mended_visibly(fields, note, tmp_path):
    image = io.read(nifti(tmp_path / "a.nii", STACK.T, **fields))
    assert any(note in text for text in image.notes)
    assert np.isfinite(image.affine).all()
    assert min(image.spacing) > 0
    np.testing.assert_array_equal(image.array, STACK)  # the voxel grid as it is


# ---- values


def test_a_few_bad_values_are_replaced_and_counted_and_many_refused(tmp_path):
    grid = RNG.normal(size=(10, 10, 10)).astype(np.float32)
    grid[0, 0, :3] = np.nan, np.inf, -np.inf
    nib.Nifti1Image(grid, np.diag([-1, -1, 1, 1])).to_filename(tmp_path / "a.nii")
    image = io.read(tmp_path / "a.nii")
    assert any(note.startswith("3 values") for note in image.notes)
    good = np.isfinite(grid.T)
    np.testing.assert_array_equal(image.array[good], grid.T[good])
    assert (image.array[~good] == grid[np.isfinite(grid)].min()).all()
    grid[0] = np.nan
    tifffile.imwrite(tmp_path / "b.tif", grid)
    with pytest.raises(FileError, match="1 %"):
        io.read(tmp_path / "b.tif")
    with pytest.raises(FileError, match="not integers"):
        io.read_labels(tmp_path / "a.nii")


def test_label_values_stored_as_real_numbers_are_rounded_or_refused(tmp_path):
    wanted = RNG.integers(0, 400, (3, 4, 5))
    nib.Nifti1Image((wanted * 0.99999847).astype(np.float32), np.diag([-1, -1, 1, 1])).to_filename(
        tmp_path / "a.nii"
    )
    labels = io.read_labels(tmp_path / "a.nii")
    np.testing.assert_array_equal(labels.array, wanted.T)
    assert labels.array.dtype == np.uint16
    assert any("rounded" in note for note in labels.notes)
    nib.Nifti1Image((wanted + 0.01).astype(np.float32), np.eye(4)).to_filename(tmp_path / "b.nii")
    with pytest.raises(FileError, match="not integers"):
        io.read_labels(tmp_path / "b.nii")


def test_negative_and_large_label_values_are_kept(tmp_path):
    image = io.read(nifti(tmp_path / "a.nii", STACK.T))
    for low, high, dtype in [
        (-1, 3, "i1"),
        (-1, 300, "i2"),
        (0, 255, "u1"),
        (0, 70000, "u4"),
        (-1, 2**40, "i8"),
    ]:
        values = RNG.choice([low, 0, high], STACK.shape)
        values.flat[:2] = low, high
        for name in ("b.nii.gz", "b.mha", "b.tif", "b.ome.tif"):
            if dtype == "i8" and "tif" in name:
                continue
            io.write_labels(tmp_path / name, values, image)
            back = io.read_labels(tmp_path / name)
            np.testing.assert_array_equal(back.array, values)
            assert back.array.dtype == dtype


# ---- TIFF


def test_tiff_kinds_keep_spacing_and_unit(tmp_path):
    resolution = (1 / 0.25, 1 / 0.5)
    meta = {"axes": "ZYX", "spacing": 2.5, "unit": "micron", "finterval": 3.0}
    tifffile.imwrite(tmp_path / "ij.tif", STACK, imagej=True, resolution=resolution, metadata=meta)
    size = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2500, "PhysicalSizeZUnit": "nm"}
    tifffile.imwrite(tmp_path / "ome.tif", STACK, ome=True, metadata={"axes": "ZYX", **size})
    for name in ("ij.tif", "ome.tif"):
        image = io.read(tmp_path / name)
        assert (image.axes, image.unit) == ("zyx", "um")
        np.testing.assert_array_equal(image.array, STACK)
        np.testing.assert_allclose(image.spacing, (2.5, 0.5, 0.25))
        io.write_labels(tmp_path / f"l_{name}", STACK, image)
        back = io.read_labels(tmp_path / f"l_{name}")
        np.testing.assert_array_equal(back.array, STACK)
        assert (back.spacing, back.unit) == (image.spacing, "um")
        with tifffile.TiffFile(tmp_path / name) as old, tifffile.TiffFile(tmp_path / f"l_{name}") as new:
            assert (old.is_imagej, old.is_ome) == (new.is_imagej, new.is_ome)
            for tag in (282, 283, 296):
                if tag in old.pages.first.tags:
                    assert new.pages.first.tags[tag].value == old.pages.first.tags[tag].value
            if old.is_imagej:
                for key in ("spacing", "unit", "finterval"):
                    assert new.imagej_metadata[key] == old.imagej_metadata[key]
            else:
                said = [ome_sizes(tif.ome_metadata) for tif in (old, new)]
                assert said[0] == said[1]


def ome_sizes(text):
    from xml.etree import ElementTree

    pixels = ElementTree.fromstring(text).find(".//{*}Pixels")
    return {key: value for key, value in pixels.attrib.items() if key.startswith("PhysicalSize")}


def test_plain_tiff_keeps_its_resolution_tags(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK[0], resolution=((250000, 341797), (7, 3)), resolutionunit=2)
    image = io.read(tmp_path / "a.tif")
    assert (image.axes, image.unit, image.spacing) == ("yx", "pixel", (1.0, 1.0))
    io.write_labels(tmp_path / "b.tif", STACK[0], image)
    with tifffile.TiffFile(tmp_path / "a.tif") as old, tifffile.TiffFile(tmp_path / "b.tif") as new:
        for tag in (282, 283, 296):
            assert new.pages.first.tags[tag].value == old.pages.first.tags[tag].value
        assert not new.is_imagej
        assert not new.is_ome


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zlib"},
        {"compression": "lzw", "predictor": 2},
        {"compression": "zstd"},
        {"compression": "packbits"},
        {"tile": (16, 16)},
        {"tile": (16, 16), "compression": "zlib", "metadata": None},
        {"bigtiff": True},
        {"byteorder": ">"},
        {"metadata": None},
        {"rowsperstrip": 2},
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"imagej": True, "byteorder": ">"},
        {"ome": True, "metadata": {"axes": "ZYX"}, "bigtiff": True},
    ],
    ids=str,
)
def test_tiff_layouts_are_exact(options, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack", **options)
    image = io.read(tmp_path / "a.tif")
    array = image.array[:, None] if image.axes == "cyx" else image.array
    np.testing.assert_array_equal(array.reshape(STACK.shape), STACK)


def test_tiff_channels_colours_and_time(tmp_path):
    colours = RNG.integers(0, 255, (20, 30, 3)).astype(np.uint8)
    for number, (data, options) in enumerate(
        [
            (colours, {"photometric": "rgb"}),
            (np.moveaxis(colours, -1, 0).copy(), {"photometric": "rgb", "planarconfig": "separate"}),
            (np.dstack([colours, colours[..., :1]]), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
            (np.moveaxis(colours, -1, 0).copy(), {"imagej": True, "metadata": {"axes": "CYX"}}),
        ]
    ):
        path = tmp_path / f"{number}.tif"
        tifffile.imwrite(path, data, **options)
        image = io.read(path)
        assert image.axes == "cyx"
        np.testing.assert_array_equal(image.array, np.moveaxis(colours, -1, 0))
        assert any("alpha" in note for note in image.notes) == ("extrasamples" in options)
        with pytest.raises(FileError, match=r"colours|channels"):
            io.read_labels(path)
        io.write_labels(tmp_path / "l.tif", colours[..., 0], image)
        np.testing.assert_array_equal(io.read_labels(tmp_path / "l.tif").array, colours[..., 0])
    tifffile.imwrite(tmp_path / "t.tif", STACK, imagej=True, metadata={"axes": "TYX", "finterval": 2.0})
    assert io.read(tmp_path / "t.tif").axes == "tyx"
    both = STACK.reshape(1, *STACK.shape).repeat(3, 0)
    tifffile.imwrite(tmp_path / "tz.tif", both, imagej=True, metadata={"axes": "TZYX"})
    with pytest.raises(FileError, match="holds 3 volumes"):
        io.read(tmp_path / "tz.tif")
    image = io.read(tmp_path / "tz.tif", fourth="channel")
    assert (image.axes, image.array.shape) == ("czyx", both.shape)
    names = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP", "RFP"]}}
    tifffile.imwrite(tmp_path / "c.ome.tif", np.moveaxis(colours, -1, 0).copy(), metadata=names)
    assert io.read(tmp_path / "c.ome.tif").channels == ("DAPI", "GFP", "RFP")


def test_two_images_in_one_tiff_are_refused_and_a_pyramid_is_not(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(STACK[0])
        tif.write(STACK[0, :3, :3])
    with pytest.raises(FileError, match="2 images"):
        io.read(tmp_path / "a.tif")
    big = RNG.integers(0, 255, (64, 64)).astype(np.uint8)
    with tifffile.TiffWriter(tmp_path / "p.ome.tif") as tif:
        tif.write(big, subifds=1, metadata={"axes": "YX"})
        tif.write(big[::2, ::2], subfiletype=1)
    image = io.read(tmp_path / "p.ome.tif")
    np.testing.assert_array_equal(image.array, big)
    assert any("Smaller copies" in note for note in image.notes)


def test_small_types_of_tiff(tmp_path):
    half = RNG.normal(size=(7, 9)).astype(np.float16)
    tifffile.imwrite(tmp_path / "h.tif", half)
    image = io.read(tmp_path / "h.tif")
    np.testing.assert_array_equal(image.array, half.astype(np.float32))
    bits = RNG.random((16, 24)) > 0.5
    tifffile.imwrite(tmp_path / "b.tif", bits)
    np.testing.assert_array_equal(io.read_labels(tmp_path / "b.tif").array, bits.astype(np.uint8))
    ramp = np.arange(256, dtype=np.uint16)
    palette = RNG.integers(0, 255, (6, 8)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "p.tif", palette, photometric="palette", colormap=np.stack([ramp * 257] * 3))
    np.testing.assert_array_equal(io.read_labels(tmp_path / "p.tif").array, palette)
    assert any("colour table" in note for note in io.read(tmp_path / "p.tif").notes)


# ---- PNG and JPEG


def test_png_types(tmp_path):
    grey16 = RNG.integers(0, 65535, (6, 8)).astype(np.uint16)
    import imagecodecs

    cases = {
        "grey16": (imagecodecs.png_encode(grey16), grey16),
        "rgb16": (imagecodecs.png_encode(np.dstack([grey16] * 3)), np.stack([grey16] * 3)),
        "rgba16": (imagecodecs.png_encode(np.dstack([grey16] * 4)), np.stack([grey16] * 3)),
    }
    for name, (data, expected) in cases.items():
        (tmp_path / f"{name}.png").write_bytes(data)
        image = io.read(tmp_path / f"{name}.png")
        np.testing.assert_array_equal(image.array, expected)
        assert image.array.dtype == np.uint16
        assert any("alpha" in note for note in image.notes) == (name == "rgba16")
    grey8 = (grey16 // 256).astype(np.uint8)
    la = PIL.Image.merge("LA", [PIL.Image.fromarray(grey8)] * 2)
    la.save(tmp_path / "la.png")
    np.testing.assert_array_equal(io.read_labels(tmp_path / "la.png").array, grey8)
    PIL.Image.fromarray(np.dstack([grey8] * 3)).save(tmp_path / "rgb.png")
    with pytest.raises(FileError, match="3 colours"):
        io.read_labels(tmp_path / "rgb.png")


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_and_few_bits_are_label_values_or_colours_as_asked(bits, tmp_path):
    values = RNG.integers(0, min(2**bits, 16), (6, 8)).astype(np.uint8)
    image = PIL.Image.fromarray(values)
    image.putpalette([level for i in range(256) for level in (i, 255 - i, 7)])
    image.save(tmp_path / "p.png", bits=bits)
    np.testing.assert_array_equal(io.read_labels(tmp_path / "p.png").array, values)
    np.testing.assert_array_equal(
        io.read(tmp_path / "p.png").array, np.stack([values, 255 - values, values * 0 + 7])
    )
    (tmp_path / "g.png").write_bytes(grey_png(values, bits))
    np.testing.assert_array_equal(io.read_labels(tmp_path / "g.png").array, values)


def grey_png(values, bits):
    """A grey PNG with so many bits per pixel, made by hand: Pillow cannot."""
    import struct
    import zlib

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b""
    for row in values:
        text = "".join(f"{value:0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        rows += b"\0" + int(text, 2).to_bytes(len(text) // 8, "big")
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_exif_rotation_is_noted_and_jpeg_labels_refused(tmp_path):
    picture = PIL.Image.fromarray(np.dstack([STACK[0].astype(np.uint8)] * 3))
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.jpg", exif=exif)
    image = io.read(tmp_path / "a.jpg")
    assert image.array.shape == (3, 7, 9)
    assert any("EXIF" in note for note in image.notes)
    with pytest.raises(FileError, match="JPEG"):
        io.read_labels(tmp_path / "a.jpg")
    with pytest.raises(FileError, match="cannot be written as"):
        io.write_labels(tmp_path / "b.jpg", np.zeros((7, 9), int), image)
    with pytest.raises(FileError, match="do not fit a PNG"):
        io.write_labels(tmp_path / "b.png", np.full((7, 9), 70000), image)


# ---- names


def test_suffixes_and_stems():
    for name, suffix, stem in [
        ("a.nii.gz", ".nii.gz", "a"), ("a.b.NII.GZ", ".nii.gz", "a.b"), ("x.ome.tif", ".ome.tif", "x"),
        ("x.TIFF", ".tiff", "x"), ("a.gz", ".gz", "a"), ("noext", "", "noext"), (".nii", ".nii", ""),
    ]:  # fmt: skip
        assert (io.suffix_of(f"folder.nii/{name}"), io.stem_of(f"folder.nii/{name}")) == (suffix, stem)


@pytest.mark.parametrize("name", ["ünï cödé 画像", "with space", "new\nline", "~", "x" * 245, "a.b.c"])
def test_unusual_names_work(name, tmp_path):
    path = tmp_path / f"{name}.nii.gz"
    nib.Nifti1Image(STACK.T.astype(np.int16), np.eye(4)).to_filename(tmp_path / "a.nii.gz")
    image = io.read(tmp_path / "a.nii.gz")
    io.write_labels(path, image.array, image)
    np.testing.assert_array_equal(io.read_labels(path).array, image.array)
    assert io.stem_of(path) == name
    if "\n" not in name:  # a MetaImage header is made of lines
        io.write_labels(tmp_path / f"{name}.mhd", image.array, image)
        np.testing.assert_array_equal(io.read_labels(tmp_path / f"{name}.mhd").array, image.array)
