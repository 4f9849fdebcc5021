"""Crops of regions of interest of any size in one batch, and averages that see nothing beyond them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional

from napari_ctxseg.config import MaskRoi, StaticRoi
from napari_ctxseg.config.discriminators import SHRINK, SMALLEST_CROP
from napari_ctxseg.maps.roi import Box, dynamic_box, roi_boxes, roi_mask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ctxseg.config import RoiConfig


class Regions(NamedTuple):
    """What the local branch looks at, from the target, for real and predicted masks alike.

    A tuple, because it is an argument of a network: in mixed precision Fabric looks into all of them, and refuses
    frozen dataclasses.

    Attributes
    ----------
    boxes : tuple of tuple of boxes
        Those of each sample, at least one, as (start, stop) per axis.
    mask : Tensor of bool, shape ``(B, *S)``, or None
        Only these pixels are seen; None: all in the boxes.
    """

    boxes: tuple[tuple[Box, ...], ...]
    mask: Tensor | None = None


@dataclass(frozen=True)
class Crops:
    """Crops of a batch, padded at the far end to the largest.

    Attributes
    ----------
    values : Tensor, shape ``(R, C, *L)``
    inside : Tensor of bool, shape ``(R, *(L - 16))``
        Where what is left after the convolutions (9, 5 and 5, unpadded) has seen nothing but its own crop and counts.
    sample : tuple of int
        Whose crops they are.
    """

    values: Tensor
    inside: Tensor
    sample: tuple[int, ...]


def regions_of(
    target: Tensor, roi: RoiConfig, spacing: Sequence[float] | Sequence[Sequence[float]] | None = None
) -> Regions:
    """Regions of a batch (Murugesan et al. 2020, section 3); a window at the image's centre where nothing is labelled.

    Boxes of a dynamic region that are shorter than 17 are grown around their middle, inside the image.

    Parameters
    ----------
    target : Tensor of int64, shape ``(B, *S)``
        Class indices; everything above 0 is foreground.
    roi : StaticRoi, DynamicRoi or MaskRoi
        How the regions are found.
    spacing : sequence of float, or one such sequence per sample, optional
        For the radius of a mask.
    """
    shape = target.shape[1:]
    if isinstance(roi, MaskRoi):
        return _masked(target, roi, spacing)
    side = roi.size if isinstance(roi, StaticRoi) else SMALLEST_CROP
    boxes = []
    for sample in target:
        found = roi_boxes(sample, roi) or [centre_box(shape, side)]
        boxes.append(
            tuple(found if isinstance(roi, StaticRoi) else [grown_box(b, side, shape) for b in found])
        )
    return Regions(tuple(boxes))


def _masked(
    target: Tensor, roi: MaskRoi, spacing: Sequence[float] | Sequence[Sequence[float]] | None
) -> Regions:
    masks, boxes = [], []
    for sample, its in zip(target, _each(spacing, target), strict=True):
        mask = roi_mask(sample[None], roi, its)[0]
        box = dynamic_box(mask)
        if box is None:
            box = centre_box(mask.shape, SMALLEST_CROP)
            mask[_slices(box)] = True
        masks.append(mask)
        boxes.append((box,))
    return Regions(tuple(boxes), torch.stack(masks))


def _each(
    spacing: Sequence[float] | Sequence[Sequence[float]] | None, target: Tensor
) -> Sequence[Sequence[float]]:
    if spacing and isinstance(spacing[0], list | tuple):
        return cast("Sequence[Sequence[float]]", spacing)
    return [cast("Sequence[float]", spacing) or (1.0,) * (target.ndim - 1)] * len(target)


def centre_box(shape: Sequence[int], side: int) -> Box:
    """Window at the centre of an image; an axis shorter than `side` is taken whole."""
    return grown_box([(n // 2, n // 2) for n in shape], side, shape)


def grown_box(box: Sequence[tuple[int, int]], side: int, shape: Sequence[int]) -> Box:
    """Box at least `side` long on each axis, around the same middle, shifted inside the image.

    Examples
    --------
    >>> grown_box([(2, 5), (10, 40)], 17, (64, 64))
    ((0, 17), (10, 40))
    """
    grown = []
    for (start, stop), n in zip(box, shape, strict=True):
        if stop - start < side:
            wide = min(side, n)
            start = min(max((start + stop) // 2 - wide // 2, 0), n - wide)
            stop = start + wide
        grown.append((start, stop))
    return tuple(grown)


def _slices(box: Box) -> tuple[slice, ...]:
    return tuple(slice(start, stop) for start, stop in box)


def windows(x: Tensor, regions: Regions) -> Tensor:
    """One window per sample, all of one size, shape ``(B, C, *L)``: of a static region."""
    return torch.stack(
        [one[(slice(None), *_slices(its[0]))] for one, its in zip(x, regions.boxes, strict=True)]
    )


def crops_of(x: Tensor, regions: Regions) -> Crops:
    """Cut all regions out of a batch ``(B, C, *S)``.

    Under a mask everything outside it is set to 0, and a rim of zeros lets each of its pixels be the centre of what the
    convolutions see: no pixel of a thin structure is lost.
    """
    if regions.mask is not None:
        x = x * regions.mask.unsqueeze(1)
    values, inside, sample = [], [], []
    for n, its in enumerate(regions.boxes):
        for box in its:
            place = _slices(box)
            crop = x[n][(slice(None), *place)]
            if regions.mask is None:
                values.append(crop)
                inside.append(
                    torch.ones([s - SHRINK for s in crop.shape[1:]], dtype=torch.bool, device=x.device)
                )
            else:
                values.append(functional.pad(crop, [SHRINK // 2] * 2 * (crop.ndim - 1)))
                inside.append(regions.mask[n][place])
            sample.append(n)
    return Crops(_stacked(values), _stacked(inside), tuple(sample))


def _stacked(parts: list[Tensor]) -> Tensor:
    """Padded with zeros at the far ends to the largest."""
    axes = range(-1, -min(3, parts[0].ndim) - 1, -1)
    largest = [max(part.shape[axis] for part in parts) for axis in axes]
    pads = [
        [m for axis, n in zip(axes, largest, strict=True) for m in (0, n - part.shape[axis])]
        for part in parts
    ]
    return torch.stack([functional.pad(part, pad) for part, pad in zip(parts, pads, strict=True)])


def pooled(features: Tensor, crops: Crops, batch: int) -> Tensor:
    """Global average of the features inside each crop, then over the crops of a sample, in at least float32.

    Parameters
    ----------
    features : Tensor, shape ``(R, K, *(L - 16))``
    crops : Crops
    batch : int
        Number of samples.

    Returns
    -------
    Tensor, shape ``(B, K)``
    """
    exact = features.to(torch.promote_types(features.dtype, torch.float32)).flatten(2)
    inside = crops.inside.flatten(1).to(exact.dtype)
    means = (exact * inside.unsqueeze(1)).sum(dim=2) / inside.sum(dim=1, keepdim=True)
    mine = torch.tensor([[s == n for s in crops.sample] for n in range(batch)], device=means.device)
    share = mine.to(means.dtype) / mine.sum(dim=1, keepdim=True)
    return (share.unsqueeze(2) * means.unsqueeze(0)).sum(dim=1)
