"""Going through a prediction without a screen: what is found, what is written, and that undo takes all of it back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from napari.components import ViewerModel
from scipy.ndimage import distance_transform_cdt

from napari_ctxseg.cases import Case, labelled_mask
from napari_ctxseg.evaluation.suspects import Limits
from napari_ctxseg.events import PredictionBlock
from napari_ctxseg.gui import layers as lay
from napari_ctxseg.gui.annotation import Marks, unexplained_slices
from napari_ctxseg.gui.choices import ClassRow
from napari_ctxseg.gui.predictions import Predictions
from napari_ctxseg.gui.review import Review
from napari_ctxseg.gui.review_data import labelled_plane
from napari_ctxseg.gui.session import run_now
from napari_ctxseg.gui.verdicts import Verdicts

SHAPE = (6, 20, 24)
PLACE = {
    "scale": (8, 1.5, 1.5),
    "translate": (4, 0, -2),
    "units": ("mm",) * 3,
    "axis_labels": ("z", "y", "x"),
}


def made(annotation=None, *, policy="masks", shape=SHAPE, prediction=None, uncertainty=None, classes=(1, 2)):
    """A viewer with an image, its annotation and its prediction, and the review of them."""
    viewer = ViewerModel()
    place = PLACE if len(shape) == 3 else {}
    image = viewer.add_image(np.random.default_rng(0).normal(size=shape), name="mr", **place)
    labels = viewer.add_labels(
        np.zeros(shape, np.uint8) if annotation is None else annotation, name="mask", **place
    )
    choices = Predictions(viewer)
    choices.classes = [ClassRow(f"class {v}", v) for v in classes]
    choices.policy, choices.background_value = policy, 9
    choices.choose([image], labels)
    if prediction is not None:
        predict(choices, prediction, uncertainty)
    return Review(viewer, choices, run_now)


def predict(choices, prediction, uncertainty=None, start=0):
    shot = lay.snapshot(choices.images)
    values = tuple(row.value for row in choices.classes)
    choices.show_block(shot, PredictionBlock("mr", start, prediction, 1.0, uncertainty=uncertainty), values)


def settle(review):
    for _ in range(50):
        review.tick()
        if not review.busy:
            return
    raise AssertionError("still busy")


def told(review):
    return [(row.index, row.suspect.reason, row.suspect.value, row.suspect.size) for row in review.rows]


def two_pieces():
    """A large piece in slice 2 and another in slice 4."""
    prediction = np.zeros(SHAPE, np.uint8)
    prediction[2, 3:9, 4:10] = 1
    prediction[4, 10:14, 12:20] = 2
    return prediction


UNSURE = np.full(SHAPE, 0.9, np.float16)


def state(review):
    """Everything that a step may change."""
    choices = review.choices
    return (
        review.edits.layer.data.copy(),
        {axis: {*found} for axis, found in choices.marks.planes.items() if found},
        {*choices.marks.cleared},
        told(review),
    )


def same(one, other):
    np.testing.assert_array_equal(one[0], other[0])
    assert one[1:] == other[1:]


def undo(review):
    review.edits.layer.undo()
    settle(review)


def redo(review):
    review.edits.layer.redo()
    settle(review)


# ---------------------------------------------------------------- what is found


def test_without_a_prediction_there_is_nothing():
    review = made()
    settle(review)
    assert "Predict first" in review.problem
    review.next()
    assert "Predict first" in review.status
    for act in (review.accept, review.reject, review.copy_prediction, review.use_slice, review.next_slice):
        act()
    assert not review.edits.layer._undo_history


def test_rows_follow_prediction_annotation_and_settings():
    review = made(prediction=two_pieces(), uncertainty=UNSURE)
    settle(review)
    assert told(review) == [(2, "unsure", 1, 36), (4, "unsure", 2, 32)]
    review.limits = Limits(unsure=0.95, island=0)
    settle(review)
    assert told(review) == []
    review.limits = Limits()
    # A stroke marks its slice: from then on the annotation has the last word there.
    review.viewer.dims.set_point(0, 4 + 8 * 4)
    review.edits.layer.brush_size = 1
    review.edits.layer.paint((4, 1, 1), 1)
    settle(review)
    assert told(review) == [
        (2, "unsure", 1, 36),
        (4, "not annotated", 2, 32),
        (4, "not predicted", 1, 1),
    ]
    review.choices.marks.clear(0, 4)
    settle(review)
    assert (4, "unsure", 2, 32) in told(review)
    predict(review.choices, np.zeros((1, *SHAPE[1:]), np.uint8), None, start=2)
    settle(review)
    assert [row[0] for row in told(review)] == [4]
    assert review.choices.uncertain.get(review.choices.images[0]).data[2].max() == 0, (
        "nothing is said of it now"
    )
    review.edits.layer.data = np.where(two_pieces() == 2, 2, 0).astype(np.uint8)
    review.choices.marks.set(0, 4)
    settle(review)
    assert told(review) == []


def test_only_what_changed_is_looked_at(monkeypatch):
    review = made(prediction=two_pieces(), uncertainty=UNSURE)
    settle(review)
    from napari_ctxseg.gui.review_data import Material

    looked, before = [], Material.examine
    monkeypatch.setattr(
        Material, "examine", lambda self, index, limits: looked.append(index) or before(self, index, limits)
    )
    review.edits.layer.paint((0, 5, 5), 1)
    settle(review)
    assert set(looked) == {0}
    looked.clear()
    predict(review.choices, np.zeros((1, *SHAPE[1:]), np.uint8), None, start=3)
    settle(review)
    assert set(looked) == {2, 3, 4}, "islands ask the slices above and below"


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.uint8, (4, 3, 5), elements=st.sampled_from([0, 0, 0, 1])),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.booleans()), max_size=5),
)
def test_labelled_is_what_training_takes_for_labelled(labels, said):
    marks = Marks()
    for axis, index, on in said:
        (marks.set if on else marks.clear)(axis, index)
    counted = marks.counted(unexplained_slices(labels, marks.planes))

    class Image:
        spatial_shape = labels.shape

    expected = labelled_mask(Case("a", Image(), labels, "", counted))
    found = np.stack([labelled_plane(labels[index], marks, index) for index in range(4)])
    np.testing.assert_array_equal(found, expected)


def test_a_flat_image_counts_once_something_is_painted():
    marks, drawn = Marks(), np.zeros((3, 4), np.uint8)
    assert not labelled_plane(drawn, marks, 0, flat=True).any()
    drawn[1, 1] = 1
    assert labelled_plane(drawn, marks, 0, flat=True).all()


# ---------------------------------------------------------------- going there


def around(mask):
    """A line with a pixel between it and the piece."""
    return distance_transform_cdt(~mask, "taxicab") == 2


def test_a_line_around_a_piece_at_the_edge_stays_in_the_image():
    prediction = np.zeros(SHAPE, np.uint8)
    prediction[0, 0, 0] = prediction[5, 19, 22:] = 1
    review = made(prediction=prediction)
    settle(review)
    for _ in range(2):
        review.next()
        index = review.current.index
        np.testing.assert_array_equal(
            review.viewer.layers["Review: in question"].data[0], around(prediction[index] == 1)
        )


def test_next_goes_there_and_round():
    review = made(prediction=two_pieces(), uncertainty=UNSURE)
    settle(review)
    review.next()
    assert review.current is review.rows[0]
    assert review.viewer.dims.point[0] == 4 + 8 * 2
    assert review.viewer.scene.camera.center[-2:] == (1.5 * 5.5, -2 + 1.5 * 6.5)
    outline = review.viewer.layers["Review: in question"]
    np.testing.assert_array_equal(outline.data[0], around(two_pieces()[2] == 1))
    assert outline.translate[0] == 4 + 8 * 2
    assert lay.layers_of(review.viewer, "labels")[0].name != outline.name, "not offered as labels"
    review.next()
    assert review.viewer.dims.point[0] == 4 + 8 * 4
    np.testing.assert_array_equal(outline.data[0], around(two_pieces()[4] == 2))
    review.next()
    assert review.current is review.rows[0]
    review.next(-1)
    assert review.current is review.rows[1]
    review.close()
    assert [layer.name for layer in review.viewer.layers] == ["mr", "mr prediction", "mr uncertainty", "mask"]


def test_in_a_side_view_it_stands_where_the_piece_is():
    review = made(prediction=two_pieces(), uncertainty=UNSURE)
    review.viewer.dims.order = (1, 0, 2)
    settle(review)
    review.next()
    assert review.viewer.dims.current_step[1] in (5, 6)
    assert review.viewer.scene.camera.center[-2:] == (4 + 8 * 2, -2 + 1.5 * 6.5)
    review.accept()
    assert review.choices.marks.planes == {0: {2}}, "a review goes by slices along the first axis"


# ---------------------------------------------------------------- accept and reject


def test_accept_is_one_step_that_undo_takes_back():
    review = made(prediction=two_pieces(), uncertainty=UNSURE)
    settle(review)
    layer, heard = review.edits.layer, []
    layer.events.paint.connect(lambda event: heard.append("paint"))
    layer.events.labels_update.connect(lambda event: heard.append("update"))
    review.next()
    before = state(review)
    review.accept()
    settle(review)
    assert {*heard} == {"paint", "update"}, "autosave, census and Lens hear of it"
    after = state(review)
    np.testing.assert_array_equal(layer.data, np.where(two_pieces() == 1, 1, 0))
    assert after[1] == {0: {2}}
    assert told(review) == [(4, "unsure", 2, 32)]
    assert "36 pixels" in review.status
    assert len(layer._undo_history) == 1
    undo(review)
    same(state(review), before)
    redo(review)
    same(state(review), after)
    undo(review)
    same(state(review), before)


def test_reject_is_one_step_that_undo_takes_back():
    review = made(prediction=two_pieces(), uncertainty=UNSURE)
    settle(review)
    review.next()
    before = state(review)
    review.reject()
    settle(review)
    after = state(review)
    np.testing.assert_array_equal(after[0], before[0])
    assert after[1:3] == before[1:3], "nothing is painted, and no slice counts as labelled"
    assert told(review) == [(4, "unsure", 2, 32)]
    # It is remembered when the slice is predicted again, nearly alike.
    again = two_pieces()
    again[2, 3:9, 10] = 1
    predict(review.choices, again, UNSURE)
    settle(review)
    assert told(review) == [(4, "unsure", 2, 32)]
    predict(review.choices, two_pieces(), UNSURE)
    settle(review)
    undo(review)
    same(state(review), before)
    redo(review)
    same(state(review), after)


def test_verdicts_and_their_undo_outlast_another_layer():
    review = made(prediction=two_pieces(), uncertainty=UNSURE)
    settle(review)
    mask, before = review.edits.layer, state(review)
    review.next()
    review.reject()
    review.next()
    review.accept()
    settle(review)
    other = review.viewer.add_labels(np.zeros(SHAPE, np.uint8), name="other", **PLACE)
    review.choices.choose(review.choices.images, other)
    settle(review)
    assert told(review) == [], "the verdict is about the image"
    review.choices.choose(review.choices.images, mask)
    settle(review)
    undo(review)
    assert told(review) == [(4, "unsure", 2, 32)]
    undo(review)
    same(state(review), before)


def test_a_hidden_layer_is_undone_too():
    review = made(prediction=two_pieces(), uncertainty=UNSURE)
    settle(review)
    before = state(review)
    review.next()
    review.accept()
    review.edits.layer.visible = False
    undo(review)
    same(state(review), before)


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_any_run_of_keys_is_undone_exactly(data):
    values = st.sampled_from([0, 0, 1, 2])
    shape = (3, 8, 9)
    policy = data.draw(st.sampled_from(["masks", "scribbles"]))
    drawn = data.draw(
        arrays(
            np.uint8,
            shape,
            elements=st.sampled_from([0, 0, 0, 1, 2, 9] if policy == "scribbles" else [0, 0, 0, 1, 2]),
        )
    )
    review = made(
        drawn.copy(), policy=policy, shape=shape, prediction=data.draw(arrays(np.uint8, shape, elements=values)),
        uncertainty=np.full(shape, 0.7, np.float16),
    )  # fmt: skip
    review.overwrite, review.write_background = data.draw(st.booleans()), data.draw(st.booleans())
    for index in data.draw(st.sets(st.integers(0, 2))):
        (review.choices.marks.set if data.draw(st.booleans()) else review.choices.marks.clear)(0, index)
    settle(review)
    layer, states = review.edits.layer, [state(review)]
    for key in data.draw(st.lists(st.sampled_from(["a", "r", "stroke", "copy", "all"]), max_size=6)):
        steps = len(layer._undo_history)
        if key in "ar":
            review.next()
            decide = review.accept if key == "a" else review.reject
            if review.current is None:
                continue
            decide()
            assert len(layer._undo_history) == steps + 1, "each key is one step"
        elif key == "stroke":
            layer.brush_size = 3
            layer.paint((data.draw(st.integers(0, 2)), 4, 4), 1)
        else:
            review.copy_prediction(everywhere=key == "all")
        settle(review)
        if len(layer._undo_history) > steps:
            states.append(state(review))
        if not review.overwrite and key != "stroke":
            kept = states[-2 if len(layer._undo_history) > steps else -1][0]
            np.testing.assert_array_equal(layer.data[kept != 0], kept[kept != 0])
    for expected in reversed(states[:-1]):
        undo(review)
        # Marks of strokes stay, as without a review; those of our own steps go.
        np.testing.assert_array_equal(layer.data, expected[0])
    np.testing.assert_array_equal(layer.data, drawn)
    for expected in states[1:]:
        redo(review)
        np.testing.assert_array_equal(layer.data, expected[0])


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.sampled_from("arca"), min_size=1, max_size=6),
    arrays(np.uint8, (3, 8, 9), elements=st.sampled_from([0, 0, 1])),
)
def test_marks_and_rows_come_back_too(keys, prediction):
    review = made(shape=(3, 8, 9), prediction=prediction, uncertainty=np.full((3, 8, 9), 0.7, np.float16))
    review.choices.marks.set(1, 3)
    review.choices.marks.clear(0, 1)
    settle(review)
    states = [state(review)]
    for key in keys:
        review.next()
        {"a": review.accept, "r": review.reject, "c": review.copy_prediction}[key]()
        settle(review)
        if len(review.edits.layer._undo_history) == len(states):
            states.append(state(review))
    for expected in reversed(states[:-1]):
        undo(review)
        same(state(review), expected)
    for expected in states[1:]:
        redo(review)
        same(state(review), expected)


# ---------------------------------------------------------------- existing annotation


def test_painted_pixels_are_kept_unless_asked():
    annotation = np.zeros(SHAPE, np.uint8)
    annotation[2, 3:5, 4:10] = 2
    for overwrite in (False, True):
        review = made(annotation.copy(), prediction=two_pieces(), uncertainty=UNSURE)
        review.overwrite = overwrite
        settle(review)
        review.go(next(row for row in review.rows if row.suspect.value == 1))
        review.accept()
        expected = annotation.copy()
        here = (two_pieces() == 1) if overwrite else (two_pieces() == 1) & (annotation == 0)
        expected[here] = 1
        np.testing.assert_array_equal(review.edits.layer.data, expected)
        assert ("12 kept" in review.status) != overwrite


def test_what_is_annotated_but_not_predicted_is_erased_only_when_asked():
    annotation = np.zeros(SHAPE, np.uint8)
    annotation[3, 3:9, 3:9] = 1
    for overwrite, left in ((False, 36), (True, 0)):
        review = made(annotation.copy(), prediction=np.zeros(SHAPE, np.uint8))
        review.overwrite = overwrite
        settle(review)
        assert told(review) == [(3, "not predicted", 1, 36)]
        review.next()
        review.reject()
        assert np.count_nonzero(review.edits.layer.data) == left
        settle(review)
        assert told(review) == []
    review = made(annotation.copy(), prediction=np.zeros(SHAPE, np.uint8))
    settle(review)
    review.next()
    review.accept()  # it is there: so it is, already
    settle(review)
    np.testing.assert_array_equal(review.edits.layer.data, annotation)
    assert told(review) == []


@pytest.mark.parametrize(("ticked", "overwrite"), [(False, False), (True, False), (True, True)])
def test_scribbles_reject_writes_background_if_ticked(ticked, overwrite):
    annotation = np.zeros(SHAPE, np.uint8)
    annotation[2, 3, 4:8] = 2
    annotation[2, 4, 4:8] = 1
    review = made(annotation.copy(), policy="scribbles", prediction=two_pieces(), uncertainty=UNSURE)
    review.write_background, review.overwrite = ticked, overwrite
    settle(review)
    before = state(review)
    review.go(next(row for row in review.rows if row.suspect.reason == "unsure" and row.suspect.value == 1))
    review.reject()
    expected, piece = annotation.copy(), two_pieces() == 1
    if ticked:
        expected[piece & (annotation == 0)] = 9
    if overwrite:
        expected[piece & (annotation == 1)] = 9
    np.testing.assert_array_equal(review.edits.layer.data, expected)
    undo(review)
    same(state(review), before)


# ---------------------------------------------------------------- whole slices


def test_copying_is_one_step_and_fills_only_what_is_unlabelled():
    annotation = np.zeros(SHAPE, np.uint8)
    annotation[4, 0, 0] = 1  # slice 4 counts as labelled
    prediction = two_pieces()
    prediction[1, :3, :3] = 2
    review = made(annotation.copy(), prediction=prediction)
    settle(review)
    before = state(review)
    review.viewer.dims.set_point(0, 4 + 8 * 1)
    review.copy_prediction()
    settle(review)
    expected = annotation.copy()
    expected[1] = prediction[1]
    np.testing.assert_array_equal(review.edits.layer.data, expected)
    review.copy_prediction(everywhere=True)
    expected[2] = prediction[2]
    np.testing.assert_array_equal(review.edits.layer.data, expected)
    assert len(review.edits.layer._undo_history) == 2
    assert review.choices.marks.planes[0] == {1, 2}
    review.copy_prediction(everywhere=True)
    assert "nothing to copy" in review.status
    assert len(review.edits.layer._undo_history) == 2
    undo(review)
    undo(review)
    same(state(review), before)


def test_copying_goes_around_paint_in_a_slice_that_does_not_count():
    annotation = np.zeros(SHAPE, np.uint8)
    annotation[2, 3:5, 4:10] = 2
    review = made(annotation.copy(), prediction=two_pieces())
    review.choices.marks.clear(0, 2)
    review.copy_prediction(everywhere=True)
    np.testing.assert_array_equal(review.edits.layer.data, np.where(annotation, annotation, two_pieces()))


def test_with_scribbles_copying_goes_around_strokes():
    annotation = np.zeros(SHAPE, np.uint8)
    annotation[2, 3, :], annotation[2, 5, 4:6] = 9, 2
    review = made(annotation.copy(), policy="scribbles", prediction=two_pieces())
    review.copy_prediction(everywhere=True)
    np.testing.assert_array_equal(
        review.edits.layer.data, np.where(annotation == 0, two_pieces(), annotation)
    )


def test_a_slice_is_said_to_be_complete():
    review = made(prediction=two_pieces())
    settle(review)
    review.viewer.dims.set_point(0, 4 + 8 * 3)
    review.use_slice()
    assert review.choices.marks.has(0, 3)
    review.use_slice()
    assert not review.choices.marks.has(0, 3)
    scribbled = made(policy="scribbles", prediction=two_pieces())
    scribbled.viewer.dims.set_point(0, 4 + 8 * 3)
    scribbled.edits.layer.data[3, 2, 2] = 1
    scribbled.use_slice()
    plane = scribbled.edits.layer.data[3]
    assert plane[2, 2] == 1
    assert np.count_nonzero(plane == 9) == plane.size - 1
    undo(scribbled)
    assert np.count_nonzero(scribbled.edits.layer.data) == 1


# ---------------------------------------------------------------- what to label next


def test_the_next_slice_is_the_unsure_one():
    uncertainty = np.full(SHAPE, 0.05, np.float16)
    uncertainty[4, 8:16, 10:22] = 0.9
    uncertainty[1, 3:9, 3:9] = 0.8
    review = made(prediction=two_pieces(), uncertainty=uncertainty)
    settle(review)
    review.next_slice()
    assert review.viewer.dims.current_step[0] == 4
    assert "Slice 4: unsure" in review.status
    review.next_slice()
    assert review.viewer.dims.current_step[0] == 1
    review.choices.marks.set(0, 4)
    settle(review)
    review.next_slice()
    assert review.viewer.dims.current_step[0] == 1, "what is labelled is not suggested"
    for index in range(SHAPE[0]):
        review.choices.marks.set(0, index)
    settle(review)
    review.next_slice()
    assert review.status == "Every slice is labelled."


# ---------------------------------------------------------------- odd input


def test_a_value_that_the_layer_cannot_hold_is_refused():
    prediction = two_pieces().astype(np.uint16) * 300
    review = made(prediction=prediction, uncertainty=UNSURE, classes=(300, 600))
    settle(review)
    review.next()
    review.accept()
    assert "up to 255" in review.status
    assert not review.edits.layer.data.any()
    assert len(review.rows) == 2


def test_a_locked_layer_is_refused():
    review = made(prediction=two_pieces(), uncertainty=UNSURE)
    settle(review)
    review.next()
    review.edits.layer.editable = False
    review.accept()
    assert "cannot be edited" in review.status
    review.edits.layer.editable = True
    review.edits.layer._block_history = True
    review.accept()
    assert "being painted on" in review.status
    assert not review.edits.layer.data.any()


def test_shapes_that_disagree_are_named():
    review = made(prediction=two_pieces())
    other = review.viewer.add_labels(np.zeros((6, 20, 23), np.uint8))
    review.choices.choose(review.choices.images, other)
    settle(review)
    assert "different shapes" in review.problem
    review.copy_prediction()
    assert "different shapes" in review.status


def test_layers_may_go_at_any_time():
    review = made(prediction=two_pieces(), uncertainty=UNSURE)
    settle(review)
    review.next()
    review.viewer.layers.remove("mr uncertainty")
    review.viewer.layers.remove("Review: in question")
    predict(review.choices, two_pieces())
    settle(review)
    assert told(review) == []
    review.viewer.layers.remove("mask")
    review.choices.forget_missing_layers()
    settle(review)
    review.copy_prediction()
    assert "no labels layer" in review.status
    review.viewer.layers.remove("mr prediction")
    settle(review)
    assert "Predict first" in review.problem


def test_a_labels_layer_of_ones_own_can_be_looked_through():
    review = made()
    own = review.viewer.add_labels(two_pieces(), name="from a file", **PLACE)
    review.follow(review.choices, own)
    review.limits = Limits(island=40)
    settle(review)
    assert told(review) == [(4, "island", 2, 32), (2, "island", 1, 36)]
    review.next()
    review.accept()
    assert np.count_nonzero(review.choices.labels.data) == 32


def test_flat_images():
    prediction = np.zeros((20, 24), np.uint8)
    prediction[3:5, 3:5] = 1
    review = made(shape=(20, 24), prediction=prediction)
    settle(review)
    assert told(review) == [(0, "island", 1, 4)]
    before = state(review)
    review.next()
    review.accept()
    np.testing.assert_array_equal(review.edits.layer.data, prediction)
    settle(review)
    assert told(review) == []
    undo(review)
    same(state(review), before)
    review.next_slice()
    assert "Slice 0" in review.status


def test_error_masks_of_a_second_stage_are_suspects_and_follow_the_thresholds():
    review = made(prediction=np.zeros(SHAPE, np.uint8))
    settle(review)
    review.layers.want_errors(True, review.prediction)
    assert "mr FN" in review.viewer.layers
    first, fn, fp = (np.zeros((3, *SHAPE), np.float16) for _ in range(3))
    first[0] = 1
    first[:, 4, 10:14, 12:20] = np.array([0, 0, 1])[:, None, None]
    fn[1, 2, 3:9, 4:10], fp[2, 4, 10:14, 12:20] = 0.75, 0.6
    labels = np.zeros(SHAPE, np.uint8)
    labels[2, 3:9, 4:10] = 1
    shot = lay.snapshot(review.choices.images)
    block = PredictionBlock("mr", 0, labels, 1.0, first, fn, fp, (0.5, 0.5))
    review.choices.show_block(shot, block, (1, 2))
    settle(review)
    assert told(review) == [(2, "missed", 1, 36), (4, "made up", 2, 32)]
    assert not [layer for layer in review.viewer.layers if "review" in layer.metadata.get("ctxseg", {})]
    review.next()
    review.accept()
    review.next()
    review.reject()
    np.testing.assert_array_equal(review.edits.layer.data, labels)
    undo(review)
    undo(review)
    review.choices.set_thresholds(0.8, 0.5)
    review.choices.work_on_predictions()
    settle(review)
    assert told(review) == [(4, "made up", 2, 32)]
    review.next_slice()
    assert "probable errors" in review.status


def test_differences_are_layers_when_asked_for():
    annotation = np.zeros(SHAPE, np.uint8)
    annotation[2, 3:9, 4:12] = 1
    review = made(annotation, prediction=two_pieces())
    settle(review)
    assert "mr FN" not in review.viewer.layers
    review.layers.want_errors(True, review.prediction)
    expected = (annotation == 1) & (two_pieces() == 0)
    np.testing.assert_array_equal(review.viewer.layers["mr FN"].data, expected)
    assert not review.viewer.layers["mr FP"].data.any(), "slice 4 is not labelled"
    review.choices.marks.set(0, 4)
    settle(review)
    np.testing.assert_array_equal(review.viewer.layers["mr FP"].data, two_pieces() == 2)
    review.layers.want_errors(False, review.prediction)
    assert "mr FN" not in review.viewer.layers


def test_a_projects_decisions_are_taken_up_and_can_be_forgotten():
    review = made(prediction=two_pieces(), uncertainty=UNSURE)
    settle(review)
    asked = told(review)
    review.next()
    review.reject()
    assert len(review.rows) == len(asked) - 1
    kept = {index: list(found) for index, found in review._settled.slices.items()}
    own = review._settled
    review.choices.verdicts = Verdicts(SHAPE, kept)  # as when an image of a project is opened
    settle(review)
    assert review._settled is not own
    assert len(review.rows) == len(asked) - 1
    review.choices.labels.undo()  # of a step that belongs to what was there before
    settle(review)
    assert len(review.rows) == len(asked) - 1
    assert review.decided
    review.ask_again()
    assert told(review) == asked
    assert not review.decided


def test_a_piece_is_asked_about_again_only_when_it_has_grown():
    review = made(prediction=two_pieces(), uncertainty=UNSURE)
    settle(review)
    row = next(row for row in review.rows if row.index == 2)
    review.go(row)
    review.reject()
    for grow, asked in ((0, False), (1, False), (8, True)):
        prediction = two_pieces()
        prediction[2, 3:9, 4 : 10 + grow] = 1
        predict(review.choices, prediction, UNSURE)
        settle(review)
        assert any(row.index == 2 for row in review.rows) == asked, grow
