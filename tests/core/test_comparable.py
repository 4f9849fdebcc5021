"""What of a project can be compared on, and that it comes back from the files as it was."""

from __future__ import annotations

import numpy as np
import pytest

from napari_ctxseg import dataset
from napari_ctxseg.cases import group_of
from napari_ctxseg.compare.cells import Outcome
from napari_ctxseg.compare.plan import parse_plan
from napari_ctxseg.compare.prepare import prepare, run_states, stored_comparisons, unfinished
from napari_ctxseg.compare.queue import OWN_IMAGES, OWN_LABELS, CompareFolder
from napari_ctxseg.config import DataConfig
from napari_ctxseg.errors import InputError
from napari_ctxseg.image import Image, plain_affine
from napari_ctxseg.project import Project
from napari_ctxseg.project.comparable import comparable, write_cases

SHAPE = (5, 12, 14)


def image(seed, shape=SHAPE):
    spacing = (8.0, 1.5, 1.5)[-len(shape) :]
    array = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return Image(array, "zyx"[-len(shape) :], spacing, plain_affine(spacing), unit="mm")


def labels(slices, shape=SHAPE):
    found = np.zeros(shape, np.uint8)
    for z in slices:
        found[z, 3:7, 4:9] = 1
    return found


@pytest.fixture
def project(tmp_path):
    with Project.create(tmp_path / "p.ctxseg", classes={"LV": 1}) as made:
        for number in range(3):
            made.add_array(image(number), f"p{number}")
        made.import_labels("p0", labels(range(2)), complete=True)
        made.import_labels("p1", labels((1, 3)), complete=False)
        yield made


def test_whole_images_and_labelled_slices(project, tmp_path):
    found = comparable(project, volumes=False)
    assert [case.name for case in found.cases] == ["p0", "p1"]
    assert found.cut
    assert "labelled slices only" in found.notes[0]
    np.testing.assert_array_equal(found.cases[1].image.array, image(1).array[[1, 3]])
    np.testing.assert_array_equal(found.cases[1].labels, labels((1, 3))[[1, 3]])
    write_cases(found.cases, tmp_path / "i", tmp_path / "l")
    read = dataset.training_cases(DataConfig(images=(str(tmp_path / "i"),), labels=(str(tmp_path / "l"),)))
    for case, again in zip(found.cases, read, strict=True):
        assert again.name == case.name
        np.testing.assert_array_equal(again.image.array, case.image.array)
        np.testing.assert_array_equal(again.labels, case.labels)
        np.testing.assert_allclose(again.image.spacing, case.image.spacing, rtol=1e-6)


def test_volumes_need_every_slice(project):
    found = comparable(project, volumes=True)
    assert [case.name for case in found.cases] == ["p0"]
    assert "p1" in found.notes[0]
    assert not found.cut


def test_patients_are_found_again_in_the_names(tmp_path):
    with Project.create(tmp_path / "p.ctxseg", classes={"LV": 1}) as made:
        for number, group in enumerate(("anna", "anna", "b/b--c")):
            made.add_array(image(number, (12, 14)), f"im{number}", group=group)
            made.import_labels(f"im{number}", np.eye(12, 14, dtype=np.uint8), complete=True)
        found = comparable(made, volumes=False)
    assert not found.cut
    assert [group_of(case.name, found.group) for case in found.cases] == ["anna", "anna", "b_b-c"]


def test_channels_are_files_of_their_own(tmp_path):
    array = np.random.default_rng(0).normal(size=(2, 12, 14)).astype(np.float32)
    two = Image(array, "cyx", (1.0, 1.0), plain_affine((1.0, 1.0)), ("a", "b"))
    with Project.create(tmp_path / "p.ctxseg", classes={"LV": 1}) as made:
        made.add_array(two, "im")
        made.import_labels("im", np.eye(12, 14, dtype=np.uint8), complete=True)
        found = comparable(made, volumes=False)
    write_cases(found.cases, tmp_path / "i", tmp_path / "l")
    (read,) = dataset.training_cases(DataConfig(images=(str(tmp_path / "i"),), labels=(str(tmp_path / "l"),)))
    np.testing.assert_array_equal(read.image.array, array)


def test_what_cannot_be_compared_says_what_to_do(tmp_path):
    with Project.create(tmp_path / "a.ctxseg", classes={"LV": 1}) as made:
        made.add_array(image(0), "p0")
        with pytest.raises(InputError, match=r"no labelled image.*Label every slice"):
            comparable(made, volumes=False)
    made = Project.create(tmp_path / "b.ctxseg", classes={"LV": 1}, policy="scribbles")
    with made, pytest.raises(InputError, match="scribbles"):
        comparable(made, volumes=False)


def test_a_comparison_with_its_own_data_can_be_moved(project, tmp_path):
    found = comparable(project, volumes=False)
    folder = CompareFolder(tmp_path / "before")
    write_cases(found.cases, folder.path / OWN_IMAGES, folder.path / OWN_LABELS)
    data = {
        "images": [str(folder.path / OWN_IMAGES)],
        "labels": [str(folder.path / OWN_LABELS)],
        "classes": {"LV": 1},
    }
    plan = parse_plan(
        {"run": {"data": data}, "variants": {"a": {"loss": "ce"}, "b": {"loss": "dice"}}, "folds": 2}
    )
    ready = prepare(plan, folder, resume=False)
    assert [cell.variant for cell in ready.cells] == ["a", "b", "a", "b"]
    assert {row.state for row in run_states(folder)} == {"waiting"}
    folder.path.rename(tmp_path / "after")
    moved = CompareFolder(tmp_path / "after")
    again = prepare(moved.plan(), moved, resume=True)
    assert [cell.key for cell in again.cells] == [cell.key for cell in ready.cells]
    assert unfinished(moved.path)
    moved.store(again.cells[0], Outcome(error="no memory"))
    assert [row.state for row in run_states(moved)] == ["failed", "waiting", "waiting", "waiting"]
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "compare.yaml").write_text("[")
    assert stored_comparisons(tmp_path) == [moved.path]
    assert stored_comparisons(tmp_path / "none") == []
    assert not unfinished(tmp_path / "damaged")
