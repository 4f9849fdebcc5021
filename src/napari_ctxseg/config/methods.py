"""Configurations of training methods; `napari_ctxseg.training.METHODS` has one trainer for each."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, TypeAdapter, model_validator

from napari_ctxseg.config.base import ADVANCED, Config, named
from napari_ctxseg.config.discriminators import (
    ContextDiscriminatorConfig,
    DiscriminatorConfig,
    PixelDiscriminatorConfig,
    PlainDiscriminatorConfig,
)
from napari_ctxseg.config.maps import RoiConfig, StaticRoi
from napari_ctxseg.config.networks import NetworkConfig, UNetConfig
from napari_ctxseg.config.preset import expanded


class SupervisedConfig(Config):
    """Plain supervised training with one loss."""

    kind: Literal["supervised"] = "supervised"


class AdversaryOptim(Config):
    """Optimiser of the discriminator."""

    name: Literal["adam", "sgd", "rmsprop"] = Field(
        "adam",
        title="Optimiser",
        description="adam: safe. sgd: as released with Seg-GLGAN. rmsprop: CR-GAN's paper.",
    )
    lr: float = Field(
        1e-4,
        gt=0,
        title="Learning rate",
        description="Too high and the discriminator wins at once: nothing is learnt from it.",
    )


class _Adversarial(Config):
    """What all adversarial methods share."""

    adversarial_weight: float = Field(
        1e-2,
        ge=0,
        title="GAN weight",
        description="How much fooling the discriminator counts beside the loss. 0: no discriminator at all.",
    )
    loss_weight: float = Field(
        1.0,
        ge=0,
        title="Loss weight",
        description="What the loss is multiplied by.",
        json_schema_extra=ADVANCED,
    )
    warm_up: float = Field(
        0.1,
        ge=0,
        le=1,
        title="Warm-up",
        description="Share of the training over which the adversarial weight rises from 0: a network that knows "
        "nothing yet has nothing to fool with.",
    )
    noise: float = Field(
        0.0,
        ge=0,
        title="Noise channel",
        description="Deviation of an input channel of Gaussian noise. 0: none. The CR-GAN paper found it "
        "useless on large data and harmful on small.",
        json_schema_extra=ADVANCED,
    )
    optim: AdversaryOptim = Field(
        AdversaryOptim(), title="Discriminator's optimiser", json_schema_extra=ADVANCED
    )


class GanConfig(_Adversarial):
    """A discriminator that looks at whole masks learns beside the network (GAN rows of Murugesan et al. 2020)."""

    kind: Literal["gan"] = "gan"
    discriminator: DiscriminatorConfig = Field(
        PlainDiscriminatorConfig(),
        title="Discriminator",
        description="What judges the masks.",
        json_schema_extra={"without": ["context"]},
    )

    @model_validator(mode="after")
    def _fits(self) -> GanConfig:
        if isinstance(self.discriminator, ContextDiscriminatorConfig):
            raise ValueError("the context discriminator needs a region: choose the method seg_glgan")
        return self


class SegGlGanConfig(_Adversarial):
    """Seg-GLGAN: the discriminator sees the whole mask and the region of interest (Murugesan et al. 2020)."""

    kind: Literal["seg_glgan"] = "seg_glgan"
    roi: RoiConfig = Field(
        StaticRoi(),
        title="Region",
        description="What the local branch sees, for real and predicted masks alike; from the labels.",
    )
    discriminator: Annotated[ContextDiscriminatorConfig, BeforeValidator(named)] = Field(
        ContextDiscriminatorConfig(), title="Discriminator", json_schema_extra=ADVANCED
    )


class CGanConfig(_Adversarial):
    """cGAN: the discriminator sees the mask beside its image (Rezaei et al. 2018); recurrent with `recurrent_unet`."""

    kind: Literal["cgan"] = "cgan"
    adversarial_weight: float = Field(
        1.0,
        ge=0,
        title="GAN weight",
        description="How much fooling the discriminator counts beside the loss. 0: no discriminator at all.",
    )
    loss_weight: float = Field(
        10.0, ge=0, title="Loss weight", description="What the loss is multiplied by; 10 as released."
    )
    l1_weight: float = Field(
        0.0,
        ge=0,
        title="L1 weight",
        description="Weight of the mean distance between probabilities and labels. 0: not used, as released.",
        json_schema_extra=ADVANCED,
    )
    discriminator: DiscriminatorConfig = Field(
        PixelDiscriminatorConfig(),
        title="Discriminator",
        description="What judges the masks.",
        json_schema_extra={"without": ["context", "plain"]},
    )

    @model_validator(mode="after")
    def _conditional(self) -> CGanConfig:
        if isinstance(self.discriminator, ContextDiscriminatorConfig | PlainDiscriminatorConfig):
            raise ValueError("its discriminator sees the image too: choose pixel, patch or image")
        return self


class RefineConfig(Config):
    """The second stage of CR-GAN: a network that predicts what the first one missed and what it made up."""

    base: str | None = Field(
        None,
        title="First stage",
        description="A finished run to refine. Left empty: the first stage is trained in this run.",
        json_schema_extra={"run": True},
    )
    folds: int = Field(
        3,
        ge=2,
        title="Folds",
        description="The first stage is trained again that often, each time without some patients, so that "
        "the second stage learns from the errors on patients that were not seen.",
    )
    steps: int | None = Field(
        None, ge=1, title="Steps", description="Of the second stage. Left empty: as many as the first."
    )
    network: NetworkConfig = Field(UNetConfig(), title="Network")
    loss: Literal["bce", "bce_dice", "focal", "dilated", "mse"] = Field(
        "bce",
        title="Its loss",
        description="bce: cross-entropy. bce_dice: with Dice. focal, dilated: for very sparse errors. mse: as released.",
        json_schema_extra=ADVANCED,
    )
    joint: int = Field(
        0,
        ge=0,
        title="Joint steps",
        description="Steps in which both stages are trained together at the end.",
        json_schema_extra=ADVANCED,
    )


class CrGanConfig(CGanConfig):
    """CR-GAN: cGAN, then a network that predicts its false negatives and false positives (Rezaei et al. 2018)."""

    kind: Literal["cr_gan"] = "cr_gan"  # type: ignore[assignment]
    refine: RefineConfig = Field(RefineConfig(), title="Refinement")


def _method_named(value: Any) -> Any:
    return expanded(value, "method")


MethodConfig = Annotated[
    SupervisedConfig | GanConfig | SegGlGanConfig | CGanConfig | CrGanConfig,
    Field(discriminator="kind"),
    BeforeValidator(_method_named),
]


def parse_method(config: Config | dict[str, Any] | str) -> Config:
    """Validate a method given as configuration, plain values, or bare name.

    Raises
    ------
    pydantic.ValidationError
        If the kind is unknown or a parameter is out of range.
    """
    checked: Config = TypeAdapter[Config](MethodConfig).validate_python(config)
    return checked


def method_kinds() -> tuple[str, ...]:
    """Names of all methods."""
    members = get_args(get_args(MethodConfig)[0])
    return tuple(str(cls.model_fields["kind"].default) for cls in members)
