"""Minimum and maximum over a box window, in time that grows with the logarithm of its size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def box_max(values: Tensor, reach: int, outside: int | None = None) -> Tensor:
    """Maximum over the box of ``2 reach + 1`` voxels around each voxel.

    Parameters
    ----------
    values : Tensor, shape ``(B, *S)``
        Of any integer type.
    reach : int
        0 or more, the same along each spatial axis.
    outside : int, optional
        Value of all that lies beyond the image; left out, it does not take part. An axis of one voxel has no beyond.

    Returns
    -------
    Tensor
        Of the same shape and type.
    """
    return _box(values, reach, torch.maximum, _lowest(values) if outside is None else outside)


def box_min(values: Tensor, reach: int, outside: int | None = None) -> Tensor:
    """Minimum over the box, see `box_max`."""
    return _box(values, reach, torch.minimum, torch.iinfo(values.dtype).max if outside is None else outside)


def _lowest(values: Tensor) -> int:
    return torch.iinfo(values.dtype).min


def _box(values: Tensor, reach: int, pick: Callable[[Tensor, Tensor], Tensor], outside: int) -> Tensor:
    if reach == 0:
        return values
    for axis in range(1, values.ndim):
        if values.shape[axis] == 1:  # a volume of one slice is a plane: there is no beyond
            continue
        values = _along(values, axis, reach, pick, outside)
    return values


def _along(
    values: Tensor, axis: int, reach: int, pick: Callable[[Tensor, Tensor], Tensor], outside: int
) -> Tensor:
    """Windows of 1, 2, 4, ... voxels, each from two of half the length; the last two overlap, which does no harm."""
    n = values.shape[axis]
    reach = min(reach, n)  # a wider window sees all of the axis and what is outside, no more
    pad = [0, 0] * (values.ndim - 1 - axis) + [reach, reach]
    row = functional.pad(values, pad, value=outside)
    length, window = 1, 2 * reach + 1
    while length < window:
        step = min(length, window - length)
        rest = row.shape[axis] - step
        row = pick(row.narrow(axis, 0, rest), row.narrow(axis, step, rest))
        length += step
    return row
