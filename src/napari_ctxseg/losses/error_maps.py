"""Losses of error masks: every channel is a problem of its own, an error or none, in which errors are very sparse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from napari_ctxseg.image import IGNORE
from napari_ctxseg.losses import Loss, make_loss
from napari_ctxseg.losses.channels import mean_over_channels

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Name -> configuration of the loss of each channel's two classes, "no error" and "error".
ERROR_LOSSES: dict[str, dict[str, Any]] = {
    "bce": {"kind": "ce"},
    "bce_dice": {"kind": "dice_ce"},
    "focal": {"kind": "focal"},
    "dilated": {"kind": "dilated_balanced_ce", "radius": 5, "unit": "px"},
}
#: The released form, for a tanh.
MSE = "mse"


class ErrorLoss(nn.Module):
    """Any loss of logits and class indices, over channels instead of classes.

    Channels and samples count the same; see `mean_over_channels`. The Dice is that of the errors, 0 where a channel of a
    sample has none.

    Parameters
    ----------
    loss : Loss
    """

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self.loss = loss

    def forward(
        self,
        logits: Tensor | tuple[Tensor, ...],
        errors: Tensor,
        labelled: Tensor | None = None,
        spacing: Sequence[float] | None = None,
    ) -> Tensor:
        """Loss of a batch.

        Parameters
        ----------
        logits : Tensor, shape ``(B, K, *S)``, or a tuple of them
        errors : Tensor, shape ``(B, K, *S)``
            0 or 1.
        labelled : Tensor of bool, shape ``(B, *S)`` or ``(B, K, *S)``, optional
            Elsewhere the errors are unknown.
        spacing : sequence of float, optional
            One number per spatial axis.

        Returns
        -------
        Tensor
            A scalar with a graph.

        Raises
        ------
        ValueError
            If shapes do not fit.
        """
        heads = list(logits) if isinstance(logits, tuple | list) else [logits]
        known = _known(errors, labelled)
        truth = torch.where(known, (errors > 0.5).long(), IGNORE)
        return mean_over_channels(self.loss, heads, truth, spacing)


class TanhLoss(nn.Module):
    """Mean squared distance between a tanh and errors mapped to -1 and 1, as released with CR-GAN."""

    def forward(
        self,
        logits: Tensor | tuple[Tensor, ...],
        errors: Tensor,
        labelled: Tensor | None = None,
        spacing: Sequence[float] | None = None,
    ) -> Tensor:
        """Loss of a batch, heads added; parameters as in `ErrorLoss`."""
        heads = list(logits) if isinstance(logits, tuple | list) else [logits]
        known = _known(errors, labelled)
        total = heads[0].sum() * 0.0
        for head in heads:
            z = head.to(torch.promote_types(head.dtype, torch.float32))
            apart = (z.tanh() - (2 * errors.to(z.dtype) - 1)) ** 2
            total = total + (apart * known).sum() / known.sum().clamp(min=1)
        return total


def _known(errors: Tensor, labelled: Tensor | None) -> Tensor:
    if labelled is None:
        return torch.ones_like(errors, dtype=torch.bool)
    return (labelled if labelled.ndim == errors.ndim else labelled.unsqueeze(1)).expand(errors.shape)


def make_error_loss(name: str = "bce") -> ErrorLoss | TanhLoss:
    """Build the loss of a refinement network.

    Parameters
    ----------
    name : {"bce", "bce_dice", "focal", "dilated", "mse"}
        ``mse`` is the released form and goes with the head ``tanh``, all others with ``sigmoid``.

    Raises
    ------
    ValueError
        If there is no such loss.
    """
    if name == MSE:
        return TanhLoss()
    if name not in ERROR_LOSSES:
        raise ValueError(
            f"loss of error masks must be one of {', '.join([*ERROR_LOSSES, MSE])}, got {name!r}"
        )
    return ErrorLoss(make_loss(ERROR_LOSSES[name]))
