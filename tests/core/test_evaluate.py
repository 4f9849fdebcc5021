"""``ctxseg evaluate`` on files: what does not fit is refused, what is left out or cannot be is said."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
import tifffile

from tests.core.test_cli import ctxseg


def save(folder, name, values):
    folder.mkdir(exist_ok=True)
    tifffile.imwrite(folder / f"{name}.tif", np.asarray(values, np.uint16))


def square(*places, value=1, shape=(20, 20)):
    labels = np.zeros(shape, np.uint16)
    for number, (y, x) in enumerate(places):
        labels[y : y + 5, x : x + 5] = value + number
    return labels


@pytest.fixture
def folders(tmp_path):
    for name in ("a", "b"):
        save(tmp_path / "pred", name, square((2, 2)))
        save(tmp_path / "ref", name, square((2, 3)))
    return tmp_path


def evaluated(folder, *more):
    done = ctxseg("evaluate", "--pred", folder / "pred", "--ref", folder / "ref", "--json", *more)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def test_nothing_is_said_where_nothing_is_strange(folders):
    assert evaluated(folders)["notes"] == []
    assert evaluated(folders, "--classes", "x=1")["notes"] == []


def test_other_values_are_named(folders):
    save(folders / "pred", "a", square((2, 2), value=255))
    notes = evaluated(folders)["notes"]
    assert notes == [
        "in no reference, but predicted: class 255; its Dice of 0 is part of the mean over classes"
    ]
    save(folders / "pred", "b", square((2, 2), value=255))
    (first, _) = evaluated(folders)["notes"]
    assert first.startswith("only the predictions hold the value 255 and only the references the value 1")
    assert "--foreground" in first
    notes = evaluated(folders, "--classes", "x=1")["notes"]
    assert notes == ["the predictions also hold the value 255, no class here: taken for background"]
    assert evaluated(folders, "--foreground")["mean"]["dice"] == pytest.approx(0.8)


def test_empty_masks_are_said(folders):
    for folder in ("pred", "ref"):
        for name in ("a", "b"):
            save(folders / folder, name, np.zeros((20, 20)))
    nothing = "all references and predictions are empty: there is nothing to measure"
    assert evaluated(folders)["notes"] == [nothing]
    assert evaluated(folders, "--foreground")["notes"] == [nothing]
    assert nothing in ctxseg("evaluate", "--pred", folders / "pred", "--ref", folders / "ref").stdout
    save(folders / "ref", "a", square((2, 3)))
    assert evaluated(folders, "--classes", "x=1,y=2")["notes"] == ["in no reference and no prediction: y"]


def test_the_table_has_every_count(folders):
    save(folders / "pred", "a", np.zeros((20, 20)))
    text = ctxseg("evaluate", "--pred", folders / "pred", "--ref", folders / "ref").stdout
    header, row = (
        [cell.strip() for cell in line.strip("┃│ \n").replace("┃", "│").split("│")]
        for line in text.splitlines()
        if "absent" in line or "class 1" in line
    )
    found = dict(zip(header, row, strict=True))
    assert {name: found[name] for name in ("cases", "absent", "missed", "invented", "distances")} == {
        "cases": "2", "absent": "0", "missed": "1", "invented": "0", "distances": "1",
    }  # fmt: skip


def test_numbered_objects(folders):
    for name in ("a", "b"):
        save(folders / "ref", name, square((2, 2), (2, 7)))  # two that touch
        save(folders / "pred", name, square((2, 2), (2, 7)) > 0)  # one piece
    found = evaluated(folders, "--instances", "--measures", "seg,dice")
    assert list(found["classes"]) == ["objects"]
    assert (found["mean"]["seg"], found["mean"]["dice"]) == (0.5, 1)
    assert evaluated(folders, "--foreground", "--measures", "seg")["mean"]["seg"] == 1
    done = ctxseg(
        "evaluate", "--pred", folders / "pred", "--ref", folders / "ref", "--instances", "--classes", "x=1"
    )
    assert done.exit_code == 1
    assert "--instances: takes every value above 0 for an object of one class" in done.stderr


def test_what_looks_like_numbers_of_objects_is_said(folders):
    save(folders / "ref", "a", square((2, 2), (2, 8), (9, 2)))
    notes = evaluated(folders)["notes"]
    assert notes[0].startswith(
        "the predictions hold one value, the references 3: if those are numbers of objects"
    )
    many = [(5 * (n // 4), 5 * (n % 4)) for n in range(16)]
    for name, first in zip("abcde", range(1, 81, 16), strict=True):
        for folder in ("pred", "ref"):
            save(folders / folder, name, square(*many, value=first))
    done = ctxseg("evaluate", "--pred", folders / "pred", "--ref", folders / "ref")
    assert done.exit_code == 1
    assert "hold 80 different values, which looks like numbers of objects. Add --instances" in done.stderr
    assert evaluated(folders, "--instances", "--measures", "seg")["mean"]["seg"] == 1


@pytest.mark.parametrize(
    ("spacing", "origin", "said"),
    [((2.0, 1.0, 1.0), (0, 0, 0), "voxels apart"), ((1.0, 1.0, 1.0), (0, 0, 3.0), "3 voxels apart")],
)
def test_another_grid_is_refused(tmp_path, spacing, origin, said):
    labels = np.zeros((6, 8, 4), np.uint8)
    labels[2:4, 2:5, 1:3] = 1
    for folder, steps, start in (("ref", (1.0, 1.0, 1.0), (0, 0, 0)), ("pred", spacing, origin)):
        (tmp_path / folder).mkdir()
        affine = np.diag([*steps, 1.0])
        affine[:3, 3] = start
        nibabel.Nifti1Image(labels, affine).to_filename(tmp_path / folder / "a.nii.gz")
    done = ctxseg("evaluate", "--pred", tmp_path / "pred", "--ref", tmp_path / "ref")
    assert done.exit_code == 1
    assert said in done.stderr
    assert "reference and prediction lie" in done.stderr
    assert "Resample the prediction onto the grid of the reference" in done.stderr


def test_other_shapes_are_refused(folders):
    save(folders / "pred", "b", square((2, 2), shape=(20, 24)))
    done = ctxseg("evaluate", "--pred", folders / "pred", "--ref", folders / "ref")
    assert done.exit_code == 1
    assert "b: reference (20, 20) and prediction (20, 24) have different shapes" in done.stderr.replace(
        "\n", " "
    )
