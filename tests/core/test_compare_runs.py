"""Comparisons with real training: the command line, equal data for all variants, interruption."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import tifffile

from napari_ctxseg.commands import compare as command
from napari_ctxseg.compare.queue import CompareFolder, run_queue
from napari_ctxseg.events import CellDone, Reported, StepEnd
from napari_ctxseg.training.cell import cell_runner
from napari_ctxseg.training.comparison import run_comparison
from napari_ctxseg.training.patches import PatchSampler
from tests.core.conftest import blob_case
from tests.core.test_cli import ctxseg

FAST = (
    "--threads",
    "1",
    "--set",
    "network.features=[4,8,8]",
    "--set",
    "patch.size=[32,32]",
    "--set",
    "budget.val_every=3",
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Seven patients, one of them twice."""
    root = tmp_path_factory.mktemp("compare")
    for name in ("images", "labels"):
        (root / name).mkdir()
    for i, name in enumerate(["P0_a", "P0_b", *(f"P{p}_a" for p in range(1, 7))]):
        case = blob_case(name, seed=i, value=7)
        tifffile.imwrite(root / "images" / f"{name}.tif", case.image.array)
        tifffile.imwrite(root / "labels" / f"{name}.tif", case.labels)
    return root


def words(files, *more, folds=2, steps=4):
    common = (
        "--images",
        files / "images",
        "--labels",
        files / "labels",
        "--classes",
        "blob=7",
        "--group",
        r"P\d",
    )
    return ("compare", *common, "--folds", folds, "--steps", steps, *FAST, *more)


def test_compare_on_the_command_line(files, tmp_path):
    out = tmp_path / "c"
    done = ctxseg(
        *words(files, "--losses", "dice_ce,ce", "--measures", "dice,cldice", "--seeds", 0, 1, "--out", out)
    )
    assert done.exit_code == 0, done.stderr
    assert "not shown to differ" in done.stdout or "is better" in done.stdout or "is worse" in done.stdout
    for name in ("report.md", "report.json", "report.csv", "report.tex", "compare.yaml"):
        assert (out / name).is_file()
    for name in ("boxes", "curves"):
        assert (out / f"{name}.svg").is_file()
        assert (out / f"{name}.png").is_file()
    report = json.loads((out / "report.json").read_text())
    assert report["runs"] == {"planned": 8, "done": 8, "failed": 0, "missing": 0}
    assert report["units"] == 7
    assert set(report["variants"][0]["measures"]) == {"dice", "cldice"}
    assert report["comparisons"][0]["units"] == 7
    assert report["comparisons"][0]["p"] is not None
    for path in (out / "cells").iterdir():
        cell = json.loads(path.read_text())
        assert not {n[:2] for n in cell["train"]} & {n[:2] for n in cell["test"]}
        assert set(cell["scores"]) == set(cell["test"])
        assert [point[0] for point in cell["curve"]] == [3, 4]
    assert not list((out / "runs").glob("*/state"))

    before = (out / "report.md").read_bytes()
    (out / "report.md").unlink()
    again = ctxseg("compare", "--report", out)
    assert again.exit_code == 0, again.stderr
    assert (out / "report.md").read_bytes() == before
    events = [json.loads(line) for line in ctxseg("compare", "--resume", out, "--json").stdout.splitlines()]
    assert [e["type"] for e in events] == ["CellDone"] * 8 + ["Report"]
    assert all(e["repeated"] for e in events[:-1])


def test_a_run_that_fails_is_reported(files, tmp_path):
    out = tmp_path / "c"
    variant = "'no, planes': {data.planes: [y]}"  # refused by the data: single images have no planes
    done = ctxseg(*words(files, "--losses", "ce", "--variant", variant, "--out", out, "--seeds", 0))
    assert done.exit_code == 0, done.stderr
    assert "failed: data.planes" in done.stderr.replace("\n", " ")
    page = (out / "report.md").read_text()
    assert "no, planes has no numbers: all 2 of its runs failed" in page
    assert "nothing can be said" in page
    assert "need volumes, but all images are 2-D" in page


def test_a_run_that_diverged_has_failed_and_gets_no_verdict(files, tmp_path):
    out = tmp_path / "c"
    broken = "broken: {optim: {lr: 1.0e+30}}"
    done = ctxseg(*words(files, "--losses", "ce", "--variant", broken, "--out", out, "--seeds", 0, steps=6))
    assert done.exit_code == 0, done.stderr
    assert "were not finite" in done.stderr
    report = json.loads((out / "report.json").read_text())
    assert report["runs"]["failed"] == 2
    assert {row["variant"] for row in report["failed"]} == {"broken"}
    assert report["comparisons"][0]["p"] is None
    assert "broken has no numbers" in report["sentences"][0]
    assert not any("broken is worse" in text for text in report["sentences"])


def test_a_comparison_without_any_good_run_has_failed(files, tmp_path):
    out = tmp_path / "c"
    variant = "'no, planes': {data.planes: [y]}"
    done = ctxseg(*words(files, "--variant", variant, "--out", out))
    assert done.exit_code == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "has no run that ended well: data.planes" in last
    assert f"--resume {out} --retry-failed" in last
    assert (out / "report.md").is_file()


def test_errors_take_one_line(files, tmp_path):
    ours = words(files, "--out", tmp_path / "x")
    losses = ("--losses", "ce,dice_ce")
    (tmp_path / "labels").mkdir()
    for path in (files / "labels").iterdir():
        array = tifffile.imread(path)
        tifffile.imwrite(tmp_path / "labels" / path.name, array[:30] if path.name == "P3_a.tif" else array)
    for given, text in (
        (ours, "names nothing to compare"),
        ((*ours, "--losses", "dise"), "variant dise: loss"),
        ((*ours, *losses, "--variant", "x"), "NAME: {settings}"),
        ((*ours, *losses, "--sweep", "loss.radius"), "a.b=v,w"),
        ((*ours, *losses, "--sweep", "loss.radius=1,2"), "radius"),
        ((*words(files, *losses, folds=9), "--out", tmp_path / "x"), "cannot be made of 7 patients"),
        ((*ours, *losses, "--labels", tmp_path / "labels"), "same stem"),
        (words(files, *losses), "--out: is missing"),
        (("compare", "--resume", tmp_path, *losses), "other options cannot be added"),
        (("compare", "--resume", tmp_path), "holds no comparison"),
        (("compare", "--report", tmp_path), "holds no comparison"),
        (
            ("compare", "--images", files / "images", "--labels", tmp_path / "labels", "--losses", "ce,dice",
             "--folds", 2, "--out", tmp_path / "x"),
            "P3_a: image (40, 44) and labels (30, 44) have different shapes",
        ),
        (
            ("compare", "--images", files / "images" / "P0_a.tif", "--labels", files / "labels" / "P0_a.tif",
             "--losses", "ce,dice", "--folds", 2, "--out", tmp_path / "x"),
            "cannot be made of one patient",
        ),
    ):  # fmt: skip
        done = ctxseg(*given)
        assert done.exit_code == 1, (given, done.stdout, done.stderr)
        assert text in done.stderr, (given, done.stderr)
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "x").exists()


def test_changed_files_are_not_mixed(files, tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
        for path in (files / name).iterdir():
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
    out = tmp_path / "c"
    done = ctxseg(*words(tmp_path, "--losses", "ce", "--out", out, steps=1))
    assert done.exit_code == 0, done.stderr
    tifffile.imwrite(tmp_path / "labels" / "P3_a.tif", tifffile.imread(tmp_path / "labels" / "P2_a.tif"))
    refused = ctxseg("compare", "--resume", out)
    assert refused.exit_code == 1
    assert "have changed since this comparison began" in refused.stderr


def plan(files, losses, steps=6, seeds=(3, 4)):
    chosen, _ = command.from_options(
        {"out": Path("unused"), "plan": None, "resume": None, "report": None},
        run={
            "config": None, "classes": "blob=7", "data.group": r"P\d", "budget.steps": steps, "device.threads": 1,
            "data.images": [str(files / "images")], "data.labels": [str(files / "labels")], "set": list(FAST[3::2]),
        },
        axes=[("loss", losses)], variants=[], sweeps=[], more={"folds": 2, "seeds": list(seeds)},
        measuring={"measures": "dice"},
    )  # fmt: skip
    assert chosen is not None
    return chosen


def opened(chosen, out):
    from napari_ctxseg import dataset
    from napari_ctxseg.compare.cells import cells_of

    pairs = dataset.training_pairs(chosen.run.data)
    folder = CompareFolder(out)
    folder.create(chosen, resume=out.exists())
    cases = {case.name: case for case in dataset.read_cases(pairs, chosen.run.data)}
    return folder, cells_of(chosen, pairs), cell_runner(cases)


def test_every_variant_sees_the_same_patches(files, tmp_path, monkeypatch):
    """Through the training loop: images, labels and augmentation at every step depend on seed and fold, not on the loss."""
    seen, original = [], PatchSampler.batch

    def batch(self, step):
        drawn = original(self, step)
        digest = hashlib.sha256(drawn.image.numpy().tobytes() + drawn.target.numpy().tobytes()).hexdigest()
        seen.append((step, digest))
        return drawn

    monkeypatch.setattr(PatchSampler, "batch", batch)
    chosen = plan(files, "ce,dilated_balanced_ce,context_ce", steps=3)
    folder, cells, runner = opened(chosen, tmp_path / "c")
    found = {}
    for event in run_queue(folder, cells, runner):
        if isinstance(event, CellDone):
            assert not event.error
            found[event.variant, event.fold, event.seed] = tuple(seen)
            seen.clear()
    assert len(found) == 3 * 2 * 2
    for fold in (0, 1):
        for seed in (3, 4):
            orders = {found[v.name, fold, seed] for v in chosen.variants}
            assert len(orders) == 1
            assert [step for step, _ in orders.pop()] == [0, 1, 2]
    assert len(set(found.values())) == 4  # other seeds and folds see others


def test_stopped_within_a_run_it_ends_as_if_it_had_not_been(files, tmp_path):
    chosen = plan(files, "ce,dice", seeds=(1,))
    whole, cells, runner = opened(chosen, tmp_path / "whole")
    list(run_queue(whole, cells, runner))
    cut, cells, runner = opened(chosen, tmp_path / "cut")
    steps = []

    def stop():
        return len(steps) in (2, 8)  # within the first run, and the second

    for _ in range(3):
        for event in run_queue(cut, cells, runner, stop=stop):
            if isinstance(event, StepEnd):
                steps.append(event.step)
        steps.append(0)  # so that the stop is not asked for again at the same count
    assert [cut.record(cell)["scores"] for cell in cells] == [whole.record(cell)["scores"] for cell in cells]
    curves = [[[p[0], p[2]] for p in folder.record(c)["curve"]] for folder in (cut, whole) for c in cells]
    assert curves[: len(cells)] == curves[len(cells) :]
    assert steps.count(0) == 3
    assert steps[:4] == [1, 2, 0, 3]  # a resumed run went on instead of starting again


def test_what_is_done_is_reported_after_each_run(files, tmp_path):
    """Nobody needs to wait for the end, and after a crash the report of what is done is there."""
    folder, seen, drawn = CompareFolder(tmp_path / "c"), [], []
    for event in run_comparison(plan(files, "ce,dice", seeds=(1,)), folder, resume=False):
        if isinstance(event, Reported):
            report = json.loads((folder.path / "report.json").read_text())
            seen.append((event.final, report["runs"]["done"], report["runs"]["missing"]))
            drawn.append((folder.path / "boxes.png").exists())
            assert (event.final) == ("not finished" not in (folder.path / "report.md").read_text())
            (folder.path / "boxes.png").touch()  # as if of an earlier pause
    count = seen[-1][1]
    assert seen == [(done == count, done, count - done) for done in range(1, count + 1)]
    assert drawn == [False] * (count - 1) + [True], "pictures of fewer runs are not left beside newer numbers"


def test_a_variant_that_cannot_run_is_said_before_the_first_run(files, tmp_path):
    out = tmp_path / "c"
    plan = "'many folds': {method: {kind: cr_gan, refine: {folds: 9}}}"
    done = ctxseg(*words(files, "--losses", "ce", "--variant", plan, "--out", out, steps=2))
    assert done.exit_code == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    said = "! many folds cannot be trained: 9 folds need as many patients, but"
    assert lines[0].startswith(said)
    assert "Set the folds to" in lines[0]
    assert sum(line.startswith(said) for line in lines) == 1
    assert not any("bfloat16" in line for line in lines)
