"""Configurations of discriminators; `napari_ctxseg.networks.DISCRIMINATORS` has one builder for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, get_args

from pydantic import BeforeValidator, Field

from napari_ctxseg.config.base import ADVANCED, Config, named
from napari_ctxseg.config.maps import DynamicRoi, MaskRoi, StaticRoi
from napari_ctxseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: What convolutions of 9, 5 and 5 without padding take off a side, and the shortest side that leaves something.
SHRINK = 16
SMALLEST_CROP = SHRINK + 1
#: Shortest side that the same convolutions with an average pool after each can take.
SMALLEST_POOLED = 40


class PlainDiscriminatorConfig(Config):
    """Looks at the whole mask: three convolutions with pools, then one verdict (GAN rows of Murugesan et al. 2020)."""

    smallest: ClassVar[int] = SMALLEST_POOLED
    conditional: ClassVar[bool] = False

    kind: Literal["plain"] = "plain"


class ContextDiscriminatorConfig(Config):
    """Looks at the whole mask and, apart, at the region of interest (Seg-GLGAN, Murugesan et al. 2020)."""

    smallest: ClassVar[int] = SMALLEST_POOLED
    conditional: ClassVar[bool] = False

    kind: Literal["context"] = "context"


class _Conditional(Config):
    """What the discriminators that see the image beside the mask share."""

    conditional: ClassVar[bool] = True

    recurrent: bool = Field(
        False,
        title="Recurrent",
        description="Pass the features along the slices of a patient, both ways, before the verdict.",
    )
    norm: Literal["group", "patient", "none"] = Field(
        "group",
        title="Normalisation",
        description="group: each image by itself. patient: over the slices of a patient in the batch. "
        "none: in `pixel`, no pixel then knows of any other.",
        json_schema_extra=ADVANCED,
    )


class PixelDiscriminatorConfig(_Conditional):
    """One verdict per pixel, from the image and the mask at that pixel (CR-GAN as printed, Rezaei et al. 2018)."""

    smallest: ClassVar[int] = 2

    kind: Literal["pixel"] = "pixel"
    width: int = Field(
        64,
        ge=1,
        title="Width",
        description="Channels of the first layer; twice as many in the second.",
        json_schema_extra=ADVANCED,
    )


class PatchDiscriminatorConfig(_Conditional):
    """One verdict per patch of 70 pixels, the patches overlapping (PatchGAN, Isola et al. 2017)."""

    smallest: ClassVar[int] = 24

    kind: Literal["patch"] = "patch"
    width: int = Field(
        64,
        ge=1,
        title="Width",
        description="Channels of the first layer; up to eight times as many in the last.",
        json_schema_extra=ADVANCED,
    )


class ImageDiscriminatorConfig(_Conditional):
    """One verdict per image (CR-GAN as released). In 3-D it is very large: take a small width."""

    smallest: ClassVar[int] = 16

    kind: Literal["image"] = "image"
    width: int = Field(
        128,
        ge=1,
        title="Width",
        description="Channels of the first layer; eight times as many in the last.",
        json_schema_extra=ADVANCED,
    )


AnyDiscriminator = (
    PlainDiscriminatorConfig
    | ContextDiscriminatorConfig
    | PixelDiscriminatorConfig
    | PatchDiscriminatorConfig
    | ImageDiscriminatorConfig
)
DiscriminatorConfig = Annotated[AnyDiscriminator, Field(discriminator="kind"), BeforeValidator(named)]


def discriminator_kinds() -> tuple[str, ...]:
    """Names of all discriminators."""
    return tuple(str(cls.model_fields["kind"].default) for cls in get_args(AnyDiscriminator))


def check_discriminator(
    config: AnyDiscriminator,
    size: Sequence[int],
    roi: StaticRoi | DynamicRoi | MaskRoi | None = None,
) -> None:
    """Refuse patches and regions that a discriminator cannot take.

    Parameters
    ----------
    config : one of the discriminators' configurations
    size : sequence of int
        Sides of a training patch.
    roi : StaticRoi, DynamicRoi, MaskRoi or None
        For ``context``: what its local branch looks at.

    Raises
    ------
    InputError
        If a side is too short, naming the smallest valid one; if ``context`` has no region.
    """
    if min(size) < config.smallest:
        raise InputError(
            f"patch size {' x '.join(map(str, size))}",
            f"is too small for the {config.kind} discriminator",
            f"Take {config.smallest} or more on every side",
        )
    if not isinstance(config, ContextDiscriminatorConfig):
        return
    if roi is None:
        raise InputError(
            "context discriminator", "has no region of interest", "Choose static, dynamic or mask"
        )
    if isinstance(roi, StaticRoi) and roi.size < SMALLEST_POOLED:
        other = f"{SMALLEST_CROP} is enough for" if roi.size >= SMALLEST_CROP else "take"
        raise InputError(
            f"region of {roi.size} pixels",
            "is too small for the local branch of the context discriminator",
            f"Take {SMALLEST_POOLED} or more, or {other} a dynamic region, whose branch has no pools",
        )
