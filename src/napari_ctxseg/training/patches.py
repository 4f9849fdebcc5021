"""Training batches: a pure function of seed and step, so that a resumed run draws what the first one would have."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from napari_ctxseg.image import IGNORE
from napari_ctxseg.training import augment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_ctxseg.config import AugmentConfig
    from napari_ctxseg.training.data import Sample

#: Draws of a patch before its centre is taken without jitter; a patch without any label teaches nothing.
TRIES = 3


@dataclass(frozen=True)
class Batch:
    """Images ``(B, C, *S)`` float32, targets ``(B, *S)`` int64, and the spacing of each sample.

    `sequences` numbers the sequence of each sample: consecutive slices of one patient and plane have the same number.
    """

    image: Tensor
    target: Tensor
    spacing: tuple[tuple[float, ...], ...]
    sequences: tuple[int, ...] = ()


Patch = tuple["Tensor", "Tensor", tuple[float, ...]]


class Series:
    """Which slices follow each other: those of a stack, or 2-D images of one patient, by name.

    Parameters
    ----------
    samples : sequence of Sample
        Training cases.
    """

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._of: dict[int, tuple[list[Sample], int]] = {}
        series: dict[tuple[object, ...], list[Sample]] = {}
        for sample in sorted(samples, key=lambda s: natural(s.name)):
            if sample.target.ndim == 2:
                series.setdefault((sample.group, tuple(sample.target.shape)), []).append(sample)
        for members in series.values():
            for place, sample in enumerate(members):
                self._of[id(sample)] = members, place

    def around(
        self, rng: np.random.Generator, sample: Sample, centre: NDArray[np.int32], count: int, dims: int
    ) -> list[tuple[Sample, NDArray[np.int32]]]:
        """At most `count` consecutive slices, the chosen one among them, each with its centre."""
        if count == 1:
            return [(sample, centre)]
        if sample.target.ndim > dims:
            start, count = _run(rng, int(centre[0]), count, len(sample.target))
            return [(sample, np.array([z, *centre[1:]], np.int32)) for z in range(start, start + count)]
        if dims == 2:
            members, place = self._of[id(sample)]
            start, count = _run(rng, place, count, len(members))
            return [(one, centre) for one in members[start : start + count]]
        return [(sample, centre)]


def _run(rng: np.random.Generator, place: int, count: int, length: int) -> tuple[int, int]:
    """Start and length of a run of slices that holds a place, anywhere in it."""
    count = min(count, length)
    start = place - int(rng.integers(count))
    return min(max(start, 0), length - count), count


def natural(name: str) -> tuple[tuple[bool, int, str], ...]:
    """Sorting key that puts ``slice_9`` before ``slice_10``."""
    parts = (part for part in re.split(r"(\d+)", name) if part)
    return tuple((part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts)


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
    sequence : int
        Consecutive slices that are drawn together, cut and changed alike; 1 for independent patches. Slices of a stack, or
        2-D images of one patient in the order of their names. A batch holds as many sequences as fit.
    geometry_only : int
        Channels, the last ones, that are moved but whose values are left alone: predictions beside an image.
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
        sequence: int = 1,
        geometry_only: int = 0,
    ) -> None:
        self._samples, self._size, self._batch = list(samples), tuple(size), batch
        self._foreground, self._augment, self._seed = foreground, augmentation, seed
        labelled = {index for sample in samples for index in sample.positions}
        self._of_class = {i: [s for s in self._samples if i in s.positions] for i in sorted(labelled)}
        self._classes = [i for i in self._of_class if i > 0]
        self._any = [s for s in self._samples if s.positions]
        self._length, self._plain = sequence, geometry_only
        self._series = Series(self._samples)

    def batch(self, step: int) -> Batch:
        """Batch of one step."""
        rng = np.random.default_rng([self._seed, step])
        # A fixed number around foreground in each batch, with the fraction drawn: less noise than a coin per patch.
        around = int(self._foreground * self._batch + rng.random())
        patches: list[Patch] = []
        numbers: list[int] = []
        number = 0
        while len(patches) < self._batch:
            room = min(self._length, self._batch - len(patches))
            drawn = self._patches(rng, len(patches) < around, room)
            patches += drawn
            numbers += [number] * len(drawn)
            number += 1
        images, targets, spacings = zip(*patches, strict=True)
        return Batch(torch.stack(images), torch.stack(targets), tuple(spacings), tuple(numbers))

    def _patches(self, rng: np.random.Generator, foreground: bool, count: int) -> list[Patch]:
        """Up to `count` consecutive slices, cut at one place and changed alike."""
        dims = len(self._size)
        for attempt in range(TRIES):
            sample, centre = self._choose(rng, foreground)
            spacing = sample.spacing[-dims:]
            draws = self._draw(rng, sample.image.shape[0] - self._plain, spacing)
            jitter = (rng.random(dims) - 0.5) * 0.6 * np.asarray(self._size) * (attempt < TRIES - 1)
            drawn: list[Patch] = []
            for one, place in self._series.around(rng, sample, centre, count, dims):
                image, target = self._cut(one, place, jitter, augment.reach(draws, self._size))
                changed = replace(draws, seed=draws.seed + len(drawn))
                drawn.append((*augment.apply(changed, image, target, self._size), spacing))
            if any(bool((target != IGNORE).any()) for _, target, _ in drawn):
                break
        return drawn

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
