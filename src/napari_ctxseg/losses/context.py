"""Context cross-entropy (Murugesan et al., ISBI 2020, arXiv 2001.02387)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_ctxseg.config import MaskRoi
from napari_ctxseg.losses.base import SpatialLoss, Views, valid_mask
from napari_ctxseg.maps.roi import roi_boxes, roi_mask, roi_masks

if TYPE_CHECKING:
    from torch import Tensor

    from napari_ctxseg.config import ContextCE


class ContextCELoss(SpatialLoss):
    """Mean cross-entropy of the batch, plus lambda times the mean over each sample's regions of interest.

    The mean form is the one that gives the paper's effect: a pixel in the region counts ``1 / |image| + lambda / |ROI|``
    (released code). The sum form, as printed, sums over the image and over the region and averages over the batch. A sample
    without foreground has no region and adds nothing to the second term; several regions in a sample count the same.
    """

    def __init__(self, config: ContextCE) -> None:
        super().__init__()
        self._roi, self._weight, self._mean = config.roi, config.weight, config.reduction == "mean"

    def weights(self, target: Tensor, classes: int, spacing: tuple[float, ...]) -> Tensor:
        """Both terms in one map."""
        valid = valid_mask(target)
        batch = max(1, len(target))
        local = torch.zeros(target.shape, device=target.device)
        for sample, regions in enumerate(roi_masks(target, self._roi, spacing)):
            for region in regions:
                share = region.sum() * len(regions) if self._mean else 1
                local[sample] += region / share
        everywhere = valid.float() / (valid.sum().clamp(min=1) if self._mean else batch)
        return everywhere + self._weight * local / batch

    def views(self, target: Tensor, classes: int, spacing: tuple[float, ...]) -> Views:
        """Regions, and their boxes where they are boxes."""
        boxes = [] if isinstance(self._roi, MaskRoi) else [roi_boxes(one, self._roi) for one in target]
        return Views(roi=roi_mask(target, self._roi, spacing), boxes=boxes)
