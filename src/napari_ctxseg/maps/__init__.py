"""What a loss sees: regions of interest and dilations, torch in and torch out, 2-D and 3-D."""

from napari_ctxseg.maps.dilation import dilate_classes, radius_in_world
from napari_ctxseg.maps.roi import dynamic_box, roi_mask, static_box

__all__ = ["dilate_classes", "dynamic_box", "radius_in_world", "roi_mask", "static_box"]
