"""Regions of interest around the labelled structure (context cross-entropy, Murugesan et al. 2020, section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_ctxseg.config import DynamicRoi, MaskRoi, StaticRoi
from napari_ctxseg.maps.components import components
from napari_ctxseg.maps.dilation import dilate, radius_in_world

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_ctxseg.config import RoiConfig

Box = tuple[tuple[int, int], ...]


def static_box(foreground: Tensor, size: int) -> Box | None:
    """Window of one size centred on the foreground's centroid, shifted inside the image.

    Parameters
    ----------
    foreground : Tensor of bool, shape ``*S``
        All foreground classes together.
    size : int
        Side in pixels; an axis shorter than that is taken whole.

    Returns
    -------
    tuple of (start, stop) per axis, or None
        None where there is no foreground.
    """
    points = torch.nonzero(foreground)
    if len(points) == 0:
        return None
    # The released code truncates the centroid; we do too, so that its windows can be reproduced.
    centre = points.double().mean(dim=0).long().tolist()
    return tuple(_window(c, size, n) for c, n in zip(centre, foreground.shape, strict=True))


def _window(centre: int, size: int, length: int) -> tuple[int, int]:
    side = min(size, length)
    start = min(max(centre - size // 2, 0), length - side)
    return start, start + side


def dynamic_box(foreground: Tensor, margin: int = 0) -> Box | None:
    """Tight box around all foreground, `margin` pixels larger on each side, clipped to the image.

    Parameters
    ----------
    foreground : Tensor of bool, shape ``*S``
        All foreground classes together.
    margin : int
        Pixels added on each side.

    Returns
    -------
    tuple of (start, stop) per axis, or None
        None where there is no foreground.
    """
    box = []
    for axis in range(foreground.ndim):
        others = [a for a in range(foreground.ndim) if a != axis]
        hit = torch.nonzero(foreground.any(dim=others) if others else foreground)
        if len(hit) == 0:
            return None
        box.append((int(hit[0]), int(hit[-1]) + 1))
    return _widened(box, margin, foreground.shape)


def roi_boxes(target: Tensor, roi: StaticRoi | DynamicRoi) -> list[Box]:
    """Boxes of one sample: one, or one per class or component; none where there is no foreground.

    Parameters
    ----------
    target : Tensor of int64, shape ``*S``
        Class indices; everything above 0 is foreground.
    roi : StaticRoi or DynamicRoi
        How the boxes are found.
    """
    if isinstance(roi, StaticRoi):
        found = [static_box(target > 0, roi.size)]
    elif roi.per == "component":
        found = [
            _widened([(s.start, s.stop) for s in piece.box], roi.margin, target.shape)
            for piece in components(target)
        ]
    elif roi.per == "class":
        present = [int(c) for c in torch.unique(target) if c > 0]
        found = [dynamic_box(target == c, roi.margin) for c in present]
    else:
        found = [dynamic_box(target > 0, roi.margin)]
    return [box for box in found if box is not None]


def roi_masks(target: Tensor, roi: RoiConfig, spacing: Sequence[float]) -> list[list[Tensor]]:
    """Regions of each sample as masks of bool, shape ``*S``; unlabelled voxels are not part of them.

    A region without any labelled voxel is left out: a window between two far strokes may have none.

    Parameters
    ----------
    target : Tensor of int64, shape ``(B, *S)``
        Class indices; everything above 0 is foreground.
    roi : StaticRoi, DynamicRoi or MaskRoi
        How the regions are found.
    spacing : sequence of float
        For the radius of a mask.
    """
    valid = target >= 0
    if isinstance(roi, MaskRoi):
        radius = radius_in_world(roi.radius, roi.unit, target.shape[1:], spacing)
        grown = dilate(target > 0, radius, spacing) & valid
        return [[mask] if bool(mask.any()) else [] for mask in grown]
    filled = [
        [_filled(box, sample) & inside for box in roi_boxes(sample, roi)]
        for sample, inside in zip(target, valid, strict=True)
    ]
    return [[mask for mask in regions if bool(mask.any())] for regions in filled]


def roi_mask(target: Tensor, roi: RoiConfig, spacing: Sequence[float] | None = None) -> Tensor:
    """All regions of each sample in one mask of bool, shape ``(B, *S)``; empty where a sample has no foreground."""
    mask = torch.zeros_like(target, dtype=torch.bool)
    for sample, regions in enumerate(roi_masks(target, roi, spacing or (1.0,) * (target.ndim - 1))):
        for region in regions:
            mask[sample] |= region
    return mask


def _filled(box: Sequence[tuple[int, int]], like: Tensor) -> Tensor:
    mask = torch.zeros_like(like, dtype=torch.bool)
    mask[tuple(slice(start, stop) for start, stop in box)] = True
    return mask


def _widened(box: Sequence[tuple[int, int]], margin: int, shape: Sequence[int]) -> Box:
    return tuple((max(a - margin, 0), min(b + margin, n)) for (a, b), n in zip(box, shape, strict=True))
