"""The project folder: what is written comes back, on another machine too."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_ctxseg.errors import CtxsegError, InputError
from napari_ctxseg.image import Image, image_from_array
from napari_ctxseg.project import (
    ClassSpec,
    LabelStore,
    NewImage,
    Project,
    Round,
    Scores,
    SliceMarks,
    SplitSpec,
    all_runs,
    find_predictions,
    find_run,
    helped,
    load_rounds,
    new_id,
    next_run,
    save_round,
    unnamed_projects,
    write_prediction,
)
from napari_ctxseg.project.patients import by_pattern, sentences, set_patients
from napari_ctxseg.project.schema import check_name, check_path, parse, safe_name, to_text
from napari_ctxseg.project.split import with_groups

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the person's known roots nor their unnamed projects."""
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: tmp_path / "settings")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: tmp_path / "cache")


def tiff(path: Path, seed: int = 0, shape: tuple[int, ...] = (12, 14)) -> Path:
    path.parent.mkdir(exist_ok=True)
    tifffile.imwrite(path, np.random.default_rng(seed).integers(0, 999, shape).astype(np.uint16))
    return path


def made(tmp_path: Path, count: int = 4, **settings_: object) -> Project:
    project = Project.create(tmp_path / "p.ctxseg", classes={"LV": 1, "myo": 3}, **settings_)  # type: ignore[arg-type]
    files = [tiff(tmp_path / "in" / f"case{i}.tif", i) for i in range(count)]
    project.add_images([NewImage((file,), group=f"P{i}") for i, file in enumerate(files)])
    return project


# ---------------------------------------------------------------- project.yaml


def test_a_project_comes_back_as_it_was(tmp_path: Path) -> None:
    with made(tmp_path) as project:
        spec = project.spec
        images = [project.image(name).array for name in project.names]
    with Project.open(tmp_path / "p.ctxseg") as again:
        assert again.spec == spec
        assert again.names == ["case0", "case1", "case2", "case3"]
        for name, before, file in zip(again.names, images, sorted((tmp_path / "in").iterdir()), strict=True):
            np.testing.assert_array_equal(again.image(name).array, before)
            np.testing.assert_array_equal(tifffile.imread(file), before)


@given(st.text(max_size=60), st.lists(st.text(max_size=12), max_size=4))
@settings(max_examples=200, deadline=None)
def test_any_text_becomes_a_name_that_can_be_a_file(text: str, others: list[str]) -> None:
    taken: list[str] = []
    for other in others:
        taken.append(safe_name(other, taken))
    name = safe_name(text, taken)
    assert check_name(name) == name
    assert name.casefold() not in {each.casefold() for each in taken}
    assert "/" not in name
    assert "\\" not in name
    assert name not in (".", "..")
    assert len(name.encode()) < 130


@given(
    st.lists(st.sampled_from(["a", "..", ".", "", "b c", "C:", "\\", "\x00", "é"]), min_size=1, max_size=5)
)
def test_a_path_is_taken_only_if_it_stays_inside(parts: list[str]) -> None:
    path = "/".join(parts)
    bad = any(p in ("..", ".", "", "\\", "\x00") for p in parts) or parts[0] == "C:"
    if bad:
        with pytest.raises(ValueError, match="inside its folder"):
            check_path(path)
    else:
        assert check_path(path) == path


@given(st.text(max_size=300))
@settings(max_examples=150, deadline=None)
def test_arbitrary_text_is_refused_by_the_name_of_the_file(text: str) -> None:
    with pytest.raises(InputError, match=r"^project\.yaml: "):
        parse(text, "project.yaml")


def test_every_cut_of_project_yaml_is_refused(tmp_path: Path) -> None:
    with made(tmp_path) as project:
        text = to_text(project.spec)
    assert parse(text.rstrip(), "project.yaml") == project.spec
    for end in range(0, len(text) - 1, 23):
        with pytest.raises(InputError, match=r"project\.yaml"):
            parse(text[:end], "project.yaml")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": [{"name": "a", "value": 1}, {"name": "b", "value": 1}]}, "two classes have the value 1"),
        ({"classes": [{"name": "a", "value": 1}, {"name": "a", "value": 2}]}, "two classes have the name a"),
        ({"classes": [{"name": "a", "value": 0}]}, "classes.0.value"),
        ({"policy": "scribbles"}, "needs `background`"),
        ({"policy": "scribbles", "background": 1}, "cannot be LV"),
        ({"background": 9}, "for the policy scribbles"),
        ({"colour_map": "jet"}, "colour_map: is a field that this version does not know"),
    ],
)
def test_what_cannot_be_is_named(tmp_path: Path, change: dict[str, object], words: str) -> None:
    with made(tmp_path) as project:
        values = {**yaml.safe_load(to_text(project.spec)), **change}
    with pytest.raises(InputError, match=words):
        parse(yaml.safe_dump(values, explicit_end=True), "project.yaml")


def test_values_are_never_renumbered(tmp_path: Path) -> None:
    with made(tmp_path) as project:
        project.set_classes([*project.spec.classes, ClassSpec(name="scar", value=7)])
        project.set_classes({"scar": 7, "LV": 1})
        with pytest.raises(InputError, match="has the value 7"):
            project.set_classes({"scar": 2})
        assert [(c.name, c.value) for c in project.spec.classes] == [("scar", 7), ("LV", 1)]


# ---------------------------------------------------------------- images


def test_references_move_with_their_root(tmp_path: Path) -> None:
    file = tiff(tmp_path / "big" / "sub" / "a.tif") if (tmp_path / "big").mkdir() is None else None
    assert file is not None
    with Project.create(tmp_path / "p.ctxseg", classes={"a": 1}) as project:
        project.add_images([NewImage((file,))], copy=False, root=("DATA", tmp_path / "big"))
        assert project.spec.images[0].files[0].path == "sub/a.tif"
        assert not (project.path / "images").exists()
        before = project.image("a").array
    (tmp_path / "big").rename(tmp_path / "moved")
    with Project.open(tmp_path / "p.ctxseg", {"DATA": tmp_path / "moved"}) as project:
        np.testing.assert_array_equal(project.image("a").array, before)
    with Project.open(tmp_path / "p.ctxseg") as project:  # this machine remembers
        np.testing.assert_array_equal(project.image("a").array, before)
    (tmp_path / "settings" / "roots.json").unlink()
    with Project.open(tmp_path / "p.ctxseg") as project, pytest.raises(InputError, match="--root DATA=DIR"):
        project.image("a")


def test_channels_and_separate_voxels_are_copied(tmp_path: Path) -> None:
    channels = tuple(tiff(tmp_path / "in" / f"c_{i:04d}.tif", i) for i in range(3))
    volume = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    sitk.WriteImage(sitk.GetImageFromArray(volume), str(tmp_path / "in" / "vol.mhd"))
    with Project.create(tmp_path / "p.ctxseg") as project:
        project.add_images([NewImage(channels, name="c"), NewImage((tmp_path / "in" / "vol.mhd",))])
        shutil.rmtree(tmp_path / "in")
        assert project.image("c").array.shape == (3, 12, 14)
        np.testing.assert_array_equal(project.image("vol").array, volume)


def test_channels_of_one_name_in_several_folders(tmp_path: Path) -> None:
    channels = tuple(tiff(tmp_path / folder / "cell 1.ome.tif", i) for i, folder in enumerate("rg"))
    with Project.create(tmp_path / "p.ctxseg") as project:
        project.add_image(channels)
        found = project.image("cell_1").array
    for channel, file in zip(found, channels, strict=True):
        np.testing.assert_array_equal(channel, tifffile.imread(file))


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "f4", "?"])
@pytest.mark.parametrize("axes", ["yx", "zyx", "tyx", "czyx"])
def test_a_layer_without_a_file_is_kept_exactly(tmp_path: Path, dtype: str, axes: str) -> None:
    shape = {"c": 2, "t": 3, "z": 4, "y": 5, "x": 6}
    values = np.random.default_rng(1).normal(100, 50, [shape[a] for a in axes]).astype(dtype)
    spatial = axes.removeprefix("c")
    plain = image_from_array(values, axes, spacing=(2.5, 0.5, 0.25)[-len(spatial) :], unit="um")
    affine = plain.affine.copy()
    affine[:-1, -1] = 7.0
    image = Image(plain.array, axes, plain.spacing, affine, plain.channels, "um")
    with Project.create(tmp_path / "p.ctxseg") as project:
        entry = project.add_array(image, "my layer/1")
        assert entry.name == "my_layer_1"
        again = project.image(entry.name)
    np.testing.assert_array_equal(again.array, values)
    assert (again.axes, again.spacing, again.unit) == (axes, image.spacing, "um")
    np.testing.assert_array_equal(again.affine, affine)


def test_nothing_is_added_when_one_file_is_bad(tmp_path: Path) -> None:
    with made(tmp_path, 2) as project:
        bad = tmp_path / "in" / "bad.tif"
        bad.write_bytes(b"II*\0nonsense")
        before = project.spec
        with pytest.raises(CtxsegError, match=r"bad\.tif"):
            project.add_images([NewImage((tiff(tmp_path / "in" / "good.tif", 9),)), NewImage((bad,))])
        assert project.spec == before
        assert [e.name for e in project.add_images([NewImage((tmp_path / "in" / "good.tif",))])] == ["good"]


def test_labels_of_a_failed_addition_come_to_no_other_image(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "p.ctxseg", classes={"x": 1})
    masks = tmp_path / "masks"
    masks.mkdir()
    tifffile.imwrite(masks / "a.tif", np.ones((12, 14), np.uint8))
    (tmp_path / "bad.tif").write_bytes(b"no image")
    new = [NewImage((tiff(tmp_path / "a.tif"),), labels=masks / "a.tif"), NewImage((tmp_path / "bad.tif",))]
    with pytest.raises(CtxsegError):
        project.add_images(new)
    assert list(project.names) == []
    assert not list((project.path / "labels").glob("a.*"))
    assert not list((project.path / "images").iterdir())
    # One that was killed, or a list of images that was restored, leaves them: they are another image's.
    left = LabelStore.create(project.path / "labels" / "a.zarr", (12, 14))
    left.save(np.ones((12, 14), np.uint8), [0], SliceMarks.of({0: [0]}))
    project.add_images([NewImage((tiff(tmp_path / "a.tif", seed=3),))])
    assert not project.has_labels("a")
    (kept,) = (project.path / "labels" / "unlisted").glob("a-*/a.zarr")
    assert LabelStore.open(kept, read_only=True).read().all()


def test_names_stay_apart_whatever_their_case(tmp_path: Path) -> None:
    files = [tiff(tmp_path / "a" / "Case.tif"), tiff(tmp_path / "b" / "case.tif", 1)]
    with Project.create(tmp_path / "p.ctxseg") as project:
        assert [e.name for e in project.add_images([NewImage((f,)) for f in files])] == ["Case", "case-2"]
        with pytest.raises(InputError, match="name of an image"):
            project.add_image([files[0]], name="CASE")


# ---------------------------------------------------------------- split


@given(st.lists(st.sampled_from("abcdefghijklmnop"), min_size=1, max_size=30), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_roles_never_change_when_patients_are_added(order: list[str], seed: int) -> None:
    split, groups = SplitSpec(seed=seed, validation=0.25, test=0.2), list[str]()
    for group in order:
        groups.append(group)
        before = split.groups
        split = with_groups(split, groups)
        assert {g: split.groups[g] for g in before} == before
        roles = [split.groups[g] for g in set(groups)]
        assert "train" in roles
        if len(set(groups)) < 3:
            assert set(roles) == {"train"}
        else:
            assert "validation" in roles
            assert roles.count("train") >= 2


def test_a_split_depends_on_seed_and_names_only() -> None:
    groups = [f"P{i}" for i in range(50)]
    one = with_groups(SplitSpec(seed=1), groups).groups
    assert one == with_groups(SplitSpec(seed=1), groups[::-1]).groups
    assert one != with_groups(SplitSpec(seed=2), groups).groups
    assert list(one.values()).count("validation") == 10


def test_a_role_given_by_hand_stays(tmp_path: Path) -> None:
    with made(tmp_path, 5) as project:
        train = project.groups("train")[0]
        project.set_role(train, "test")
        project.add_images([NewImage((tiff(tmp_path / "in" / f"n{i}.tif", i),)) for i in range(5)])
        assert train in project.groups("test")
        with pytest.raises(InputError, match="no patient"):
            project.set_role("nobody", "test")


# ---------------------------------------------------------------- patients named later


def grouped(project: Project) -> dict[str, tuple[str, str]]:
    return {image.name: (image.group, project.role(image.name)) for image in project.spec.images}


def test_patients_are_found_by_a_pattern() -> None:
    names = ["P1_a", "P1_b", "P22_a", "other"]
    assert by_pattern(names, r"P\d+") == {"P1_a": "P1", "P1_b": "P1", "P22_a": "P22"}
    assert by_pattern(names, r"P(\d+)_") == {"P1_a": "1", "P1_b": "1", "P22_a": "22"}
    with pytest.raises(InputError, match="regular expression"):
        by_pattern(names, "P(")
    for empty in ("x*", "(x)?P"):
        with pytest.raises(InputError, match="finds nothing in"):
            by_pattern(names, empty)


def test_images_get_other_patients_and_the_split_follows(tmp_path: Path) -> None:
    with made(tmp_path, 8) as project:
        before = grouped(project)
        assert {role for _, role in before.values()} == {"train", "validation"}
        wanted = {name: f"patient {number // 2}" for number, name in enumerate(project.names)}
        done = set_patients(project, wanted)
        after = grouped(project)
        assert {name: group for name, (group, _) in after.items()} == wanted
        split = SplitSpec(**project.spec.split.model_dump() | {"groups": {}})
        roles = with_groups(split, wanted.values()).groups
        assert {name: role for name, (_, role) in after.items()} == {n: roles[wanted[n]] for n in wanted}
        assert done.changed == project.names
        assert done.moved == {n: (before[n][1], after[n][1]) for n in wanted if before[n][1] != after[n][1]}
    with Project.open(project.path) as again:
        assert grouped(again) == after
        set_patients(again, {name: group for name, (group, _) in before.items()})
        assert grouped(again) == before, "going back gives the split that was there"


def test_a_patient_that_is_only_called_differently_keeps_its_role(tmp_path: Path) -> None:
    with made(tmp_path, 5) as project:
        project.set_role(project.spec.images[0].group, "test")
        before = grouped(project)
        done = set_patients(project, {name: f"Mr {name}" for name in project.names})
        assert done.moved == {}
        assert {n: role for n, (_, role) in grouped(project).items()} == {
            n: r for n, (_, r) in before.items()
        }


def test_an_image_that_joins_a_patient_takes_its_role(tmp_path: Path) -> None:
    with made(tmp_path, 5) as project:
        first, (second, other) = (
            project.spec.images[0].group,
            (project.names[1], project.spec.images[1].group),
        )
        project.set_role(first, "test")
        project.set_role(other, "train")
        done = set_patients(project, {second: first})
        assert done.moved == {second: ("train", "test")}
        said = " ".join(sentences(done, runs=True))
        assert f"{second} (train \u2192 test)" in said
        assert "start the next training from scratch" in said
        assert "from scratch" not in " ".join(sentences(done, runs=False))


def test_patients_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with made(tmp_path) as project:
        before = project.spec
        for wanted, why in (
            ({"nothing": "a"}, "no image of this project"),
            ({project.names[0]: "  "}, "group"),
            ({project.names[0]: "a\nb"}, "group"),
        ):
            with pytest.raises(InputError, match=why):
                set_patients(project, wanted)
        assert project.spec == before
        with (
            Project.open(project.path, read_only=True) as reader,
            pytest.raises(InputError, match="reading only"),
        ):
            set_patients(reader, {project.names[0]: "a"})


# ---------------------------------------------------------------- for training


def test_cases_hold_what_is_labelled(tmp_path: Path) -> None:
    with made(tmp_path) as project:
        assert project.cases() == []
        labels = np.zeros((12, 14), np.uint8)
        labels[3:5] = 3
        project.labels("case1").save(labels, [0], SliceMarks.of({0: [0]}))
        project.import_labels("case2", np.zeros((12, 14), np.int64))
        found = {case.name: case for case in project.cases(("train", "validation", "test"))}
        assert set(found) == {"case1", "case2"}
        np.testing.assert_array_equal(found["case1"].labels, labels)
        assert found["case2"].labelled == {0: (0,)}
        assert found["case1"].group == "P1"
        assert len(project.cases(("train", "validation", "test"), every=True)) == 4


def test_scribbles_train_where_something_is_painted(tmp_path: Path) -> None:
    with made(tmp_path, policy="scribbles") as project:
        assert project.spec.background == 2
        project.labels("case0")
        labels = np.zeros((12, 14), np.uint8)
        labels[0, 0], labels[5, 5] = 2, 1
        project.labels("case1").save(labels, [0])
        assert [case.name for case in project.cases(("train", "validation"))] == ["case1"]
        data = project.spec.data_config(["P1"])
        assert (data.annotation, data.background, data.validation) == ("scribbles", 2, ("P1",))


# ---------------------------------------------------------------- where projects live


def test_an_unnamed_project_is_found_again_and_gets_a_name(tmp_path: Path) -> None:
    project = Project.unnamed(classes={"a": 1})
    project.add_image([tiff(tmp_path / "in" / "x.tif")])
    project.labels("x").save(np.ones((12, 14), np.uint8), [0])
    project.close()
    (path,) = unnamed_projects()
    named = Project.open(path).save_as(tmp_path / "deep" / "heart.ctxseg")
    assert unnamed_projects() == []
    assert not named.read_only
    assert named.spec.name == "heart"
    assert named.labels("x").read().all()
    named.close()


def test_a_copy_is_a_project_of_its_own(tmp_path: Path) -> None:
    with made(tmp_path).save_as(tmp_path / "copy") as copy, Project.open(tmp_path / "p.ctxseg") as first:
        assert not copy.read_only
        assert not first.read_only
        assert copy.spec == first.spec
        with pytest.raises(InputError, match="inside the project"):
            copy.save_as(copy.path / "sub")


# ---------------------------------------------------------------- rounds, runs, predictions


def a_round(number: int, mean: float | None, truth: str = "t", **fields: object) -> Round:
    after = None if mean is None else Scores(classes={"LV": mean}, mean=mean)
    started = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=number)
    return Round(id=new_id(), number=number, started=started, after=after, truth=truth, **fields)  # type: ignore[arg-type]


def test_rounds_come_back_in_the_order_of_time_and_bad_files_are_named(tmp_path: Path) -> None:
    rounds = [a_round(n, 0.1 * n, minutes=2.5, pixels={"LV": 10}) for n in (3, 1, 2)]
    for each in rounds:
        save_round(tmp_path, each)
    (tmp_path / "rounds" / "0123456789ab.json").write_text("{")
    shutil.copy(tmp_path / "rounds" / f"{rounds[0].id}.json", tmp_path / "rounds" / "ffffffffffff.json")
    found, notes = load_rounds(tmp_path)
    assert found == sorted(rounds, key=lambda r: r.number)
    assert len(notes) == 2
    assert "0123456789ab.json" in notes[0]
    assert "ffffffffffff.json" in notes[1]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (0.72, 0.78, "0.72 → 0.78 (+0.06): this round helped"),
        (0.72, 0.725, "gained little"),
        (0.72, 0.60, "(−0.12): this round made it worse"),
        (None, 0.6, "the first one"),
        (0.5, None, "cannot be told"),
    ],
)
def test_whether_a_round_helped(before: float | None, after: float | None, words: str) -> None:
    previous = None if before is None else a_round(1, before)
    assert words in helped(previous, a_round(2, after))


def test_scores_on_other_labels_do_not_compare() -> None:
    assert "do not compare" in helped(a_round(1, 0.5, "one"), a_round(2, 0.9, "two"))
    own = a_round(2, 0.9, "two", before=Scores(mean=0.85))
    assert "0.85 → 0.90 (+0.05)" in helped(a_round(1, 0.5, "one"), own)


def test_runs_are_counted_and_found(tmp_path: Path) -> None:
    first = next_run(tmp_path, "dice ce")
    assert first.name.startswith("0001-dice_ce-")
    first.mkdir(parents=True)
    (first / "config.yaml").write_text("seed: 0")
    (first / "model.safetensors").write_bytes(b"w")
    end = json.dumps({"type": "RunFinished", "stopped": False})
    (first / "events.jsonl").write_text(f'{{"type": "StepEnd"}}\n{end}\n{{torn')
    second = next_run(tmp_path, "y")
    second.mkdir()
    (second / "config.yaml").write_text("seed: 0")
    assert second.name.startswith("0002-")
    runs = all_runs(tmp_path)
    assert [(run.number, run.finished) for run in runs if run.has_model] == [(1, True)]
    assert find_run(tmp_path).name == first.name
    assert find_run(tmp_path, "0001").name == find_run(tmp_path, first.name[-6:]).name == first.name
    with pytest.raises(InputError, match="no single run"):
        find_run(tmp_path, "0009")


@pytest.mark.parametrize("regions", [False, True])
def test_a_prediction_counts_when_it_is_complete(tmp_path: Path, regions: bool) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (2, 4, 5, 6) if regions else (4, 5, 6)).astype(np.uint8)
    maps = rng.random((2, 4, 5, 6)).astype(np.float32)
    arrays = {"labels": labels, "probabilities": maps, "uncertainty": maps[0]}
    write_prediction(tmp_path, "0001-a-aaaaaa", "case", arrays, names=("A", "B"), regions=regions)
    prediction = find_predictions(tmp_path, "0001-a-aaaaaa")["case"]
    np.testing.assert_array_equal(prediction.read(), labels)
    np.testing.assert_array_equal(prediction.read("probabilities", 2), maps[:, 2])
    np.testing.assert_array_equal(prediction.read("uncertainty", 2), maps[0, 2])
    np.testing.assert_array_equal(prediction.read("labels", 1), labels[:, 1] if regions else labels[1])
    with pytest.raises(CtxsegError, match="holds no fp"):
        prediction.read("fp")
    (prediction.path / "manifest.json").unlink()
    assert find_predictions(tmp_path, "0001-a-aaaaaa") == {}
