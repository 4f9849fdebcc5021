"""``ctxseg maps`` and ``ctxseg imbalance`` on files, and the maps that are written."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from typer.testing import CliRunner

from napari_ctxseg import io
from napari_ctxseg.cli import app
from napari_ctxseg.errors import FileError
from napari_ctxseg.image import image_from_array
from tests.core.test_geometry import LPS, NIFTI_GEOMETRY, ORIENTATIONS, affine_of
from tests.oracles import losses as oracle

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


def ctxseg(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


def toy(shape=(5, 24, 30)):
    """Values 3 and 7 in three of the slices."""
    labels = np.zeros(shape, np.uint8)
    labels[1, 4:9, 5:12], labels[1, 15:17, 20:23], labels[3, 6:10, 8:20] = 7, 3, 7
    labels[2, 10:12, 10:12] = 3
    return labels


def indices_of(labels):
    return (labels == 7) * 1 + (labels == 3) * 2


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "labels.nii.gz"
    image = nib.Nifti1Image(toy().T, np.diag([-0.5, -0.5, 2.0, 1.0]))  # LPS: nothing is turned
    nib.save(image, path)
    return path


CLASSES = ("--classes", "a=7,b=3")


def written(path: Path):
    return io.read(path).array


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".tif", ".ome.tif", ".mha", ".npy"])
def test_weights_are_those_of_the_formula(file, tmp_path, suffix):
    out = tmp_path / f"map{suffix}"
    done = ctxseg(
        "maps",
        file,
        "--loss",
        "dilated_balanced_ce",
        "--set",
        "radius=3",
        "--set",
        "unit=px",
        *CLASSES,
        "--out",
        out,
    )
    assert done.exit_code == 0, done.stderr
    found = np.load(out) if suffix == ".npy" else written(out)
    assert found.dtype == np.float32
    wanted = np.stack([oracle.dilated_weights(one, 3, 3, (1, 1)) for one in indices_of(toy())])
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_a_volume_at_once_knows_the_spacing(file, tmp_path):
    words = ("maps", file, "--loss", "dilated_balanced_ce", "--set", "radius=2.5", *CLASSES, "--dims", 3)
    done = ctxseg(*words, "--out", tmp_path / "m.nii", "--json")
    wanted = oracle.dilated_weights(indices_of(toy()), 3, 2.5, (2.0, 0.5, 0.5))
    np.testing.assert_allclose(written(tmp_path / "m.nii"), wanted, rtol=1e-6)
    said = json.loads(done.stdout)
    assert (said["map"], said["loss"]["radius"]) == ("weight", 2.5)
    assert said["sum"] == pytest.approx(wanted.sum())
    assert said["high"] == pytest.approx(wanted.max())


def test_labels_that_a_loss_makes(file, tmp_path):
    box = ("maps", file, "--loss", "context_ce", "--set", "roi.margin=2", *CLASSES, "--map", "roi")
    assert ctxseg(*box, "--out", tmp_path / "roi.nii.gz").exit_code == 0
    wanted = np.stack([oracle.roi_dynamic(one, 2) for one in indices_of(toy())])
    found = io.read_labels(tmp_path / "roi.nii.gz").array
    np.testing.assert_array_equal(found, wanted)
    band = ("maps", file, "--loss", "contour_weighted_ce", *CLASSES, "--map")
    for name in ("interior", "contour"):
        assert ctxseg(*band, name, "--out", tmp_path / f"{name}.tif").exit_code == 0
    inside = io.read_labels(tmp_path / "interior.tif").array
    assert set(np.unique(inside)) == {0, 7}, "class values as painted; what is 2 pixels wide has no interior"
    assert inside[1, 5:8, 6:11].all()
    assert (inside == 7).sum() == 3 * 5 + 2 * 10
    band_map = written(tmp_path / "contour.tif")
    assert band_map.dtype == np.float32
    assert set(np.unique(band_map)) == {0.0, 1.0}
    dilated = (
        "maps",
        file,
        "--loss",
        "dilated_balanced_ce",
        "--preset",
        "paper",
        *CLASSES,
        "--map",
        "dilated",
    )
    assert ctxseg(*dilated, "--out", tmp_path / "d.nii.gz").exit_code == 0
    assert set(np.unique(io.read_labels(tmp_path / "d.nii.gz").array)) <= {0, 3, 7}


def test_annotation_decides_what_has_a_weight(file, tmp_path):
    words = ("maps", file, "--loss", "ce", "--out", tmp_path / "m.npy", "--overwrite")
    assert ctxseg(*words).exit_code == 0
    np.testing.assert_allclose(np.load(tmp_path / "m.npy"), 1 / (24 * 30), rtol=1e-6)
    assert ctxseg(*words, "--annotation", "masks").exit_code == 0
    painted = np.load(tmp_path / "m.npy")
    assert [bool(one.any()) for one in painted] == [False, True, True, True, False]
    scribbles = ("--annotation", "scribbles", "--background", 3, "--classes", "a=7", "--dims", 3)
    assert ctxseg(*words, *scribbles).exit_code == 0
    np.testing.assert_array_equal(np.load(tmp_path / "m.npy") > 0, toy() > 0)


def test_empty_labels_and_flat_ones(tmp_path):
    tifffile.imwrite(tmp_path / "empty.tif", np.zeros((5, 8, 9), np.uint8))
    for loss in ("dilated_balanced_ce", "context_ce", "contour_weighted_ce"):
        done = ctxseg("maps", tmp_path / "empty.tif", "--loss", loss, "--out", tmp_path / f"{loss}.tif")
        assert done.exit_code == 0, done.stderr
        found = written(tmp_path / f"{loss}.tif")
        assert np.isfinite(found).all()
        assert (found > 0).all()
        assert np.ptp(found) == 0
    tifffile.imwrite(tmp_path / "flat.tif", toy()[1])
    flat = ("maps", tmp_path / "flat.tif", "--loss", "balanced_ce")
    assert ctxseg(*flat, "--out", tmp_path / "flat_map.tif").exit_code == 0
    assert written(tmp_path / "flat_map.tif").shape == (24, 30)
    assert "does not fit labels with 2 axes" in ctxseg(*flat, "--dims", 3, "--out", tmp_path / "n.tif").stderr


# ---------------------------------------------------------------- errors


def test_errors_take_one_line(file, tmp_path):
    (tmp_path / "text.nii").write_text("nothing")
    known = tmp_path / "known.nii.gz"
    known.write_bytes(b"mine")
    free, base = tmp_path / "free.nii.gz", ("maps", file, "--loss", "context_ce")
    for words, text in (
        (("maps", file, "--loss", "dise", "--out", free), "--loss dise: is no loss"),
        ((*base, "--preset", "best", "--out", free), "preset 'best'"),
        ((*base, "--set", "radius=3", "--out", free), "--loss context_ce: radius"),
        ((*base, "--set", "roi.margin=-1", "--out", free), "roi.dynamic.margin"),
        ((*base, "--set", "roi.kind=disk", "--out", free), "roi: Input tag 'disk'"),
        ((*base, "--set", "weight", "--out", free), "a.b=value"),
        ((*base, "--map", "heat", "--out", free), "--map heat: is no map. There are: weight"),
        ((*base, "--map", "dilated", "--out", free), "It has: weight, roi"),
        (("maps", file, "--loss", "dice", "--out", free), "no map at all"),
        (
            ("maps", file, "--loss", "weighted_ce", "--set", "weights=[1,2]", "--out", free),
            "--loss weighted_ce",
        ),
        ((*base, "--out", tmp_path / "x.png"), "cannot hold this map"),
        ((*base, "--out", tmp_path / "x.jpg"), "cannot hold this map"),
        ((*base, "--out", known), "is there already"),
        ((*base, "--out", file, "--overwrite"), "is the label file itself"),
        ((*base, "--out", tmp_path / "nowhere" / "x.nii"), "cannot be written"),
        (("maps", tmp_path / "text.nii", "--loss", "ce", "--out", free), "text.nii"),
        (("maps", tmp_path / "no.nii", "--loss", "ce", "--out", free), "no.nii: does not exist"),
        ((*base, "--classes", "a", "--out", free), "NAME=VALUE"),
        ((*base, "--annotation", "some", "--out", free), "annotation"),
        ((*base, "--dims", 4, "--out", free), "--dims 4"),
        (("imbalance", tmp_path / "no"), "no: does not exist"),
        (("imbalance", file, "--annotation", "scribbles", "--classes", "a=7"), "neither a class nor"),
    ):
        done = ctxseg(*words)
        assert done.exit_code == 1, (words, done.stdout, done.stderr)
        assert text in done.stderr, (words, done.stderr)
        assert "Traceback" not in done.stderr
        assert len([line for line in done.stderr.splitlines() if line.startswith("ctxseg:")]) == 1
    assert not free.exists()
    assert known.read_bytes() == b"mine"
    assert ctxseg(*base, "--out", known, "--overwrite").exit_code == 0
    assert written(known).shape == toy().shape
    assert not [p for p in os.listdir(tmp_path) if p.startswith(".ctxseg")]


# ---------------------------------------------------------------- geometry of real-valued maps


@pytest.mark.parametrize("number", range(0, 48, 5))
def test_a_map_lies_where_its_labels_lie(number, tmp_path):
    affine = affine_of(ORIENTATIONS[number])
    labels = np.zeros((4, 5, 6), np.int16)
    labels[1:3, 2, 3:5] = 1
    image = nib.Nifti1Image(labels, affine)
    image.set_sform(affine, code=2)
    image.set_qform(affine, code=1)
    nib.save(image, tmp_path / "l.nii.gz")
    words = ("maps", tmp_path / "l.nii.gz", "--loss", "dilated_balanced_ce", "--set", "radius=1", "--dims", 3)
    assert ctxseg(*words, "--out", tmp_path / "m.nii.gz").exit_code == 0
    before, after = nib.load(tmp_path / "l.nii.gz"), nib.load(tmp_path / "m.nii.gz")
    for field in NIFTI_GEOMETRY:
        np.testing.assert_array_equal(before.header[field], after.header[field], field)
    weights = np.asarray(after.dataobj)
    assert weights.dtype == np.float32
    spacing = tuple(np.linalg.norm(affine[:3, :3], axis=0))
    np.testing.assert_allclose(weights, oracle.dilated_weights(labels, 2, 1, spacing), rtol=1e-6)
    assert ctxseg(*words, "--out", tmp_path / "m.mha").exit_code == 0
    other = sitk.ReadImage(str(tmp_path / "m.mha"))
    for index in ((0, 0, 0), (3, 4, 5), (1, 2, 3)):
        world = LPS @ (affine @ [*index, 1])[:3]
        place = other.TransformPhysicalPointToIndex(world.tolist())
        assert other[place] == pytest.approx(float(weights[index]), rel=1e-6)


def test_metaimage_and_tiff_keep_their_own_lines(tmp_path):
    image = sitk.GetImageFromArray(toy())
    image.SetSpacing((0.25, 0.5, 3.1))
    image.SetOrigin((4.5, -2.25, 1e-3))
    image.SetDirection(np.diag([-1.0, 1, -1]).ravel().tolist())
    sitk.WriteImage(image, str(tmp_path / "l.mha"))
    like = io.read_labels(tmp_path / "l.mha")
    values = np.random.default_rng(0).normal(size=like.spatial_shape)
    for name in ("m.mha", "m.mhd"):
        io.write_map(tmp_path / name, values, like)
        back = io.read(tmp_path / name)
        np.testing.assert_array_equal(back.array, values.astype(np.float32))
        np.testing.assert_array_equal(back.affine, like.affine)
        assert sitk.ReadImage(str(tmp_path / name)).GetOrigin() == image.GetOrigin()
    options = {
        "imagej": True,
        "resolution": (4, 4),
        "metadata": {"axes": "ZYX", "unit": "um", "spacing": 0.3},
    }
    tifffile.imwrite(tmp_path / "l.tif", toy(), **options)
    like = io.read_labels(tmp_path / "l.tif")
    io.write_map(tmp_path / "m.tif", np.abs(values), like)
    back = io.read(tmp_path / "m.tif")
    assert (back.spacing, back.unit, back.axes) == (like.spacing, like.unit, "zyx")
    assert back.array.dtype == np.float32
    with tifffile.TiffFile(tmp_path / "m.tif") as tif:
        assert tif.is_imagej, "ImageJ holds real numbers"


def test_what_is_no_map_is_refused(tmp_path):
    like = image_from_array(np.zeros((4, 5), np.uint8), "yx")
    good = np.ones((4, 5))
    for wrong in (np.ones((4, 5), int), np.ones((5, 4)), good * np.nan, good * 1e300, good > 0):
        with pytest.raises(ValueError, match="a map"):
            io.write_map(tmp_path / "m.nii", wrong, like)
    for name in ("m.png", "m.jpg", "m.zarr", "m"):
        with pytest.raises(FileError, match="cannot be written as"):
            io.write_map(tmp_path / name, good, like)
    with pytest.raises(ValueError, match="is empty"):
        io.write_map(tmp_path / "m.nii", np.ones((0, 5)), image_from_array(np.zeros((0, 5)), "yx"))
    assert not list(tmp_path.iterdir())


def test_an_interrupted_write_leaves_the_old_map(tmp_path, monkeypatch):
    like = image_from_array(np.zeros((4, 5), np.uint8), "yx")
    paths = [tmp_path / f"m{suffix}" for suffix in (".nii.gz", ".tif", ".mha", ".npy")]
    for path in paths:
        io.write_map(path, np.ones((4, 5)), like)
    old = [path.read_bytes() for path in paths]

    def broken(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", broken)
    for path in paths:
        with pytest.raises(FileError, match="full"):
            io.write_map(path, np.zeros((4, 5)), like)
    assert [path.read_bytes() for path in paths] == old
    assert len(list(tmp_path.iterdir())) == 4


# ---------------------------------------------------------------- imbalance


def test_imbalance_says_numbers_and_losses(file, tmp_path):
    done = ctxseg("imbalance", file, *CLASSES)
    assert done.exit_code == 0, done.stderr
    first, *rest = done.stdout.splitlines()
    assert first.startswith(
        "5 of 5 slices labelled, b 0.28 %, a 2.3 % of labelled pixels, smallest component 4 px"
    )
    assert "rules, not from a measurement" in rest[-1]
    (line, *_) = [line for line in rest if line.startswith("  loss: ")]
    done = ctxseg("imbalance", file, *CLASSES, "--dims", 3, "--json")
    said = json.loads(done.stdout)
    assert said["dims"] == 3
    assert [one["name"] for one in said["classes"]] == ["background", "a", "b"]
    assert said["classes"][2]["smallest_size"] == pytest.approx(4 * 0.5 * 0.5 * 2)
    from napari_ctxseg.config import parse_loss

    offered = json.loads(ctxseg("imbalance", file, *CLASSES, "--json").stdout)["suggestions"]
    assert parse_loss(json.loads(line.removeprefix("  loss: "))) == parse_loss(offered[0]["loss"])


def test_imbalance_of_nothing_is_a_sentence(tmp_path):
    tifffile.imwrite(tmp_path / "e.tif", np.zeros((5, 8, 9), np.uint8))
    done = ctxseg("imbalance", tmp_path / "e.tif")
    assert done.exit_code == 0
    assert done.stdout == "Only background is labelled so far.\n"
    done = ctxseg("imbalance", tmp_path / "e.tif", "--annotation", "masks", "--json")
    assert json.loads(done.stdout)["suggestions"] == []
