"""Cross-entropies whose weights depend on the class alone, and focal loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_ctxseg.losses.base import PixelLoss, SpatialLoss, ce_map, valid_mask
from napari_ctxseg.maps.area import class_sizes, inverse, paint

if TYPE_CHECKING:
    from torch import Tensor

    from napari_ctxseg.config import BalancedCE, CrossEntropy, Focal, WeightedCE


class CELoss(SpatialLoss):
    """Mean cross-entropy over the labelled pixels of the batch."""

    def __init__(self, config: CrossEntropy) -> None:
        super().__init__()

    def weights(self, target: Tensor, classes: int, spacing: tuple[float, ...]) -> Tensor:
        """One over the number of labelled pixels."""
        valid = valid_mask(target)
        return valid.float() / valid.sum().clamp(min=1)


class WeightedCELoss(SpatialLoss):
    """``sum w_y l / sum w_y`` over the labelled pixels of the batch: PyTorch's weighted negative log-likelihood.

    Without weights in the configuration they are one over the sizes of the classes in the batch.
    """

    def __init__(self, config: WeightedCE) -> None:
        super().__init__()
        self._given = config.weights

    def weights(self, target: Tensor, classes: int, spacing: tuple[float, ...]) -> Tensor:
        """Class weights over their sum."""
        if self._given is None:
            table = inverse(class_sizes(target, classes).sum(dim=0))
        else:
            table = _table(self._given, classes, "class weights", target)
        painted = paint(target, table)
        total = painted.sum()
        return painted / torch.where(total > 0, total, 1.0)


class BalancedCELoss(SpatialLoss):
    """Every class counts the same (dilated CE paper, equation 1).

    ``sample``: sum over the classes of the mean over the class's pixels, per sample. ``dataset``: mean over the sample's
    pixels with weights of one over the class's share of the training set, mean 1 over the classes that occur.
    """

    def __init__(self, config: BalancedCE) -> None:
        super().__init__()
        self._scope, self._frequencies = config.scope, config.frequencies

    def weights(self, target: Tensor, classes: int, spacing: tuple[float, ...]) -> Tensor:
        """Class weights with the normaliser of their scope."""
        batch = max(1, len(target))
        sizes = class_sizes(target, classes)
        if self._scope == "sample":
            return paint(target, inverse(sizes)) / batch
        if self._frequencies is None:
            shares = sizes.sum(dim=0).float()
        else:
            shares = _table(self._frequencies, classes, "class shares", target)
        table = torch.where(shares > 0, shares.sum() / shares.clamp(min=1e-30), 0.0)
        table = table * (table > 0).sum() / table.sum().clamp(min=1e-30)
        count = sizes.sum(dim=1).clamp(min=1).view(-1, *[1] * (target.ndim - 1))
        return paint(target, table) / count / batch


def _table(values: tuple[float, ...], classes: int, what: str, like: Tensor) -> Tensor:
    """One number per class of the network.

    Raises
    ------
    ValueError
        If their number is another.
    """
    if len(values) != classes:
        raise ValueError(f"{len(values)} {what} for {classes} classes (background included)")
    return torch.tensor(values, dtype=torch.float32, device=like.device)


class FocalLoss(PixelLoss):
    """``mean alpha (1 - p)^gamma (-ln p)`` over the labelled pixels of the batch, p of the true class."""

    def __init__(self, config: Focal) -> None:
        super().__init__()
        self._alpha, self._gamma, self._floor = config.alpha, config.gamma, config.floor

    def pixels(self, logits: Tensor, target: Tensor, spacing: tuple[float, ...]) -> Tensor:
        """Focal term over the number of labelled pixels."""
        valid = valid_mask(target)
        ce = ce_map(logits, target)
        p = torch.exp(-ce)
        if self._floor:
            p = p + self._floor
            ce = -torch.log(p)
        # Where p rounds to 1 the power of 0 has no slope for gamma below 1.
        fade = (1 - p).clamp(min=torch.finfo(p.dtype).tiny) ** self._gamma
        return self._alpha * fade * ce * valid / valid.sum().clamp(min=1)
