"""Choices, jobs and results without a screen: a `ViewerModel` and an engine that notes what it is asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_ctxseg.errors import InputError
from napari_ctxseg.events import (
    CheckpointSaved,
    EpochEnd,
    JobDone,
    JobFailed,
    Note,
    PredictionBlock,
    PredictionFinished,
    Preview,
    RunFinished,
    RunStarted,
    StepEnd,
)
from napari_ctxseg.gui.choices import ClassRow
from napari_ctxseg.gui.session import Session

from .conftest import FakeEngine


def settle(session):
    while not session.census.complete:
        session.tick()
    session.tick()


def painted(session, z=2, value=1):
    layer = session.labels if session.labels is not None else session.new_labels()
    session.viewer.dims.set_point(0, 4 + 8 * z)
    layer.brush_size = 4
    layer.paint((z, 10, 10), value)
    settle(session)
    return layer


def asked(session, kind):
    return [entry for entry in session.engine.asked if entry[0] == kind]


# ---------------------------------------------------------------- reasons


def test_reasons_follow_the_work(session, viewer_model):
    engine = session.engine
    engine.state = "starting"
    assert "starting" in session.train_problem()
    engine.state = "dead"
    assert "not running" in session.train_problem()
    engine.state = "ready"
    assert "labels layer" in session.train_problem()
    session.new_labels()
    settle(session)
    assert session.train_problem() == "Paint in 'mr labels' first."
    painted(session)
    assert session.train_problem() == ""
    assert "Train first" in session.predict_problem()
    session.choose([], session.labels)
    assert session.train_problem() == "Choose an image layer."


def test_shapes_that_disagree_are_both_named(session, viewer_model):
    layer = viewer_model.add_labels(np.ones((6, 20, 23), np.uint8))
    session.choose(session.images, layer)
    problem = session.train_problem()
    assert "(6, 20, 24)" in problem
    assert "(6, 20, 23)" in problem


@pytest.mark.parametrize(
    ("change", "text"), [({"scale": (8, 1.5, 1.4)}, "1.4"), ({"translate": (4, 0, 0)}, "(4, 0, -2)")]
)
def test_grids_that_disagree_are_named(session, viewer_model, change, text):
    place = {"scale": (8, 1.5, 1.5), "translate": (4, 0, -2)} | change
    layer = viewer_model.add_labels(np.ones((6, 20, 24), np.uint8), **place)
    session.choose(session.images, layer)
    assert text in session.train_problem()


def test_four_axes_pyramids_and_rgb_channels_are_refused(session, viewer_model):
    labels = session.new_labels()
    session.choose([viewer_model.add_image(np.zeros((2, 2, 4, 4)), rgb=False)], labels)
    assert "4 axes" in session.train_problem()
    rgb = viewer_model.add_image(np.zeros((8, 8, 3)), rgb=True)
    session.choose([rgb, viewer_model.layers["mr"]], labels)
    assert "choose it alone" in session.train_problem()
    session.choose([viewer_model.layers["mr"], viewer_model.add_image(np.zeros((6, 20, 23)))], labels)
    assert "one shape" in session.train_problem()


def test_three_dimensions_need_a_volume(viewer_model, tmp_path):
    session = Session(viewer_model, FakeEngine(), tmp_path)
    session.choose([viewer_model.add_image(np.zeros((20, 20)))], None)
    layer = session.new_labels()
    layer.paint((5, 5), 1)
    settle(session)
    assert session.train_problem() == ""
    session.config = session.config.updated(network={"kind": "unet", "dims": 3})
    assert "volume" in session.train_problem()


def test_scribbles_need_two_kinds(session):
    session.policy = "scribbles"
    layer = painted(session, value=1)
    assert "background (value 2)" in session.train_problem()
    layer.paint((2, 3, 3), 2)
    settle(session)
    assert session.train_problem() == ""
    assert [row.value for row in session.classes] == [1], "the painted background is no class"
    session.set_classes([ClassRow("a", 1), ClassRow("b", 2)])
    assert "also a class" in session.train_problem()


def test_painted_values_join_the_table(session):
    layer = painted(session, value=7)
    assert [row.value for row in session.classes] == [7], "the unused first row gives way"
    layer.paint((1, 3, 3), 9)
    settle(session)
    assert [row.value for row in session.classes] == [7, 9]


def test_instance_ids_are_named(session, viewer_model):
    data = np.arange(6 * 20 * 24, dtype=np.uint16).reshape(6, 20, 24)
    layer = viewer_model.add_labels(data, scale=(8, 1.5, 1.5), translate=(4, 0, -2), units=("mm",) * 3)
    session.choose(session.images, layer)
    settle(session)
    assert "2879 different values" in session.train_problem()


def test_a_removed_class_does_not_come_back(session):
    layer = painted(session, value=7)
    session.set_classes([ClassRow("a", 1)])
    layer.paint((1, 3, 3), 1)
    settle(session)
    assert [row.value for row in session.classes] == [1]


# ---------------------------------------------------------------- training


def test_train_sends_a_snapshot(session):
    layer = painted(session, z=2)
    session.train()
    (_, config, (case,), out) = asked(session, "train")[0]
    assert session.phase == "training"
    before = case.labels.copy()
    layer.paint((2, 3, 3), 1)
    np.testing.assert_array_equal(case.labels, before)
    assert case.labelled == {0: (2,)}
    assert (case.name, case.image.spacing, case.image.unit, case.image.axes) == (
        "mr",
        (8.0, 1.5, 1.5),
        "mm",
        "zyx",
    )
    np.testing.assert_array_equal(case.image.affine[:3, 3], (4, 0, -2))
    assert config.data.annotation == "masks"
    assert config.data.classes == {"class 1": 1}
    assert config.init is None
    assert out.parent == session.runs
    assert session.train_problem() == "The engine is training."
    with pytest.raises(InputError):
        session.train()


def test_labels_from_elsewhere_mark_their_slices(session, viewer_model):
    data = np.zeros((6, 20, 24), np.uint8)
    data[4, 2:5, 2:5] = 1
    layer = viewer_model.add_labels(data, scale=(8, 1.5, 1.5), translate=(4, 0, -2), units=("mm",) * 3)
    session.choose(session.images, layer)
    settle(session)
    painted(session, z=1)
    session.train()
    assert asked(session, "train")[0][2][0].labelled == {0: (1, 4)}


def test_painting_in_a_side_view_marks_that_plane(session, viewer_model):
    layer = session.new_labels()
    viewer_model.dims.order = (1, 0, 2)
    layer.brush_size = 4
    layer.paint((3, 10, 10), 1)
    settle(session)
    assert session.marks.planes == {1: {10}}
    session.train()
    assert asked(session, "train")[0][2][0].labelled == {1: (10,)}


def test_channels_and_rgb(session, viewer_model):
    place = {"scale": (8, 1.5, 1.5), "translate": (4, 0, -2), "units": ("mm",) * 3}
    second = viewer_model.add_image(np.ones((6, 20, 24)), name="t2", **place)
    session.choose([viewer_model.layers["mr"], second], None)
    painted(session)
    session.train()
    image = asked(session, "train")[0][2][0].image
    assert (image.axes, image.channels, image.array.shape) == ("czyx", ("mr", "t2"), (2, 6, 20, 24))

    rgb = viewer_model.add_image(np.zeros((8, 9, 4), np.uint8), rgb=True, name="he")
    other = Session(viewer_model, FakeEngine(), session.runs)
    other.choose([rgb], None)
    assert other.new_labels().data.shape == (8, 9)
    other.labels.paint((4, 4), 1)
    other.labels.paint((1, 1), 0)
    settle(other)
    other.train()
    case = asked(other, "train")[0][2][0]
    assert (case.image.axes, case.image.array.shape, case.labelled) == ("cyx", (3, 8, 9), None)


def test_only_one_kind_of_pixel_is_refused_before_anything_starts(session, viewer_model):
    layer = viewer_model.add_labels(
        np.ones((6, 20, 24), np.uint8), scale=(8, 1.5, 1.5), translate=(4, 0, -2), units=("mm",) * 3
    )
    session.choose(session.images, layer)
    settle(session)
    told = []
    session.failed.connect(told.append)
    session.train()
    assert "every labelled pixel is 'class 1'" in told[0]
    assert session.phase == "idle"
    assert not session.engine.asked
    assert session.train_problem() == ""


def test_erased_labels_are_noticed(session):
    layer = painted(session)
    layer.data[:] = 0  # behind napari's back: no event tells us
    told = []
    session.failed.connect(told.append)
    session.train()
    assert "no pixel of a class is painted" in told[0]


def run_through(session, *events):
    session.engine.said += [
        RunStarted("r", 0, 10, "CPU", "32-true", 1, "training Dice", ("class 1",)),
        *events,
    ]
    session.tick()


def test_events_move_curve_progress_and_preview(session, viewer_model):
    painted(session)
    viewer_model.dims.set_point(0, 4 + 8 * 3)
    session.train()
    session.tick()
    assert asked(session, "visible")[-1] == ("visible", "mr", 3)
    viewer_model.dims.set_point(0, 4 + 8 * 5)
    session.tick()
    assert asked(session, "visible")[-1] == ("visible", "mr", 5)
    active = viewer_model.layers.selection.active
    labels = np.zeros((20, 24), np.uint8)
    labels[3:6, 3:6] = 1
    run_through(
        session,
        StepEnd(5, 10, 0.7, 1e-3, 0.1),
        EpochEnd(5, {"class 1": 0.5}, 0.5, True, "training Dice"),
        Preview(5, "mr", 3, labels),
    )
    assert session.fraction == 0.5
    assert session.history.loss == [(5, 0.7)]
    assert session.history.dice == {"class 1": [(5, 0.5)]}
    prediction = viewer_model.layers["mr prediction"]
    image = viewer_model.layers["mr"]
    np.testing.assert_array_equal(prediction.data[3], labels)
    assert not prediction.data[[0, 1, 2, 4, 5]].any()
    for name in ("scale", "translate", "units", "axis_labels"):
        assert np.all(getattr(prediction, name) == getattr(image, name)), name
    np.testing.assert_array_equal(prediction.extent.world, image.extent.world)
    assert viewer_model.layers.selection.active is active, "painting goes on where it was"
    np.testing.assert_allclose(prediction.get_color(1), session.labels.get_color(1))
    session.engine.said += [RunFinished("r", 10, 10, False, 10, 0.9, 2, 1.0), JobDone()]
    session.tick()
    assert session.phase == "idle"
    assert "2 steps were skipped" in session.status
    assert session.last_run == asked(session, "train")[0][3]
    session.train()
    assert asked(session, "train")[1][1].init == str(session.last_run)
    assert asked(session, "train")[1][3] != session.last_run
    assert session.history.starts == [5]


def test_from_scratch_forgets(session):
    painted(session)
    session.last_run, session.from_scratch = Path("old"), True
    session.train()
    assert asked(session, "train")[0][1].init is None


def test_an_earlier_run_is_taken(session, tmp_path):
    with pytest.raises(InputError, match="holds no model"):
        session.use_run(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    session.from_scratch = True
    session.use_run(tmp_path)
    assert session.predict_problem() == ""
    painted(session)
    session.train()
    assert asked(session, "train")[0][1].init == str(tmp_path)
    with pytest.raises(InputError, match="press Stop"):
        session.use_run(tmp_path)


def test_stop_then_kill(session):
    painted(session)
    session.train()
    session.stop()
    assert asked(session, "stop")
    assert not asked(session, "kill")
    assert session.stopping
    session.stop()
    assert asked(session, "kill")
    session.engine.said += [Note("ended"), JobDone()]
    session.tick()
    assert session.phase == "idle"
    assert not session.stopping
    session.stop()
    assert len(asked(session, "stop")) == 1


def test_stop_while_preparing(viewer_model, tmp_path):
    waiting = []
    session = Session(viewer_model, FakeEngine(), tmp_path, lambda *job: waiting.append(job))
    session.choose([viewer_model.layers["mr"]], None)
    painted(session)
    session.train()
    assert session.phase == "preparing"
    session.stop()
    session.engine.asked.clear()
    work, done, _ = waiting.pop()
    work()
    done()
    assert [entry[0] for entry in session.engine.asked] == ["train", "stop"]


def test_failure_keeps_the_saved_model(session):
    painted(session)
    session.train()
    told = []
    session.failed.connect(told.append)
    run_through(
        session,
        CheckpointSaved(3, "x"),
        JobFailed("The engine crashed (SIGSEGV).", "Train again.", "/log"),
        JobDone(),
    )
    assert told == ["The engine crashed (SIGSEGV). Train again. Log: /log"]
    assert session.status == told[0]
    assert session.phase == "idle"
    assert session.last_run == asked(session, "train")[0][3]


# ---------------------------------------------------------------- layers that go away


def test_deleted_layers(session, viewer_model):
    layer = painted(session)
    session.train()
    run_through(session, Preview(1, "mr", 2, np.ones((20, 24), np.uint8)))
    viewer_model.layers.remove("mr prediction")
    viewer_model.layers.remove(layer)
    viewer_model.layers["mr"].name = "renamed"
    session.forget_missing_layers()
    assert session.labels is None
    viewer_model.layers.remove("renamed")
    session.forget_missing_layers()
    assert session.images == []
    session.engine.said += [Preview(2, "mr", 2, np.ones((20, 24), np.uint8))]
    session.tick()
    assert viewer_model.layers["mr prediction"].data[2].all()
    np.testing.assert_array_equal(viewer_model.layers["mr prediction"].scale, (8, 1.5, 1.5))
    session.engine.said += [JobDone()]
    session.tick()
    assert session.train_problem() == "Choose an image layer."


def test_data_replaced_by_another_shape(session):
    layer = painted(session)
    layer.data = np.ones((6, 20, 10), np.uint8)
    settle(session)
    assert "(6, 20, 10)" in session.train_problem()


def test_predict(session, viewer_model):
    painted(session)
    session.last_run = Path("run")
    session.predict()
    assert asked(session, "predict")[0][1] == Path("run")
    assert asked(session, "predict")[0][2].labels is None
    session.engine.said += [
        PredictionBlock("mr", 0, np.ones((4, 20, 24), np.uint8), 0.6),
        PredictionBlock("mr", 4, np.full((2, 20, 24), 1, np.uint8), 1.0),
        PredictionFinished("mr", 1.5),
        JobDone(),
    ]
    session.tick()
    assert viewer_model.layers["mr prediction"].data.all()
    assert "1.5 s" in session.status


def test_regions_get_a_layer_each(session, viewer_model):
    painted(session)
    session.last_run = Path("run")
    session.predict()
    session.prepare()
    masks = np.zeros((2, 6, 20, 24), np.uint8)
    masks[0, :, 2:9], masks[1, :, 4:6] = 1, 1
    session.engine.said += [
        PredictionBlock("mr", 0, masks[:, :4], 0.6, regions=("WT", "ET")),
        PredictionBlock("mr", 4, masks[:, 4:], 1.0, regions=("WT", "ET")),
        PredictionFinished("mr", 1.5),
        JobDone(),
    ]
    session.tick()
    for number, name in enumerate(("WT", "ET"), start=1):
        layer = viewer_model.layers[f"mr prediction {name}"]
        np.testing.assert_array_equal(layer.data, number * masks[number - 1])
    assert "mr prediction" not in viewer_model.layers, "made ahead for classes, and empty"


def test_large_class_values_get_a_layer_that_holds_them(session, viewer_model):
    session.set_classes([ClassRow("a", 1), ClassRow("b", 300)])
    assert session.new_labels().data.dtype == np.uint16
    painted(session)
    session.train()
    run_through(session, Preview(1, "mr", 2, np.full((20, 24), 300, np.uint16)))
    assert viewer_model.layers["mr prediction"].data.max() == 300


def test_close_lets_go(session):
    layer = painted(session)
    session.close()
    assert session.engine.asked[-1] == ("close",)
    layer.paint((2, 3, 3), 1)
    session.close()
