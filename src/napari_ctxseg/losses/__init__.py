"""Losses that take logits ``(B, C, *S)`` and class indices ``(B, *S)`` and honour `IGNORE`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from napari_ctxseg.config import Config, ContextCE, CrossEntropy, DiceCE, DilatedBalancedCE, LossConfig
from napari_ctxseg.losses.base import Loss, SpatialLoss
from napari_ctxseg.losses.context import ContextCELoss
from napari_ctxseg.losses.cross_entropy import CELoss
from napari_ctxseg.losses.dilated import DilatedBalancedCELoss
from napari_ctxseg.losses.overlap import DiceCELoss

if TYPE_CHECKING:
    from collections.abc import Callable

#: Configuration class -> builder.
LOSSES: dict[type[Config], Callable[[Any], Loss]] = {
    CrossEntropy: CELoss,
    DiceCE: DiceCELoss,
    ContextCE: ContextCELoss,
    DilatedBalancedCE: DilatedBalancedCELoss,
}


def make_loss(config: Config | dict[str, Any] | str) -> Loss:
    """Build a loss.

    Parameters
    ----------
    config : configuration, dict or str
        ``{"kind": "dilated_balanced_ce", "radius": 20}``, the matching configuration object, or a bare name for its
        defaults.

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
    checked: Any = TypeAdapter(LossConfig).validate_python(config)
    return LOSSES[type(checked)](checked)


__all__ = ["LOSSES", "Loss", "SpatialLoss", "make_loss"]
