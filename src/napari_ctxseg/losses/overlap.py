"""Soft Dice with cross-entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from napari_ctxseg.losses.base import Loss, ce_map, valid_mask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_ctxseg.config import DiceCE

#: Keeps 0 / 0 away; far below one pixel.
EPS = 1e-5


def soft_dice(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Soft Dice of each foreground class of each sample, over the labelled pixels.

    ``2 sum(p g) / (sum p + sum g)``, without squares (methods 2.4, equation 2).

    Parameters
    ----------
    logits : Tensor, shape ``(B, C, *S)``
    target : Tensor of int64, shape ``(B, *S)``

    Returns
    -------
    dice : Tensor, shape ``(B, C - 1)``
    present : Tensor of bool, shape ``(B, C - 1)``
        Whether the class is in the sample's labels.
    """
    valid = valid_mask(target).unsqueeze(1)
    probability = logits.softmax(dim=1) * valid
    truth = functional.one_hot(target.clamp(min=0), logits.shape[1]).movedim(-1, 1).to(logits.dtype) * valid
    axes = tuple(range(2, logits.ndim))
    overlap = (probability * truth).sum(axes)[:, 1:]
    size = truth.sum(axes)[:, 1:]
    dice = (2 * overlap + EPS) / (probability.sum(axes)[:, 1:] + size + EPS)
    return dice, size > 0


class DiceCELoss(Loss):
    """Mean cross-entropy plus one minus soft Dice, averaged over the foreground classes present in each sample."""

    def __init__(self, config: DiceCE) -> None:
        super().__init__()
        self._dice, self._ce = config.dice_weight, config.ce_weight

    def heads(self, logits: list[Tensor], target: Tensor, spacing: Sequence[float] | None) -> Tensor:
        """Sum over heads."""
        return torch.stack([self._one(head, target) for head in logits]).sum()

    def _one(self, logits: Tensor, target: Tensor) -> Tensor:
        valid = valid_mask(target).sum().clamp(min=1)
        ce = ce_map(logits, target).sum() / valid
        dice, present = soft_dice(logits, target)
        per_image = ((1 - dice) * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)
        return self._ce * ce + self._dice * per_image.mean()
