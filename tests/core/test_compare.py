"""Plans, splits, the queue and the report of a comparison, with runs that are made up."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from napari_ctxseg.compare.cells import Outcome, cells_of, dealt, groups_of, splits
from napari_ctxseg.compare.figures import boxes, curves, draw_figures, sweep
from napari_ctxseg.compare.plan import load_plan, merged, parse_plan
from napari_ctxseg.compare.queue import CompareFolder, run_queue
from napari_ctxseg.compare.report import latex, long_csv, make_report, markdown
from napari_ctxseg.compare.results import Results
from napari_ctxseg.dataset import Pair
from napari_ctxseg.errors import FileError, InputError
from napari_ctxseg.events import CellDone, CellStarted, Note

ROOT = Path(__file__).resolve().parents[2]
RUN = {
    "data": {"images": ["i"], "labels": ["l"], "group": r"P\d+", "classes": {"x": 1}},
    "budget": {"steps": 4},
}


def plan_of(variants=("ce", "dice_ce"), **more):
    table = {name: {"loss": name} for name in variants} if isinstance(variants, tuple) else variants
    values = {"run": RUN, "variants": table, "folds": 2, "measures": ["dice", "hd95"], **more}
    return parse_plan(values)


def pairs_of(patients=4, images=2):
    return [Pair(f"P{p}_{i}", (Path(f"P{p}_{i}.tif"),)) for p in range(patients) for i in range(images)]


# ---------------------------------------------------------------- plan


def test_a_plan_reads_back_equal(tmp_path):
    plan = plan_of(sweep={"loss.smooth": [0.1, 1.0]}, variants={"ce": {"loss": "ce"}, "d": {"loss": "dice"}})
    folder = CompareFolder(tmp_path / "c")
    folder.create(plan, resume=False)
    assert folder.plan() == load_plan(tmp_path / "c" / "compare.yaml") == plan


def test_sections_are_laid_over_or_replaced():
    base = {"loss": {"kind": "focal", "gamma": 2}, "network": {"kind": "unet", "dims": 3}, "seed": 1}
    assert merged(base, {"loss": "ce"})["loss"] == {"kind": "ce"}
    assert merged(base, {"loss": {"gamma": 3}})["loss"] == {"kind": "focal", "gamma": 3}
    assert merged(base, {"loss": {"kind": "focal", "gamma": 3}})["loss"] == {"kind": "focal", "gamma": 3}
    assert merged(base, {"loss": {"kind": "focal", "preset": "released"}})["loss"] == {
        "kind": "focal",
        "preset": "released",
    }
    assert merged(base, {"loss.gamma": 4})["loss"] == {"kind": "focal", "gamma": 4}
    assert merged(base, {"network": "vnet"})["network"] == {"kind": "vnet", "dims": 3}  # a volume stays one
    assert base["loss"] == {"kind": "focal", "gamma": 2}


def test_a_sweep_leaves_variants_without_the_field_alone():
    variants = {
        "dice_ce": {"loss": "dice_ce"},
        "dbce": {"loss": {"kind": "dilated_balanced_ce", "unit": "px"}},
    }
    plan = plan_of(variants, sweep={"loss.radius": [2, 5, 20]})
    assert [v.name for v in plan.variants] == ["dice_ce", *(f"dbce, loss.radius={r}" for r in (2, 5, 20))]
    assert [v.value for v in plan.variants] == [None, 2, 5, 20]
    configs = [plan.config_of(v, 7) for v in plan.variants]
    assert [getattr(c.loss, "radius", None) for c in configs] == [None, 2, 5, 20]
    assert {c.loss.unit for c in configs[1:]} == {"px"}
    assert {c.seed for c in configs} == {7}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"variants": {}}, "at least 1"),
        ({"variants": {"a": {"loss": "dise"}}}, "variant a: loss"),
        ({"variants": [{"name": "a"}, {"name": "a"}]}, "same name"),
        ({"reference": "b"}, "none of the variants"),
        ({"seeds": [1, 1]}, "different numbers"),
        ({"folds": None}, "either `folds` or the `test` patients"),
        ({"folds": 1}, "greater than or equal to 2"),
        ({"primary": "dise"}, "'dise' is no measure"),
        ({"measures": {"instances": True}}, "add --foreground"),
        ({"measures": ["dise"]}, "is no measure"),
        ({"primary": "rvd", "measures": {"names": ["dice", "rvd"]}}, "best at 0"),
        ({"sweep": {"loss.radius": [1]}}, "loss.*radius"),
        ({"run": {**RUN, "data": {**RUN["data"], "annotation": "scribbles"}}}, "complete masks"),
        ({"paired_test": "t"}, "paired_test"),
    ],
)
def test_a_wrong_plan_is_named(change, words):
    with pytest.raises(InputError, match=words):
        plan_of(**change)


def test_measures_by_the_names_people_use():
    plan = plan_of(measures=["overlap", "HD95", "nsd"], primary="sensitivity")
    assert plan.primary == "recall"
    assert {"dice", "recall", "voe", "hd95", "surface_dice"} <= set(plan.measures.names)
    alone = plan_of(primary="clDice")  # measured too, because it is tested
    assert (alone.primary, alone.measures.names) == ("cldice", ("dice", "hd95", "cldice"))
    assert plan_of(measures=["hd95", "dice"]).measures.names == ("hd95", "dice")  # as it was given
    assert plan_of(measures="dice, nsd").measures.names == ("dice", "surface_dice")
    assert plan_of(measures=None).measures.names[:2] == ("dice", "iou")


def test_numbered_objects_are_another_run_and_their_absence_is_none():
    foreground = {**RUN, "data": {**RUN["data"], "classes": {}, "foreground": True}}
    (plain, *_), (numbered, *_) = (
        cells_of(
            plan_of(run=foreground, measures={"names": ["seg"], "instances": on}, primary="seg"), pairs_of()
        )
        for on in (False, True)
    )
    assert plain.key != numbered.key
    config = plain.config.model_dump(mode="json", exclude={"device"})
    config["data"] |= {"images": [], "labels": []}
    before = plan_of(measures=["seg"], primary="seg").measures.model_dump(mode="json")
    assert before.pop("instances") is False
    record = json.dumps([config, plain.train, plain.test, before, plain.data], sort_keys=True)
    assert plain.key == hashlib.sha256(record.encode()).hexdigest()[:16]  # runs that are stored stay found


def test_a_plan_file_that_is_none(tmp_path):
    (tmp_path / "p.yaml").write_text("- 1")
    with pytest.raises(InputError, match="holds no plan"):
        load_plan(tmp_path / "p.yaml")
    (tmp_path / "q.yaml").write_bytes(b"\xff: [")
    with pytest.raises(InputError, match="cannot be read as YAML"):
        load_plan(tmp_path / "q.yaml")


# ---------------------------------------------------------------- split


def test_folds_are_by_patient_and_do_not_move():
    plan = plan_of(folds=3)
    groups = groups_of([pair.name for pair in pairs_of(7, 3)], r"P\d+")
    parts = splits(plan, groups)
    tested = [name for _, test in parts for name in test]
    assert sorted(tested) == sorted(groups)  # each image once
    for train, test in parts:
        assert not {groups[name] for name in train} & {groups[name] for name in test}
        assert set(train) | set(test) == set(groups)
    assert [len({groups[n] for n in test}) for _, test in parts] == [3, 2, 2]
    assert dealt(list(reversed(list(groups.values()))), 3) == dealt(list(groups.values()), 3)


def test_named_test_patients():
    groups = groups_of([pair.name for pair in pairs_of()], r"P\d+")
    ((train, test),) = splits(plan_of(folds=None, test=["P1", "P3"]), groups)
    assert {groups[n] for n in test} == {"P1", "P3"}
    assert {groups[n] for n in train} == {"P0", "P2"}
    for patients, words in ((["P9"], "in none of the images"), (["P0", "P1", "P2", "P3"], "nobody is left")):
        with pytest.raises(InputError, match=words):
            splits(plan_of(folds=None, test=patients), groups)


def test_one_patient_cannot_be_split():
    with pytest.raises(InputError, match="cannot be made of one patient"):
        cells_of(plan_of(), pairs_of(1, 5))


def test_cells_of_a_block_differ_in_nothing_but_the_variant():
    cells = cells_of(plan_of(seeds=[0, 5]), pairs_of())
    assert [(c.seed, c.fold, c.variant) for c in cells] == [
        (s, f, v) for s in (0, 5) for f in (0, 1) for v in ("ce", "dice_ce")
    ]
    for one, other in zip(cells[::2], cells[1::2], strict=True):
        assert (one.train, one.test, one.seed) == (other.train, other.test, other.seed)
        assert one.config.model_dump(exclude={"loss"}) == other.config.model_dump(exclude={"loss"})
    assert len({c.key for c in cells}) == len(cells)


def test_a_key_knows_settings_and_data_but_not_places_and_devices():
    (key, *_) = (c.key for c in cells_of(plan_of(), pairs_of()))

    def again(**more):
        return cells_of(plan_of(**more), pairs_of())[0].key

    assert again() == key
    assert (
        again(run={**RUN, "data": {**RUN["data"], "images": ["elsewhere"]}, "device": {"threads": 3}}) == key
    )
    assert again(run={**RUN, "budget": {"steps": 5}}) != key
    assert again(data_sha256="other") != key
    assert again(measures=["dice"]) != key


# ---------------------------------------------------------------- queue


def scores_of(value, predicted=9, reference=9):
    if predicted and reference:
        hd95 = 10 * (1 - value)
    else:
        value, hd95 = (0.0 if predicted or reference else None), None
    return {"dice": value, "hd95": hd95, "predicted": predicted, "reference": reference, "unit": "mm"}


def good(cell, shift=0.0):
    values = {name: {"x": scores_of(0.5 + 0.04 * int(name[1]) + shift)} for name in cell.test}
    curve = [(2, 30.0, 0.3), (4, 60.0, 0.5 + shift)]
    return Outcome(
        scores=values, seconds=60.0, steps=4, kept_step=4, curve=curve, curve_name="validation Dice"
    )


def runner_of(log, fail=(), shift=0.1):
    def run(cell, folder, stop):
        log.append((cell.variant, cell.fold, cell.seed))
        yield Note("working")
        if cell.variant in fail:
            raise RuntimeError("out of order\nmore")
        return good(cell, shift if cell.variant == "dice_ce" else 0.0)

    return run


def test_the_queue_does_each_run_once(tmp_path):
    folder, cells, log = CompareFolder(tmp_path / "c"), cells_of(plan_of(), pairs_of()), []
    folder.create(plan_of(), resume=False)
    events = list(run_queue(folder, cells, runner_of(log)))
    assert [type(e) for e in events[:3]] == [CellStarted, Note, CellDone]
    assert log == [(c.variant, c.fold, c.seed) for c in cells]
    assert [e.number for e in events if isinstance(e, CellDone)] == [1, 2, 3, 4]
    folder.create(plan_of(), resume=True)
    again = list(run_queue(folder, cells, runner_of(log)))
    assert len(log) == 4
    assert all(isinstance(e, CellDone) and e.repeated for e in again)


def test_it_stops_between_runs_and_within_one(tmp_path):
    folder, cells, log = CompareFolder(tmp_path / "c"), cells_of(plan_of(), pairs_of()), []
    folder.create(plan_of(), resume=False)
    list(run_queue(folder, cells, runner_of(log), stop=lambda: len(log) == 2))
    assert len(log) == 2

    def interrupted(cell, run, stop):
        run.mkdir(parents=True)
        (run / "half").write_text("done")
        yield Note("working")

    list(run_queue(folder, cells, interrupted))
    assert len(list(folder.cells.iterdir())) == 2
    assert (folder.runs / cells[2].key / "half").is_file()  # what it left is there for the next attempt
    list(run_queue(folder, cells, runner_of(log)))
    assert log == [(c.variant, c.fold, c.seed) for c in cells]


def test_a_failed_run_is_recorded_and_the_next_one_made(tmp_path):
    folder, cells, log = CompareFolder(tmp_path / "c"), cells_of(plan_of(), pairs_of()), []
    folder.create(plan_of(), resume=False)
    events = list(run_queue(folder, cells, runner_of(log, fail=["dice_ce"])))
    errors = [e.error for e in events if isinstance(e, CellDone)]
    assert errors == ["", "RuntimeError: out of order", "", "RuntimeError: out of order"]
    list(run_queue(folder, cells, runner_of(log)))
    assert len(log) == 4  # failed runs stay failed unless asked for
    list(run_queue(folder, cells, runner_of(log), retry_failed=True))
    assert log[4:] == [("dice_ce", 0, 0), ("dice_ce", 1, 0)]
    assert all(folder.record(cell)["error"] == "" for cell in cells)


def test_a_folder_that_does_not_fit(tmp_path):
    folder = CompareFolder(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        folder.create(plan_of(), resume=False)
    with pytest.raises(InputError, match="no comparison to go on with"):
        folder.create(plan_of(), resume=True)
    with pytest.raises(InputError, match="holds no comparison"):
        folder.plan()
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"key": "other", "scores": {}}', b"\xff\xfe"])
def test_a_damaged_cell_is_named(tmp_path, content):
    folder, cells = CompareFolder(tmp_path / "c"), cells_of(plan_of(), pairs_of())
    folder.create(plan_of(), resume=False)
    (folder.cells / f"{cells[0].key}.json").write_bytes(content)
    with pytest.raises(FileError, match="is damaged"):
        list(run_queue(folder, cells, runner_of([])))


@pytest.mark.skipif(sys.platform == "win32", reason="no lock there")
def test_two_processes_do_not_share_a_queue(tmp_path):
    folder = CompareFolder(tmp_path / "c")
    folder.create(plan_of(), resume=False)
    with folder.locked(), pytest.raises(InputError, match="another process"):
        next(run_queue(CompareFolder(tmp_path / "c"), cells_of(plan_of(), pairs_of()), runner_of([])))


KILLED = """
import sys, time
from pathlib import Path
from napari_ctxseg.compare.queue import CompareFolder, run_queue
from napari_ctxseg.compare.cells import cells_of
from tests.core.test_compare import good, pairs_of, plan_of
def run(cell, folder, stop):
    folder.mkdir(parents=True, exist_ok=True)
    with open(Path(sys.argv[1]) / "begun", "a") as log: log.write(cell.key + "\\n")
    time.sleep(float(sys.argv[2]))
    return good(cell)
    yield
plan = plan_of(seeds=[0, 1])
folder = CompareFolder(Path(sys.argv[1]) / "c")
folder.create(plan, resume=(folder.path / "compare.yaml").exists())
list(run_queue(folder, cells_of(plan, pairs_of()), run))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_killed_it_goes_on_with_what_is_not_done(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    first = subprocess.Popen([*command, "0.2"], cwd=ROOT)
    stored = tmp_path / "c" / "cells"
    deadline = time.monotonic() + 60
    while not (stored.is_dir() and len(list(stored.glob("[!.]*.json"))) >= 3):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    first.kill()
    first.wait()
    before = {p.name: p.stat().st_mtime_ns for p in stored.glob("[!.]*.json")}
    begun = len((tmp_path / "begun").read_text().splitlines())
    assert len(before) < 8
    assert subprocess.run([*command, "0"], cwd=ROOT, timeout=60, check=False).returncode == 0
    after = {p.name: p.stat().st_mtime_ns for p in stored.glob("[!.]*.json")}
    assert len(after) == 8
    assert before.items() <= after.items()  # nothing was made twice
    assert len((tmp_path / "begun").read_text().splitlines()) - begun == 8 - len(before)
    for path in stored.glob("[!.]*.json"):
        assert set(json.loads(path.read_text())) >= {"key", "variant", "scores", "error", "train", "test"}


ENDED = """
import os, signal, sys
from pathlib import Path
from napari_ctxseg.compare.queue import CompareFolder, run_queue
from napari_ctxseg.compare.cells import cells_of
from tests.core.test_compare import good, pairs_of, plan_of
def run(cell, folder, stop):
    if cell is cells[1]:
        state = folder / "state"
        state.mkdir(parents=True, exist_ok=True)
        if sys.argv[2] == "comes further":
            (state / f"{len(list(state.iterdir())):08}.safetensors").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return good(cell)
    yield
plan = plan_of()
cells = cells_of(plan, pairs_of())
folder = CompareFolder(Path(sys.argv[1]) / "c")
folder.create(plan, resume=(folder.path / "compare.yaml").exists())
list(run_queue(folder, cells, run, retry_failed=sys.argv[3:] == ["retry"]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_a_run_that_ends_its_process_again_and_again_does_not_hold_up_the_queue(tmp_path):
    def once(*words):
        return subprocess.run(
            [sys.executable, "-c", ENDED, str(tmp_path), *words], cwd=ROOT, timeout=60, check=False
        ).returncode

    cells = cells_of(plan_of(), pairs_of())
    assert [once("the same place") for _ in range(2)] == [-9, -9]
    CompareFolder(tmp_path / "c").forget_starts()  # as if a person had ended it
    assert [once("the same place") for _ in range(3)] == [-9, -9, 0]
    errors = [CompareFolder(tmp_path / "c").record(cell)["error"] for cell in cells]
    assert [bool(error) for error in errors] == [False, True, False, False]
    assert "ended from outside 2 times" in errors[1]
    assert once("the same place", "retry") == -9  # and by hand it is tried again


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_a_run_that_comes_further_each_time_is_gone_on_with(tmp_path):
    command = [sys.executable, "-c", ENDED, str(tmp_path), "comes further"]
    for _ in range(4):
        assert subprocess.run(command, cwd=ROOT, timeout=60, check=False).returncode == -9


def test_interrupted_by_hand_it_is_not_counted(tmp_path):
    folder, cells = CompareFolder(tmp_path / "c"), cells_of(plan_of(), pairs_of())
    folder.create(plan_of(), resume=False)

    def interrupted(cell, run, stop):
        raise KeyboardInterrupt
        yield

    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            list(run_queue(folder, cells, interrupted))
    assert folder.record(cells[0]) is None


# ---------------------------------------------------------------- results and report


def results_of(plan, pairs, make):
    cells = cells_of(plan, pairs)
    made = {c.key: made for c in cells if (made := make(c)) is not None}
    records = {c.key: json.loads(json.dumps(made[c.key].to_json(c))) for c in cells if c.key in made}
    return Results(plan, cells, records, groups_of([p.name for p in pairs], plan.run.data.group))


def noisy(cell, shift):
    rng = np.random.default_rng([cell.seed, cell.fold])  # the same for all variants
    values = {n: {"x": scores_of(0.5 + 0.03 * int(n[1]) + rng.normal(0, 0.01) + shift)} for n in cell.test}
    return Outcome(scores=values, seconds=60.0, steps=4, curve=[(2, 30.0, 0.3), (4, 60.0, 0.6 + shift)])


def test_a_patient_is_the_mean_of_seeds_and_cases_and_then_classes():
    plan, pairs = plan_of(seeds=[0, 1]), pairs_of(2, 2)

    def make(cell):
        table = {
            "P0_0": {"x": scores_of(0.2 + 0.2 * cell.seed), "y": scores_of(0.9)},
            "P0_1": {"x": scores_of(0.6), "y": scores_of(0, 0, 0)},
            "P1_0": {"x": scores_of(0, 0, 5), "y": scores_of(0, 0, 0)},
            "P1_1": {"x": scores_of(0, 5, 0), "y": scores_of(0, 0, 0)},
        }
        return Outcome(scores={name: table[name] for name in cell.test}, steps=4)

    results = results_of(plan, pairs, make)
    # x: (0.2 + 0.4 + 0.6 + 0.6) / 4 over cases and seeds, y: 0.9; then the mean of the classes
    assert results.units("ce", "dice") == pytest.approx({"P0": (0.45 + 0.9) / 2, "P1": 0.0})
    assert results.units("ce", "dice", label="x") == pytest.approx({"P0": 0.45, "P1": 0.0})
    assert results.units("ce", "hd95", label="x") == pytest.approx({"P0": 5.5})  # P1 has no distance
    assert results.counts("ce") == {"cases": 10, "absent": 6, "missed": 2, "invented": 2}
    assert results.classes == ["x", "y"]


def test_the_report_of_a_difference_that_is_there():
    plan = plan_of(("ce", "dice_ce", "dice"), seeds=[0, 1], primary="dice")
    shifts = {"ce": 0.0, "dice_ce": 0.1, "dice": -0.002}
    results = results_of(plan, pairs_of(9), lambda c: noisy(c, shifts[c.variant]))
    report = make_report(results)
    assert report["runs"] == {"planned": 12, "done": 12, "failed": 0, "missing": 0}
    assert (report["units"], report["unit"], report["images"]) == (9, "patients", 18)
    p = 2 / 2**9
    assert [c["p"] for c in report["comparisons"]] == pytest.approx([p, p])
    assert [c["corrected"] for c in report["comparisons"]] == pytest.approx([2 * p, 2 * p])
    first = report["sentences"][0]
    assert first.startswith("dice_ce is better than ce in dice on these 9 patients")
    assert "Seed by seed the mean difference is +0.100, +0.100" in first
    assert report["sentences"][1].startswith("dice is worse than ce")
    ce = report["variants"][0]
    assert ce["measures"]["dice"]["units"] == 9
    assert ce["measures"]["dice"]["low"] < ce["measures"]["dice"]["value"] < ce["measures"]["dice"]["high"]
    assert [row["patient"] for row in report["worst"]["ce"]][:2] == ["P0", "P0"]
    json.dumps(report, allow_nan=False)


def test_lower_distances_are_better():
    plan = plan_of(primary="hd95")
    report = make_report(results_of(plan, pairs_of(9), lambda c: noisy(c, 0.1 * (c.variant == "dice_ce"))))
    assert report["sentences"][0].startswith("dice_ce is better than ce in hd95")
    values = [row["value"] for row in report["worst"]["ce"]]
    assert values == sorted(values, reverse=True)


def test_a_failed_run_makes_the_variant_incomplete_and_is_not_averaged_away():
    plan = plan_of(folds=2, seeds=[0, 1])

    def make(cell):
        if cell.variant == "dice_ce" and cell.fold == 1:
            return Outcome(error="memory: is too small.")
        # Fold 0 is hard for the reference's other fold: means over different patients would mislead.
        return noisy(cell, 0.05 * (cell.variant == "dice_ce"))

    results = results_of(plan, pairs_of(12, 1), make)
    report = make_report(results)
    ce, dice_ce = report["variants"]
    assert (ce["complete"], dice_ce["complete"], dice_ce["done"]) == (True, False, 2)
    assert [f["error"] for f in report["failed"]] == ["memory: is too small."] * 2
    (comparison,) = report["comparisons"]
    tested = len(set(results.done("dice_ce")[0, 0]["scores"]))
    assert comparison["units"] == tested == 6
    assert comparison["difference"]["value"] == pytest.approx(
        0.05
    )  # the same patients and seeds on both sides
    assert "dice_ce is incomplete: 2 of its 4 runs failed" in report["sentences"][0]
    page = markdown(report, [])
    assert "dice_ce (incomplete)" in page
    assert "## Failed runs" in page
    assert page.count("memory: is too small.") == 2


def test_a_variant_without_any_run_has_no_numbers():
    plan = plan_of(folds=2, seeds=[0, 1])
    results = results_of(
        plan,
        pairs_of(12, 1),
        lambda cell: Outcome(error="gone") if cell.variant == "dice_ce" else noisy(cell, 0.0),
    )
    report = make_report(results)
    assert report["sentences"][0] == "dice_ce has no numbers: all 4 of its runs failed."
    assert not any("Its mean is that" in text for text in report["sentences"])
    assert markdown(report, []).count("gone") == 4
    rows = [row for row in csv.DictReader(io.StringIO(long_csv(results))) if row["variant"] == "dice_ce"]
    assert [(row["fold"], row["seed"], row["error"]) for row in rows] == [
        ("0", "0", "gone"), ("1", "0", "gone"), ("0", "1", "gone"), ("1", "1", "gone"),
    ]  # fmt: skip
    axes = boxes(report).axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["ce", "dice_ce (no numbers)"]
    low, high = sorted(axes.get_ylim())
    assert low < 1 < 2 < high  # its empty row can be seen


def test_runs_to_do_are_rows_too():
    results = results_of(plan_of(), pairs_of(4), lambda c: noisy(c, 0) if c.fold == 0 else None)
    rows = list(csv.DictReader(io.StringIO(long_csv(results))))
    assert [(r["variant"], r["fold"]) for r in rows if r["error"] == "still to be done"] == [
        ("ce", "1"), ("dice_ce", "1"),
    ]  # fmt: skip
    assert all((row["dice"] == "") == bool(row["error"]) for row in rows)


def test_steps_that_were_skipped_are_said():
    def make(cell):
        values = noisy(cell, 0.0)
        return replace(values, steps=100, skipped=30 if (cell.variant, cell.fold) == ("dice_ce", 1) else 0)

    report = make_report(results_of(plan_of(), pairs_of(7), make))
    text = report["sentences"][0]
    assert text.startswith("In 1 of the 2 runs of dice_ce steps were not finite and were skipped, up to 30 %")
    assert sum("not finite" in each for each in report["sentences"]) == 1


def test_a_class_that_only_networks_see_is_said():
    def make(cell):
        ghost = scores_of(0.0, 40, 0) if cell.variant == "dice_ce" else scores_of(0, 0, 0)
        return Outcome(scores={n: {"x": scores_of(0.8), "ghost": ghost} for n in cell.test}, steps=4)

    report = make_report(results_of(plan_of(), pairs_of(7, 1), make))
    assert "The class ghost is in no reference, but dice_ce predicted it" in " ".join(report["sentences"])
    ce, dice_ce = report["variants"]
    assert (ce["class_counts"]["ghost"]["absent"], dice_ce["class_counts"]["ghost"]["invented"]) == (7, 7)
    assert "| absent | missed | invented |" in markdown(report, [])


def test_a_seed_that_failed_for_one_is_left_out_for_both():
    plan = plan_of(folds=None, test=[f"P{i}" for i in range(6)], seeds=[0, 1])

    def make(cell):
        if cell.variant == "dice_ce" and cell.seed == 1:
            return Outcome(error="gone")
        # The second seed is much better: averaging it into one side only would invent a difference.
        return noisy(cell, 0.3 * cell.seed)

    report = make_report(results_of(plan, pairs_of(9, 1), make))
    assert report["comparisons"][0]["difference"]["value"] == pytest.approx(0)
    assert report["variants"][1]["seed_spread"] is None


def test_what_is_missing_and_what_cannot_be_said_is_said():
    few = make_report(results_of(plan_of(), pairs_of(4), lambda c: noisy(c, 0) if c.fold == 0 else None))
    text = " ".join(few["sentences"])
    assert "not finished: 2 of 4 runs" in text
    assert "no test is possible below 6 patients" in text
    assert few["comparisons"][0]["p"] is None
    assert "One seed only" in text
    ungrouped = {**RUN, "data": {**RUN["data"], "group": None}}
    report = make_report(results_of(plan_of(run=ungrouped), pairs_of(4, 2), lambda c: noisy(c, 0)))
    assert report["unit"] == "images"
    assert "Every image counts for itself" in " ".join(report["sentences"])
    nothing = make_report(results_of(plan_of(), pairs_of(4), lambda c: None))
    assert "nothing can be said" in " ".join(nothing["sentences"])
    assert "n/a" in markdown(nothing, [])
    alone = make_report(results_of(plan_of(("ce",)), pairs_of(4), lambda c: noisy(c, 0)))
    assert "only one variant" in " ".join(alone["sentences"])


def test_a_mean_over_fewer_patients_says_so():
    """Of eight patients the second variant misses the structure in seven: its one distance is no mean of all."""

    def make(cell):
        missed = cell.variant == "dice_ce"
        table = {n: scores_of(0.0, 0, 5) if missed and n != "P3_0" else scores_of(0.8) for n in cell.test}
        return Outcome(scores={n: {"x": scores} for n, scores in table.items()}, steps=4)

    report = make_report(results_of(plan_of(), pairs_of(8, 1), make))
    page = markdown(report, [])
    row = next(line for line in page.splitlines() if line.startswith("| dice_ce | 2 of 2"))
    assert ", n = 1 |" in row
    assert "| 0 of 8 | 7 of 8 | 0 of 8 |" in row
    assert ", n = " not in next(line for line in page.splitlines() if line.startswith("| ce | 2 of 2"))
    text = " ".join(report["sentences"])
    assert "The mean hd95 of dice_ce is over 1 patient only" in text
    assert "The numbers rest on 8 patients that the networks had not seen, 8 images." in text


def test_what_was_tested_is_counted():
    split = make_report(results_of(plan_of(folds=None, test=["P0"]), pairs_of(3, 2), lambda c: noisy(c, 0)))
    assert "rest on 1 patient that the networks had not seen, 2 images." in " ".join(split["sentences"])


def test_an_empty_class_has_no_numbers_and_that_is_said():
    def make(cell):
        scores = {n: {"x": scores_of(0.7), "ghost": scores_of(0, 0, 0)} for n in cell.test}
        return Outcome(scores=scores)

    report = make_report(results_of(plan_of(), pairs_of(7, 1), make))
    assert "The class ghost is in no reference and no prediction" in " ".join(report["sentences"])
    assert report["variants"][0]["measures"]["dice"]["value"] == pytest.approx(0.7)
    assert "## ghost" in markdown(report, [])


def test_slower_losses_took_fewer_steps():
    timed = {**RUN, "budget": {"minutes": 1.0}}
    made = {"ce": 400, "dice_ce": 250}
    report = make_report(
        results_of(
            plan_of(run=timed),
            pairs_of(7, 1),
            lambda c: Outcome(scores=noisy(c, 0).scores, steps=made[c.variant]),
        )
    )
    assert "Every run had 1 min of training, which were 250 to 400 steps" in " ".join(report["sentences"])


def test_tables_hold_every_number():
    plan = plan_of(seeds=[0, 1])
    results = results_of(plan, pairs_of(7, 2), lambda c: noisy(c, 0.1 * (c.variant == "dice_ce")))
    report = make_report(results)
    rows = list(csv.DictReader(io.StringIO(long_csv(results))))
    assert len(rows) == 2 * 2 * 14  # variants, seeds, cases (each tested in one fold)
    for variant in report["variants"]:
        patients = {}
        for row in rows:
            if row["variant"] == variant["name"]:
                patients.setdefault(row["patient"], []).append(float(row["dice"]))
        mean = np.mean([np.mean(v) for v in patients.values()])
        assert variant["measures"]["dice"]["value"] == pytest.approx(mean)
        assert f"| {variant['name']} | 4 of 4 | 7 | {mean:.3f} [" in markdown(report, [])
    tex = latex(report)
    assert r"dice\_ce & 4 of 4" in tex
    assert tex.startswith("% dice_ce is better than ce")


# ---------------------------------------------------------------- figures


def swept_report():
    variants = {
        "dice_ce": {"loss": "dice_ce"},
        "dbce": {"loss": {"kind": "dilated_balanced_ce", "unit": "px"}},
    }
    plan = plan_of(variants, sweep={"loss.radius": [2, 20, 5]})
    return make_report(results_of(plan, pairs_of(7), lambda c: noisy(c, 0.01 * len(c.variant))))


def test_boxes_show_every_patient():
    report = swept_report()
    axes = boxes(report).axes[0]
    points = [line for line in axes.lines if line.get_marker() == "."]
    assert len(points) == len(report["variants"])
    for line, variant in zip(points, report["variants"], strict=True):
        assert sorted(line.get_xdata()) == sorted(variant["patients"].values())
    assert [t.get_text() for t in axes.get_yticklabels()] == [v["name"] for v in report["variants"]]
    assert axes.get_xlabel() == "dice, one point for each of the patients"


def test_curves_show_every_run_and_the_mean():
    report = swept_report()
    axes = curves(report).axes[0]
    assert len(axes.lines) == len(report["variants"]) * (2 + 1)  # two folds and their mean
    assert axes.get_xlabel() == "minutes of training"
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [0.5, 1.0])
    thick = axes.lines[2]
    assert thick.get_ydata()[-1] == pytest.approx(0.6 + 0.01 * len("dice_ce"))
    assert [t.get_text() for t in axes.get_legend().get_texts()] == [v["name"] for v in report["variants"]]


def test_incomplete_variants_are_marked_in_every_picture():
    variants = {"dbce": {"loss": {"kind": "dilated_balanced_ce", "unit": "px"}}, "ce": {"loss": "ce"}}
    plan = plan_of(variants, sweep={"loss.radius": [2, 20, 5]}, seeds=[0, 1])

    def make(cell):
        radius = getattr(cell.config.loss, "radius", None)
        gone = radius == 20 or (radius in (5, None) and cell.seed == 1)
        return Outcome(error="gone") if gone else noisy(cell, 0.0)

    report = make_report(results_of(plan, pairs_of(7), make))
    names = ["dbce, loss.radius=2", "dbce, loss.radius=20 (no numbers)", "dbce, loss.radius=5 (incomplete)",
             "ce (incomplete)"]  # fmt: skip
    assert [t.get_text() for t in boxes(report).axes[0].get_yticklabels()] == names
    assert [t.get_text() for t in curves(report).axes[0].get_legend().get_texts()] == [
        name for name in names if "no numbers" not in name
    ]
    legend = [t.get_text() for t in sweep(report).axes[0].get_legend().get_texts()]
    assert sorted(legend) == ["ce (incomplete)", "dbce (incomplete at 20, 5)"]


def test_the_sweep_is_in_order_with_intervals():
    report = swept_report()
    axes = sweep(report).axes[0]
    line = axes.lines[0]
    assert list(line.get_xdata()) == [2, 5, 20]
    by_value = {v["value"]: v["measures"]["dice"] for v in report["variants"]}
    assert list(line.get_ydata()) == [by_value[r]["value"] for r in (2, 5, 20)]
    segments = axes.collections[0].get_segments()
    assert [s[0][1] for s in segments] == pytest.approx([by_value[r]["low"] for r in (2, 5, 20)])
    assert axes.get_xscale() == "log"
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["dice_ce", "dbce"]
    assert sweep(make_report(results_of(plan_of(), pairs_of(), lambda c: noisy(c, 0)))) is None


def test_figures_are_written_twice_the_same(tmp_path):
    report = swept_report()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        written = draw_figures(report, tmp_path / name)
    assert written == [f"{n}{s}" for n in ("boxes", "curves", "sweep") for s in (".svg", ".png")]
    for name in written:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert "minutes of training" in (tmp_path / "a" / "curves.svg").read_text()  # text, not outlines


def test_nothing_to_draw(tmp_path):
    empty = make_report(results_of(plan_of(), pairs_of(), lambda c: None))
    assert draw_figures(empty, tmp_path) == []


def test_a_plan_in_yaml(tmp_path):
    text = """
run: {data: {images: [i], labels: [l], group: 'P\\d+'}, budget: {steps: 10}}
variants:
  dice_ce: {loss: dice_ce}
  context, mask: {loss: {kind: context_ce, roi: {kind: mask, radius: 10, unit: px}}}
test: [P1]
seeds: [0, 1]
measures: {names: [dice, cldice], sizes: [10, 100]}
"""
    (tmp_path / "p.yaml").write_text(text)
    plan = load_plan(tmp_path / "p.yaml")
    assert plan.config_of(plan.variants[1], 0).loss.roi.kind == "mask"
    assert plan.measures.options.sizes == (10, 100)
    assert yaml.safe_load(yaml.safe_dump(plan.model_dump(mode="json")))["seeds"] == [0, 1]
