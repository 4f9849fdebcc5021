"""The main job on every development data set: read, train a little, predict, compare. Slow parts are kept short."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from napari_ctxseg import dataset, io
from napari_ctxseg.cases import class_indices, class_table
from napari_ctxseg.cli import app
from napari_ctxseg.config import DataConfig

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.data


def ctxseg(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.stdout


def scores(pred: Path, ref: object, *more: object) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(
        ctxseg("evaluate", "--pred", pred, "--ref", ref, "--json", *more).splitlines()[-1]
    )
    return result


@pytest.mark.parametrize(
    ("folder", "cases", "axes", "share"),
    [
        ("sunnybrook_lv", 96, "yx", (0.015, 0.025)),
        ("msd_hippocampus", 60, "zyx", (0.02, 0.035)),
        ("dsb2018_sparse", 122, "yx", (0.015, 0.025)),
        ("dsb2018_fluo", 120, "yx", (0.09, 0.13)),
        ("chase_db1", 28, "cyx", (0.06, 0.08)),
    ],
)
def test_sets_are_paired_and_read(
    data_dir: Path, folder: str, cases: int, axes: str, share: tuple[float, float]
) -> None:
    root = data_dir / folder
    pairs = dataset.pair_files(
        dataset.find_files([str(root / "images")]), dataset.find_files([str(root / "labels")], "label files")
    )
    assert len(pairs) == cases
    data = DataConfig(foreground=folder not in ("sunnybrook_lv", "msd_hippocampus"))
    some = [dataset.read_case(pair, data) for pair in pairs[:: max(1, cases // 20)]]
    assert {case.image.axes for case in some} == {axes}
    classes = class_table(some, data)
    found = [float((class_indices(case, classes, data) == 1).mean()) for case in some]
    assert share[0] < np.mean(found) < share[1]


def test_sunnybrook_is_learnt(data_dir: Path, tmp_path: Path) -> None:
    """The benchmark's split with a tenth of its steps: far from chance, and the same on every machine."""
    root = data_dir / "sunnybrook_lv"
    images = [str(root / "images" / f"SC-HF-I-{k}_*.tif") for k in (1, 2, 4)]
    labels = [image.replace("/images/", "/labels/") for image in images]
    words = [
        w for pair in zip(images, labels, strict=True) for w in ("--images", pair[0], "--labels", pair[1])
    ]
    ctxseg("train", *words, "--classes", "LV=1", "--steps", 180, "--out", tmp_path / "run")
    unseen = [root / "images" / f"SC-HF-I-{k}_*.tif" for k in (5, 6)]
    ctxseg("predict", tmp_path / "run", *unseen, "--out", tmp_path / "pred")
    result = scores(tmp_path / "pred", root / "labels")
    assert len(result["cases"]) == 40
    assert list(result["classes"]) == ["LV"]
    assert result["mean"]["dice"] > 0.5


def test_a_2d_model_predicts_a_stack_with_its_geometry(data_dir: Path, tmp_path: Path) -> None:
    root = data_dir / "sunnybrook_lv"
    ctxseg(
        "train", "--images", root / "images" / "SC-HF-I-1_*.tif", "--labels", root / "labels" / "SC-HF-I-1_*.tif",
        "--classes", "LV=1,myo=2", "--steps", 3, "--out", tmp_path / "run",
    )  # fmt: skip
    stack = sorted((root / "ed_stacks").rglob("*.nii.gz"))[0]
    ctxseg("predict", tmp_path / "run", stack, "--out", tmp_path / "pred")
    before, after = nib.load(stack), nib.load(tmp_path / "pred" / stack.name)
    assert before.shape == after.shape
    np.testing.assert_array_equal(before.affine, after.affine)
    assert set(np.unique(after.dataobj)) <= {0, 1, 2}


def test_hippocampus_in_3d(data_dir: Path, tmp_path: Path) -> None:
    root = data_dir / "msd_hippocampus"
    files = sorted((root / "images").glob("*.nii.gz"))[:6]
    listing = tmp_path / "images.txt"
    listing.write_text("\n".join(map(str, files)))
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(str(root / "labels" / f.name) for f in files))
    ctxseg(
        "train",
        "--images",
        f"@{listing}",
        "--labels",
        f"@{labels}",
        "--dims",
        3,
        "--steps",
        4,
        "--out",
        tmp_path / "run",
    )
    ctxseg("predict", tmp_path / "run", files[0], "--out", tmp_path / "pred")
    result = scores(tmp_path / "pred", root / "labels")
    assert list(result["classes"]) == ["class 1", "class 2"]
    assert result["mean"]["unit"] == "mm"


def test_instances_as_foreground_and_rgb(data_dir: Path, tmp_path: Path) -> None:
    nuclei = data_dir / "dsb2018_sparse"
    some = sorted((nuclei / "images").iterdir())[:4]
    words = [
        w for f in some for w in ("--images", f, "--labels", nuclei / "labels" / f"{io.stem_of(f)}{f.suffix}")
    ]
    ctxseg("train", *words, "--foreground", "--steps", 3, "--out", tmp_path / "nuclei")
    ctxseg("predict", tmp_path / "nuclei", some[0], "--out", tmp_path / "n")
    assert scores(tmp_path / "n", nuclei / "labels")["classes"].keys() == {"foreground"}
    eyes = data_dir / "chase_db1"
    ctxseg(
        "train", "--images", eyes / "images" / "Image_0[12]*.jpg", "--labels", eyes / "labels" / "Image_0[12]*.png",
        "--foreground", "--group", r"Image_\d+", "--steps", 2, "--out", tmp_path / "eyes",
    )  # fmt: skip
    ctxseg("predict", tmp_path / "eyes", eyes / "images" / "Image_05L.jpg", "--out", tmp_path / "e")
    assert io.read_labels(tmp_path / "e" / "Image_05L.png").spatial_shape == (960, 999)
    assert len(scores(tmp_path / "e", eyes / "labels_observer2", "--foreground")["cases"]) == 1


def test_an_anisotropic_volume_in_2d_and_3d(data_dir: Path, tmp_path: Path) -> None:
    root = data_dir / "tiny_msd_spleen_crop"
    image = sorted((root / "images").iterdir())[0]
    label = sorted((root / "labels").iterdir())[0]
    for dims in (2, 3):
        run, out = tmp_path / f"run{dims}", tmp_path / f"pred{dims}"
        ctxseg("train", "--images", image, "--labels", label, "--dims", dims, "--steps", 2, "--out", run)
        ctxseg("predict", run, image, "--out", out)
        np.testing.assert_array_equal(nib.load(image).affine, nib.load(out / image.name).affine)
        assert nib.load(image).shape == nib.load(out / image.name).shape
