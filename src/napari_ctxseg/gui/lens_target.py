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
    from napari_ctxseg.gui.choices import Choices


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


def target_of(
    choices: Choices, index: int | None, *, full: bool
) -> tuple[NDArray[np.int16], tuple[int, ...]]:
    """Class indices of one slice of the chosen labels, or of all, and the class values behind them.

    Parameters
    ----------
    choices : Choices
        Labels, classes and annotation policy.
    index : int or None
        Slice of a volume; None for all of it (slow: call it off the GUI thread).
    full : bool
        Every value above 0 is a class and 0 is background everywhere, whatever classes and policy say.

    Returns
    -------
    target : ndarray of int16
        Shape ``(y, x)``, or of the volume.
    values : tuple of int
        Class values in the order of the indices 1, 2, ...

    Raises
    ------
    CtxsegError
        If the labels do not fit the classes.
    """
    data = choices.labels.data
    labels = np.asarray(data if index is None or data.ndim == 2 else data[index : index + 1])
    if full:
        target, values = _all_values(labels)
    else:
        target, values = _policy(choices, labels, index)
    return (target if labels.ndim == 2 or index is None else target[0]), values


def _all_values(labels: NDArray[Any]) -> tuple[NDArray[np.int16], tuple[int, ...]]:
    values = tuple(int(v) for v in np.unique(labels) if v > 0)
    if len(values) > MOST_FRESH:  # instance ids: one class
        return (labels > 0).astype(np.int16), (1,)
    target = np.zeros(labels.shape, np.int16)
    for place, value in enumerate(values, start=1):
        target[labels == value] = place
    return target, values


def _policy(
    choices: Choices, labels: NDArray[Any], index: int | None
) -> tuple[NDArray[np.int16], tuple[int, ...]]:
    classes = {row.name: row.value for row in choices.classes}
    scribbles = choices.policy == "scribbles"
    try:
        data = DataConfig(
            classes=classes,
            annotation=choices.policy,
            background=choices.background_value if scribbles else None,
        )
    except ValueError as error:
        raise InputError("classes", str(error).splitlines()[0]) from error
    labelled = None
    if labels.ndim == 3 and not scribbles:
        marks = choices.marks.copy() if index is None else _slice_marks(choices.marks, index)
        labelled = marks.counted(unexplained_slices(labels, marks.planes))
    axes = "yx" if labels.ndim == 2 else "zyx"
    case = Case("labels", image_from_array(labels, axes), labels, "", labelled)
    return class_indices(case, classes, data), tuple(classes.values())


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
