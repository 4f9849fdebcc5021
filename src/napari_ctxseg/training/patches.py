"""Training batches: a pure function of seed and step, so that a resumed run draws what the first one would have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from napari_ctxseg.image import IGNORE
from napari_ctxseg.training import augment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_ctxseg.config import AugmentConfig
    from napari_ctxseg.training.data import Sample

#: Draws of a patch before its centre is taken without jitter; a patch without any label teaches nothing.
TRIES = 3


@dataclass(frozen=True)
class Batch:
    """Images ``(B, C, *S)`` float32, targets ``(B, *S)`` int64, and the spacing of each sample."""

    image: Tensor
    target: Tensor
    spacing: tuple[tuple[float, ...], ...]


class PatchSampler:
    """Draws patches from sparse or dense labels, a share of them around the labelled structures.

    Parameters
    ----------
    samples : sequence of Sample
        Training cases. With a 2-D patch, 3-D cases are cut into slices along their first axis.
    size : sequence of int
        Patch size, one number per spatial axis.
    batch : int
        Patches per batch.
    foreground : float
        Share of patches centred on a class other than background; each class is as likely as any other.
    augmentation : AugmentConfig
        How patches are changed.
    seed : int
        Same seed and step: same batch.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        size: Sequence[int],
        batch: int,
        foreground: float,
        augmentation: AugmentConfig,
        seed: int,
    ) -> None:
        self._samples, self._size, self._batch = list(samples), tuple(size), batch
        self._foreground, self._augment, self._seed = foreground, augmentation, seed
        labelled = {index for sample in samples for index in sample.positions}
        self._of_class = {i: [s for s in self._samples if i in s.positions] for i in sorted(labelled)}
        self._classes = [i for i in self._of_class if i > 0]
        self._any = [s for s in self._samples if s.positions]

    def batch(self, step: int) -> Batch:
        """Batch of one step."""
        rng = np.random.default_rng([self._seed, step])
        # A fixed number around foreground in each batch, with the fraction drawn: less noise than a coin per patch.
        around = int(self._foreground * self._batch + rng.random())
        patches = [self._patch(rng, k < around) for k in range(self._batch)]
        images, targets, spacings = zip(*patches, strict=True)
        return Batch(torch.stack(images), torch.stack(targets), tuple(spacings))

    def _patch(self, rng: np.random.Generator, foreground: bool) -> tuple[Tensor, Tensor, tuple[float, ...]]:
        dims = len(self._size)
        for attempt in range(TRIES):
            sample, centre = self._choose(rng, foreground)
            spacing = sample.spacing[-dims:]
            channels = sample.image.shape[0]
            draws = self._draw(rng, channels, spacing)
            jitter = (rng.random(dims) - 0.5) * 0.6 * np.asarray(self._size) * (attempt < TRIES - 1)
            image, target = self._cut(sample, centre, jitter, augment.reach(draws, self._size))
            patch = augment.apply(draws, image, target, self._size)
            if bool((patch[1] != IGNORE).any()):
                break
        return *patch, spacing

    def _draw(self, rng: np.random.Generator, channels: int, spacing: tuple[float, ...]) -> augment.Draw:
        if self._augment.preset == "none":
            return augment.no_change(len(self._size), channels)
        return augment.draw(rng, len(self._size), channels, spacing, mirror=self._augment.mirror)

    def _choose(self, rng: np.random.Generator, foreground: bool) -> tuple[Sample, np.ndarray]:
        if foreground:
            index = self._classes[rng.integers(len(self._classes))]
            pool = self._of_class[index]
            sample = pool[rng.integers(len(pool))]
            positions = sample.positions[index]
        else:
            sample = self._any[rng.integers(len(self._any))]
            # Any labelled place: a class in proportion to nothing but chance would undo the point of `foreground`.
            index = 0 if 0 in sample.positions else int(rng.choice(list(sample.positions)))
            positions = sample.positions[index]
        return sample, positions[rng.integers(len(positions))]

    def _cut(
        self, sample: Sample, centre: np.ndarray, jitter: np.ndarray, region: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Region around a centre, inside the image where it fits; beyond the image it is unlabelled."""
        dims = len(self._size)
        image, target = sample.image, sample.target
        if target.ndim > dims:
            image, target = image[:, int(centre[0])], target[int(centre[0])]
        shape = target.shape
        starts = []
        for n, want, patch, c in zip(shape, region, self._size, centre[-dims:] + jitter, strict=True):
            # The patch itself stays inside the image; only the margin that a rotation needs may leave it.
            middle = min(max(c, patch / 2), n - patch / 2) if n >= patch else n / 2
            starts.append(int(np.floor(middle - want / 2 + 0.5)))
        inside = [slice(max(s, 0), min(s + w, n)) for s, w, n in zip(starts, region, shape, strict=True)]
        image, target = image[(slice(None), *inside)], target[tuple(inside)]
        pads = [(sl.start - s, s + w - sl.stop) for sl, s, w in zip(inside, starts, region, strict=True)]
        if any(p for pair in pads for p in pair):
            flat = [p for pair in reversed(pads) for p in pair]
            image = functional.pad(image[None], flat, mode="replicate")[0]
            target = functional.pad(target, flat, value=IGNORE)
        return image, target
