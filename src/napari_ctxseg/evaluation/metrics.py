"""Overlap and distance measures of predicted labels, per case and class, and their means."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

#: Names of the measures, in the order they are shown.
MEASURES = ("dice", "iou", "precision", "recall", "hausdorff", "hd95")
#: Those of them that are lengths.
DISTANCES = ("hausdorff", "hd95")


@dataclass(frozen=True)
class ClassScores:
    """Measures of one class in one case. None stands for "not applicable".

    A class in neither mask has no measures at all. A class in one mask only has Dice, IoU, precision and
    recall 0 (0 / 0 counts as 0, so that leaving a structure out never lifts a mean) and no distances.

    Parameters
    ----------
    dice, iou, precision, recall : float or None
        Between 0 and 1.
    hausdorff, hd95 : float or None
        In `unit`.
    predicted, reference : int
        Number of pixels or voxels of the class.
    unit : str
        Unit of the spacing.
    """

    dice: float | None
    iou: float | None
    precision: float | None
    recall: float | None
    hausdorff: float | None
    hd95: float | None
    predicted: int
    reference: int
    unit: str = "pixel"


@dataclass(frozen=True)
class Summary:
    """Scores of several cases: every case, the mean over cases of each class, and the mean over classes.

    Parameters
    ----------
    mean : dict
        Measure -> mean over the classes that have one; ``"unit"`` of the distances.
    classes : dict of str to dict
        Class -> measure -> mean over the cases that have one, and the counts

        - ``"cases"``: in the mean of Dice, IoU, precision and recall;
        - ``"absent"``: in neither mask, left out;
        - ``"missed"``: in the reference only; ``"invented"``: in the prediction only;
        - ``"distances"``: in the mean of the distances.
    cases : list of dict
        ``{"name": ..., "classes": {class: scores}}`` in the order given.
    """

    mean: dict[str, Any]
    classes: dict[str, dict[str, Any]]
    cases: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``json.dumps``; None becomes ``null``."""
        return dataclasses.asdict(self)


def evaluate_case(
    prediction: NDArray[Any],
    reference: NDArray[Any],
    values: Mapping[str, int],
    spacing: Sequence[float] | None = None,
    unit: str = "pixel",
) -> dict[str, ClassScores]:
    """Compare two label arrays.

    Parameters
    ----------
    prediction, reference : ndarray of int or bool, shape ``*S``, 2-D or 3-D
        Class values; values that are not named are background.
    values : mapping of str to int
        Class name -> value.
    spacing : sequence of float, optional
        One number per axis of `S`, in `unit`; ones when left out.
    unit : str
        Passed on to the scores.

    Returns
    -------
    dict of str to ClassScores
        In the order of `values`.

    Raises
    ------
    ValueError
        If shapes or types do not fit, the spacing is not one positive number per axis, or two names share
        a value.

    Notes
    -----
    Distances run between boundary voxels: those of a mask that have a face neighbour outside it, where
    everything beyond the image is outside. ``hausdorff`` is the larger of the two directed maxima; ``hd95``
    the larger of the two directed 95th percentiles (linear interpolation between order statistics), not the
    percentile of both sets pooled. Both equal MONAI's ``compute_hausdorff_distance``. Definitions by
    surface elements (DeepMind's surface-distance) give slightly smaller numbers; never mix the two. An axis
    of length one has no extent and is dropped first, so that an image and a stack of that one slice score
    alike (MONAI would call every voxel of the slice boundary).
    """
    steps = _check(prediction, reference, values, spacing)
    long_axes = [axis for axis, n in enumerate(prediction.shape) if n > 1]
    shape = tuple(prediction.shape[axis] for axis in long_axes) or (1,)
    steps = tuple(steps[axis] for axis in long_axes) or (1.0,)
    guess = _class_numbers(prediction, values).reshape(shape)
    truth = _class_numbers(reference, values).reshape(shape)
    n = len(values) + 1
    table = np.bincount(truth.ravel().astype(np.intp) * n + guess.ravel(), minlength=n * n).reshape(n, n)
    boxes = zip(ndimage.find_objects(guess, n - 1), ndimage.find_objects(truth, n - 1), strict=True)
    scores = {}
    for number, (name, (a, b)) in enumerate(zip(values, boxes, strict=True), start=1):
        distances = None
        if a is not None and b is not None:
            box = tuple(slice(min(p.start, q.start), max(p.stop, q.stop)) for p, q in zip(a, b, strict=True))
            distances = _hausdorff(guess[box] == number, truth[box] == number, steps)
        overlap = int(table[number, number])
        scores[name] = _scores(
            overlap, int(table[:, number].sum()), int(table[number].sum()), distances, unit
        )
    return scores


def summarise(cases: Mapping[str, Mapping[str, ClassScores]]) -> Summary:
    """Mean over cases per class, then over classes.

    Parameters
    ----------
    cases : mapping of str to mapping of str to ClassScores
        Case name -> what `evaluate_case` returned.

    Returns
    -------
    Summary
        A measure that no case has is None. Where the cases' units differ, the mean distances are None.
    """
    units = {scores.unit for classes in cases.values() for scores in classes.values()}
    unit = units.pop() if len(units) == 1 else None
    names = dict.fromkeys(name for classes in cases.values() for name in classes)
    per_class = {name: _class_row([c[name] for c in cases.values() if name in c], unit) for name in names}
    mean: dict[str, Any] = {m: _mean([row[m] for row in per_class.values()]) for m in MEASURES}
    rows = [
        {"name": case, "classes": {name: dataclasses.asdict(s) for name, s in classes.items()}}
        for case, classes in cases.items()
    ]
    return Summary({**mean, "unit": unit}, per_class, rows)


def _check(
    prediction: NDArray[Any],
    reference: NDArray[Any],
    values: Mapping[str, int],
    spacing: Sequence[float] | None,
) -> tuple[float, ...]:
    if prediction.shape != reference.shape:
        raise ValueError(f"the prediction has shape {prediction.shape}, the reference {reference.shape}")
    for name, array in (("prediction", prediction), ("reference", reference)):
        if array.dtype != bool and not np.issubdtype(array.dtype, np.integer):
            raise ValueError(f"the {name} must hold integers, got {array.dtype}")
    if len(set(values.values())) != len(values):
        raise ValueError(f"two classes share a value: {dict(values)}")
    if spacing is None:
        return (1.0,) * prediction.ndim
    steps = tuple(map(float, spacing))
    if len(steps) != prediction.ndim or not all(s > 0 and math.isfinite(s) for s in steps):
        raise ValueError(f"spacing needs {prediction.ndim} positive numbers, got {steps}")
    return steps


def _class_numbers(labels: NDArray[Any], values: Mapping[str, int]) -> NDArray[np.int32]:
    """Position of each value in `values`, from 1; 0 elsewhere."""
    if labels.dtype == bool:
        labels = labels.view(np.uint8) if labels.flags.c_contiguous else labels.astype(np.uint8)
    if labels.dtype in (np.uint8, np.uint16):  # a table is ten times faster than a search
        table = np.zeros(np.iinfo(labels.dtype).max + 1, np.int32)
        for number, value in enumerate(values.values(), start=1):
            if 0 <= value < len(table):
                table[value] = number
        numbers: NDArray[np.int32] = table[labels]
        return numbers
    result = np.zeros(labels.shape, np.int32)
    for number, value in enumerate(values.values(), start=1):
        result[labels == value] = number
    return result


def _scores(
    overlap: int, predicted: int, reference: int, distances: tuple[float, float] | None, unit: str
) -> ClassScores:
    if not predicted and not reference:
        return ClassScores(None, None, None, None, None, None, 0, 0, unit)
    return ClassScores(
        dice=2 * overlap / (predicted + reference),
        iou=overlap / (predicted + reference - overlap),
        precision=overlap / predicted if predicted else 0.0,
        recall=overlap / reference if reference else 0.0,
        hausdorff=distances[0] if distances else None,
        hd95=distances[1] if distances else None,
        predicted=predicted,
        reference=reference,
        unit=unit,
    )


def _hausdorff(a: NDArray[np.bool_], b: NDArray[np.bool_], spacing: tuple[float, ...]) -> tuple[float, float]:
    """Hausdorff distance and HD95 of two masks that are not empty, cropped to their joint bounding box."""
    # Two k-d trees over the boundaries: scipy's distance transform takes 6 to 10 times as long on balls of
    # radius 60 to 100.
    points = [np.argwhere(_boundary(mask)) * np.asarray(spacing) for mask in (a, b)]
    trees = [cKDTree(p, leafsize=32, balanced_tree=False) for p in points]
    there, back = trees[1].query(points[0])[0], trees[0].query(points[1])[0]
    hd95 = max(float(np.percentile(there, 95)), float(np.percentile(back, 95)))
    return max(float(there.max()), float(back.max())), hd95


def _boundary(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Voxels with a face neighbour outside the mask; the mask's bounding box lies within the array."""
    result: NDArray[np.bool_] = mask & ~ndimage.binary_erosion(
        mask, ndimage.generate_binary_structure(mask.ndim, 1)
    )
    return result


def _class_row(scores: Sequence[ClassScores], unit: str | None) -> dict[str, Any]:
    row: dict[str, Any] = {measure: _mean([getattr(s, measure) for s in scores]) for measure in MEASURES}
    if unit is None:
        row |= dict.fromkeys(DISTANCES)
    there = [s for s in scores if s.predicted or s.reference]
    return row | {
        "cases": len(there),
        "absent": len(scores) - len(there),
        "missed": sum(not s.predicted for s in there),
        "invented": sum(not s.reference for s in there),
        "distances": sum(s.hausdorff is not None for s in there),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None
