"""Losses that take logits ``(B, C, *S)`` and class indices ``(B, *S)`` and honour `IGNORE`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_ctxseg import config as c
from napari_ctxseg.losses.base import Loss, PixelLoss, RegionLoss, SpatialLoss, Views
from napari_ctxseg.losses.channels import RegionsLoss
from napari_ctxseg.losses.combined import SumLoss
from napari_ctxseg.losses.context import ContextCELoss
from napari_ctxseg.losses.contour import ContourWeightedCELoss, SeparableDiceLoss
from napari_ctxseg.losses.cross_entropy import BalancedCELoss, CELoss, FocalLoss, WeightedCELoss
from napari_ctxseg.losses.dilated import DilatedBalancedCELoss
from napari_ctxseg.losses.gap import DistanceWeightedCELoss
from napari_ctxseg.losses.overlap import DiceLoss, GeneralizedDiceLoss, LogJaccardLoss

if TYPE_CHECKING:
    from collections.abc import Callable


def _dice_ce(config: c.DiceCE) -> Loss:
    dice = c.Dice(reduction=config.reduction, smooth=config.smooth)
    return SumLoss([(config.ce_weight, make_loss(c.CrossEntropy())), (config.dice_weight, make_loss(dice))])


def _contour_weighted_ce_dice(config: c.ContourWeightedCEDice) -> Loss:
    ce = c.ContourWeightedCE(contour=config.contour, alpha=config.alpha)
    dice = c.SeparableDice(
        contour=config.contour, balance=config.balance, reduction=config.reduction, smooth=config.smooth
    )
    return SumLoss([(config.ce_weight, make_loss(ce)), (config.dice_weight, make_loss(dice))])


def _sum(config: c.Sum) -> Loss:
    return SumLoss([(term.weight, make_loss(term.loss)) for term in config.terms])


#: Configuration class -> builder.
LOSSES: dict[type[c.Config], Callable[[Any], Loss]] = {
    c.CrossEntropy: CELoss,
    c.WeightedCE: WeightedCELoss,
    c.BalancedCE: BalancedCELoss,
    c.Focal: FocalLoss,
    c.Dice: DiceLoss,
    c.DiceCE: _dice_ce,
    c.LogJaccard: LogJaccardLoss,
    c.GeneralizedDice: GeneralizedDiceLoss,
    c.DistanceWeightedCE: DistanceWeightedCELoss,
    c.ContextCE: ContextCELoss,
    c.DilatedBalancedCE: DilatedBalancedCELoss,
    c.ContourWeightedCE: ContourWeightedCELoss,
    c.SeparableDice: SeparableDiceLoss,
    c.ContourWeightedCEDice: _contour_weighted_ce_dice,
    c.Sum: _sum,
}


def make_loss(config: c.Config | dict[str, Any] | str) -> Loss:
    """Build a loss.

    Parameters
    ----------
    config : configuration, dict or str
        ``{"kind": "dilated_balanced_ce", "radius": 20}``, the matching configuration object, or a bare name for its
        defaults. ``{"kind": "context_ce", "preset": "released"}`` expands to that preset.

    Raises
    ------
    pydantic.ValidationError
        If the kind is unknown or a parameter is out of range.

    Examples
    --------
    >>> import torch
    >>> loss = make_loss("ce")
    >>> float(loss(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64)))  # ln 2
    0.6931471824645996
    """
    checked = c.parse_loss(config)
    return LOSSES[type(checked)](checked)


__all__ = [
    "LOSSES",
    "Loss",
    "PixelLoss",
    "RegionLoss",
    "RegionsLoss",
    "SpatialLoss",
    "SumLoss",
    "Views",
    "make_loss",
]
