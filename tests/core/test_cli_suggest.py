"""``ctxseg suggest`` on files and on a project, with a network whose doubt is known."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
import torch
from typer.testing import CliRunner

from napari_ctxseg.cli import app
from napari_ctxseg.config import RunConfig, to_yaml
from napari_ctxseg.networks import make_network
from napari_ctxseg.project import NewImage, Project, SliceMarks, SplitSpec, find_predictions
from napari_ctxseg.training import checkpoint

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (8, 20, 24)
NETWORK = {"kind": "unet", "dims": 2, "in_channels": 1, "out_channels": 2, "features": [4, 8, 8]}


def ctxseg(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


def make_run(folder: Path) -> Path:
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    meta = {"step": 1, "classes": {"a": 5}, "network": NETWORK, "patch": [16, 16]}
    checkpoint.save_tensors(folder / "model.safetensors", make_network(NETWORK).state_dict(), meta)
    (folder / "config.yaml").write_text(to_yaml(RunConfig()))
    return folder


@pytest.fixture
def by_brightness(monkeypatch):
    """Bright is foreground, dark is not, and what is middling in `stack` is as undecided as can be."""
    from napari_ctxseg.inference.predictor import Model

    middling = 0.216  # after normalisation

    def answer(self, windows):
        return 30 * torch.cat([middling - windows, windows - middling], dim=1)

    monkeypatch.setattr(Model, "__call__", answer)


def stack(middling, seed):
    """Dark with a bright square in each slice; one slice has a square of middling brightness beside it."""
    image = np.random.default_rng(seed).normal(0, 0.1, SHAPE).astype(np.float32)
    image[:, 4:9, 4:9] += 10
    image[middling, 4:9, 10:15] += 1
    return image


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for name, middling, seed in (("P1", 6, 0), ("P2", 2, 1)):
        tifffile.imwrite(tmp_path / f"images/{name}.tif", stack(middling, seed), photometric="minisblack")
    return tmp_path


def slices(done):
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)["slices"]


def test_files(files, tmp_path, by_brightness):
    run = make_run(tmp_path / "run")
    words = ("suggest", run, files / "images", "--threads", 1)
    found = slices(ctxseg(*words, "--json", "--top", 5))
    assert {(one["image"], one["index"]) for one in found[:2]} == {("P1", 6), ("P2", 2)}
    assert found[0]["reason"] == "unsure"
    assert found[0]["score"] == 1.0
    assert len(found) == 5
    labels = np.zeros(SHAPE, np.uint8)
    labels[6, 4:9, 4:9] = 5
    (tmp_path / "labels").mkdir()
    tifffile.imwrite(tmp_path / "labels/P1_seg.tif", labels, photometric="minisblack")
    done = ctxseg(*words, "--json", "--labels", tmp_path / "labels")
    again = slices(done)
    assert (again[0]["image"], again[0]["index"]) == ("P2", 2)
    assert ("P1", 6) not in [(one["image"], one["index"]) for one in again]
    images = json.loads(done.stdout)["images"]
    assert {one["image"] for one in images} == {"P1", "P2"}
    text = ctxseg(*words, "--top", 1).stdout
    assert "  slice " in text
    assert "heuristic" in text


def test_project(files, tmp_path, by_brightness):
    folder = tmp_path / "p.ctxseg"
    with Project.create(folder, classes={"a": 5}, split=SplitSpec(validation=0)) as project:
        project.add_images([NewImage((files / f"images/{name}.tif",)) for name in ("P1", "P2")])
        store = project.labels("P1")
        labels = np.zeros(SHAPE, np.uint8)
        store.save(labels, [], SliceMarks.of({0: [6]}))  # an empty slice that was said to be complete
    run = make_run(folder / "runs/0001-ce-abcdef").name
    found = slices(ctxseg("suggest", folder, "--json", "--threads", 1))
    assert (found[0]["image"], found[0]["index"]) == ("P2", 2)
    assert ("P1", 6) not in [(one["image"], one["index"]) for one in found]
    stored = find_predictions(folder, run)
    assert set(stored) == {"P1", "P2"}
    unsure = stored["P2"].read("uncertainty")
    assert unsure.shape == SHAPE
    assert unsure[2, 4:9, 10:15].mean() > 0.5 > unsure[2, 14:, 16:].mean()
    np.testing.assert_array_equal(np.unique(stored["P2"].read("labels")), [0, 5])
    # Stored predictions are read, not made again: without its weights the run says the same.
    (folder / "runs" / run / "model.safetensors").write_bytes(b"broken")
    assert slices(ctxseg("suggest", folder, "--json", "--threads", 1)) == found


def test_a_prediction_of_a_project_keeps_its_uncertainty(files, tmp_path, by_brightness):
    folder = tmp_path / "p.ctxseg"
    with Project.create(folder, classes={"a": 5}, split=SplitSpec(validation=0)) as project:
        project.add_images([NewImage((files / f"images/{name}.tif",)) for name in ("P1", "P2")])
    run = make_run(folder / "runs/0001-ce-abcdef").name
    assert ctxseg("predict", folder, "--threads", 1).exit_code == 0
    assert find_predictions(folder, run)["P1"].arrays == ("labels",)
    assert ctxseg("predict", folder, "P1", "--threads", 1, "--uncertainty", "tta").exit_code == 0
    found = find_predictions(folder, run)
    assert found["P1"].arrays == ("labels", "uncertainty")
    assert found["P1"].read("uncertainty").max() < 1e-6, "brightness is the same in a mirror"
    # What is missing is predicted when it is asked for.
    assert ctxseg("suggest", folder, "--threads", 1).exit_code == 0
    assert find_predictions(folder, run)["P2"].read("uncertainty").max() > 0.5


def test_validation_patients_are_not_suggested(files, tmp_path, by_brightness):
    folder = tmp_path / "p.ctxseg"
    with Project.create(folder, classes={"a": 5}, split=SplitSpec(validation=0)) as project:
        project.add_images([NewImage((files / f"images/{name}.tif",)) for name in ("P1", "P2")])
        project.set_role(project.spec.entry("P2").group, "validation")
    make_run(folder / "runs/0001-ce-abcdef")
    assert {one["image"] for one in slices(ctxseg("suggest", folder, "--json"))} == {"P1"}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("RUN",), "no images are named"),
        (("RUN", "IMAGES", "--run", "3"), "names a run of a project"),
        (("RUN", "IMAGES", "--labels", "STRANGE"), "belongs to none of the images"),
        (("PROJECT",), "has no run yet"),
        (("PROJECT", "IMAGES"), "images and labels of its own"),
        (("RUN", "IMAGES", "--uncertainty", "x"), "Choose from"),
    ],
)
def test_what_does_not_fit_is_refused(files, tmp_path, words, text):
    strange = tmp_path / "strange.tif"
    tifffile.imwrite(strange, np.zeros((4, 4), np.uint8))
    places = {"RUN": make_run(tmp_path / "run"), "IMAGES": files / "images", "STRANGE": strange}
    places["PROJECT"] = tmp_path / "p.ctxseg"
    Project.create(places["PROJECT"], classes={"a": 5}).close()
    done = ctxseg("suggest", *(places.get(word, word) for word in words))
    assert done.exit_code == 1
    assert text in done.stderr
