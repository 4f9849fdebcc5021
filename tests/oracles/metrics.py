"""Measures written out the slow way, with numpy and scipy only. Imports nothing of ours."""

from __future__ import annotations

import itertools

import numpy as np
from scipy.spatial.distance import cdist


def overlap(a, b):
    """Dice, IoU, precision, recall of two masks from sets of indices; a is the prediction."""
    p, r = set(map(tuple, np.argwhere(a))), set(map(tuple, np.argwhere(b)))
    both = len(p & r)
    return {
        "dice": 2 * both / (len(p) + len(r)),
        "iou": both / len(p | r),
        "precision": both / len(p) if p else 0.0,
        "recall": both / len(r) if r else 0.0,
    }


def boundary(mask):
    """Indices of voxels with a face neighbour that is not in the mask; beyond the image nothing is in it."""
    inside = set(map(tuple, np.argwhere(mask)))
    found = []
    for voxel in sorted(inside):
        neighbours = [
            tuple(v + step * (axis == a) for a, v in enumerate(voxel))
            for axis, step in itertools.product(range(mask.ndim), (-1, 1))
        ]
        if any(n not in inside for n in neighbours):
            found.append(voxel)
    return np.array(found, float)


def distances(a, b, spacing):
    """Hausdorff distance, and the larger of the two directed 95th percentiles, from all pairs."""
    pairs = cdist(boundary(a) * spacing, boundary(b) * spacing)
    there, back = pairs.min(axis=1), pairs.min(axis=0)
    return max(there.max(), back.max()), max(np.percentile(there, 95), np.percentile(back, 95))
