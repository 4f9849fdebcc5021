"""Which slices to label next: a heuristic, from what a prediction says of itself. No torch here.

Three things speak for a slice, each as a share of the largest among the candidates:

*unsure*   uncertainty added up where the network sees something: within `NEAR` pixels of predicted foreground; elsewhere
           only where it is above `CLEAR`, so that the faint doubt of large backgrounds does not drown the rest.
*errors*   probability of false negatives and false positives added up where it is above a half, from a CR-GAN.
*novelty*  distance to the nearest labelled slice between simple features (see `features`), each divided by its standard
           deviation over all slices.

Their weighted mean (`Weights`) is the score. Slices are chosen one by one. Each choice damps its neighbours in the same
image, and slices that look the same elsewhere, so that the list is not one place over and over (Gal et al. 2017, arXiv
1703.02910, rank by uncertainty alone; Yang et al. 2017, arXiv 1706.04737, add what is representative and unlike). Nothing
here has been fitted to data, and a high score is no promise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

#: Pixels around predicted foreground whose uncertainty counts in full.
NEAR = 5
#: Uncertainty, and probability of an error, that counts wherever it is.
CLEAR = 0.5
#: Slices over which a choice damps its neighbours, as the standard deviation of a bell.
REACH = 2.0
#: The same between slices that look alike, in standard deviations of each feature.
ALIKE = 0.25


@dataclass(frozen=True)
class Weights:
    """How much each reason counts; those that are not known are left out."""

    unsure: float = 0.5
    errors: float = 0.25
    novelty: float = 0.25


@dataclass(frozen=True)
class Seen:
    """What counts of one image, slice by slice.

    Parameters
    ----------
    name : str
        Of the image.
    unsure, errors : ndarray, shape ``(slices,)``, or None
        Sums as described above, in pixels; None where they are not known.
    features : ndarray, shape ``(slices, F)``
        See `features`.
    labelled : frozenset of int
        Slices that are not to be suggested.
    """

    name: str
    unsure: NDArray[np.float64] | None
    errors: NDArray[np.float64] | None
    features: NDArray[np.float64]
    labelled: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Candidate:
    """A slice to label.

    Parameters
    ----------
    image : str
    index : int
        Along the first axis; 0 of a 2-D image.
    score : float
        Expected gain as a share of the largest there could be, when it was chosen: less for each similar one before it.
    reasons : dict of str to float
        The shares that made it, by the names above.
    """

    image: str
    index: int
    score: float
    reasons: dict[str, float] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """The strongest of them, for people."""
        words = {"unsure": "unsure", "errors": "probable errors", "novelty": "unlike what is labelled"}
        best = max(self.reasons, key=lambda name: self.reasons[name], default="")
        return words.get(best, "")


def look(
    name: str,
    image: NDArray[Any],
    prediction: NDArray[Any],
    *,
    uncertainty: NDArray[Any] | None = None,
    fn: NDArray[Any] | None = None,
    fp: NDArray[Any] | None = None,
    labelled: Iterable[int] = (),
) -> Seen:
    """Take down what counts of one image.

    Parameters
    ----------
    name : str
    image : ndarray, shape ``(z, y, x)`` or ``(y, x)``
        Brightness; of several channels any one, or their mean.
    prediction : ndarray of int, the same shape
        0 where nothing is.
    uncertainty : ndarray, the same shape, optional
        0 to 1.
    fn, fp : ndarray, the same shape, optional
        Probability of an error of any class.
    labelled : iterable of int
        Slices along the first axis that are labelled; any of a 2-D image is the whole.

    Raises
    ------
    ValueError
        If shapes differ.
    """
    given = {"image": image, "prediction": prediction, "uncertainty": uncertainty, "fn": fn, "fp": fp}
    shapes = {what: np.shape(array) for what, array in given.items() if array is not None}
    if len(set(shapes.values())) > 1 or np.ndim(image) not in (2, 3):
        raise ValueError(f"arrays must have one shape of 2 or 3 axes, not {shapes}")
    stacks = {what: _stack(array) for what, array in given.items() if array is not None}
    classes, found = stacks["prediction"], stacks["image"]
    unsure = errors = None
    if "uncertainty" in stacks:
        unsure = np.array([_unsure(u, p) for u, p in zip(stacks["uncertainty"], classes, strict=True)])
    masks = [stacks[what] for what in ("fn", "fp") if what in stacks]
    if masks:
        errors = np.array([sum(_above(mask[i]) for mask in masks) for i in range(len(classes))], float)
    return Seen(name, unsure, errors, features(found, classes), frozenset(map(int, labelled)))


def _stack(array: NDArray[Any]) -> NDArray[Any]:
    return array[None] if array.ndim == 2 else array


def _above(values: NDArray[Any]) -> float:
    return float(values[values > CLEAR].sum(dtype=np.float64))


def _unsure(uncertainty: NDArray[Any], prediction: NDArray[Any]) -> float:
    near = _within(prediction != 0, NEAR)
    return float(uncertainty[near].sum(dtype=np.float64)) + _above(uncertainty[~near])


def _within(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """Places within a square of so many pixels around a mask."""
    grown: NDArray[np.bool_] = (
        ndimage.maximum_filter(mask, 2 * pixels + 1, mode="constant") if mask.any() else mask
    )
    return grown


def features(image: NDArray[Any], prediction: NDArray[Any]) -> NDArray[np.float64]:
    """Simple numbers of each slice: what it looks like, and what is predicted in it.

    Mean, standard deviation, 10th, 50th and 90th percentile of the brightness and mean size of its gradient, all of the
    image brought to mean 0 and standard deviation 1 as a whole; logarithm of one plus the number of predicted pixels of any
    class, that of the predicted pieces, and the middle and the spread of the pixels' places in the slice.

    Parameters
    ----------
    image : ndarray, shape ``(z, y, x)``
    prediction : ndarray of int, the same shape

    Returns
    -------
    ndarray, shape ``(z, 12)``
    """
    middle, spread = float(np.mean(image, dtype=np.float64)), float(np.std(image, dtype=np.float64)) or 1.0
    return np.array(
        [
            _features((plane - middle) / spread, classes != 0)
            for plane, classes in zip(image, prediction, strict=True)
        ]
    )


def _features(plane: NDArray[Any], mask: NDArray[np.bool_]) -> list[float]:
    gradient = np.mean(
        [np.abs(np.diff(plane, axis=axis)).mean() if n > 1 else 0.0 for axis, n in enumerate(plane.shape)]
    )
    brightness = [plane.mean(), plane.std(), *np.percentile(plane, (10, 50, 90)), gradient]
    pieces = int(ndimage.label(mask, np.ones((3, 3)))[1])
    places = [(rows / n) for rows, n in zip(np.nonzero(mask), mask.shape, strict=True)]
    where = [value for axis in places for value in ((axis.mean(), axis.std()) if len(axis) else (0.5, 0.0))]
    return [float(v) for v in (*brightness, np.log1p(mask.sum()), np.log1p(pieces), *where)]


def rank(images: Sequence[Seen], top: int | None = None, weights: Weights | None = None) -> list[Candidate]:
    """Slices to label next, best first. Of equals the first is taken.

    Parameters
    ----------
    images : sequence of Seen
    top : int, optional
        How many; all when left out.
    weights : Weights, optional

    Raises
    ------
    ValueError
        If two images have the same name.
    """
    names = [one.name for one in images]
    if len(set(names)) < len(names):
        raise ValueError(f"two images have the same name: {sorted(names)}")
    slices = [(number, index) for number, one in enumerate(images) for index in range(len(one.features))]
    if not slices:
        return []
    chosen = weights or Weights()
    places = _standardised(np.concatenate([one.features for one in images]))
    open_ = np.array([index not in images[number].labelled for number, index in slices])
    terms = {"unsure": chosen.unsure * _share([one.unsure for one in images], images, open_)}
    terms["errors"] = chosen.errors * _share([one.errors for one in images], images, open_)
    terms["novelty"] = chosen.novelty * _novelty(places, open_)
    known = {name: values for name, values in terms.items() if values.any()}
    full = sum(getattr(chosen, name) for name in known) or 1.0
    score = sum(known.values(), np.zeros(len(slices))) / full
    free, found = open_.copy(), list[Candidate]()
    for _ in range(min(top if top is not None else len(slices), int(open_.sum()))):
        best = int(np.argmax(np.where(free, score, -1)))
        number, index = slices[best]
        reasons = {
            name: round(float(values[best] / getattr(chosen, name)), 4) for name, values in known.items()
        }
        found.append(Candidate(images[number].name, index, float(score[best]), reasons))
        score = score * _damping(slices, places, best)
        free[best] = False
    return found


def _share(
    parts: Sequence[NDArray[np.float64] | None], images: Sequence[Seen], open_: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """All images one after the other, as shares of the largest candidate; 0 where it is not known."""
    values = np.concatenate(
        [
            np.zeros(len(one.features)) if part is None else part
            for part, one in zip(parts, images, strict=True)
        ]
    )
    largest = float(values[open_].max(initial=0))
    return values / largest if largest > 0 else np.zeros_like(values)


def _standardised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    spread = values.std(axis=0)
    # A feature that hardly varies would only bring in rounding.
    kept = spread > 1e-9 * np.maximum(1, np.abs(values).max(axis=0))
    result: NDArray[np.float64] = (values[:, kept] - values[:, kept].mean(axis=0)) / spread[kept]
    return result


def _novelty(places: NDArray[np.float64], open_: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance to the nearest labelled slice as a share of the largest; 0 where nothing is labelled."""
    if open_.all() or not open_.any():
        return np.zeros(len(places))
    nearest = np.full(len(places), np.inf)
    for labelled in places[~open_]:
        nearest = np.minimum(nearest, _distance(places, labelled))
    largest = float(nearest[open_].max())
    return nearest / largest if largest > 0 else np.zeros(len(places))


def _distance(places: NDArray[np.float64], one: NDArray[np.float64]) -> NDArray[np.float64]:
    """Root of the mean squared difference, so that it does not grow with the number of features."""
    if not places.shape[1]:
        return np.zeros(len(places))
    found: NDArray[np.float64] = np.sqrt(((places - one) ** 2).mean(axis=1))
    return found


def _damping(
    slices: Sequence[tuple[int, int]], places: NDArray[np.float64], best: int
) -> NDArray[np.float64]:
    """What is left of each slice's score after one was chosen: 0 at its own place, 1 far away."""
    numbers, indices = np.array(slices).T
    away = np.where(numbers == numbers[best], np.abs(indices - indices[best]), np.inf)
    unlike = _distance(places, places[best])
    damped: NDArray[np.float64] = (1 - np.exp(-0.5 * (away / REACH) ** 2)) * (
        1 - np.exp(-0.5 * (unlike / ALIKE) ** 2)
    )
    return damped


def rank_images(slices: Sequence[Candidate], most: int = 3) -> list[tuple[str, float]]:
    """Images by the mean of their best slices, best first.

    Parameters
    ----------
    slices : sequence of Candidate
        From `rank`, all of them.
    most : int
        How many slices of an image are looked at; a 2-D image has one.
    """
    scores: dict[str, list[float]] = {}
    for one in slices:
        scores.setdefault(one.image, []).append(one.score)
    means = [(name, float(np.mean(sorted(found, reverse=True)[:most]))) for name, found in scores.items()]
    return sorted(means, key=lambda entry: -entry[1])
