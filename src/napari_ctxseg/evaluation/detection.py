"""Objects found and missed: those of prediction and reference against each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: In the order they are shown.
DETECTION = (
    "seg", "lesion_f1", "lesion_precision", "lesion_recall", "dice_small", "dice_medium", "dice_large",
)  # fmt: skip
SIZES = ("dice_small", "dice_medium", "dice_large")


@dataclass(frozen=True)
class Pieces:
    """Objects of two masks, pieces for short, and how much of each lies in which of the other.

    Parameters
    ----------
    predicted, reference : ndarray of int, shapes ``(P,)`` and ``(R,)``
        Voxels of each piece.
    of_reference, of_predicted, shared : ndarray of int, shape ``(N,)``
        The pairs of pieces that meet: number in `reference`, number in `predicted`, voxels in common.
    """

    predicted: NDArray[np.int64]
    reference: NDArray[np.int64]
    of_reference: NDArray[np.int64]
    of_predicted: NDArray[np.int64]
    shared: NDArray[np.int64]


def pieces_of(
    prediction: NDArray[np.generic], reference: NDArray[np.generic], *, faces_only: bool = False
) -> Pieces:
    """Objects of two masks.

    Parameters
    ----------
    prediction, reference : ndarray of bool or int, shape ``*S``
        A mask of bool is taken apart into connected pieces; of integers, each value above 0 is one object.
    faces_only : bool
        Whether voxels hang together by faces only; else by edges and corners too.

    Returns
    -------
    Pieces
    """
    (guess, guesses), (truth, truths) = (_numbered(mask, faces_only) for mask in (prediction, reference))
    both = (guess > 0) & (truth > 0)
    # Few of all pairs meet; a table of all would not fit into memory for scattered specks.
    pairs = (truth[both].astype(np.int64) - 1) * guesses + guess[both] - 1
    places, counts = np.unique(pairs, return_counts=True)
    return Pieces(
        np.bincount(guess.reshape(-1), minlength=guesses + 1)[1:],
        np.bincount(truth.reshape(-1), minlength=truths + 1)[1:],
        places // max(guesses, 1),
        places % max(guesses, 1),
        counts,
    )


def _numbered(mask: NDArray[np.generic], faces_only: bool) -> tuple[NDArray[np.integer[Any]], int]:
    """Objects numbered from 1 without gaps, and how many there are."""
    if mask.dtype == bool:
        touching = ndimage.generate_binary_structure(mask.ndim, 1 if faces_only else mask.ndim)
        labels, count = ndimage.label(mask, touching)
        return labels, int(count)
    values, places = np.unique(np.maximum(mask, 0), return_inverse=True)
    if values[0] > 0:  # no background here
        places = places + 1
    return places.reshape(mask.shape), int(values.size - (values[0] == 0))


def seg(pieces: Pieces) -> float:
    """SEG of the Cell Tracking Challenge: mean IoU of the reference objects with what matches them.

    A predicted object matches a reference object if it holds more than half of its voxels; there is at most one.
    An object without a match counts 0 (Maska et al. 2014, doi 10.1093/bioinformatics/btu080). Predicted objects that match
    nothing are not counted; `detection_measures` counts them.
    """
    if not pieces.reference.size:
        return 0.0
    own, theirs = pieces.reference[pieces.of_reference], pieces.predicted[pieces.of_predicted]
    matched = 2 * pieces.shared > own
    iou = pieces.shared / (own + theirs - pieces.shared)
    return float(iou[matched].sum() / pieces.reference.size)


def detection_measures(
    pieces: Pieces, *, sizes: Sequence[float], voxel: float = 1.0, overlap: float = 0.0
) -> dict[str, float | None]:
    """Measures of the group ``detection``; at least one of the masks must hold something.

    Parameters
    ----------
    pieces : Pieces
        Of both masks.
    sizes : sequence of two floats
        A reference object below the first is small, from the second on large.
    voxel : float
        Size of one voxel in the unit of `sizes`.
    overlap : float
        A piece is found if more than this share of its voxels lies in the other mask.

    Returns
    -------
    dict of str to float or None
        All of `DETECTION`. The Dice of an object is that of it and all predicted pieces that touch it; None for a size
        of which the reference has no object.
    """
    guesses, truths = pieces.predicted.size, pieces.reference.size
    in_reference = np.bincount(pieces.of_predicted, pieces.shared, guesses)
    in_prediction = np.bincount(pieces.of_reference, pieces.shared, truths)
    inside = in_reference > overlap * pieces.predicted
    found = in_prediction > overlap * pieces.reference
    precision = float(inside.mean()) if inside.size else 0.0
    recall = float(found.mean()) if found.size else 0.0
    result: dict[str, float | None] = {
        "seg": seg(pieces),
        "lesion_f1": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
        "lesion_precision": precision,
        "lesion_recall": recall,
    }
    touching = np.bincount(pieces.of_reference, pieces.predicted[pieces.of_predicted], truths)
    dice = 2 * in_prediction / (pieces.reference + touching)
    bins = np.digitize(pieces.reference * voxel, sizes)
    for number, name in enumerate(SIZES):
        chosen = dice[bins == number]
        result[name] = float(chosen.mean()) if chosen.size else None
    return result
