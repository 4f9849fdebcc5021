"""Which pixels of a labels layer count as labelled, kept up to date stroke by stroke. No Qt here."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

#: Pixels looked at in one go; a piece takes well under 10 ms.
PIECE = 2**18
#: Indices from which on they are counted instead of sorted.
MANY = 2**12


@dataclass
class _Stroke:
    """Part of a stroke, which napari's history keeps too, and what it has changed in the marks."""

    atom: Any
    marked: set[tuple[int, int]]
    opened: set[tuple[int, int]]
    done: bool = True


class Marks:
    """Slices that count as completely labelled, under the policy *masks*.

    Painting marks the slice in the plane it was painted in; marks can be set and cleared by hand.
    """

    def __init__(self) -> None:
        self.planes: dict[int, set[int]] = {}
        self.cleared: set[tuple[int, int]] = set()
        self._strokes: list[_Stroke] = []
        self._seen: Any = None

    def copy(self) -> Marks:
        """A copy that no later stroke changes."""
        made = Marks()
        made.restore(self)
        return made

    def restore(self, before: Marks) -> None:
        """Be as a copy was."""
        self.planes = {axis: {*indices} for axis, indices in before.planes.items()}
        self.cleared = {*before.cleared}
        self._strokes = list(before._strokes)

    def decide(self, axis: int, index: int, *, labelled: bool) -> None:
        """What a person says of a slice: no undoing of a stroke changes it."""
        (self.set if labelled else self.clear)(axis, index)
        for stroke in self._strokes:
            stroke.marked.discard((axis, index))
            stroke.opened.discard((axis, index))

    def set(self, axis: int, index: int) -> None:
        """Count a slice as labelled, even when nothing is painted in it."""
        self.planes.setdefault(axis, set()).add(index)
        self.cleared.discard((axis, index))

    def clear(self, axis: int, index: int) -> None:
        """Count a slice as not labelled, even when something is painted in it."""
        self.planes.get(axis, set()).discard(index)
        self.cleared.add((axis, index))

    def has(self, axis: int, index: int) -> bool:
        """Whether a slice is marked."""
        return index in self.planes.get(axis, ())

    def stroke(self, atoms: Sequence[Any], axis: int) -> None:
        """Mark what a stroke touched: each slice along `axis`, the axis that was not displayed.

        Parameters
        ----------
        atoms : sequence
            Value of napari's ``events.paint``: tuples that begin with the place, as slices or index arrays.
        axis : int
            Axis of the layer across the plane that was painted in.
        """
        self._seen = None  # what was undone before can be as long again
        for atom in atoms:
            places = {(axis, index) for index in touched(atom[0][axis])}
            marked = {place for place in places if not self.has(*place)}
            if marked:
                self._strokes.append(_Stroke(atom, marked, self.cleared & marked))
            for place in marked:
                self.set(*place)

    def follow(self, labels: Any) -> None:
        """Take back the marks of strokes that were undone since, and give back those of strokes that were done again.

        Parameters
        ----------
        labels : napari Labels layer
            Undo and redo send no event of their own: its lists tell.
        """
        undo, redo = labels._undo_history, labels._redo_history
        seen = len(redo), id(undo[-1]) if undo else None
        if seen == self._seen or not self._strokes:
            return
        self._seen = seen
        undone, done = ({id(atom) for item in history for atom in item} for history in (redo, undo))
        for stroke in reversed(self._strokes):
            if stroke.done and id(stroke.atom) in undone:
                stroke.done = False
                for axis, index in stroke.marked:
                    self.planes.get(axis, set()).discard(index)
                self.cleared |= stroke.opened
        for stroke in self._strokes:
            if not stroke.done and id(stroke.atom) in done:
                stroke.done = True
                for place in stroke.marked:
                    self.set(*place)
        # What has left the history can never be undone; kept atoms would be large, and their identity could be another's.
        self._strokes = [stroke for stroke in self._strokes if id(stroke.atom) in undone | done]

    def counted(self, painted: Sequence[int]) -> dict[int, tuple[int, ...]]:
        """All marks together with slices along axis 0 that hold labels from elsewhere."""
        planes = {axis: set(indices) for axis, indices in self.planes.items() if indices}
        extra = {index for index in painted if (0, index) not in self.cleared}
        planes[0] = planes.get(0, set()) | extra
        return {axis: tuple(sorted(indices)) for axis, indices in sorted(planes.items()) if indices}


def touched(place: Any) -> range | list[int]:
    """Indices along one axis that an edit covers."""
    if isinstance(place, slice):
        return range(int(place.start), int(place.stop))
    indices = np.asarray(place)
    if indices.size > MANY and int(indices.min()) >= 0:  # counting a million takes 2 ms, sorting them 20
        return [int(index) for index in np.flatnonzero(np.bincount(indices.ravel()))]
    return [int(index) for index in np.unique(indices)]


def undone(labels: Any) -> int:
    """How many strokes of a layer can be redone: undo and redo send no event of their own, only this tells."""
    return len(getattr(labels, "_redo_history", ()))


def unexplained_slices(labels: NDArray[Any], planes: Mapping[int, set[int]]) -> list[int]:
    """Slices along axis 0 with labels that lie in no marked plane: loaded, pasted or computed, not painted.

    Looks at one slice at a time; call it off the GUI thread.
    """
    others = {axis: sorted(indices) for axis, indices in planes.items() if axis > 0 and indices}
    found = []
    for index in range(labels.shape[0]):
        if index in planes.get(0, ()) or not labels[index].any():
            continue
        rest = labels[index].copy() if others else labels[index]
        for axis, indices in others.items():
            rest[(slice(None),) * (axis - 1) + (indices,)] = 0
        if rest.any():
            found.append(index)
    return found


class Census:
    """Which values a labels array holds, counted piece by piece so that no call takes long.

    Parameters
    ----------
    data : array
        The layer's own array, watched and never changed.
    """

    def __init__(self, data: Any) -> None:
        self.data = data
        shape = data.shape if len(data.shape) > 2 else (1, *data.shape)
        self._rows = max(1, PIECE // max(1, int(np.prod(shape[2:]))))
        self._blocks = -(-shape[1] // self._rows)
        self._found: dict[tuple[int, int], frozenset[int]] = {}
        self._pending = deque((i, b) for i in range(shape[0]) for b in range(self._blocks))
        self._waiting = set(self._pending)
        self._values: set[int] | None = set()

    @property
    def complete(self) -> bool:
        """Whether nothing is left to look at."""
        return not self._pending

    @property
    def values(self) -> set[int]:
        """Values found so far, without 0. Not to be changed."""
        if self._values is None:
            found: set[int] = set()
            self._values = found.union(*set(self._found.values())) - {0}
        return self._values

    @property
    def slices(self) -> list[int]:
        """Slices along axis 0 in which a value above 0 was found."""
        return sorted({index for (index, _), values in self._found.items() if values - {0}})

    def touch(self, atoms: Sequence[Any]) -> None:
        """Look again at what a stroke has changed."""
        flat = self.data.ndim == 2
        for atom in atoms:
            rows = touched(atom[0][0 if flat else 1])
            blocks = sorted({row // self._rows for row in rows})
            for index in [0] if flat else touched(atom[0][0]):
                for block in blocks:
                    self._again((index, block))

    def recount(self, index: int | None = None) -> None:
        """Look again at one slice along axis 0, or at all: they were changed by something other than a stroke."""
        flat = self.data.ndim == 2
        slices = range(1 if flat else self.data.shape[0]) if index is None else [0 if flat else index]
        for each in slices:
            for block in range(self._blocks):
                self._again((each, block))

    def _again(self, key: tuple[int, int]) -> None:
        if key not in self._waiting:
            self._waiting.add(key)
            self._pending.appendleft(key)

    def work(self, seconds: float = 0.005) -> bool:
        """Look at some pieces; True if there was anything to do."""
        if not self._pending:
            return False
        end = time.perf_counter() + seconds
        while self._pending and time.perf_counter() < end:
            key = self._pending.popleft()
            self._waiting.discard(key)
            index, block = key
            rows = slice(block * self._rows, (block + 1) * self._rows)
            piece = np.asarray(self.data[rows] if self.data.ndim == 2 else self.data[index, rows])
            before = self._found.pop(key, None)
            if piece.any():
                self._found[key] = frozenset(map(int, _distinct(piece)))
            if self._found.get(key) != before:
                self._values = None
        return True


def _distinct(piece: NDArray[Any]) -> NDArray[Any]:
    if piece.dtype == np.uint8:  # much faster than sorting
        return np.flatnonzero(np.bincount(piece.ravel(), minlength=256))
    return np.unique(piece)
