"""Configurations of losses; `napari_ctxseg.losses.LOSSES` has one builder for each."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, TypeAdapter, model_validator

from napari_ctxseg.config.base import ADVANCED, Config, LengthUnit, Reduction, Smoothing
from napari_ctxseg.config.maps import ContourConfig, DynamicRoi, RoiConfig
from napari_ctxseg.config.preset import expanded, preset_values, presets_of

PRESETS = ("paper", "released", "recommended")


class CrossEntropy(Config):
    """Plain cross-entropy: every labelled pixel counts the same."""

    kind: Literal["ce"] = "ce"


class WeightedCE(Config):
    """Cross-entropy with one weight per class, divided by the sum of the weights."""

    kind: Literal["weighted_ce"] = "weighted_ce"
    weights: tuple[float, ...] | None = Field(
        None,
        min_length=2,
        title="Class weights",
        description="Background first. Left empty: one over the class's share of the training labels.",
    )

    @model_validator(mode="after")
    def _positive(self) -> WeightedCE:
        if self.weights and (min(self.weights) < 0 or max(self.weights) <= 0):
            raise ValueError("class weights must be 0 or more, and one of them above 0")
        return self


class BalancedCE(Config):
    """Cross-entropy in which every class counts the same, however few pixels it has."""

    kind: Literal["balanced_ce"] = "balanced_ce"
    scope: Literal["sample", "dataset"] = Field(
        "sample",
        title="Balance over",
        description="sample: the pixels of each image; dataset: the whole training set, the classic form.",
    )
    frequencies: tuple[float, ...] | None = Field(
        None,
        min_length=2,
        title="Class shares",
        description="For `dataset`, background first. Left empty: counted in the training labels.",
        json_schema_extra=ADVANCED,
    )

    @model_validator(mode="after")
    def _shares(self) -> BalancedCE:
        if self.frequencies and (min(self.frequencies) < 0 or max(self.frequencies) <= 0):
            raise ValueError("class shares must be 0 or more, and one of them above 0")
        return self


class Focal(Config):
    """Cross-entropy that fades out where the network is sure already (Lin et al. 2017)."""

    kind: Literal["focal"] = "focal"
    alpha: float = Field(
        1.0, gt=0, title="Alpha", description="Factor of the whole loss.", json_schema_extra=ADVANCED
    )
    gamma: float = Field(
        2.0, ge=0, title="Gamma", description="How fast easy pixels fade; 0 is plain cross-entropy."
    )
    floor: float = Field(
        0.0,
        ge=0,
        lt=0.1,
        title="Floor",
        description="Added to each probability before the logarithm; the released code has 1e-7.",
        json_schema_extra=ADVANCED,
    )


class Dice(Config):
    """Soft Dice: overlap of areas, whatever their size (Milletari et al. 2016, without squares)."""

    kind: Literal["dice"] = "dice"
    reduction: Reduction = "macro"
    smooth: Smoothing = 1e-5


class DiceCE(Config):
    """Cross-entropy plus soft Dice over the foreground classes present in the sample."""

    kind: Literal["dice_ce"] = "dice_ce"
    dice_weight: float = Field(1.0, ge=0, title="Dice weight", description="Factor of the Dice term.")
    ce_weight: float = Field(
        1.0,
        ge=0,
        title="CE weight",
        description="Factor of the cross-entropy term.",
        json_schema_extra=ADVANCED,
    )
    reduction: Reduction = "macro"
    smooth: Smoothing = 1e-5


class LogJaccard(Config):
    """Minus the logarithm of soft Jaccard, summed over all classes: what the context paper's code calls Dice."""

    kind: Literal["log_jaccard"] = "log_jaccard"
    smooth: Smoothing = 1e-7


class GeneralizedDice(Config):
    """Dice of all classes together, each weighted by one over its squared size (Sudre et al. 2017)."""

    kind: Literal["generalized_dice"] = "generalized_dice"
    absent: Literal["skip", "keep"] = Field(
        "skip",
        title="Absent classes",
        description="skip: weight 0. keep: weight 1000, as released; it then drowns the classes present.",
    )
    smooth: Smoothing = 1e-5


class DistanceWeightedCE(Config):
    """Cross-entropy with more weight in narrow gaps between objects (Ronneberger et al. 2015, equation 2)."""

    kind: Literal["distance_weighted_ce"] = "distance_weighted_ce"
    w0: float = Field(10.0, ge=0, title="Gap weight", description="Weight added where two objects touch.")
    sigma: float = Field(
        5.0, gt=0, title="Gap width", description="How wide a gap may be and still count as narrow."
    )
    unit: LengthUnit = "px"
    class_weights: Literal["inverse", "none"] = Field(
        "inverse",
        title="Class weights",
        description="inverse: one over the class's share of the image, mean 1 over its pixels. none: 1 for all.",
        json_schema_extra=ADVANCED,
    )


class ContextCE(Config):
    """Cross-entropy of the image plus cross-entropy of a region around the structure (Murugesan et al. 2020)."""

    kind: Literal["context_ce"] = "context_ce"
    roi: RoiConfig = Field(
        DynamicRoi(), title="Region of interest", description="How the region around the structure is found."
    )
    weight: float = Field(
        1.0,
        ge=0,
        title="Context weight",
        description="Lambda: how much the region counts beside the image.",
    )
    reduction: Literal["mean", "sum"] = Field(
        "mean",
        title="Reduction",
        description="mean: two means, as released. sum: two sums, as printed; the region then weighs far less.",
        json_schema_extra=ADVANCED,
    )


class DilatedBalancedCE(Config):
    """Class-balanced cross-entropy whose weights reach a radius beyond each class (Hosseini & Soleymani 2024)."""

    kind: Literal["dilated_balanced_ce"] = "dilated_balanced_ce"
    radius: float = Field(
        20.0,
        ge=0,
        allow_inf_nan=True,
        title="Radius",
        description="How far beyond the structure its weight reaches. 0 is balanced CE; very large is plain CE.",
    )
    unit: LengthUnit = "world"
    per: Literal["class", "component"] = Field(
        "class",
        title="Balance per",
        description="class: all pieces of a class share one unit of weight. component: each connected piece of the "
        "foreground has its own, so that many small ones do not dilute each other.",
    )
    normalise: bool = Field(
        False,
        title="Weights sum to one",
        description="Divide by the sum of the weights, so that images with more classes do not weigh more.",
        json_schema_extra=ADVANCED,
    )
    anneal: float = Field(
        0.0,
        ge=0,
        le=1,
        title="Anneal over",
        description="Share of the run over which the radius shrinks from the start radius; 0: it stays as it is.",
        json_schema_extra=ADVANCED,
    )
    start_radius: float = Field(
        100.0,
        ge=0,
        allow_inf_nan=True,
        title="Start radius",
        description="Radius of the first step when annealed, in the same unit; a very large one is plain CE.",
        json_schema_extra=ADVANCED,
    )


class ContourWeightedCE(Config):
    """Cross-entropy with more weight along the boundaries of the structures (contour-weighted CE)."""

    kind: Literal["contour_weighted_ce"] = "contour_weighted_ce"
    contour: ContourConfig = Field(
        ContourConfig(), title="Contour", description="Which pixels are the contour."
    )
    alpha: float = Field(
        1.0, ge=0, title="Alpha", description="Weight added on the contour; 0 is plain cross-entropy."
    )


class SeparableDice(Config):
    """Soft Dice of the contour and soft Dice of the rest, mixed (separable Dice)."""

    kind: Literal["separable_dice"] = "separable_dice"
    contour: ContourConfig = Field(
        ContourConfig(), title="Contour", description="Thickness of each class's inner rim."
    )
    balance: float = Field(
        0.5,
        ge=0,
        le=1,
        title="Balance",
        description="Lambda: share of the contour's Dice; the rest of the image has the other share.",
    )
    reduction: Reduction = "macro"
    smooth: Smoothing = 1e-5


class ContourWeightedCEDice(Config):
    """Contour-weighted cross-entropy plus separable Dice: the loss of the contour paper."""

    kind: Literal["contour_weighted_ce_dice"] = "contour_weighted_ce_dice"
    contour: ContourConfig = Field(
        ContourConfig(), title="Contour", description="Which pixels are the contour."
    )
    alpha: float = Field(
        1.0, ge=0, title="Alpha", description="Weight added on the contour in the cross-entropy."
    )
    balance: float = Field(
        0.5, ge=0, le=1, title="Balance", description="Lambda: share of the contour's Dice in the Dice term."
    )
    ce_weight: float = Field(
        1.0,
        ge=0,
        title="CE weight",
        description="Factor of the cross-entropy term.",
        json_schema_extra=ADVANCED,
    )
    dice_weight: float = Field(
        1.0, ge=0, title="Dice weight", description="Factor of the Dice term.", json_schema_extra=ADVANCED
    )
    reduction: Reduction = "macro"
    smooth: Smoothing = 1e-5


class Term(Config):
    """One summand."""

    weight: float = Field(1.0, title="Weight", description="Factor of this term.")
    loss: LossConfig = Field(title="Loss", description="The loss of this term.")


class Sum(Config):
    """Weighted sum of any losses."""

    kind: Literal["sum"] = "sum"
    terms: tuple[Term, ...] = Field(
        (), validate_default=False, title="Terms", description="Losses and their factors."
    )

    @model_validator(mode="before")
    @classmethod
    def _default(cls, values: Any) -> Any:
        if isinstance(values, dict) and "terms" not in values:
            return values | {"terms": [{"loss": "ce"}, {"loss": "dice"}]}
        return values

    @model_validator(mode="after")
    def _some(self) -> Sum:
        if not self.terms:
            raise ValueError("a sum needs at least one term")
        return self


def _loss_named(value: Any) -> Any:
    return expanded(value, "loss")


LossConfig = Annotated[
    CrossEntropy
    | WeightedCE
    | BalancedCE
    | Focal
    | Dice
    | DiceCE
    | LogJaccard
    | GeneralizedDice
    | DistanceWeightedCE
    | ContextCE
    | DilatedBalancedCE
    | ContourWeightedCE
    | SeparableDice
    | ContourWeightedCEDice
    | Sum,
    Field(discriminator="kind"),
    BeforeValidator(_loss_named),
]
Term.model_rebuild()
Sum.model_rebuild()


def parse_loss(config: Config | dict[str, Any] | str) -> Config:
    """Validate a loss given as configuration, plain values, or bare name.

    Raises
    ------
    pydantic.ValidationError
        If the kind is unknown or a parameter is out of range.
    """
    checked: Config = TypeAdapter[Config](LossConfig).validate_python(config)
    return checked


def loss_kinds() -> tuple[str, ...]:
    """Names of all losses."""
    members = get_args(get_args(LossConfig)[0])
    return tuple(str(cls.model_fields["kind"].default) for cls in members)


def recommended(kind: str) -> Config:
    """What the form starts with: the recommended preset where there is one, else the defaults."""
    values = preset_values(kind, "recommended") if "recommended" in presets_of(kind) else {"kind": kind}
    return parse_loss(values)
