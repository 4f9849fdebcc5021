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


def rates(a, b):
    """Specificity, FPR, FNR, VOE, RVD voxel by voxel; None where nothing can be said."""
    tp = fp = fn = tn = 0
    for p, r in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True):
        tp, fp, fn, tn = tp + (p and r), fp + (p and not r), fn + (r and not p), tn + (not p and not r)
    return {
        "specificity": tn / (tn + fp) if tn + fp else None,
        "fpr": fp / (tn + fp) if tn + fp else None,
        "fnr": fn / (tp + fn) if tp + fn else 1.0,
        "voe": 1 - tp / (tp + fp + fn),
        "rvd": (tp + fp) / (tp + fn) - 1 if tp + fn else None,
    }


def surface(a, b, spacing, tolerance):
    """Average symmetric surface distance, its maximum, and surface Dice, from all pairs."""
    pairs = cdist(boundary(a) * spacing, boundary(b) * spacing)
    every = [*pairs.min(axis=1), *pairs.min(axis=0)]
    near = sum(d <= tolerance + 1e-9 for d in every)
    return {"assd": sum(every) / len(every), "mssd": max(every), "surface_dice": near / len(every)}


def pieces(mask, faces_only=False):
    """Connected pieces as sets of indices, by walking from voxel to voxel."""
    left, found = set(map(tuple, np.argwhere(mask).tolist())), []
    steps = [
        s for s in itertools.product((-1, 0, 1), repeat=mask.ndim)
        if any(s) and (not faces_only or sum(map(abs, s)) == 1)
    ]  # fmt: skip
    while left:
        todo, piece = [left.pop()], set()
        while todo:
            voxel = todo.pop()
            piece.add(voxel)
            for step in steps:
                near = tuple(v + s for v, s in zip(voxel, step, strict=True))
                if near in left:
                    left.remove(near)
                    todo.append(near)
        found.append(piece)
    return found


def objects(labels):
    """Sets of indices with one value each; connected pieces where there is one value only."""
    values = sorted(set(labels.ravel().tolist()) - {0})
    if len(values) < 2:
        return pieces(labels > 0)
    return [set(map(tuple, np.argwhere(labels == value).tolist())) for value in values]


def detection(a, b, sizes, voxel=1.0, overlap=0.0, faces_only=False, instances=False):
    """SEG, objects found, and Dice by size, object by object."""
    predicted, reference = (objects(m) if instances else pieces(m, faces_only) for m in (a, b))
    everywhere_p, everywhere_r = set().union(*predicted), set().union(*reference)
    seg, dice = [], {"dice_small": [], "dice_medium": [], "dice_large": []}
    for r in reference:
        match = [p for p in predicted if len(p & r) > 0.5 * len(r)]
        seg.append(len(match[0] & r) / len(match[0] | r) if match else 0.0)
        near = set().union(*(p for p in predicted if p & r))
        name = "dice_small" if len(r) * voxel < sizes[0] else "dice_medium"
        name = "dice_large" if len(r) * voxel >= sizes[1] else name
        dice[name].append(2 * len(near & r) / (len(near) + len(r)))
    right = [len(p & everywhere_r) > overlap * len(p) for p in predicted]
    found = [len(r & everywhere_p) > overlap * len(r) for r in reference]
    precision = sum(right) / len(right) if right else 0.0
    recall = sum(found) / len(found) if found else 0.0
    return {
        "seg": sum(seg) / len(seg) if seg else 0.0,
        "lesion_precision": precision,
        "lesion_recall": recall,
        "lesion_f1": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
        **{name: sum(values) / len(values) if values else None for name, values in dice.items()},
    }


def thinned(mask):
    """Zhang and Suen's thinning of an image, as their paper states it (Commun. ACM 27, 1984)."""
    image = np.pad(mask.astype(int), 1)
    ring = [(-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)]
    changed = True
    while changed:
        changed = False
        for first in (True, False):
            doomed = []
            for y, x in np.argwhere(image):
                p = [image[y + dy, x + dx] for dy, dx in ring]
                turns = sum(p[i] == 0 and p[(i + 1) % 8] == 1 for i in range(8))
                n, e, s, w = p[0], p[2], p[4], p[6]
                open_sides = n * e * s == 0 and e * s * w == 0 if first else n * e * w == 0 and n * s * w == 0
                if 2 <= sum(p) <= 6 and turns == 1 and open_sides:
                    doomed.append((y, x))
            for place in doomed:
                image[place] = 0
            changed |= bool(doomed)
    return image[1:-1, 1:-1].astype(bool)


def cldice(skeleton_a, skeleton_b, a, b):
    """Centreline Dice from given skeletons, from sets of indices."""
    sets = [set(map(tuple, np.argwhere(m))) for m in (skeleton_a, skeleton_b, a, b)]
    precision = len(sets[0] & sets[3]) / len(sets[0])
    sensitivity = len(sets[1] & sets[2]) / len(sets[1])
    return 2 * precision * sensitivity / (precision + sensitivity) if precision + sensitivity else 0.0
