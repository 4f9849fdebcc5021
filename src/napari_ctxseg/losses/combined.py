"""Sums of losses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_ctxseg.losses.base import Loss, PixelLoss, SpatialLoss, Views

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class SumLoss(Loss):
    """Weighted sum of losses. Its weight map is that of its weighted cross-entropies; other terms have none.

    Parameters
    ----------
    terms : sequence of (float, Loss)
        Factors and losses.
    """

    def __init__(self, terms: Sequence[tuple[float, Loss]]) -> None:
        super().__init__()
        self.factors = [factor for factor, _ in terms]
        self.losses = nn.ModuleList(loss for _, loss in terms)

    def terms(self) -> list[tuple[float, Loss]]:
        """Factors and losses, told how far the training is."""
        pairs = []
        for factor, loss in zip(self.factors, self.losses, strict=True):
            assert isinstance(loss, Loss)
            loss.progress = self.progress
            pairs.append((factor, loss))
        return pairs

    def heads(self, logits: list[Tensor], target: Tensor, spacing: tuple[float, ...]) -> Tensor:
        """Each term over all heads: its map is computed once."""
        parts = [factor * loss.heads(logits, target, spacing) for factor, loss in self.terms()]
        return torch.stack(parts).sum()

    def weight_map(
        self, target: Tensor, spacing: Sequence[float] | None = None, *, classes: int | None = None
    ) -> Tensor | None:
        """Sum of the maps of the weighted cross-entropies, see `SpatialLoss.weight_map`; None if there are none."""
        total: Tensor | None = None
        for factor, loss in self.terms():
            if isinstance(loss, SpatialLoss | SumLoss):
                part = loss.weight_map(target, spacing, classes=classes)
                if part is not None:
                    total = factor * part if total is None else total + factor * part
        return total

    def pixels(self, logits: Tensor, target: Tensor, spacing: tuple[float, ...]) -> Tensor | None:
        """Sum of what its terms have per pixel; None if none has any."""
        total: Tensor | None = None
        for factor, loss in self.terms():
            if isinstance(loss, PixelLoss | SumLoss):
                part = loss.pixels(logits, target, spacing)
                if part is not None:
                    total = factor * part if total is None else total + factor * part
        return total

    def views(self, target: Tensor, classes: int, spacing: tuple[float, ...]) -> Views:
        """What its terms show; of two regions or contours the first."""
        views = Views()
        for _, loss in self.terms():
            views = views.joined(loss.views(target, classes, spacing))
        return views
