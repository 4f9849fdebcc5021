"""Voxels within a radius by shifted minima of squared distances: few, wide operations, as a GPU wants them.

On a CPU the bits of `napari_ctxseg.maps.dilation` are quicker: they stay in the cache and take all classes at once. A GPU
spends its time there on starting thousands of short operations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def within(mask: Tensor, reach: Sequence[int], spacing: Sequence[float], limit: float, exact: bool) -> Tensor:
    """Where the squared distance to the nearest voxel of a mask is at most `limit`.

    Axis after axis, the least of "squared distance so far, so many voxels away, plus the square of that way": exact, because
    the squares of the axes add up (as in Felzenszwalb and Huttenlocher 2012, who take the minimum over whole lines).

    Parameters
    ----------
    mask : Tensor of bool, shape ``(..., *S)``
    reach : sequence of int
        How many voxels to look at on either side, one number per spatial axis.
    spacing : sequence of float
        One positive number per spatial axis.
    limit : float
        Squared.
    exact : bool
        Double precision, for a limit so close to a square of the grid that single precision does not tell them apart.

    Returns
    -------
    Tensor of bool, the shape of `mask`
    """
    squares = torch.full(
        mask.shape, torch.inf, dtype=torch.float64 if exact else torch.float32, device=mask.device
    )
    squares.masked_fill_(mask, 0.0)
    return _least(squares, reach, spacing) <= limit


def _least(squares: Tensor, reach: Sequence[int], spacing: Sequence[float]) -> Tensor:
    for axis, (most, step) in enumerate(zip(reach, spacing, strict=True), start=squares.ndim - len(spacing)):
        n = squares.shape[axis]
        near = squares.clone()
        for k in range(1, min(most, n - 1) + 1):
            away = squares + (k * step) ** 2
            for to, since in ((k, 0), (0, k)):
                part = near.narrow(axis, to, n - k)
                torch.minimum(part, away.narrow(axis, since, n - k), out=part)
        squares = near
    return squares
