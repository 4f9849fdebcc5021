"""Sliding windows with Gaussian blending, as a generator so that a caller can stop between windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from monai.data.utils import compute_importance_map, dense_patch_slices
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

#: Share by which neighbouring windows overlap.
OVERLAP = 0.5


def window_count(shape: Sequence[int], size: Sequence[int], overlap: float = OVERLAP) -> int:
    """Number of windows that cover a grid."""
    return len(_windows(_padded(shape, size), size, overlap))


def _padded(shape: Sequence[int], size: Sequence[int]) -> tuple[int, ...]:
    return tuple(max(n, s) for n, s in zip(shape, size, strict=True))


def _windows(shape: Sequence[int], size: Sequence[int], overlap: float) -> list[tuple[slice, ...]]:
    steps = [max(1, int(s * (1 - overlap))) if n > s else s for n, s in zip(shape, size, strict=True)]
    return list(dense_patch_slices(tuple(shape), tuple(size), tuple(steps)))


def sliding_window(
    network: Callable[[Tensor], Tensor | tuple[Tensor, ...]],
    image: Tensor,
    size: Sequence[int],
    *,
    windows_at_once: int,
    overlap: float = OVERLAP,
) -> Iterator[Tensor | None]:
    """Blend a network's logits over an image of any size.

    Parameters
    ----------
    network : callable
        Maps ``(N, C, *size)`` to logits ``(N, K, *size)``.
    image : Tensor, shape ``(B, C, *S)``
        A batch of equal images, for instance slices of a volume.
    size : sequence of int
        Window size; images smaller than it are padded by replication, and the result is cropped back.
    windows_at_once : int
        Windows per forward pass.
    overlap : float
        Share by which windows overlap.

    Yields
    ------
    Tensor or None
        None after each forward pass but the last, then the blended logits, float32, shape ``(B, K, *S)``.
    """
    shape = tuple(image.shape[2:])
    full = _padded(shape, size)
    pads = [
        p
        for n, f in zip(reversed(shape), reversed(full), strict=True)
        for p in ((f - n) // 2, f - n - (f - n) // 2)
    ]
    if any(pads):
        image = functional.pad(image, pads, mode="replicate")
    weight = compute_importance_map(
        tuple(size), mode="gaussian", sigma_scale=0.125, device=image.device
    ).float()
    # Far corners get a small weight, never zero: a place that one window alone covers must still count.
    weight = weight.clamp(min=float(weight.max()) * 1e-3)
    jobs = [(b, window) for window in _windows(full, size, overlap) for b in range(image.shape[0])]
    total: Tensor | None = None
    norm = torch.zeros(full, device=image.device)
    for first in range(0, len(jobs), windows_at_once):
        some = jobs[first : first + windows_at_once]
        out = network(torch.stack([image[b][_at(window)] for b, window in some]))
        logits = (out if isinstance(out, torch.Tensor) else out[0]).float()
        if total is None:
            total = torch.zeros((image.shape[0], logits.shape[1], *full), device=image.device)
        for (b, window), one in zip(some, logits, strict=True):
            total[b][_at(window)] += one * weight
            if b == 0:
                norm[window] += weight
        if first + windows_at_once < len(jobs):
            yield None
    assert total is not None
    total /= norm
    for axis, n in enumerate(shape):
        total = total.narrow(axis + 2, (full[axis] - n) // 2, n)
    yield total


def _at(window: tuple[slice, ...]) -> tuple[slice, ...]:
    """A window of every channel."""
    return (slice(None), *window)


def predict_logits(
    network: Callable[[Tensor], Tensor | tuple[Tensor, ...]],
    image: Tensor,
    size: Sequence[int],
    windows_at_once: int = 8,
) -> Tensor:
    """`sliding_window` run to its end."""
    *_, result = sliding_window(network, image, size, windows_at_once=windows_at_once)
    assert result is not None
    return result


def decided(logits: Tensor, *, regions: bool = False) -> Tensor:
    """What is predicted, ``(K, *S)``: class indices, ``*S``, or masks of the regions, ``(K, *S)``, uint8."""
    return (logits > 0).to(torch.uint8) if regions else argmax_classes(logits[None])[0]


def argmax_classes(logits: Tensor) -> Tensor:
    """Most probable class index, ``(B, K, *S)`` -> ``(B, *S)``. On the CPU ``max`` is six times faster than ``argmax``."""
    return logits.max(dim=1).indices
