"""Writing into the annotation for the Review: each press of a key is one step that the layer itself can undo. No Qt.

napari 0.9.2 keeps an undo history in each Labels layer. `data_setitem` writes there and sends the event of a stroke, so that
autosave, census and Lens see it. Undo and redo send no event of their own: `Edits.follow` looks at the history.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg.errors import InputError
from napari_ctxseg.gui.annotation import touched
from napari_ctxseg.gui.timing import napari_works

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from napari_ctxseg.gui.choices import Choices

Marked = frozenset[tuple[int, int]]


@dataclass(eq=False)
class _Step:
    """One press of a key.

    `atom` is what the layer's history holds of it; `marked` and `opened` are slices that it made count as labelled, and of
    those the ones that a person had said do not.
    """

    atom: Any
    marked: Marked
    opened: Marked
    undo: Callable[[], None]
    redo: Callable[[], None]
    done: bool = True


class Edits:
    """Steps in one annotation.

    Parameters
    ----------
    choices : Choices
        Its labels layer is written to, its marks are kept.
    """

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self.layer = choices.labels
        self._steps: list[_Step] = []
        self._undone = 0
        self._tail: Any = None
        self.follow()

    @property
    def state(self) -> tuple[Any, ...]:
        """Changes with every stroke and every undo."""
        layer = self.layer
        return self.choices.edits, len(layer._undo_history), len(layer._redo_history), id(layer.data)

    def check(self, values: Iterable[int]) -> None:
        """Refuse what the layer cannot take.

        Raises
        ------
        InputError
            If it is locked, gone or being painted on, or cannot hold a value.
        """
        layer = self.layer
        if layer is None:
            raise InputError(
                "annotation", "there is no labels layer to write to", "Choose one, or make one with New"
            )
        if not layer.editable:
            raise InputError(
                layer.name,
                "cannot be edited as it is shown now",
                "Leave the volume view; a layer of a project that is open for reading only stays locked",
            )
        if layer._block_history:  # what we write would become part of the stroke
            raise InputError(layer.name, "is being painted on", "Let go of the mouse first")
        limit, largest = np.iinfo(layer.data.dtype).max, max(values, default=0)
        if largest > limit:
            raise InputError(
                layer.name,
                f"holds values up to {limit} and cannot take {largest}",
                "Convert it: right-click on the layer, Convert data type",
            )

    def write(
        self,
        where: tuple[NDArray[np.intp], ...],
        values: int | NDArray[Any],
        slices: Sequence[int],
        undo: Callable[[], None] = lambda: None,
        redo: Callable[[], None] = lambda: None,
    ) -> int:
        """Write pixels as one step of the layer's history.

        Parameters
        ----------
        where : tuple of ndarray
            Places, one array for each axis. May be empty: then the step changes no pixel.
        values : int or ndarray
            What is written there.
        slices : sequence of int
            Slices along axis 0 that this marks as labelled, as a stroke does; none: marks stay as they are.
        undo, redo : callable
            Called when the step is undone or done again.

        Returns
        -------
        int
            How many pixels have changed.
        """
        layer, marks = self.layer, self.choices.marks
        self.follow()
        before, changed = marks.copy(), 0
        with napari_works("write labels"):
            if len(where[0]):
                layer.data_setitem(where, values)
            if self._at_top():
                layer._save_history(_nothing(layer.data, where))
            else:
                changed = len(layer._undo_history[-1][-1][1])
        # The stroke's event has marked slices in the plane on screen; a review goes by slices along axis 0.
        marks.restore(before)
        for index in slices:
            marks.set(0, index)
        marked = frozenset((0, index) for index in slices if not before.has(0, index))
        opened = frozenset(before.cleared - marks.cleared)
        self._steps.append(_Step(layer._undo_history[-1][-1], marked, opened, undo, redo))
        self._remember()
        return changed

    def _at_top(self) -> bool:
        """Whether nothing was written since we last looked."""
        history = self.layer._undo_history
        return (history[-1] if history else None) is self._tail

    def _remember(self) -> None:
        history = self.layer._undo_history
        self._undone, self._tail = len(self.layer._redo_history), history[-1] if history else None

    def follow(self) -> list[int]:
        """Look whether the person has undone or redone something; our marks follow.

        Returns
        -------
        list of int
            Slices along axis 0 whose pixels changed by that.
        """
        if self.layer is None:
            return []
        undo, redo = self.layer._undo_history, self.layer._redo_history
        moved = len(redo) - self._undone
        if not moved and self._at_top():
            return []
        items = list(redo)[-moved:] if moved > 0 else list(undo)[moved:] if moved < 0 else []
        self._remember()
        undone, done = ({id(atom) for item in history for atom in item} for history in (redo, undo))
        for step in reversed(self._steps):
            if step.done and id(step.atom) in undone:
                self._flip(step, done=False)
        for step in self._steps:
            if not step.done and id(step.atom) in done:
                self._flip(step, done=True)
        # What has left the history can never be undone; kept atoms make sure that no other one gets their identity.
        self._steps = [step for step in self._steps if id(step.atom) in undone | done]
        if self.layer.ndim < 3:
            return [0] if items else []
        return sorted({index for item in items for atom in item for index in touched(atom[0][0])})

    def _flip(self, step: _Step, *, done: bool) -> None:
        marks = self.choices.marks
        step.done = done
        for axis, index in step.marked:
            if done:
                marks.set(axis, index)
            else:
                marks.planes.get(axis, set()).discard(index)
        if not done:
            marks.cleared |= step.opened
        (step.redo if done else step.undo)()


def _nothing(data: Any, where: tuple[NDArray[np.intp], ...]) -> Any:
    """An entry of the history that changes nothing: one pixel gets the value it has."""
    pixel = tuple(axis[:1] if len(axis) else np.zeros(1, np.intp) for axis in where)
    value = np.array(data[pixel])
    return pixel, value, value[0]
