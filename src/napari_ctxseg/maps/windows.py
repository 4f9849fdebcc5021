"""Minimum and maximum over a box window, in time that grows with the logarithm of its size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from torch import Tensor


class Pick(Protocol):
    """`torch.maximum` or `torch.minimum`."""

    def __call__(self, a: Tensor, b: Tensor, /, *, out: Tensor | None = None) -> Tensor:
        """The larger, or the smaller."""


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
    return _box(values, reach, torch.maximum, outside)


def box_min(values: Tensor, reach: int, outside: int | None = None) -> Tensor:
    """Minimum over the box, see `box_max`."""
    return _box(values, reach, torch.minimum, outside)


def _box(values: Tensor, reach: int, pick: Pick, outside: int | None) -> Tensor:
    for axis in range(1, values.ndim):
        # A volume of one slice is a plane: there is no beyond.
        if reach > 0 and values.shape[axis] > 1:
            values = _along(values, axis, reach, pick, outside)
    return values


def _along(values: Tensor, axis: int, reach: int, pick: Pick, outside: int | None) -> Tensor:
    """Window of `reach` voxels to both sides: the one ahead, joined with the same one `reach` voxels further back."""
    n = values.shape[axis]
    steps = min(reach, n - 1)  # a wider window sees all of the axis, no more
    ahead = _ahead(values, axis, steps + 1, pick)
    result = torch.empty_like(ahead)
    rest = n - steps
    pick(ahead.narrow(axis, steps, rest), ahead.narrow(axis, 0, rest), out=result.narrow(axis, steps, rest))
    # Nearer to the start than the reach, the windows of the first voxel and of this one overlap: together they are all.
    first = ahead.narrow(axis, 0, 1).expand_as(ahead.narrow(axis, 0, steps))
    pick(ahead.narrow(axis, 0, steps), first, out=result.narrow(axis, 0, steps))
    if outside is not None:
        edge = min(reach, n)
        beyond = torch.full((), outside, dtype=values.dtype, device=values.device)
        for part in (result.narrow(axis, 0, edge), result.narrow(axis, n - edge, edge)):
            part.copy_(pick(part, beyond))
    return result


def _ahead(values: Tensor, axis: int, length: int, pick: Pick) -> Tensor:
    """Window of `length` voxels that starts at each one, ending with the axis; each from two of half the length.

    The last two overlap, which does no harm.
    """
    n, window = values.shape[axis], 1
    while window < length:
        step = min(window, length - window)
        wider = torch.empty_like(values)
        pick(
            values.narrow(axis, 0, n - step),
            values.narrow(axis, step, n - step),
            out=wider.narrow(axis, 0, n - step),
        )
        wider.narrow(axis, n - step, step).copy_(values.narrow(axis, n - step, step))
        values, window = wider, window + step
    return values
