"""Measures that count voxels."""

from __future__ import annotations

from dataclasses import dataclass

#: In the order they are shown.
OVERLAP = ("dice", "iou", "precision", "recall", "specificity", "fpr", "fnr", "voe", "rvd")


@dataclass(frozen=True)
class Counts:
    """Voxels of one class in one case.

    Parameters
    ----------
    both : int
        In prediction and reference (true positives).
    predicted, reference : int
        In each.
    voxels : int
        In the image.
    """

    both: int
    predicted: int
    reference: int
    voxels: int


def overlap_measures(counts: Counts) -> dict[str, float | None]:
    """Measures of the group ``overlap``, each as in ``docs/measures.md``; at least one mask must hold something.

    0 / 0 counts as the worst value where leaving a structure out, or painting one where there is none, would else
    be rewarded: precision of an empty prediction, recall (and 1 - FNR) of an empty reference are 0. Two fractions
    have no such reading and are None: the relative volume difference without a reference volume, and specificity
    and FPR of a reference that fills the image.

    Parameters
    ----------
    counts : Counts
        Of the class.

    Returns
    -------
    dict of str to float or None
        All of `OVERLAP`.
    """
    union = counts.predicted + counts.reference - counts.both
    false = counts.predicted - counts.both
    negative = counts.voxels - counts.reference
    iou = counts.both / union
    recall = counts.both / counts.reference if counts.reference else 0.0
    fpr = false / negative if negative else None
    return {
        "dice": 2 * counts.both / (counts.predicted + counts.reference),
        "iou": iou,
        "precision": counts.both / counts.predicted if counts.predicted else 0.0,
        "recall": recall,
        "specificity": None if fpr is None else 1 - fpr,
        "fpr": fpr,
        "fnr": 1 - recall,
        "voe": 1 - iou,
        "rvd": (counts.predicted - counts.reference) / counts.reference if counts.reference else None,
    }
