"""Dilated balanced cross-entropy (Hosseini & Soleymani Baghshah, arXiv 2412.06045)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_ctxseg.losses.base import SpatialLoss, Views, valid_mask
from napari_ctxseg.maps.dilation import dilated_masks, radius_in_world
from napari_ctxseg.maps.pieces import dilated_pieces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from napari_ctxseg.config import DilatedBalancedCE
    from napari_ctxseg.maps.pieces import Place


class DilatedBalancedCELoss(SpatialLoss):
    """Cross-entropy weighted by the largest of the dilated classes' inverse areas (equations 2-5).

    Per sample ``D_c = Y_c dilated by a disk, W_c = D_c / (1 + |D_c|), M = max_c W_c``, background included; the loss is
    ``sum M * CE``, averaged over the batch. Per component, each connected piece of the foreground has a D of its own.
    """

    def __init__(self, config: DilatedBalancedCE) -> None:
        super().__init__()
        self._config = config

    def radius(self) -> float:
        """Radius at this stage of the training, in its unit: a straight line from the start radius to the last one."""
        config = self._config
        if config.anneal == 0 or self.progress >= config.anneal:
            return config.radius
        return config.start_radius + (config.radius - config.start_radius) * self.progress / config.anneal

    def weights(self, target: Tensor, classes: int, spacing: tuple[float, ...]) -> Tensor:
        """M of each sample, over the size of the batch."""
        # 1 / (1 + area) is about 1e-5: half precision would lose it, hence float32.
        largest = torch.zeros(target.shape, device=target.device)
        for _, place, weight in self._dilated(target, classes, spacing):
            torch.maximum(largest[place], weight, out=largest[place])
        if self._config.normalise:
            total = largest.flatten(1).sum(dim=1).view(-1, *[1] * (target.ndim - 1))
            largest = largest / torch.where(total > 0, total, 1.0)
        return largest / max(1, len(target))

    def views(self, target: Tensor, classes: int, spacing: tuple[float, ...]) -> Views:
        """Which foreground class decides; of two that weigh the same, the first."""
        largest = torch.zeros(target.shape, device=target.device)
        winner = torch.zeros_like(target)
        for index, place, weight in self._dilated(target, classes, spacing):
            if index == 0:
                continue
            before, first = largest[place], winner[place]
            wins = (weight > before) | ((weight == before) & (index < first))
            first[wins] = index
            torch.maximum(before, weight, out=before)
        return Views(dilated=winner)

    def _dilated(
        self, target: Tensor, classes: int, spacing: tuple[float, ...]
    ) -> Iterator[tuple[int, Place, Tensor]]:
        """Each class or piece with where it reaches and its W there, 0 outside of it."""
        radius = radius_in_world(self.radius(), self._config.unit, target.shape[1:], spacing)
        valid = valid_mask(target)
        if self._config.per == "class":
            for index, mask in dilated_masks(target, classes, radius, spacing):
                yield index, (...,), _shared(mask & valid)
            return
        for index, place, mask in dilated_pieces(target, radius, spacing):
            yield index, place, _shared(mask & valid[place])


def _shared(mask: Tensor) -> Tensor:
    """One unit of weight shared by the pixels of each sample's mask."""
    area = mask.flatten(1).sum(dim=1).view(-1, *[1] * (mask.ndim - 1))
    return mask / (1.0 + area)
