"""Class logits of a whole image, block by block, whatever the dimensions of network and image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from napari_ctxseg.inference.tiling import argmax_classes, sliding_window, window_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

#: Windows per forward pass.
WINDOWS = {2: 8, 3: 2}


@dataclass(frozen=True)
class Tiles:
    """How a network is moved over an image: its dimensions and its window."""

    dims: int
    size: tuple[int, ...]


def logit_blocks(
    network: Callable[[Tensor], Tensor | tuple[Tensor, ...]], image: Tensor, tiles: Tiles
) -> Iterator[tuple[int, Tensor | None, float]]:
    """Logits of an image.

    Parameters
    ----------
    network : callable
        In evaluation mode, on the device of `image`.
    image : Tensor, shape ``(C, *S)``
        S has as many axes as the network, or one more: then the network sees one slice along the first axis at a time.
    tiles : Tiles
        Dimensions and window.

    Yields
    ------
    start : int
        Index of the block along the first spatial axis (0 when the network takes the whole image).
    logits : Tensor of shape ``(K, n, *plane)`` or ``(K, *S)``, or None
        None while there is only progress to tell.
    done : float
        Share of the image that is through the network.
    """
    if image.ndim - 1 == tiles.dims:
        total = max(1, -(-window_count(image.shape[1:], tiles.size) // WINDOWS[tiles.dims]))
        for count, logits in enumerate(
            sliding_window(network, image[None], tiles.size, windows_at_once=WINDOWS[tiles.dims]), start=1
        ):
            yield 0, None if logits is None else logits[0], min(1.0, count / total)
        return
    depth = image.shape[1]
    per_slice = window_count(image.shape[2:], tiles.size)
    step = max(1, WINDOWS[2] // per_slice)
    for start in range(0, depth, step):
        slices = image[:, start : start + step].transpose(0, 1)
        for logits in sliding_window(network, slices, tiles.size, windows_at_once=WINDOWS[2]):
            if logits is None:
                yield start, None, start / depth
            else:
                yield start, logits.transpose(0, 1), min(1.0, (start + step) / depth)


def segment(network: Callable[[Tensor], Tensor], image: Tensor, tiles: Tiles) -> Tensor:
    """Class indices of a whole image, ``(C, *S)`` -> ``*S``, on the CPU."""
    blocks = [
        argmax_classes(logits[None])[0].cpu()
        for _, logits, _ in logit_blocks(network, image, tiles)
        if logits is not None
    ]
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks)


def dice_of(prediction: Tensor, target: Tensor, classes: int) -> list[float | None]:
    """Dice of each class 1 .. C-1 over the labelled voxels of one case; None where the class is in neither mask."""
    valid = target >= 0
    truth, guess = target[valid].long(), prediction[valid].long()
    table = torch.bincount(truth * classes + guess, minlength=classes * classes).view(classes, classes)
    overlap, size = table.diagonal(), table.sum(0) + table.sum(1)
    return [2 * int(overlap[c]) / int(size[c]) if size[c] else None for c in range(1, classes)]


def mean_dice(
    per_case: Sequence[Sequence[float | None]], names: Sequence[str]
) -> tuple[dict[str, float | None], float | None]:
    """Mean over cases per class, then over classes; a class absent in both masks is left out."""
    dice: dict[str, float | None] = {}
    for column, name in enumerate(names):
        known = [row[column] for row in per_case if row[column] is not None]
        dice[name] = sum(v for v in known if v is not None) / len(known) if known else None
    means = [v for v in dice.values() if v is not None]
    return dice, sum(means) / len(means) if means else None
