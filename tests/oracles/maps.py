"""What a loss looks at, straight from the definitions and slowly; numpy and scipy only, nothing of ours."""

from __future__ import annotations

import itertools

import numpy as np
from scipy import ndimage


def eroded(mask: np.ndarray, iterations: int, unknown: np.ndarray, *, border: bool) -> np.ndarray:
    """Erosion by a box, one step after the other; unknown voxels erode nothing, beyond the image as `border` says.

    Along an axis of one voxel there is nothing beyond: a volume of one slice is a plane.
    """
    if iterations == 0:
        return mask.copy()
    box = np.ones([3 if n > 1 else 1 for n in mask.shape], bool)
    solid = ndimage.binary_erosion(mask | unknown, box, iterations=iterations, border_value=border)
    return solid & mask


def rims(labels: np.ndarray, classes: int, iterations: int, *, border: bool = True) -> np.ndarray:
    """Inner contour of each class, background included; shape ``(C, *S)``."""
    unknown = labels < 0
    own = [labels == c for c in range(classes)]
    return np.stack([m & ~eroded(m, iterations, unknown, border=border) for m in own])


def band(labels: np.ndarray, classes: int, iterations: int, side: str, *, border: bool = True) -> np.ndarray:
    """Contour of the foreground on one side or both."""
    inner = rims(labels, classes, iterations, border=border)
    if side == "both":
        return inner.any(axis=0)
    if side == "inner":
        return inner[1:].any(axis=0)
    box = np.ones((3,) * labels.ndim, bool)
    outer = np.zeros(labels.shape, bool)
    for c in range(1, classes):
        own = labels == c
        if iterations and own.any():
            outer |= ndimage.binary_dilation(own, box, iterations=iterations) & ~own
    return outer & (labels >= 0)


def gap(labels: np.ndarray, sigma: float, spacing: tuple[float, ...]) -> np.ndarray:
    """Gap term by measuring from every voxel to every voxel of every object."""
    neighbours = np.ones((3,) * labels.ndim, bool)
    objects = []
    for c in np.unique(labels[labels > 0]):
        pieces, count = ndimage.label(labels == c, neighbours)
        objects += [np.argwhere(pieces == k) * spacing for k in range(1, count + 1)]
    term = np.zeros(labels.shape)
    if len(objects) < 2:
        return term
    for place in np.argwhere(labels == 0):
        here = place * np.asarray(spacing)
        first, second = sorted(np.sqrt(((o - here) ** 2).sum(axis=1)).min() for o in objects)[:2]
        term[tuple(place)] = np.exp(-((first + second) ** 2) / (2 * sigma**2))
    return term


def dilated_by_hand(mask: np.ndarray, radius: float, spacing: tuple[float, ...]) -> np.ndarray:
    """Dilation by asking every voxel for every voxel; squares, so that a radius of a whole distance is exact."""
    points = np.argwhere(mask) * np.asarray(spacing)
    result = np.zeros(mask.shape, bool)
    for place in itertools.product(*map(range, mask.shape)):
        if len(points):
            squares = ((points - np.asarray(place) * spacing) ** 2).sum(axis=1)
            result[place] = squares.min() <= radius**2 * (1 + 2e-9)
    return result


def boxes_per_piece(labels: np.ndarray, margin: int, *, by_class: bool) -> list[np.ndarray]:
    """Masks of the boxes around the classes, or around their connected pieces."""
    masks = []
    for c in np.unique(labels[labels > 0]):
        if by_class:
            groups = [labels == c]
        else:
            pieces, count = ndimage.label(labels == c, np.ones((3,) * labels.ndim, bool))
            groups = [pieces == k for k in range(1, count + 1)]
        for group in groups:
            points = np.argwhere(group)
            low, high = points.min(axis=0) - margin, points.max(axis=0) + 1 + margin
            mask = np.zeros(labels.shape, bool)
            mask[tuple(slice(max(a, 0), b) for a, b in zip(low, high, strict=True))] = True
            masks.append(mask & (labels >= 0))
    return masks


def separable_dice(
    probability: np.ndarray, labels: np.ndarray, iterations: int, balance: float, smooth: float = 1e-5
) -> float:
    """Per class and sample, mean over the classes present, then over the batch; border as if nothing ended there."""
    per_sample = []
    for p, one in zip(probability, labels, strict=True):
        scores = []
        rim = rims(one, p.shape[0], iterations)
        for c in range(1, p.shape[0]):
            own = one == c
            if not own.any():
                continue
            losses = []
            for part in (rim[c], (one >= 0) & ~rim[c]):
                g, q = own[part], p[c][part]
                losses.append(1 - (2 * q[g].sum() + smooth) / (q.sum() + g.sum() + smooth))
            scores.append(balance * losses[0] + (1 - balance) * losses[1])
        per_sample.append(np.mean(scores) if scores else 0.0)
    return float(np.mean(per_sample))


def to_another_class(
    labels: np.ndarray, side: str, spacing: tuple[float, ...], *, border: bool
) -> np.ndarray:
    """Distance to the nearest voxel of another class that plays a part on this side, by asking every voxel."""
    grid = labels
    border = border and side != "outer"  # the ring around a structure ends with the image
    if border:
        pads = [(1, 1) if n > 1 else (0, 0) for n in labels.shape]
        grid = np.pad(labels, pads, constant_values=99)
    origin = np.array([1 if border and n > 1 else 0 for n in labels.shape])
    places = np.argwhere(grid >= (1 if side == "outer" else 0))
    values = grid[tuple(places.T)]
    distance = np.full(labels.shape, np.inf)
    for place in np.argwhere(labels >= (1 if side == "inner" else 0)):
        others = places[values != labels[tuple(place)]]
        if len(others):
            steps = (others - place - origin) * np.asarray(spacing)
            distance[tuple(place)] = np.sqrt((steps**2).sum(axis=1)).min()
    return distance
