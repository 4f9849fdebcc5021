"""What the Lens hands to the loss: the shown slice, or the volume, as class indices. No Qt, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg.cases import Case, class_indices
from napari_ctxseg.config import DataConfig
from napari_ctxseg.errors import InputError
from napari_ctxseg.gui import layers as lay
from napari_ctxseg.gui.annotation import Marks, unexplained_slices
from napari_ctxseg.gui.choices import MOST_FRESH
from napari_ctxseg.image import image_from_array

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from napari_ctxseg.config import Config
    from napari_ctxseg.gui.choices import Choices, Policy

#: Values below this are looked up in a table, which is many times faster than sorting.
TABLE = 2**16
#: Every so many rows and columns are looked at first: most values are found there.
PROBE = 8


@dataclass(frozen=True)
class Grid:
    """Where Lens layers belong: an image's, or the labels' own where there is no image."""

    shape: tuple[int, ...]
    look: Mapping[str, Any]
    above: Any  # layers of the Lens go just above this one

    @property
    def spacing(self) -> tuple[float, ...]:
        """Size of a step along each axis."""
        return tuple(float(abs(step)) for step in self.look["scale"][-len(self.shape) :])


@dataclass(frozen=True)
class Asked:
    """What one request was about. `target` is that of the shown slice, None for a volume."""

    grid: Grid
    index: int
    loss: Config
    values: tuple[int, ...]
    target: NDArray[Any] | None
    run: str | None
    token: int
    compute: bool = False
    image: Any = None  # the first chosen layer; another may be chosen when the answer comes

    def same(self, other: Asked | None) -> bool:
        """Whether the answer would be the same."""
        if other is None or self.target is None or other.target is None:
            return False
        mine = (self.index, self.loss, self.values, self.run, self.token, self.grid.spacing)
        theirs = (other.index, other.loss, other.values, other.run, other.token, other.grid.spacing)
        return mine == theirs and np.array_equal(self.target, other.target)


def grid_of(choices: Choices) -> Grid:
    """The grid of the chosen labels.

    Raises
    ------
    InputError
        With the reason, if there are no labels to look at.
    """
    labels = choices.labels
    if labels is None:
        raise InputError("Lens", "Choose a labels layer.")
    if choices.images and (problem := lay.labels_problem(choices.images, labels)):
        raise InputError("Lens", problem)
    if labels.multiscale:
        raise InputError("Lens", f"'{labels.name}' is a pyramid: convert it to a single resolution.")
    if labels.ndim not in (2, 3):
        raise InputError("Lens", f"'{labels.name}' has {labels.ndim} axes; 2 or 3 can be used.")
    first = choices.images[0] if choices.images else labels
    return Grid(tuple(labels.data.shape), lay.look_of(first), first)


@dataclass(frozen=True, eq=False)
class Painted:
    """The chosen labels and what they mean, as it was at one moment: another thread may look at it later."""

    data: Any
    classes: Mapping[str, int]
    policy: Policy
    background: int
    marks: Marks

    @classmethod
    def of(cls, choices: Choices) -> Painted:
        """What is chosen now."""
        classes = {row.name: row.value for row in choices.classes}
        return cls(
            choices.labels.data, classes, choices.policy, choices.background_value, choices.marks.copy()
        )

    @property
    def values(self) -> tuple[int, ...]:
        """Class values in the order of the indices 1, 2, ..."""
        return tuple(self.classes.values())

    @property
    def key(self) -> Any:
        """What the class indices depend on, besides the labels themselves."""
        planes = {axis: indices for axis, indices in self.marks.planes.items() if indices}
        return self.values, self.policy, self.background, planes, self.marks.cleared


def target_of(painted: Painted, index: int | None) -> NDArray[np.int16]:
    """Class indices of one slice of the labels, or of all.

    Parameters
    ----------
    painted : Painted
        Labels, classes and annotation policy.
    index : int or None
        Slice of a volume; None for all of it (slow: call it off the GUI thread).

    Returns
    -------
    ndarray of int16
        Shape ``(y, x)``, or of the volume.

    Raises
    ------
    CtxsegError
        If the labels do not fit the classes.
    """
    data = painted.data
    labels = np.asarray(data if index is None or data.ndim == 2 else data[index : index + 1])
    target = _policy(painted, labels, index)
    return target if labels.ndim == 2 or index is None else target[0]


def target_alone(choices: Choices, index: int) -> tuple[NDArray[np.int16], tuple[int, ...]]:
    """Class indices of one slice where every value above 0 is a class and 0 is background, and the class values.

    The values are those of the whole layer as far as the census has come, and of the slice: a class keeps its number
    from slice to slice.
    """
    data, census = choices.labels.data, choices.census
    known = set() if census is None else {value for value in census.values if value > 0}
    target, values = _all_values(np.asarray(data if data.ndim == 2 else data[index]), known)
    if census is not None and len(known) <= MOST_FRESH and not known.issuperset(values):
        census.recount(index)  # filled in by something that sends no event of a stroke
    return target, values


def _all_values(labels: NDArray[Any], known: set[int]) -> tuple[NDArray[np.int16], tuple[int, ...]]:
    if labels.dtype == bool or (labels.dtype.kind == "i" and labels.min(initial=0) < 0):
        labels = np.maximum(labels, 0).astype(np.int64)  # below 0 nothing is a class
    high = int(labels.max(initial=0))
    known = known | _present(labels[::PROBE, ::PROBE], high)
    if high >= TABLE and len(known) <= MOST_FRESH:
        known |= set(map(int, np.unique(labels))) - {0}
    while len(known) <= MOST_FRESH:
        values = tuple(sorted(known))
        if high >= TABLE:
            target = np.zeros(labels.shape, np.int16)
            for place, value in enumerate(values, start=1):
                target[labels == value] = place
            return target, values
        table = np.full(high + 1, -1, np.int16)
        table[0] = 0
        for place, value in enumerate(values, start=1):
            if value <= high:
                table[value] = place
        target = table[labels]
        if target.min(initial=0) == 0:
            return target, values
        known |= _present(labels[target < 0], high)
    return (labels > 0).astype(np.int16), (1,)  # instance ids: one class


def _present(labels: NDArray[Any], high: int) -> set[int]:
    """Values above 0, the highest of which is known."""
    if high >= TABLE:
        return set(map(int, np.unique(labels))) - {0}
    seen = np.zeros(high + 1, bool)
    seen[labels] = True
    return set(map(int, np.flatnonzero(seen))) - {0}


def _policy(painted: Painted, labels: NDArray[Any], index: int | None) -> NDArray[np.int16]:
    scribbles = painted.policy == "scribbles"
    try:
        data = DataConfig(
            classes=dict(painted.classes),
            annotation=painted.policy,
            background=painted.background if scribbles else None,
        )
    except ValueError as error:
        raise InputError("classes", str(error).splitlines()[0]) from error
    labelled = None
    if labels.ndim == 3 and not scribbles:
        marks = painted.marks if index is None else _slice_marks(painted.marks, index)
        labelled = marks.counted(unexplained_slices(labels, marks.planes))
    axes = "yx" if labels.ndim == 2 else "zyx"
    case = Case("labels", image_from_array(labels, axes), labels, "", labelled)
    return class_indices(case, data.classes, data)


def _slice_marks(marks: Marks, index: int) -> Marks:
    """The marks as one slice sees them, taken for a volume of its own."""
    part = Marks()
    for axis, indices in marks.planes.items():
        if axis > 0:
            part.planes[axis] = set(indices)
        elif index in indices:
            part.set(0, 0)
    if (0, index) in marks.cleared:
        part.cleared.add((0, 0))
    return part
