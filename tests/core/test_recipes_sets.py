"""The sets' own folders: every case is found, every missing file is named, and every set can be prepared."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from napari_ctxseg import dataset, io
from napari_ctxseg.cases import group_of
from napari_ctxseg.errors import FileError, InputError
from napari_ctxseg.recipes.layouts import LAYOUTS, find_entries, read_entry
from napari_ctxseg.recipes.prepare import prepare
from napari_ctxseg.recipes.schema import GROUP, Recipe
from napari_ctxseg.recipes.steps.config import Slices
from napari_ctxseg.recipes.store import load_row, row_names
from tests.core.recipe_sets import MAKERS

CHANNELS = {"brats17": 4, "brats21": 4, "polyp": 3, "isic18": 3}
#: A file of each set, and what its loss must be called by.
LOST = {
    "promise12": "TrainingData_Part1/Case00_segmentation.mhd",
    "acdc": "database/training/patient001/patient001_frame12_gt.nii.gz",
    "brats17": "LGG/Brats17_TCIA_0_1/Brats17_TCIA_0_1_t1ce.nii.gz",
    "brats21": "BraTS2021_00001/BraTS2021_00001_t2.nii.gz",
    "lits": "Training Batch 1/segmentation-0.nii",
    "synapse": "Abdomen/RawData/Training/label/label0005.nii.gz",
    "amos": "amos22/labelsVa/amos_0013.nii.gz",
    "polyp": "Kvasir-SEG/masks/cju1.jpg",
    "isic18": "ISIC2018_Task1_Test_GroundTruth/ISIC_0012169_segmentation.png",
    "mda231": "Fluo-C3DL-MDA231/01/t001.tif",
    "phc_hela": "PhC-HeLa/01/t002.tif",
}


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """All sets, made once."""
    root = tmp_path_factory.mktemp("sets")
    return root, {name: make(root / name) for name, make in MAKERS.items()}


def test_every_set_is_tested():
    assert set(MAKERS) == set(LAYOUTS) == set(LOST)
    assert set(FIRST) == set(LAYOUTS)


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_cases_are_found_and_read(sets, name):
    root, counts = sets
    entries = find_entries(name, root / name)
    assert len(entries) == counts[name]
    assert len({entry.name for entry in entries}) == len(entries)
    for entry in entries[:2] + entries[-1:]:
        case = read_entry(entry)
        assert case.group == entry.group == group_of(entry.name, GROUP)
        assert len(case.image.channel_array) == CHANNELS.get(name, 1)
        assert case.labels.shape == case.image.spatial_shape
        assert case.labels.any()


def test_parts_are_those_of_the_set(sets):
    root, _ = sets
    synapse = {entry.name: entry.part for entry in find_entries("synapse", root / "synapse")}
    assert synapse == {"img0001": "test", "img0005": "train", "img0006": "train", "img0008": "test"}
    for name, train in (("polyp", 3), ("isic18", 3)):
        assert sum(entry.part == "train" for entry in find_entries(name, root / name)) == train


def test_frames_of_a_patient_stay_together(sets):
    groups = [entry.group for entry in find_entries("acdc", sets[0] / "acdc")]
    assert groups == ["patient001"] * 2 + ["patient002"] * 2 + ["patient003"] * 2


def test_a_mask_that_is_a_jpeg_has_one_value(sets):
    entry = find_entries("polyp", sets[0] / "polyp")[-1]
    assert entry.label.suffix == ".jpg"
    labels = read_entry(entry).labels
    assert set(np.unique(labels)) == {0, 1}
    assert abs(int(labels.sum()) - 10 * 18) <= 20


def test_a_mask_of_one_slice_goes_with_that_slice(sets):
    entry = next(e for e in find_entries("mda231", sets[0] / "mda231") if e.slice_ == 3)
    case = read_entry(entry)
    assert case.image.axes == "yx"
    assert np.array_equal(case.image.array, io.read(entry.images[0]).array[3])


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_a_missing_file_is_named(sets, tmp_path, name):
    shutil.copytree(sets[0] / name, tmp_path / "copy")
    lost = tmp_path / "copy" / LOST[name]
    lost.unlink()
    with pytest.raises(InputError, match="is missing") as error:
        find_entries(name, tmp_path / "copy")
    assert error.value.subject.rpartition(".")[0].startswith(
        str(lost).rpartition(".nii")[0] or str(lost.with_suffix(""))
    )
    assert error.value.remedy


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_an_empty_folder_says_what_is_expected_and_where_to_get_it(tmp_path, name):
    with pytest.raises(InputError) as error:
        find_entries(name, tmp_path)
    assert LAYOUTS[name].expected.rstrip(".") in error.value.reason
    assert LAYOUTS[name].source in error.value.remedy
    assert LAYOUTS[name].terms in error.value.remedy
    with pytest.raises(InputError, match="is no folder"):
        find_entries(name, tmp_path / "nowhere")


def test_a_set_without_its_other_half_is_refused(sets, tmp_path):
    for name, folder in (
        ("polyp", "Kvasir-SEG"),
        ("polyp", "CVC-ClinicDB"),
        ("isic18", "ISIC2018_Task1-2_Test_Input"),
    ):
        copy = tmp_path / folder
        shutil.copytree(sets[0] / name, copy)
        shutil.rmtree(copy / folder)
        with pytest.raises(InputError, match="is missing"):
            find_entries(name, copy)


def test_a_case_that_is_there_twice_is_refused(sets, tmp_path):
    shutil.copytree(sets[0] / "lits" / "Training Batch 1", tmp_path / "a")
    shutil.copytree(sets[0] / "lits" / "Training Batch 1", tmp_path / "b")
    with pytest.raises(InputError, match="more than once"):
        find_entries("lits", tmp_path)


def done(steps):
    """Runs a generator to its end: its events and what it returns."""
    events = []
    while True:
        try:
            events.append(next(steps))
        except StopIteration as end:
            return events, end.value


FIRST = {}
for each in row_names():
    row = load_row(each)
    if isinstance(row, Recipe):
        FIRST.setdefault(row.set_, each)


def small(recipe):
    """The same steps with sizes that cost nothing."""
    steps = [
        step.model_copy(update={"size": tuple(n and min(n, 48) for n in step.size)})
        if step.kind in ("crop_pad", "resize")
        else step
        for step in recipe.prepare
    ]
    return recipe.model_copy(update={"prepare": tuple(steps)})


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_every_set_is_prepared(sets, tmp_path, name):
    root, counts = sets
    recipe = small(load_row(FIRST[name]))
    events, found = done(prepare(recipe, "some", root / name, tmp_path))
    assert [event.repeated for event in events] == [False] * counts[name]
    assert events[-1].number == events[-1].total == counts[name]
    assert set(found.parts.values()) == {"train", "test"}
    data = recipe.config(f"@{found.images}", f"@{found.labels}").data
    pairs = dataset.training_pairs(data)
    assert len(pairs) == found.cases
    assert {group_of(pair.name, data.group) for pair in pairs} == set(found.parts)
    before = {v for e in find_entries(name, root / name) for v in np.unique(read_entry(e).labels)}
    for case in dataset.read_cases(pairs, data):
        assert set(np.unique(case.labels)) <= before
        assert case.image.channel_array.shape[0] == CHANNELS.get(name, 1)
        for step in recipe.prepare:
            if step.kind == "slices":
                assert case.labels.any()
                assert case.image.spatial_axes == "yx"
            elif step.kind == "resample" and case.image.spatial_axes == "zyx":
                assert case.image.spacing == pytest.approx(step.spacing)
            elif step.kind in ("crop_pad", "resize"):
                assert case.image.spatial_shape[-2:] == tuple(step.size[-2:])
    again, _ = done(prepare(recipe, "some", root / name, tmp_path))
    assert all(event.repeated for event in again)


def test_prepared_files_follow_their_sources(sets, tmp_path):
    shutil.copytree(sets[0] / "phc_hela", tmp_path / "set")
    recipe = load_row(FIRST["phc_hela"])
    _, found = done(prepare(recipe, "some", tmp_path / "set", tmp_path / "out"))
    changed = tmp_path / "set" / "PhC-HeLa" / "01" / "t001.tif"
    changed.write_bytes((changed.parent / "t000.tif").read_bytes())
    events, _ = done(prepare(recipe, "some", tmp_path / "set", tmp_path / "out"))
    assert [event.name for event in events if not event.repeated] == ["01-t001"]
    (tmp_path / "out").joinpath("prepared").rglob("01-t002.nii.gz").__next__().unlink()
    events, _ = done(prepare(recipe, "some", tmp_path / "set", tmp_path / "out"))
    assert [event.name for event in events if not event.repeated] == ["01-t002"]
    assert found.cases == 4


def test_few_patients(sets, tmp_path):
    root, _ = sets
    recipe = load_row(FIRST["synapse"]).model_copy(update={"prepare": ()})
    _, found = done(prepare(recipe, "some", root / "synapse", tmp_path, patients=2))
    assert sorted(found.parts.values()) == ["test", "train"]
    recipe = load_row(FIRST["lits"]).model_copy(update={"prepare": ()})
    _, found = done(prepare(recipe, "some", root / "lits", tmp_path, patients=3))
    assert len(found.parts) == found.used == 3
    assert found.whole == 131
    with pytest.raises(InputError, match="too few"):
        done(prepare(recipe, "some", root / "lits", tmp_path, patients=2))


def test_prepared_files_never_go_into_the_set(sets):
    root, _ = sets
    with pytest.raises(InputError, match="lies within"):
        done(prepare(load_row(FIRST["lits"]), "some", root / "lits", root / "lits" / "out"))


def test_a_damaged_file_is_named(sets, tmp_path):
    shutil.copytree(sets[0] / "lits", tmp_path / "set")
    broken = tmp_path / "set" / "Training Batch 1" / "volume-0.nii"
    broken.write_bytes(broken.read_bytes()[:2000])
    with pytest.raises(FileError, match="volume-0"):
        done(prepare(load_row(FIRST["lits"]), "some", tmp_path / "set", tmp_path / "out"))


def test_slices_without_foreground_are_left_out(sets, tmp_path):
    recipe = load_row("context-t1-acdc-ce")
    recipe = recipe.model_copy(update={"prepare": (Slices(keep="foreground"),)})
    _, found = done(prepare(recipe, "some", sets[0] / "acdc", tmp_path))
    assert found.cases == 6 * 2  # two of the four slices of each frame
    names = [line.rpartition("/")[2] for line in found.labels.read_text().splitlines()]
    assert names[:2] == ["patient001__frame01_z001.nii.gz", "patient001__frame01_z002.nii.gz"]
