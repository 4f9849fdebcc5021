"""Weights from the sizes of the classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def class_sizes(target: Tensor, classes: int) -> Tensor:
    """Voxels of each class in each sample, ``(B, *S)`` -> ``(B, C)`` of int64; what is negative is not counted."""
    flat = target.flatten(1)
    return torch.stack([(flat == c).sum(dim=1) for c in range(classes)], dim=1)


def inverse(sizes: Tensor) -> Tensor:
    """One over each size in float32, 0 where there is nothing."""
    return torch.where(sizes > 0, 1.0 / sizes.clamp(min=1), 0.0).float()


def paint(target: Tensor, weights: Tensor) -> Tensor:
    """Each voxel's class weight.

    Parameters
    ----------
    target : Tensor of int64, shape ``(B, *S)``
    weights : Tensor, shape ``(C,)`` or ``(B, C)``

    Returns
    -------
    Tensor, shape ``(B, *S)``
        0 where the target is negative.
    """
    table = weights.expand(len(target), -1)
    picked = table.gather(1, target.clamp(min=0).flatten(1)).view(target.shape)
    return picked * (target >= 0)
