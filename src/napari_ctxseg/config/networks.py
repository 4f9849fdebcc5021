"""Configurations of networks; `napari_ctxseg.networks.NETWORKS` has one builder for each."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

from pydantic import BeforeValidator, Field, TypeAdapter, model_validator

from napari_ctxseg.config.base import ADVANCED, OFF_SCREEN, Config
from napari_ctxseg.config.preset import expanded

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

Norm = Literal["none", "batch", "instance", "group", "patient"]
_NORM_TEXT = (
    "batch: over the batch. instance: each image by itself. group: groups of channels of an image. "
    "patient: over the slices of a patient in the batch."
)
Widths = Annotated[
    tuple[Annotated[int, Field(ge=1)], ...],
    Field(
        min_length=2,
        max_length=8,
        title="Widths",
        description="Channels of the levels, top to bottom.",
        json_schema_extra=OFF_SCREEN,
    ),
]


class NetworkBase(Config):
    """What all networks share; torch-free answers to what a patch must look like.

    Attributes
    ----------
    fixed_size : bool
        Whether the network is built for one size of image, that of the patch.
    """

    fixed_size: ClassVar[bool] = False

    dims: Literal[2, 3] = Field(
        2, title="Dimensions", description="2: slice by slice; 3: whole volumes, needs more memory and time."
    )
    in_channels: int | None = Field(
        None,
        ge=1,
        title="Input channels",
        description="Left empty: taken from the data.",
        json_schema_extra=OFF_SCREEN,
    )
    out_channels: int | None = Field(
        None,
        ge=1,
        title="Classes",
        description="Left empty: taken from the data.",
        json_schema_extra=OFF_SCREEN,
    )

    @property
    @abstractmethod
    def stride(self) -> tuple[int, ...]:
        """Factor between the image and the lowest level, per axis: the network pads every side to a multiple of it."""

    @property
    def patient_wise(self) -> bool:
        """Whether it normalises over the slices of each patient."""
        return getattr(self, "norm", "") == "patient"

    @property
    def in_sequence(self) -> bool:
        """Whether 2-D batches should hold consecutive slices of a patient."""
        return self.patient_wise

    @property
    def smallest(self) -> tuple[int, ...]:
        """Smallest patch that makes sense: two pixels at the lowest level; volumes may be thin, and have one along z."""
        *across, y, x = self.stride
        return (*across, 2 * y, 2 * x)

    def nearest(self, size: Sequence[int]) -> tuple[int, ...]:
        """The patch size nearest to one that is too small; sides that are large enough stay."""
        return tuple(max(n, least) for n, least in zip(size, self.smallest, strict=True))

    def filled(self, in_channels: int, out_channels: int) -> Self:
        """A copy with all that the data decide; the patch's size is told by `for_patch`."""
        return self.model_copy(update={"in_channels": in_channels, "out_channels": out_channels})

    def for_patch(self, size: Sequence[int]) -> Self:
        """A copy made for a size of patch; the same for networks that take any size."""
        return self


def default_widths(dims: int) -> tuple[int, ...]:
    """Widths of a U-Net's levels: one level less in 3-D, where patches are smaller."""
    return (16, 32, 64, 128, 256) if dims == 2 else (16, 32, 64, 128)


class UNetConfig(NetworkBase):
    """U-Net: an encoder, a decoder and bridges between them (Ronneberger et al. 2015), plain or with residual units."""

    kind: Literal["unet"] = "unet"
    block: Literal["residual", "plain"] = Field(
        "residual",
        title="Levels of",
        description="residual: MONAI's UNet, whose first level halves the image already: cheap steps. plain: two "
        "convolutions a level from full size on, as in the papers.",
    )
    features: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None,
        min_length=2,
        max_length=8,
        title="Widths",
        description="Channels of the levels, top to bottom. Left empty: chosen.",
        json_schema_extra=OFF_SCREEN,
    )
    norm: Norm = Field("instance", title="Normalisation", description=_NORM_TEXT, json_schema_extra=ADVANCED)
    act: Literal["prelu", "relu", "leaky_relu"] = Field(
        "prelu",
        title="Activation",
        description="What follows each convolution.",
        json_schema_extra=ADVANCED,
    )
    down: Literal["conv", "max_pool"] = Field(
        "conv",
        title="Down by",
        description="conv: a convolution with stride, learnt. max_pool: the largest of its neighbours.",
        json_schema_extra=ADVANCED,
    )
    up: Literal["transposed", "transposed_norm", "nearest"] = Field(
        "transposed",
        title="Up by",
        description="transposed: a learnt convolution. transposed_norm: with normalisation and activation after it. "
        "nearest: pixels repeated.",
        json_schema_extra=ADVANCED,
    )
    factors: tuple[Literal[1, 2, 3, 4], ...] | None = Field(
        None,
        title="Factors",
        description="By how much each level below the first is smaller. Left empty: 2.",
        json_schema_extra=OFF_SCREEN,
    )
    deep_supervision: bool = Field(
        False,
        title="Deep supervision",
        description="Lower levels are trained on the labels too; the loss adds them.",
        json_schema_extra=ADVANCED,
    )
    init: Literal["default", "xavier", "kaiming"] = Field(
        "default",
        title="First weights",
        description="default: those of the library. xavier: uniform, gain the root of 2, biases 0. kaiming: normal, "
        "for leaky ReLU.",
        json_schema_extra=ADVANCED,
    )

    @model_validator(mode="after")
    def _consistent(self) -> UNetConfig:
        if self.features and self.factors and len(self.factors) != len(self.features) - 1:
            raise ValueError(
                f"{len(self.features)} widths need {len(self.features) - 1} factors, got {len(self.factors)}"
            )
        plain_only = {"down": "conv", "up": "transposed", "deep_supervision": False}
        changed = [name for name, usual in plain_only.items() if getattr(self, name) != usual]
        if self.block == "residual" and changed:
            raise ValueError(f"{', '.join(changed)}: only with plain levels (`block: plain`)")
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the levels."""
        if self.features is None and self.factors is not None:
            return tuple(16 * 2**level for level in range(len(self.factors) + 1))
        return self.features or default_widths(self.dims)

    @property
    def steps(self) -> tuple[int, ...]:
        """Factor from each level to the one below it."""
        return self.factors or (2,) * (len(self.widths) - 1)

    @property
    def stride(self) -> tuple[int, ...]:
        """Product of the factors, the same for all axes."""
        return (math.prod(self.steps),) * self.dims

    def filled(self, in_channels: int, out_channels: int) -> Self:
        """With channels, classes and widths."""
        known = super().filled(in_channels, out_channels)
        return known.model_copy(update={"features": self.widths})


class ResNet34UNetConfig(NetworkBase):
    """U-Net decoder on a ResNet-34, heads at 1/4, 1/8 and 1/16 summed in training: the network of the dilated CE paper."""

    kind: Literal["resnet34_unet"] = "resnet34_unet"
    width: int = Field(
        64,
        ge=4,
        title="Width",
        description="Channels of the first level; 64 is ResNet-34.",
        json_schema_extra=ADVANCED,
    )
    norm: Norm = Field("batch", title="Normalisation", description=_NORM_TEXT, json_schema_extra=ADVANCED)
    weights: str | None = Field(
        None,
        title="Weights",
        description="imagenet: downloaded once. A path: a .pth or .safetensors file with torchvision's ResNet-34. Left "
        "empty: from scratch.",
        json_schema_extra=OFF_SCREEN,
    )

    @property
    def stride(self) -> tuple[int, ...]:
        """32 on every axis."""
        return (32,) * self.dims


class VNetConfig(NetworkBase):
    """V-Net: residual levels of 5-wide convolutions (Milletari et al. 2016), made for volumes; many weights."""

    kind: Literal["vnet"] = "vnet"
    width: int = Field(
        16,
        ge=4,
        title="Width",
        description="Channels of the first level, doubled at each of the four below; 16 in the paper.",
        json_schema_extra=ADVANCED,
    )
    norm: Norm = Field("batch", title="Normalisation", description=_NORM_TEXT, json_schema_extra=ADVANCED)
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        title="Dropout",
        description="Share of channels left out in training, in the lower levels and the bridges; MONAI's is 0.5.",
        json_schema_extra=ADVANCED,
    )

    @property
    def stride(self) -> tuple[int, ...]:
        """16 on every axis."""
        return (16,) * self.dims


class UNETRConfig(NetworkBase):
    """UNETR: a vision transformer as encoder (Hatamizadeh et al. 2022); for large data sets."""

    fixed_size: ClassVar[bool] = True

    kind: Literal["unetr"] = "unetr"
    img_size: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None,
        title="Image size",
        description="The patch's size, in multiples of 16: the plan fills it in.",
        json_schema_extra=OFF_SCREEN,
    )
    hidden_size: int = Field(
        384,
        ge=12,
        title="Token width",
        description="Channels of the transformer; 768 in the paper.",
        json_schema_extra=ADVANCED,
    )
    heads: int = Field(
        6,
        ge=1,
        title="Heads",
        description="Of the attention; the token width must be a multiple.",
        json_schema_extra=ADVANCED,
    )
    width: int = Field(
        16,
        ge=4,
        title="Width",
        description="Channels of the decoder at full size.",
        json_schema_extra=ADVANCED,
    )

    @model_validator(mode="after")
    def _consistent(self) -> UNETRConfig:
        if self.hidden_size % self.heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} must be a multiple of the number of heads, {self.heads}"
            )
        if self.img_size and (len(self.img_size) != self.dims or any(n % 16 for n in self.img_size)):
            raise ValueError(f"img_size needs {self.dims} multiples of 16, got {self.img_size}")
        return self

    @property
    def stride(self) -> tuple[int, ...]:
        """16 on every axis: the side of a token."""
        return (16,) * self.dims

    def for_patch(self, size: Sequence[int]) -> Self:
        """Made for the patch's size, or the next multiple of 16."""
        sides = tuple(math.ceil(n / 16) * 16 for n in size)
        return self.model_copy(update={"img_size": sides})


class DeepLabV3Config(NetworkBase):
    """DeepLabV3: a ResNet with widened convolutions and pooling at several scales (Chen et al. 2017)."""

    kind: Literal["deeplabv3"] = "deeplabv3"
    backbone: Literal["resnet18", "resnet34", "resnet50"] = Field(
        "resnet34", title="Backbone", description="Depth of the encoder."
    )
    output_stride: Literal[8, 16] = Field(
        8,
        title="Output stride",
        description="Factor between the image and the finest map that classes are read from; 8 keeps more detail.",
    )
    rates: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (2, 4, 8),
        min_length=1,
        title="Rates",
        description="Widening of the parallel convolutions; 6, 12, 18 in the paper, for images of 513 pixels.",
        json_schema_extra=OFF_SCREEN,
    )
    width: int = Field(
        64,
        ge=4,
        title="Width",
        description="Channels of the first level; 64 is the usual ResNet.",
        json_schema_extra=ADVANCED,
    )
    norm: Norm = Field("batch", title="Normalisation", description=_NORM_TEXT, json_schema_extra=ADVANCED)

    @property
    def stride(self) -> tuple[int, ...]:
        """The output stride, on every axis."""
        return (self.output_stride,) * self.dims

    @property
    def smallest(self) -> tuple[int, ...]:
        """32 pixels: less than four by four places at the lowest level leaves the parallel convolutions nothing to see."""
        return (self.output_stride,) * (self.dims - 2) + (32, 32)


class RecurrentUNetConfig(NetworkBase):
    """2-D U-Net whose lowest level remembers the neighbouring slices (bidirectional ConvLSTM, as in CR-GAN)."""

    kind: Literal["recurrent_unet"] = "recurrent_unet"
    features: Widths = (24, 48, 96, 192)
    norm: Norm = Field("group", title="Normalisation", description=_NORM_TEXT, json_schema_extra=ADVANCED)

    @property
    def stride(self) -> tuple[int, ...]:
        """A factor of 2 between levels within a slice, 1 across slices."""
        side = 2 ** (len(self.features) - 1)
        return (1,) * (self.dims - 2) + (side, side)

    @property
    def in_sequence(self) -> bool:
        """Always: it remembers the slice before."""
        return True


def _network_named(value: Any) -> Any:
    if isinstance(value, dict) and "kind" not in value:  # `network: {dims: 3}` means the default network
        value = {"kind": "unet"} | value
    return expanded(value, "network")


NetworkConfig = Annotated[
    UNetConfig | ResNet34UNetConfig | VNetConfig | UNETRConfig | DeepLabV3Config | RecurrentUNetConfig,
    Field(discriminator="kind"),
    BeforeValidator(_network_named),
]


def parse_network(config: Config | dict[str, Any] | str) -> NetworkBase:
    """Validate a network given as configuration, plain values, or bare name.

    Raises
    ------
    pydantic.ValidationError
        If the kind is unknown or a parameter is out of range.
    """
    checked: NetworkBase = TypeAdapter[NetworkBase](NetworkConfig).validate_python(config)
    return checked


def network_kinds() -> tuple[str, ...]:
    """Names of all networks."""
    members = get_args(get_args(NetworkConfig)[0])
    return tuple(str(cls.model_fields["kind"].default) for cls in members)
