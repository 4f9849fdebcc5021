"""Steps that change values of the image, one channel at a time, and leave grid and labels alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_ctxseg.cases import Case
    from napari_ctxseg.recipes.steps.config import (
        N4,
        EqualiseHistogram,
        MinMax,
        Nyul,
        Percentiles,
        Window,
        ZScore,
    )

    Values = NDArray[np.floating[Any]]
    #: Landmarks of each channel.
    Standard = tuple[tuple[float, ...], ...]

#: Ends of Nyul's standard scale.
SCALE = (0.0, 100.0)
#: What a voxel inside gets instead of 0: for the steps that follow, 0 is outside.
INSIDE = 1e-6


def window(config: Window, case: Case) -> Case:
    """See `Window`."""
    return _each(
        case, lambda v: (np.clip(v, config.low, config.high) - config.low) / (config.high - config.low)
    )


def percentiles(config: Percentiles, case: Case) -> Case:
    """See `Percentiles`."""
    return _each(case, lambda v: np.clip(v, *np.percentile(v, [config.low, config.high])))


def min_max(config: MinMax, case: Case) -> Case:
    """See `MinMax`; a constant channel becomes 0."""

    def change(values: Values) -> Values:
        low, high = values.min(), values.max()
        return (values - low) / (high - low) if high > low else np.zeros_like(values)

    return _each(case, change)


def z_score(config: ZScore, case: Case) -> Case:
    """See `ZScore`; a constant channel becomes 0."""

    def change(values: Values) -> Values:
        mask = values != 0 if config.over == "nonzero" else np.ones(values.shape, bool)
        inside = values[mask]
        result = np.zeros_like(values)
        if inside.size and inside.std() > 0:
            result[mask] = (inside - inside.mean()) / inside.std()
        return result

    return _each(case, change)


def equalise_histogram(config: EqualiseHistogram, case: Case) -> Case:
    """See `EqualiseHistogram`; a constant channel becomes 0."""
    from skimage.exposure import equalize_hist  # slow to import

    equalise: Any = equalize_hist  # it has no types

    def change(values: Values) -> Values:
        if values.max() == values.min():
            return np.zeros_like(values)
        return np.asarray(equalise(values, nbins=config.bins))

    return _each(case, change)


def n4(config: N4, case: Case) -> Case:
    """See `N4`: the field is fitted on a coarser grid and divided out at full size."""
    import SimpleITK  # slow to import, and not always needed

    sitk: Any = SimpleITK  # it has no types

    def change(values: Values) -> Values:
        mask = values > 0
        if not mask.any():
            return values
        image = sitk.GetImageFromArray(values.astype(np.float32))
        image.SetSpacing([float(s) for s in reversed(case.image.spacing)])
        inside = sitk.GetImageFromArray(mask.astype(np.uint8))
        inside.CopyInformation(image)
        # An axis is not shrunk below the four points that the field's spline needs.
        factors = [max(1, min(config.shrink, n // 4)) for n in reversed(values.shape)]
        corrector = sitk.N4BiasFieldCorrectionImageFilter()
        corrector.SetMaximumNumberOfIterations(list(config.iterations))
        corrector.Execute(sitk.Shrink(image, factors), sitk.Shrink(inside, factors))
        field = sitk.GetArrayFromImage(sitk.Exp(corrector.GetLogBiasFieldAsImage(image)))
        return np.where(mask, values / field, values)

    return _each(case, change)


def nyul(config: Nyul, case: Case, standard: Standard) -> Case:
    """See `Nyul`.

    Parameters
    ----------
    config : Nyul
    case : Case
    standard : tuple of tuple of float
        For each channel the value that each percentile is brought to; straight lines between, and on beyond the ends.
    """
    if len(standard) != len(case.image.channel_array):
        raise InputError(
            case.name,
            f"has {len(case.image.channel_array)} channels, the training images have {len(standard)}",
            "Leave it out",
        )
    targets = iter(standard)

    def change(values: Values) -> Values:
        mask = values != 0 if config.over == "nonzero" else np.ones(values.shape, bool)
        own, to = _rising(_landmarks(config, values), next(targets))
        result = np.zeros_like(values)
        if len(own) > 1:
            inside = _straight(values[mask], own, to)
            result[mask] = np.where(inside == 0, INSIDE, inside) if config.over == "nonzero" else inside
        return result

    return _each(case, change)


def learn_nyul(config: Nyul, landmarks: Sequence[Standard]) -> Standard:
    """The standard from what `nyul_landmarks` found in each training image: the mean of the landmarks, after each image's
    first and last were brought to `SCALE`.

    Raises
    ------
    InputError
        If no image has two different landmarks.
    """
    standard = []
    for channel in zip(*landmarks, strict=True):
        known = [np.asarray(own) for own in channel if own[-1] > own[0]]
        if not known:
            raise InputError(
                "histogram standard", "cannot be learnt from constant images", "Check the images"
            )
        low, high = SCALE
        brought = [low + (own - own[0]) * (high - low) / (own[-1] - own[0]) for own in known]
        standard.append(tuple(float(v) for v in np.mean(brought, axis=0)))
    return tuple(standard)


def nyul_landmarks(config: Nyul, case: Case) -> Standard:
    """Percentiles of each channel of one training image."""
    return tuple(_landmarks(config, _floats(channel)) for channel in case.image.channel_array)


def _landmarks(config: Nyul, values: Values) -> tuple[float, ...]:
    inside = values[values != 0] if config.over == "nonzero" else values[values > values.mean()]
    if not inside.size:
        return (0.0,) * len(config.percentiles)
    return tuple(float(v) for v in np.percentile(inside, config.percentiles))


def _rising(own: Sequence[float], to: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Landmarks without those that stand at the same value as the one before."""
    values = np.asarray(own)
    keep = np.r_[True, np.diff(values) > 0]
    return values[keep], np.asarray(to)[keep]


def _straight(values: Values, own: NDArray[np.float64], to: NDArray[np.float64]) -> Values:
    result = np.interp(values, own, to)
    for end, other, outside in ((0, 1, values < own[0]), (-1, -2, values > own[-1])):
        slope = (to[end] - to[other]) / (own[end] - own[other])
        result[outside] = to[end] + slope * (values[outside] - own[end])
    return result


def _floats(channel: NDArray[Any]) -> Values:
    return np.asarray(channel, np.float64)


def _each(case: Case, change: Callable[[Values], Values]) -> Case:
    image = case.image
    done = [np.asarray(change(_floats(channel)), np.float32) for channel in image.channel_array]
    array = np.stack(done) if image.axes.startswith("c") else done[0]
    return replace(case, image=replace(image, array=array))
