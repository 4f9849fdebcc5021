"""What can be done to an image and its labels before training; `napari_ctxseg.recipes.steps.STEPS` has one builder each."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, model_validator

from napari_ctxseg.config import Config
from napari_ctxseg.config.base import named

Side = Annotated[int, Field(ge=1)]
Length = Annotated[float, Field(gt=0)]


class Resample(Config):
    """Another spacing, over the same extent; images interpolated, labels by the nearest voxel."""

    kind: Literal["resample"] = "resample"
    spacing: tuple[Length | None, ...] = Field((1.0, 1.0, 1.0), min_length=2, max_length=3)
    interpolation: Literal["linear", "bspline"] = "linear"


class CropPad(Config):
    """The middle of the image in a given size; what is missing is filled with each channel's least value, label 0."""

    kind: Literal["crop_pad"] = "crop_pad"
    size: tuple[Side | None, ...] = Field((None, 128, 128), min_length=2, max_length=3)


class Resize(Config):
    """Another size of the slices, over the same extent; images smoothed before they shrink, labels never mixed."""

    kind: Literal["resize"] = "resize"
    size: tuple[Side, Side] = (320, 320)


class Window(Config):
    """Values clipped, then brought to 0 to 1: a CT window in Hounsfield units."""

    kind: Literal["window"] = "window"
    low: float = -100.0
    high: float = 400.0

    @model_validator(mode="after")
    def _rising(self) -> Window:
        if self.low >= self.high:
            raise ValueError(f"a window rises: {self.low} is not below {self.high}")
        return self


class Percentiles(Config):
    """Values of each channel clipped to two of its percentiles."""

    kind: Literal["percentiles"] = "percentiles"
    low: float = Field(0.5, ge=0, lt=100)
    high: float = Field(99.5, gt=0, le=100)

    @model_validator(mode="after")
    def _rising(self) -> Percentiles:
        if self.low >= self.high:
            raise ValueError(f"percentiles rise: {self.low} is not below {self.high}")
        return self


class MinMax(Config):
    """Each channel brought to 0 to 1."""

    kind: Literal["min_max"] = "min_max"


class ZScore(Config):
    """Each channel to mean 0 and deviation 1: over all voxels, or over those that are not 0 (the brain); others stay 0."""

    kind: Literal["z_score"] = "z_score"
    over: Literal["all", "nonzero"] = "all"


class EqualiseHistogram(Config):
    """Histogram equalisation of each channel of the whole image, to 0 to 1 (scikit-image)."""

    kind: Literal["equalise_histogram"] = "equalise_histogram"
    bins: int = Field(256, ge=2)


class Nyul(Config):
    """Histograms brought to a common standard that is learnt from the training images (Nyul and Udupa 1999).

    ``over: nonzero`` looks at voxels that are not 0, which alone are changed; ``mean`` at those above the mean, and changes
    all.
    """

    kind: Literal["nyul"] = "nyul"
    over: Literal["nonzero", "mean"] = "nonzero"
    percentiles: tuple[float, ...] = (1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 99)

    @model_validator(mode="after")
    def _rising(self) -> Nyul:
        values = self.percentiles
        if len(values) < 2 or list(values) != sorted(set(values)) or values[0] < 0 or values[-1] > 100:
            raise ValueError(f"percentiles are two or more rising numbers from 0 to 100, not {values}")
        return self


class N4(Config):
    """Slow changes of brightness taken out (N4, Tustison et al. 2010), within the voxels above 0."""

    kind: Literal["n4"] = "n4"
    shrink: int = Field(4, ge=1)
    iterations: tuple[Side, ...] = (50, 50, 50, 50)


class Slices(Config):
    """A volume becomes its slices along the first axis, each an image of its own; the patient stays the same."""

    kind: Literal["slices"] = "slices"
    keep: Literal["all", "foreground"] = "all"


AnyStep = (
    Resample
    | CropPad
    | Resize
    | Window
    | Percentiles
    | MinMax
    | ZScore
    | EqualiseHistogram
    | Nyul
    | N4
    | Slices
)
StepConfig = Annotated[AnyStep, Field(discriminator="kind"), BeforeValidator(named)]


def parse_step(value: Config | dict[str, Any] | str) -> Config:
    """Validate a step given as configuration, plain values, or bare name.

    Raises
    ------
    pydantic.ValidationError
        If the kind is unknown or a parameter is out of range.
    """
    checked: Config = TypeAdapter[Config](StepConfig).validate_python(value)
    return checked
