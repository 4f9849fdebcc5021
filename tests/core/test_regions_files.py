"""Overlapping regions as files, and what is refused or said before the first step."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from napari_ctxseg.cli import app
from napari_ctxseg.config import parse_config
from napari_ctxseg.errors import CtxsegError, InputError
from napari_ctxseg.events import Note, PredictionBlock
from napari_ctxseg.inference import load_model, predict
from napari_ctxseg.training import fit
from napari_ctxseg.training.methods import make_trainer
from tests.core.nested_regions import REGIONS, SMALL, build, nested, plan_of, wanted

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

    from napari_ctxseg.cases import Case


@pytest.fixture
def cases() -> list[Case]:
    return [nested(f"n{i}", seed=i) for i in range(5)]


# ---------------------------------------------------------------- files


def ctxseg(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("files")
    for name in ("images", "labels"):
        (root / name).mkdir()
    for i in range(4):
        case = nested(f"P{i}", seed=i)
        tifffile.imwrite(root / "images" / f"P{i}.tif", case.image.array)
        tifffile.imwrite(root / "labels" / f"P{i}.tif", np.asarray(case.labels))
    done = ctxseg(
        "train", "--images", root / "images", "--labels", root / "labels", "--out", root / "run",
        "--steps", 60, "--threads", 1, "--set", "network.features=[4,8,8]", "--set", "patch.size=[32,32]",
        "--set", "optim.lr=0.008", "--set", "data.regions={WT: [1, 2, 4], TC: [1, 4], ET: [4]}",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    return root


def test_predict_and_evaluate_files(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "p"
    done = ctxseg("predict", files / "run", files / "images", "--out", out, "--threads", 1)
    assert done.exit_code == 0, done.stderr
    assert {p.name for p in out.glob("*.tif")} == {f"P{i}_{name}.tif" for i in range(4) for name in REGIONS}
    record = json.loads((out / "predictions.json").read_text())
    assert record["regions"] == {name: list(values) for name, values in REGIONS.items()}
    assert list(record["regions"]) == list(REGIONS)
    model, case = load_model(files / "run"), nested("P1", seed=1)
    (block,) = [e for e in predict(model, case) if isinstance(e, PredictionBlock)]
    for k, name in enumerate(REGIONS):
        np.testing.assert_array_equal(tifffile.imread(out / f"P1_{name}.tif"), block.labels[k])
    values = json.loads(ctxseg("evaluate", "--pred", out, "--ref", files / "labels", "--json").stdout)
    assert list(values["classes"]) == list(REGIONS)
    assert len(values["cases"]) == 4
    truth = wanted(case.labels)[1]
    dice = 2 * (block.labels[1] * truth).sum() / (block.labels[1].sum() + truth.sum())
    scored = {c["name"]: c["classes"]["TC"]["dice"] for c in values["cases"]}
    assert scored["P1"] == pytest.approx(dice)
    drawn = tmp_path / "drawn"
    drawn.mkdir()
    for i in range(4):
        for k, name in enumerate(REGIONS):
            mask = wanted(nested("", seed=i).labels)[k]
            tifffile.imwrite(drawn / f"P{i}_{name}.tif", 255 * mask.astype(np.uint8))
    masks = json.loads(ctxseg("evaluate", "--pred", out, "--ref", drawn, "--json").stdout)
    assert masks["mean"] == values["mean"]
    (out / "P2_TC.tif").unlink()
    lacking = ctxseg("evaluate", "--pred", out, "--ref", files / "labels")
    assert lacking.exit_code == 1
    assert "no predicted file of TC" in lacking.stderr
    (drawn / "P0_WT.tif").rename(out / "P0_other.tif")
    assert "none of the regions" in ctxseg("evaluate", "--pred", out, "--ref", files / "labels").stderr


def test_names_that_meet_are_refused(files: Path, tmp_path: Path) -> None:
    (tmp_path / "i").mkdir()
    image = tifffile.imread(files / "images" / "P0.tif")
    list(
        fit(
            build(data={"regions": {"b": [1], "b_b": [2]}}),
            [nested(f"n{i}", seed=i) for i in range(3)],
            tmp_path / "r",
        )
    )
    for name in ("a", "a_b"):
        tifffile.imwrite(tmp_path / "i" / f"{name}.tif", image)
    done = ctxseg("predict", tmp_path / "r", tmp_path / "i", "--out", tmp_path / "p", "--threads", 1)
    assert done.exit_code == 1
    assert "written for two images" in done.stderr


# ---------------------------------------------------------------- before the first step


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"regions": {"A": []}}, "needs values of 1 or more"),
        ({"regions": {"A": [0, 1]}}, "needs values of 1 or more"),
        ({"regions": {"A": [1, 1]}}, "each once"),
        ({"regions": {"A": [1], "B": [2]}, "foreground": True}, "no `regions` beside it"),
        ({"regions": {"A": [1, 2], "B": [2, 1]}}, "A and B have the same values"),
        ({"regions": {"A": [1], "a": [2]}}, "A and a would have the same files"),
        ({"regions": {"A/B": [1]}}, "letters, digits"),
        ({"regions": {"A": [1, 3]}, "annotation": "scribbles", "background": 3}, "painted background"),
        ({"regions": {"A": [1, 2]}, "classes": {"one": 1}}, "only name the regions' values [1, 2], not [1]"),
    ],
)
def test_regions_that_cannot_be(data: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_config({"data": data})
    assert text in str(caught.value)


def test_classes_may_name_the_values(cases: list[Case]) -> None:
    names = {"edema": 2, "core": 1, "enhancing": 4}
    plan = plan_of(build(data={"classes": names}), cases)
    assert plan.classes == names
    assert plan.members is not None
    assert plan.members.tolist() == [
        [False, True, True, True],
        [False, False, True, True],
        [False, False, False, True],
    ]
    assert plan.config.network.out_channels == 3


def test_values_in_no_region_are_background(cases: list[Case]) -> None:
    plan = plan_of(build(data={"regions": {"ET": [4]}}), cases)
    labels = np.asarray(next(c for c in cases if c.name == plan.train[0].name).labels)
    np.testing.assert_array_equal(plan.train[0].target.numpy() > 0, labels == 4)


def test_what_is_nowhere_is_said(cases: list[Case]) -> None:
    plan = plan_of(build(data={"regions": {"A": [1, 7], "B": [9], "C": [2, 4]}}), cases)
    assert "Region 'A' names values that are nowhere in the labels: [7]" in plan.notes
    assert "Region 'B' is nowhere in the labels: none of its values [9] is" in plan.notes
    assert not [note for note in plan.notes if "'C'" in note]
    painted = [
        replace(c, labels=np.where(np.asarray(c.labels) > 2, 4, np.asarray(c.labels) & 1)) for c in cases
    ]
    scribbles = {"annotation": "scribbles", "regions": {"A": [1, 4], "B": [4]}}
    notes = plan_of(build(data=scribbles), painted).notes
    assert [note for note in notes if "Region 'A' is everywhere" in note]
    assert not [note for note in notes if "'B'" in note]


def test_class_weights_are_two(cases: list[Case]) -> None:
    with pytest.raises(InputError, match="holds 4 numbers for 2 classes, outside and inside a region"):
        plan_of(build(loss={"kind": "weighted_ce", "weights": (1, 2, 3, 4)}), cases)
    nested_sum = {
        "kind": "sum",
        "terms": [{"loss": {"kind": "balanced_ce", "scope": "dataset", "frequencies": (1, 1, 1)}}],
    }
    with pytest.raises(InputError, match="holds 3 numbers for 2 classes"):
        plan_of(build(loss=nested_sum), cases)
    plan = plan_of(build(loss={"kind": "balanced_ce", "scope": "dataset"}), cases)
    loss: Any = plan.config.loss
    labels = np.stack([np.asarray(c.labels) for c in cases if c.name in {s.name for s in plan.train}])
    inside = np.mean([np.isin(labels, values).mean() for values in REGIONS.values()])
    assert loss.frequencies == pytest.approx((1 - inside, inside))
    trainer = make_trainer(plan)
    assert trainer.step(0, 4).loss is not None


def test_other_regions_than_before(cases: list[Case], tmp_path: Path) -> None:
    """Weights go on with a word about it; a refinement needs the same ones in the same order."""
    cases = [replace(c, group=f"p{i}") for i, c in enumerate(cases)]
    list(fit(build(), cases, tmp_path / "base"))
    moved = {"TC": (1, 4), "WT": (1, 2, 4), "ET": (4,)}
    events = list(fit(build(data={"regions": moved}, init=str(tmp_path / "base")), cases, tmp_path / "next"))
    assert [e for e in events if isinstance(e, Note) and "other names or values before" in e.text]
    method = {"kind": "cr_gan", "refine": {"folds": 2, "network": SMALL, "base": str(tmp_path / "base")}}
    with pytest.raises(CtxsegError, match="has other classes"):
        list(fit(build(method=method, data={"regions": moved}), cases, tmp_path / "r"))
