"""Connected pieces of the classes, on the CPU by scipy; pieces that touch at a corner are one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

Slices = tuple[slice, ...]


@dataclass(frozen=True)
class Component:
    """One connected piece: its class, its tight box, and its mask within that box."""

    index: int
    box: Slices
    mask: NDArray[np.bool_]


def components(target: Tensor) -> Iterator[Component]:
    """Connected pieces of each foreground class of one sample.

    Parameters
    ----------
    target : Tensor of integers, shape ``*S``
        Class indices of one sample; negative ones belong to nothing.
    """
    labels = target.cpu().numpy()
    neighbours = np.ones((3,) * labels.ndim, bool)
    for index in np.unique(labels[labels > 0]).tolist():
        pieces, _ = ndimage.label(labels == index, neighbours)
        for number, box in enumerate(ndimage.find_objects(pieces), start=1):
            yield Component(int(index), box, pieces[box] == number)


def grown(box: Sequence[slice], reach: Sequence[int], shape: Sequence[int]) -> Slices:
    """A box with room on each side, clipped to the image."""
    return tuple(
        slice(max(s.start - r, 0), min(s.stop + r, n)) for s, r, n in zip(box, reach, shape, strict=True)
    )


def placed(piece: Component, inside: Slices) -> NDArray[np.bool_]:
    """The piece's mask within a larger box around it."""
    mask = np.zeros([s.stop - s.start for s in inside], bool)
    mask[
        tuple(slice(b.start - s.start, b.stop - s.start) for b, s in zip(piece.box, inside, strict=True))
    ] = piece.mask
    return mask
