"""Autosaved labels of one image: only what was touched is rewritten, and a kill at any moment tears nothing."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg.atomic import file_error, sweep_stale, sync_folder
from napari_ctxseg.errors import CtxsegError, FileError, InputError
from napari_ctxseg.project import chunks
from napari_ctxseg.project.chunks import DamagedChunkError, Grid
from napari_ctxseg.project.generations import SPAN, Changes, Generation, History, Saved, history_of
from napari_ctxseg.project.marks import STATE, SliceMarks, State, counted, read_state, write_state

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import zarr
    from numpy.typing import NDArray


class LabelStore:
    """Labels of one image in ``labels/IMAGE.zarr``, a zarr v3 array, with marks and earlier states.

    Make one with `create` or `open`. Chunk *i* of a volume is its slice *i* along the first axis; a 2-D image is one chunk,
    or tiles of 512 x 512 where it is large. Nothing larger than a chunk is held in memory, except by `read`.

    Not for several threads at once; a thread of its own is fine. Hold the project's lock while writing.
    """

    def __init__(self, path: Path, array: zarr.Array[Any], *, read_only: bool) -> None:
        self.path, self.read_only = path, read_only
        self.history = History(history_of(path))
        self._array = array
        self.grid = Grid(tuple(array.shape), tuple(array.chunks))
        self._marks, self._stamps, self._marked = SliceMarks(), dict[int, float](), dict[int, float]()
        self._current: Generation | None = None

    @classmethod
    def create(cls, path: Path, shape: tuple[int, ...], *, largest: int = 255) -> LabelStore:
        """Make empty labels.

        Parameters
        ----------
        path : Path
            ``labels/IMAGE.zarr``, not there yet; its folder must exist.
        shape : tuple of int
            ``(z, y, x)`` or ``(y, x)``.
        largest : int
            Largest value to expect; larger ones may come later.

        Raises
        ------
        FileError
            If there are labels already, or they cannot be written.
        """
        if path.exists():
            raise FileError(path, "is there already", "Open it instead")
        temp = path.with_name(f"{path.name}.new")
        try:
            chunks.remove_folder(temp)
            temp.mkdir()
            array = chunks.create_array(temp, shape, chunks.smallest_dtype(max(largest, 1)))
            store = cls(temp, array, read_only=False)
            store._write_state()
            os.rename(temp, path)
            sync_folder(path.parent)
        except OSError as error:
            raise file_error(path, error) from error
        return cls.open(path)

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> LabelStore:
        """Open labels; what a killed process left half done is finished or swept away.

        Raises
        ------
        FileError
            If they are not there, damaged, or from a newer version. Damaged slices are found when they are read.
        """
        new = path.with_name(f"{path.name}.new")
        if not path.exists() and (new / STATE).is_file():
            # Killed between the two renames of `_grow`: the new folder was complete before the first.
            if read_only:
                path = new
            else:
                os.rename(new, path)
        if not read_only and path.is_dir():
            chunks.remove_folder(new)
            chunks.remove_folder(path.with_name(f"{path.name}.old"))
            sweep_stale(path)
            History(history_of(path)).sweep()
        store = cls(path, chunks.open_array(path, read_only=read_only), read_only=read_only)
        state = read_state(path, store.shape, str(store.dtype), len(store.grid))
        store._marks, store._stamps, store._marked = state.marks, state.stamps, state.marked
        return store

    # ---- reading

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape."""
        return self.grid.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values; grows with them."""
        return np.dtype(self._array.dtype)

    @property
    def marks(self) -> SliceMarks:
        """Slices that count as labelled, as they were saved."""
        return self._marks

    def marked_at(self, index: int) -> float:
        """When the mark of a slice along the first axis was last changed, seconds since 1970; 0 where never."""
        return self._marked.get(index, 0.0)

    @property
    def written(self) -> list[int]:
        """Chunks that were ever written; all others are 0."""
        return [i for i in range(len(self.grid)) if self._is_written(i)]

    def stamp(self, index: int) -> float:
        """When a chunk was last written, in seconds since 1970; 0 for never."""
        return self._stamps.get(index, 0.0)

    def read_chunk(self, index: int) -> NDArray[Any]:
        """One chunk, checked.

        Raises
        ------
        DamagedChunkError
            If it is damaged or missing; the message names the earlier states that hold it whole.
        """
        if not self._is_written(index):
            return np.zeros([s.stop - s.start for s in self.grid.box(index)], self.dtype)
        try:
            return chunks.checked(self._array, self.path, self.grid, index)
        except DamagedChunkError as error:
            good = self.good_generations(index)
            name = chunks.chunk_name(self.grid, index)
            remedy = f"There is no earlier state of it: clear {name}, or take the folder from a backup"
            if good:
                how = f"--image {self.path.name.removesuffix('.zarr')} --slice {index}"
                remedy = f"Take {name} of generation {good[0].number}: `ctxseg project restore PROJECT {how}`"
            raise DamagedChunkError(self.path, index, error.reason, remedy) from error

    def read_slice(self, index: int) -> NDArray[Any]:
        """Slice of a volume along its first axis, shape ``(y, x)``; of a 2-D image the whole (`index` 0)."""
        if len(self.shape) == 2:
            return self.read()
        slice_: NDArray[Any] = self.read_chunk(index)[0]
        return slice_

    def read(self) -> NDArray[Any]:
        """All labels, shape `shape`; raises as `read_chunk`."""
        labels = np.zeros(self.shape, self.dtype)
        for index in self.written:
            labels[self.grid.box(index)] = self.read_chunk(index)
        return labels

    def damaged(self) -> dict[int, list[Generation]]:
        """Chunks that cannot be read, and for each the earlier states that hold it whole, newest first."""
        found = {}
        for index in self.written:
            try:
                chunks.checked(self._array, self.path, self.grid, index)
            except DamagedChunkError:
                found[index] = self.good_generations(index)
        return found

    def counted(self) -> dict[int, tuple[int, ...]]:
        """Slices that count as labelled, by axis: those marked, and those along axis 0 with labels in no marked plane.

        The latter were loaded, pasted or predicted, not painted; they count unless a person said that they do not.
        """
        if len(self.shape) == 2:
            chosen = [0] if self._marks.labelled or self.read().any() else []
            return counted(self._marks, chosen, lambda index: self.read())
        return counted(self._marks, self.written, self.read_slice)

    # ---- writing

    def chunks_in(self, box: tuple[slice, ...]) -> set[int]:
        """Numbers of the chunks that a box of the labels touches, one slice for each axis."""
        return self.grid.within(box)

    def save(
        self, labels: Any, dirty: Iterable[int], marks: SliceMarks | None = None, *, now: float | None = None
    ) -> Saved:
        """Write the chunks that were touched, and the marks; what was there before is kept for a while.

        A call that fails half way has written some chunks as a whole and the others not at all: call it again with the same.
        The pixels are written before the marks, so that no slice ever counts as labelled before its labels are safe.

        Parameters
        ----------
        labels : array, shape `shape`
            Of any integer type; looked at chunk by chunk and never changed. May be the array that is being painted on.
        dirty : iterable of int
            Chunks that may have changed: for a volume the slices along the first axis, see `chunks_in`.
        marks : SliceMarks, optional
            Replace the marks; None leaves them as they are.
        now : float, optional
            Seconds since 1970.

        Raises
        ------
        FileError
            If the disk is full, or the folder gone.
        InputError
            If shape or values do not fit, or the store is open for reading only.
        """
        begun = time.perf_counter()
        now = time.time() if now is None else now
        self._check_writable()
        if tuple(labels.shape) != self.shape:
            raise InputError(
                self.path,
                f"holds labels of shape {self.shape}, not {tuple(labels.shape)}",
                "Use those of its image",
            )
        wanted = sorted({int(index) for index in dirty})
        if wanted and not 0 <= wanted[0] <= wanted[-1] < len(self.grid):
            raise InputError(self.path, f"has the chunks 0 to {len(self.grid) - 1}, not {wanted}", "")
        self._write(((i, np.asarray(labels[self.grid.box(i)])) for i in wanted), len(wanted), now)
        if marks is not None:
            self._marked |= dict.fromkeys(marks.differing(self._marks), now)
            self._marks = marks
        if wanted or marks is not None:
            self._write_state()
        return Saved(tuple(wanted), time.perf_counter() - begun)

    def _write(self, pieces: Iterator[tuple[int, NDArray[Any]]], count: int, now: float) -> None:
        if not count:
            return
        self._generation(now)
        kept = False
        try:
            for index, piece in pieces:
                if piece.dtype.kind not in "bui":
                    raise InputError(self.path, f"holds integers, not {piece.dtype}", "Convert the labels")
                low, high = (int(piece.min()), int(piece.max())) if piece.size else (0, 0)
                if low < 0 or high >= 2**32:
                    raise InputError(
                        self.path, f"cannot hold the value {low if low < 0 else high}", "Use 0 to 2^32 - 1"
                    )
                if high > np.iinfo(self.dtype).max:
                    self._grow(high, now)
                assert self._current is not None
                kept |= self.history.keep(self._current.number, self.path, self.grid.key(index))
                self._array[self.grid.box(index)] = piece.astype(self.dtype, copy=False)
                self._stamps[index] = now
            if kept:
                assert self._current is not None
                sync_folder(self.history.folder(self._current.number))
            sync_folder(self.path)
        except OSError as error:
            raise file_error(self.path, error) from error

    def _generation(self, now: float) -> None:
        """Begin a generation when the last one has lasted long enough, or the clock was put back."""
        if self._current is None or not 0 <= now - self._current.time < SPAN:
            self._current = self.history.begin(self.path, now)
            self.history.thin()

    def checkpoint(self, label: str, *, now: float | None = None) -> Generation:
        """Keep the state as it is now under a label, such as ``"before merging"``."""
        self._check_writable()
        self._current = self.history.begin(self.path, time.time() if now is None else now, label)
        self.history.thin()
        return self._current

    def _grow(self, value: int, now: float) -> None:
        """Write everything anew in a larger type. A kill leaves the old folder, or the new one and a rename to do."""
        new, old = (self.path.with_name(f"{self.path.name}.{end}") for end in ("new", "old"))
        chunks.remove_folder(new)
        new.mkdir()
        grown = chunks.create_array(new, self.shape, chunks.smallest_dtype(value))
        for index in self.written:
            grown[self.grid.box(index)] = self.read_chunk(index).astype(grown.dtype)
        self._write_state(new, grown.dtype)
        sync_folder(new)
        os.rename(self.path, old)
        os.rename(new, self.path)
        sync_folder(self.path.parent)
        chunks.remove_folder(old)
        self._array = chunks.open_array(self.path, read_only=False)
        # Chunks of two types cannot lie in one generation.
        self._current = self.history.begin(self.path, now)

    # ---- earlier states

    def generations(self) -> list[Generation]:
        """States that can be restored, oldest first."""
        return self.history.all()

    def read_generation(self, number: int, index: int) -> NDArray[Any]:
        """A chunk as it was in an earlier state; a damaged one raises `DamagedChunkError`."""
        folder = self.history.source(number, self.grid.key(index))
        if folder is False:
            return self.read_chunk(index)
        if folder is None:
            return np.zeros([s.stop - s.start for s in self.grid.box(index)], self.dtype)
        return chunks.read_chunk(folder, self.grid, index)

    def changed_since(self, number: int) -> Changes:
        """What differs between an earlier state and now, in pixels per new value."""
        pixels: dict[int, int] = {}
        touched = []
        for index in self.history.changed(number, self.grid):
            now, before = self.read_chunk(index), self.read_generation(number, index)
            values, found = np.unique(now[now != before], return_counts=True)
            touched += [index] if len(values) else []
            for value, count in zip(values, found, strict=True):
                pixels[int(value)] = pixels.get(int(value), 0) + int(count)
        return Changes(pixels, tuple(touched))

    def contents(self) -> Changes:
        """All that is painted: pixels per value above 0, and the chunks they are in."""
        pixels: dict[int, int] = {}
        touched = []
        for index in self.written:
            chunk = self.read_chunk(index)
            values, found = np.unique(chunk[chunk > 0], return_counts=True)
            touched += [index] if len(values) else []
            for value, count in zip(values, found, strict=True):
                pixels[int(value)] = pixels.get(int(value), 0) + int(count)
        return Changes(pixels, tuple(touched))

    def restore(self, number: int, indices: Iterable[int] | None = None) -> Saved:
        """Make an earlier state the present one; the present one becomes a generation too, so this can be taken back.

        Parameters
        ----------
        number : int
            Of a generation.
        indices : iterable of int, optional
            Only these chunks, and leave the marks; all that changed, when left out.

        Raises
        ------
        DamagedChunkError
            If a chunk of that state is damaged; nothing was changed then.
        InputError
            If there is no such state.
        """
        begun = time.perf_counter()
        self._check_writable()
        if number not in {g.number for g in self.generations()}:
            raise InputError(self.path, f"has no generation {number}", "See `ctxseg project info --json`")
        changed = self.history.changed(number, self.grid) if indices is None else sorted(set(indices))
        for index in changed:
            self.read_generation(number, index)  # all of it, before anything is changed
        marks = self._marks if indices is not None else self.state_of(number).marks
        now = time.time()
        self._current = self.history.begin(self.path, now, f"before generation {number} was restored")
        self._write(((i, self.read_generation(number, i)) for i in changed), len(changed), now)
        self._marked |= dict.fromkeys(marks.differing(self._marks), now)
        self._marks = marks
        self._write_state()
        self.history.thin()
        return Saved(tuple(changed), time.perf_counter() - begun)

    def good_generations(self, index: int) -> list[Generation]:
        """Earlier states whose copy of a chunk is whole, newest first."""
        good = []
        for generation in reversed(self.generations()):
            with contextlib.suppress(CtxsegError):
                if self.history.source(generation.number, self.grid.key(index)) is not False:
                    self.read_generation(generation.number, index)
                    good.append(generation)
        return good

    def state_of(self, number: int) -> State:
        """Marks and times of writing as they were in an earlier state."""
        folder = self.history.folder(number)
        return read_state(folder, self.shape, None, len(self.grid))

    # ---- the state beside the array

    def _is_written(self, index: int) -> bool:
        return index in self._stamps or (self.path / self.grid.key(index)).exists()

    def _check_writable(self) -> None:
        if self.read_only:
            raise InputError(
                self.path, "is open for reading only", "Close the project where it is being changed"
            )

    def _write_state(self, folder: Path | None = None, dtype: Any = None) -> None:
        state = State(self.shape, str(dtype or self.dtype), self._marks, self._stamps, self._marked)
        write_state(folder or self.path, state)
