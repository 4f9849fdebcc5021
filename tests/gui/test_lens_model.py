"""The Lens without a window: what it asks, and when."""

from __future__ import annotations

import numpy as np
import pytest

from napari_ctxseg.config import parse_loss
from napari_ctxseg.events import JobDone, JobFailed, LossMaps
from napari_ctxseg.gui import layers as lay
from napari_ctxseg.gui.choices import Choices, ClassRow
from napari_ctxseg.gui.lens import Lens
from napari_ctxseg.gui.lens_show import show_kind, weigh
from napari_ctxseg.gui.lens_sliders import numbers_of, with_number


class FakeLane:
    """Notes requests; answers when a test says so."""

    def __init__(self):
        self.state, self.pid, self.said, self.asked = "ready", 1, [], []

    def poll(self, seconds=0.02):
        said, self.said = self.said, []
        if any(isinstance(event, JobDone) for event in said):
            self.state = "ready"
        return said

    def maps(self, request):
        self.asked.append(request)
        self.state = "busy"
        return len(self.asked)

    def answer(self, lens, **fields):
        shape = self.asked[-1].target.shape if self.asked[-1].target is not None else (20, 24)
        fields.setdefault("weight", np.ones(shape, np.float32))
        self.said = [LossMaps(len(self.asked), 0.01, **fields), JobDone()]
        lens.tick()

    def close(self):
        self.state = "dead"


@pytest.fixture
def labels(viewer_model):
    image = viewer_model.layers["mr"]
    return viewer_model.add_labels(np.zeros((6, 20, 24), np.uint8), name="mask", **lay.look_of(image))


@pytest.fixture
def choices(viewer_model, labels):
    made = Choices(viewer_model)
    made.choose([viewer_model.layers["mr"]], labels)
    made.classes = [ClassRow("a", 3), ClassRow("b", 1)]
    return made


@pytest.fixture
def lens(viewer_model, choices):
    viewer_model.dims.set_current_step(0, 2)
    made = Lens(viewer_model, FakeLane(), choices, alone=False)
    made.tick()
    return made


def test_one_request_at_a_time_and_then_the_newest(lens, labels):
    lane = lens.engine
    assert len(lane.asked) == 1
    for column in range(5):
        labels.paint((2, 5, 4 * column), 3)
        lens.tick()
    assert len(lane.asked) == 1, "the first has no answer yet"
    lane.answer(lens)
    assert len(lane.asked) == 2
    np.testing.assert_array_equal(lane.asked[1].target == 1, labels.data[2] == 3)
    lane.answer(lens)
    lens.tick()
    assert len(lane.asked) == 2, "nothing has changed"
    labels.refresh()
    lens.tick()
    assert len(lane.asked) == 2, "nothing has changed, whatever napari redraws"


def test_values_become_indices_under_the_policy(lens, labels, choices):
    lane = lens.engine
    assert (lane.asked[0].target == -1).all(), "masks: a slice without paint is unlabelled"
    assert lane.asked[0].values == (3, 1)
    lane.answer(lens, weight=np.zeros((20, 24), np.float32))
    assert "not labelled" in lens.status
    labels.data[2, 3, 4], labels.data[2, 5, 6], labels.data[2, 7, 8] = 3, 1, 9
    labels.refresh()
    lens.tick()
    target = lane.asked[-1].target
    assert (target[3, 4], target[5, 6], target[7, 8], target[0, 0]) == (1, 2, 0, 0)
    lane.answer(lens)
    choices.marks.clear(0, 2)
    choices.changed.emit()
    lens.tick()
    assert (lane.asked[-1].target == -1).all(), "its mark was cleared by hand"
    lane.answer(lens)
    choices.marks.set(1, 10)  # a row painted in a side view
    choices.changed.emit()
    lens.tick()
    assert np.flatnonzero((lane.asked[-1].target >= 0).all(axis=1)).tolist() == [10]
    lane.answer(lens)
    choices.policy, choices.background_value = "scribbles", 9
    choices.changed.emit()
    lens.tick()
    target = lane.asked[-1].target
    assert (target[3, 4], target[5, 6], target[7, 8], target[0, 0]) == (1, 2, 0, -1)


def test_the_slice_layer_stands_where_the_slice_is(lens, labels, viewer_model):
    lens.engine.answer(lens)
    image = viewer_model.layers["mr"]
    layer = viewer_model.layers["Lens: weight"]
    np.testing.assert_allclose(layer.translate, (4 + 2 * 8, 0, -2))
    assert layer.data.shape == (1, 20, 24)
    assert layer.units == image.units
    assert viewer_model.layers.index("Lens: weight") == viewer_model.layers.index("mr") + 1
    viewer_model.dims.set_current_step(0, 5)
    lens.tick()
    lens.engine.answer(lens)
    np.testing.assert_allclose(viewer_model.layers["Lens: weight"].translate[0], 4 + 5 * 8)
    assert viewer_model.dims.nsteps[0] == 6, "the stack is as long as before"
    assert lay.layers_of(viewer_model, "image") == [lay.plain(image)], "none of ours to learn from"
    lens.close()
    assert [layer.name for layer in viewer_model.layers] == ["mr", "mask"]


def test_volume_of_a_3d_model(lens, labels, choices, viewer_model):
    lane = lens.engine
    lane.answer(lens)
    choices.config = choices.config.updated(network={"kind": "unet", "dims": 3})
    labels.data[1:4, 3:6, 3:6] = 3
    labels.events.data()
    choices.changed.emit()
    lens.tick()
    request = lane.asked[-1]
    assert request.target.shape == (6, 20, 24)
    assert request.spacing == (8, 1.5, 1.5)
    assert request.index == 2
    assert set(np.unique(request.target[1:4])) == {0, 1}
    assert (request.target[0] == -1).all()
    lane.answer(lens, weight=np.ones((20, 24), np.float32), boxes=(((1, 4), (3, 6), (3, 6)),))
    viewer_model.dims.set_current_step(0, 3)
    lens.tick()
    assert (lane.asked[-1].target, lane.asked[-1].index) == (None, 3), "the lane has the volume"
    lane.answer(lens, weight=np.ones((20, 24), np.float32))
    labels.paint((3, 10, 10), 1)
    lens.tick()
    assert lane.asked[-1].target[3, 10, 10] == 2


def in_3d(lens, choices, dims=3):
    """Ask of a 3-D model, or of a 2-D one again, and answer."""
    choices.config = choices.config.updated(network={"kind": "unet", "dims": dims})
    choices.changed.emit()
    lens.tick()
    lens.engine.answer(lens, weight=np.ones((20, 24), np.float32))


def test_a_volume_is_sent_again_when_its_meaning_changes(lens, labels, choices):
    lane = lens.engine
    lane.answer(lens)
    labels.data[1:4, 3:6, 3:6], labels.data[1:4, 8, 8] = 3, 1
    in_3d(lens, choices)

    def sent():
        choices.changed.emit()
        lens.tick()
        lane.answer(lens, weight=np.ones((20, 24), np.float32))
        return lane.asked[-1].target, lane.asked[-1].values

    assert sent()[0] is None, "nothing has changed"
    choices.classes = [ClassRow("a", 3)]
    target, values = sent()
    assert (target.max(), values) == (1, (3,))
    choices.marks.clear(0, 2)
    target, _ = sent()
    assert (target[2] == -1).all()
    choices.policy, choices.background_value = "scribbles", 1
    target, _ = sent()
    assert (target[2, 8, 8], target[2, 0, 0]) == (0, -1)
    choices.policy = "masks"
    assert sent()[0][2].max() == -1
    in_3d(lens, choices, dims=2)
    assert lane.asked[-1].target.ndim == 2
    in_3d(lens, choices)
    assert lane.asked[-1].target.ndim == 3, "the lane held a slice"


def test_undo_and_redo_of_a_volume(lens, labels, choices, viewer_model):
    lane = lens.engine
    lane.answer(lens)
    in_3d(lens, choices)
    labels.paint((2, 10, 10), 1)
    lens.tick()
    lane.answer(lens, weight=np.ones((20, 24), np.float32))
    for change, value in ((labels.undo, 0), (labels.redo, 2)):
        change()
        lens.tick()
        lane.answer(lens, weight=np.ones((20, 24), np.float32))
        target = lane.asked[-1].target
        assert target is not None
        assert max(target[2, 10, 10], 0) == value
    viewer_model.dims.set_current_step(0, 3)
    lens.tick()
    assert lane.asked[-1].target is None, "a slider moves nothing in it"


@pytest.mark.parametrize("how", ["refused", "other labels"])
def test_a_late_answer_is_not_shown(lens, labels, choices, viewer_model, how):
    lane = lens.engine
    other = viewer_model.add_labels(np.zeros((6, 20, 24), np.uint8), name="other", **lay.look_of(labels))
    choices.choose(choices.images, None if how == "refused" else other)
    lens.tick()
    lane.answer(lens)
    assert lens.maps is None
    assert "Lens: weight" not in viewer_model.layers
    if how == "refused":
        assert lens.status == "Choose a labels layer."
        choices.choose(choices.images, labels)
        lens.tick()
    lane.answer(lens)
    assert lens.maps is not None


def test_a_refusal_while_a_volume_is_sent(lens, labels, choices):
    lane, later = lens.engine, []
    lane.answer(lens)
    lens._background = lambda work, done, failed: (work(), later.append(done))
    choices.config = choices.config.updated(network={"kind": "unet", "dims": 3})
    choices.changed.emit()
    lens.tick()
    choices.choose(choices.images, None)
    lens._ask()
    lane.answer(lens, weight=np.ones((20, 24), np.float32))
    later[0]()
    lens.tick()
    assert lens.maps is None
    assert lens._flight is None


def test_the_crop_is_of_the_image_that_was_asked_about(lens, labels, choices, viewer_model):
    lens.wanted["crop"] = True
    image = viewer_model.layers["mr"]
    lens.engine.answer(lens, roi=np.ones((20, 24), bool))
    choices.images = [viewer_model.add_image(np.zeros((2, 5, 5), np.float32), name="small")]
    show_kind(lens, "crop")
    np.testing.assert_allclose(viewer_model.layers["Lens: ROI crop"].data[0], image.data[2], rtol=1e-6)
    image.data = np.zeros((2, 5, 5), np.float32)
    show_kind(lens, "crop")
    assert not viewer_model.layers["Lens: ROI crop"].visible


def test_an_answer_that_comes_before_the_sender_knows(lens, labels, choices):
    lane, later = lens.engine, []
    lane.answer(lens)
    lens._background = lambda work, done, failed: (work(), later.append(done))
    choices.config = choices.config.updated(network={"kind": "unet", "dims": 3})
    choices.changed.emit()
    lens.tick()
    lane.answer(lens, weight=np.full((20, 24), 7, np.float32))
    later[0]()
    lens.tick()
    assert lens.maps.weight[0, 0] == 7
    assert lens._flight is None


def test_the_network_waits_for_a_pause(lens, labels, choices, monkeypatch, tmp_path):
    lane, now = lens.engine, [100.0]
    monkeypatch.setattr("napari_ctxseg.gui.lens.time.monotonic", lambda: now[0])
    lane.answer(lens)
    choices.last_run = tmp_path
    lens.want("ce", True)
    assert lens.missing("ce") == ""
    lens.tick()
    assert lane.asked[-1].network.compute is False, "known logits only: a stroke does not wait"
    assert lane.asked[-1].network.image is None
    lane.answer(lens)
    count = len(lane.asked)
    lens.tick()
    assert len(lane.asked) == count
    now[0] += 0.5
    lens.tick()
    network = lane.asked[-1].network
    assert (network.compute, network.image.shape, network.index) == (True, (1, 6, 20, 24), 2)
    lane.answer(lens, ce=np.ones((20, 24), np.float32), weighted=np.ones((20, 24), np.float32))
    labels.paint((2, 3, 3), 1)
    lens.tick()
    assert lane.asked[-1].network.compute is False
    lane.answer(lens)
    now[0] += 0.5
    lens.tick()
    assert lane.asked[-1].network.image is None, "the lane has the image"


def test_failures_are_told_and_forgotten(lens, labels):
    lane = lens.engine
    lane.said = [JobFailed("weights: 2 for 3 classes.", "Change them."), JobDone()]
    lens.tick()
    assert lens.status == "weights: 2 for 3 classes. Change them."
    labels.paint((2, 3, 3), 1)
    lens.tick()
    lane.answer(lens)
    assert "weights" not in lens.status


def test_without_labels_it_says_so(viewer_model):
    lens = Lens(viewer_model, FakeLane(), Choices(viewer_model), alone=True)
    lens.tick()
    assert lens.status == "Choose a labels layer."
    assert not lens.engine.asked


def test_alone_every_value_is_a_class(viewer_model, labels):
    own = Choices(viewer_model)
    own.choose([], labels)
    viewer_model.dims.set_current_step(0, 0)
    labels.data[0, 2, 2:4] = 7, 200
    lens = Lens(viewer_model, FakeLane(), own, alone=True)
    lens.tick()
    request = lens.engine.asked[-1]
    assert request.values == (7, 200)
    assert request.target[2, 1:5].tolist() == [0, 1, 2, 0]
    lens.engine.answer(lens)
    labels.data[0, 4] = np.arange(24) + 1  # instance ids
    labels.refresh()
    lens.tick()
    assert lens.engine.asked[-1].values == (1,)


def test_far_background_that_counts_nothing(lens, labels):
    weight = np.zeros((20, 24), np.float32)
    weight[3, 3], weight[4, 4] = 2, 4
    labels.data[2, 3, 3] = 1
    labels.refresh()
    lens.engine.answer(lens)
    lens.tick()
    lens.engine.answer(lens, weight=weight, far=0.0)
    point = (4 + 2 * 8, 3 * 1.5, -2 + 3 * 1.5)
    expected = "this pixel counts 0.667 x the mean pixel (far background counts nothing)"
    assert weigh(lens, point) == expected
    lens.shown.target[3, 3] = -1
    assert weigh(lens, point) == "unlabelled: counts nothing"


def test_numbers_of_a_loss():
    loss = parse_loss(
        {"kind": "sum", "terms": [{"weight": 2, "loss": "dice"}, {"loss": "dilated_balanced_ce"}]}
    )
    titles = [number.title for number in numbers_of(loss)]
    assert titles == ["1: Weight", "2: Weight", "2: Radius"]
    changed = with_number(loss, ("terms", 1, "loss", "radius"), 5)
    assert changed.terms[1].loss.radius == 5
    assert changed.terms[0] == loss.terms[0]
    nested = parse_loss({"kind": "contour_weighted_ce", "alpha": 2})
    assert with_number(nested, ("contour", "iterations"), 4).contour.iterations == 4
    with pytest.raises(ValueError, match="greater than or equal"):
        with_number(nested, ("alpha",), -1)
