"""Dilated balanced cross-entropy (Hosseini & Soleymani Baghshah, arXiv 2412.06045)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_ctxseg.losses.base import SpatialLoss, Views, valid_mask
from napari_ctxseg.maps.components import components, grown, placed
from napari_ctxseg.maps.dilation import dilate, dilated_masks, radius_in_world, reach_in_voxels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from napari_ctxseg.config import DilatedBalancedCE


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
        largest, _ = self._decide(target, classes, spacing)
        if self._config.normalise:
            total = largest.flatten(1).sum(dim=1).view(-1, *[1] * (target.ndim - 1))
            largest = largest / torch.where(total > 0, total, 1.0)
        return largest / max(1, len(target))

    def views(self, target: Tensor, classes: int, spacing: tuple[float, ...]) -> Views:
        """Which foreground class decides."""
        return Views(dilated=self._decide(target, classes, spacing)[1])

    def _decide(self, target: Tensor, classes: int, spacing: tuple[float, ...]) -> tuple[Tensor, Tensor]:
        """M, and the foreground class whose weight is the largest (0 where none reaches)."""
        radius = radius_in_world(self.radius(), self._config.unit, target.shape[1:], spacing)
        # 1 / (1 + area) is about 1e-5: half precision would lose it, hence float32.
        largest = torch.zeros(target.shape, device=target.device)
        foreground, winner = torch.zeros_like(largest), torch.zeros_like(target)
        per_piece = self._config.per == "component"
        for index, weight in self._class_weights(target, 1 if per_piece else classes, radius, spacing):
            largest = torch.maximum(largest, weight)
            if index > 0:
                winner = torch.where(weight > foreground, index, winner)
                foreground = torch.maximum(foreground, weight)
        if per_piece:
            self._add_pieces(target, radius, spacing, largest, foreground, winner)
        return largest, winner

    @staticmethod
    def _class_weights(
        target: Tensor, classes: int, radius: float, spacing: tuple[float, ...]
    ) -> Iterator[tuple[int, Tensor]]:
        valid = valid_mask(target)
        for index, mask in dilated_masks(target, classes, radius, spacing):
            inside = mask & valid
            area = inside.flatten(1).sum(dim=1).view(-1, *[1] * (target.ndim - 1))
            yield index, inside / (1.0 + area)

    @staticmethod
    def _add_pieces(
        target: Tensor,
        radius: float,
        spacing: tuple[float, ...],
        largest: Tensor,
        foreground: Tensor,
        winner: Tensor,
    ) -> None:
        """Raise the weights, in place, by those of every connected piece; each is dilated within its reach only."""
        reach = reach_in_voxels(radius, spacing, target.shape[1:])
        valid = valid_mask(target)
        for n, sample in enumerate(target):
            for piece in components(sample):
                box = grown(piece.box, reach, sample.shape)
                mask = torch.from_numpy(placed(piece, box)).to(target.device)
                inside = dilate(mask[None], radius, spacing)[0] & valid[n][box]
                weight = inside / (1.0 + inside.sum())
                before = foreground[n][box]
                winner[n][box] = torch.where(weight > before, piece.index, winner[n][box])
                foreground[n][box] = torch.maximum(before, weight)
                largest[n][box] = torch.maximum(largest[n][box], weight)
