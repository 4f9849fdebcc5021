"""Squared Euclidean distances to one object: fast where only a short reach or a small object matters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_ctxseg.maps.components import Slices

#: Beyond so many sigma a bell is below 1e-9 of its height, less than float32 resolves beside a weight of 1: it is cut.
FAR = 6.5
#: Voxels that are worked on at a time: they stay in the cache.
CHUNK = 1 << 16
#: Largest reach, in the smallest steps of the grid, whose squares fit into 16 bits along with those of three axes.
MOST_STEPS = 127
#: Rows compared per voxel beyond which a transform in linear time is cheaper; 16 bits are twice as fast as 32.
MOST_ROWS = {2: 80, 4: 40}


def maurer(mask: NDArray[np.bool_], spacing: Sequence[float]) -> tuple[NDArray[np.float32], object]:
    """Squared distances to a mask by Maurer's transform, in float32; what it gives inside the mask means nothing.

    The array is a view that must not outlive the second result, its owner: a copy would cost as much memory again.
    """
    import SimpleITK  # slow to import, and not always needed

    sitk: Any = SimpleITK  # it has no types
    image = sitk.GetImageFromArray(np.ascontiguousarray(mask).view(np.uint8))
    image.SetSpacing([float(step) for step in reversed(spacing)])
    distance = sitk.SignedMaurerDistanceMapImageFilter()
    distance.SetSquaredDistance(True)
    distance.SetUseImageSpacing(True)
    distance.SetNumberOfThreads(torch.get_num_threads())
    squares = distance.Execute(image)
    return sitk.GetArrayViewFromImage(squares), squares


def bell(distances: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """``exp(-d^2 / (2 sigma^2))``, 0 beyond `FAR` sigma."""
    near = distances <= FAR * sigma
    exponent = distances * np.float32(1 / max(sigma, 1e-30))
    np.square(exponent, out=exponent)
    exponent *= np.float32(-0.5)
    height = np.zeros_like(distances)
    np.exp(exponent, out=height, where=near)
    return height


@dataclass(frozen=True)
class Ruler:
    """Measures squared distances up to a reach: whole numbers of 16 bits where the spacing allows it, else float32.

    Attributes
    ----------
    steps : tuple of float
        Size of a voxel along each axis, in units of `unit`.
    unit : float
        What one step is in the unit of the spacing.
    reach : tuple of int
        How far to look along each axis, in voxels.
    whole : bool
        Whether 16 bits do.
    """

    steps: tuple[float, ...]
    unit: float
    reach: tuple[int, ...]
    whole: bool

    @staticmethod
    def up_to(reach: float, spacing: Sequence[float]) -> Ruler:
        """Ruler for distances up to `reach`; both in the same unit."""
        unit = min(spacing)
        steps = tuple(s / unit for s in spacing)
        whole = all(abs(s - round(s)) < 1e-9 for s in steps) and reach / unit < MOST_STEPS
        if whole:
            steps = tuple(float(round(s)) for s in steps)
        voxels = tuple(math.ceil(min(reach / s, 1e9)) for s in spacing)
        if whole:  # rounded up, a coarse axis could reach too far for 16 bits
            voxels = tuple(min(v, int(MOST_STEPS / s)) for v, s in zip(voxels, steps, strict=True))
        return Ruler(steps, unit, voxels, whole)

    @property
    def nothing(self) -> float:
        """Square that stands for: nothing within reach. With whole numbers it lies far beyond the reach."""
        return (1 << 15) - 1 if self.whole else math.inf

    def empty(self, shape: Sequence[int]) -> NDArray[Any]:
        """Squares where there is no object."""
        return np.full(shape, self.nothing, np.uint16 if self.whole else np.float32)

    def distances(self, squares: NDArray[Any]) -> NDArray[np.float32]:
        """Distances in the unit of the spacing."""
        distances: NDArray[np.float32] = np.sqrt(squares, dtype=np.float32)
        distances *= np.float32(self.unit)
        return distances

    def squares(self, mask: NDArray[np.bool_], place: Slices, shape: Sequence[int]) -> NDArray[Any]:
        """Squared distances to a mask that lies at `place` in a grid.

        Parameters
        ----------
        mask : array of bool
            An object, not empty.
        place : tuple of slice
            Where the mask lies.
        shape : sequence of int
            Of the grid.

        Returns
        -------
        array
            In squared steps: exact up to the reach, at least as large as the reach beyond it.
        """
        if self._rows(mask.shape, shape) > MOST_ROWS[2 if self.whole else 4]:
            return self._transform(mask, place, shape)
        squares = self._along_rows(mask, place[-1].start, shape[-1])
        for axis in reversed(range(len(shape) - 1)):
            lines = np.moveaxis(squares, axis, 0)
            spread = self._spread(lines.reshape(len(lines), -1), axis, place[axis].start, shape[axis])
            squares = np.moveaxis(spread.reshape(shape[axis], *lines.shape[1:]), 0, axis)
        return squares

    def _rows(self, mask: Sequence[int], shape: Sequence[int]) -> float:
        """Rows that are compared per voxel of the grid."""
        rows, share = 0.0, 1.0
        for m, n, reach in zip(mask[:-1], shape[:-1], self.reach[:-1], strict=True):
            rows += share * m * min(1.0, (2 * reach + 1) / n)
            share *= m / n
        return rows

    def _along_rows(self, mask: NDArray[np.bool_], start: int, n: int) -> NDArray[Any]:
        """Squares along the last axis alone."""
        far = 2 * n + 1
        here = np.arange(n, dtype=np.int32)
        before = np.full((*mask.shape[:-1], n), -far, np.int32)
        after = np.full(before.shape, 2 * far, np.int32)
        inside = slice(start, start + mask.shape[-1])
        np.copyto(before[..., inside], here[inside], where=mask)
        np.copyto(after[..., inside], here[inside], where=mask)
        np.maximum.accumulate(before, axis=-1, out=before)
        backwards = after[..., ::-1]
        np.minimum.accumulate(backwards, axis=-1, out=backwards)
        np.subtract(here, before, out=before)
        np.subtract(after, here, out=after)
        reach = min(self.reach[-1], n - 1)
        steps = np.minimum(np.minimum(before, after, out=before), reach + 1, out=before)
        table = self.empty((reach + 2,))
        table[: reach + 1] = (np.arange(reach + 1) * self.steps[-1]) ** 2
        return np.asarray(table[steps])

    def _spread(self, lines: NDArray[Any], axis: int, first: int, n: int) -> NDArray[Any]:
        """The least of each column's squares plus that of the step to it; columns of m lines become columns of n."""
        m, columns = lines.shape
        reach = min(self.reach[axis], n - 1)
        table = ((np.arange(-reach, reach + 1) * self.steps[axis]) ** 2).astype(lines.dtype)[:, None]
        result = np.empty((n, columns), lines.dtype)
        meetings = list(_meetings(m, first, n, reach))
        width = max(1, CHUNK // n)
        least, sums = self.empty((n, min(width, columns))), np.empty((n, min(width, columns)), lines.dtype)
        for start in range(0, columns, width):
            chunk = lines[:, start : start + width]
            block = least[:, : chunk.shape[1]]
            block.fill(self.nothing)
            for source, goal, steps in meetings:
                total = np.add(chunk[source], table[steps], out=sums[goal, : chunk.shape[1]])
                np.minimum(block[goal], total, out=block[goal])
            result[:, start : start + width] = block
        return result

    def _transform(self, mask: NDArray[np.bool_], place: Slices, shape: Sequence[int]) -> NDArray[Any]:
        """The same in linear time."""
        there = np.zeros(shape, bool)
        there[place] = mask
        if len(shape) == 2:
            squares = np.asarray(ndimage.distance_transform_edt(~there, sampling=self.steps)) ** 2
        else:
            view, _owner = maurer(there, self.steps)
            squares = np.where(there, 0, view)
        if self.whole:
            np.minimum(np.rint(squares, out=squares), self.nothing, out=squares)
        return squares.astype(np.uint16 if self.whole else np.float32)


def _meetings(m: int, first: int, n: int, reach: int) -> Iterator[tuple[slice, slice, slice]]:
    """Which of m lines, the first of them at `first`, reach which of n, and by which of the steps from -reach to reach.

    Line by line or step by step, whichever takes fewer turns.
    """
    if m <= 2 * reach + 1:
        for row in range(m):
            at = first + row
            low, high = max(at - reach, 0), min(at + reach + 1, n)
            yield slice(row, row + 1), slice(low, high), slice(low - at + reach, high - at + reach)
        return
    for step in range(-reach, reach + 1):
        low, high = max(first + step, 0), min(first + step + m, n)
        if low < high:
            yield (
                slice(low - first - step, high - first - step),
                slice(low, high),
                slice(step + reach, step + reach + 1),
            )
