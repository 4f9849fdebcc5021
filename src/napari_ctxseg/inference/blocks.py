"""Class logits of a whole image, block by block, whatever the dimensions of network and image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from napari_ctxseg.inference.tiling import decided, sliding_window, window_count
from napari_ctxseg.networks.patients import drop_statistics, own_statistics, patient_norms, patients_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Network = Callable[[Tensor], Tensor | tuple[Tensor, ...]]
    Blocks = Iterator[tuple[int, Tensor | None, float]]

#: Windows per forward pass.
WINDOWS = {2: 8, 3: 2}
#: Slices of a volume whose statistics stand for the patient's: all of most volumes, in one forward pass.
STATISTICS = 32


@dataclass(frozen=True)
class Tiles:
    """How a network is moved over an image: its dimensions, its window, and the axes along which it sees slices."""

    dims: int
    size: tuple[int, ...]
    planes: tuple[int, ...] = (0,)
    #: Channels, the last ones, that are probabilities of their own (sigmoid) and not of a class among others.
    apart: int = 0
    #: Whether the channels are overlapping regions: then all of them are apart.
    regions: bool = False


def logit_blocks(
    network: Network, image: Tensor, tiles: Tiles, layers: nn.Module | None = None, first: int = 0
) -> Iterator[tuple[int, Tensor | None, float]]:
    """Logits of an image.

    Parameters
    ----------
    network : callable
        In evaluation mode, on the device of `image`.
    image : Tensor, shape ``(C, *S)``
        S has as many axes as the network, or one more: then the network sees one slice at a time, along each of the
        planes of `tiles`, whose probabilities are averaged.
    tiles : Tiles
        Dimensions, window, planes, and channels apart.
    layers : nn.Module, optional
        Where the network's layers are, if it is not a module itself. Those that compare slices see the slices of a
        volume as one sequence; patient-wise normalisation takes the statistics of this image.
    first : int
        Slice to begin with, where the network sees the slices of one plane: the blocks come nearest first.

    Yields
    ------
    start : int
        Index of the block along the first spatial axis (0 when the network takes the whole image).
    logits : Tensor of shape ``(K, n, *plane)`` or ``(K, *S)``, or None
        None while there is only progress to tell.
    done : float
        Share of the image that is through the network.
    """
    module = layers if layers is not None else network if isinstance(network, nn.Module) else nn.Identity()
    try:
        if image.ndim - 1 == tiles.dims:
            yield from _whole(network, image, tiles, module)
        elif tiles.planes == (0,):
            yield from _slices(network, image, tiles, module, first)
        else:
            yield from _averaged(network, image, tiles, module)
    finally:
        drop_statistics(module)


def _whole(network: Network, image: Tensor, tiles: Tiles, module: nn.Module) -> Blocks:
    at_once = WINDOWS[tiles.dims]
    total = max(1, -(-window_count(image.shape[1:], tiles.size) // at_once))
    if patient_norms(module):
        with own_statistics(module):
            for _ in sliding_window(network, image[None], tiles.size, windows_at_once=at_once):
                yield 0, None, 0.0
    windows = sliding_window(network, image[None], tiles.size, windows_at_once=at_once)
    for count, logits in enumerate(windows, start=1):
        yield 0, None if logits is None else logits[0], min(1.0, count / total)


def _slices(network: Network, image: Tensor, tiles: Tiles, module: nn.Module, first: int = 0) -> Blocks:
    """Some slices at a time; each forward pass holds them all, at one place, so that a network may compare them."""

    def together(windows: Tensor) -> Tensor | tuple[Tensor, ...]:
        with patients_of(module, [0] * len(windows)):
            return network(windows)

    depth = image.shape[1]
    if patient_norms(module):
        some = image[:, _evenly(depth, STATISTICS)].transpose(0, 1)
        with own_statistics(module):
            for _ in sliding_window(together, some, tiles.size, windows_at_once=len(some)):
                yield 0, None, 0.0
    starts = sorted(range(0, depth, WINDOWS[2]), key=lambda start: abs(start + WINDOWS[2] // 2 - first))
    for number, start in enumerate(starts):
        slices = image[:, start : start + WINDOWS[2]].transpose(0, 1)
        for logits in sliding_window(together, slices, tiles.size, windows_at_once=len(slices)):
            if logits is None:
                yield start, None, number / len(starts)
            else:
                yield start, logits.transpose(0, 1), (number + 1) / len(starts)


def _evenly(length: int, most: int) -> list[int]:
    count = min(length, most)
    return [(2 * i + 1) * length // (2 * count) for i in range(count)]


def _averaged(network: Network, image: Tensor, tiles: Tiles, module: nn.Module) -> Blocks:
    """Mean probability over the planes, as logits."""
    total: Tensor | None = None
    apart = tiles.apart
    for number, axis in enumerate(tiles.planes):
        moved = image.movedim(axis + 1, 1)
        for start, logits, done in _slices(network, moved, tiles, module):
            if logits is not None:
                if total is None:
                    apart = len(logits) if tiles.regions else tiles.apart
                    total = logits.new_zeros((logits.shape[0], *image.shape[1:]))
                place = total.movedim(axis + 1, 1)[:, start : start + logits.shape[1]]
                place += _shares(logits, apart)
            yield 0, None, (number + done) / len(tiles.planes)
        drop_statistics(module)
    assert total is not None
    mean = (total / len(tiles.planes)).clamp(min=1e-12)
    if apart:
        mean[-apart:] = mean[-apart:].clamp(max=1 - 1e-6)
        mean[-apart:] /= 1 - mean[-apart:]
    yield 0, mean.log(), 1.0


def _shares(logits: Tensor, apart: int) -> Tensor:
    """Probabilities of the classes, and of the channels apart."""
    classes = logits.shape[0] - apart
    return torch.cat([torch.softmax(logits[:classes], dim=0), torch.sigmoid(logits[classes:])])


class HaltError(Exception):
    """A prediction was asked to stop on its way."""


def segment(
    network: Network, image: Tensor, tiles: Tiles, stop: Callable[[], bool] = lambda: False
) -> Tensor:
    """Class indices of a whole image, ``(C, *S)`` -> ``*S``, or masks of the regions, ``(K, *S)``; on the CPU.

    Raises
    ------
    HaltError
        Where `stop`, asked after each portion, says so.
    """
    blocks = []
    for _, logits, _ in logit_blocks(network, image, tiles):
        if logits is not None:
            blocks.append(decided(logits, regions=tiles.regions).cpu())
        if stop():
            raise HaltError
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=1 if tiles.regions else 0)


def dice_of(prediction: Tensor, target: Tensor, classes: int) -> list[float | None]:
    """Dice of each class 1 .. C-1 over the labelled voxels of one case; None where the class is in neither mask."""
    valid = target >= 0
    truth, guess = target[valid].long(), prediction[valid].long()
    table = torch.bincount(truth * classes + guess, minlength=classes * classes).view(classes, classes)
    overlap, size = table.diagonal(), table.sum(0) + table.sum(1)
    return [2 * int(overlap[c]) / int(size[c]) if size[c] else None for c in range(1, classes)]


def dice_of_regions(prediction: Tensor, truth: Tensor, valid: Tensor) -> list[float | None]:
    """Dice of each region over the labelled voxels of one case; None where it is in neither mask.

    Masks have the shape ``(R, *S)``, `valid` the shape ``*S``.
    """
    guess, drawn = prediction.bool()[:, valid], truth.bool()[:, valid]
    overlap, size = (guess & drawn).sum(dim=1), guess.sum(dim=1) + drawn.sum(dim=1)
    return [2 * int(o) / int(n) if n else None for o, n in zip(overlap, size, strict=True)]


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
