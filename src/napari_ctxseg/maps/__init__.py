"""What a loss sees: regions, dilations, contours, gaps. Torch in and torch out, 2-D and 3-D, a batch at once."""

from napari_ctxseg.maps.area import class_sizes, inverse, paint
from napari_ctxseg.maps.contour import contour_band, inner_band, interior
from napari_ctxseg.maps.dilation import dilate, dilate_classes, dilated_masks, radius_in_world
from napari_ctxseg.maps.distance import gap_map
from napari_ctxseg.maps.roi import dynamic_box, roi_boxes, roi_mask, roi_masks, static_box

__all__ = [
    "class_sizes",
    "contour_band",
    "dilate",
    "dilate_classes",
    "dilated_masks",
    "dynamic_box",
    "gap_map",
    "inner_band",
    "interior",
    "inverse",
    "paint",
    "radius_in_world",
    "roi_boxes",
    "roi_mask",
    "roi_masks",
    "static_box",
]
