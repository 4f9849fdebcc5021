"""All rows of the papers' tables: their numbers, their settings, and that they can be built."""

from __future__ import annotations

import importlib
import os
import re
from collections import Counter
from pathlib import Path

import pytest
import torch
import yaml
from pydantic import ValidationError

from napari_ctxseg.config import Config, RunConfig
from napari_ctxseg.config.combinations import Facts, refusals
from napari_ctxseg.errors import InputError
from napari_ctxseg.losses import make_loss
from napari_ctxseg.networks import make_discriminator, make_network
from napari_ctxseg.recipes.schema import PAPERS, CitedRow, Recipe, parse_row
from napari_ctxseg.recipes.store import load_row, row_names, row_text
from napari_ctxseg.training import METHODS

ROWS = {name: load_row(name) for name in row_names()}
RECIPES = {name: row for name, row in ROWS.items() if isinstance(row, Recipe)}
#: Paper, table and set -> rows that can be run, and rows that the paper cites from others. Table S is of the supplement.
TABLES = {
    ("context", "1", "promise12"): (9, 0),
    ("context", "1", "acdc"): (9, 0),  # "Dice" among them, which is not reported
    ("context", "S", "promise12"): (1, 0),
    ("crgan", "1", "brats17"): (3, 10),
    ("crgan", "2", "brats17"): (3, 3),
    ("crgan", "3", "brats17"): (2, 0),
    ("crgan", "4", "lits"): (2, 5),
    ("crgan", "5", "lits"): (2, 4),
    ("crgan", "6", "phc_hela"): (2, 4),
    ("crgan", "7", "mda231"): (3, 4),
    ("dbce", "1", "polyp"): (4, 0),
    ("dbce", "2", "isic18"): (4, 0),  # whose numbers did not survive
    ("dbce", "3", "synapse"): (4, 0),
    ("cwcd", "1", "amos"): (4, 0),
    ("cwcd", "1", "brats21"): (4, 0),
    ("cwcd", "2", "amos"): (8, 0),
    ("cwcd", "2", "brats21"): (8, 0),
    ("cwcd", "3", "amos"): (5, 0),
    ("cwcd", "3", "brats21"): (5, 0),
}
NOT_PRINTED = {"context-t1-acdc-dice", *(n for n in ROWS if n.startswith("dbce-t2-"))}
MINIMAL = {
    "paper": "dbce", "table": "1", "row": "CE", "set": "polyp", "note": "none",
    "data": {"classes": {"polyp": 1}}, "network": "unet", "loss": "ce", "schedule": {"epochs": 2, "items": 10},
    "measures": ["dice"],
}  # fmt: skip


def test_every_row_of_every_table_is_there():
    found = Counter(((row.paper, row.table, row.set_), type(row)) for row in ROWS.values())
    counted = {place: (found[place, Recipe], found[place, CitedRow]) for place, _ in found}
    assert counted == TABLES
    assert {name for name, row in ROWS.items() if not row.printed} == NOT_PRINTED


SPEC = (
    Path(os.environ.get("CTXSEG_SPEC", Path(__file__).resolve().parents[3] / "shared" / "spec"))
    / "methods.md"
)


@pytest.mark.skipif(not SPEC.is_file(), reason="the specification does not lie beside")
@pytest.mark.parametrize("paper", list(PAPERS))
def test_printed_numbers_are_those_of_the_specification(paper):
    section = f"### 1.{1 + list(PAPERS).index(paper)} "
    text = SPEC.read_text(encoding="utf-8").partition(section)[2].partition("\n### ")[0].partition("\n## ")[0]
    there = {float(number) for number in re.findall(r"-?\d*\.?\d+", text)}
    missing = {
        (name, each.measure, each.class_, each.value)
        for name, row in ROWS.items()
        if row.paper == paper
        for each in row.printed
        if each.value is not None and each.value not in there
    }
    assert not missing


@pytest.mark.parametrize(
    ("name", "measure", "of", "value"),
    [
        ("context-t1-promise12-context-dynamic", "hausdorff", "", 7.30),
        ("context-ts-promise12-seg-glgan-static-context", "dice", "", 0.8158),
        ("crgan-t1-brats17-recurrent-refine", "dice", "ET", 0.64),
        ("crgan-t1-brats17-cgan", "hausdorff", "TC", 31.0),
        ("crgan-t2-brats17-recurrent", "fnr", "ET", 0.32),
        ("crgan-t4-lits-super-ai", "assd", "lesion", 1.1),
        ("crgan-t5-lits-cgan", "rvd", "", -1),
        ("crgan-t7-mda231-rnn-gan", "fpr", "", 0.10),
        ("dbce-t1-polyp-balanced-ce", "recall", "", 91.95),
        ("dbce-t3-synapse-dbce", "dice", "kidney_L", 86.63),
        ("cwcd-t1-amos-gdl", "dice", "adrenal_L", 0.3619),
        ("cwcd-t2-amos-unetr-cedl", "dice", "adrenal_L", None),
        ("cwcd-t2-brats21-vnet-cwcd", "dice", "TC", 0.7111),
        ("cwcd-t3-amos-sdl", "dice", "bladder", 0.7073),
    ],
)
def test_single_numbers(name, measure, of, value):
    (found,) = [each.value for each in ROWS[name].printed if (each.measure, each.class_) == (measure, of)]
    assert found == value


def test_printed_averages_are_means_of_what_did_not_fail():
    # The papers' own arithmetic: AMOS, BraTS 2021 and Synapse print the parts and their mean.
    for name, row in RECIPES.items():
        dice = {each.class_: each.value for each in row.printed if each.measure == "dice"}
        parts = [value for of, value in dice.items() if of and value is not None]
        if "" in dice and parts:
            digits = 0.011 if row.set_ == "synapse" else 0.0006
            assert sum(parts) / len(parts) == pytest.approx(dice[""], abs=digits), name


@pytest.mark.parametrize("name", list(RECIPES))
def test_every_recipe_is_a_run(name):
    recipe = RECIPES[name]
    config = recipe.config("images", "labels")
    assert isinstance(config, RunConfig)
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config
    assert config.budget.steps == recipe.steps >= recipe.schedule.epochs
    assert recipe.unknown
    assert all(each.why for each in recipe.unknown)
    assert recipe.differs
    shape = recipe.patch.size if recipe.data.planes == ("z",) else (155, 240, 240)
    channels = {"brats17": 4, "brats21": 4, "polyp": 3, "isic18": 3}.get(recipe.set_, 1)
    assert refusals(config, Facts(tuple(shape), channels, len(recipe.structures), 20)) == []


def test_the_yaml_is_the_recipe():
    for name in list(ROWS)[::15]:
        assert parse_row(yaml.safe_load(row_text(name))) == ROWS[name]
        assert parse_row(ROWS[name].model_dump(mode="json", by_alias=True)) == ROWS[name]


def plain(config: Config) -> str:
    return config.model_dump_json()


def test_networks_can_be_built():
    networks = {}
    for recipe in RECIPES.values():
        for network in (recipe.network, *second_stage(recipe)):
            size = recipe.patch.size
            filled = network.filled(2, 3).for_patch(size if network.dims == len(size) else size[-2:])
            networks[plain(filled)] = filled
    assert len(networks) > 8
    for network in networks.values():
        with torch.device("meta"):  # nothing is allocated
            assert sum(p.numel() for p in make_network(network, pretrained=False).parameters()) > 1e5


def second_stage(recipe):
    return [recipe.method.refine.network] if hasattr(recipe.method, "refine") else []


def test_losses_can_be_computed():
    for dims, classes in {(r.network.dims, max(2, len(r.structures) + 1)) for r in RECIPES.values()}:
        logits = torch.randn(1, classes, *(12,) * dims, generator=torch.Generator().manual_seed(0))
        target = torch.zeros(1, *(12,) * dims, dtype=torch.int64)
        target[..., 3:8, 4:9] = 1
        target[..., 9:11, 1:4] = classes - 1
        losses = {
            plain(r.loss): r.loss
            for r in RECIPES.values()
            if r.network.dims == dims and max(2, len(r.structures) + 1) == classes
        }
        for loss in losses.values():
            if "balanced" in loss.kind and getattr(loss, "scope", "") == "dataset":
                loss = loss.model_copy(update={"frequencies": (1.0,) * classes})
            value = make_loss(loss)(logits.clone().requires_grad_(), target)
            assert torch.isfinite(value), loss
            value.backward()


def test_methods_and_discriminators_can_be_built():
    for recipe in RECIPES.values():
        assert type(recipe.method) in METHODS
    judges = {
        plain(r.method.discriminator): r for r in RECIPES.values() if hasattr(r.method, "discriminator")
    }
    for recipe in judges.values():
        with torch.device("meta"):
            roi = getattr(recipe.method, "roi", None)
            judge = make_discriminator(recipe.method.discriminator, 2, 3, 1, recipe.patch.size, roi)
            assert sum(p.numel() for p in judge.parameters()) > 0


# ---------------------------------------------------------------- the schema


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": 1}, "extra"),
        ({"paper": "another"}, "paper"),
        ({"set": "imagenet"}, "no set"),
        ({"note": ""}, "note that says why"),
        ({"printed": [{"measure": "dice", "value": 1}, {"measure": "dice", "value": 2}]}, "twice"),
        ({"printed": [{"measure": "beauty", "value": 1}]}, "no measure"),
        ({"printed": [{"measure": "iou", "value": 1}]}, "not measured"),
        ({"printed": [{"measure": "dice", "class": "liver", "value": 1}]}, "the structures are"),
        ({"measures": ["beauty"]}, "no measure"),
        ({"measures": []}, "measures"),
        ({"prepare": [{"kind": "sharpen"}]}, "prepare"),
        ({"loss": "nothing"}, "loss"),
        ({"data": {"classes": {"polyp": 1}, "images": ["x"]}}, "names no files"),
        ({"schedule": {"epochs": 0, "items": 1}}, "epochs"),
        ({"split": {"test": 1.0}}, "split"),
        ({"unknown": [{"setting": "x", "chosen": "y"}]}, "why"),
    ],
)
def test_wrong_rows_are_refused(change, message, tmp_path):
    assert isinstance(parse_row(MINIMAL), Recipe)
    with pytest.raises(ValidationError, match=message):
        parse_row(MINIMAL | change)
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(MINIMAL | change))
    with pytest.raises(InputError) as error:
        load_row(str(path))
    assert error.value.subject == str(path)


def test_rows_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        ROWS["dbce-t1-polyp-ce"].row = "other"


def test_an_own_file_and_unknown_names(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    assert load_row(str(path)).steps == 2 * 10
    path.write_text("a: [")
    with pytest.raises(InputError, match="cannot be read as YAML"):
        load_row(str(path))
    path.write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(InputError, match="cannot be read as YAML"):
        load_row(str(path))
    with pytest.raises(InputError, match="cannot be read"):
        load_row(str(tmp_path / "nowhere.yaml"))
    with pytest.raises(InputError) as error:
        load_row("t3-amos")
    assert "cwcd-t3-amos-ce" in error.value.remedy


def test_steps_are_epochs_of_batches():
    # 1127 slices in batches of 16 are 71 steps an epoch.
    assert RECIPES["context-t1-promise12-ce"].steps == 150 * 71
    assert RECIPES["context-t1-promise12-context-dynamic"].steps == 150 * 1127


def test_the_files_are_those_of_the_script(tmp_path, monkeypatch):
    docs = Path(__file__).resolve().parents[2] / "docs"
    monkeypatch.syspath_prepend(docs)
    script = importlib.import_module("make_recipes")
    monkeypatch.setattr(script, "ROWS", tmp_path)
    script.main()
    made = {path.name.removesuffix(".yaml"): path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert made == {name: row_text(name) for name in ROWS}
