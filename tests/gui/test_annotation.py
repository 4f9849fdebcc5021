from __future__ import annotations

from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.layers import Labels

from napari_ctxseg.gui.annotation import Census, Marks, touched, unexplained_slices


def counted(census):
    while not census.complete:
        census.work()
    return census.values


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
@pytest.mark.parametrize("shape", [(30, 40), (5, 30, 40), (2, 700, 800)])
def test_census_equals_unique(dtype, shape):
    rng = np.random.default_rng(1)
    data = (rng.random(shape) > 0.999).astype(dtype) * 3
    data[..., -1, -1] = 5
    census = Census(data)
    assert counted(census) == set(np.unique(data).tolist()) - {0}


def test_census_follows_strokes():
    layer = Labels(np.zeros((4, 600, 700), np.uint8))
    census = Census(layer.data)
    assert counted(census) == set()
    layer.events.paint.connect(lambda event: census.touch(event.value))
    layer.brush_size = 9
    layer.paint((1, 300, 300), 4)
    assert counted(census) == {4}
    assert census.slices == [1]
    layer.paint((1, 300, 300), 0)
    assert counted(census) == set()
    layer.data_setitem((np.array([2]), np.array([1]), np.array([1])), 6)
    assert counted(census) == {6}
    layer.fill((3, 0, 0), 2)
    assert counted(census) == {2, 6}


def test_census_looks_at_one_piece_where_each_takes_too_long(monkeypatch):
    clock = count()
    monkeypatch.setattr("napari_ctxseg.gui.annotation.time.perf_counter", lambda: 0.004 * next(clock))
    census = Census(np.ones((20, 512, 512), np.uint16))
    pieces = len(census._pending)
    assert census.work(0.006)
    assert len(census._pending) == pieces - 1
    assert pieces >= 20


def test_touched_places():
    assert list(touched(slice(3, 5))) == [3, 4]
    assert touched(np.array([4, 4, 2])) == [2, 4]


def test_marks_set_and_clear():
    marks = Marks()
    marks.set(0, 3)
    marks.set(1, 7)
    assert marks.has(0, 3)
    assert marks.counted([5]) == {0: (3, 5), 1: (7,)}
    marks.clear(0, 3)
    marks.clear(0, 5)
    assert marks.counted([5]) == {1: (7,)}
    marks.set(0, 5)
    assert marks.counted([]) == {0: (5,), 1: (7,)}


def painted(labels, marks, place, value=1):
    """A stroke, as the layer says it."""
    labels.events.paint.connect(lambda event: marks.stroke(event.value, 0))
    labels.paint(place, value)
    labels.events.paint.disconnect()


def test_marks_of_a_stroke_go_with_its_undo_and_come_with_its_redo():
    labels, marks = Labels(np.zeros((6, 30, 30), np.uint8)), Marks()
    marks.clear(0, 3)  # a person said so
    for place in ((2, 9, 9), (3, 9, 9), (2, 20, 20)):
        painted(labels, marks, place)
    assert (marks.planes, marks.cleared) == ({0: {2, 3}}, set())
    labels.undo()
    marks.follow(labels)
    assert marks.planes == {0: {2, 3}}, "slice 2 has its first stroke still"
    labels.undo()
    marks.follow(labels)
    assert (marks.planes, marks.cleared) == ({0: {2}}, {(0, 3)})
    labels.undo()
    marks.follow(labels)
    assert marks.planes == {0: set()}
    for _ in range(3):
        labels.redo()
    marks.follow(labels)
    assert (marks.planes, marks.cleared) == ({0: {2, 3}}, set())


def test_what_a_person_says_of_a_slice_outlives_an_undo():
    labels, marks = Labels(np.zeros((6, 30, 30), np.uint8)), Marks()
    painted(labels, marks, (2, 9, 9))
    painted(labels, marks, (4, 9, 9))
    marks.decide(0, 2, labelled=True)
    marks.decide(0, 4, labelled=False)
    labels.undo()
    labels.undo()
    marks.follow(labels)
    assert (marks.planes, marks.cleared) == ({0: {2}}, {(0, 4)})
    labels.redo()
    labels.redo()
    marks.follow(labels)
    assert (marks.planes, marks.cleared) == ({0: {2}}, {(0, 4)})


def test_undone_painted_anew_and_undone_again():
    labels, marks = Labels(np.zeros((6, 30, 30), np.uint8)), Marks()
    for z in (2, 3):
        painted(labels, marks, (z, 9, 9))
        assert marks.planes[0] == {z}
        labels.undo()
        marks.follow(labels)
        assert marks.planes[0] == set()


@settings(max_examples=50, deadline=None)
@given(
    points=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 5)), max_size=8),
    planes=st.dictionaries(st.integers(0, 2), st.sets(st.integers(0, 3)), max_size=3),
)
def test_every_label_lies_in_a_counted_plane(points, planes):
    labels = np.zeros((4, 5, 6), np.uint8)
    for point in points:
        labels[point] = 1
    marks = Marks()
    marks.planes = {axis: set(indices) for axis, indices in planes.items()}
    found = marks.counted(unexplained_slices(labels, marks.planes))
    covered = np.zeros_like(labels, bool)
    for axis, indices in found.items():
        covered[(slice(None),) * axis + (list(indices),)] = True
    assert not (labels.astype(bool) & ~covered).any()
    assert all(set(indices) <= set(found.get(axis, ())) for axis, indices in planes.items() if indices)
