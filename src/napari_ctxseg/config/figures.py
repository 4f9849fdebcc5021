"""Recipes of figures; `napari_ctxseg.figures.FIGURES` has one builder for each."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (pydantic reads it)
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from napari_ctxseg.config.base import Config
from napari_ctxseg.config.figure_parts import Colour, ImageRecipe, Recipe, ScoresRecipe, Source, ViewConfig
from napari_ctxseg.config.losses import DilatedBalancedCE, LossConfig
from napari_ctxseg.config.maps import ContourConfig
from napari_ctxseg.errors import InputError


class OverlayFigure(ImageRecipe):
    """Contours of a reference and of predictions over the image."""

    kind: Literal["overlay"] = "overlay"
    reference: Source | None = Field(
        None, title="Reference", description="A label file, or `{file, name, ...}`."
    )
    predictions: tuple[Source, ...] = Field(
        (),
        title="Predictions",
        description="Label files, or `{file, name, ...}`, in the order of the legend.",
    )
    panels: Literal["one", "each"] = Field(
        "one",
        title="Panels",
        description="one: all contours over each other. each: a panel for each label file.",
    )
    colour_by: Literal["auto", "source", "class"] = Field(
        "auto",
        title="Colours tell",
        description="source: one colour for each file, one line style for each class. class: one colour for each class. "
        "auto: class where a panel shows one file of several classes, else source.",
    )

    @model_validator(mode="after")
    def _something(self) -> OverlayFigure:
        if self.reference is None and not self.predictions:
            raise ValueError("give a reference, or predictions")
        return self


class ErrorsFigure(ImageRecipe):
    """False positives red and false negatives blue, over the image."""

    kind: Literal["errors"] = "errors"
    reference: Path | None = Field(None, title="Reference", description="Label file.")
    prediction: Path | None = Field(None, title="Prediction", description="Label file.")
    fp: Path | None = Field(
        None,
        title="FP map",
        description="Instead: probabilities of a false positive, of `ctxseg predict --maps`.",
    )
    fn: Path | None = Field(None, title="FN map", description="Instead: probabilities of a false negative.")
    threshold: float = Field(
        0.5, ge=0, le=1, title="Threshold", description="A map counts as an error above it."
    )
    opacity: float = Field(0.75, gt=0, le=1, title="Opacity", description="Of the errors.")
    outline: bool = Field(
        True, title="Outline", description="Draw the contour of the reference, if there is one."
    )

    @model_validator(mode="after")
    def _pair(self) -> ErrorsFigure:
        labels = self.reference is not None and self.prediction is not None
        maps = self.fp is not None and self.fn is not None
        if labels == maps or (self.prediction and maps) or (labels and (self.fp or self.fn)):
            raise ValueError("give either reference and prediction, or fp and fn")
        return self


class ProbabilityFigure(ImageRecipe):
    """A probability map as the network gave it, with a colour bar."""

    kind: Literal["probability"] = "probability"
    probability: Path = Field(
        title="Probability", description="Map of real numbers: NIfTI, MetaImage, TIFF, .npy."
    )
    reference: Source | None = Field(None, title="Reference", description="Label file drawn as contour.")
    name: str = Field("probability", title="Name", description="Below the colour bar.")
    show_image: bool = Field(True, title="Image", description="Show the image in a panel beside the map.")
    colours: Literal["viridis", "magma", "cividis", "gray"] = Field(
        "viridis", title="Colour map", description="All of them grow evenly brighter."
    )


class LossAnatomyFigure(ImageRecipe):
    """Image, labels, cross-entropy, weights, weighted loss: where a loss comes from."""

    kind: Literal["loss_anatomy"] = "loss_anatomy"
    labels: Path = Field(title="Labels", description="Label file.")
    loss: LossConfig = Field(
        DilatedBalancedCE(), title="Loss", description="As in a run; it must be a weighted cross-entropy."
    )
    dims: Literal[2, 3] = Field(
        2, title="Axes", description="2: the slice is an image of its own. 3: the whole volume is."
    )
    run: Path | None = Field(None, title="Run", description="Run folder whose network makes the logits.")
    probabilities: dict[str, Path] = Field(
        {}, title="Probabilities", description="Or: class -> map; the background is what is left of 1."
    )
    ce: Path | None = Field(None, title="CE map", description="Or: the map itself, with `weight`.")
    weight: Path | None = Field(None, title="Weights", description="Map of `ctxseg maps`, with `ce`.")

    @model_validator(mode="after")
    def _from(self) -> LossAnatomyFigure:
        files = self.ce is not None and self.weight is not None
        if (self.ce is None) != (self.weight is None):
            raise ValueError("ce and weight belong together")
        if sum((files, self.run is not None, bool(self.probabilities))) != 1:
            raise ValueError("give one of: run, probabilities, or ce and weight")
        return self


class ContourFigure(Recipe):
    """Mask, its erosion, and the contour between them: what a contour loss sees."""

    kind: Literal["contour"] = "contour"
    labels: Path = Field(title="Labels", description="Label file.")
    image: Path | None = Field(None, title="Image", description="Shown first, if given.")
    channel: int | None = Field(
        None, ge=0, title="Channel", description="Of several; the first one when left out."
    )
    classes: dict[str, int] = Field(
        {}, title="Classes", description="Names and values. Left empty: every value that is found."
    )
    foreground: bool = Field(False, title="One class", description="Every label above 0 is one class.")
    view: ViewConfig = Field(
        ViewConfig(), title="View", description="Which slice, which part of it, and a zoomed part."
    )
    contour: ContourConfig = Field(
        ContourConfig(iterations=3),
        title="Contour",
        description="As of a contour loss: iterations, side, ...",
    )
    interior: Path | None = Field(
        None, title="Interior", description="`ctxseg maps --map interior`. Left empty: computed."
    )
    band: Path | None = Field(
        None, title="Contour map", description="`ctxseg maps --map contour`. Left empty: computed."
    )

    @model_validator(mode="after")
    def _both(self) -> ContourFigure:
        if (self.interior is None) != (self.band is None):
            raise ValueError("interior and band belong together")
        return self


class RefinementFigure(ImageRecipe):
    """First stage, its predicted false negatives and false positives, and what is left after them."""

    kind: Literal["refinement"] = "refinement"
    name: str = Field("foreground", title="Class", description="Name of the class, in the legend.")
    stage1: Path = Field(
        title="Stage 1", description="Probability map of the class, of `ctxseg predict --maps`."
    )
    fn: Path = Field(title="FN map", description="Probabilities of a false negative.")
    fp: Path = Field(title="FP map", description="Probabilities of a false positive.")
    refined: Path | None = Field(
        None,
        title="Refined",
        description="Label file of the refined prediction. Left empty: the class alone is composed from the maps, "
        "which for several classes need not be what `ctxseg predict` wrote.",
    )
    fn_threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        title="FN threshold",
        description="Left empty: the run's, from `predictions.json` above the maps; without that file 0.75.",
    )
    fp_threshold: float | None = Field(
        None, ge=0, le=1, title="FP threshold", description="Left empty: the same for false positives."
    )
    reference: Source | None = Field(
        None, title="Reference", description="Label file drawn as contour in all panels."
    )


class MontageFigure(ImageRecipe):
    """Labels over several slices."""

    kind: Literal["montage"] = "montage"
    labels: Source = Field(title="Labels", description="A label file, or `{file, name, filled, ...}`.")
    slices: tuple[int, ...] = Field(
        (),
        title="Slices",
        description="Counted from 0. Left empty: `count` of them, evenly over the labelled ones.",
    )
    count: int = Field(8, ge=1, le=100, title="Count", description="How many, when `slices` is left empty.")


class BoxplotsFigure(ScoresRecipe):
    """A box for each method, a point for each case."""

    kind: Literal["boxplots"] = "boxplots"
    measures: tuple[str, ...] = Field(
        ("dice",), min_length=1, title="Measures", description="A panel for each, as named in the scores."
    )


class SweepFigure(Recipe):
    """A measure over a swept setting, such as a radius."""

    kind: Literal["sweep"] = "sweep"
    points: dict[float, Path] = Field(
        {}, title="Points", description="Value of the setting -> file of `ctxseg evaluate --json`."
    )
    report: Path | None = Field(
        None, title="Report", description="Instead: `report.json` of `ctxseg compare --sweep`."
    )
    measure: str = Field("dice", title="Measure", description="As named in the scores.")
    label: str = Field("", title="Setting", description="Name of the setting, below the axis.")
    logarithmic: bool = Field(False, title="Logarithmic", description="Of the setting's axis.")

    @model_validator(mode="after")
    def _one_source(self) -> SweepFigure:
        if bool(self.points) == (self.report is not None):
            raise ValueError("give either points or report")
        if self.logarithmic and any(value <= 0 for value in self.points):
            raise ValueError("logarithmic: every value must be above 0")
        return self


class TableFigure(ScoresRecipe):
    """Mean and standard deviation of each method, as a picture, as Markdown and as LaTeX."""

    kind: Literal["table"] = "table"
    measures: tuple[str, ...] = Field(
        (),
        title="Measures",
        description="Columns, as named in the scores; dice, precision, recall, hd95 when left out.",
    )
    digits: int = Field(3, ge=0, le=6, title="Digits", description="After the point.")
    bold: bool = Field(True, title="Bold", description="The best mean of each column and class.")
    texts: tuple[Literal["md", "tex"], ...] = Field(
        ("md", "tex"), title="Text", description="Also written beside the picture."
    )


class ViewedLayer(Config):
    """One layer of a view; its pixels are in the recipe's file of arrays."""

    name: str = Field(title="Name", description="In the legend, for labels.")
    type: Literal["image", "rgb", "labels"] = Field(
        "image", title="Type", description="image, rgb or labels."
    )
    array: str = Field(title="Array", description="Its name in the file of arrays.")
    scale: tuple[float, float] = Field(
        (1.0, 1.0), title="Scale", description="Size of a pixel, row and column."
    )
    translate: tuple[float, float] = Field(
        (0.0, 0.0), title="Place", description="World coordinates of the centre of the first pixel."
    )
    opacity: float = Field(1.0, ge=0, le=1, title="Opacity", description="0 to 1.")
    colours: tuple[Colour, ...] = Field(
        ("#000000", "#ffffff"),
        min_length=2,
        title="Colour map",
        description="Of an image: colours from low to high.",
    )
    limits: tuple[float, float] | None = Field(
        None, title="Limits", description="Lowest and highest value shown."
    )
    additive: bool = Field(False, title="Additive", description="Adds its light to what lies below.")
    labels: dict[int, Colour] = Field(
        {}, title="Label colours", description="Value -> colour; others are not drawn."
    )
    names: dict[int, str] = Field({}, title="Label names", description="Value -> name in the legend.")
    contour: bool = Field(
        False, title="Contour", description="Draw the outlines of labels, not their insides."
    )


class ViewFigure(Recipe):
    """What a viewer showed: one slice, its layers and its field of view."""

    kind: Literal["view"] = "view"
    arrays: Path = Field(title="Arrays", description="File .npz beside the recipe.")
    layers: tuple[ViewedLayer, ...] = Field(
        min_length=1, title="Layers", description="From the lowest to the highest."
    )
    field: tuple[float, float, float, float] = Field(
        title="Field of view", description="Top, left, bottom, right in world coordinates."
    )
    unit: str = Field("pixel", title="Unit", description="Of the world coordinates.")
    ends: tuple[str, str, str, str] | None = Field(
        None, title="Letters", description="Orientation at left, right, top and bottom."
    )
    caption: str = Field("", title="Title", description="Above the panel.")
    panels: Literal["one", "each"] = Field(
        "one",
        title="Panels",
        description="one: as it was seen. each: the images alone, then with each labels layer, which gives the title.",
    )
    zoom: tuple[float, float, float, float] | None = Field(
        None,
        title="Zoom",
        description="Top, left, bottom, right in world coordinates of a part that is also drawn larger.",
    )


FigureConfig = Annotated[
    OverlayFigure
    | ErrorsFigure
    | ProbabilityFigure
    | LossAnatomyFigure
    | ContourFigure
    | RefinementFigure
    | MontageFigure
    | BoxplotsFigure
    | SweepFigure
    | TableFigure
    | ViewFigure,
    Field(discriminator="kind"),
]
_ADAPTER: TypeAdapter[Recipe] = TypeAdapter(FigureConfig)


def figure_classes() -> dict[str, type[Recipe]]:
    """Kind -> recipe class, in the order of the documentation."""
    union = get_args(get_args(FigureConfig)[0])
    return {cls.model_fields["kind"].default: cls for cls in union}


def figure_kind(recipe: Recipe) -> str:
    """The `kind` of a recipe."""
    return str(type(recipe).model_fields["kind"].default)


def parse_figure(values: Any, where: str = "recipe") -> Recipe:
    """Validate plain values.

    Raises
    ------
    InputError
        Naming the first field that is wrong.
    """
    kinds = ", ".join(figure_classes())
    if not isinstance(values, dict) or values.get("kind") not in figure_classes():
        kind = values.get("kind") if isinstance(values, dict) else None
        raise InputError(
            where, f"kind: {kind!r} is no figure" if kind else "names no kind", f"There are: {kinds}"
        )
    try:
        return _ADAPTER.validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:])  # the first one is the kind
        remedy = f"See `ctxseg figure --example {values['kind']}`"
        text = str(first["msg"]).removeprefix("Value error, ")
        raise InputError(where, f"{field}: {text}" if field else text, remedy) from error
