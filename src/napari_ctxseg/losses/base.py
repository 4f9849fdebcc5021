"""What all losses share: logits and class indices in, a scalar with a graph out, computed in at least float32."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_ctxseg.image import IGNORE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ctxseg.maps.roi import Box

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
    check_target(target)
    if not logits.dtype.is_floating_point:
        raise ValueError(f"logits must be floating point, got {logits.dtype}")
    check_range(target, logits.shape[1])
    return logits.to(torch.promote_types(logits.dtype, torch.float32)), target.long()


def check_target(target: Tensor) -> None:
    """Refuse a target that cannot hold class indices.

    Raises
    ------
    ValueError
        If it is not of integers, or has neither two nor three spatial axes.
    """
    if target.dtype.is_floating_point or target.dtype.is_complex or target.dtype == torch.bool:
        raise ValueError(f"target must hold integer class indices, got {target.dtype}")
    if target.ndim not in (3, 4):
        raise ValueError(f"target must be (B, y, x) or (B, z, y, x), got shape {tuple(target.shape)}")


def check_range(target: Tensor, classes: int | None = None) -> int:
    """Number of classes, at least 2: the one given, or the highest label plus one.

    On a GPU a label out of range would poison the whole process, so it is looked for here on small summaries.

    Raises
    ------
    ValueError
        If a label is below `IGNORE` or not below `classes`.
    """
    low, high = (int(v) for v in torch.aminmax(target)) if target.numel() else (0, 0)
    if low < IGNORE or (classes is not None and high >= classes):
        raise ValueError(f"labels run from {low} to {high}, but there are {classes or high + 1} classes")
    return max(2, high + 1) if classes is None else classes


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

    #: How far the training is, 0 to 1; losses that change on the way read it. The trainer sets it.
    progress: float = 0.0

    def forward(self, logits: Logits, target: Tensor, spacing: Sequence[float] | None = None) -> Tensor:
        """Loss of a batch.

        Parameters
        ----------
        logits : Tensor, shape ``(B, C, *S)``, or a tuple of them
            Network output before the softmax, full size. One that is not finite makes the loss not finite.
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
        if not heads:
            raise ValueError("there are no logits")
        checked = [check(head, target) for head in heads]
        return self.heads([head for head, _ in checked], checked[0][1], spacing_of(target, spacing))

    @abstractmethod
    def heads(self, logits: list[Tensor], target: Tensor, spacing: tuple[float, ...]) -> Tensor:
        """Loss of all heads, arguments checked."""

    def views(self, target: Tensor, classes: int, spacing: tuple[float, ...]) -> Views:
        """What leads to the weights: regions, contours, dilated classes. Empty where there is nothing to see."""
        return Views()


@dataclass
class Views:
    """Intermediate results worth seeing, each of shape ``(B, *S)``, or None.

    Attributes
    ----------
    roi : Tensor of bool
        Regions of interest.
    boxes : list of list of boxes
        Boxes of each sample, as (start, stop) per axis.
    contour : Tensor of float32
        Membership in the contour, 0 to 1.
    interior : Tensor of int64
        Class indices of what is left of the foreground inside its contour, 0 elsewhere.
    dilated : Tensor of int64
        Foreground class whose dilation decides the weight, 0 where none reaches.
    """

    roi: Tensor | None = None
    boxes: list[list[Box]] = field(default_factory=list)
    contour: Tensor | None = None
    interior: Tensor | None = None
    dilated: Tensor | None = None

    def joined(self, other: Views) -> Views:
        """These, with the other's where there are none."""
        return Views(
            **{
                f.name: getattr(self, f.name) if _there(getattr(self, f.name)) else getattr(other, f.name)
                for f in fields(self)
            }
        )


def _there(value: Tensor | list[list[Box]] | None) -> bool:
    return bool(value) if isinstance(value, list) else value is not None


class RegionLoss(Loss):
    """A loss of whole regions: it has no value per pixel."""

    @abstractmethod
    def one(self, logits: Tensor, target: Tensor, spacing: tuple[float, ...]) -> Tensor:
        """Loss of one head."""

    def heads(self, logits: list[Tensor], target: Tensor, spacing: tuple[float, ...]) -> Tensor:
        """Sum over heads."""
        return torch.stack([self.one(head, target, spacing) for head in logits]).sum()


class PixelLoss(Loss):
    """A loss that is a sum over pixels."""

    @abstractmethod
    def pixels(self, logits: Tensor, target: Tensor, spacing: tuple[float, ...]) -> Tensor:
        """Share of each pixel in the loss, shape ``(B, *S)``."""

    def heads(self, logits: list[Tensor], target: Tensor, spacing: tuple[float, ...]) -> Tensor:
        """Sum over pixels and heads."""
        return torch.stack([self.pixels(head, target, spacing).sum() for head in logits]).sum()


class SpatialLoss(PixelLoss):
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

        Raises
        ------
        ValueError
            If the target holds no integers or the spacing does not fit.
        """
        return _weight_map(self, target, spacing, classes)

    def pixels(self, logits: Tensor, target: Tensor, spacing: tuple[float, ...]) -> Tensor:
        """Weighted cross-entropy of each pixel."""
        return self.weight_map(target, spacing, classes=logits.shape[1]).to(logits.dtype) * ce_map(
            logits, target
        )

    def heads(self, logits: list[Tensor], target: Tensor, spacing: tuple[float, ...]) -> Tensor:
        """Weight map once, applied to every head."""
        weights = self.weight_map(target, spacing, classes=logits[0].shape[1])
        total = logits[0].sum() * 0.0
        for head in logits:
            total = total + (weights.to(head.dtype) * ce_map(head, target)).sum()
        return total


def _weight_map(
    loss: SpatialLoss, target: Tensor, spacing: Sequence[float] | None, classes: int | None
) -> Tensor:
    check_target(target)
    n = check_range(target, classes)
    with torch.no_grad():
        return loss.weights(target.long(), n, spacing_of(target, spacing))


def valid_mask(target: Tensor) -> Tensor:
    """Labelled pixels."""
    return target != IGNORE
