"""The manifest's reader and writer, called as npe2 calls them. No window is opened."""

import inspect
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import npe2
import numpy as np
import pytest
import SimpleITK as sitk
from napari.components import LayerList
from napari.layers import Image as ImageLayer
from napari.layers import Labels

from napari_ctxseg import io
from napari_ctxseg.errors import FileError
from napari_ctxseg.gui import contributions

ROOT = Path(__file__).resolve().parents[2]
GRID = np.random.default_rng(3).integers(0, 5, (4, 5, 6)).astype(np.int16)
AFFINE = np.array([[0, -0.7, 0, 10], [1.1, 0, 0, 20], [0, 0, 3, -30], [0, 0, 0, 1.0]])


@pytest.fixture
def plugin(npe2pm):
    """Our manifest and no other."""
    with npe2pm.tmp_plugin(manifest=str(ROOT / "src" / "napari_ctxseg" / "napari.yaml")) as plugin:
        yield plugin


@pytest.fixture
def nifti(tmp_path):
    path = tmp_path / "labels_folder" / "case_seg.nii.gz"
    path.parent.mkdir()
    image = nib.Nifti1Image(GRID, AFFINE)
    image.header.set_xyzt_units("mm")
    image.to_filename(path)
    return path


def test_the_manifest_is_valid_and_every_target_exists():
    assert (ROOT / "napari.yaml").resolve() == ROOT / "src" / "napari_ctxseg" / "napari.yaml"
    manifest = npe2.PluginManifest.from_file(ROOT / "src" / "napari_ctxseg" / "napari.yaml")
    manifest.validate_imports()
    commands = {command.id for command in manifest.contributions.commands}
    for contribution in (*manifest.contributions.readers, *manifest.contributions.writers):
        assert contribution.command in commands


def test_npe2_reads_an_image_in_its_place(nifti, plugin):
    [(data, meta, kind)], reader = npe2.io_utils.read_get_reader(
        [str(nifti)], plugin_name="napari-ctxseg", stack=False
    )
    assert reader.command == "napari-ctxseg.get_reader"
    assert kind == "image"  # few small integers in a folder called labels: still not for us to say
    layer = ImageLayer(data, **meta)
    image = io.read(nifti)
    assert layer.name == "case_seg"
    np.testing.assert_allclose(layer.scale, (3, 1.1, 0.7), rtol=1e-6)
    np.testing.assert_allclose(layer.translate, image.affine[:3, 3])
    assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
    assert layer.axis_labels == ("z", "y", "x")
    assert not set(meta) & {"affine", "rotate", "shear"}
    np.testing.assert_array_equal(layer.metadata["ctxseg"]["affine"], image.affine)
    assert layer.metadata["ctxseg"]["path"] == str(nifti)


def test_channels_become_layers_and_a_fourth_axis_an_error(tmp_path):
    colours = sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True)
    sitk.WriteImage(colours, str(tmp_path / "rgb.mha"))
    layers = contributions.get_reader(str(tmp_path / "rgb.mha"))(str(tmp_path / "rgb.mha"))
    assert [meta["name"] for _, meta, _ in layers] == ["rgb channel 0", "rgb channel 1", "rgb channel 2"]
    assert {data.shape for data, _, _ in layers} == {(4, 5, 6)}
    nib.Nifti1Image(np.zeros((3, 4, 5, 6), np.uint8), np.eye(4)).to_filename(tmp_path / "a.nii")
    with pytest.raises(FileError, match="6 volumes"):
        contributions.get_reader(str(tmp_path / "a.nii"))(str(tmp_path / "a.nii"))


def test_other_files_are_left_to_others(nifti):
    for path in ("a.tif", "a.png", "a.zarr", "a.nii.zip", [str(nifti), str(nifti)]):
        assert contributions.get_reader(path) is None


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".tif", ".mha", ".mhd"])
def test_labels_of_a_layer_are_saved_like_their_image(suffix, nifti, tmp_path, plugin):
    image = io.read(nifti)
    labels = Labels(image.array % 3, **contributions.layer_metadata(image))
    target = str(tmp_path / f"out{suffix}")
    written = npe2.write(target, [labels], plugin_name="napari-ctxseg")
    assert written == [target]
    back = io.read_labels(target)
    np.testing.assert_array_equal(back.array, image.array % 3)
    np.testing.assert_allclose(back.spacing, image.spacing, rtol=1e-6)
    if ".nii" in suffix:
        np.testing.assert_array_equal(nib.load(target).affine, nib.load(nifti).affine)
        np.testing.assert_array_equal(np.asarray(nib.load(target).dataobj), GRID % 3)


def test_saving_through_napari_without_a_suffix_picks_one(nifti, tmp_path, plugin):
    image = io.read(nifti)
    layers = LayerList([Labels(image.array, name="x", **contributions.layer_metadata(image))])
    [written] = layers.save(str(tmp_path / "out"), plugin="napari-ctxseg")
    assert written.endswith(".nii.gz")
    np.testing.assert_array_equal(io.read_labels(written).array, image.array)


def test_a_layer_of_unknown_origin_keeps_its_scale(tmp_path, plugin):
    units = ("um", "um", "um")
    layer = Labels(GRID.astype(np.uint8), scale=(3, 2, 1), translate=(30, 20, 10), units=units)
    npe2.write(str(tmp_path / "a.nii"), [layer], plugin_name="napari-ctxseg")
    back = io.read_labels(tmp_path / "a.nii")
    np.testing.assert_array_equal(back.array, GRID)
    assert (back.spacing, back.unit) == ((3, 2, 1), "um")
    np.testing.assert_allclose(back.affine[:3, 3], (30, 20, 10))
    flat = Labels(GRID[0].astype(np.uint8))
    npe2.write(str(tmp_path / "a.png"), [flat], plugin_name="napari-ctxseg")
    np.testing.assert_array_equal(io.read_labels(tmp_path / "a.png").array, GRID[0])


def test_labels_that_do_not_fit_are_refused(nifti, tmp_path):
    image = io.read(nifti)
    meta = contributions.layer_metadata(image)
    with pytest.raises(FileError, match="has shape"):
        contributions.write_labels_layer(str(tmp_path / "a.nii"), image.array[1:], meta)
    with pytest.raises(FileError, match="4 axes"):
        contributions.write_labels_layer(str(tmp_path / "a.nii"), np.zeros((1, 2, 3, 4), int), {})
    with pytest.raises(FileError, match="scale"):
        contributions.write_labels_layer(str(tmp_path / "a.nii"), np.zeros((2, 3), int), {"scale": (0, 1)})
    assert not (tmp_path / "a.nii").exists()


def test_the_reader_loads_neither_torch_nor_qt(nifti):
    code = f"""
import sys
from napari_ctxseg.gui.contributions import get_reader
get_reader({str(nifti)!r})({str(nifti)!r})
heavy = ("torch", "monai", "napari", "qtpy", "PyQt6", "vispy")
bad = [name for name in sys.modules if name.split(".")[0] in heavy]
assert not bad, bad
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert list(inspect.signature(contributions.write_labels_layer).parameters) == ["path", "data", "meta"]
