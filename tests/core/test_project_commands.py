"""Two copies merged, data sets imported, and the commands that do it."""

from __future__ import annotations

import functools
import json
import operator
import shutil
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from napari_ctxseg.cli import app
from napari_ctxseg.commands.project_runs import _start
from napari_ctxseg.config import from_yaml
from napari_ctxseg.errors import InputError
from napari_ctxseg.image import image_from_array
from napari_ctxseg.project import (
    LabelStore,
    NewImage,
    Project,
    SliceMarks,
    all_runs,
    find_predictions,
    from_dataset_json,
    load_rounds,
    merge,
    save_round,
    set_patients,
    write_prediction,
)
from tests.core.conftest import blob_case
from tests.core.test_project import a_round

if TYPE_CHECKING:
    from pathlib import Path

FAST = ("--steps", "4", "--threads", "1", "--set", "network.features=[4,8,8]", "--set", "patch.size=[32,32]")


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: tmp_path / "settings")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: tmp_path / "cache")


def ctxseg(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})
    assert done.exit_code == code, done.output
    return done.output


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


# ---------------------------------------------------------------- merge


@pytest.fixture
def copies(tmp_path: Path) -> tuple[Project, Project]:
    """Two copies of a project with one volume, all slices painted 1 long ago."""
    tifffile.imwrite(tmp_path / "v.tif", np.zeros((6, 8, 9), np.uint8), metadata={"axes": "ZYX"})
    first = Project.create(tmp_path / "a.ctxseg", classes={"x": 1, "y": 2})
    first.add_images([NewImage((tmp_path / "v.tif",))])
    first.labels("v").save(np.ones((6, 8, 9), np.uint8), range(6), SliceMarks.of({0: range(6)}), now=100.0)
    shutil.copytree(first.path, tmp_path / "b.ctxseg", ignore=shutil.ignore_patterns(".lock"))
    return first, Project.open(tmp_path / "b.ctxseg")


def paint(store: LabelStore, index: int, value: int, now: float, marks: SliceMarks | None = None) -> None:
    labels = store.read().astype(np.int64)
    labels[index] = value
    store.save(labels, [index], marks, now=now)


def test_of_each_slice_the_newer_wins_and_the_other_stays(copies: tuple[Project, Project]) -> None:
    first, second = copies
    mine, theirs = first.labels("v"), second.labels("v")
    paint(mine, 0, 3, 200.0)  # only here
    paint(
        theirs, 1, 4, 200.0, SliceMarks.of({0: [0, 2, 3, 4, 5], 1: [2]}, [(0, 1)])
    )  # only there, mark cleared
    paint(mine, 2, 5, 300.0)  # both, here later
    paint(theirs, 2, 6, 200.0)
    paint(mine, 3, 7, 200.0)  # both, there later
    paint(theirs, 3, 300, 300.0)
    own, other = mine.read(), theirs.read()
    before = {p: p.stat().st_mtime_ns for p in second.path.rglob("*")}
    notes = merge(first, second)
    assert any("2 newer slices taken over, 2 kept" in note for note in notes)
    assert {p: p.stat().st_mtime_ns for p in second.path.rglob("*")} == before
    merged = first.labels("v")
    np.testing.assert_array_equal(merged.read()[:, 0, 0], [3, 4, 5, 300, 1, 1])
    assert merged.marks == SliceMarks.of({0: [0, 2, 3, 4, 5], 1: [2]}, [(0, 1)])
    numbers = {g.label: g.number for g in merged.generations()}
    for label, state in (("before merging", own), ("the other copy", other)):
        found = [merged.read_generation(numbers[label], i)[0] for i in range(6)]
        np.testing.assert_array_equal(found, state)
    assert merge(first, second) == []


def test_the_union_of_two_copies(copies: tuple[Project, Project], tmp_path: Path) -> None:
    first, second = copies
    save_round(first.path, a_round(1, 0.5))
    save_round(second.path, a_round(2, 0.6))
    (second.path / "rounds" / "aaaaaaaaaaaa.json").write_text("{")
    run = second.path / "runs" / "0001-ce-abcdef"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("seed: 1")
    write_prediction(second.path, run.name, "v", {"labels": np.ones((6, 8, 9), np.uint8)})
    tifffile.imwrite(tmp_path / "new.tif", np.ones((8, 9), np.uint8))
    second.add_image([tmp_path / "new.tif"], group="P9")
    second.import_labels("new", np.full((8, 9), 2))
    second.set_classes({"x": 1, "y": 2, "z": 3})
    notes = merge(first, second)
    assert [r.number for r in load_rounds(first.path)[0]] == [1, 2]
    assert any("aaaaaaaaaaaa.json" in note for note in notes)
    assert [r.name for r in all_runs(first.path)] == [run.name]
    assert set(find_predictions(first.path, run.name)) == {"v"}
    assert first.names == ["v", "new"]
    assert (first.image("new").array == 1).all()
    assert (first.labels("new").read() == 2).all()
    assert {c.name: c.value for c in first.spec.classes} == {"x": 1, "y": 2, "z": 3}
    assert first.spec.split.groups == second.spec.split.groups


def test_what_cannot_be_united_is_refused_before_anything_changes(
    copies: tuple[Project, Project], tmp_path: Path
) -> None:
    first, second = copies
    for folder, values in (("one", 1), ("two", 2)):
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / "same.tif", np.full((8, 9), values, np.uint8))
    first.add_image([tmp_path / "one" / "same.tif"])
    second.add_image([tmp_path / "two" / "same.tif"])
    spec = first.spec
    with pytest.raises(InputError, match="two different images"):
        merge(first, second)
    second.remove_image("same")
    second.set_classes({"x": 1, "other": 2})
    with pytest.raises(InputError, match="clashes"):
        merge(first, second)
    with (
        Project.create(tmp_path / "c.ctxseg") as third,
        pytest.raises(InputError, match="another project"),
    ):
        merge(first, third)
    assert first.spec == spec


# ---------------------------------------------------------------- data sets


def nifti(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.diag([-1.0, -1.0, 1.0, 1.0])), path)  # already LPS: nothing is turned


def volume(seed: int, shape: tuple[int, ...] = (5, 6, 7)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, shape).astype(np.uint8)


def test_nnunet_with_channels_regions_and_ignore(tmp_path: Path) -> None:
    root = tmp_path / "Dataset001"
    root.mkdir()
    for case in ("P1_a", "P1_b", "P2_a"):
        for channel in range(2):
            nifti(root / "imagesTr" / f"{case}_{channel:04d}.nii.gz", volume(channel).astype(np.float32))
        nifti(root / "labelsTr" / f"{case}.nii.gz", volume(9))
    for channel in range(2):
        nifti(root / "imagesTs" / f"T_{channel:04d}.nii.gz", volume(channel).astype(np.float32))
    values: dict[str, Any] = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "whole tumour": [1, 2], "core": [2], "ignore": 3},
        "regions_class_order": [1, 2],
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(values))
    found = from_dataset_json(root, group=r"P\d|T")
    with Project.create(
        tmp_path / "p",
        classes=found.classes,
        policy=found.policy,
        background=found.background,
        regions=found.regions,
    ) as project:
        project.add_images(found.images)
        assert project.names == ["P1_a", "P1_b", "P2_a", "T"]
        assert project.spec.regions == {"whole-tumour": (1, 2), "core": (2,)}
        assert project.role("T") == "test"
        assert {i.group for i in project.spec.images} == {"P1", "P2", "T"}
        image = project.image("P1_b")
        np.testing.assert_array_equal(image.array[1], volume(1).T)
        labels, truth = project.labels("P2_a").read(), volume(9).T
        assert project.spec.background == 4
        np.testing.assert_array_equal(labels, np.array([4, 1, 2, 0])[truth])
        assert not project.has_labels("T")
    values["labels"].pop("ignore")
    (root / "dataset.json").write_text(json.dumps(values))
    assert from_dataset_json(root).policy == "masks"


def test_decathlon_with_four_axes_and_nnunet_1_names(tmp_path: Path) -> None:
    root = tmp_path / "Task01"
    root.mkdir()
    nifti(root / "imagesTr" / "a.nii.gz", np.stack([volume(0), volume(1)], axis=-1).astype(np.float32))
    for channel in range(2):
        nifti(root / "imagesTr" / f"b_{channel:04d}.nii.gz", volume(channel).astype(np.float32))
        nifti(root / "imagesTs" / f"c_{channel:04d}.nii.gz", volume(channel).astype(np.float32))
    for name in "ab":
        nifti(root / "labelsTr" / f"{name}.nii.gz", volume(5))
    values = {
        "name": "Brain",
        "modality": {"0": "T1", "1": "T2"},
        "labels": {"0": "background", "1": "edema", "3": "core"},
        "training": [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in "ab"],
        "test": ["./imagesTs/c.nii.gz"],
    }
    (root / "dataset.json").write_text(json.dumps(values))
    ctxseg("project", "create", tmp_path / "p.ctxseg", "--dataset", root)
    with Project.open(tmp_path / "p.ctxseg") as project:
        assert project.spec.name == "Brain"
        assert {c.name: c.value for c in project.spec.classes} == {"edema": 1, "core": 3}
        for name in "ab":
            np.testing.assert_array_equal(project.image(name).array[1], volume(1).T)
            np.testing.assert_array_equal(project.labels(name).read(), volume(5).T)
        assert project.role("c") == "test"
        case = project.cases(("train", "validation"))[0]
        assert case.labelled == {0: tuple(range(7))}


# ---------------------------------------------------------------- commands


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("files")
    for name in ("images", "labels"):
        (root / name).mkdir()
    for i in range(5):
        case = blob_case(f"P{i}_1", seed=i, value=7)
        assert case.labels is not None
        tifffile.imwrite(root / "images" / f"{case.name}.tif", case.image.array)
        tifffile.imwrite(root / "labels" / f"{case.name}.tif", case.labels)
    return root


def test_a_project_from_files_trains_predicts_and_remembers_its_rounds(files: Path, tmp_path: Path) -> None:
    folder = tmp_path / "p.ctxseg"
    ctxseg(
        "project", "create", folder, "--images", files / "images", "--labels", files / "labels",
        "--classes", "blob=7", "--group", r"P\d", "--refer", "--root", f"DATA={files}",
    )  # fmt: skip
    made = json.loads(ctxseg("project", "info", folder, "--check", "--json"))
    assert made["split"] == {"train": 4, "validation": 1, "test": 0}
    assert made["classes"] == {"blob": 7}
    assert not any(row["problems"] for row in made["images"])
    val = made["patients"]["validation"]
    with Project.open(folder):  # it may be open elsewhere while it trains
        first = records(ctxseg("train", folder, *FAST, "--json"))[-1]
    assert first["type"] == "Round"
    assert first["number"] == 1
    assert first["validation"] == val
    assert first["parent"] == ""
    assert first["pixels"]["blob"] == sum(
        (tifffile.imread(p) == 7).sum() for p in (files / "labels").iterdir()
    )
    assert first["after"]["mean"] is not None
    with Project.open(folder) as project:
        image = next(i.name for i in project.spec.images if project.role(i.name) == "train")
        store = project.labels(image)
        labels = store.read()
        store.checkpoint("round " + first["id"])
        labels[:2, :5] = 7
        store.save(labels, [0])
    second = records(ctxseg("train", folder, *FAST, "--json"))[-1]
    assert second["parent"] == first["run"]
    assert second["pixels"]["blob"] >= 10
    assert second["truth"] == first["truth"]
    assert second["before"] == first["after"]
    assert [run.number for run in all_runs(folder) if run.finished] == [1, 2]
    same = from_yaml(folder / "runs" / second["run"] / "config.yaml").updated(init=None)
    assert _start(folder, same, None) == second["run"]
    assert _start(folder, same, "scratch") == ""
    assert _start(folder, same, "0001") == first["run"]
    assert _start(folder, same.updated(network={"kind": "unet", "dims": 2, "features": (8, 8)}), None) == ""

    ctxseg("predict", folder, "--run", "0002")
    found = find_predictions(folder, second["run"])
    assert len(found) == 5
    ctxseg("predict", folder / "runs" / second["run"], files / "images", "--out", tmp_path / "out")
    for name, prediction in found.items():
        np.testing.assert_array_equal(prediction.read(), tifffile.imread(tmp_path / "out" / f"{name}.tif"))
    text = ctxseg("project", "info", folder)
    assert "5 predictions" in text
    assert "round 2" in text


def test_what_the_project_says_cannot_be_said_again(files: Path, tmp_path: Path) -> None:
    folder = tmp_path / "p.ctxseg"
    ctxseg("project", "create", folder, "--classes", "blob=7")
    assert "no labelled image" in ctxseg("train", folder, *FAST, code=1)
    assert "the project says it" in ctxseg("train", folder, "--classes", "a=1", *FAST, code=1)
    assert "--out: is missing" in ctxseg("train", "--images", files / "images", code=1)
    assert "has no run yet" in ctxseg("predict", folder, code=1)
    assert "no unfinished run" in ctxseg("train", folder, "--resume", code=1)


def test_label_values_that_are_no_class_are_told(files: Path, tmp_path: Path) -> None:
    folder = tmp_path / "p.ctxseg"
    first = ("--images", files / "images" / "P0_1.tif", "--labels", files / "labels")
    made = json.loads(ctxseg("project", "create", folder, *first, "--classes", "blob=3", "--json"))
    said = "no class has the label value 7; pixels with it count as background"
    assert made["notes"] == [f"P0_1: {said}"]
    second = ("--images", files / "images" / "P1_1.tif", "--labels", files / "labels")
    assert f"! P1_1: {said}" in ctxseg("project", "add", folder, *second)


def test_a_slice_that_is_none_is_refused(files: Path, tmp_path: Path) -> None:
    folder = tmp_path / "p.ctxseg"
    ctxseg(
        "project",
        "create",
        folder,
        "--images",
        files / "images",
        "--labels",
        files / "labels",
        "--classes",
        "blob=7",
    )
    restore = ("project", "restore", folder, "--image", "P0_1", "--slice")
    assert "P0_1: has no slice 99. Its slices are 0 to 0" in ctxseg(*restore, "99", code=1)
    assert "has no slice 99" in ctxseg(*restore, "99", "--generation", "1", code=1)


def test_regions_at_the_command_line(files: Path, tmp_path: Path) -> None:
    folder = tmp_path / "p.ctxseg"
    ctxseg(
        "project",
        "create",
        folder,
        "--images",
        files / "images",
        "--labels",
        files / "labels",
        "--classes",
        "blob=7,x=8",
    )
    show = ("project", "regions", folder)
    assert ctxseg(*show) == "no regions: the classes are learnt\n"
    assert ctxseg(*show, "--set", "all=7+8, blob=7") == "all=7+8, blob=7\n"
    assert json.loads(ctxseg(*show, "--json")) == {"all": [7, 8], "blob": [7]}
    assert "not of the form NAME=VALUE+VALUE" in ctxseg(*show, "--set", "all", code=1)
    assert "name all twice" in ctxseg(*show, "--set", "all=7,all=8", code=1)
    assert "value 9, which is no class" in ctxseg(*show, "--set", "all=9", code=1)
    assert ctxseg(*show) == "all=7+8, blob=7\n", "what cannot be changes nothing"
    ctxseg("train", folder, *FAST)
    assert from_yaml(all_runs(folder)[-1].path / "config.yaml").data.regions == {"all": (7, 8), "blob": (7,)}
    assert ctxseg(*show, "--set", "") == "no regions: the classes are learnt\n"
    ctxseg("train", folder, *FAST)  # goes on from the other run: the head is made anew
    run = all_runs(folder)[-1].path
    assert from_yaml(run / "config.yaml").data.classes == {"blob": 7, "x": 8}
    assert "Layers made anew" in (run / "events.jsonl").read_text()


def test_patients_are_shown_and_named_at_the_command_line(files: Path, tmp_path: Path) -> None:
    folder = tmp_path / "p.ctxseg"
    ctxseg("project", "create", folder, "--classes", "blob=7", "--images", files / "images")
    yaml = (folder / "project.yaml").read_text()
    assert "P0_1: patient P0_1, train" in ctxseg("project", "patients", folder)
    shown = json.loads(
        ctxseg("project", "patients", folder, "--group", "P[0-3]", "--set", "P4_1=P3", "--dry-run", "--json")
    )
    assert {row["name"]: row["patient"] for row in shown["images"]}["P4_1"] == "P3"
    assert "Not matched, so as before: P4_1." in shown["notes"]
    assert (folder / "project.yaml").read_text() == yaml, "only shown"
    done = json.loads(ctxseg("project", "patients", folder, "--group", r"P\d", "--json"))
    assert done["changed"] == [f"P{n}_1" for n in range(5)]
    assert done["moved"] == {}, "they are only called differently"
    with Project.open(folder, read_only=True) as project:
        assert [image.group for image in project.spec.images] == [f"P{n}" for n in range(5)]
    ctxseg("project", "patients", folder, "--own")
    with Project.open(folder, read_only=True) as project:
        assert [image.group for image in project.spec.images] == project.names
    assert "matches no image" in ctxseg("project", "patients", folder, "--group", "Q", code=1)
    assert "IMAGE=PATIENT" in ctxseg("project", "patients", folder, "--set", "P4_1", code=1)


@pytest.mark.parametrize("here", [True, False])
def test_a_mark_that_was_taken_away_in_one_copy_is_taken_away(tmp_path: Path, here: bool) -> None:
    """The mark that was changed last counts, as with pixels."""
    shape = (5, 12, 14)
    with Project.create(tmp_path / "a.ctxseg", classes={"x": 1}) as project:
        project.add_array(image_from_array(np.zeros(shape, np.float32), "zyx"), "v")
        project.labels("v").save(np.ones(shape, np.uint8), range(5), SliceMarks.of({0: range(5)}), now=1000.0)
    shutil.copytree(tmp_path / "a.ctxseg", tmp_path / "b.ctxseg")
    changed = tmp_path / ("a.ctxseg" if here else "b.ctxseg")
    with Project.open(changed) as project:
        store = project.labels("v")
        store.save(store.read(), [], SliceMarks.of({0: [0, 1, 3, 4]}, [(0, 2)]), now=2000.0)
    with Project.open(tmp_path / "a.ctxseg") as a, Project.open(tmp_path / "b.ctxseg", read_only=True) as b:
        notes = merge(a, b)
        marks = a.labels("v").marks
        assert marks.labelled == {0: (0, 1, 3, 4)}
        assert marks.cleared == {(0, 2)}
        assert notes == ([] if here else ["v: marks of 1 slices taken over"])
        assert merge(a, b) == [], "and again is nothing"


def test_patients_that_differ_between_copies_are_told(copies: tuple[Project, Project]) -> None:
    first, second = copies
    set_patients(first, {"v": "A"})
    set_patients(second, {"v": "B"})
    assert "image v: patient A here, B there; stays A" in merge(first, second)
    assert first.spec.entry("v").group == "A"


def test_add_split_restore_and_merge(files: Path, tmp_path: Path) -> None:
    folder, other = tmp_path / "p.ctxseg", tmp_path / "q.ctxseg"
    ctxseg("project", "create", folder, "--classes", "blob=7")
    ctxseg(
        "project",
        "add",
        folder,
        "--images",
        files / "images" / "P[0-2]*",
        "--labels",
        files / "labels" / "P[0-2]*",
    )
    shutil.copytree(folder, other)
    ctxseg("project", "add", other, "--images", files / "images" / "P[34]*")
    ctxseg("project", "merge", folder, other)
    roles = json.loads(ctxseg("project", "split", folder, "--set", "P4_1=test", "--json"))
    assert roles["test"] == ["P4_1"]
    assert sorted(functools.reduce(operator.iadd, roles.values(), [])) == [f"P{i}_1" for i in range(5)]
    assert "PATIENT=ROLE" in ctxseg("project", "split", folder, "--set", "P4_1=exam", code=1)
    with Project.open(folder) as project:
        before = project.labels("P1_1").read()
        project.labels("P1_1").checkpoint("x")
        project.import_labels("P1_1", np.zeros_like(before))
        number = next(g.number for g in project.labels("P1_1").generations() if g.label == "x")
    ctxseg("project", "restore", folder, "--image", "P1_1", "--generation", number)
    with Project.open(folder) as project:
        np.testing.assert_array_equal(project.labels("P1_1").read(), before)
    (folder / "project.yaml").write_text("version: 1\nim")
    assert "ctxseg project restore" in ctxseg("project", "info", folder, code=1)
    ctxseg("project", "restore", folder)
    assert len(json.loads(ctxseg("project", "info", folder, "--json"))["images"]) == 5


def test_a_project_that_could_not_be_filled_is_not_left_behind(files: Path, tmp_path: Path) -> None:
    folder = tmp_path / "p.ctxseg"
    shutil.copytree(files, tmp_path / "bad")
    (tmp_path / "bad" / "labels" / "P3_1.tif").write_bytes(b"no")
    words = (
        "--images",
        tmp_path / "bad" / "images",
        "--labels",
        tmp_path / "bad" / "labels",
        "--classes",
        "b=7",
    )
    assert "P3_1.tif" in ctxseg("project", "create", folder, *words, code=1)
    assert not folder.exists()


def test_instance_ids_become_one_class(tmp_path: Path) -> None:
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
        tifffile.imwrite(tmp_path / name / "a.tif", np.arange(900, dtype=np.uint16).reshape(30, 30))
    words = ("--images", tmp_path / "images", "--labels", tmp_path / "labels")
    assert "--foreground" in ctxseg("project", "create", tmp_path / "p", *words, code=1)
    ctxseg("project", "create", tmp_path / "p", *words, "--foreground")
    with Project.open(tmp_path / "p") as project:
        assert project.labels("a").read().sum() == 899
