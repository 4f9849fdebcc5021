"""Distance-weighted cross-entropy (Ronneberger et al., MICCAI 2015)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ctxseg.losses.base import SpatialLoss, valid_mask
from napari_ctxseg.maps.area import class_sizes, inverse, paint
from napari_ctxseg.maps.dilation import radius_in_world
from napari_ctxseg.maps.distance import gap_map

if TYPE_CHECKING:
    from torch import Tensor

    from napari_ctxseg.config import DistanceWeightedCE


class DistanceWeightedCELoss(SpatialLoss):
    """``sum (w_class + w0 exp(-(d1 + d2)^2 / (2 sigma^2))) l / |V|`` over the labelled pixels of the batch (equation 2).

    d1 and d2 are the distances to the nearest and the second nearest object.
    """

    def __init__(self, config: DistanceWeightedCE) -> None:
        super().__init__()
        self._config = config

    def weights(self, target: Tensor, classes: int, spacing: tuple[float, ...]) -> Tensor:
        """Class weight plus gap weight, over the number of labelled pixels."""
        config, valid = self._config, valid_mask(target)
        sigma = radius_in_world(config.sigma, config.unit, target.shape[1:], spacing)
        total = config.w0 * gap_map(target, sigma, spacing)
        if config.class_weights == "inverse":
            sizes = class_sizes(target, classes)
            # Mean 1 over the sample's pixels: |V| / (classes present x size of the class).
            scale = sizes.sum(dim=1, keepdim=True) / (sizes > 0).sum(dim=1, keepdim=True).clamp(min=1)
            total = total + paint(target, inverse(sizes) * scale)
        else:
            total = total + 1
        return total * valid / valid.sum().clamp(min=1)
