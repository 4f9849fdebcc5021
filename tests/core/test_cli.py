"""The commands as a person types them, on files, with exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
import tifffile
import yaml
from typer.testing import CliRunner

from napari_ctxseg.cli import app
from napari_ctxseg.commands.settings import parse_classes, settings
from napari_ctxseg.config import (
    PRESETS,
    ContextCE,
    MaskRoi,
    StaticRoi,
    from_yaml,
    loss_kinds,
    parse_config,
    recommended,
    set_fields,
)
from napari_ctxseg.errors import InputError
from tests.core.conftest import blob_case

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

FAST = ("--steps", "4", "--threads", "1", "--set", "network.features=[4,8,8]", "--set", "patch.size=[32,32]")


def ctxseg(*words: object) -> Result:
    """Run a command in this process; `test_the_command_itself` starts a real one."""
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images and labels (value 7) of five cases as TIFF."""
    root = tmp_path_factory.mktemp("files")
    for name in ("images", "labels"):
        (root / name).mkdir()
    for i in range(5):
        case = blob_case(f"P{i // 2}_{i}", seed=i, value=7)
        assert case.labels is not None
        tifffile.imwrite(root / "images" / f"{case.name}.tif", case.image.array)
        tifffile.imwrite(root / "labels" / f"{case.name}.tif", case.labels)
    return root


@pytest.fixture(scope="module")
def run(files: Path) -> Path:
    out = files / "run"
    done = ctxseg(
        "train", "--images", files / "images", "--labels", files / "labels", "--classes", "blob=7", "--group", r"P\d",
        "--out", out, *FAST,
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    return out


def test_train_predict_evaluate(files: Path, run: Path, tmp_path: Path) -> None:
    config = from_yaml(run / "config.yaml")
    assert config.data.classes == {"blob": 7}
    assert config.budget.steps == 4
    done = ctxseg("predict", run, files / "images", "--out", tmp_path / "p", "--threads", 1)
    assert done.exit_code == 0, done.stderr
    assert len(list((tmp_path / "p").glob("*.tif"))) == 5
    labels = tifffile.imread(tmp_path / "p" / "P0_0.tif")
    assert labels.shape == (40, 44)
    assert set(np.unique(labels)) <= {0, 7}
    again = ctxseg("predict", run, files / "images", "--out", tmp_path / "p", "--threads", 1)
    assert again.exit_code == 1
    assert "is there already" in again.stderr
    scores = ctxseg("evaluate", "--pred", tmp_path / "p", "--ref", files / "labels", "--json")
    assert scores.exit_code == 0, scores.stderr
    result = json.loads(scores.stdout)
    assert set(result) >= {"mean", "classes", "cases"}
    assert list(result["classes"]) == ["blob"]
    assert len(result["cases"]) == 5
    assert 0 <= result["mean"]["dice"] <= 1
    perfect = json.loads(
        ctxseg(
            "evaluate", "--pred", files / "labels", "--ref", files / "labels", "--foreground", "--json"
        ).stdout
    )
    assert perfect["mean"]["dice"] == 1
    assert perfect["mean"]["hd95"] == 0


def test_same_command_same_weights_and_resume_keeps_settings(files: Path, run: Path, tmp_path: Path) -> None:
    words = ("train", "--images", files / "images", "--labels", files / "labels", *FAST[2:], "--threads", 1)
    out = tmp_path / "r"
    whole = ctxseg(*words, "--steps", 6, "--out", tmp_path / "whole", "--json")
    events = [json.loads(line) for line in whole.stdout.splitlines()]
    assert events[0]["type"] == "RunStarted"
    assert events[-1]["type"] == "RunFinished"
    assert ctxseg(*words, "--steps", 6, "--out", out, "--resume").exit_code == 1  # nothing to go on with
    first = ctxseg(*words, "--steps", 6, "--out", out)
    assert "weights, about" in " ".join((first.stdout + first.stderr).split())
    assert first.exit_code == 0
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()
    refused = ctxseg("train", "--out", out, "--resume", "--steps", 9)
    assert refused.exit_code == 1
    assert "budget.steps cannot be changed" in refused.stderr
    assert ctxseg("train", "--out", out, "--resume").exit_code == 0  # finished: nothing left to do


def test_errors_take_one_line(files: Path, run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    images, labels = ("--images", files / "images"), ("--labels", files / "labels")
    for words, text in (
        (("train", "--images", tmp_path / "empty", *labels, "--out", tmp_path / "x"), "holds no images"),
        (("train", *images, "--labels", tmp_path / "no", "--out", tmp_path / "x"), "does not exist"),
        (("train", *images, *labels, "--out", run), "not empty"),
        (("train", *images, *labels, "--out", tmp_path / "x", "--classes", "LV"), "NAME=VALUE"),
        (("train", *images, *labels, "--out", tmp_path / "x", "--classes", "a=9"), "no painted class"),
        (("train", *images, *labels, "--out", tmp_path / "x", "--loss", "dise"), "--loss dise: is no loss"),
        (
            ("train", *images, *labels, "--out", tmp_path / "x", "--loss", "ce", "--preset", "paper"),
            "preset 'paper': is not known for the loss 'ce'",
        ),
        (
            ("train", *images, *labels, "--out", tmp_path / "x", "--loss", "dise", "--preset", "paper"),
            "is no loss",
        ),
        (("train", *images, *labels, "--out", tmp_path / "x", "--preset", "paper"), "Add --loss"),
        (
            ("train", *images, *labels, "--out", tmp_path / "x", "--dims", "3"),
            "2-D image, but the model is 3-D",
        ),
        (("train", *images, *labels, "--out", tmp_path / "x", "--set", "optim.speed=3"), "optim.speed"),
        (("train", *images, *labels, "--out", tmp_path / "x", "--steps", 3, "--minutes", 1), "two budgets"),
        (
            ("train", *images, *labels, "--out", files / "labels" / "P0_0.tif" / "x", *FAST),
            "cannot be written to",
        ),
        (("predict", tmp_path / "nowhere", files / "images", "--out", tmp_path / "y"), "not there"),
        (("predict", run, files / "images", "--out", files / "images"), "folder of the images themselves"),
        (("evaluate", "--pred", files / "images" / "none*", "--ref", files / "labels"), "holds no"),
    ):
        done = ctxseg(*words)
        assert done.exit_code == 1, (words, done.stdout, done.stderr)
        assert text in done.stderr, (words, done.stderr)
        assert "Traceback" not in done.stderr
        assert len([line for line in done.stderr.splitlines() if line.startswith("ctxseg:")]) == 1
    assert not (tmp_path / "x").exists()


def test_a_broken_file_is_named_and_the_rest_is_done(files: Path, run: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    good = (files / "images" / "P0_0.tif").read_bytes()
    (tmp_path / "in" / "a.tif").write_bytes(good)
    (tmp_path / "in" / "b.tif").write_bytes(good[: len(good) // 2])
    (tmp_path / "in" / "c.tif").write_bytes(good)
    done = ctxseg("predict", run, tmp_path / "in", "--out", tmp_path / "p", "--threads", 1, "--json")
    assert done.exit_code == 1
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [("error" in record) for record in records] == [False, True, False]
    assert "b.tif" in records[1]["error"]
    assert sorted(p.name for p in (tmp_path / "p").iterdir()) == ["a.tif", "c.tif", "predictions.json"]


def test_nifti_keeps_its_geometry_through_prediction(run: Path, tmp_path: Path) -> None:
    affine = np.array([[0, -0.7, 0, 11.0], [0.7, 0, 0.1, -3], [0, 0.05, 5.0, 40], [0, 0, 0, 1]])
    image = nib.Nifti1Image(np.random.default_rng(0).normal(size=(21, 18, 5)).astype(np.float32), affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=2)
    nib.save(image, tmp_path / "scan.nii.gz")
    assert (
        ctxseg("predict", run, tmp_path / "scan.nii.gz", "--out", tmp_path / "p", "--threads", 1).exit_code
        == 0
    )
    before, after = nib.load(tmp_path / "scan.nii.gz"), nib.load(tmp_path / "p" / "scan.nii.gz")
    assert before.shape == after.shape
    np.testing.assert_array_equal(before.affine, after.affine)
    for field in (
        "qform_code",
        "sform_code",
        "pixdim",
        "srow_x",
        "srow_y",
        "srow_z",
        "quatern_b",
        "xyzt_units",
    ):
        np.testing.assert_array_equal(before.header[field], after.header[field])


def test_the_command_itself(tmp_path: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "napari_ctxseg.cli",
        "predict",
        str(tmp_path),
        str(tmp_path),
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"ctxseg: {tmp_path}: holds no images")


def test_doctor_and_help() -> None:
    facts = json.loads(ctxseg("doctor", "--json").stdout)
    assert facts["device"].startswith(("CPU", "CUDA", "Apple"))
    for command in ("train", "predict", "evaluate", "demo", "doctor"):
        assert "Usage" in ctxseg(command, "--help").stdout


# ---------------------------------------------------------------- settings


def test_yaml_options_and_set_are_layered(files: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"optim": {"lr": 0.5}, "seed": 3, "loss": "ce"}))
    done = ctxseg(
        "train", "--images", files / "images", "--labels", files / "labels", "--config", tmp_path / "c.yaml",
        "--seed", 4, *FAST, "--set", "optim.lr=2e-3", "--set", "loss=dice_ce", "--out", tmp_path / "r",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    config = from_yaml(tmp_path / "r" / "config.yaml")
    assert (config.optim.lr, config.seed, config.loss.kind) == (2e-3, 4, "dice_ce")
    assert config == parse_config(config.model_dump(mode="json"))


def test_presets_of_a_loss_on_the_command_line(tmp_path: Path) -> None:
    chosen = settings(
        None, {}, loss="context_ce", preset="paper", classes=None, assignments=["loss.weight=2"]
    )
    assert chosen.loss == ContextCE(roi=StaticRoi(size=50), reduction="sum", weight=2)
    words = ["loss.roi.kind=mask", "loss.roi.radius=3"]
    nested = settings(None, {}, loss="context_ce", classes=None, assignments=words)
    assert nested.loss == ContextCE(roi=MaskRoi(radius=3))
    (tmp_path / "c.yaml").write_text("loss: {kind: dilated_balanced_ce, preset: paper}")
    config = tmp_path / "c.yaml"
    assert settings(config, {}, loss=None, classes=None, assignments=[]).loss.unit == "px"
    again = settings(config, {}, loss=None, preset="recommended", classes=None, assignments=[])
    assert again.loss == recommended("dilated_balanced_ce")
    text = " ".join(ctxseg("train", "--help").stdout.split())
    for name in (*loss_kinds(), *PRESETS):
        assert name in text
    refused = ctxseg("train", "--out", tmp_path, "--resume", "--loss", "ce", "--preset", "paper")
    assert "--loss, --preset cannot be changed" in refused.stderr


def test_class_lists() -> None:
    assert parse_classes("LV=1, myo=2") == {"LV": 1, "myo": 2}
    for text in ("", "LV", "=1", "a=0", "a=b", "a=1,a=2", "a=-1"):
        with pytest.raises(InputError):
            parse_classes(text)


def test_fields_set_by_name() -> None:
    values = {"loss": "dice_ce", "optim": {"lr": 1}}
    result = set_fields(values, ["loss.dice_weight=2", "optim.lr=1e-3", "data.group='P\\d'"])
    assert result == {
        "loss": {"kind": "dice_ce", "dice_weight": 2},
        "optim": {"lr": 1e-3},
        "data": {"group": "P\\d"},
    }
    assert values["loss"] == "dice_ce"
    other = set_fields({"roi": {"kind": "static", "size": 5}}, ["roi.kind=mask", "roi.radius=2"])
    assert other == {"roi": {"kind": "mask", "radius": 2}}
    assert set_fields(other, ["roi.kind=mask"]) == other
    for text in ("lr", "=3", "seed.x.y=1"):
        with pytest.raises(InputError):
            set_fields({"seed": 3}, [text])


def test_measures_and_tables_on_the_command_line(files: Path, tmp_path: Path) -> None:
    same = ("evaluate", "--pred", files / "labels", "--ref", files / "labels", "--foreground")
    plain = json.loads(ctxseg(*same, "--json").stdout)
    measures = ["dice", "iou", "precision", "recall", "hausdorff", "hd95", "unit"]
    assert list(plain["mean"]) == measures
    assert list(plain["cases"][0]["classes"]["foreground"]) == [
        *measures[:-1],
        "predicted",
        "reference",
        "unit",
    ]
    chosen = json.loads(ctxseg(*same, "--measures", "cldice,detection,dice", "--json").stdout)
    assert list(chosen["mean"])[:3] == ["dice", "cldice", "seg"]
    assert chosen["mean"]["lesion_f1"] == chosen["mean"]["cldice"] == 1
    for name, start in (
        ("t.csv", "case,class,dice"),
        ("t.md", "5 cases"),
        ("t.tex", "% 5 cases"),
        ("t.json", "{"),
    ):
        done = ctxseg(*same, "--out", tmp_path / name)
        assert done.exit_code == 0, done.stderr
        assert (tmp_path / name).read_text().startswith(start)
    printed = ctxseg(*same, "--format", "csv")
    assert printed.stdout == (tmp_path / "t.csv").read_text()
    assert "P0_0" in ctxseg(*same, "--per-case").stdout
    for words, text in (
        (("--measures", "dise"), "'dise' is no measure"),
        (("--sizes", "9,3"), "rising numbers"),
        (("--sizes", "a"), "rising numbers"),
        (("--size-unit", "cm"), "px or world"),
        (("--tolerance", "-1"), "is no length"),
        (("--overlap", "1"), "is no share"),
        (("--format", "xml"), "is no format"),
        (("--out", tmp_path / "t.doc"), "has no suffix of a table"),
    ):
        done = ctxseg(*same, *words)
        assert done.exit_code == 1
        assert text in done.stderr, (words, done.stderr)


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({}, ("1000", None)),
        ({"GOMP_SPINCOUNT": "7"}, ("7", None)),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, (None, "ACTIVE")),
    ],
)
def test_waiting_threads_sleep_soon_unless_told_otherwise(given, left):
    """Set before torch is loaded, or it would come too late."""
    code = (
        "import os, sys; import napari_ctxseg.cli; assert 'torch' not in sys.modules;"
        "print(os.environ.get('GOMP_SPINCOUNT'), os.environ.get('OMP_WAIT_POLICY'))"
    )
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean | given,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.split() == [str(each) for each in left]
