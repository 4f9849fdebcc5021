"""Images of any size through networks that need multiples of their stride, or one size alone."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

Heads = Tensor | tuple[Tensor, ...]


class AnySize(nn.Module):
    """Pads its input at the far end to what the network needs, and crops the output back.

    Parameters
    ----------
    network : nn.Module
        Returns full-size logits, or a tuple of them.
    stride : sequence of int
        Every side is padded to a multiple of it, by replication.
    smallest : sequence of int
        Sides are padded to at least this, so that nothing is normalised over a single pixel.
    """

    def __init__(self, network: nn.Module, stride: Sequence[int], smallest: Sequence[int]) -> None:
        super().__init__()
        self.network, self.stride, self.smallest = network, tuple(stride), tuple(smallest)

    def forward(self, x: Tensor) -> Heads:
        """Logits of the input's own size, ``(B, C, *S)`` -> ``(B, K, *S)`` or a tuple of such."""
        shape = x.shape[2:]
        missing = [
            max(n + -n % step, least) - n
            for n, step, least in zip(shape, self.stride, self.smallest, strict=True)
        ]
        if any(missing):
            x = functional.pad(x, [m for n in reversed(missing) for m in (0, n)], mode="replicate")
        y = self.network(x)
        return tuple(cropped(head, shape) for head in y) if isinstance(y, tuple) else cropped(y, shape)


class OneSize(nn.Module):
    """Passes images through a network that takes one size alone: smaller ones padded, larger ones in pieces side by side.

    The pieces do not overlap; where that matters the caller moves a window of the network's size itself.

    Parameters
    ----------
    network : nn.Module
        Takes ``(B, C, *size)``.
    size : sequence of int
        That size.
    """

    def __init__(self, network: nn.Module, size: Sequence[int]) -> None:
        super().__init__()
        self.network, self.size = network, tuple(size)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the input's own size."""
        shape = x.shape[2:]
        missing = [-n % side for n, side in zip(shape, self.size, strict=True)]
        if any(missing):
            x = functional.pad(x, [m for n in reversed(missing) for m in (0, n)], mode="replicate")
        return cropped(self._pieces(x), shape)

    def _pieces(self, x: Tensor) -> Tensor:
        counts = [n // side for n, side in zip(x.shape[2:], self.size, strict=True)]
        places = list(itertools.product(*map(range, counts)))
        if len(places) == 1:
            y: Tensor = self.network(x)
            return y
        parts: list[Tensor] = []
        for place in places:
            part = x
            for axis, (index, side) in enumerate(zip(place, self.size, strict=True)):
                part = part.narrow(axis + 2, index * side, side)
            parts.append(self.network(part))
        for axis in reversed(range(len(counts))):
            n = counts[axis]
            parts = [torch.cat(parts[i : i + n], dim=axis + 2) for i in range(0, len(parts), n)]
        (whole,) = parts
        return whole


def cropped(x: Tensor, shape: Sequence[int]) -> Tensor:
    """The near corner of a map, ``(B, C, *T)`` -> ``(B, C, *shape)``."""
    for axis, n in enumerate(shape):
        x = x.narrow(axis + 2, 0, n)
    return x


def enlarged(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Linear interpolation to a size, ``(B, C, *T)`` -> ``(B, C, *shape)``; bilinear or trilinear."""
    mode = "bilinear" if x.ndim == 4 else "trilinear"
    y: Tensor = functional.interpolate(x, size=tuple(shape), mode=mode, align_corners=False)
    return y
