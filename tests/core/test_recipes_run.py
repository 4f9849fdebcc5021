"""``ctxseg recipes`` as a person types it, on made sets, with real training of two steps."""

from __future__ import annotations

import json
import shutil

import nibabel
import numpy as np
import pytest

from napari_ctxseg.recipes.results import measured
from napari_ctxseg.recipes.store import load_row, row_names
from tests.core.recipe_sets import lits, phc_hela, promise12
from tests.core.test_cli import ctxseg

NAME = "context-t1-promise12-context-static"
TINY = ("--steps", 2, "--threads", 1, "--device", "cpu", "--set", "network={kind: unet, features: [4, 8]}")
TINY += ("--set", "patch.size=[48,48]", "--set", "patch.batch=2", "--set", "budget.val_every=2")
TINY += ("--set", "device.precision=32-true")


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A PROMISE12-like set and one run on it."""
    root = tmp_path_factory.mktemp("ran")
    promise12(root / "set")
    out = root / "out"
    done = ctxseg("recipes", "run", NAME, "--data", root / "set", "--out", out, *TINY, "--json")
    assert done.exit_code == 0, done.stderr
    return root / "set", out, [json.loads(line) for line in done.stdout.splitlines()]


def test_a_recipe_is_prepared_trained_and_measured(ran):
    _, out, events = ran
    kinds = [event["type"] for event in events]
    assert kinds.count("CasePrepared") == 4
    assert kinds.count("StepEnd") == 2
    assert (kinds[-1], kinds.count("CellDone")) == ("Result", 1)
    result = events[-1]
    assert result == {"type": "Result", **json.loads((out / NAME / "result.json").read_text())}
    assert {(v["measure"], v["printed"]) for v in result["values"]} == {("dice", 0.861), ("hausdorff", 6.91)}
    notes = " | ".join(result["notes"])
    assert "2 of 10650 steps" in notes
    assert "4 of 50 cases of the set" in notes
    assert "network.features=[4, 8]" in notes
    assert "patch.size=[48, 48]" in notes
    assert "data." not in notes
    (cell,) = (out / "cells").iterdir()
    record = json.loads(cell.read_text())
    assert record["error"] == ""
    # One patient of four is tested, on slices with foreground only, each slice measured.
    assert {name.partition("__")[0] for name in record["test"]}.isdisjoint(
        name.partition("__")[0] for name in record["train"]
    )
    assert set(record["scores"]) == set(record["test"])
    dice = [scores["prostate"]["dice"] for scores in record["scores"].values()]
    (own,) = [v for v in result["values"] if v["measure"] == "dice"]
    assert own["ours"] == pytest.approx(sum(dice) / len(dice))
    assert own["cases"] == len(dice)


def test_what_is_there_is_not_made_again(ran):
    data, out, events = ran
    done = ctxseg("recipes", "run", NAME, "--data", data, "--out", out, *TINY, "--json")
    assert done.exit_code == 0, done.stderr
    again = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(event["repeated"] for event in again if event["type"] in ("CasePrepared", "CellDone"))
    assert not [event for event in again if event["type"] == "StepEnd"]
    assert again[-1] == events[-1]


def test_prepared_files_are_shared_and_settings_decide_about_runs(ran, tmp_path):
    data, out, _ = ran
    shutil.copytree(out, tmp_path / "out")
    other = "context-t1-promise12-focal"
    done = ctxseg(
        "recipes",
        "run",
        other,
        "--data",
        data,
        "--out",
        tmp_path / "out",
        *TINY,
        "--seed",
        0,
        "--seed",
        1,
        "--json",
    )
    assert done.exit_code == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(event["repeated"] for event in events if event["type"] == "CasePrepared")
    assert [event["repeated"] for event in events if event["type"] == "CellDone"] == [False, False]
    assert events[-1]["runs"] == 2
    assert len(list((tmp_path / "out" / "cells").iterdir())) == 3


def test_folds(ran, tmp_path):
    data, out, _ = ran
    shutil.copytree(out / "prepared", tmp_path / "out" / "prepared")
    words = (
        "recipes",
        "run",
        NAME,
        "--data",
        data,
        "--out",
        tmp_path / "out",
        *TINY,
        "--folds",
        2,
        "--patients",
        3,
    )
    done = ctxseg(*words, "--json")
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["runs"] == 2
    assert "2 folds instead of one split" in result["notes"]
    assert "3 of 50 cases of the set" in result["notes"]
    tested = [
        name
        for path in (tmp_path / "out" / "cells").iterdir()
        for name in json.loads(path.read_text())["test"]
    ]
    assert len({name.partition("__")[0] for name in tested}) == 3


def test_what_keeps_ours_from_being_the_papers_is_printed(ran):
    data, out, events = ran
    recipe = load_row(NAME)
    assert events[-1]["differs"] == list(recipe.differs)
    assert events[-1]["unknown"] == [each.model_dump() for each in recipe.unknown]
    text = ctxseg("recipes", "run", NAME, "--data", data, "--out", out, *TINY).stdout  # made already
    _, _, rest = text.partition("Otherwise than in the paper:\n")
    differs, _, unknown = rest.partition("Not stated there, and chosen here:\n")
    assert differs.splitlines() == [f"- {line}" for line in recipe.differs]
    assert unknown.splitlines() == [f"- {u.setting}: {u.chosen} ({u.why})" for u in recipe.unknown]


def test_cells_are_counted_by_their_numbers(tmp_path):
    name = "crgan-t6-phc-hela-cgan"
    phc_hela(tmp_path / "set")
    tiny = ("--set", "method=supervised", *TINY[:-6], "--set", "patch.size=[32,32]", "--set", "patch.batch=2")
    out = tmp_path / "out"
    done = ctxseg("recipes", "run", name, "--data", tmp_path / "set", "--out", out, *tiny, "--json")
    assert done.exit_code == 0, done.stderr
    (path,) = (out / "cells").iterdir()
    record = json.loads(path.read_text())
    (case,) = record["test"]
    (folder,) = (out / "runs").iterdir()
    (labels,) = (out / "prepared").rglob(f"labels/{case}.nii.gz")
    (image,) = (out / "prepared").rglob(f"images/{case}.nii.gz")
    assert len(set(np.unique(nibabel.load(labels).dataobj)) - {0}) > 1
    predicted = tmp_path / "predicted"
    ctxseg("predict", folder, image, "--out", predicted, "--threads", 1)
    scores = {}
    for more in ("--instances", "--foreground"):
        found = ctxseg(
            "evaluate",
            "--pred",
            predicted,
            "--ref",
            labels,
            more,
            "--measures",
            "seg,specificity,recall",
            "--json",
        )
        scores[more] = json.loads(found.stdout)["mean"]
    own = record["scores"][case]["foreground"]
    assert own["seg"] == pytest.approx(scores["--instances"]["seg"])
    assert own["recall"] == pytest.approx(scores["--foreground"]["recall"])


def test_table_of_what_was_run(ran):
    data, out, _ = ran
    done = ctxseg("recipes", "table", "--runs", out, "--json")
    assert done.exit_code == 0, done.stderr
    lines = json.loads(done.stdout)
    assert {line["recipe"] for line in lines} == set(row_names())
    own = [line for line in lines if line["ours"]]
    recipe = load_row(NAME)
    counted = (
        f"{len(recipe.differs)} known to differ, {len(recipe.unknown)} not stated by the paper (recipes show)"
    )
    assert len(recipe.differs) > 1
    assert all(counted in line["what differs"] for line in own)
    assert {line["recipe"] for line in own} == {NAME}
    assert all("2 of 10650 steps" in line["what differs"] for line in own)
    average = [line for line in lines if line["recipe"] == "cwcd-t3-amos-sdl"]
    assert [(line["of"], line["paper"]) for line in average] == [("mean", "0.8529")]
    regions = [line for line in lines if line["recipe"] == "crgan-t1-brats17-cgan"]
    assert regions[0]["of"] == "WT / ET / TC"
    assert regions[0]["paper"] == "0.74 / 0.53 / 0.61"
    whole = json.loads(
        ctxseg("recipes", "table", "--paper", "cwcd", "--set", "amos", "--all", "--json").stdout
    )
    sdl = {line["of"]: line["paper"] for line in whole if line["recipe"] == "cwcd-t3-amos-sdl"}
    assert (sdl["spleen"], sdl["bladder"], len(sdl)) == ("-", "0.7073", 16)
    text = ctxseg("recipes", "table", "--runs", out, "--paper", "context", "--format", "markdown").stdout
    assert text.startswith("| recipe | set |")
    assert "| 0.861 |" in text
    rows = ctxseg("recipes", "table", "--paper", "dbce", "--format", "csv").stdout.splitlines()
    assert len(rows) == 1 + 8 * 0 + 4 * 4 + 4 + 4 * 2  # polyp: four measures; ISIC: none; Synapse: two
    assert sum("not printed" in row for row in rows) == 4
    there = json.loads(ctxseg("recipes", "table", "--data", data, "--set", "promise12", "--json").stdout)
    assert {line["what differs"] for line in there} == {"data: 4 cases"}


def test_regions_percent_and_signed_values(tmp_path):
    lits(tmp_path / "set")
    tiny = ("--set", "method=supervised", *TINY[:-6], "--set", "patch.size=[32,32]", "--set", "patch.batch=2")
    done = ctxseg(
        "recipes",
        "run",
        "crgan-t5-lits-cgan",
        "--data",
        tmp_path / "set",
        "--out",
        tmp_path / "out",
        *tiny,
        "--json",
    )
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    (cell,) = (json.loads(p.read_text()) for p in (tmp_path / "out" / "cells").iterdir())
    voe = [
        sum(s[of]["voe"] for s in cell["scores"].values()) / len(cell["scores"]) for of in ("liver", "lesion")
    ]
    (own,) = [v for v in result["values"] if v["measure"] == "voe"]
    assert own["printed"] == 21
    assert own["ours"] == pytest.approx(100 * sum(voe) / 2)


def test_means_leave_out_what_does_not_apply():
    scores = {
        "a": {"x": {"dice": 0.5, "hd95": None, "predicted": 3, "reference": 9, "unit": "mm"}},
        "b": {"x": {"dice": 1.0, "hd95": 4.0}, "y": {"dice": None, "hd95": None}},
    }
    found = measured([{"scores": scores}, {"scores": {"c": {"y": {"dice": 0.25}}}}])
    assert found == {
        "dice": {"": (0.5, 2), "x": (0.75, 2), "y": (0.25, 1)},
        "hd95": {"": (4.0, 1), "x": (4.0, 1)},
    }


def test_list_and_show(tmp_path):
    rows = json.loads(ctxseg("recipes", "list", "--json").stdout)
    assert [row["name"] for row in rows] == row_names()
    assert sum(not row["runs"] for row in rows) == 30
    promise12(tmp_path / "p")
    some = json.loads(
        ctxseg("recipes", "list", "--paper", "context", "--data", tmp_path / "p", "--json").stdout
    )
    assert {(row["set"], row["there"]) for row in some} == {("promise12", "4 cases"), ("acdc", "not there")}
    assert "cited, cannot be run" in ctxseg("recipes", "list", "--set", "lits").stdout
    text = ctxseg("recipes", "show", NAME).stdout
    for part in (
        "grand-challenge.org",
        "arXiv 2001.02387",
        "Case",
        "10650 steps",
        "unknown:",
        "differs:",
        "0.861",
    ):
        assert part in text
    assert json.loads(ctxseg("recipes", "show", NAME, "--json").stdout)["set"] == "promise12"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "crgan-t6-phc-hela-mser", "--data", "."), "cites"),
        (("run", "nothing", "--data", "."), "is not known"),
        (("run", NAME, "--data", "nowhere"), "is no folder"),
        (("run", NAME, "--data", "{set}", "--steps", 1, "--minutes", 1), "two budgets"),
        (("run", NAME, "--data", "{set}", "--set", "loss.beauty=1"), "loss"),
        (("run", NAME, "--data", "{set}", "--patients", 2), "too few"),
        (("run", NAME, "--data", "{set}", "--folds", 9), "cannot be made"),
        (("show", "nothing"), "is not known"),
        (("list", "--paper", "another"), "is not known"),
        (("list", "--set", "another"), "is not known"),
        (("table", "--runs", "nowhere"), "is no folder"),
        (("table", "--format", "latex"), "is no format"),
    ],
)
def test_errors_are_one_line(ran, tmp_path, words, message):
    given = [str(word).replace("{set}", str(ran[0])) for word in words]
    more = ["--out", str(tmp_path / "out")] if words[0] == "run" else []
    done = ctxseg("recipes", *given, *more)
    assert done.exit_code == 1
    assert message in done.stderr
    assert done.stderr.strip().count("\n") == 0 or "preparing" in done.stderr


def test_a_run_that_fails_is_named_and_tried_again(ran, tmp_path):
    data, out, _ = ran
    shutil.copytree(out / "prepared", tmp_path / "out" / "prepared")
    words = ("recipes", "run", NAME, "--data", data, "--out", tmp_path / "out", *TINY)
    done = ctxseg(*words, "--set", "network={kind: vnet}", "--set", "patch.size=[8,8]")
    assert done.exit_code == 1
    assert "too small" in done.stderr
    table = json.loads(
        ctxseg("recipes", "table", "--runs", tmp_path / "out", "--set", "promise12", "--json").stdout
    )
    assert any("failed: patch.size" in line["what differs"] for line in table if line["recipe"] == NAME)
    done = ctxseg(*words)
    assert done.exit_code == 0, done.stderr
    assert "0.861" in done.stdout


def test_a_damaged_result_is_named(ran, tmp_path):
    shutil.copytree(ran[1] / NAME, tmp_path / NAME)
    (tmp_path / NAME / "result.json").write_text("{")
    done = ctxseg("recipes", "table", "--runs", tmp_path)
    assert done.exit_code == 1
    assert "is damaged" in done.stderr


def test_every_recipe_makes_a_plan(ran):
    from napari_ctxseg.commands.recipes import plan_of
    from napari_ctxseg.recipes.prepare import Prepared
    from napari_ctxseg.recipes.schema import Recipe

    parts = {"a": "train", "b": "test"}
    prepared = Prepared(ran[0] / "i.txt", ran[0] / "l.txt", parts, 2, 2, 2)
    for name in row_names()[::4]:
        row = load_row(name)
        if isinstance(row, Recipe):
            plan = plan_of(row, name, prepared, steps=3)
            assert plan.test == ("b",)
            assert plan.run.budget.steps == 3
            assert plan.measures.names == row.measures
