"""Dilation of every connected piece, many at once: pieces too far apart to meet share a bit."""

from __future__ import annotations

from types import EllipsisType
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_ctxseg.maps.components import components, grown
from napari_ctxseg.maps.dilation import dilated_masks, reach_in_voxels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from napari_ctxseg.maps.components import Slices

#: An index of a batch: samples, then a box; or all of it.
Place = tuple[slice | EllipsisType, ...]


def dilated_pieces(
    target: Tensor, radius: float, spacing: Sequence[float]
) -> Iterator[tuple[int, Place, Tensor]]:
    """Background, and each connected piece of the foreground classes, dilated by a ball.

    Parameters
    ----------
    target : Tensor of integers, shape ``(B, *S)``
        Class indices; negative ones belong to nothing.
    radius : float
        In the unit of `spacing`, not negative.
    spacing : sequence of float
        One positive number per spatial axis.

    Yields
    ------
    index : int
        Of the class.
    place : tuple of slice
        For a piece its sample and the box that the dilated piece stays in; all of the batch for the background.
    mask : Tensor of bool
        The dilated piece within that place.
    """
    reach = reach_in_voxels(radius, spacing, target.shape[1:])
    codes = np.where(target.cpu().numpy() == 0, 0, -1).astype(np.int32)
    by_code: list[list[tuple[int, Place]]] = [[]]
    for n, sample in enumerate(target):
        pieces = list(components(sample))
        boxes = [grown(piece.box, reach, sample.shape) for piece in pieces]
        for piece, box, code in zip(pieces, boxes, _codes(boxes), strict=True):
            codes[n][piece.box][piece.mask] = code
            by_code += [[] for _ in range(code + 1 - len(by_code))]
            by_code[code].append((piece.index, (slice(n, n + 1), *box)))
    batch = torch.from_numpy(codes).to(target.device)
    for code, mask in dilated_masks(batch, len(by_code), radius, spacing):
        if code == 0:
            yield 0, (...,), mask
        for index, place in by_code[code]:
            yield index, place, mask[place]


def _codes(boxes: Sequence[Slices]) -> list[int]:
    """A number from 1 for each box, the lowest that no box has that it meets."""
    low = np.array([[s.start for s in box] for box in boxes])
    high = np.array([[s.stop for s in box] for box in boxes])
    codes = np.zeros(len(boxes), int)
    for number in range(len(boxes)):
        meets = ((low[:number] < high[number]) & (high[:number] > low[number])).all(axis=1)
        taken = set(codes[:number][meets].tolist())
        codes[number] = next(c for c in range(1, number + 2) if c not in taken)
    return [int(code) for code in codes]
