"""Pieces of a prediction that a person should look at, slice by slice. No torch here.

A suspect is a structure that is there or not: of a class, at some pixels, and why it is doubted. Whoever looks at it says
"it is there" or "it is not".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

Reason = Literal["missed", "made up", "not annotated", "not predicted", "unsure", "island"]
REASONS: tuple[Reason, ...] = get_args(Reason)
#: What each means, for people.
MEANING: dict[Reason, str] = {
    "missed": "The second stage says that the first has missed this.",
    "made up": "The second stage says that the first has made this up.",
    "not annotated": "It is predicted, but not in the annotation, where the slice counts as labelled.",
    "not predicted": "It is in the annotation, but not predicted.",
    "unsure": "It is predicted with little certainty.",
    "island": "It is predicted, tiny, and touches nothing of its class, in the slices above and below either.",
}
#: Suspects of one reason and class in one slice: more would be noise, not structures.
MOST = 100
_AROUND = np.ones((3, 3), bool)
_CROSS = ndimage.generate_binary_structure(2, 1)


@dataclass(frozen=True)
class Limits:
    """What is doubted.

    Parameters
    ----------
    unsure : float
        Mean uncertainty of a piece from which on it is doubted, 0 to 1.
    island : int
        Pixels of a piece up to which it is an island; 0: none is.
    """

    unsure: float = 0.5
    island: int = 8


@dataclass(frozen=True, eq=False)
class Suspect:
    """A structure in question.

    Parameters
    ----------
    value : int
        Class value.
    reason : Reason
    box : tuple of slice
        Tight box in the slice.
    mask : ndarray of bool
        Its pixels within the box.
    score : float
        How doubtful, 0 to 1.
    """

    value: int
    reason: Reason
    box: tuple[slice, slice]
    mask: NDArray[np.bool_]
    score: float

    @property
    def size(self) -> int:
        """Number of pixels."""
        return int(np.count_nonzero(self.mask))

    @property
    def middle(self) -> tuple[float, float]:
        """Mean place of its pixels."""
        rows, columns = np.nonzero(self.mask)
        return self.box[0].start + float(rows.mean()), self.box[1].start + float(columns.mean())

    def covered(self, other: Suspect) -> float:
        """Share of its pixels that another one of its class holds too."""
        if other.value != self.value:
            return 0.0
        both = tuple(
            slice(max(a.start, b.start), min(a.stop, b.stop))
            for a, b in zip(self.box, other.box, strict=True)
        )
        if any(part.stop <= part.start for part in both):
            return 0.0
        mine, theirs = (
            each.mask[
                tuple(slice(p.start - b.start, p.stop - b.start) for p, b in zip(both, each.box, strict=True))
            ]
            for each in (self, other)
        )
        return float(np.count_nonzero(mine & theirs)) / self.size


@dataclass(frozen=True)
class Stages:
    """What both stages of a CR-GAN say of a slice.

    Parameters
    ----------
    values : sequence of int
        Class values of the channels 1, 2, ...
    first, fn, fp : ndarray, shape ``(K, y, x)``
        Probabilities of the first stage and of its false negatives and false positives, background first.
    thresholds : tuple of float
        Of the latter two.
    """

    values: Sequence[int]
    first: NDArray[Any]
    fn: NDArray[Any]
    fp: NDArray[Any]
    thresholds: tuple[float, float]


def suspects(
    prediction: NDArray[Any],
    *,
    annotation: NDArray[Any] | None = None,
    labelled: NDArray[np.bool_] | None = None,
    uncertainty: NDArray[Any] | None = None,
    stages: Stages | None = None,
    beside: Sequence[NDArray[Any]] = (),
    limits: Limits | None = None,
) -> list[Suspect]:
    """Suspicious structures of one slice, by reason as in `REASONS`. One that two reasons speak of is there once.

    Differences one or two pixels thin along a structure that is in both, prediction and annotation, are none.

    Parameters
    ----------
    prediction : ndarray of int, shape ``(y, x)``
        Class values, 0 where nothing is.
    annotation : ndarray of int, the same shape, optional
        Class values, 0 for background.
    labelled : ndarray of bool, the same shape, optional
        Where the annotation counts; there it is compared with, and nothing is doubted for other reasons.
    uncertainty : ndarray, the same shape, optional
        0 to 1.
    stages : Stages, optional
        Of a CR-GAN.
    beside : sequence of ndarray
        Predictions of the slices above and below.
    limits : Limits, optional
    """
    limits = limits or Limits()
    counts = np.zeros(prediction.shape, bool) if annotation is None or labelled is None else labelled
    found: list[Suspect] = []
    if stages is not None:
        found += _of_stages(stages, ~counts)
    if annotation is not None and counts.any():
        found += _against(prediction, annotation, counts, uncertainty)
    for value in _values(prediction[~counts]):
        found += _of_class(prediction, value, counts, uncertainty, beside, limits)
    kept: list[Suspect] = []
    taken: dict[int, NDArray[np.bool_]] = {}
    for one in sorted(found, key=lambda each: REASONS.index(each.reason)):
        here = taken.setdefault(one.value, np.zeros(prediction.shape, bool))[one.box]
        if 2 * np.count_nonzero(here & one.mask) < one.size:
            kept.append(one)
            here |= one.mask
    return kept


def _values(array: NDArray[Any]) -> list[int]:
    return [int(value) for value in np.unique(array) if value > 0]


def _of_stages(stages: Stages, where: NDArray[np.bool_]) -> Iterator[Suspect]:
    """Where one error mask alone fires: that decides, see `napari_ctxseg.composition`."""
    first = stages.first.argmax(axis=0)
    for index, value in enumerate(stages.values, start=1):
        missed, made_up = stages.fn[index] > stages.thresholds[0], stages.fp[index] > stages.thresholds[1]
        yield from _pieces(missed & ~made_up & where, value, "missed", stages.fn[index])
        yield from _pieces(made_up & ~missed & where & (first == index), value, "made up", stages.fp[index])


def _against(
    prediction: NDArray[Any],
    annotation: NDArray[Any],
    where: NDArray[np.bool_],
    uncertainty: NDArray[Any] | None,
) -> Iterator[Suspect]:
    """What is in one of the two alone. The surer the network is of it, the odder."""
    sure = (
        np.ones(prediction.shape, np.float32) if uncertainty is None else 1 - uncertainty.astype(np.float32)
    )
    for value in _values(np.stack([np.where(where, prediction, 0), np.where(where, annotation, 0)])):
        guess, drawn = (prediction == value) & where, (annotation == value) & where
        agreed = guess & drawn
        for mask, reason in ((guess & ~drawn, "not annotated"), (drawn & ~guess, "not predicted")):
            for one in _pieces(mask, value, reason, sure):  # type: ignore[arg-type]
                if not _is_rim(one, agreed):
                    yield one


def _is_rim(one: Suspect, agreed: NDArray[np.bool_]) -> bool:
    """Whether it is one or two pixels thin, and lies along something that is in both."""
    if ndimage.binary_erosion(np.pad(one.mask, 1), _CROSS).any():
        return False
    box = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in one.box)
    inside = np.zeros([min(s.stop, n) - s.start for s, n in zip(box, agreed.shape, strict=True)], bool)
    at = tuple(slice(s.start - b.start, s.stop - b.start) for s, b in zip(one.box, box, strict=True))
    inside[at] = one.mask
    return bool((ndimage.binary_dilation(inside, _AROUND) & agreed[box]).any())


def _of_class(
    prediction: NDArray[Any],
    value: int,
    counts: NDArray[np.bool_],
    uncertainty: NDArray[Any] | None,
    beside: Sequence[NDArray[Any]],
    limits: Limits,
) -> Iterator[Suspect]:
    """Unsure pieces and islands of a class, where less than half of them counts as labelled."""
    labels, number = ndimage.label(prediction == value, _AROUND)
    if not number:
        return
    sizes = np.bincount(labels.ravel())
    each = np.arange(1, number + 1)
    free = 2 * ndimage.sum_labels(counts, labels, each) < sizes[1:]
    boxes = ndimage.find_objects(labels)
    if uncertainty is not None:
        means = ndimage.mean(uncertainty.astype(np.float32), labels, each)
        yield from _some(labels, boxes, value, "unsure", np.where(free & (means >= limits.unsure), means, 0))
    small = free & (sizes[1:] <= limits.island)
    if small.any():
        for other in beside:
            small &= ndimage.sum_labels(other == value, labels, each) == 0
        yield from _some(
            labels, boxes, value, "island", np.where(small, 1 - sizes[1:] / (limits.island + 1), 0)
        )


def _pieces(mask: NDArray[np.bool_], value: int, reason: Reason, scores: NDArray[Any]) -> Iterator[Suspect]:
    """Connected pieces, the largest first where there are too many; scored by the mean over their pixels."""
    labels, number = ndimage.label(mask, _AROUND)
    if not number:
        return
    sizes = np.bincount(labels.ravel())[1:]
    boxes = ndimage.find_objects(labels)
    for index in np.sort(np.argsort(-sizes, kind="stable")[:MOST]):
        box = boxes[index]
        inside = labels[box] == index + 1
        yield Suspect(value, reason, box, inside, float(scores[box][inside].mean(dtype=np.float64)))


def _some(
    labels: NDArray[Any],
    boxes: Sequence[tuple[slice, slice]],
    value: int,
    reason: Reason,
    scores: NDArray[Any],
) -> Iterator[Suspect]:
    """The pieces whose score is above 0, the most doubtful where there are too many."""
    best = np.argsort(-scores, kind="stable")[:MOST]
    for index in np.sort(best[scores[best] > 0]):
        yield Suspect(value, reason, boxes[index], labels[boxes[index]] == index + 1, float(scores[index]))
