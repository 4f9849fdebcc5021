"""The centreline Dice of thin structures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

#: In the order they are shown.
SKELETON = ("cldice",)


def cldice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Centreline Dice: the harmonic mean of topology precision and topology sensitivity.

    Shit et al., "clDice - a novel topology-preserving loss function for tubular structure segmentation", CVPR 2021,
    arXiv 2003.07311, with the skeletons of scikit-image (after Zhang and Suen 1984 in 2-D, Lee et al. 1994 in 3-D).
    Skeletons know no spacing.

    Parameters
    ----------
    a, b : ndarray of bool, shape ``*S``, 1-D to 3-D
        Prediction and reference; neither may be empty.

    Returns
    -------
    float
        0 to 1.
    """
    precision = _share_inside(skeleton(a), b)
    sensitivity = _share_inside(skeleton(b), a)
    total = precision + sensitivity
    return 2 * precision * sensitivity / total if total else 0.0


def skeleton(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Skeleton of a mask, of the same shape, with at least one voxel of every connected piece.

    Parameters
    ----------
    mask : ndarray of bool, shape ``*S``, 1-D to 3-D

    Returns
    -------
    ndarray of bool, same shape
    """
    from skimage.morphology import skeletonize  # takes half a second to import, and few ask for it

    if mask.ndim == 1:  # a row is its own centreline
        return mask
    thinning: Callable[[NDArray[np.bool_]], NDArray[np.bool_]] = skeletonize
    # What touches the border of the array would be thinned differently from what lies within.
    thin = thinning(np.pad(mask, 1)).astype(np.bool_)[(slice(1, -1),) * mask.ndim]
    # Lee's thinning wears some small pieces away altogether; a piece without a centreline would go unjudged.
    pieces, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    kept = np.zeros(count + 1, bool)
    kept[pieces[thin]] = True
    whole: NDArray[np.bool_] = thin | (mask & ~kept[pieces])
    return whole


def _share_inside(line: NDArray[np.bool_], mask: NDArray[np.bool_]) -> float:
    return np.count_nonzero(line & mask) / np.count_nonzero(line)
