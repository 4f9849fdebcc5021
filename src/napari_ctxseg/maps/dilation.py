"""Exact dilation of all classes at once by a disk or ball, in units of the spacing."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import torch
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from napari_ctxseg.config import Unit

#: Beyond this many rows of the ball a distance transform per class is cheaper.
MOST_ROWS = 1500
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
    if not radius >= 0:
        raise ValueError(f"radius must be 0 or more, got {radius}")
    if len(spacing) != target.ndim - 1 or not all(math.isfinite(s) and s > 0 for s in spacing):
        raise ValueError(f"spacing needs {target.ndim - 1} positive numbers, got {tuple(spacing)}")
    shape = target.shape[1:]
    reach = reach_in_voxels(radius, spacing, shape)
    if len(shape) == 3 and math.prod(2 * r + 1 for r in reach[:-1]) > MOST_ROWS:
        for index in range(classes):
            yield index, _by_distance(target == index, radius, spacing)
        return
    for first in range(0, classes, MOST_BITS):
        count = min(MOST_BITS, classes - first)
        grown = _dilate_bits(_as_bits(target, first, count), radius, spacing)
        for bit in range(count):
            yield first + bit, (grown & _bit(bit, grown.dtype)) != 0


def dilate_classes(target: Tensor, classes: int, radius: float, spacing: Sequence[float]) -> Tensor:
    """All masks of `dilated_masks` in one tensor of bool, shape ``(B, C, *S)``."""
    result = torch.empty((len(target), classes, *target.shape[1:]), dtype=torch.bool, device=target.device)
    for index, mask in dilated_masks(target, classes, radius, spacing):
        result[:, index] = mask
    return result


def dilate(mask: Tensor, radius: float, spacing: Sequence[float]) -> Tensor:
    """One mask of bool, shape ``(B, *S)``, dilated by a ball."""
    return next(dilated_masks(mask.to(torch.int8) - 1, 1, radius, spacing))[1]


def _bit(number: int, dtype: torch.dtype) -> int:
    """The integer with one bit set, in two's complement: the last bit of a signed type is its sign."""
    info = torch.iinfo(dtype)
    return 1 << number if 1 << number <= info.max else info.min


def _as_bits(target: Tensor, first: int, count: int) -> Tensor:
    """One bit per class in the narrowest integer that has room; 0 where there is none of these classes."""
    dtype = _TYPES[next(width for width in _TYPES if count <= width)]
    bits = torch.zeros(target.shape, dtype=dtype, device=target.device)
    for bit in range(count):
        bits.masked_fill_(target == first + bit, _bit(bit, dtype))
    return bits


def _ball_rows(
    shape: Sequence[int], radius: float, spacing: Sequence[float]
) -> Iterator[tuple[tuple[int, ...], int]]:
    """Rows of the ball: offset along all axes but the last, and half-width along the last."""
    limit = radius * radius * (1 + SLACK)
    reach = reach_in_voxels(radius, spacing, shape)[:-1]
    for offset in itertools.product(*(range(-r, r + 1) for r in reach)):
        rest = limit - sum((o * s) ** 2 for o, s in zip(offset, spacing[:-1], strict=True))
        if rest >= 0:
            half = math.sqrt(rest) / spacing[-1] * (1 + SLACK)
            yield offset, min(shape[-1] - 1, int(min(half, shape[-1])))


def _dilate_bits(bits: Tensor, radius: float, spacing: Sequence[float]) -> Tensor:
    shape = bits.shape[1:]
    # Rows of equal width share one window.
    rows = sorted(_ball_rows(shape, radius, spacing), key=lambda row: row[1])
    windows = _RowWindows(bits, rows[-1][1])
    result = torch.zeros_like(bits)
    for half, group in itertools.groupby(rows, key=lambda row: row[1]):
        row = windows.centred(half)
        for offset, _ in group:
            to, frm = _overlap(shape, offset)
            result[to] |= row[frm]
    return result


def _overlap(shape: Sequence[int], offset: Sequence[int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Index pairs such that ``a[to] |= b[frm]`` shifts b by the offset and drops what leaves the grid."""
    to, frm = [slice(None)], [slice(None)]
    for n, o in zip(shape, offset, strict=False):
        to.append(slice(max(o, 0), n + min(o, 0)))
        frm.append(slice(max(-o, 0), n - max(o, 0)))
    return tuple(to), tuple(frm)


class _RowWindows:
    """Bitwise OR over windows along the last axis, each from two windows whose length is a power of two.

    Widths must not fall from one call to the next: only the longest power is kept.
    """

    def __init__(self, bits: Tensor, widest: int) -> None:
        self._n, self._margin, self._length = bits.shape[-1], widest, 1
        self._window = torch.nn.functional.pad(bits, (widest, widest))  # [x] = OR of x .. x + length - 1

    def centred(self, half: int) -> Tensor:
        """OR over ``x - half .. x + half``; outside the grid there is nothing."""
        while 2 * self._length <= 2 * half + 1:
            # Shrinks by `length`: what falls off at the end has no full window and is never asked for.
            self._window = self._window[..., : -self._length] | self._window[..., self._length :]
            self._length *= 2
        first, second = self._margin - half, self._margin + half + 1 - self._length
        window = self._window
        return window[..., first : first + self._n] | window[..., second : second + self._n]


def _by_distance(mask: Tensor, radius: float, spacing: Sequence[float]) -> Tensor:
    """The same for one class by scipy's exact distance transform, on the CPU, within reach of the class."""
    inside = mask.cpu().numpy()
    result = torch.zeros(mask.shape, dtype=torch.bool)
    reach = reach_in_voxels(radius, spacing, mask.shape[1:])
    for sample, one in enumerate(inside):
        found = ndimage.find_objects(one.astype("u1"))
        if not found:
            continue
        crop = tuple(
            slice(max(s.start - r, 0), min(s.stop + r, n))
            for s, r, n in zip(found[0], reach, one.shape, strict=True)
        )
        distance = ndimage.distance_transform_edt(~one[crop], sampling=spacing)
        result[sample][crop] = torch.from_numpy(distance <= radius * (1 + SLACK))
    return result.to(mask.device)
