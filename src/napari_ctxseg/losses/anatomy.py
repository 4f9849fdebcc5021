"""What a loss looks at, as arrays for the screen and for files; computed by the very code that trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import ndimage

from napari_ctxseg.image import IGNORE
from napari_ctxseg.losses import PixelLoss, SpatialLoss, SumLoss, make_loss
from napari_ctxseg.losses.base import ce_map, check, check_range, check_target, spacing_of
from napari_ctxseg.losses.cross_entropy import FocalLoss

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_ctxseg.config import Config
    from napari_ctxseg.losses.base import Loss

Boxes = tuple[tuple[tuple[int, int], ...], ...]


@dataclass(frozen=True)
class Anatomy:
    """Maps of one image; None where the loss has no such thing.

    Attributes
    ----------
    weight : array of float32, shape ``*S``
        Weight of each pixel with all normalisers, 0 where unlabelled.
    far : float
        Weight of the labelled background pixel that is farthest from all foreground, to compare with.
    roi, contour, interior, dilated : array, shape ``*S``
        See `napari_ctxseg.losses.base.Views`: regions (bool), contour (float32), interior and dilated (class indices).
    boxes : tuple
        Boxes of the regions, as (start, stop) per axis.
    ce, weighted : array of float32, shape ``*S``
        Cross-entropy of each pixel, and its share in the loss; only with logits.
    loss : float
        The loss itself; only with logits.
    """

    weight: NDArray[np.float32] | None = None
    far: float | None = None
    roi: NDArray[np.bool_] | None = None
    boxes: Boxes = ()
    contour: NDArray[np.float32] | None = None
    interior: NDArray[Any] | None = None
    dilated: NDArray[Any] | None = None
    ce: NDArray[np.float32] | None = None
    weighted: NDArray[np.float32] | None = None
    loss: float | None = None


def anatomy(
    config: Config | dict[str, Any] | str,
    target: NDArray[Any],
    spacing: Sequence[float] | None = None,
    *,
    classes: int | None = None,
    logits: Tensor | None = None,
    progress: float = 1.0,
) -> Anatomy:
    """Everything a loss looks at in one image.

    Parameters
    ----------
    config : configuration, dict or str
        See `make_loss`.
    target : array of integers, shape ``*S``
        Class indices, -1 where unlabelled; two or three axes.
    spacing : sequence of float, optional
        One positive number per axis.
    classes : int, optional
        Number of classes, background included; the highest index plus one when left out.
    logits : Tensor, optional, shape ``(C, *S)``
        Of a network, for the maps of cross-entropy and loss.
    progress : float
        How far the training is, 0 to 1, for losses that change on the way.

    Returns
    -------
    Anatomy

    Raises
    ------
    ValueError
        If target, spacing or logits do not fit.
    """
    loss = make_loss(config)
    loss.progress = progress
    array = np.asarray(target)
    if array.dtype.kind in "iu":  # torch knows neither unsigned types nor another machine's byte order
        array = array.astype(np.int64)
    labels = torch.from_numpy(np.array(array))[None]
    check_target(labels)
    n = check_range(labels, classes)
    with torch.no_grad():
        weight = None
        if isinstance(loss, SpatialLoss | SumLoss):
            weight = loss.weight_map(labels, spacing, classes=classes)
        labels, steps = labels.long(), spacing_of(labels, spacing)
        views = loss.views(labels, n, steps)
        ce = weighted = value = None
        if logits is not None:
            head, _ = check(logits[None].float(), labels)
            ce = ce_map(head, labels)
            if isinstance(loss, SpatialLoss) and weight is not None:
                weighted = weight * ce  # the map is there: not once more
            elif isinstance(loss, PixelLoss | SumLoss):
                weighted = loss.pixels(head, labels, steps)
            if isinstance(loss, PixelLoss) and weighted is not None:
                value = float(weighted.sum())
            else:
                value = float(loss(head, labels, spacing))
    shown = _array(weight)
    return Anatomy(
        weight=shown,
        far=None if shown is None else _far_background(shown, np.asarray(target), steps),
        roi=_array(views.roi),
        boxes=tuple(views.boxes[0]) if views.boxes else (),
        contour=_array(views.contour),
        interior=_array(views.interior),
        dilated=_array(views.dilated),
        ce=_array(ce),
        weighted=_array(weighted),
        loss=value,
    )


def shares_of_slice(
    config: Config | dict[str, Any] | str,
    target: NDArray[Any],
    index: int,
    logits: Tensor,
    weight: NDArray[np.float32] | None,
) -> NDArray[np.float32] | None:
    """What each pixel of one slice adds to the loss of its volume, where the logits are known for that slice alone.

    Parameters
    ----------
    config : configuration, dict or str
        See `make_loss`.
    target : array of integers, shape ``(z, y, x)``
        Class indices, -1 where unlabelled.
    index : int
        The slice.
    logits : Tensor, shape ``(C, y, x)``
        Of the slice.
    weight : array of float32, shape ``(y, x)``, or None
        The volume's `Anatomy.weight` in the slice.

    Returns
    -------
    array of float32, shape ``(y, x)``
        None if no term is a sum over pixels, or the slice alone does not tell its share.
    """
    plane, head = torch.from_numpy(np.array(target[index]))[None].long(), logits[None].float()
    total = None if weight is None else torch.from_numpy(weight)[None] * ce_map(head, plane)
    # The mean over the slice, as a part of the mean over the volume.
    part = np.count_nonzero(target[index] != IGNORE) / (int(np.count_nonzero(target != IGNORE)) or 1)
    with torch.no_grad():
        for factor, loss in _terms(1.0, make_loss(config)):
            if isinstance(loss, FocalLoss):
                share = factor * part * loss.pixels(head, plane, (1.0, 1.0))
                total = share if total is None else total + share
            elif isinstance(loss, PixelLoss) and not isinstance(loss, SpatialLoss):
                return None
    return _array(total)


def _terms(factor: float, loss: Loss) -> Iterator[tuple[float, Loss]]:
    """The losses that a loss is made of, with their factors."""
    if not isinstance(loss, SumLoss):
        yield factor, loss
        return
    for own, term in loss.terms():
        yield from _terms(factor * own, term)


def _array(values: Tensor | None) -> NDArray[Any] | None:
    return None if values is None else np.ascontiguousarray(values[0].cpu().numpy())


def _far_background(
    weight: NDArray[np.float32], target: NDArray[Any], spacing: Sequence[float]
) -> float | None:
    background = target == 0
    if not background.any():
        return None
    if not (target > 0).any():
        return float(weight[background].max())
    distance = ndimage.distance_transform_edt(target <= 0, sampling=spacing)
    place = np.unravel_index(int(np.argmax(np.where(background, distance, -1))), target.shape)
    return float(weight[place])
