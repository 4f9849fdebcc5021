"""Bands along the boundaries of all classes at once (Huang & Sui, ICIP 2024, arXiv 2407.06176).

A voxel is eroded when the box around it holds another class. That is one minimum and one maximum over the box, for any
number of classes. Unlabelled voxels neither are contour nor make one; beyond the image everything goes on as it is.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import ndimage

from napari_ctxseg.maps.components import Component, components, grown, placed, within
from napari_ctxseg.maps.euclidean import FAR, Ruler, bell
from napari_ctxseg.maps.windows import box_max, box_min

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_ctxseg.config import ContourConfig


#: Voxels that are worked on at a time: a bound on memory.
CHUNK = 1 << 20
#: How many times as many on a GPU, which spends its time on starting short operations.
WIDER = 64
#: What an object of its own costs, in voxels of the image.
OVERHEAD = 1 << 12


def interior(target: Tensor, iterations: int, border: str = "same") -> Tensor:
    """What is left of every class after erosion by a 3-wide box.

    Parameters
    ----------
    target : Tensor of integers, shape ``(B, *S)``
        Class indices; negative ones are unlabelled.
    iterations : int
        Number of erosions.
    border : str
        ``"same"``: the image's edge erodes nothing. ``"contour"``: beyond it lies another class, as in the released code.

    Returns
    -------
    Tensor of bool, shape ``(B, *S)``
        Where the voxel survives the erosion of its own class, background included.
    """
    shape = target.shape[1:]
    chunk = CHUNK * WIDER if target.is_cuda else CHUNK
    at_once = max(4 * iterations, chunk // max(1, len(target) * math.prod(shape[1:])), 1)
    result = torch.empty(target.shape, dtype=torch.bool, device=target.device)
    for start in range(0, shape[0], at_once):
        stop = min(start + at_once, shape[0])
        low, high = max(start - iterations, 0), min(stop + iterations, shape[0])
        block = _uniform(target[:, low:high], iterations, border)
        result[:, start:stop] = block[:, start - low : stop - low]
    return result


def _uniform(target: Tensor, iterations: int, border: str) -> Tensor:
    """Labelled voxels whose box holds one class only."""
    valid = target >= 0
    codes = _narrow(target)
    outside = torch.iinfo(codes.dtype).max - 1 if border == "contour" else None
    high = box_max(codes, iterations, outside)
    if not bool(valid.all()):
        # For the minimum, unlabelled voxels must be the highest value instead of the lowest.
        codes = codes.masked_fill(~valid, torch.iinfo(codes.dtype).max)
    return (high == box_min(codes, iterations, outside)) & valid


def contour_band(target: Tensor, contour: ContourConfig, spacing: Sequence[float]) -> Tensor:
    """How much each voxel belongs to the contour, on the chosen side.

    Parameters
    ----------
    target : Tensor of int64, shape ``(B, *S)``
        Class indices; class 0 is background and has no rim of its own.
    contour : ContourConfig
        Thickness, side, border, adaptation and softness.
    spacing : sequence of float
        For a soft band, whose distances are in voxels of the finest in-plane axis.

    Returns
    -------
    Tensor of float32, shape ``(B, *S)``
        0 to 1; 0 where unlabelled.
    """
    if contour.softness > 0:
        band = _soft(target, contour, spacing)
    elif contour.adapt > 0:
        band = _adapted(target, contour)
    else:
        band = _plain(target, contour).float()
    return band * (target >= 0)


def inner_band(target: Tensor, contour: ContourConfig, spacing: Sequence[float]) -> Tensor:
    """How much each foreground voxel belongs to the inner contour of its own class, whatever the side."""
    return contour_band(target, contour.model_copy(update={"side": "inner"}), spacing)


def _narrow(target: Tensor) -> Tensor:
    """Labels plus one in the narrowest type that leaves room for two more values; unlabelled ones are 0, the lowest."""
    top = int(target.max()) if target.numel() else 0
    dtype = torch.uint8 if top < 250 else torch.int32
    if target.dtype != torch.uint8:  # which has no room for -1, and no need of it
        target = target.clamp(min=-1)
    return target.to(dtype) + 1 if target.dtype == torch.uint8 else (target + 1).to(dtype)


def _plain(target: Tensor, contour: ContourConfig) -> Tensor:
    rim = ~interior(target, contour.iterations, contour.border)
    if contour.side == "both":
        return rim
    if contour.side == "inner":
        return rim & (target > 0)
    return _near_other_foreground(target, contour.iterations)


def _near_other_foreground(target: Tensor, reach: int) -> Tensor:
    """Voxels with a foreground class other than their own within the box."""
    codes = _narrow(target)
    foreground = target > 0
    none = torch.iinfo(codes.dtype).max
    high = box_max(codes.masked_fill(~foreground, 0), reach)
    low = box_min(codes.masked_fill(~foreground, none), reach)
    return (high > 0) & ((high != codes) | (low != codes))


# ---------------------------------------------------------------- thickness that fits the object


def thickness(depth: int, share: float, most: int) -> int:
    """Erosions that leave something of an object that vanishes after `depth` of them.

    An object of depth 1 has no voxel without a neighbour outside; its contour is all of it.
    """
    return max(1, min(most, int(share * depth + 1e-9), depth - 1))


def _adapted(target: Tensor, contour: ContourConfig) -> Tensor:
    """Contour of every connected piece with a thickness of its own."""
    if contour.iterations == 0:
        return torch.zeros(target.shape, device=target.device)
    samples = [_adapted_sample(sample, contour) for sample in target]
    return torch.from_numpy(np.stack(samples)).to(target.device) if samples else target.float()


def _adapted_sample(target: Tensor, contour: ContourConfig) -> NDArray[np.float32]:
    labels = target.cpu().numpy()
    band = np.zeros(labels.shape, np.float32)
    inner, outer = contour.side in ("inner", "both"), contour.side in ("outer", "both")
    reach = (contour.iterations,) * labels.ndim
    complete = bool((labels >= 0).all())
    for piece in components(labels):
        depth = _piece_depth(labels, piece, contour.border, complete=complete)
        most = int(depth[piece.mask].max())
        # A piece that fills the image has no boundary at all.
        steps = thickness(min(most, max(labels.shape)), contour.adapt, contour.iterations)
        if inner:
            band[piece.box][piece.mask & (depth <= steps)] = 1
        if outer:
            box = grown(piece.box, reach, labels.shape)
            mask = torch.from_numpy(placed(piece, box).view(np.uint8))
            ring = box_max(mask[None], steps)[0].numpy().view(bool)
            band[box][ring & (labels[box] != piece.index)] = 1
    return band


def _piece_depth(
    labels: NDArray[np.int64], piece: Component, border: str, *, complete: bool
) -> NDArray[np.int32]:
    """Box depth within the box of a piece; unlabelled voxels erode nothing."""
    # The nearest voxel of another class touches the piece, unless unlabelled ones lie between.
    around = grown(piece.box, (1,) * labels.ndim, labels.shape)
    crop = around if complete else tuple(slice(0, n) for n in labels.shape)
    depth = _box_depth((labels[crop] == piece.index) | (labels[crop] < 0), border)
    return depth[within(piece.box, crop)]


def _box_depth(mask: NDArray[np.bool_], border: str) -> NDArray[np.int32]:
    """After how many erosions by a 3-wide box each voxel of the mask is gone; a huge number if never."""
    if border == "contour":
        depth = ndimage.distance_transform_cdt(_framed(mask, False), metric="chessboard")
        return np.asarray(_unframed(depth, mask.shape), np.int32)
    if mask.all():
        return np.full(mask.shape, np.iinfo(np.int32).max, np.int32)
    return np.asarray(ndimage.distance_transform_cdt(mask, metric="chessboard"), np.int32)


def _framed(values: NDArray[Any], value: int) -> NDArray[Any]:
    """One voxel more on each side, but not along an axis of one voxel: a volume of one slice is a plane."""
    return np.pad(values, [(1, 1) if n > 1 else (0, 0) for n in values.shape], constant_values=value)


def _unframed(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    return values[tuple(slice(1, -1) if n > 1 else slice(None) for n in shape)]


# ---------------------------------------------------------------- soft band


def _soft(target: Tensor, contour: ContourConfig, spacing: Sequence[float]) -> Tensor:
    """``exp(-d^2 / (2 s^2))``, d from the boundary voxels, both in voxels of the finest in-plane axis."""
    voxel = min(spacing[-2:])
    ruler = Ruler.up_to(FAR * contour.softness + 1, [s / voxel for s in spacing])
    bands = []
    for sample in target:
        distance = ruler.distances(_boundary_squares(sample.cpu().numpy(), contour, ruler))
        distance -= 1  # one step is what touching voxels are apart
        bands.append(bell(np.maximum(distance, 0, out=distance), contour.softness))
    return torch.from_numpy(np.stack(bands)).to(target.device) if bands else target.float()


def _boundary_squares(labels: NDArray[np.int64], contour: ContourConfig, ruler: Ruler) -> NDArray[Any]:
    """Squared distance to the nearest voxel of another class."""
    shape, top = labels.shape, int(labels.max())
    if contour.border == "contour" and contour.side != "outer":  # beyond the image lies a class of its own
        labels = _framed(labels, max(top, 0) + 1)
    squares = ruler.empty(labels.shape)
    pieces = list(components(labels))
    if contour.side != "inner" and pieces:
        _measure_background(labels, pieces, ruler, squares)
    pieces = [piece for piece in pieces if piece.index <= top]
    counts = labels > 0 if contour.side == "outer" else labels >= 0
    # The nearest voxel of another class touches the object, unless some do not count.
    near = bool(counts.all())
    reach = (1,) * labels.ndim if near else ruler.reach
    for own in pieces if near and _few(pieces, reach, labels.shape) else _classes(labels, pieces):
        crop = grown(own.box, reach, labels.shape)
        other = counts[crop] & (labels[crop] != own.index)
        if other.any():
            here = ruler.squares(other, tuple(slice(0, n) for n in other.shape), other.shape)
            squares[own.box][own.mask] = here[within(own.box, crop)][own.mask]
        else:
            squares[own.box][own.mask] = ruler.nothing
    return squares if squares.shape == shape else _unframed(squares, shape)


def _measure_background(
    labels: NDArray[np.int64], pieces: list[Component], ruler: Ruler, squares: NDArray[Any]
) -> None:
    """Squared distance to the foreground, in place; object by object where that leaves out much of the image."""
    objects = pieces if _few(pieces, ruler.reach, labels.shape) else [_object(labels > 0, 0)]
    for piece in objects:
        crop = grown(piece.box, ruler.reach, labels.shape)
        here = ruler.squares(piece.mask, within(piece.box, crop), [s.stop - s.start for s in crop])
        np.minimum(squares[crop], here, out=squares[crop])


def _few(pieces: list[Component], reach: Sequence[int], shape: tuple[int, ...]) -> bool:
    """Whether the surroundings of all pieces are less work than the image."""
    boxes = [grown(piece.box, reach, shape) for piece in pieces]
    work = sum(OVERHEAD + math.prod(s.stop - s.start for s in box) for box in boxes)
    return bool(work < math.prod(shape))


def _classes(labels: NDArray[np.int64], pieces: list[Component]) -> list[Component]:
    """All pieces of each class as one."""
    return [_object(labels == index, index) for index in sorted({piece.index for piece in pieces})]


def _object(mask: NDArray[np.bool_], index: int) -> Component:
    box = ndimage.find_objects(mask.view(np.uint8))[0]
    return Component(index, box, mask[box])
