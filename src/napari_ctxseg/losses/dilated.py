"""Dilated balanced cross-entropy (Hosseini & Soleymani Baghshah, arXiv 2412.06045)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ctxseg.losses.base import SpatialLoss, valid_mask
from napari_ctxseg.maps.dilation import dilate_classes, radius_in_world

if TYPE_CHECKING:
    from torch import Tensor

    from napari_ctxseg.config import DilatedBalancedCE


class DilatedBalancedCELoss(SpatialLoss):
    """Cross-entropy weighted by the largest of the dilated classes' inverse areas (equations 2-5).

    Per sample ``D_c = Y_c dilated by a disk, W_c = D_c / (1 + |D_c|), M = max_c W_c``, background included; the loss is
    ``sum M * CE``, averaged over the batch.
    """

    def __init__(self, config: DilatedBalancedCE) -> None:
        super().__init__()
        self._radius, self._unit = config.radius, config.unit

    def weights(self, target: Tensor, classes: int, spacing: tuple[float, ...]) -> Tensor:
        """M of each sample, over the size of the batch."""
        valid = valid_mask(target)
        radius = radius_in_world(self._radius, self._unit, target.shape[1:], spacing)
        dilated = dilate_classes(target, classes, radius, spacing) & valid.unsqueeze(1)
        area = dilated.flatten(2).sum(dim=2)
        # 1 / (1 + area) is about 1e-5: half precision would lose it, hence float32.
        weight = (1.0 / (1.0 + area)).view(*area.shape, *[1] * (target.ndim - 1))
        return (dilated * weight).amax(dim=1) / max(1, len(target))
