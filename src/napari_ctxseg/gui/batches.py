"""What autosaving hands to its thread: copies of the chunks that were touched. No Qt."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg.project import DamagedChunkError

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Mapping, Set

    from numpy.typing import NDArray

    from napari_ctxseg.project import LabelStore, SliceMarks


class Pieces:
    """Copies of some chunks, in place of the array that they were taken from."""

    def __init__(self, store: LabelStore, pieces: Mapping[int, NDArray[Any]]) -> None:
        self.shape = store.shape
        self._pieces = {_key(store.grid.box(index)): piece for index, piece in pieces.items()}

    def __getitem__(self, box: tuple[slice, ...]) -> NDArray[Any]:
        return self._pieces[_key(box)]


def _key(box: tuple[slice, ...]) -> tuple[int, ...]:
    return tuple(int(part.start) for part in box)


@dataclass
class Batch:
    """What one thread writes: copies of chunks, then marks; and what it compares with the store meanwhile."""

    pieces: dict[int, NDArray[Any]]
    marks: SliceMarks | None
    compare: deque[int]
    quiet: deque[int]
    data: Any
    task: Callable[[], None] | None = None
    over: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None


def compare(store: LabelStore, data: Any, index: int) -> None:
    """Save a chunk if the store has another one."""
    live = np.array(data[store.grid.box(index)])
    with contextlib.suppress(DamagedChunkError):  # what is on screen replaces it
        if np.array_equal(live, store.read_chunk(index)):
            return
    store.save(Pieces(store, {index: live}), [index])


def make_whole(batch: Batch, store: LabelStore, written: Set[int], marks: SliceMarks) -> None:
    """Have a batch save again what was on disk and no longer is, because a folder was taken away.

    Parameters
    ----------
    batch : Batch
    store : LabelStore
        As it was opened anew.
    written : set of int
        Chunks that were on disk before.
    marks : SliceMarks
        That were.
    """
    if gone := written - set(store.written):
        batch.compare.extend(sorted(gone - set(batch.compare)))
        if batch.marks is None and store.marks != marks:
            batch.marks = marks
