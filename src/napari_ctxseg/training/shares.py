"""Class weights that come from the training set: counted once, written into the run's configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_ctxseg.config import BalancedCE, Sum, WeightedCE
from napari_ctxseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_ctxseg.config import LossConfig
    from napari_ctxseg.training.data import Sample


#: What there is one share for: the classes, or the two of every region's own problem.
CLASSES = "classes (background included)"
ONE_REGION = "classes, outside and inside a region, the same for all regions"


def class_shares(samples: Sequence[Sample], classes: int) -> tuple[float, ...]:
    """Share of each class, background first, in all labelled voxels of the training set."""
    total = torch.zeros(classes, dtype=torch.int64)
    for sample in samples:
        for slab in sample.target:  # a slice at a time: counting needs wide integers
            total += torch.bincount(slab.flatten().long() + 1, minlength=classes + 1)[1:]
    return tuple((total / total.sum().clamp(min=1)).tolist())


def region_shares(shares: Sequence[float], members: NDArray[np.bool_]) -> tuple[float, float]:
    """Shares of outside and inside, mean over the regions; `members` as in `napari_ctxseg.cases.membership`."""
    inside = float((members @ np.asarray(shares)).mean())
    return 1 - inside, inside


def needs_shares(loss: LossConfig) -> bool:
    """Whether something in the loss depends on the classes of the training set."""
    if isinstance(loss, Sum):
        return any(needs_shares(term.loss) for term in loss.terms)
    return isinstance(loss, WeightedCE) or (isinstance(loss, BalancedCE) and loss.scope == "dataset")


def with_shares(loss: LossConfig, shares: Sequence[float], each: str = CLASSES) -> LossConfig:
    """The loss with class weights filled in where they were left open.

    Weights are one over the share, mean 1 over the classes that occur; a class that does not occur has weight 0. `each` says
    what there is one number for.

    Raises
    ------
    InputError
        If weights or shares were given, but not one for each class.
    """
    if isinstance(loss, Sum):
        terms = [
            term.model_copy(update={"loss": with_shares(term.loss, shares, each)}) for term in loss.terms
        ]
        return loss.model_copy(update={"terms": tuple(terms)})
    if isinstance(loss, WeightedCE):
        if loss.weights is None:
            inverse = [1 / share if share else 0.0 for share in shares]
            mean = sum(inverse) / sum(value > 0 for value in inverse)
            return loss.model_copy(update={"weights": tuple(value / mean for value in inverse)})
        _check("loss.weights", loss.weights, shares, each)
    if isinstance(loss, BalancedCE) and loss.scope == "dataset":
        if loss.frequencies is None:
            return loss.model_copy(update={"frequencies": tuple(shares)})
        _check("loss.frequencies", loss.frequencies, shares, each)
    return loss


def _check(field: str, given: Sequence[float], shares: Sequence[float], each: str) -> None:
    if len(given) != len(shares):
        raise InputError(
            field,
            f"holds {len(given)} numbers for {len(shares)} {each}",
            "Give one for each, background or outside first, or leave it out",
        )
