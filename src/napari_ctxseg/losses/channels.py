"""Channels that do not exclude each other: each is a problem of two classes, outside and inside, of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from napari_ctxseg.image import IGNORE
from napari_ctxseg.losses.base import Logits, Loss, SpatialLoss, check_range, check_target, spacing_of
from napari_ctxseg.losses.combined import SumLoss
from napari_ctxseg.maps.members import region_masks

if TYPE_CHECKING:
    from collections.abc import Sequence


def two_classes(z: Tensor) -> Tensor:
    """Logits ``(B, 2, *S)`` whose softmax is the sigmoid of `z`, shape ``(B, *S)``."""
    exact = z.to(torch.promote_types(z.dtype, torch.float32))
    return torch.stack([torch.zeros_like(exact), exact], dim=1)


def mean_over_channels(
    loss: Loss, heads: Sequence[Tensor], truth: Tensor, spacing: Sequence[float] | None
) -> Tensor:
    """Mean over the channels of a loss of two classes.

    The softmax of ``(0, z)`` is the sigmoid of z, so that every loss of the package serves: its cross-entropy is the binary
    one, its Dice that of the mask.

    Parameters
    ----------
    loss : Loss
    heads : sequence of Tensor, shape ``(B, K, *S)``
    truth : Tensor of int64, shape ``(B, K, *S)``
        0 outside, 1 inside, `IGNORE` where unknown.
    spacing : sequence of float or None
        One number per spatial axis.

    Raises
    ------
    ValueError
        If shapes do not fit.
    """
    for head in heads:
        if head.shape != truth.shape:
            raise ValueError(f"logits {tuple(head.shape)} and masks {tuple(truth.shape)} differ in shape")
    parts = [
        loss(tuple(two_classes(head[:, k]) for head in heads), truth[:, k], spacing)
        for k in range(truth.shape[1])
    ]
    return torch.stack(parts).mean()


class RegionsLoss(Loss):
    """Any loss, over overlapping regions with one sigmoid each: the mean of the regions' losses.

    Parameters
    ----------
    loss : Loss
        Of two classes, outside and inside.
    members : Tensor of bool, shape ``(R, C)``
        Which classes belong to which region.
    """

    def __init__(self, loss: Loss, members: Tensor) -> None:
        super().__init__()
        self.loss, self.members = loss, members

    def forward(self, logits: Logits, target: Tensor, spacing: Sequence[float] | None = None) -> Tensor:
        """Loss of a batch.

        Parameters
        ----------
        logits : Tensor, shape ``(B, R, *S)``, or a tuple of them
        target : Tensor of integers, shape ``(B, *S)``
            Class indices, as without regions; `IGNORE` where unlabelled.
        spacing : sequence of float, optional
            One number per spatial axis.

        Raises
        ------
        ValueError
            If shapes, types, labels or spacing do not fit.
        """
        heads = list(logits) if isinstance(logits, tuple | list) else [logits]
        return self.heads(heads, target, spacing_of(target, spacing))

    def heads(self, logits: list[Tensor], target: Tensor, spacing: tuple[float, ...]) -> Tensor:
        """Mean over the regions."""
        self.loss.progress = self.progress
        return mean_over_channels(self.loss, logits, self.expanded(target), spacing)

    def expanded(self, target: Tensor) -> Tensor:
        """A target of two classes for each region: ``(B, *S)`` to ``(B, R, *S)``."""
        check_target(target)
        check_range(target, self.members.shape[1])
        masks = region_masks(target, self.members).long()
        return masks.masked_fill((target == IGNORE).unsqueeze(1), IGNORE)

    def weight_map(self, target: Tensor, spacing: Sequence[float] | None = None) -> Tensor | None:
        """What the loss looks at: ``loss == sum(weight * binary cross-entropy)``.

        Returns
        -------
        Tensor of float32, shape ``(B, R, *S)``, or None
            None if the loss has no weighted cross-entropy; of a sum the map covers those alone.
        """
        if not isinstance(self.loss, SpatialLoss | SumLoss):
            return None
        self.loss.progress = self.progress
        truth = self.expanded(target)
        maps = [self.loss.weight_map(truth[:, k], spacing, classes=2) for k in range(truth.shape[1])]
        known = [each for each in maps if each is not None]
        return torch.stack(known, dim=1) / len(known) if known else None
