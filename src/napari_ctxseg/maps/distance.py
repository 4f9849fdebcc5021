"""Weight of narrow gaps between objects (Ronneberger et al., MICCAI 2015, equation 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_ctxseg.maps.components import components, within
from napari_ctxseg.maps.euclidean import FAR, Ruler, bell

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_ctxseg.maps.components import Slices

#: Objects whose neighbours are looked for at a time: a bound on memory.
BLOCK = 64


def gap_map(target: Tensor, sigma: float, spacing: Sequence[float]) -> Tensor:
    """``exp(-(d1 + d2)^2 / (2 sigma^2))`` in the background, d1 and d2 to the nearest and second nearest object.

    Objects are the connected pieces of each foreground class. The term belongs to the background between them: within an
    object, where there are fewer than two objects, and where ``d1 + d2`` is more than 6.5 sigma, it is 0.

    Parameters
    ----------
    target : Tensor of int64, shape ``(B, *S)``
        Class indices, negative where unlabelled.
    sigma : float
        In the unit of `spacing`.
    spacing : sequence of float
        One positive number per spatial axis.

    Returns
    -------
    Tensor of float32, shape ``(B, *S)``
    """
    maps = [_sample(sample, sigma, spacing) for sample in target]
    return torch.from_numpy(np.stack(maps)).to(target.device) if maps else target.float()


def _sample(target: Tensor, sigma: float, spacing: Sequence[float]) -> NDArray[np.float32]:
    labels = target.cpu().numpy()
    pieces = list(components(labels))
    ruler = Ruler.up_to(FAR * sigma, spacing)
    nearest, second = ruler.empty(labels.shape), ruler.empty(labels.shape)
    for number, region in _regions([piece.box for piece in pieces], FAR * sigma, spacing, labels.shape):
        piece = pieces[number]
        shape = [s.stop - s.start for s in region]
        here = ruler.squares(piece.mask, within(piece.box, region), shape)
        first, next_ = nearest[region], second[region]
        np.minimum(next_, np.maximum(first, here), out=next_)
        np.minimum(first, here, out=first)
    both = ruler.distances(nearest)
    both += ruler.distances(second)
    both[labels != 0] = np.inf
    return bell(both, sigma)


def _regions(
    boxes: Sequence[Slices], reach: float, spacing: Sequence[float], shape: Sequence[int]
) -> Iterator[tuple[int, Slices]]:
    """For each object with another one near, the region where the sum of the distances to both may be within reach.

    Along every axis the distances to their boxes add up to no more than the reach.
    """
    step = np.asarray(spacing)
    low = np.array([[s.start for s in box] for box in boxes]).reshape(len(boxes), len(shape))
    high = np.array([[s.stop for s in box] for box in boxes]).reshape(low.shape) - 1
    starts, stops = low * step, high * step
    for block in range(0, len(boxes), BLOCK):
        some = slice(block, block + BLOCK)
        apart = np.maximum(starts - stops[some, None], starts[some, None] - stops).clip(0)
        meets = (apart**2).sum(axis=2) <= reach**2 * (1 + 1e-9)
        np.fill_diagonal(meets[:, block:], val=False)
        begin = _edges(starts[some, None], starts, reach, meets)
        end = -_edges(-stops[some, None], -stops, reach, meets)
        first = np.minimum(low[some], np.floor(begin / step)).clip(0)
        last = np.maximum(high[some], np.ceil(end / step)).clip(max=np.asarray(shape) - 1)
        for row in np.flatnonzero(meets.any(axis=1)).tolist():
            box = zip(first[row].tolist(), last[row].tolist(), strict=True)
            yield block + row, tuple(slice(int(a), int(b) + 1) for a, b in box)


def _edges(
    one: NDArray[np.float64], others: NDArray[np.float64], reach: float, meets: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Lowest coordinates whose distances to two boxes, which start at `one` and at the other, add up to the reach."""
    inner, outer = np.maximum(one, others), np.minimum(one, others)
    lowest = np.maximum(inner - reach, (inner + outer - reach) / 2)
    return np.asarray(lowest.min(axis=1, initial=np.inf, where=meets[..., None]))
