"""Connected pieces of the classes, on the CPU; pieces that touch at a corner are one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from skimage.measure import label

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


def components(target: Tensor | NDArray[np.integer]) -> Iterator[Component]:
    """Connected pieces of each foreground class of one sample, one class after the other.

    Parameters
    ----------
    target : Tensor or array of integers, shape ``*S``
        Class indices of one sample; negative ones belong to nothing.
    """
    labels = target if isinstance(target, np.ndarray) else target.cpu().numpy()
    pieces = label(np.maximum(labels, 0), background=0, connectivity=labels.ndim)  # type: ignore[no-untyped-call]
    found = []
    for number, box in enumerate(ndimage.find_objects(pieces), start=1):
        mask = pieces[box] == number
        found.append(Component(int(labels[box].flat[mask.argmax()]), box, mask))
    yield from sorted(found, key=lambda piece: piece.index)


def grown(box: Sequence[slice], reach: Sequence[int], shape: Sequence[int]) -> Slices:
    """A box with room on each side, clipped to the image."""
    return tuple(
        slice(max(s.start - r, 0), min(s.stop + r, n)) for s, r, n in zip(box, reach, shape, strict=True)
    )


def within(box: Sequence[slice], outer: Sequence[slice]) -> Slices:
    """Where a box lies in a larger one around it."""
    return tuple(slice(b.start - o.start, b.stop - o.start) for b, o in zip(box, outer, strict=True))


def placed(piece: Component, inside: Slices) -> NDArray[np.bool_]:
    """The piece's mask within a larger box around it."""
    mask = np.zeros([s.stop - s.start for s in inside], bool)
    mask[within(piece.box, inside)] = piece.mask
    return mask
