"""Context cross-entropy (Murugesan et al., ISBI 2020, arXiv 2001.02387)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ctxseg.losses.base import SpatialLoss, per_sample, valid_mask
from napari_ctxseg.maps.roi import roi_mask

if TYPE_CHECKING:
    from torch import Tensor

    from napari_ctxseg.config import ContextCE


class ContextCELoss(SpatialLoss):
    """Mean cross-entropy of the batch, plus lambda times the mean over each sample's region of interest.

    The mean form is the one that gives the paper's effect: a pixel in the region counts ``1 / |image| + lambda / |ROI|``
    (methods 2.1). A sample without foreground has no region and adds nothing to the second term.
    """

    def __init__(self, config: ContextCE) -> None:
        super().__init__()
        self._roi, self._weight = config.roi, config.weight

    def weights(self, target: Tensor, classes: int, spacing: tuple[float, ...]) -> Tensor:
        """Both means in one map."""
        valid = valid_mask(target)
        everywhere = valid.float() / valid.sum().clamp(min=1)
        return everywhere + self._weight * per_sample(roi_mask(target, self._roi) & valid) / max(
            1, len(target)
        )
