"""Methods on the command line: chosen by name, refused with a reason, refined, predicted with error masks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from napari_ctxseg.config import CrGanConfig, SegGlGanConfig, from_yaml
from tests.core.conftest import blob_case
from tests.core.test_cli import FAST, ctxseg

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images and labels (value 7) of four patients as TIFF."""
    root = tmp_path_factory.mktemp("files")
    for name in ("images", "labels"):
        (root / name).mkdir()
    for i in range(8):
        case = blob_case(f"P{i // 2}_{i}", seed=i, value=7)
        assert case.labels is not None
        tifffile.imwrite(root / "images" / f"{case.name}.tif", case.image.array)
        tifffile.imwrite(root / "labels" / f"{case.name}.tif", case.labels)
    return root


def train(files: Path, out: Path, *more: object) -> object:
    return ctxseg(
        "train", "--images", files / "images", "--labels", files / "labels", "--classes", "blob=7",
        "--group", r"P\d", "--out", out, *FAST, *more,
    )  # fmt: skip


def test_a_method_with_its_settings(files: Path, tmp_path: Path) -> None:
    done = train(
        files, tmp_path / "r", "--method", "seg_glgan", "--set", "method.preset=released", "--set",
        "method.roi={kind: dynamic, margin: 2}", "--set", "patch.size=[40,40]", "--loss", "context_ce",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr  # type: ignore[attr-defined]
    method = from_yaml(tmp_path / "r/config.yaml").method
    assert isinstance(method, SegGlGanConfig)
    assert method.adversarial_weight == 4e-4
    assert method.roi.kind == "dynamic"


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("--method", "seg_gan"), "seg_glgan"),
        (("--method", "gan"), "Take 40 or more"),  # FAST has patches of 32
        (("--method", "cr_gan", "--set", "method.refine.folds=9"), "Set it to"),
        (("--method", "gan", "--set", "method.discriminator=context"), "seg_glgan"),
    ],
)
def test_what_cannot_be(files: Path, tmp_path: Path, words: tuple[str, ...], match: str) -> None:
    done = train(files, tmp_path / "r", *words)
    assert done.exit_code == 1  # type: ignore[attr-defined]
    assert match in done.stderr  # type: ignore[attr-defined]
    assert not (tmp_path / "r").exists()


def test_refine_a_run_and_predict_with_error_masks(files: Path, tmp_path: Path) -> None:
    assert train(files, tmp_path / "base").exit_code == 0  # type: ignore[attr-defined]
    done = train(
        files, tmp_path / "refined", "--method", "cr_gan", "--set", f"method.refine.base={tmp_path / 'base'}",
        "--set", "method.refine.folds=2", "--set", "method.refine.network.features=[4,8]", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr  # type: ignore[attr-defined]
    events = [json.loads(line) for line in done.stdout.splitlines()]  # type: ignore[attr-defined]
    texts = [event["text"] for event in events if event["type"] == "Note"]
    assert any("The folds take about" in text for text in texts)
    assert any("Thresholds fitted" in text for text in texts)
    assert isinstance(from_yaml(tmp_path / "refined/config.yaml").method, CrGanConfig)

    out = tmp_path / "pred"
    done = ctxseg("predict", tmp_path / "refined", files / "images", "--out", out, "--maps")
    assert done.exit_code == 0, done.stderr
    said = next(text for text in texts if "Thresholds fitted" in text)
    stored = json.loads((out / "predictions.json").read_text())["thresholds"]
    assert f"{stored['fn']:g}" in said
    assert f"{stored['fp']:g}" in said
    names = {path.name for path in (out / "maps").iterdir()}
    assert len(names) == 8 * 3 * 2
    assert {"P0_0_fn_blob.tif", "P0_0_fp_background.tif", "P0_0_probabilities_blob.tif"} <= names
    fn = tifffile.imread(out / "maps/P0_0_fn_blob.tif")
    assert fn.shape == tifffile.imread(out / "P0_0.tif").shape
    assert 0 <= fn.min() <= fn.max() <= 1
    parts = [tifffile.imread(out / f"maps/P0_0_probabilities_{name}.tif") for name in ("background", "blob")]
    np.testing.assert_allclose(sum(parts), 1, atol=2e-3)

    done = ctxseg("predict", tmp_path / "base", files / "images", "--out", tmp_path / "p", "--maps")
    assert done.exit_code == 1
    assert "no second stage" in done.stderr
    assert ctxseg("predict", tmp_path / "base", files / "images", "--out", tmp_path / "p").exit_code == 0
    assert json.loads((tmp_path / "p" / "predictions.json").read_text())["thresholds"] is None
    done = ctxseg("evaluate", "--pred", out, "--ref", files / "labels", "--json")
    assert done.exit_code == 0, done.stderr
    assert len(json.loads(done.stdout)["cases"]) == 8
