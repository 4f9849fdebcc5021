"""Preparation of images and labels, one small step after the other. No torch here.

Geometry comes from SimpleITK and scikit-image, N4 from SimpleITK. Histogram standardisation is our own: no library among the
dependencies has it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from napari_ctxseg.recipes.steps import grids, values
from napari_ctxseg.recipes.steps.config import (
    N4,
    AnyStep,
    CropPad,
    EqualiseHistogram,
    MinMax,
    Nyul,
    Percentiles,
    Resample,
    Resize,
    Slices,
    StepConfig,
    Window,
    ZScore,
    parse_step,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from napari_ctxseg.cases import Case
    from napari_ctxseg.recipes.steps.values import Standard

__all__ = ["STEPS", "AnyStep", "StepConfig", "apply", "learn", "parse_step"]

#: What does the work of each step. `nyul` also takes the standard, and `slices` gives several cases.
STEPS: dict[type, Callable[..., Any]] = {
    Resample: grids.resample,
    CropPad: grids.crop_pad,
    Resize: grids.resize,
    Slices: grids.slices,
    Window: values.window,
    Percentiles: values.percentiles,
    MinMax: values.min_max,
    ZScore: values.z_score,
    EqualiseHistogram: values.equalise_histogram,
    Nyul: values.nyul,
    N4: values.n4,
}


def apply(steps: Sequence[AnyStep], case: Case, standards: Sequence[Standard] = ()) -> list[Case]:
    """All steps, one after the other.

    Parameters
    ----------
    steps : sequence of step configurations
    case : Case
        Image and labels as read.
    standards : sequence
        For each `Nyul` among the steps, what `learn` found.

    Returns
    -------
    list of Case
        One, or with `Slices` as many as are kept; labels hold only values that they held before, and 0.
    """
    cases = [case]
    left = iter(standards)
    for step in steps:
        work = partial(STEPS[type(step)], step)
        if isinstance(step, Nyul):
            standard = next(left)
            cases = [work(each, standard) for each in cases]
        elif isinstance(step, Slices):
            cases = [one for each in cases for one in work(each)]
        else:
            cases = [work(each) for each in cases]
    return cases


def learn(steps: Sequence[AnyStep], training: Callable[[], Iterable[Case]]) -> list[Standard]:
    """The standard of each `Nyul` among the steps, from the training images as the steps before it leave them.

    Parameters
    ----------
    steps : sequence of step configurations
    training : callable
        Gives the training cases anew each time it is called.
    """
    found: list[Standard] = []
    for place, step in enumerate(steps):
        if isinstance(step, Nyul):
            before = steps[:place]
            marks = [
                values.nyul_landmarks(step, one) for case in training() for one in apply(before, case, found)
            ]
            found.append(values.learn_nyul(step, marks))
    return found
