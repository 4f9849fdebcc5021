"""What all losses share: logits and class indices in, a scalar with a graph out, computed in at least float32."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_ctxseg.image import IGNORE

if TYPE_CHECKING:
    from collections.abc import Sequence

Logits = Tensor | tuple[Tensor, ...] | list[Tensor]


def check(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Logits in at least float32 and the target as int64, or a clear error.

    Raises
    ------
    ValueError
        If the shapes do not fit, the target is not integer, or a label is not a class.
    """
    if (
        logits.ndim != target.ndim + 1
        or logits.shape[0] != target.shape[0]
        or logits.shape[2:] != target.shape[1:]
    ):
        raise ValueError(
            f"logits {tuple(logits.shape)} need a target of shape (B, *S), got {tuple(target.shape)}"
        )
    if target.dtype.is_floating_point or target.dtype.is_complex or target.dtype == torch.bool:
        raise ValueError(f"target must hold integer class indices, got {target.dtype}")
    # On a GPU an out-of-range label would poison the whole process, so it is looked for here on small summaries.
    low, high = (int(v) for v in torch.aminmax(target)) if target.numel() else (0, 0)
    if low < IGNORE or high >= logits.shape[1]:
        raise ValueError(f"labels run from {low} to {high}, but the network has {logits.shape[1]} classes")
    return logits.to(torch.promote_types(logits.dtype, torch.float32)), target.long()


def ce_map(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of each pixel, 0 where unlabelled. Shapes ``(B, C, *S)``, ``(B, *S)`` -> ``(B, *S)``."""
    return functional.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")


def spacing_of(target: Tensor, spacing: Sequence[float] | None) -> tuple[float, ...]:
    """Spacing given, or ones.

    Raises
    ------
    ValueError
        If it is not one positive number per spatial axis.
    """
    n = target.ndim - 1
    if spacing is None:
        return (1.0,) * n
    values = tuple(float(s) for s in spacing)
    if len(values) != n or not all(s > 0 and s != float("inf") for s in values):
        raise ValueError(f"spacing needs {n} positive numbers, got {values}")
    return values


class Loss(nn.Module):
    """Base: a loss of one head; under deep supervision the heads' losses are added."""

    def forward(self, logits: Logits, target: Tensor, spacing: Sequence[float] | None = None) -> Tensor:
        """Loss of a batch.

        Parameters
        ----------
        logits : Tensor, shape ``(B, C, *S)``, or a tuple of them
            Network output before the softmax, full size.
        target : Tensor of integers, shape ``(B, *S)``
            Class indices, `IGNORE` where unlabelled.
        spacing : sequence of float, optional
            One number per spatial axis.

        Returns
        -------
        Tensor
            A scalar with a graph, also when nothing is labelled.

        Raises
        ------
        ValueError
            If shapes, types, labels or spacing do not fit.
        """
        heads = list(logits) if isinstance(logits, tuple | list) else [logits]
        checked = [check(head, target) for head in heads]
        return self.heads([head for head, _ in checked], checked[0][1], spacing)

    @abstractmethod
    def heads(self, logits: list[Tensor], target: Tensor, spacing: Sequence[float] | None) -> Tensor:
        """Loss of all heads, arguments checked."""


class SpatialLoss(Loss):
    """A weighted cross-entropy: ``loss == (weight_map * ce_map).sum()`` with all normalisers inside the map."""

    @abstractmethod
    def weights(self, target: Tensor, classes: int, spacing: tuple[float, ...]) -> Tensor:
        """Weight of each pixel, float32, 0 where unlabelled; shape ``(B, *S)``."""

    def weight_map(
        self, target: Tensor, spacing: Sequence[float] | None = None, *, classes: int | None = None
    ) -> Tensor:
        """What this loss looks at.

        Parameters
        ----------
        target : Tensor of integers, shape ``(B, *S)``
            Class indices, `IGNORE` where unlabelled.
        spacing : sequence of float, optional
            One number per spatial axis.
        classes : int, optional
            Number of classes; the highest label plus one when left out. Classes that are absent do not matter.

        Returns
        -------
        Tensor of float32, shape ``(B, *S)``
        """
        n = classes if classes is not None else max(2, int(target.max()) + 1) if target.numel() else 2
        with torch.no_grad():
            return self.weights(target.long(), n, spacing_of(target, spacing))

    def heads(self, logits: list[Tensor], target: Tensor, spacing: Sequence[float] | None) -> Tensor:
        """Weight map once, applied to every head."""
        weights = self.weight_map(target, spacing, classes=logits[0].shape[1])
        total = logits[0].sum() * 0.0
        for head in logits:
            total = total + (weights.to(head.dtype) * ce_map(head, target)).sum()
        return total


def valid_mask(target: Tensor) -> Tensor:
    """Labelled pixels."""
    return target != IGNORE


def per_sample(mask: Tensor) -> Tensor:
    """A mask turned into weights that sum to one in each sample where it holds anything: mean over the mask."""
    count = mask.flatten(1).sum(dim=1).clamp(min=1)
    return mask.float() / count.view(-1, *[1] * (mask.ndim - 1))
