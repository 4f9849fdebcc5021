"""How sure a prediction is, voxel by voxel, from 0 to 1. The labels are the same with and without it.

`entropy` asks one network once. `Spread` compares several answers: of one network to the mirrored image (test-time
augmentation, Wang et al. 2019, arXiv 1807.07356) or of several networks (ensemble, Lakshminarayanan et al. 2017,
arXiv 1612.01474).
"""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_ctxseg.composition import compose_soft
from napari_ctxseg.errors import InputError
from napari_ctxseg.inference.blocks import logit_blocks
from napari_ctxseg.networks.refined import error_maps
from napari_ctxseg.networks.refinement import soft_masks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_ctxseg.inference.predictor import Model

#: Axes of the image's plane that are mirrored, pass by pass; the first is the image as it is.
FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))


def probabilities(logits: Tensor, *, regions: bool = False, refined: bool = False) -> Tensor:
    """Probabilities of what a network says, ``(K, *S)``: of classes, which sum to 1, or of each region for itself.

    Parameters
    ----------
    logits : Tensor, shape ``(K, *S)``, or ``(3 K, *S)`` with a second stage
    regions : bool
        Whether the channels are overlapping regions.
    refined : bool
        Whether there is a second stage. Then ``clip(p + fn - fp, 0, 1)``, normalised over classes, as the two are
        trained through together.
    """
    if not refined:
        return soft_masks(logits, regions=regions, dim=0)
    score: Tensor = compose_soft(*error_maps(logits, regions=regions))
    if regions:
        return score
    score = score.clamp(min=1e-6)
    shares: Tensor = score / score.sum(0, keepdim=True)
    return shares


def entropy(p: Tensor, *, regions: bool = False) -> Tensor:
    """Shannon's entropy of probabilities, as a share of the largest there can be.

    ``H = - sum_c p_c log p_c / log K`` over classes; over regions the mean of ``- (p log p + (1 - p) log (1 - p)) / log 2``.

    Parameters
    ----------
    p : Tensor, shape ``(K, *S)``
        Probabilities of the classes with background, or of the regions.
    regions : bool

    Returns
    -------
    Tensor, shape ``S``, 0 (sure) to 1 (all the same)
    """
    if regions:
        total, most = (torch.special.entr(p) + torch.special.entr(1 - p)).mean(0), log(2)
    else:
        total, most = torch.special.entr(p).sum(0), log(max(2, len(p)))
    share: Tensor = (total / most).clamp(0, 1)
    return share


class Spread:
    """Twice the standard deviation, over several answers, of the probability of what was predicted.

    ``2 sqrt(1/M sum_m (p_m - mean p)^2)`` with p the probability of the predicted class; half is the largest standard
    deviation of numbers between 0 and 1, so this goes from 0 to 1. Over regions the mean of theirs.

    Parameters
    ----------
    shape : tuple of int
        Spatial shape S.
    regions : int
        How many overlapping regions there are; 0: the channels are classes.
    """

    def __init__(self, shape: Sequence[int], regions: int = 0) -> None:
        self._chosen = None if regions else torch.zeros((1, *shape), dtype=torch.int64)
        self._first, self._sum, self._squares = (torch.zeros((regions or 1, *shape)) for _ in range(3))
        self._answers = 1

    def begin(self, start: int, p: Tensor, chosen: NDArray[Any]) -> None:
        """Take a part of the first answer.

        Parameters
        ----------
        start : int
            Where it begins along the first axis of a volume.
        p : Tensor, shape ``(K, n, *plane)`` or ``(K, *S)``
            Probabilities.
        chosen : ndarray of int
            Index of the predicted class; not looked at where the channels are regions.
        """
        if self._chosen is not None:
            self._chosen[self._part(start, p)] = torch.as_tensor(np.asarray(chosen, np.int64))[None]
        self._first[self._part(start, p)] = self._picked(start, p)

    def add(self, start: int, p: Tensor) -> None:
        """Take a part of a further answer; `count` says that it is complete."""
        part = self._part(start, p)
        # Differences to the first answer: in squares of the numbers themselves small deviations would drown.
        away = self._picked(start, p) - self._first[part]
        self._sum[part] += away
        self._squares[part] += away * away

    def count(self) -> None:
        """An answer is complete."""
        self._answers += 1

    def result(self) -> Tensor:
        """The measure, shape S; 0 everywhere after a single answer."""
        mean = self._sum / self._answers
        variance = (self._squares / self._answers - mean * mean).clamp(min=0)
        return (2 * variance.sqrt()).mean(0).clamp(0, 1)

    def _part(self, start: int, p: Tensor) -> tuple[slice, slice]:
        return slice(None), slice(start, start + p.shape[1])

    def _picked(self, start: int, p: Tensor) -> Tensor:
        p = p.float().cpu()
        return p if self._chosen is None else p.gather(0, self._chosen[self._part(start, p)])


def mirrored(
    model: Model, image: Tensor, flip: tuple[int, ...]
) -> Iterator[tuple[int, Tensor | None, float]]:
    """What `logit_blocks` gives of the image mirrored along some axes of its plane, mirrored back."""
    seen = image.flip(flip) if flip else image
    for start, logits, done in logit_blocks(model, seen, model.tiles, model.network):
        yield start, logits.flip(flip) if logits is not None and flip else logits, done


def check_members(first: Model, others: Sequence[Model]) -> None:
    """Refuse an ensemble whose members predict different things.

    Raises
    ------
    InputError
        Naming what differs.
    """
    for other in others:
        for what in ("classes", "regions", "channels"):
            one, two = getattr(first, what), getattr(other, what)
            if one != two or (isinstance(one, dict) and list(one) != list(two)):
                raise InputError(
                    "ensemble",
                    f"has runs with different {what}: {one} and {two}",
                    "Choose runs of the same classes and channels",
                )
