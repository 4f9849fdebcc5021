"""Rounds of a project with an engine that says what the test wants: what is trained on, kept, shown and compared."""

from __future__ import annotations

import json

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_ctxseg.config import to_yaml
from napari_ctxseg.errors import InputError
from napari_ctxseg.events import (
    EpochEnd,
    JobDone,
    JobFailed,
    PredictionBlock,
    PredictionFinished,
    Preview,
    RunFinished,
)
from napari_ctxseg.gui.project_training import ProjectTraining
from napari_ctxseg.gui.session import Session, run_now
from napari_ctxseg.gui.workspace import Workspace
from napari_ctxseg.image import Image, plain_affine
from napari_ctxseg.project import Project, SliceMarks, find_predictions, load_rounds, lock_run
from napari_ctxseg.project.locks import LockedError

from .conftest import FakeEngine

SHAPE = (6, 20, 24)


@pytest.fixture(autouse=True)
def own_settings(tmp_path, monkeypatch):
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: tmp_path / "settings")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: tmp_path / "cache")


@pytest.fixture
def path(tmp_path):
    """Four images; p1 for training and p2 for validation are labelled, p3 is for testing."""
    folder = tmp_path / "heart.ctxseg"
    with Project.create(folder, classes={"LV": 1}) as made:
        for number in range(4):
            array = np.random.default_rng(number).normal(size=SHAPE).astype(np.float32)
            made.add_array(
                Image(array, "zyx", (8.0, 1.5, 1.5), plain_affine((8.0, 1.5, 1.5)), unit="mm"), f"p{number}"
            )
        for name, role in (("p0", "train"), ("p1", "train"), ("p2", "validation"), ("p3", "test")):
            made.set_role(name, role)
        labels = np.zeros(SHAPE, np.uint8)
        labels[3, 4:8, 4:8] = 1
        for name in ("p1", "p2", "p3"):
            made.labels(name).save(labels, [3], SliceMarks.of({0: [3]}))
    return folder


class Bench:
    def __init__(self):
        self.viewer = ViewerModel()
        self.engine = FakeEngine()
        self.session = Session(self.viewer, self.engine, None)
        self.workspace = Workspace(self.session, run_now, interval=0.0)
        self.training = ProjectTraining(self.session, self.workspace, run_now)
        self.told = []
        for each in (self.workspace.failed, self.session.failed):
            each.connect(self.told.append)

    def asked(self, kind):
        return [entry for entry in self.engine.asked if entry[0] == kind]

    def settle(self):
        for _ in range(4):
            self.workspace.tick()
            self.session.tick()
        self.training._looked = 0
        self.training.tick()

    def say(self, *events):
        self.engine.said = list(events)
        self.session.tick()

    def paint(self, z=2):
        labels = self.workspace.opened.labels
        labels.brush_size = 4
        self.viewer.dims.set_current_step(0, z)
        labels.paint((z, 10, 10), 1)
        self.settle()

    def finish(self, dice=0.7):
        """The engine trains: writes its files, and says so."""
        out = self.asked("train")[-1][3]
        out.mkdir(parents=True)
        config = self.asked("train")[-1][1]
        (out / "config.yaml").write_text(to_yaml(config))
        (out / "model.safetensors").write_bytes(b"weights")
        (out / "environment.json").write_text(json.dumps({"torch": "2.13", "numpy": "2.4"}))
        log = [
            {"type": "EpochEnd", "step": 10, "dice": {"LV": dice}, "mean": dice, "best": True, "curve": "validation Dice"},
            {
                "type": "RunFinished", "run": out.name, "step": 10, "steps": 10, "stopped": False, "best_step": 10,
                "dice": dice, "skipped": 0, "seconds": 1.0,
            },
        ]  # fmt: skip
        (out / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
        epoch = EpochEnd(10, {"LV": dice}, dice, True, "validation Dice")
        self.say(epoch, RunFinished(out.name, 10, 10, False, 10, dice, 0, 1.0), JobDone())
        return out

    def predicted(self, value=1):
        """The engine predicts what it was asked last, slice block by slice block."""
        name = self.asked("predict")[-1][2].name
        labels = np.zeros(SHAPE, np.uint8)
        labels[:, 2:5, 2:5] = value
        self.say(
            PredictionBlock(name, 3, labels[3:], 0.5),
            PredictionBlock(name, 0, labels[:3], 1.0),
            PredictionFinished(name, 0.1),
            JobDone(),
        )
        return name, labels


@pytest.fixture
def bench(path):
    made = Bench()
    made.workspace.open(path, "p0")
    made.settle()
    yield made
    made.workspace.shut_down()


def test_all_labelled_images_are_trained_on(bench, path):
    assert bench.session.train_problem() == "", "others are labelled, so this one need not be"
    bench.paint(z=2)
    bench.session.train()
    (_, config, cases, out) = bench.asked("train")[-1]
    assert {case.name for case in cases} == {"p0", "p1", "p2"}, "never those for testing"
    by_name = {case.name: case for case in cases}
    assert dict(by_name["p0"].labelled) == {0: (2,)}
    assert dict(by_name["p1"].labelled) == {0: (3,)}
    np.testing.assert_array_equal(by_name["p0"].labels, bench.workspace.opened.labels.data)
    assert config.data.validation == ("p2",)
    assert config.data.classes == {"LV": 1}
    assert out.parent == path / "runs"
    with pytest.raises(LockedError):
        lock_run(out)
    bench.finish()
    lock_run(out).release()


def test_regions_of_the_project_are_trained_on(bench, path):
    project = bench.workspace.project
    project.set_classes({"LV": 1, "myo": 2, "scar": 3})
    bench.settle()
    with pytest.raises(InputError, match="value 4, which is no class: add that class first"):
        bench.workspace.set_regions({"heart": (1, 4)})
    assert project.spec.regions == {}
    bench.workspace.set_regions({"heart": (1, 2), "LV": (1,)})
    bench.paint()
    bench.session.train()
    config = bench.asked("train")[-1][1]
    assert config.data.regions == {"heart": (1, 2), "LV": (1,)}
    assert config.data.classes == {"LV": 1, "myo": 2}, "scar is in no region, so it is background"
    bench.workspace.set_regions({})
    data = project.spec.data_config()
    assert (data.regions, len(data.classes)) == ({}, 3)


def elsewhere(path, name, config, *, finished=True):
    """A run that another program has put into the project's folder."""
    out = path / "runs" / name
    out.mkdir(parents=True)
    (out / "config.yaml").write_text(to_yaml(config))
    (out / "environment.json").write_text("{}")
    (out / "model.safetensors").write_bytes(b"weights")
    record = {
        "type": "RunFinished", "run": name, "step": 10, "steps": 10, "stopped": False, "best_step": 10, "dice": 0.5,
        "skipped": 0, "seconds": 1.0,
    }  # fmt: skip
    (out / "events.jsonl").write_text(json.dumps(record) + "\n" if finished else "")
    return out


def test_training_goes_on_from_the_last_model_wherever_it_was_made(bench, path):
    session, config = bench.session, bench.session.config
    assert session.last_run is None
    first = elsewhere(path, "0001-ce-aaaaaa", config)
    bench.settle()
    assert session.last_run == first
    second = elsewhere(path, "0002-ce-bbbbbb", config)
    elsewhere(path, "0003-ce-cccccc", config, finished=False)
    bench.settle()
    assert session.last_run == second, "one that is still going on is not taken"
    session.use_run(first)
    third = elsewhere(path, "0004-ce-dddddd", config)
    bench.settle()
    assert session.last_run == first, "what the person has chosen stays"
    session.use_run(third)
    bench.paint()
    assert session.train_problem() == ""
    (third / "model.safetensors").unlink()
    bench.settle()
    assert "model of 0004-ce-dddddd is gone" in session.train_problem()
    session.from_scratch = True
    assert session.train_problem() == ""


def test_methods_for_several_patients_are_offered(bench):
    assert bench.session.facts().patients == 3, "p0 is open; p1 and p2 are labelled; p3 is for testing"
    refine = {"folds": 2}
    bench.session.config = bench.session.config.updated(method={"kind": "cr_gan", "refine": refine})
    bench.paint()
    assert bench.session.train_problem() == ""
    bench.session.host = None
    assert "patient" in bench.session.train_problem()


def test_patients_named_in_the_project_count(bench):
    """Images of one patient are one; a patient kept for validation does not train."""
    assert bench.session.facts().training == 2
    bench.workspace.set_patients({"p0": "p1"})
    facts = bench.session.facts()
    assert (facts.patients, facts.training) == (2, 1)
    bench.session.config = bench.session.config.updated(method={"kind": "cr_gan"})
    bench.paint()
    problem = bench.session.train_problem()
    assert "only one patient" in problem
    assert "Patients... in the tab Project" in problem


def test_an_unlabelled_open_image_is_left_out(bench):
    bench.session.train()
    assert {case.name for case in bench.asked("train")[-1][2]} == {"p1", "p2"}


def test_nothing_labelled_for_training_is_said(bench, path):
    bench.workspace.project.set_role("p1", "test")
    bench.settle()
    assert "Paint in" in bench.session.train_problem()


def test_a_split_without_labels_is_pointed_out(bench, path):
    project = bench.workspace.project
    assert bench.training.advice() == ""
    project.set_role("p2", "test")
    project.set_role("p3", "validation")  # labelled
    bench.settle()
    assert bench.training.advice() == ""
    bench.workspace.open_image("p3")
    bench.workspace.opened.labels.data = np.zeros(SHAPE, np.uint8)
    bench.workspace.opened.marks.planes.clear()
    bench.settle()
    assert bench.training.advice().startswith("No slice for validation is labelled")
    assert "paint in one of p3" in bench.training.advice()
    assert bench.session.train_problem() == "", "it can be trained all the same"
    project.set_role("p1", "test")
    bench.settle()
    assert "paint in an image that is for training (p0), or choose 'train'" in bench.training.advice()
    assert bench.session.train_problem() == bench.training.advice(), "the open image is for validation"
    bench.workspace.open_image("p0")
    bench.paint()
    bench.settle()
    assert bench.training.advice().startswith("No slice for validation")
    project.set_role("p0", "test")
    bench.settle()
    assert bench.training.advice().startswith("No patient is for training")
    assert bench.session.train_problem() == bench.training.advice()


def test_painting_goes_on_during_training(bench):
    bench.paint(z=2)
    bench.session.train()
    before = bench.asked("train")[-1][2][0].labels.copy()
    bench.paint(z=4)
    np.testing.assert_array_equal(bench.asked("train")[-1][2][0].labels, before)
    assert Project.open(bench.workspace.project.path, read_only=True).labels("p0").counted() == {0: (2, 4)}


def test_a_round_is_written_down_and_everything_predicted(bench, path):
    bench.workspace.effort.seconds = 180
    bench.paint(z=2)
    painted = int((bench.workspace.opened.labels.data == 1).sum())
    bench.session.train()
    bench.workspace.effort.seconds += 60  # painted during the training: the next round's
    run = bench.finish(0.61)
    (made,), _ = load_rounds(path)
    assert made.run == run.name
    assert made.minutes == pytest.approx(3, abs=0.2)
    assert bench.workspace.effort.minutes == pytest.approx(1, abs=0.2)
    assert made.pixels == {"LV": painted + 3 * 16}
    assert made.validation == ("p2",)
    assert made.after.mean == 0.61
    assert made.versions["torch"] == "2.13"
    assert "0.61" in bench.training.verdict
    assert bench.session.remark == bench.training.verdict
    assert bench.session.phase == "predicting"
    assert bench.engine.first == 2, "the slice in sight comes first"
    order = []
    for _ in range(4):
        name, labels = bench.predicted()
        order.append(name)
        if bench.session.phase == "idle":
            break
    assert order[0] == "p0", "the open image comes first"
    assert set(order) == {"p0", "p1", "p2", "p3"}
    stored = find_predictions(path, run.name)
    assert set(stored) == set(order)
    np.testing.assert_array_equal(stored["p1"].read(), labels)
    np.testing.assert_array_equal(bench.viewer.layers["p0 prediction"].data, labels)
    assert "p1 prediction" not in bench.viewer.layers


def test_rounds_go_on_from_each_other_and_are_compared(bench, path):
    bench.paint(z=2)
    bench.session.train()
    first = bench.finish(0.60)
    bench.predicted(1)
    bench.session.stop()
    bench.say(JobDone())
    bench.settle()
    bench.paint(z=4)
    bench.session.train()
    assert bench.asked("train")[-1][1].init == str(first), "from the last model"
    second = bench.finish(0.70)
    bench.predicted(1)
    rounds, _ = load_rounds(path)
    assert rounds[1].parent == first.name
    assert rounds[1].before.mean == 0.60
    assert rounds[1].pixels == {"LV": rounds[1].pixels["LV"]}
    assert rounds[1].slices == 1, "only what was painted since"
    assert "this round helped" in bench.session.remark
    bench.session.stop()
    bench.say(JobDone())
    assert [entry.name for entry in bench.training.runs] == [first.name, second.name]
    bench.training.use(first.name)
    assert bench.session.last_run == first
    bench.training.show_stored(second.name, beside=True)
    assert f"p0 {second.name}" in bench.viewer.layers
    bench.session.train()
    assert bench.asked("train")[-1][1].init == str(first), "an earlier round is continued"
    bench.say(JobFailed("no"), JobDone())
    bench.session.from_scratch = True
    bench.session.train()
    assert bench.asked("train")[-1][1].init is None
    assert len(load_rounds(path)[0]) == 2, "a training that failed is no round"


def test_training_does_not_wait_for_predictions(bench):
    bench.session.train()
    bench.finish()
    assert bench.session.phase == "predicting"
    assert bench.session.train_problem() == ""
    count = len(bench.asked("predict"))
    bench.session.train()
    assert bench.asked("stop")
    bench.say(JobDone())
    assert bench.session.phase == "training"
    assert len(bench.asked("predict")) == count, "the others wait until this training is over"


def test_previews_follow_to_another_image(bench):
    bench.session.train()
    bench.workspace.open_image("p1")
    assert "p0 prediction" not in bench.viewer.layers
    bench.session.tick()
    assert bench.asked("visible")[-1][1] == "p1"
    labels = np.ones((20, 24), np.uint8)
    bench.say(Preview(5, "p0", 0, labels))
    assert "p0 prediction" not in bench.viewer.layers
    bench.say(Preview(6, "p1", 2, labels))
    np.testing.assert_array_equal(bench.viewer.layers["p1 prediction"].data[2], labels)


@pytest.mark.parametrize("what", ["labels", "all"])
def test_deleted_labels_cost_neither_strokes_nor_the_round(bench, path, what):
    bench.paint(z=2)
    bench.session.train()
    bench.say(Preview(3, "p0", 2, np.ones((20, 24), np.uint8)))
    labels = bench.workspace.opened.labels
    painted = labels.data.copy()
    if what == "all":
        bench.viewer.layers.clear()
    else:
        bench.viewer.layers.remove(labels)
    bench.session.forget_missing_layers()
    bench.settle()
    bench.finish()
    for _ in range(6):
        if bench.session.phase != "idle":
            bench.predicted()
    assert bench.session.phase == "idle"
    assert bench.told == []
    bench.workspace.close()
    with Project.open(path) as found:
        assert not found.read_only, "the lock is given back"
        np.testing.assert_array_equal(found.labels("p0").read(), painted)
    (made,), notes = load_rounds(path)
    assert notes == []
    assert set(find_predictions(path, made.run)) == {"p0", "p1", "p2", "p3"}


def test_uncertainty_goes_with_its_image(bench):
    bench.session.train()
    bench.finish()
    unsure = np.full(SHAPE, 0.5, np.float32)
    bench.say(PredictionBlock("p0", 0, np.ones(SHAPE, np.uint8), 1.0, uncertainty=unsure))
    assert "p0 uncertainty" in bench.viewer.layers
    bench.workspace.open_image("p1")
    assert "p0 uncertainty" not in bench.viewer.layers


def test_a_prediction_is_shown_again_when_the_image_is(bench, path):
    bench.session.train()
    bench.finish()
    for _ in range(4):
        if bench.session.phase == "predicting":
            bench.predicted()
    bench.workspace.open_image("p1")
    assert bench.viewer.layers["p1 prediction"].data[0, 3, 3] == 1
    bench.workspace.close()
    again = Bench()
    again.workspace.open(path, "p2")
    assert again.session.last_run.parent == path / "runs", "the last model is there at once"
    assert again.viewer.layers["p2 prediction"].data[0, 3, 3] == 1
    again.workspace.shut_down()


def test_an_open_project_of_somebody_else_can_be_trained(bench, path):
    second = Bench()
    second.workspace.open(path, "p1")
    second.settle()
    assert second.workspace.project.read_only
    second.session.train()
    assert {case.name for case in second.asked("train")[-1][2]} == {"p1", "p2"}
    second.finish()
    assert len(load_rounds(path)[0]) == 1
    second.workspace.shut_down()


def test_labels_that_are_not_saved_are_not_trained_on(bench, path):
    bench.workspace.opened.labels.data = np.ones((6, 20, 23), np.uint8)
    bench.settle()
    assert "shape" in bench.session.train_problem()
    bench.workspace.opened.labels.data = np.zeros(SHAPE, np.uint8)
    bench.settle()
    scratch = bench.viewer.add_labels(np.ones(SHAPE, np.uint8), scale=(8, 1.5, 1.5), units=("mm",) * 3)
    bench.session.choose(bench.session.images, scratch)
    assert "not the project's" in bench.session.train_problem()
    with pytest.raises(InputError):
        bench.session.train()


def test_a_training_elsewhere_is_followed(bench, path):
    run = path / "runs" / "0001-dice_ce-a1b2c3"
    run.mkdir(parents=True)
    bench.settle()

    def log(*records):
        with open(run / "events.jsonl", "a") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
        bench.settle()

    step = {"type": "StepEnd", "steps": 20, "lr": 1e-3, "seconds": 0.1, "parts": {}}
    started = {
        "type": "RunStarted", "run": run.name, "step": 0, "steps": 20, "device": "CUDA", "precision": "bf16",
        "parameters": 1, "curve": "validation Dice", "classes": ["LV"],
    }  # fmt: skip
    log(started, step | {"step": 1, "loss": 0.9})
    log(step | {"step": 2, "loss": 0.8}, {"type": "Unknown"}, {"type": "StepEnd"})
    assert [at for at, _ in bench.session.history.loss] == [1, 2]
    assert "trained elsewhere: Step 2 of 20" in bench.session.status
    with open(run / "events.jsonl", "a") as file:
        file.write('{"type": "EpochEnd", "step": 2, "dice": {"LV": 0.5}, ')  # half a line
    bench.settle()
    assert bench.session.history.dice == {}
    with open(run / "events.jsonl", "a") as file:
        file.write('"mean": 0.5, "best": true, "curve": "validation Dice"}\n')
    bench.settle()
    assert bench.session.history.dice == {"LV": [(2, 0.5)]}
    (run / "config.yaml").write_text(to_yaml(bench.session.config))
    (run / "model.safetensors").write_bytes(b"x")
    bench.settle()
    assert [entry.name for entry in bench.training.runs] == [run.name]
    bench.training.use(run.name)
    assert bench.session.last_run == run


def test_save_as_takes_the_model_along(bench, path, tmp_path):
    bench.session.train()
    run = bench.finish()
    with pytest.raises(InputError, match="trained on"):
        bench.workspace.save_as(tmp_path / "moved.ctxseg")
    bench.session.stop()
    bench.say(JobDone())
    bench.workspace.save_as(tmp_path / "moved.ctxseg")
    assert bench.session.last_run == tmp_path / "moved.ctxseg" / "runs" / run.name
    assert bench.session.runs == tmp_path / "moved.ctxseg" / "runs"
