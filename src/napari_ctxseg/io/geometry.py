"""Turning a file's grid to the nearest LPS orientation, and back: permuted and flipped, never resampled."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def nearest_lps(affine: NDArray[np.float64]) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Find the axis permutation and flips that bring a grid closest to LPS.

    Parameters
    ----------
    affine : ndarray, shape (n + 1, n + 1)
        Maps a file index ``(i, j, k, 1)`` to LPS ``(x, y, z, 1)``; n is 2 or 3, columns independent.

    Returns
    -------
    order : tuple of int
        File axis behind each array axis, array axes being ``(z, y, x)`` or ``(y, x)``.
    flips : tuple of bool
        Whether that array axis runs against its world axis in the file.
    """
    n = affine.shape[0] - 1
    steps = affine[:n, :n]
    cosines = steps / np.linalg.norm(steps, axis=0)
    # The first of equal choices wins, so a grid at exactly 45 degrees is turned the same way each time.
    best = max(permutations(range(n)), key=lambda axes: sum(abs(cosines[w, f]) for w, f in enumerate(axes)))
    order = tuple(reversed(best))
    flips = tuple(bool(cosines[n - 1 - a, f] < 0) for a, f in enumerate(order))
    return order, flips


def plain_order(n: int) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Order and flips of a grid without an orientation: x-fastest file axes, reversed.

    Parameters
    ----------
    n : int
        Number of spatial axes.
    """
    return tuple(reversed(range(n))), (False,) * n


def turn(array: NDArray[Any], order: tuple[int, ...], flips: tuple[bool, ...]) -> NDArray[Any]:
    """Turn a file's array, shape in file order, into the array order; a view.

    Parameters
    ----------
    array : ndarray
        Its last ``len(order)`` axes are the file's spatial axes; axes before them stay.
    order, flips : tuple
        From `nearest_lps`.
    """
    lead = array.ndim - len(order)
    turned = array.transpose(*range(lead), *(lead + axis for axis in order))
    return turned[(..., *(slice(None, None, -1) if flip else slice(None) for flip in flips))]


def turn_back(array: NDArray[Any], order: tuple[int, ...], flips: tuple[bool, ...]) -> NDArray[Any]:
    """Undo `turn`; a view.

    Parameters
    ----------
    array : ndarray
        Its last ``len(order)`` axes are the array's spatial axes.
    order, flips : tuple
        As given to `turn`.
    """
    lead = array.ndim - len(order)
    unflipped = array[(..., *(slice(None, None, -1) if flip else slice(None) for flip in flips))]
    return unflipped.transpose(*range(lead), *(lead + axis for axis in np.argsort(order)))


def turned_affine(
    affine: NDArray[np.float64], shape: tuple[int, ...], order: tuple[int, ...], flips: tuple[bool, ...]
) -> NDArray[np.float64]:
    """Affine of the turned array.

    Parameters
    ----------
    affine : ndarray, shape (n + 1, n + 1)
        File index to LPS ``(x, y, z)``.
    shape : tuple of int
        Spatial shape in file order.
    order, flips : tuple
        From `nearest_lps`.

    Returns
    -------
    ndarray, shape (n + 1, n + 1)
        Array index ``(z, y, x, 1)`` to LPS ``(z, y, x, 1)``, in the unit of `affine`.
    """
    n = len(order)
    to_file = np.zeros((n + 1, n + 1))
    to_file[n, n] = 1.0
    for axis, (source, flip) in enumerate(zip(order, flips, strict=True)):
        to_file[source, axis] = -1.0 if flip else 1.0
        to_file[source, n] = shape[source] - 1 if flip else 0.0
    return reverse_world(affine) @ to_file


def reverse_world(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Swap the order of the world coordinates: ``(x, y, z)`` to ``(z, y, x)`` or back.

    Parameters
    ----------
    affine : ndarray, shape (n + 1, n + 1)
        Only its rows are reordered.
    """
    n = affine.shape[0] - 1
    swapped: NDArray[np.float64] = affine[[*reversed(range(n)), n]].astype(float)
    return swapped


def reverse_axes(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn a ``(z, y, x)`` affine into the ``(x, y, z)`` one of the transposed array, or back.

    Parameters
    ----------
    affine : ndarray, shape (n + 1, n + 1)
        Index to world, both in the same order.
    """
    n = affine.shape[0] - 1
    swapped: NDArray[np.float64] = reverse_world(affine)[:, [*reversed(range(n)), n]]
    return swapped


def flip_lps_ras(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Change the world of a 3-D affine in ``(x, y, z)`` order from RAS to LPS or back."""
    flipped: NDArray[np.float64] = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    return flipped


def steps_of(affine: NDArray[np.float64]) -> tuple[float, ...]:
    """Length of one step along each index axis."""
    n = affine.shape[0] - 1
    return tuple(float(step) for step in np.linalg.norm(affine[:n, :n], axis=0))


def usable(affine: NDArray[np.float64]) -> bool:
    """Whether an affine is finite and its axes are independent."""
    n = affine.shape[0] - 1
    if not np.isfinite(affine).all():
        return False
    steps = np.linalg.norm(affine[:n, :n], axis=0)
    # Relative to the step sizes: a determinant of 1e-9 is fine for a grid in metres.
    return bool((steps > 0).all() and abs(np.linalg.det(affine[:n, :n] / steps)) > 1e-4)
