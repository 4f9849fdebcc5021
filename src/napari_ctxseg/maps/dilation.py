"""Exact dilation of all classes at once by a disk or ball, in units of the spacing."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from napari_ctxseg.config import Unit

#: Beyond this many rows of the ball a distance transform per class is cheaper.
MOST_ROWS = 1500
#: One bit per class in an int64, the sign bit left alone.
MOST_BITS = 62
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


def dilate_classes(target: Tensor, classes: int, radius: float, spacing: Sequence[float]) -> Tensor:
    """Each class dilated by a ball: where a voxel of the class lies within `radius` (the border included).

    Every voxel of the ball's row decomposition costs one bitwise OR for all classes together, so the cost does not
    depend on their number (up to 62).

    Parameters
    ----------
    target : Tensor of int64, shape ``(B, *S)``
        Class indices; values outside ``0 .. classes - 1`` (IGNORE) belong to no class.
    classes : int
        Number of classes C.
    radius : float
        In the unit of `spacing`, not negative.
    spacing : sequence of float
        One positive number per spatial axis.

    Returns
    -------
    Tensor of bool, shape ``(B, C, *S)``

    Raises
    ------
    ValueError
        If radius or spacing make no sense.
    """
    if not radius >= 0:
        raise ValueError(f"radius must be 0 or more, got {radius}")
    if len(spacing) != target.ndim - 1 or not all(math.isfinite(s) and s > 0 for s in spacing):
        raise ValueError(f"spacing needs {target.ndim - 1} positive numbers, got {tuple(spacing)}")
    if classes > MOST_BITS:
        parts = [
            dilate_classes(target - first, min(MOST_BITS, classes - first), radius, spacing)
            for first in range(0, classes, MOST_BITS)
        ]
        return torch.cat(parts, dim=1)
    shape = target.shape[1:]
    rows = _row_count(shape, radius, spacing)
    if rows > MOST_ROWS and len(shape) == 3:
        return _dilate_by_distance(target, classes, radius, spacing)
    valid = (target >= 0) & (target < classes)
    bits = torch.where(valid, torch.ones_like(target) << target.clamp(0, classes - 1), 0)
    grown = _dilate_bits(bits, radius, spacing)
    index = torch.arange(classes, device=target.device).view(1, -1, *[1] * len(shape))
    return (grown.unsqueeze(1) >> index & 1).bool()


def _row_count(shape: Sequence[int], radius: float, spacing: Sequence[float]) -> int:
    reach = [min(n - 1, int(radius / s * (1 + SLACK))) for n, s in zip(shape[:-1], spacing[:-1], strict=True)]
    return math.prod(2 * r + 1 for r in reach)


def _ball_rows(
    shape: Sequence[int], radius: float, spacing: Sequence[float]
) -> Iterator[tuple[tuple[int, ...], int]]:
    """Rows of the ball: offset along all axes but the last, and half-width along the last."""
    limit = radius * radius * (1 + SLACK)
    reach = [min(n - 1, int(radius / s * (1 + SLACK))) for n, s in zip(shape[:-1], spacing[:-1], strict=True)]
    for offset in itertools.product(*(range(-r, r + 1) for r in reach)):
        rest = limit - sum((o * s) ** 2 for o, s in zip(offset, spacing[:-1], strict=True))
        if rest >= 0:
            yield offset, min(shape[-1] - 1, int(math.sqrt(rest) / spacing[-1] * (1 + SLACK)))


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
    """Bitwise OR over windows along the last axis, each from two windows whose length is a power of two."""

    def __init__(self, bits: Tensor, widest: int) -> None:
        self._n, self._margin = bits.shape[-1], widest
        self._powers = [torch.nn.functional.pad(bits, (widest, widest))]  # [k][x] = OR of x .. x + 2**k - 1

    def centred(self, half: int) -> Tensor:
        """OR over ``x - half .. x + half``; outside the grid there is nothing."""
        k = (2 * half + 1).bit_length() - 1
        while len(self._powers) <= k:
            last, step = self._powers[-1], 1 << (len(self._powers) - 1)
            longer = last.clone()
            longer[..., :-step] |= last[..., step:]
            self._powers.append(longer)
        window, first = self._powers[k], self._margin - half
        second = self._margin + half + 1 - (1 << k)
        return window[..., first : first + self._n] | window[..., second : second + self._n]


def _dilate_by_distance(target: Tensor, classes: int, radius: float, spacing: Sequence[float]) -> Tensor:
    """The same by scipy's exact distance transform, on the CPU."""
    labels = target.cpu().numpy()
    result = np.zeros((labels.shape[0], classes, *labels.shape[1:]), bool)
    for sample, index in itertools.product(range(labels.shape[0]), range(classes)):
        outside = labels[sample] != index
        if not outside.all():
            distance = ndimage.distance_transform_edt(outside, sampling=spacing)
            result[sample, index] = distance <= radius * (1 + SLACK)
    return torch.from_numpy(result).to(target.device)
