"""Distances between the boundaries of two masks. Two searches serve every measure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: In the order they are shown.
SURFACE = ("hausdorff", "hd95", "assd", "mssd", "surface_dice")


def boundary(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Voxels of a mask with a face neighbour outside it; beyond the array everything is outside.

    Parameters
    ----------
    mask : ndarray of bool, any number of axes

    Returns
    -------
    ndarray of bool, same shape
    """
    # Shifted views of a padded copy: nine times as fast as scipy's binary erosion.
    padded = np.pad(mask, 1)
    middle = slice(1, -1)
    inner = mask.copy()
    for axis in range(mask.ndim):
        for start in (0, 2):
            place = [middle] * mask.ndim
            place[axis] = slice(start, start + mask.shape[axis])
            inner &= padded[tuple(place)]
    return mask & ~inner


def surface_distances(
    a: NDArray[np.bool_], b: NDArray[np.bool_], spacing: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distance of every boundary voxel to the nearest boundary voxel of the other mask.

    Parameters
    ----------
    a, b : ndarray of bool, shape ``*S``
        Neither may be empty.
    spacing : sequence of float
        One number per axis of `S`.

    Returns
    -------
    tuple of two ndarray
        From `a` to `b` and from `b` to `a`, in the unit of `spacing`, in no particular order.
    """
    # k-d trees of the boundaries: scipy's distance transform takes 6 to 10 times as long on balls of radius 60 to
    # 100, SimpleITK's 3 to 4 times (40 times on scattered specks), and both need the whole crop in memory.
    edges = boundary(a), boundary(b)
    points = [np.argwhere(edge) * np.asarray(spacing, float) for edge in edges]
    trees = [cKDTree(places, leafsize=32, balanced_tree=False) for places in points]
    shared = edges[0] & edges[1]
    found = []
    for edge, places, other in zip(edges, points, reversed(trees), strict=True):
        distances = np.zeros(len(places))
        away = ~shared[edge]  # good predictions share much of the boundary: nothing to search there
        distances[away] = other.query(places[away])[0]
        found.append(distances)
    return found[0], found[1]


def surface_measures(
    there: NDArray[np.float64], back: NDArray[np.float64], tolerance: float
) -> dict[str, float | None]:
    """Measures of the group ``surface`` from the distances in both directions.

    Parameters
    ----------
    there, back : ndarray
        As `surface_distances` gives them.
    tolerance : float
        Of the surface Dice, in the unit of the distances.

    Returns
    -------
    dict of str to float
        All of `SURFACE`.
    """
    # Rounding of coordinates times spacing must not decide whether a voxel at the tolerance counts.
    limit = tolerance * (1 + 1e-9)
    within = int(np.count_nonzero(there <= limit)) + int(np.count_nonzero(back <= limit))
    count = there.size + back.size
    furthest = max(float(there.max()), float(back.max()))
    return {
        "hausdorff": furthest,
        "hd95": max(float(np.percentile(there, 95)), float(np.percentile(back, 95))),
        "assd": float(there.sum() + back.sum()) / count,
        "mssd": furthest,
        "surface_dice": within / count,
    }
