"""Exact dilation of all classes at once by a disk or ball, in units of the spacing."""

from __future__ import annotations

import math
import sys
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage

from napari_ctxseg.maps.euclidean import maurer
from napari_ctxseg.maps.minima import within
from napari_ctxseg.maps.windows import box_max

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_ctxseg.config import Unit

#: Beyond this many rows of the ball for each class, a distance transform per class is cheaper (benchmarks/maps.py).
MOST_ROWS = 250
#: Voxels that are worked on at a time: with their row windows they stay in the cache.
CHUNK = 1 << 18
#: Squared distances that a GPU works on at a time: three tensors of so many single-precision numbers.
MOST_SQUARES = 1 << 25
#: Bits of the widest integer: more classes are done in portions.
MOST_BITS = 64
_TYPES = {8: torch.uint8, 16: torch.int16, 32: torch.int32, 64: torch.int64}
#: Squared distances are compared with this relative slack, so that r = 3 x 0.1 reaches what 0.3 reaches.
SLACK = 1e-9


def radius_in_world(radius: float, unit: Unit, shape: Sequence[int], spacing: Sequence[float]) -> float:
    """Radius in the unit of the spacing.

    Parameters
    ----------
    radius : float
        In `unit`.
    unit : str
        ``"world"``; ``"px"``, voxels of the finest in-plane axis; ``"fraction"``, of the shorter in-plane side.
    shape, spacing : sequence
        One number per spatial axis; the last two axes are the plane.
    """
    if unit == "px":
        return radius * min(spacing[-2:])
    if unit == "fraction":
        return radius * min(n * s for n, s in zip(shape[-2:], spacing[-2:], strict=True))
    return radius


def reach_in_voxels(radius: float, spacing: Sequence[float], shape: Sequence[int]) -> tuple[int, ...]:
    """How many voxels a radius reaches along each axis, at most across the image."""
    return tuple(
        min(n - 1, int(min(radius / s * (1 + SLACK), n))) for n, s in zip(shape, spacing, strict=True)
    )


def dilated_masks(
    target: Tensor, classes: int, radius: float, spacing: Sequence[float]
) -> Iterator[tuple[int, Tensor]]:
    """Each class dilated by a ball: where a voxel of the class lies within `radius` (the border included).

    Every row of the ball costs one bitwise OR for all classes together, so the cost hardly depends on their number.

    Parameters
    ----------
    target : Tensor of integers, shape ``(B, *S)``
        Class indices; values outside ``0 .. classes - 1`` (IGNORE) belong to no class.
    classes : int
        Number of classes C.
    radius : float
        In the unit of `spacing`, not negative.
    spacing : sequence of float
        One positive number per spatial axis.

    Yields
    ------
    index : int
        Of the class.
    mask : Tensor of bool, shape ``(B, *S)``

    Raises
    ------
    ValueError
        If radius or spacing make no sense.
    """
    for index, part in _dilated_parts(target, classes, radius, spacing):
        yield index, part != 0


def _dilated_parts(
    target: Tensor, classes: int, radius: float, spacing: Sequence[float]
) -> Iterator[tuple[int, Tensor]]:
    """The same, as tensors that are not 0 where the dilated class is."""
    if not radius >= 0:
        raise ValueError(f"radius must be 0 or more, got {radius}")
    if len(spacing) != target.ndim - 1 or not all(math.isfinite(s) and s > 0 for s in spacing):
        raise ValueError(f"spacing needs {target.ndim - 1} positive numbers, got {tuple(spacing)}")
    if target.is_cuda:
        yield from _by_minima(target, classes, radius, spacing)
        return
    if _too_many_rows(target.shape[1:], classes, radius, spacing):
        for index in range(classes):
            yield index, _by_distance(target == index, radius, spacing)
        return
    for first in range(0, classes, MOST_BITS):
        count = min(MOST_BITS, classes - first)
        grown = _dilate_bits(target, first, count, radius, spacing)
        for byte in range(0, count, 8):  # a byte at a time: narrow integers are quicker to take apart
            eight = _byte(grown, byte // 8)
            for bit in range(min(8, count - byte)):
                yield first + byte + bit, eight & (1 << bit)


def _too_many_rows(shape: Sequence[int], classes: int, radius: float, spacing: Sequence[float]) -> bool:
    if len(shape) == 2:
        return False
    rows = sum(2 * len(halves) - 1 for _, halves in _half_widths(shape, radius, spacing))
    return rows > MOST_ROWS * classes


def dilate_classes(target: Tensor, classes: int, radius: float, spacing: Sequence[float]) -> Tensor:
    """All masks of `dilated_masks` in one tensor of bool, shape ``(B, C, *S)``."""
    result = torch.empty((len(target), classes, *target.shape[1:]), dtype=torch.bool, device=target.device)
    for index, part in _dilated_parts(target, classes, radius, spacing):
        torch.ne(part, 0, out=result[:, index])
    return result


def dilate(mask: Tensor, radius: float, spacing: Sequence[float]) -> Tensor:
    """One mask of bool, shape ``(B, *S)``, dilated by a ball."""
    return next(dilated_masks(mask.to(torch.int8) - 1, 1, radius, spacing))[1]


def _bit(number: int, dtype: torch.dtype) -> int:
    """The integer with one bit set, in two's complement: the last bit of a signed type is its sign."""
    info = torch.iinfo(dtype)
    return 1 << number if 1 << number <= info.max else info.min


def _byte(bits: Tensor, number: int) -> Tensor:
    """One byte of each integer, the lowest is 0; without the wide copy that a shift would take."""
    width = bits.element_size()
    place = number if sys.byteorder == "little" else width - 1 - number
    return bits.contiguous().view(torch.uint8)[..., place::width].contiguous()


def _as_bits(target: Tensor, first: int, count: int) -> Tensor:
    """One bit per class in the narrowest integer that has room; 0 where there is none of these classes."""
    dtype = _TYPES[next(width for width in _TYPES if count <= width)]
    bits = [0, *(_bit(bit, dtype) for bit in range(count)), 0]
    table = torch.tensor(bits, dtype=dtype, device=target.device)
    place = (target.to(torch.int32) - (first - 1)).clamp_(0, count + 1)
    return table.index_select(0, place.flatten()).view(target.shape)


def _half_widths(
    shape: Sequence[int], radius: float, spacing: Sequence[float]
) -> Iterator[tuple[int, dict[int, int]]]:
    """The ball in slices: offset along the first axis, and in that slice the half-width of each row of the ball.

    Only offsets of 0 and more: the ball is symmetric. In a plane a slice is one row, of offset 0.
    """
    limit = radius * radius * (1 + SLACK)
    reach = reach_in_voxels(radius, spacing, shape)
    rows = range(reach[1] + 1) if len(shape) == 3 else (0,)
    for outer in range(reach[0] + 1):
        halves = {}
        for row in rows:
            rest = limit - (outer * spacing[0]) ** 2 - (row * spacing[1]) ** 2 * (len(shape) == 3)
            if rest >= 0:
                half = math.sqrt(rest) / spacing[-1] * (1 + SLACK)
                halves[row] = min(shape[-1] - 1, int(min(half, shape[-1])))
        if halves:
            yield outer, halves


def _dilate_bits(target: Tensor, first: int, count: int, radius: float, spacing: Sequence[float]) -> Tensor:
    """Dilated classes as bits.

    Some slices at a time: the rows of each slice of the ball are joined, and the result is added to the slices that lie
    so far above and below.
    """
    shape = target.shape[1:]
    ball = list(_half_widths(shape, radius, spacing))
    at_once = max(1, CHUNK // max(1, len(target) * math.prod(shape[1:])))
    result = _as_bits(target[:0], first, count).new_zeros(target.shape)
    for start in range(0, shape[0], at_once):
        bits = _as_bits(target[:, start : start + at_once], first, count)
        if not bool(bits.any()):
            continue
        windows = _RowWindows(bits, max(half for _, halves in ball for half in halves.values()))
        slab = torch.zeros_like(bits)
        joined: dict[int, int] = {}
        # From the cap of the ball to its middle: each slice contains the one before, so that only wider rows are new.
        for outer, halves in reversed(ball):
            for row, half in halves.items():
                if joined.get(row, -1) < half:
                    _join(slab, windows.centred(half), row)
            joined = halves
            for offset in {outer, -outer}:
                low, high = max(start + offset, 0), min(start + offset + bits.shape[1], shape[0])
                if low < high:
                    result[:, low:high] |= slab[:, low - start - offset : high - start - offset]
    return result


def _join(slab: Tensor, window: Tensor, row: int) -> None:
    """Add a row of the ball on both sides: the windows, shifted along the axis before the last."""
    if row == 0:
        slab |= window
        return
    n = slab.shape[-2]
    slab[..., row:, :] |= window[..., : n - row, :]
    slab[..., : n - row, :] |= window[..., row:, :]


class _RowWindows:
    """Bitwise OR over windows along the last axis, each from two windows whose length is a power of two."""

    def __init__(self, bits: Tensor, widest: int) -> None:
        self._n, self._margin = bits.shape[-1], widest
        padded = bits.new_zeros((*bits.shape[:-1], self._n + 2 * widest))
        padded[..., widest : widest + self._n] = bits
        self._powers = [padded]  # [k][x] = OR of x .. x + 2**k - 1
        self._centred = {0: bits}

    def centred(self, half: int) -> Tensor:
        """OR over ``x - half .. x + half``; outside the grid there is nothing."""
        if half not in self._centred:
            k = (2 * half + 1).bit_length() - 1
            while len(self._powers) <= k:
                last, step = self._powers[-1], 1 << (len(self._powers) - 1)
                # Shorter by `step`: what falls off at the end has no full window and is never asked for.
                self._powers.append(last[..., :-step] | last[..., step:])
            window, first = self._powers[k], self._margin - half
            second = self._margin + half + 1 - (1 << k)
            self._centred[half] = (
                window[..., first : first + self._n] | window[..., second : second + self._n]
            )
        return self._centred[half]


def _by_minima(
    target: Tensor, classes: int, radius: float, spacing: Sequence[float]
) -> Iterator[tuple[int, Tensor]]:
    """Dilated classes on a GPU, as many at a time as `MOST_SQUARES` allows."""
    shape = target.shape[1:]
    reach = reach_in_voxels(radius, spacing, shape)
    limit = _between_distances(tuple(shape), radius, tuple(spacing))
    squared = radius * radius * (1 + SLACK) if limit is None else limit
    at_once = max(1, MOST_SQUARES // max(1, target.numel()))
    for first in range(0, classes, at_once):
        numbers = torch.arange(first, min(first + at_once, classes), device=target.device)
        masks = target == numbers.view(-1, *[1] * target.ndim)
        yield from enumerate(within(masks, reach, spacing, squared, exact=limit is None), start=first)


def _by_distance(mask: Tensor, radius: float, spacing: Sequence[float]) -> Tensor:
    """The same for one class by an exact distance transform, on the CPU, within reach of the class."""
    inside = mask.cpu().numpy()
    result = torch.zeros(mask.shape, dtype=torch.bool)
    reach = reach_in_voxels(radius, spacing, mask.shape[1:])
    for sample, one in enumerate(inside):
        found = ndimage.find_objects(one.astype("u1"))
        if found:
            crop = tuple(
                slice(max(s.start - r, 0), min(s.stop + r, n))
                for s, r, n in zip(found[0], reach, one.shape, strict=True)
            )
            result[sample][crop] = torch.from_numpy(_within(one[crop], radius, spacing))
    return result.to(mask.device)


def _within(mask: NDArray[np.bool_], radius: float, spacing: Sequence[float]) -> NDArray[np.bool_]:
    """Voxels within a radius of a mask that is not empty."""
    # Where the class is everywhere, as background is, a cube inside the ball reaches all: far quicker to see.
    half = min(reach_in_voxels(radius / math.sqrt(mask.ndim), spacing, [1 << 30] * mask.ndim))
    if bool(box_max(torch.from_numpy(mask.view(np.uint8))[None], min(half, max(mask.shape))).all()):
        return np.ones_like(mask)
    limit = _between_distances(mask.shape, radius, tuple(spacing))
    if limit is None:
        return np.asarray(ndimage.distance_transform_edt(~mask, sampling=spacing) <= radius * (1 + SLACK))
    squares, _owner = maurer(mask, spacing)
    near: NDArray[np.bool_] = squares <= limit
    near |= mask
    return near


@lru_cache(maxsize=64)  # the same for every batch of a training
def _between_distances(shape: tuple[int, ...], radius: float, spacing: tuple[float, ...]) -> float | None:
    """A number between the last squared distance of the grid that counts and the first that does not.

    The fast transform rounds to float32; with a limit between two distances that it can tell apart it is exact. None
    where they lie too close together.
    """
    squares = np.zeros(1)
    for n, step in zip(shape, spacing, strict=True):
        most = min(n - 1, int(min(radius / step, n)) + 1)
        squares = np.unique(squares[:, None] + (np.arange(most + 1) * step) ** 2)
    counts = squares <= radius * radius * (1 + SLACK)
    last, rest = squares[counts].max(), squares[~counts]
    first = rest.min() if len(rest) else 2 * last + 1
    return float((last + first) / 2) if first - last > 1e-5 * first else None
