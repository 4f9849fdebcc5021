"""What the Review reads: prediction, annotation and uncertainty of one image, slice by slice, in any thread. No Qt."""

from __future__ import annotations

from dataclasses import dataclass
from math import log1p
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg.evaluation.suspects import suspects
from napari_ctxseg.gui import layers as lay

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from napari_ctxseg.evaluation.suspects import Limits, Suspect
    from napari_ctxseg.gui.annotation import Marks
    from napari_ctxseg.gui.choices import Policy
    from napari_ctxseg.gui.refined import Refined


#: Rows of one slice.
MOST = 50


@dataclass(frozen=True)
class Grid:
    """Shape and place of a layer, see `napari_ctxseg.gui.layers.OnGrid`."""

    shape: tuple[int, ...]
    look: Mapping[str, Any]


def grid_of(layer: Any) -> Grid:
    """Those of a labels layer."""
    return Grid(tuple(layer.data.shape), lay.look_of(layer))


def image_of(layer: Any) -> str:
    """Name of the image that a labels layer was predicted of; its own where we have not made it."""
    return str(layer.metadata.get("ctxseg", {}).get("prediction_of", layer.name))


@dataclass(frozen=True)
class Material:
    """Arrays as they lie in the layers, watched and never changed, and what they mean.

    Parameters
    ----------
    prediction : array, shape ``(z, y, x)`` or ``(y, x)``
        Class values.
    annotation : array or None
        Class values, and with scribbles that of background.
    uncertainty : array or None
        0 to 1.
    refined : Refined or None
        Prediction by a CR-GAN.
    policy : str
        ``"masks"`` or ``"scribbles"``.
    background : int
        Value painted for background; with scribbles only.
    marks : Marks
        A copy.
    """

    prediction: Any
    annotation: Any
    uncertainty: Any
    refined: Refined | None
    policy: Policy
    background: int
    marks: Marks

    @property
    def depth(self) -> int:
        """Number of slices along axis 0; 1 for a 2-D image."""
        return self.prediction.shape[0] if self.prediction.ndim > 2 else 1

    def plane(self, array: Any, index: int) -> NDArray[Any]:
        """Slice of an array."""
        return np.asarray(array[index] if array.ndim > 2 else array)

    def annotated(self, index: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Class values of a slice with 0 for background, and where they count as labelled."""
        if self.annotation is None:
            shape = self.prediction.shape[-2:]
            return np.zeros(shape, np.uint8), np.zeros(shape, bool)
        drawn = np.array(self.plane(self.annotation, index))
        if self.policy == "scribbles":
            counts = drawn != 0
            drawn[drawn == self.background] = 0
            return drawn, counts
        return drawn, labelled_plane(drawn, self.marks, index, flat=self.annotation.ndim == 2)

    def complete(self, index: int) -> bool:
        """Whether a slice needs no more labels: it counts as labelled, or with scribbles something is painted in it."""
        _, counts = self.annotated(index)
        return bool(counts.any() if self.policy == "scribbles" else counts.all())

    def examine(self, index: int, limits: Limits) -> Examined:
        """Look at a slice."""
        prediction = self.plane(self.prediction, index)
        drawn, counts = self.annotated(index)
        beside = [
            self.plane(self.prediction, other) for other in (index - 1, index + 1) if 0 <= other < self.depth
        ]
        found = suspects(
            prediction,
            annotation=drawn,
            labelled=counts,
            uncertainty=None if self.uncertainty is None else self.plane(self.uncertainty, index),
            stages=None if self.refined is None else self.refined.stages_of(index),
            beside=beside if self.depth > 1 else (),
            limits=limits,
        )
        rows = [Row(index, one, one.size, _order(one, index)) for one in found]
        differs = counts & (prediction != drawn)
        return Examined(
            sorted(rows, key=lambda row: row.order)[:MOST],
            _lean(differs & (drawn != 0)),
            _lean(differs & (prediction != 0)),
        )

    def missing(self, index: int) -> tuple[tuple[NDArray[np.intp], ...], NDArray[Any]]:
        """Where a slice is unlabelled but something is predicted, in the slice, and what."""
        prediction = self.plane(self.prediction, index)
        raw = self.plane(self.annotation, index)
        _, counts = self.annotated(index)
        where = np.nonzero((prediction != 0) & ~counts & (raw == 0))
        return where, prediction[where]


@dataclass(frozen=True, eq=False)
class Row:
    """A suspect and the slice along axis 0 that it is in.

    `order` sorts by the score times the logarithm of one plus the size: single pixels of a boundary are doubtful too, but
    there are many of them.
    """

    index: int
    suspect: Suspect
    size: int
    order: tuple[float, int]


def _order(one: Suspect, index: int) -> tuple[float, int]:
    return -round(one.score * log1p(one.size), 3), index


def _lean(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask to keep: where it is empty, as in most slices of a large volume, one that takes no memory."""
    return mask if mask.any() else np.broadcast_to(np.False_, mask.shape)


@dataclass(frozen=True)
class Examined:
    """What came of a slice: suspects, and where annotation and prediction differ.

    Parameters
    ----------
    rows : sequence of Row
        The first of them, in their order.
    fn, fp : ndarray of bool, shape ``(y, x)``
        Annotated and not predicted so; predicted and not annotated so. Not to be written to.
    """

    rows: Sequence[Row]
    fn: NDArray[np.bool_]
    fp: NDArray[np.bool_]


def labelled_plane(drawn: NDArray[Any], marks: Marks, index: int, *, flat: bool = False) -> NDArray[np.bool_]:
    """Where a slice along axis 0 counts as labelled under the policy *masks*, as training counts it.

    Parameters
    ----------
    drawn : ndarray, shape ``(y, x)``
    marks : Marks
    index : int
    flat : bool
        Whether it is a 2-D image.
    """
    counts = np.zeros(drawn.shape, bool)
    if marks.has(0, index):
        counts[:] = True
        return counts
    if flat:
        counts[:] = bool(drawn.any())
        return counts
    for axis in (1, 2):
        counts[(slice(None),) * (axis - 1) + (sorted(marks.planes.get(axis, ())),)] = True
    # Labels from elsewhere mark their slice, unless the person has said that it does not count.
    if (0, index) not in marks.cleared and bool(drawn[~counts].any()):
        counts[:] = True
    return counts
