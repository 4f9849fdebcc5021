"""Plain cross-entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ctxseg.losses.base import SpatialLoss, valid_mask

if TYPE_CHECKING:
    from torch import Tensor

    from napari_ctxseg.config import CrossEntropy


class CELoss(SpatialLoss):
    """Mean cross-entropy over the labelled pixels of the batch."""

    def __init__(self, config: CrossEntropy) -> None:
        super().__init__()

    def weights(self, target: Tensor, classes: int, spacing: tuple[float, ...]) -> Tensor:
        """One over the number of labelled pixels."""
        valid = valid_mask(target)
        return valid.float() / valid.sum().clamp(min=1)
