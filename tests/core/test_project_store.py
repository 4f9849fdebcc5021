"""Autosaved labels: what was saved is there, whatever happened since; earlier states come back."""

from __future__ import annotations

import json
import resource
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_ctxseg.errors import CtxsegError, FileError, InputError
from napari_ctxseg.project import DamagedChunkError, LabelStore, SliceMarks, repair
from napari_ctxseg.project.chunks import Grid, chunk_shape
from napari_ctxseg.project.generations import KEPT, KEPT_LABELLED

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def volume(tmp_path: Path) -> LabelStore:
    return LabelStore.create(tmp_path / "a.zarr", (5, 20, 30))


def painted(rng: np.random.Generator, labels: np.ndarray, largest: int = 5) -> int:
    """One stroke; returns its slice."""
    index = int(rng.integers(labels.shape[0]))
    y, x = rng.integers(0, labels.shape[1] - 3), rng.integers(0, labels.shape[2] - 3)
    labels[index, y : y + 3, x : x + 3] = rng.integers(0, largest)
    return index


def test_other_readers_of_zarr_see_the_same_labels(volume: LabelStore) -> None:
    labels = np.random.default_rng(0).integers(0, 4, volume.shape).astype(np.uint8)
    volume.save(labels, range(5), SliceMarks.of({0: [1], 2: [7, 3]}, [(0, 4)]))
    np.testing.assert_array_equal(zarr.open_array(volume.path, mode="r")[...], labels)
    again = LabelStore.open(volume.path)
    np.testing.assert_array_equal(again.read(), labels)
    np.testing.assert_array_equal(again.read_slice(2), labels[2])
    assert again.marks == SliceMarks.of({0: [1], 2: [3, 7]}, [(0, 4)])


def test_only_touched_slices_are_written(volume: LabelStore) -> None:
    labels = np.ones(volume.shape, np.int64)
    volume.save(labels, range(5))
    before = {p.name: p.stat().st_ino for p in volume.path.glob("c.*")}
    labels[3] = 2
    volume.save(labels, [3])
    after = {p.name: p.stat().st_ino for p in volume.path.glob("c.*")}
    assert [name for name in before if before[name] != after[name]] == ["c.3.0.0"]


@pytest.mark.parametrize("shape", [(40, 50), (1300, 900), (7, 30, 20), (1, 1), (3, 1, 9)])
def test_every_pixel_has_one_chunk(shape: tuple[int, ...]) -> None:
    grid = Grid(shape, chunk_shape(shape))
    seen = np.zeros(shape, int)
    for index in range(len(grid)):
        seen[grid.box(index)] += 1
        assert grid.within(grid.box(index)) == {index}
    assert (seen == 1).all()
    assert grid.within(tuple(slice(None) for _ in shape)) == set(range(len(grid)))
    assert grid.within(tuple(slice(0, 0) for _ in shape)) == set()


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_box_touches_the_chunks_that_hold_its_pixels(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 60), min_size=2, max_size=3)))
    chunks = tuple(data.draw(st.integers(1, n)) for n in shape)
    grid = Grid(shape, chunks)
    box = tuple(slice(*sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n))))) for n in shape)
    owner = np.zeros(shape, int)
    for index in range(len(grid)):
        owner[grid.box(index)] = index
    assert grid.within(box) == set(np.unique(owner[box]).tolist())


def test_a_large_image_is_written_in_tiles(tmp_path: Path) -> None:
    store = LabelStore.create(tmp_path / "big.zarr", (1100, 1300))
    labels = np.zeros(store.shape, np.uint8)
    labels[600:610, 500:530] = 4
    store.save(labels, store.chunks_in((slice(600, 610), slice(500, 530))), SliceMarks.of({0: [0]}))
    assert len(list(store.path.glob("c.*"))) == 2
    np.testing.assert_array_equal(LabelStore.open(store.path).read_slice(0), labels)
    assert store.counted() == {0: (0,)}


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=3, deadline=None)
def test_every_kept_state_comes_back_exactly(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Random strokes, values that outgrow their type, thinning, restoring: against copies kept in memory."""
    rng = np.random.default_rng(seed)
    store = LabelStore.create(tmp_path_factory.mktemp("s") / "a.zarr", (4, 9, 11))
    labels, states, now = np.zeros(store.shape, np.uint32), dict[int, np.ndarray](), 1000.0
    for _ in range(50):
        now += float(rng.choice([1, 10, 40, 300, -500], p=[0.4, 0.3, 0.2, 0.08, 0.02]))
        choice = rng.random()
        known = {g.number for g in store.generations()}
        if choice < 0.1:
            states[store.checkpoint("named", now=now).number] = labels.copy()
        elif choice < 0.15 and known:
            number = int(rng.choice(sorted(known & set(states)) or [0]))
            if number:
                before = labels.copy()
                store.restore(number)
                labels = states[number].copy()
                states[max(g.number for g in store.generations())] = before
        else:
            before = labels.copy()
            dirty = {painted(rng, labels, int(rng.choice([5, 400, 70000], p=[0.9, 0.08, 0.02])))}
            store.save(labels, dirty, now=now)
            for generation in {g.number for g in store.generations()} - known:
                states[generation] = before  # also those that a larger type began
        if rng.random() < 0.1:
            store = LabelStore.open(store.path)
        np.testing.assert_array_equal(store.read(), labels)
    for generation in store.generations():
        found = np.zeros(store.shape, np.uint32)
        for index in range(4):
            found[index] = store.read_generation(generation.number, index)[0]
        np.testing.assert_array_equal(found, states[generation.number], err_msg=str(generation))
    assert len([g for g in store.generations() if not g.label]) <= KEPT
    assert len([g for g in store.generations() if g.label]) <= KEPT_LABELLED


def test_states_thin_out_with_age(volume: LabelStore) -> None:
    labels = np.zeros(volume.shape, np.uint8)
    for step in range(90):
        labels[step % 5, 0, 0] = step + 1
        volume.save(labels, [step % 5], now=1000.0 + 40 * step)
    ages = sorted(1000.0 + 40 * 89 - g.time for g in volume.generations())
    assert len(ages) == KEPT
    assert ages[-1] == 40 * 89  # the first
    assert ages[0] == 0
    assert sum(age < 900 for age in ages) >= 4
    assert sum(1200 < age < 3560 for age in ages) >= 2


def test_a_restored_state_can_be_taken_back(volume: LabelStore) -> None:
    labels = np.zeros(volume.shape, np.uint8)
    volume.save(labels, [], SliceMarks.of({0: [2]}))
    first = volume.checkpoint("empty")
    labels[1] = 3
    volume.save(labels, [1], SliceMarks.of({0: [1, 2]}))
    assert volume.changed_since(first.number).pixels == {3: 600}
    volume.restore(first.number)
    assert not volume.read().any()
    assert volume.marks == SliceMarks.of({0: [2]})
    volume.restore(volume.generations()[-1].number)
    np.testing.assert_array_equal(volume.read(), labels)
    assert volume.marks == SliceMarks.of({0: [1, 2]})


def test_restoring_one_slice_leaves_the_others(volume: LabelStore) -> None:
    labels = np.zeros(volume.shape, np.uint8)
    first = volume.checkpoint("empty")
    labels[:] = 1
    volume.save(labels, range(5))
    volume.restore(first.number, [2])
    labels[2] = 0
    np.testing.assert_array_equal(volume.read(), labels)


def test_values_outgrow_their_type_without_loss(volume: LabelStore) -> None:
    labels = np.zeros(volume.shape, np.int64)
    labels[0, 0, 0] = 255
    volume.save(labels, [0])
    assert volume.dtype == np.uint8
    labels[1, 1, 1] = 256
    volume.save(labels, [1])
    assert volume.dtype == np.uint16
    labels[2, 2, 2] = 70000
    volume.save(labels, [2])
    assert volume.dtype == np.uint32
    np.testing.assert_array_equal(LabelStore.open(volume.path).read(), labels)
    for value in (-1, 2**32):
        labels[3, 3, 3] = value
        with pytest.raises(InputError, match=f"value {value}"):
            volume.save(labels, [3])
    with pytest.raises(InputError, match="float"):
        volume.save(np.zeros(volume.shape), [0])
    with pytest.raises(InputError, match="shape"):
        volume.save(np.zeros((5, 20, 31), np.uint8), [0])
    with pytest.raises(InputError, match="chunks 0 to 4"):
        volume.save(labels, [5])


@pytest.mark.parametrize("end", ["new", "both"])
def test_a_kill_between_the_renames_of_growing_is_mended(volume: LabelStore, end: str) -> None:
    labels = np.random.default_rng(0).integers(0, 9, volume.shape).astype(np.uint8)
    volume.save(labels, range(5))
    new = volume.path.with_name("a.zarr.new")
    shutil.copytree(volume.path, new)
    if end == "new":
        volume.path.rename(volume.path.with_name("a.zarr.old"))
        np.testing.assert_array_equal(LabelStore.open(volume.path, read_only=True).read(), labels)
    np.testing.assert_array_equal(LabelStore.open(volume.path).read(), labels)
    assert not new.exists()
    assert not volume.path.with_name("a.zarr.old").exists()


def test_slices_with_labels_from_elsewhere_count_unless_cleared(volume: LabelStore) -> None:
    labels = np.zeros(volume.shape, np.uint8)
    labels[:, 4, :] = 1  # painted in the plane across axis 1
    volume.save(labels, range(5), SliceMarks.of({1: [4]}))
    assert volume.counted() == {1: (4,)}
    labels[2, 9, 9] = labels[3, 9, 9] = 2  # pasted
    volume.save(labels, [2, 3], SliceMarks.of({0: [0], 1: [4]}, [(0, 3)]))
    assert volume.counted() == {0: (0, 2), 1: (4,)}


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize("cut", [0, 1, 10, -1])
def test_a_cut_slice_is_named_and_its_last_good_state_offered(volume: LabelStore, cut: int) -> None:
    labels = np.random.default_rng(0).integers(0, 4, volume.shape).astype(np.uint8)
    volume.save(labels, range(5), now=0.0)
    volume.checkpoint("good", now=1.0)
    volume.save(labels + 1, [2], now=2.0)
    chunk = volume.path / "c.2.0.0"
    chunk.write_bytes(chunk.read_bytes()[:cut])
    store = LabelStore.open(volume.path)
    np.testing.assert_array_equal(store.read_slice(1), labels[1])
    with pytest.raises(DamagedChunkError, match=r"slice 2 is damaged.*slice 2 of generation 2") as caught:
        store.read()
    assert caught.value.index == 2
    assert list(store.damaged()) == [2]
    store.restore(store.good_generations(2)[0].number, [2])
    np.testing.assert_array_equal(store.read(), labels)


def test_no_flipped_bit_passes(volume: LabelStore) -> None:
    labels = np.random.default_rng(0).integers(0, 4, volume.shape).astype(np.uint8)
    volume.save(labels, range(5))
    chunk = volume.path / "c.1.0.0"
    whole = chunk.read_bytes()
    for place in np.random.default_rng(1).integers(0, 8 * len(whole), 64):
        data = bytearray(whole)
        data[place // 8] ^= 1 << (place % 8)
        chunk.write_bytes(data)
        with pytest.raises(DamagedChunkError):
            volume.read_slice(1)


def test_a_lost_slice_is_not_background(volume: LabelStore) -> None:
    volume.save(np.ones(volume.shape, np.uint8), range(5))
    (volume.path / "c.4.0.0").unlink()
    with pytest.raises(DamagedChunkError, match="slice 4 is missing"):
        LabelStore.open(volume.path).read()


@pytest.mark.parametrize("name", ["zarr.json", "state.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1}', "\x00" * 50])
def test_a_damaged_header_is_named_and_mended(volume: LabelStore, name: str, text: str) -> None:
    labels = np.random.default_rng(0).integers(0, 4, volume.shape).astype(np.uint8)
    marks = SliceMarks.of({0: [1, 2]})
    volume.save(labels, range(5), marks)
    volume.checkpoint("good")
    (volume.path / name).write_text(text)
    with pytest.raises(FileError, match=name):
        LabelStore.open(volume.path)
    assert name in repair(volume.path)
    store = LabelStore.open(volume.path)
    np.testing.assert_array_equal(store.read(), labels)
    assert store.marks == marks


def test_labels_of_a_newer_version_are_left_alone(volume: LabelStore) -> None:
    state = volume.path / "state.json"
    text = json.dumps({**json.loads(state.read_text()), "version": 2})
    state.write_text(text)
    for attempt in (LabelStore.open, repair):
        with pytest.raises(FileError, match="newer version"):
            attempt(volume.path)
    assert state.read_text() == text


def test_for_reading_only_nothing_is_written(volume: LabelStore) -> None:
    store = LabelStore.open(volume.path, read_only=True)
    before = sorted((p, p.stat().st_mtime_ns) for p in volume.path.parent.rglob("*"))
    for action in (
        lambda: store.save(np.ones(store.shape, np.uint8), [0]),
        lambda: store.checkpoint("x"),
        lambda: store.restore(1),
    ):
        with pytest.raises(InputError, match="reading only"):
            action()
    assert sorted((p, p.stat().st_mtime_ns) for p in volume.path.parent.rglob("*")) == before


def test_a_full_disk_leaves_what_was_there(volume: LabelStore) -> None:
    """RLIMIT_FSIZE stands in for the disk: the write fails after so many bytes, as it does when the disk is full."""
    rng = np.random.default_rng(0)
    first = np.ones(volume.shape, np.uint8)
    volume.save(first, range(5), SliceMarks.of({0: [0]}))
    noise = rng.integers(0, 200, volume.shape).astype(np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400, hard))
    try:
        with pytest.raises(FileError, match="disk or the quota is full"):
            volume.save(noise, [1, 2], SliceMarks.of({0: [0, 1, 2]}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    again = LabelStore.open(volume.path)
    np.testing.assert_array_equal(again.read(), first)
    assert again.marks == SliceMarks.of({0: [0]})
    assert not list(volume.path.parent.rglob("*.tmp*"))
    volume.save(noise, [1, 2])  # after space was made, the same call goes through
    np.testing.assert_array_equal(LabelStore.open(volume.path).read()[1:3], noise[1:3])


def test_a_drive_that_vanished_is_not_made_anew(volume: LabelStore) -> None:
    volume.save(np.ones(volume.shape, np.uint8), [0])
    folder = volume.path.parent
    shutil.rmtree(folder)
    with pytest.raises(CtxsegError, match="cannot be written"):
        volume.save(np.ones(volume.shape, np.uint8), [0])
    assert not folder.exists()
