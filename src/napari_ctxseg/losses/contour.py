"""Contour-weighted cross-entropy and separable Dice (Huang & Sui, ICIP 2024, arXiv 2407.06176)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_ctxseg.losses.base import Loss, SpatialLoss, Views, valid_mask
from napari_ctxseg.losses.overlap import class_probabilities, dice_of_sums
from napari_ctxseg.maps.contour import contour_band, inner_band

if TYPE_CHECKING:
    from torch import Tensor

    from napari_ctxseg.config import ContourConfig, ContourWeightedCE, SeparableDice


class ContourWeightedCELoss(SpatialLoss):
    """``sum (1 + alpha C) l / |V|`` over the labelled pixels of the batch, C the contour band (equation 10)."""

    def __init__(self, config: ContourWeightedCE) -> None:
        super().__init__()
        self._contour, self._alpha = config.contour, config.alpha

    def weights(self, target: Tensor, classes: int, spacing: tuple[float, ...]) -> Tensor:
        """One plus alpha on the contour, over the number of labelled pixels."""
        valid = valid_mask(target)
        band = contour_band(target, self._contour, spacing)
        return (1 + self._alpha * band) * valid / valid.sum().clamp(min=1)

    def views(self, target: Tensor, classes: int, spacing: tuple[float, ...]) -> Views:
        """The band, and what it leaves of the structures."""
        return contour_views(target, self._contour, spacing)


class SeparableDiceLoss(Loss):
    """``lambda L_c + (1 - lambda) L_nc``: one minus soft Dice on each class's inner contour, and on the rest.

    Macro: per class and sample, mean over the foreground classes present in the sample, then over the batch (absent
    classes are left to a cross-entropy). Micro: all pairs of foreground class and voxel of the batch pooled, as released.
    On the contour the truth is 1 throughout, so L_c is a pure soft recall.
    """

    def __init__(self, config: SeparableDice) -> None:
        super().__init__()
        self._contour, self._balance = config.contour, config.balance
        self._macro, self._smooth = config.reduction == "macro", config.smooth

    def heads(self, logits: list[Tensor], target: Tensor, spacing: tuple[float, ...]) -> Tensor:
        """Contour once, applied to every head."""
        band = self.band(target, spacing)
        return torch.stack([self._mixed(head, target, band) for head in logits]).sum()

    def band(self, target: Tensor, spacing: tuple[float, ...]) -> Tensor:
        """Inner contour of each foreground class, 0 to 1; shape ``(B, *S)``."""
        with torch.no_grad():
            return inner_band(target, self._contour, spacing)

    def _mixed(self, logits: Tensor, target: Tensor, band: Tensor) -> Tensor:
        probability, truth = class_probabilities(logits, target)
        rim = truth * band.to(logits.dtype)[:, None]
        on_rim = probability * rim
        off_rim = probability - on_rim
        recalled = on_rim.flatten(2).sum(2)  # on the rim the truth is 1: what is predicted there is right
        size = rim.flatten(2).sum(2)
        rest_size = (truth - rim).flatten(2).sum(2)
        present = size + rest_size > 0
        contour = self._dice(recalled, recalled, size, present)
        rest = self._dice(
            (off_rim * truth).flatten(2).sum(2),
            off_rim.flatten(2).sum(2),
            rest_size,
            present,
        )
        return self._balance * contour + (1 - self._balance) * rest

    def _dice(self, overlap: Tensor, predicted: Tensor, true: Tensor, present: Tensor) -> Tensor:
        return dice_of_sums(overlap, predicted, true, present=present, macro=self._macro, smooth=self._smooth)

    def views(self, target: Tensor, classes: int, spacing: tuple[float, ...]) -> Views:
        """The inner rims, and what they leave of the structures."""
        return contour_views(target, self._contour.model_copy(update={"side": "inner"}), spacing)


def contour_views(target: Tensor, contour: ContourConfig, spacing: tuple[float, ...]) -> Views:
    """Band and interiors."""
    left = inner_band(target, contour, spacing) < 0.5
    return Views(
        contour=contour_band(target, contour, spacing), interior=torch.where(left & (target > 0), target, 0)
    )
