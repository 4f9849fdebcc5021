"""Every edit reaches the store: events of a real labels layer, a store on a real disk, threads as on screen."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels

from napari_ctxseg.gui.annotation import Marks
from napari_ctxseg.gui.autosave import Autosave
from napari_ctxseg.gui.timing import costs
from napari_ctxseg.project import LabelStore, SliceMarks

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (6, 40, 50)


def in_thread(work, done, failed):
    """A thread without an event loop: the next tick finds its result."""
    threading.Thread(target=work, daemon=True).start()


class Saved:
    """A layer, its store and what follows it; `reopened` reads what is on disk."""

    def __init__(self, folder: Path, shape=SHAPE, dtype=np.uint8, background=in_thread):
        self.path = folder / "image.zarr"
        folder.mkdir(parents=True, exist_ok=True)
        self.viewer = ViewerModel()
        self.layer = self.viewer.add_labels(np.zeros(shape, dtype))
        self.layer.brush_size = 6
        self.marks = Marks()
        self.autosave = Autosave(
            self.layer,
            LabelStore.create(self.path, shape),
            lambda: SliceMarks.of(self.marks.planes, self.marks.cleared),
            background,
            lambda: LabelStore.open(self.path),
            self.shown,
        )

    def shown(self):
        dims = self.viewer.dims
        return None if 0 in dims.displayed else int(dims.current_step[0])

    def wait(self, seconds=1.0, until="saved"):
        """Tick as the dock does; how long it took."""
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            self.autosave.tick()
            if self.autosave.state == until and time.monotonic() - begun > 0.05:
                return time.monotonic() - begun
            time.sleep(0.02)
        pytest.fail(f"{self.autosave.sentence} after {seconds} s")

    def equal(self):
        store = LabelStore.open(self.path, read_only=True)
        np.testing.assert_array_equal(store.read(), np.asarray(self.layer.data))
        return store


@pytest.fixture
def saved(tmp_path):
    made = Saved(tmp_path)
    yield made
    made.autosave.close()


def stroke(saved, z=2):
    saved.layer.paint((z, 10, 10), 1)


def fill(saved):
    saved.layer.fill((3, 5, 5), 2)


def erase(saved):
    saved.layer.paint((2, 10, 10), 1)
    saved.layer.paint((2, 10, 12), 0)


def undo(saved):
    stroke(saved, 2)
    stroke(saved, 4)
    saved.wait()
    saved.layer.undo()


def redo(saved):
    undo(saved)
    saved.wait()
    saved.layer.redo()


def polygon(saved):
    saved.layer.paint_polygon([(1, 3, 3), (1, 3, 20), (1, 20, 20)], 3)


def items(saved):
    saved.layer.data_setitem((np.array([0, 5, 5]), np.array([1, 2, 3]), np.array([4, 5, 6])), 7)


def assignment(saved):
    data = np.zeros(SHAPE, np.uint8)
    data[1, 2:6, 3:9], data[5] = 4, 5
    saved.layer.data = data


def larger_type(saved):
    data = np.zeros(SHAPE, np.uint16)
    data[2, 3:5] = 4000
    saved.layer.data = data


def side_view(saved):
    saved.viewer.dims.order = (1, 0, 2)
    saved.layer.paint((3, 10, 10), 1)


def volume(saved):
    saved.layer.n_edit_dimensions = 3
    saved.layer.paint((3, 10, 10), 1)


def in_place(saved):
    saved.viewer.dims.set_current_step(0, 4)
    saved.layer.data[4, 3:9, 3:9] = 6
    saved.layer.refresh()


def hidden_undo(saved):
    stroke(saved, 2)
    saved.wait()
    saved.layer.visible = False
    saved.layer.undo()


def hidden_undo_then_stroke(saved):
    hidden_undo(saved)
    saved.layer.visible = True
    stroke(saved, 5)


@pytest.mark.parametrize(
    "edit",
    [
        stroke, fill, erase, undo, redo, polygon, items, assignment, larger_type, side_view, volume, hidden_undo,
        hidden_undo_then_stroke,
    ],
)  # fmt: skip
def test_each_edit_is_on_disk_within_a_second(saved, edit):
    edit(saved)
    saved.wait(1.0)
    saved.equal()


def test_a_change_in_place_is_found_at_the_redraw(saved):
    in_place(saved)
    deadline = time.monotonic() + 3
    while LabelStore.open(saved.path, read_only=True).read_slice(4).max() != 6:
        saved.autosave.tick()
        time.sleep(0.02)
        assert time.monotonic() < deadline
    saved.equal()


def test_a_long_stroke_is_saved_while_the_button_is_down(saved):
    with saved.layer.block_history():
        saved.layer.paint((2, 10, 10), 1)
        saved.wait()
        assert saved.equal().read_slice(2).any()
        saved.layer.paint((2, 10, 30), 1)
        saved.wait()
        saved.equal()
    saved.wait()
    saved.equal()


def test_a_stroke_that_is_taken_back_is_taken_back_on_disk(saved):
    saved.layer._begin_stroke()
    saved.layer.paint((2, 10, 10), 1)
    saved.wait()
    saved.layer._abort_stroke()
    assert not saved.layer.data.any()
    saved.wait()
    saved.equal()


def test_tiles_of_a_large_image(tmp_path):
    saved = Saved(tmp_path, (1200, 1300))
    saved.layer.brush_size = 40
    saved.layer.paint((512, 512), 1)
    saved.wait()
    assert len(saved.equal().written) == 4
    saved.autosave.close()


def test_only_touched_slices_are_written(saved, monkeypatch):
    seen = []
    real = LabelStore.save

    def save(store, labels, dirty, marks=None, **options):
        seen.append(set(dirty))
        return real(store, labels, dirty, marks, **options)

    monkeypatch.setattr(LabelStore, "save", save)
    stroke(saved, 2)
    stroke(saved, 4)
    saved.wait()
    assert set().union(*seen) == {2, 4}
    seen.clear()
    for step in (1, 3, 5):
        saved.viewer.dims.set_current_step(0, step)
    end = time.monotonic() + 1
    while time.monotonic() < end:
        saved.autosave.tick()
        time.sleep(0.02)
    assert seen == [], "scrolling writes nothing"


def test_marks_are_saved_after_the_pixels(saved):
    stroke(saved, 3)
    saved.marks.set(0, 3)
    saved.wait()
    assert saved.equal().marks == SliceMarks.of({0: [3]})
    saved.marks.clear(0, 3)
    saved.wait()
    assert saved.equal().marks == SliceMarks.of({}, [(0, 3)])


def test_one_writer_at_a_time(tmp_path):
    running, most, waiting = [0], [0], []

    def slowly(work, done, failed):
        def run():
            running[0] += 1
            most[0] = max(most[0], running[0])
            time.sleep(0.1)
            work()
            running[0] -= 1

        waiting.append(threading.Thread(target=run))
        waiting[-1].start()

    saved = Saved(tmp_path, background=slowly)
    for z in (0, 1, 2, 3, 2, 1):
        saved.layer.paint((z, 5 + 5 * z, 10), 1 + z)
        saved.autosave.tick()
        time.sleep(0.06)
    assert saved.autosave.close()
    for thread in waiting:
        thread.join()
    assert most == [1]
    saved.equal()


def test_another_shape_is_refused_and_nothing_overwritten(saved):
    stroke(saved)
    saved.wait()
    before = saved.equal().read()
    saved.layer.data = np.ones((6, 40, 49), np.uint8)
    saved.autosave.tick()
    assert saved.autosave.state == "failed"
    assert "(6, 40, 49)" in saved.autosave.sentence
    assert not saved.autosave.flush(1)
    np.testing.assert_array_equal(LabelStore.open(saved.path, read_only=True).read(), before)
    saved.layer.data = 2 * before
    saved.wait()
    saved.equal()


def test_a_drive_that_comes_back_gets_what_was_painted_meanwhile(saved, tmp_path):
    stroke(saved, 1)
    saved.wait()
    told = []
    saved.autosave.changed.connect(lambda: told.append(saved.autosave.state))
    away = tmp_path.with_name(tmp_path.name + "-away")
    os.rename(tmp_path, away)
    stroke(saved, 2)
    saved.wait(2, until="failed")
    assert "NOT SAVED" in saved.autosave.sentence
    assert str(tmp_path) in saved.autosave.sentence
    stroke(saved, 3)
    assert not saved.autosave.flush(0.5), "nobody is kept waiting for a drive that is not there"
    assert not tmp_path.exists(), "and no folder is made in its place"
    os.rename(away, tmp_path)
    saved.wait(6)
    saved.equal()
    assert told[-1] == "saved"


def test_a_folder_that_is_taken_away_is_made_whole_again(saved):
    """Not only what was painted since: the earlier slices are on screen, so they are saved too."""
    for z in range(5):
        saved.layer.paint((z, 20, 20), 1)
        saved.marks.set(0, z)
    saved.wait()
    saved.autosave._reopen = lambda: (
        LabelStore.open(saved.path) if saved.path.exists() else LabelStore.create(saved.path, SHAPE)
    )
    shutil.rmtree(saved.path)
    saved.layer.paint((5, 20, 20), 2)
    saved.wait(seconds=20)
    saved.equal()
    store = LabelStore.open(saved.path, read_only=True)
    assert set(store.written) == {0, 1, 2, 3, 4, 5}
    assert store.marks.labelled == {0: (0, 1, 2, 3, 4)}


def test_a_full_disk_is_told_and_tried_again(saved, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    stroke(saved, 1)
    saved.wait()
    with monkeypatch.context() as patch:
        patch.setattr("napari_ctxseg.atomic._fill", full)
        stroke(saved, 2)
        saved.wait(2, until="failed")
        assert "full" in saved.autosave.sentence
    saved.wait(4)
    saved.equal()


def test_values_that_cannot_be_stored_are_named(tmp_path):
    saved = Saved(tmp_path, dtype=np.int16)
    saved.layer.paint((1, 5, 5), -3)
    saved.wait(2, until="failed")
    assert "-3" in saved.autosave.sentence
    saved.layer.undo()
    saved.wait(4)
    saved.equal()


@pytest.mark.parametrize("phase", ["untouched", "dirty", "writing", "checking", "failed", "closed"])
def test_close_in_every_phase(tmp_path, phase):
    saved = Saved(tmp_path / "project")
    if phase in ("dirty", "writing"):
        stroke(saved)
    if phase == "writing":
        saved.autosave.tick()
    if phase == "checking":
        saved.layer.data = np.full(SHAPE, 3, np.uint8)
    if phase == "failed":
        stroke(saved)
        shutil.rmtree(tmp_path / "project")
    if phase == "closed":
        assert saved.autosave.close()
        stroke(saved)  # nobody listens any more
        assert saved.autosave.close()
        return
    begun = time.monotonic()
    assert saved.autosave.close(5) is (phase != "failed")
    assert time.monotonic() - begun < 3
    if phase != "failed":
        saved.equal()


def test_lazy_arrays_are_saved_too(saved):
    import zarr

    lazy = zarr.zeros(SHAPE, dtype="uint8", chunks=(1, 40, 50))
    saved.layer.data = lazy
    saved.wait()
    saved.layer.paint((2, 10, 10), 1)
    saved.wait()
    saved.equal()


# ---------------------------------------------------------------- time and memory


def test_a_large_layer_costs_little(tmp_path):
    saved = Saved(tmp_path, (64, 2048, 2048))
    costs.clear()
    tracemalloc.start()
    rng = np.random.default_rng(0)
    for z in range(20):
        saved.layer.paint((z, *rng.integers(0, 2048, 2)), 1)
        saved.autosave.tick()
        time.sleep(0.01)
    saved.layer.undo()
    saved.wait(5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [name for name in costs.ours if name.startswith("Autosave")], "timed"
    assert peak < 200e6, "a few slices of 4 MB at a time, never the 256 MB of the layer"
    saved.autosave.check_all()
    saved.autosave.tick()
    assert saved.autosave.close(30)
    saved.equal()


# ---------------------------------------------------------------- killed

CHILD = """
import os, sys, threading, time
from pathlib import Path
import numpy as np
from napari.components import ViewerModel
from napari_ctxseg.gui.annotation import Marks
from napari_ctxseg.gui.autosave import Autosave
from napari_ctxseg.project import LabelStore, SliceMarks

def in_thread(work, done, failed):
    threading.Thread(target=work, daemon=True).start()

def say(*words):  # in one write: a process killed between a line and its end would mix two lines
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def paint(path):
    store = LabelStore.open(path)
    layer = ViewerModel().add_labels(store.read())
    marks = Marks()
    autosave = Autosave(layer, store, lambda: SliceMarks.of(marks.planes), in_thread, lambda: LabelStore.open(path))
    layer.brush_size, number = 1, int(layer.data.max())
    while True:  # the n-th stroke is one pixel of value n, and when it was made goes to the parent
        number += 1
        layer.paint((number % 8, number // 100 % 100, number % 100), number)
        say(number, time.time())
        for _ in range(3):
            autosave.tick()
            time.sleep(0.01)

ViewerModel().add_labels(np.zeros((2, 2), np.uint8))  # what takes long to load, once
for _ in range(int(sys.argv[2])):
    pid = os.fork()
    if not pid:
        say("pid", os.getpid())
        paint(Path(sys.argv[1]))
    os.waitpid(pid, 0)
    say("killed", time.time())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_process_loses_at_most_the_last_second(tmp_path):
    path, kills = tmp_path / "image.zarr", 5
    LabelStore.create(path, (8, 100, 100), largest=65535)
    rng = np.random.default_rng(1)
    program = [sys.executable, "-c", CHILD, str(path), str(kills)]
    strokes: list[tuple[int, float]] = []
    checked = 0
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            word, value = line.split()
            if word == "pid":
                pause = float(rng.uniform(0.5, 1.6))
                threading.Timer(pause, os.kill, (int(value), signal.SIGKILL)).start()
            elif word == "killed":
                found = set(np.unique(LabelStore.open(path).read()).tolist())
                assert [n for n, at in strokes if n not in found and at < float(value) - 1] == []
                strokes = [(n, at) for n, at in strokes if n in found]  # what was lost is painted anew
                checked += 1
            else:
                strokes.append((int(word), float(value)))
    assert checked == kills
    assert len(strokes) > kills


def test_layers_of_napari_have_the_lists_that_undo_is_read_from():
    layer = Labels(np.zeros((4, 4), np.uint8))
    assert [len(layer._undo_history), len(layer._redo_history), len(layer._staged_history)] == [0, 0, 0]
