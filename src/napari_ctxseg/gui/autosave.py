"""The annotation on screen, saved as it is painted: only the slices that were touched, off the GUI thread. No Qt.

One batch is under way at a time, so that what is on disk is always the labels as they were at one moment after the other.
What could not be saved stays noted and is tried again; nothing else is ever written.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from psygnal import Signal

from napari_ctxseg.errors import CtxsegError
from napari_ctxseg.gui.annotation import touched
from napari_ctxseg.gui.batches import Batch, Pieces, compare, make_whole
from napari_ctxseg.gui.timing import timed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from napari_ctxseg.project import LabelStore, SliceMarks

#: Seconds between two batches, when nothing else is asked for.
INTERVAL = 0.25
#: Bytes copied on the GUI thread for one batch, in some 5 ms; what is more goes into the next one, at the next tick.
AT_ONCE = 1 << 23
#: Seconds of comparing in one batch: strokes wait no longer for it.
PORTION = 0.3
#: Seconds without scrolling before slices that were merely shown are compared.
REST = 0.6
#: Seconds until a failed batch is tried again: at first, and at most.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 10.0

State = Literal["saved", "saving", "failed"]


class Autosave:
    """Follows one labels layer and keeps its store like it.

    Parameters
    ----------
    layer : napari.layers.Labels
        Its labels are those of the store at the beginning, or `check_all` is called.
    store : LabelStore
        Open for writing; used by the batches alone from now on.
    marks : callable
        Gives the marks of slices as they are now.
    background : callable
        Runs a function off the GUI thread, then one of two callbacks on it.
    reopen : callable
        Opens the store anew after a failure, off the GUI thread.
    shown : callable
        Gives the slice along the first axis that is on screen, or None where the screen shows another plane.
    interval : float
        Seconds between two batches.
    """

    changed = Signal()

    def __init__(
        self,
        layer: Any,
        store: LabelStore,
        marks: Callable[[], SliceMarks],
        background: Callable[..., None],
        reopen: Callable[[], LabelStore],
        shown: Callable[[], int | None] = lambda: None,
        interval: float = INTERVAL,
    ) -> None:
        self.layer, self.interval = layer, interval
        self.state: State = "saved"
        self.reason = ""  # why it failed, or why the layer cannot be saved
        self.strokes = 0  # edits seen, of whatever kind
        self._store: LabelStore | None = store
        self._shape, self._grid = store.shape, store.grid
        self._marks, self._saved_marks = marks, store.marks
        self._written: set[int] = set()  # on disk when the store was last lost
        self._background, self._reopen, self._shown = background, reopen, shown
        self._dirty: set[int] = set()
        self._compare: deque[int] = deque()
        self._quiet: set[int] = set()
        self._staged: set[int] = set()
        self._staged_seen, self._more = 0, False
        self._batch: Batch | None = None
        self._tasks: deque[Callable[[], None]] = deque()
        self._refused = self._error = ""
        self._last = self._shown_at = self._retry_at = 0.0
        self._pause = FIRST_PAUSE
        self._closed = False
        self._tail: Any = None
        self._redone = 0
        self._note_history()
        for name, slot in self._slots():
            getattr(layer.events, name).connect(slot)
        self._refuse_other_shape()

    def _slots(self) -> Iterable[tuple[str, Callable[..., None]]]:
        return (
            ("paint", self._on_paint),
            ("labels_update", self._on_update),
            ("data", self._on_data),
            ("set_data", self._on_shown),
        )

    # ------------------------------------------------------------ what the layer says

    @timed
    def _on_paint(self, event: Any) -> None:
        history = self.layer._undo_history
        before = history[-2] if len(history) > 1 else None
        if (
            before is not self._tail
        ):  # something was undone while the layer was hidden, and this stroke hides it
            self.check_all()
        self._touch(event.value)
        self._forget_staged()
        self._note_history()
        self._show_state()

    @timed
    def _on_update(self, event: Any) -> None:
        """Part of a stroke that is not over yet."""
        self._take_staged()
        self._show_state()

    @timed
    def _on_data(self, event: Any = None) -> None:
        """The layer got another array."""
        self._note_history()
        self._forget_staged()
        self.strokes += 1
        if not self._refuse_other_shape():
            self.check_all()
        self._show_state()

    @timed
    def _on_shown(self, event: Any = None) -> None:
        """Redrawn: undone, redone, scrolled to, or changed in place by a script that then called `refresh`."""
        if not self._look_back():
            self._quiet |= self._chunks_shown()
            self._shown_at = time.monotonic()
        self._show_state()

    def _note_history(self) -> None:
        history = self.layer._undo_history
        self._tail, self._redone = (history[-1] if history else None), len(self.layer._redo_history)

    def _look_back(self) -> bool:
        """Undo and redo send no event of their own, and a hidden layer none at all: its lists tell."""
        undo, redo = self.layer._undo_history, self.layer._redo_history
        tail = undo[-1] if undo else None
        moved = len(redo) - self._redone
        if tail is self._tail and not moved:
            return False
        self._note_history()
        if moved:
            for item in list(redo)[-moved:] if moved > 0 else list(undo)[moved:]:
                self._touch(item)
        else:
            self.check_all()
        return True

    def _take_staged(self) -> None:
        """Strokes grow in a list of their own until the button is let go; one that is taken back leaves it empty."""
        staged = self.layer._staged_history
        if not staged:
            self._dirty |= self._staged
            self._forget_staged()
            return
        for atom in staged[self._staged_seen :]:
            found = self._chunks(atom[0])
            self._staged |= found
            self._dirty |= found
        self._staged_seen = len(staged)

    def _forget_staged(self) -> None:
        self._staged.clear()
        self._staged_seen = 0

    def _touch(self, atoms: Sequence[Any]) -> None:
        self.strokes += 1
        if not self._refused:
            for atom in atoms:
                self._dirty |= self._chunks(atom[0])

    def _chunks(self, place: Sequence[Any]) -> set[int]:
        """Chunks that an edit covers."""
        if len(self._shape) > 2:
            return set(touched(place[0]))
        ends = [touched(part) for part in place]
        box = tuple(slice(min(part), max(part) + 1) for part in ends)
        return self._grid.within(box)

    def _chunks_shown(self) -> set[int]:
        """The slice in sight; side views and volumes are not looked at for a mere redraw."""
        if len(self._shape) < 3:
            return set(range(len(self._grid)))
        index = self._shown()
        return set() if index is None else {index}

    def _refuse_other_shape(self) -> bool:
        shape = tuple(self.layer.data.shape)
        self._refused = ""
        if shape != self._shape:
            self._refused = (
                f"The labels have the shape {shape}, but the image has {self._shape}: they are not saved. "
                "Put back labels of the image's shape."
            )
            self._dirty.clear()
            self._compare.clear()
            self._quiet.clear()
        return bool(self._refused)

    def check_all(self) -> None:
        """Compare the whole layer with the store, slice by slice in the background, and save what differs."""
        if not self._refused:
            self._compare = deque(range(len(self._grid)))

    # ------------------------------------------------------------ saving

    def ask(self, task: Callable[[], None]) -> None:
        """Run something off the GUI thread once all that was painted so far is on disk, and before anything more is written.

        Parameters
        ----------
        task : callable
            May open the store itself. What it raises it keeps to itself.
        """
        self._look_back()
        self._take_staged()
        self._tasks.append(task)
        if self._batch is None:
            self._start(time.monotonic(), compare_shown=False)
        self._show_state()

    @property
    def busy(self) -> bool:
        """Whether something is not on disk yet."""
        waiting = self._dirty or self._compare or self._tasks or self._batch is not None
        return bool(waiting) or self._marks_differ()

    def _marks_differ(self) -> bool:
        return self._marks() != self._saved_marks

    @timed
    def tick(self, now: float | None = None) -> None:
        """Hand over what was touched, if it is time. For a timer."""
        now = time.monotonic() if now is None else now
        if self._closed:
            return
        if self._batch is not None and self._batch.over.is_set():
            self._collect(self._batch)
        self._look_back()
        self._take_staged()
        due = self._more or now - self._last >= self.interval
        if self._batch is None and due and now >= self._retry_at:
            rested = now - self._shown_at >= REST
            self._start(now, compare_shown=rested)
        self._show_state()

    def _start(self, now: float, *, compare_shown: bool) -> bool:
        """Begin a batch; False if there is nothing to do."""
        if self._refused:
            return False
        data = self.layer.data
        pieces: dict[int, NDArray[Any]] = {}
        room = AT_ONCE
        if not isinstance(data, np.ndarray):  # copies of lazy arrays would hold up the screen
            self._compare.extend(sorted(self._dirty))
            self._dirty.clear()
        for index in sorted(self._dirty):
            piece = data[self._grid.box(index)]
            if pieces and piece.nbytes > room:
                break
            pieces[index] = np.array(piece)
            room -= piece.nbytes
        self._dirty -= set(pieces)
        self._more = bool(self._dirty)
        # Marks go last: a slice must not count as labelled before its labels are safe.
        last = not (self._dirty or self._compare)
        marks = self._marks() if last and self._marks_differ() else None
        task = self._tasks.popleft() if last and self._tasks else None
        quiet = deque(sorted(self._quiet)) if compare_shown else deque()
        if not (pieces or marks is not None or self._compare or quiet or task):
            return False
        self._last = now
        batch = self._batch = Batch(pieces, marks, self._compare, quiet, data, task)
        self._compare = deque()
        if compare_shown:
            self._quiet.clear()
        self._background(
            lambda: self._write(batch), lambda: self._collect(batch), lambda error: self._collect(batch)
        )
        return True

    def _write(self, batch: Batch) -> None:
        """Of a batch, in its own thread."""
        try:
            if self._store is None:
                self._store = self._reopen()
                make_whole(batch, self._store, self._written, self._saved_marks)
                self._written = set()
            store = self._store
            if batch.pieces or batch.marks is not None:
                store.save(Pieces(store, batch.pieces), batch.pieces, batch.marks)
            end = time.monotonic() + PORTION
            for waiting in (batch.compare, batch.quiet):
                while waiting and time.monotonic() < end:
                    compare(store, batch.data, waiting[0])
                    waiting.popleft()
            if batch.task is not None:
                self._store = None  # the task may use the labels as it likes
                batch.task()
                batch.task = None
        except Exception as error:  # noqa: BLE001 - a thread has nobody to raise to; `_collect` says it
            if self._store is not None:
                self._written = set(self._store.written)
            batch.error, self._store = error, None
        finally:
            batch.over.set()

    @timed
    def _collect(self, batch: Batch) -> None:
        """Take over what a batch has left."""
        if batch is not self._batch:
            return
        self._batch = None
        if not self._refused:
            self._compare.extendleft(reversed(batch.compare))
            self._quiet |= set(batch.quiet)
        error = batch.error
        if error is None:
            self._error, self._pause, self._retry_at = "", FIRST_PAUSE, 0.0
            if batch.marks is not None:
                self._saved_marks = batch.marks
        else:
            if batch.task is not None:
                self._tasks.appendleft(batch.task)
            if not self._refused:
                self._dirty |= set(batch.pieces)
            self._error = str(error) if isinstance(error, CtxsegError) else f"{type(error).__name__}: {error}"
            self._retry_at = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._show_state()

    def _show_state(self) -> None:
        reason = self._refused or self._error
        state: State = "failed" if reason else "saving" if self.busy else "saved"
        if (state, reason) != (self.state, self.reason):
            self.state, self.reason = state, reason
            self.changed.emit()

    @property
    def sentence(self) -> str:
        """Where saving stands, for the person."""
        return f"NOT SAVED: {self.reason}" if self.state == "failed" else self.state

    # ------------------------------------------------------------ the end

    def flush(self, seconds: float = 10.0) -> bool:
        """Save now and wait for it, for this long at most.

        Returns
        -------
        bool
            Whether everything is on disk.
        """
        deadline = time.monotonic() + seconds
        self._look_back()
        self._take_staged()
        while True:
            batch = self._batch
            if batch is not None:
                if not batch.over.wait(max(0.0, deadline - time.monotonic())):
                    return False
                self._collect(batch)
                if batch.error is not None:
                    return False
            elif not self._start(time.monotonic(), compare_shown=True):
                return not self._refused
            elif (self._batch is None and self._error) or time.monotonic() > deadline:
                return False

    def close(self, seconds: float = 10.0) -> bool:
        """Save what is left, waiting for this long at most, and let go of the layer; see `flush`."""
        if self._closed:
            return not self.busy
        done = self.flush(seconds)
        self._closed = True
        for name, slot in self._slots():
            getattr(self.layer.events, name).disconnect(slot)
        return done
