"""Measures of predicted labels, per case and class, and their means.

The measures themselves are in `overlap`, `surface`, `skeleton` and `detection`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_ctxseg.evaluation.detection import DETECTION, detection_measures, pieces_of
from napari_ctxseg.evaluation.overlap import OVERLAP, Counts, overlap_measures
from napari_ctxseg.evaluation.skeleton import SKELETON, cldice
from napari_ctxseg.evaluation.surface import SURFACE, surface_distances, surface_measures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

#: Names of the measures that are shown unless others are chosen, in this order.
MEASURES = ("dice", "iou", "precision", "recall", "hausdorff", "hd95")
#: All measures by what they cost.
GROUPS = {"overlap": OVERLAP, "surface": SURFACE, "skeleton": SKELETON, "detection": DETECTION}
ALL_MEASURES = tuple(name for names in GROUPS.values() for name in names)
#: Those of them that are lengths.
DISTANCES = ("hausdorff", "hd95", "assd", "mssd")
#: Those that are best at 0 from either side: neither more nor less of them is better.
WITHOUT_DIRECTION = ("rvd",)
#: Those of which less is better.
LESS_IS_BETTER = (*DISTANCES, "fpr", "fnr", "voe")
#: Other names by which people ask for a measure.
ALIASES = {
    "sensitivity": "recall", "tpr": "recall", "tnr": "specificity", "ppv": "precision", "dsc": "dice", "jaccard": "iou",
    "hd": "hausdorff", "asd": "assd", "msd": "mssd", "nsd": "surface_dice",
}  # fmt: skip


@dataclass(frozen=True)
class MeasureOptions:
    """What the measures leave open.

    Parameters
    ----------
    tolerance : float, optional
        Of the surface Dice, in the unit of the spacing; the finest spacing of the case when left out.
    faces_only : bool
        Whether pieces hang together by faces only, not by edges and corners.
    overlap : float
        A piece counts as found if more than this share of its voxels lies in the other mask.
    sizes : tuple of two floats
        Below the first a reference object is small, from the second on large.
    physical : bool
        Whether `sizes` are areas or volumes in the unit of the spacing instead of numbers of voxels.
    instances : bool
        Whether values are numbers of objects instead of classes: there is one class, all values above 0, and the measures of
        objects take each value for one, touching or not. Labels of a single value are taken apart into connected pieces
        all the same: a network that knows no objects predicts such.
    """

    tolerance: float | None = None
    faces_only: bool = False
    overlap: float = 0.0
    sizes: tuple[float, float] = (100.0, 1000.0)
    physical: bool = False
    instances: bool = False


def canonical(name: str) -> str:
    """The name of a measure as it is used here, whatever people call it."""
    plain = name.strip().lower()
    return ALIASES.get(plain, plain)


def chosen_measures(names: Sequence[str]) -> tuple[str, ...]:
    """Measures by their names, those of their groups, or ``all``; each once, in the order of `ALL_MEASURES`.

    Parameters
    ----------
    names : sequence of str
        Of measures, groups or aliases; nothing means `MEASURES`.

    Raises
    ------
    ValueError
        Naming the first that is none.
    """
    chosen: set[str] = set()
    for given in names:
        name = canonical(given)
        if name not in (*ALL_MEASURES, *GROUPS, "all", "default"):
            raise ValueError(
                f"{given!r} is no measure; there are {', '.join(ALL_MEASURES)}, the groups {', '.join(GROUPS)}, and all"
            )
        chosen |= set({"all": ALL_MEASURES, "default": MEASURES, **GROUPS}.get(name, (name,)))
    return tuple(name for name in ALL_MEASURES if name in chosen) if chosen else MEASURES


@dataclass(frozen=True)
class ClassScores:
    """Measures of one class in one case. None stands for "not applicable".

    A class in neither mask has no measures at all. A class in one mask only has Dice and every other measure of
    overlap at its worst (so that leaving a structure out never lifts a mean) and no distances; which are None even
    then is said in `overlap_measures` and `detection_measures`.

    Parameters
    ----------
    values : dict of str to float or None
        The measures that were asked for; lengths in `unit`.
    predicted, reference : int
        Number of pixels or voxels of the class.
    unit : str
        Unit of the spacing.
    """

    values: dict[str, float | None]
    predicted: int
    reference: int
    unit: str = "pixel"

    def __getattr__(self, name: str) -> float | None:
        """A measure that was asked for, by its name."""
        if name not in ALL_MEASURES or name not in self.values:
            raise AttributeError(name)
        return self.values[name]

    def to_json(self) -> dict[str, Any]:
        """The measures and the counts beside each other, plain values for ``json.dumps``."""
        return {**self.values, "predicted": self.predicted, "reference": self.reference, "unit": self.unit}


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
        return {"mean": self.mean, "classes": self.classes, "cases": self.cases}


def evaluate_case(
    prediction: NDArray[Any],
    reference: NDArray[Any],
    values: Mapping[str, int],
    spacing: Sequence[float] | None = None,
    unit: str = "pixel",
    *,
    measures: Sequence[str] = MEASURES,
    options: MeasureOptions | None = None,
) -> dict[str, ClassScores]:
    """Compare two label arrays.

    Parameters
    ----------
    prediction, reference : ndarray of int or bool, shape ``*S``, 2-D or 3-D
        Class values; values that are not named are background.
    values : mapping of str to int
        Class name -> value. Of ``options.instances`` one name, whose value plays no part.
    spacing : sequence of float, optional
        One number per axis of `S`, in `unit`; ones when left out.
    unit : str
        Passed on to the scores.
    measures : sequence of str
        Some of `ALL_MEASURES`, as `chosen_measures` gives them. Only what they need is computed.
    options : MeasureOptions, optional
        What the measures leave open.

    Returns
    -------
    dict of str to ClassScores
        In the order of `values`.

    Raises
    ------
    ValueError
        If shapes or types do not fit, the spacing is not one positive number per axis, two names share a value, a measure
        does not exist, or there are several classes of ``options.instances``.

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
    strange = set(measures) - set(ALL_MEASURES)
    if strange:
        raise ValueError(f"there is no measure {sorted(strange)[0]!r}")
    long_axes = [axis for axis, n in enumerate(prediction.shape) if n > 1]
    shape = tuple(prediction.shape[axis] for axis in long_axes) or (1,)
    steps = tuple(steps[axis] for axis in long_axes) or (1.0,)
    how = options or MeasureOptions()
    arrays = prediction.reshape(shape), reference.reshape(shape)
    objects = _objects(*arrays, values) if how.instances else None
    guess, truth = (
        (each > 0).view(np.uint8) if how.instances else _class_numbers(each, values) for each in arrays
    )
    n = len(values)
    boxes = zip(ndimage.find_objects(guess, n), ndimage.find_objects(truth, n), strict=True)
    scores = {}
    for number, (name, pair) in enumerate(zip(values, boxes, strict=True), start=1):
        known = [box for box in pair if box is not None]
        if not known:
            scores[name] = ClassScores(dict.fromkeys(measures), 0, 0, unit)
            continue
        # All that follows happens in the joint bounding box of the class: beyond it both masks are empty.
        sides = zip(*known, strict=True)
        box = tuple(slice(min(s.start for s in side), max(s.stop for s in side)) for side in sides)
        masks = guess[box] == number, truth[box] == number
        apart = masks if objects is None else (objects[0][box], objects[1][box])
        scores[name] = _class_scores(*masks, apart, guess.size, steps, measures, how, unit)
    return scores


def _objects(
    prediction: NDArray[Any], reference: NDArray[Any], values: Mapping[str, int]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both label arrays, each as a mask instead where it tells no objects apart."""
    if len(values) != 1:
        raise ValueError(f"numbers of objects are one class, not {list(values)}")

    def told(labels: NDArray[Any]) -> NDArray[Any]:
        found = labels[labels > 0]
        return labels if found.size and (found != found[0]).any() else labels > 0

    return told(prediction), told(reference)


def _class_scores(
    guess: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    objects: tuple[NDArray[Any], NDArray[Any]],
    voxels: int,
    steps: tuple[float, ...],
    measures: Sequence[str],
    options: MeasureOptions,
    unit: str,
) -> ClassScores:
    """Scores of one class from its masks, one of which may be empty, and its objects as `pieces_of` takes them."""
    predicted, reference = (int(np.count_nonzero(mask)) for mask in (guess, truth))
    both = int(np.count_nonzero(guess & truth))
    found = overlap_measures(Counts(both, predicted, reference, voxels))
    if predicted and reference:
        if not set(SURFACE).isdisjoint(measures):
            tolerance = min(steps) if options.tolerance is None else options.tolerance
            found |= surface_measures(*surface_distances(guess, truth, steps), tolerance)
        if "cldice" in measures:
            found["cldice"] = cldice(guess, truth)
    else:
        found |= {**dict.fromkeys(DISTANCES), "surface_dice": 0.0, "cldice": 0.0}
    if not set(DETECTION).isdisjoint(measures):
        pieces = pieces_of(*objects, faces_only=options.faces_only)
        voxel = math.prod(steps) if options.physical else 1.0
        found |= detection_measures(pieces, sizes=options.sizes, voxel=voxel, overlap=options.overlap)
    return ClassScores({name: found[name] for name in measures}, predicted, reference, unit)


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
    measures = next((tuple(s.values) for c in cases.values() for s in c.values()), MEASURES)
    mean: dict[str, Any] = {m: _mean([row[m] for row in per_class.values()]) for m in measures}
    rows = [
        {"name": case, "classes": {name: s.to_json() for name, s in classes.items()}}
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


def _class_numbers(labels: NDArray[Any], values: Mapping[str, int]) -> NDArray[Any]:
    """Position of each value in `values`, from 1; 0 elsewhere."""
    dtype = np.uint8 if len(values) < 256 else np.int32
    if labels.dtype == bool:
        labels = labels.view(np.uint8) if labels.flags.c_contiguous else labels.astype(np.uint8)
    if labels.dtype in (np.uint8, np.uint16):  # a table is ten times faster than a search
        table = np.zeros(np.iinfo(labels.dtype).max + 1, dtype)
        for number, value in enumerate(values.values(), start=1):
            if 0 <= value < len(table):
                table[value] = number
        numbers: NDArray[Any] = table[labels]
        return numbers
    result = np.zeros(labels.shape, dtype)
    for number, value in enumerate(values.values(), start=1):
        result[labels == value] = number
    return result


def _class_row(scores: Sequence[ClassScores], unit: str | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        m: None if m in DISTANCES and unit is None else _mean([s.values[m] for s in scores])
        for m in scores[0].values
    }
    there = [s for s in scores if s.predicted or s.reference]
    return row | {
        "cases": len(there),
        "absent": len(scores) - len(there),
        "missed": sum(not s.predicted for s in there),
        "invented": sum(not s.reference for s in there),
        "distances": sum(bool(s.predicted and s.reference) for s in there),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None
