"""Losses and dilations straight from their formulas; numpy and scipy only, nothing of ours."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def toy2d() -> tuple[np.ndarray, np.ndarray]:
    """The 2-D toy of methods.md section 7."""
    n, c, i, j = np.meshgrid(np.arange(2), np.arange(3), np.arange(8), np.arange(8), indexing="ij")
    logits = 2 * np.sin(1 + 0.9 * n + 2.1 * c + 0.7 * i + 0.3 * j)
    labels = np.zeros((2, 8, 8), np.int64)
    labels[0, 2:5, 2:6], labels[0, 5:7, 3:5], labels[1, 1:3, 4:7] = 1, 2, 1
    return logits, labels


def toy3d() -> tuple[np.ndarray, np.ndarray]:
    """The 3-D toy of methods.md section 7."""
    c, k, i, j = np.meshgrid(np.arange(3), np.arange(6), np.arange(8), np.arange(8), indexing="ij")
    logits = 2 * np.sin(1 + 2.1 * c + 0.5 * k + 0.7 * i + 0.3 * j)
    labels = np.zeros((6, 8, 8), np.int64)
    labels[1:5, 2:6, 2:7], labels[1:4, 6:8, 1:4] = 1, 2
    return logits[None], labels[None]


def ce(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Cross-entropy of each pixel; 0 where the label is negative."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    picked = np.take_along_axis(log_p, np.clip(labels, 0, None)[:, None], axis=1)[:, 0]
    return np.where(labels >= 0, -picked, 0.0)


def dilate(mask: np.ndarray, radius: float, spacing: tuple[float, ...]) -> np.ndarray:
    """All places within `radius` of the mask."""
    if not mask.any():
        return np.zeros_like(mask)
    return ndimage.distance_transform_edt(~mask, sampling=spacing) <= radius * (1 + 1e-9)


def dilated_weights(
    labels: np.ndarray, classes: int, radius: float, spacing: tuple[float, ...]
) -> np.ndarray:
    """Equations 2-5 of the dilated balanced cross-entropy, one sample."""
    valid = labels >= 0
    weights = np.zeros(labels.shape)
    for c in range(classes):
        grown = dilate(labels == c, radius, spacing) & valid
        weights = np.maximum(weights, grown / (1 + grown.sum()))
    return weights


def roi_dynamic(labels: np.ndarray, margin: int) -> np.ndarray:
    """Mask of the tight box around everything above 0."""
    mask = np.zeros(labels.shape, bool)
    points = np.argwhere(labels > 0)
    if len(points):
        low, high = points.min(axis=0) - margin, points.max(axis=0) + 1 + margin
        mask[tuple(slice(max(a, 0), b) for a, b in zip(low, high, strict=True))] = True
    return mask


def dice_loss(logits: np.ndarray, labels: np.ndarray, eps: float = 1e-5) -> float:
    """One minus soft Dice over the foreground classes present, per sample, then the batch mean."""
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    losses = []
    for probability, label in zip(p, labels, strict=True):
        valid = label >= 0
        scores = []
        for c in range(1, logits.shape[1]):
            truth = (label == c) & valid
            if truth.any():
                q = probability[c] * valid
                scores.append(1 - (2 * (q * truth).sum() + eps) / (q.sum() + truth.sum() + eps))
        losses.append(np.mean(scores) if scores else 0.0)
    return float(np.mean(losses))
