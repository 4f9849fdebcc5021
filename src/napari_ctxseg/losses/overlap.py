"""Losses of overlapping areas: soft Dice, log Jaccard, generalized Dice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_ctxseg.losses.base import RegionLoss, valid_mask

if TYPE_CHECKING:
    from torch import Tensor

    from napari_ctxseg.config import Dice, GeneralizedDice, LogJaccard


#: The released generalized Dice adds this to the squared size, so that an absent class weighs 1000.
RELEASED = 1e-3


def class_probabilities(logits: Tensor, target: Tensor, *, background: bool = False) -> tuple[Tensor, Tensor]:
    """Softmax probabilities and truth of the foreground classes, both 0 where unlabelled.

    Parameters
    ----------
    logits : Tensor, shape ``(B, C, *S)``
    target : Tensor of int64, shape ``(B, *S)``
    background : bool
        Whether class 0 is kept.

    Returns
    -------
    probability, truth : Tensor, shape ``(B, C - 1, *S)`` or ``(B, C, *S)``
    """
    first = 0 if background else 1
    probability = logits.softmax(dim=1)[:, first:]
    valid = valid_mask(target).unsqueeze(1)
    if not bool(valid.all()):
        probability = probability * valid
    classes = torch.arange(first, logits.shape[1], device=target.device)
    truth = target.unsqueeze(1) == classes.view(-1, *[1] * (target.ndim - 1))
    return probability, truth.to(logits.dtype)


def dice_of_sums(
    overlap: Tensor, predicted: Tensor, true: Tensor, *, present: Tensor, macro: bool, smooth: float
) -> Tensor:
    """One minus Dice from sums per sample and class, all of shape ``(B, K)``.

    Macro: mean over the classes present of each sample, then over the samples. Micro: all pooled; 0 with nothing to pool.
    """
    if not macro:
        pooled = (2 * overlap.sum() + smooth) / (predicted.sum() + true.sum() + smooth)
        return 1 - pooled
    dice = (2 * overlap + smooth) / (predicted + true + smooth)
    return (((1 - dice) * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)).mean()


class DiceLoss(RegionLoss):
    """One minus ``(2 sum p g + eps) / (sum p + sum g + eps)`` over the foreground classes (Huang & Sui 2024, equation 2)."""

    def __init__(self, config: Dice) -> None:
        super().__init__()
        self._macro, self._smooth = config.reduction == "macro", config.smooth

    def one(self, logits: Tensor, target: Tensor, spacing: tuple[float, ...]) -> Tensor:
        """Dice over the labelled pixels."""
        probability, truth = class_probabilities(logits, target)
        size = truth.flatten(2).sum(2)
        return dice_of_sums(
            (probability * truth).flatten(2).sum(2),
            probability.flatten(2).sum(2),
            size,
            present=size > 0,
            macro=self._macro,
            smooth=self._smooth,
        )


class LogJaccardLoss(RegionLoss):
    """``-sum_c ln (I + eps) / (U + eps)``, sums over the whole batch, background included (code of arXiv 2001.02387).

    A class absent from the batch counts with ``-ln eps / (P + eps)``, P its predicted area: up to 16 for eps 1e-7.
    """

    def __init__(self, config: LogJaccard) -> None:
        super().__init__()
        self._smooth = config.smooth

    def one(self, logits: Tensor, target: Tensor, spacing: tuple[float, ...]) -> Tensor:
        """Logarithms over the labelled pixels."""
        probability, truth = class_probabilities(logits, target, background=True)
        axes = (0, *range(2, logits.ndim))
        overlap, size = (probability * truth).sum(axes), truth.sum(axes)
        union = probability.sum(axes) + size - overlap
        return -torch.log((overlap + self._smooth) / (union + self._smooth)).sum()


class GeneralizedDiceLoss(RegionLoss):
    """``1 - 2 sum_c w_c I_c / sum_c w_c (P_c + G_c)``, ``w_c = 1 / G_c^2``, over the foreground of each sample."""

    def __init__(self, config: GeneralizedDice) -> None:
        super().__init__()
        self._skip, self._smooth = config.absent == "skip", config.smooth

    def one(self, logits: Tensor, target: Tensor, spacing: tuple[float, ...]) -> Tensor:
        """Mean over the samples."""
        probability, truth = class_probabilities(logits, target)
        size = truth.flatten(2).sum(2)
        weight = 1 / (size * size + RELEASED)
        if self._skip:
            weight = torch.where(size > 0, 1 / (size * size).clamp(min=1), 0.0)
        overlap = (weight * (probability * truth).flatten(2).sum(2)).sum(1)
        areas = (weight * (probability.flatten(2).sum(2) + size)).sum(1)
        labelled = valid_mask(target).flatten(1).any(1)
        if self._skip:
            return ((1 - 2 * overlap / areas.clamp(min=1e-30)) * (areas > 0)).mean()
        return ((1 - 2 * (overlap + self._smooth) / (areas + self._smooth)) * labelled).mean()
