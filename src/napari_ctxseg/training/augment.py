"""Random changes of a patch: parameters are drawn once and applied to image and labels alike."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from napari_ctxseg.image import IGNORE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True)
class Draw:
    """Parameters of one patch.

    Parameters
    ----------
    flips : tuple of bool
        One per spatial axis.
    matrix : ndarray, shape (n, n), or None
        Output offset from the centre -> input offset, both in voxels; None for no rotation or zoom.
    gain, bias, gamma : tuple of float
        Per channel: contrast, brightness, and exponent.
    noise : float
        Standard deviation of Gaussian noise.
    seed : int
        Of the noise.
    """

    flips: tuple[bool, ...]
    matrix: NDArray[np.float64] | None
    gain: tuple[float, ...]
    bias: tuple[float, ...]
    gamma: tuple[float, ...]
    noise: float
    seed: int


def no_change(dims: int, channels: int) -> Draw:
    """The identity."""
    return Draw((False,) * dims, None, (1.0,) * channels, (0.0,) * channels, (1.0,) * channels, 0.0, 0)


def draw(
    rng: np.random.Generator, dims: int, channels: int, spacing: Sequence[float], *, mirror: bool = False
) -> Draw:
    """Draw parameters of the default preset.

    Parameters
    ----------
    rng : Generator
        Where the randomness comes from.
    dims, channels : int
        Of the patch.
    spacing : sequence of float
        One per axis: rotations turn millimetres, not voxels.
    mirror : bool
        Whether axes are flipped.
    """
    matrix = _matrix(rng, dims, spacing) if rng.random() < 0.5 else None
    wide = rng.random(3) < (0.5, 0.5, 0.3)
    return Draw(
        flips=tuple(bool(f) for f in rng.random(dims) < 0.5 * mirror),
        matrix=matrix,
        gain=tuple(rng.uniform(0.7, 1.3, channels) if wide[0] else np.ones(channels)),
        bias=tuple(rng.uniform(-0.2, 0.2, channels) if wide[1] else np.zeros(channels)),
        gamma=tuple(rng.uniform(0.7, 1.5, channels) if wide[2] else np.ones(channels)),
        noise=float(rng.uniform(0, 0.15)) if rng.random() < 0.2 else 0.0,
        seed=int(rng.integers(2**31)),
    )


def _matrix(rng: np.random.Generator, dims: int, spacing: Sequence[float]) -> NDArray[np.float64]:
    """Rotation and zoom as a map of voxel offsets."""
    steps = np.asarray(spacing, float)
    zoom = rng.uniform(0.8, 1.25)
    turn = np.eye(dims)
    for a in range(dims):
        for b in range(a + 1, dims):
            # Thick slices are not tilted: their missing planes would be made up.
            thick = max(steps[a], steps[b]) > 2 * min(steps[a], steps[b])
            angle = (
                rng.uniform(-1, 1) * math.radians(30 if dims == 2 or (a, b) == (1, 2) else 15) * (not thick)
            )
            plane = np.eye(dims)
            plane[[a, a, b, b], [a, b, a, b]] = (
                math.cos(angle),
                -math.sin(angle),
                math.sin(angle),
                math.cos(angle),
            )
            turn = plane @ turn
    matrix: NDArray[np.float64] = turn / zoom * steps[None, :] / steps[:, None]
    return matrix


def reach(draws: Draw, size: Sequence[int]) -> tuple[int, ...]:
    """Size of the source region that a patch needs."""
    if draws.matrix is None:
        return tuple(size)
    return tuple(int(n) for n in np.ceil(np.abs(draws.matrix) @ (np.asarray(size) - 1)) + 2)


def apply(draws: Draw, image: Tensor, target: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Change a source region into a patch.

    Parameters
    ----------
    draws : Draw
        What to do.
    image : Tensor of float32, shape ``(C, *R)``
        Region of the size that `reach` gives. Channels beyond those that were drawn for are moved, but keep their values.
    target : Tensor of int16, shape ``*R``
        Class indices.
    size : sequence of int
        Size S of the patch.

    Returns
    -------
    image : Tensor of float32, shape ``(C, *S)``
    target : Tensor of int64, shape ``*S``
        Only values that were in the input, and `IGNORE` beyond it.
    """
    labels = target.long()
    if draws.matrix is not None:
        image, labels = _warp(draws.matrix, image, labels, size)
    axes = [a for a, flip in enumerate(draws.flips) if flip]
    if axes:
        image, labels = image.flip([a + 1 for a in axes]), labels.flip(axes)
    channels = len(draws.gain)
    changed = _intensity(draws, image[:channels])
    if len(image) > channels:
        changed = torch.cat([changed, image[channels:].float()])
    return changed, labels.contiguous()


def _warp(
    matrix: NDArray[np.float64], image: Tensor, labels: Tensor, size: Sequence[int]
) -> tuple[Tensor, Tensor]:
    n = len(size)
    out, source = np.asarray(size, float), np.asarray(labels.shape, float)
    # affine_grid speaks of the unit cube with x first; voxel centres are at (i + 0.5) / n * 2 - 1.
    scaled = matrix * out[None, :] / source[:, None]
    theta = torch.zeros(1, n, n + 1)
    theta[0, :, :n] = torch.from_numpy(scaled[::-1, ::-1].copy())
    grid = functional.affine_grid(theta, [1, 1, *size], align_corners=False)
    warped = functional.grid_sample(
        image[None], grid, mode="bilinear", padding_mode="border", align_corners=False
    )[0]
    # Outside reads 0: shift the indices so that 0 means unlabelled there too.
    shifted = (labels - IGNORE).float()[None, None]
    turned = functional.grid_sample(shifted, grid, mode="nearest", padding_mode="zeros", align_corners=False)[
        0, 0
    ]
    return warped, turned.round().long() + IGNORE


def _intensity(draws: Draw, image: Tensor) -> Tensor:
    shape = (-1, *[1] * (image.ndim - 1))
    result = image
    if any(g != 1 for g in draws.gamma):
        low = result.flatten(1).amin(dim=1).view(shape)
        span = (result.flatten(1).amax(dim=1).view(shape) - low).clamp(min=1e-6)
        result = ((result - low) / span) ** torch.tensor(draws.gamma).view(shape) * span + low
    result = result * torch.tensor(draws.gain).view(shape) + torch.tensor(draws.bias).view(shape)
    if draws.noise > 0:
        generator = torch.Generator().manual_seed(draws.seed)
        result = result + torch.randn(result.shape, generator=generator) * draws.noise
    return result.float()
