"""Weight of narrow gaps between objects (Ronneberger et al., MICCAI 2015, equation 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage

from napari_ctxseg.maps.components import components, grown, placed
from napari_ctxseg.maps.dilation import reach_in_voxels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

#: Beyond so many sigma the term is below 1e-8 of its height, less than float32 resolves beside a weight of 1.
FAR = 6.5


def gap_map(target: Tensor, sigma: float, spacing: Sequence[float]) -> Tensor:
    """``exp(-(d1 + d2)^2 / (2 sigma^2))`` in the background, d1 and d2 to the nearest and second nearest object.

    Objects are the connected pieces of each foreground class. The term belongs to the background between them: within an
    object, and where there are fewer than two objects, it is 0.

    Parameters
    ----------
    target : Tensor of int64, shape ``(B, *S)``
        Class indices, negative where unlabelled.
    sigma : float
        In the unit of `spacing`.
    spacing : sequence of float
        One positive number per spatial axis.

    Returns
    -------
    Tensor of float32, shape ``(B, *S)``
    """
    maps = [_sample(sample, sigma, spacing) for sample in target]
    return torch.from_numpy(np.stack(maps)).to(target.device) if maps else target.float()


def _sample(target: Tensor, sigma: float, spacing: Sequence[float]) -> NDArray[np.float32]:
    shape = tuple(target.shape)
    nearest, second = np.full(shape, np.inf), np.full(shape, np.inf)
    reach = reach_in_voxels(FAR * sigma, spacing, shape)
    for piece in components(target):
        box = grown(piece.box, reach, shape)
        distance = ndimage.distance_transform_edt(~placed(piece, box), sampling=spacing)
        first = nearest[box]
        second[box] = np.minimum(second[box], np.maximum(first, distance))
        nearest[box] = np.minimum(first, distance)
    gap = np.exp(-((nearest + second) ** 2) / (2 * sigma**2))
    return np.where(target.cpu().numpy() == 0, gap, 0).astype(np.float32)
