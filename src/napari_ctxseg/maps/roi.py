"""Regions of interest around the labelled structure (context cross-entropy, Murugesan et al. 2020, section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_ctxseg.config import DynamicRoi, StaticRoi

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

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
    for axis, n in enumerate(foreground.shape):
        others = [a for a in range(foreground.ndim) if a != axis]
        hit = torch.nonzero(foreground.any(dim=others) if others else foreground)
        if len(hit) == 0:
            return None
        box.append((max(int(hit[0]) - margin, 0), min(int(hit[-1]) + 1 + margin, n)))
    return tuple(box)


def roi_mask(target: Tensor, roi: StaticRoi | DynamicRoi) -> Tensor:
    """Region of interest of each sample as a mask; empty where a sample has no foreground.

    Parameters
    ----------
    target : Tensor of int64, shape ``(B, *S)``
        Class indices; everything above 0 is foreground.
    roi : StaticRoi or DynamicRoi
        How the window is found.

    Returns
    -------
    Tensor of bool, shape ``(B, *S)``
    """
    mask = torch.zeros_like(target, dtype=torch.bool)
    for sample, foreground in enumerate(target > 0):
        box = (
            static_box(foreground, roi.size)
            if isinstance(roi, StaticRoi)
            else dynamic_box(foreground, roi.margin)
        )
        if box is not None:
            mask[sample][_slices(box)] = True
    return mask


def _slices(box: Sequence[tuple[int, int]]) -> tuple[slice, ...]:
    return tuple(slice(start, stop) for start, stop in box)
