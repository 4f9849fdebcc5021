"""Orientation: all 48 of them, oblique and anisotropic, through files and back."""

import dataclasses
import gzip
from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from napari_ctxseg import io
from napari_ctxseg.io import geometry

ORIENTATIONS = [
    np.array(signs)[None, :] * np.eye(3)[:, axes]
    for axes in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]
SHAPE = (4, 5, 6)
LPS = np.diag([-1.0, -1.0, 1.0])
#: Every field that places a NIfTI grid in the world.
NIFTI_GEOMETRY = [
    "pixdim",
    "qform_code",
    "sform_code",
    "quatern_b",
    "quatern_c",
    "quatern_d",
    "qoffset_x",
    "qoffset_y",
    "qoffset_z",
    "srow_x",
    "srow_y",
    "srow_z",
    "xyzt_units",
]


def affine_of(matrix, spacing=(0.7, 1.1, 3.0), origin=(-12.25, 30.5, 7.75)):
    affine = np.eye(4)
    affine[:3, :3] = matrix * spacing
    affine[:3, 3] = origin
    return affine


def check_world(image, grid, affine_ras):
    """The voxel at every world point is the same in the array as in the file (values are unique)."""
    assert sorted(image.array.ravel()) == sorted(grid.ravel())
    for index in product(*(range(length) for length in image.array.shape)):
        zyx = image.affine @ [*index, 1]
        ras = zyx[2::-1] * (-1, -1, 1)
        ijk = np.linalg.solve(affine_ras, [*ras, 1])[:3]
        np.testing.assert_allclose(ijk, np.rint(ijk), atol=1e-3)
        assert grid[tuple(np.rint(ijk).astype(int))] == image.array[index]


def raw_header(path):
    """Header fields as they are on disk; nibabel mends some of them when it loads a file."""
    data = path.read_bytes()
    data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    for cls in (nib.Nifti1Header, nib.Nifti2Header):
        dtype = cls.template_dtype
        for order in "<>":
            header = np.frombuffer(data[: dtype.itemsize], dtype.newbyteorder(order))[0]
            if header["sizeof_hdr"] == dtype.itemsize:
                return header
    raise AssertionError("no NIfTI header")


def header_bytes(path):
    header = raw_header(path)
    return {name: header[name].tobytes() for name in NIFTI_GEOMETRY}


@pytest.mark.parametrize("number", range(48))
def test_nifti_orientation_goes_through_a_file_and_back(number, tmp_path):
    oblique = Rotation.from_euler("xyz", [9, -7, 5], degrees=True).as_matrix()
    for matrix in (ORIENTATIONS[number], oblique @ ORIENTATIONS[number]):
        affine = affine_of(matrix)
        grid = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
        nib.Nifti1Image(grid, affine).to_filename(tmp_path / "a.nii")
        image = io.read(tmp_path / "a.nii")
        check_world(image, grid, affine)
        # Turned to the nearest LPS: the largest part of each step points the right way.
        steps = image.affine[:3, :3]
        assert (np.abs(steps).argmax(axis=0) == [0, 1, 2]).all()
        assert (np.diag(steps) > 0).all()
        labels = (image.array % 5).astype(np.uint8)
        io.write_labels(tmp_path / "b.nii.gz", labels, image)
        np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "b.nii.gz").dataobj), grid % 5)
        assert header_bytes(tmp_path / "b.nii.gz") == header_bytes(tmp_path / "a.nii")
        np.testing.assert_array_equal(io.read_labels(tmp_path / "b.nii.gz").array, labels)


@pytest.mark.parametrize("number", range(48))
def test_metaimage_orientation_goes_through_a_file_and_back(number, tmp_path):
    oblique = Rotation.from_euler("xyz", [9, -7, 5], degrees=True).as_matrix()
    for matrix in (ORIENTATIONS[number], oblique @ ORIENTATIONS[number]):
        grid = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
        itk = sitk.GetImageFromArray(np.ascontiguousarray(grid.T))
        itk.SetSpacing((0.7, 1.1, 3.0))
        itk.SetOrigin((-12.25, 30.5, 7.75))
        itk.SetDirection(matrix.ravel().tolist())
        sitk.WriteImage(itk, str(tmp_path / "a.mha"))
        image = io.read(tmp_path / "a.mha")
        ras = np.diag([-1, -1, 1, 1]) @ affine_of(matrix)
        check_world(image, grid, ras)
        labels = (image.array % 5).astype(np.uint8)
        io.write_labels(tmp_path / "b.mha", labels, image)
        back = sitk.ReadImage(str(tmp_path / "b.mha"))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(back).T, grid % 5)
        assert back.GetDirection() == sitk.ReadImage(str(tmp_path / "a.mha")).GetDirection()
        for line in (tmp_path / "a.mha").read_bytes().split(b"ElementDataFile")[0].splitlines():
            if line.split(b" ")[0] in (b"TransformMatrix", b"Offset", b"ElementSpacing", b"CenterOfRotation"):
                assert line in (tmp_path / "b.mha").read_bytes().splitlines()


@pytest.mark.parametrize("number", range(0, 48, 5))
def test_labels_of_a_metaimage_land_at_the_same_place_as_nifti_and_back(number, tmp_path):
    matrix = Rotation.from_euler("xyz", [9, -7, 5], degrees=True).as_matrix() @ ORIENTATIONS[number]
    grid = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    itk = sitk.GetImageFromArray(np.ascontiguousarray(grid.T))
    itk.SetSpacing((0.7, 1.1, 3.0))
    itk.SetOrigin((-12.25, 30.5, 7.75))
    itk.SetDirection(matrix.ravel().tolist())
    sitk.WriteImage(itk, str(tmp_path / "a.mha"))
    image = io.read(tmp_path / "a.mha")
    io.write_labels(tmp_path / "b.nii", image.array, image)
    nifti = nib.load(tmp_path / "b.nii")
    ras = np.diag([-1, -1, 1, 1]) @ affine_of(matrix)
    np.testing.assert_allclose(nifti.header.get_qform(), nifti.header.get_sform(), atol=1e-4)
    assert (nifti.header["qform_code"], nifti.header["sform_code"]) == (1, 1)
    file_grid = np.asarray(nifti.dataobj)
    for index in ((0, 0, 0), (3, 2, 1), (3, 4, 5)):
        ijk = np.linalg.solve(nifti.affine, ras @ [*index, 1])[:3]
        np.testing.assert_allclose(ijk, np.rint(ijk), atol=1e-4)
        assert file_grid[tuple(np.rint(ijk).astype(int))] == grid[index]
    # and the other way: labels of that NIfTI written as MetaImage
    second = io.read(tmp_path / "b.nii")
    io.write_labels(tmp_path / "c.mhd", second.array, second)
    third = io.read_labels(tmp_path / "c.mhd")
    np.testing.assert_array_equal(third.array, image.array)
    np.testing.assert_allclose(third.affine, image.affine, atol=1e-4)


@given(
    st.lists(st.floats(-1, 1), min_size=4, max_size=4), st.tuples(*[st.floats(0.05, 20)] * 3), st.booleans()
)
@settings(max_examples=200, deadline=None)
def test_nearest_orientation_agrees_with_nibabel(quaternion, spacing, mirrored):
    if np.linalg.norm(quaternion) < 0.1:
        return
    matrix = Rotation.from_quat(quaternion).as_matrix() * (1, 1, -1 if mirrored else 1)
    totals = sorted(sum(abs(matrix[w, f]) for w, f in enumerate(axes)) for axes in permutations(range(3)))
    if totals[-1] - totals[-2] < 0.05:  # near a tie both answers are right
        return
    affine = affine_of(matrix, spacing)
    order, flips = geometry.nearest_lps(affine)
    ornt = nib.io_orientation(affine)
    best = sum(abs(matrix[int(w), f]) for f, w in enumerate(ornt[:, 0]))
    if best < totals[-1] - 1e-9:  # nibabel is greedy; ours is the best of all
        return
    assert [int(w) for w in ornt[list(order), 0]] == [2, 1, 0]
    assert [flip < 0 for flip in ornt[list(order), 1]] == list(flips)


@given(st.permutations(range(3)), st.tuples(*[st.booleans()] * 3), st.tuples(*[st.integers(1, 4)] * 3))
def test_turning_back_undoes_turning(order, flips, shape):
    array = np.arange(2 * np.prod(shape)).reshape(2, *shape)
    for values in (array, array[0]):
        turned = geometry.turn(values, tuple(order), flips)
        assert turned.shape[-3:] == tuple(shape[axis] for axis in order)
        np.testing.assert_array_equal(geometry.turn_back(turned, tuple(order), flips), values)


def test_spacing_follows_the_axes(tmp_path):
    affine = affine_of(ORIENTATIONS[17])
    nib.Nifti1Image(np.zeros(SHAPE, np.uint8), affine).to_filename(tmp_path / "a.nii")
    image = io.read(tmp_path / "a.nii")
    sizes = dict(zip(SHAPE, (0.7, 1.1, 3.0), strict=True))
    np.testing.assert_allclose(image.spacing, [sizes[length] for length in image.array.shape], rtol=1e-6)


@pytest.mark.parametrize(
    ("sform", "qform", "expected"), [(1, 1, "s"), (2, 0, "s"), (0, 1, "q"), (0, 0, "none")]
)
def test_which_form_wins_follows_nibabel(sform, qform, expected, tmp_path):
    grid = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    nifti = nib.Nifti1Image(grid, None)
    nifti.header.set_zooms((0.7, 1.1, 3.0))
    nifti.set_sform(affine_of(ORIENTATIONS[5]), sform)
    nifti.set_qform(affine_of(ORIENTATIONS[9]), qform)
    nifti.to_filename(tmp_path / "a.nii")
    image = io.read(tmp_path / "a.nii")
    if expected == "none":
        np.testing.assert_array_equal(image.array, grid.T)
        np.testing.assert_array_equal(image.affine[:3, 3], 0)
        np.testing.assert_allclose(image.spacing, (3.0, 1.1, 0.7), rtol=1e-6)
        assert any("orientation" in note for note in image.notes)
    else:
        check_world(image, grid, nib.load(tmp_path / "a.nii").affine)
        assert any("disagree" in note for note in image.notes) == (sform > 0 and qform > 0)
    io.write_labels(tmp_path / "b.nii", image.array, image)
    assert header_bytes(tmp_path / "b.nii") == header_bytes(tmp_path / "a.nii")
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "b.nii").dataobj), grid)


@pytest.mark.parametrize("cls", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
def test_both_versions_and_byte_orders_keep_their_header(cls, order, tmp_path):
    header = cls.header_class(endianness=order)
    header.set_data_dtype(np.int16)
    grid = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    nifti = cls(grid, affine_of(ORIENTATIONS[30]), header)
    nifti.header.set_xyzt_units("mm", "sec")
    nifti.to_filename(tmp_path / "a.nii")
    image = io.read(tmp_path / "a.nii")
    assert image.array.dtype == np.int16
    assert image.array.dtype.isnative
    check_world(image, grid, nifti.affine)
    io.write_labels(tmp_path / "b.nii", image.array + 300, image)
    assert header_bytes(tmp_path / "b.nii") == header_bytes(tmp_path / "a.nii")
    back = nib.load(tmp_path / "b.nii")
    assert type(back) is cls
    np.testing.assert_array_equal(np.asarray(back.dataobj), grid + 300)
    assert raw_header(tmp_path / "b.nii")["scl_slope"] == 1
    assert raw_header(tmp_path / "b.nii")["scl_inter"] == 0


def test_a_unit_of_micrometres_survives_a_change_of_format(tmp_path):
    nifti = nib.Nifti1Image(np.zeros(SHAPE, np.uint8), affine_of(np.eye(3)))
    nifti.header.set_xyzt_units("micron")
    nifti.to_filename(tmp_path / "a.nii")
    image = io.read(tmp_path / "a.nii")
    assert image.unit == "um"
    for name in ("b.mha", "b.tif", "b.ome.tif"):
        io.write_labels(tmp_path / name, image.array, image)
        back = io.read_labels(tmp_path / name)
        assert back.unit == "um"
        np.testing.assert_allclose(back.spacing, image.spacing, rtol=1e-6)
        io.write_labels(tmp_path / "c.nii", back.array, back)
        assert io.read_labels(tmp_path / "c.nii").unit == "um"


def test_two_dimensional_files_keep_their_plane(tmp_path):
    grid = np.arange(20, dtype=np.uint8).reshape(4, 5)
    nib.Nifti1Image(grid, affine_of(np.diag([-1, -1, 1]))).to_filename(tmp_path / "a.nii")
    image = io.read(tmp_path / "a.nii")
    assert image.axes == "yx"
    np.testing.assert_array_equal(image.array, grid.T)  # RAS(-x, -y) is LPS(+x, +y): nothing to flip
    np.testing.assert_allclose(image.spacing, (1.1, 0.7), rtol=1e-6)
    sagittal = Rotation.from_euler("y", 90, degrees=True).as_matrix()
    nib.Nifti1Image(grid, affine_of(sagittal)).to_filename(tmp_path / "b.nii")
    other = io.read(tmp_path / "b.nii")
    assert any("not axial" in note for note in other.notes)
    for one in (image, other):
        io.write_labels(tmp_path / "l.nii", one.array, one)
        np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "l.nii").dataobj), grid)
        assert header_bytes(tmp_path / "l.nii") == header_bytes(one.source.path)


@pytest.mark.parametrize("suffix", [".nii", ".mha"])
def test_labels_of_a_cropped_image_keep_their_place(suffix, tmp_path):
    """The affine of the crop counts then, not the header of the whole."""
    grid = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    nib.Nifti1Image(grid, affine_of(ORIENTATIONS[13])).to_filename(tmp_path / "a.nii")
    image = io.read(tmp_path / "a.nii")
    if suffix == ".mha":
        io.write_labels(tmp_path / "a.mha", image.array, image)
        image = io.read(tmp_path / "a.mha")
    shift = np.eye(4)
    shift[:3, 3] = 1, 2, 0
    crop = dataclasses.replace(image, array=image.array[1:, 2:], affine=image.affine @ shift)
    io.write_labels(tmp_path / f"b{suffix}", crop.array, crop)
    back = io.read(tmp_path / f"b{suffix}")
    np.testing.assert_array_equal(back.array, crop.array)
    np.testing.assert_allclose(back.affine, crop.affine, atol=1e-5)


def test_arrays_are_contiguous_and_writable(tmp_path):
    nib.Nifti1Image(np.zeros(SHAPE, np.int16), affine_of(ORIENTATIONS[13])).to_filename(tmp_path / "a.nii")
    image = io.read(tmp_path / "a.nii")
    flat = dataclasses.replace(
        image, array=image.array[0], axes="yx", spacing=(1.0, 1.0), affine=np.eye(3), source=None
    )
    for name, like in [("b.mha", image), ("b.tif", image), ("b.nii.gz", image), ("b.png", flat)]:
        io.write_labels(tmp_path / name, like.array, like)
        for array in (io.read(tmp_path / name).array, io.read_labels(tmp_path / name).array):
            assert array.flags.c_contiguous
            assert array.flags.writeable
