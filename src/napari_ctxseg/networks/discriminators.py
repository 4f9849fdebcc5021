"""Discriminators of Seg-GLGAN (arXiv 2001.02387) and CR-GAN (arXiv 1810.03871), in 2-D and 3-D."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from napari_ctxseg.config import RoiConfig, StaticRoi
from napari_ctxseg.config.discriminators import (
    AnyDiscriminator,
    ContextDiscriminatorConfig,
    DiscriminatorConfig,
    ImageDiscriminatorConfig,
    PatchDiscriminatorConfig,
    PixelDiscriminatorConfig,
    PlainDiscriminatorConfig,
    check_discriminator,
)
from napari_ctxseg.networks.conv_lstm import BiConvLSTM
from napari_ctxseg.networks.patients import PatientBatchNorm
from napari_ctxseg.networks.precision import make_safe
from napari_ctxseg.networks.regions import Regions, crops_of, pooled, regions_of, windows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_ctxseg.config import Config

SLOPE = 0.2


@dataclass(frozen=True)
class Inputs:
    """What a discriminator is built for: spatial axes, channels of mask and image, patch size, region."""

    dims: int
    mask: int
    image: int
    size: tuple[int, ...]
    roi: RoiConfig | None = None


class Discriminator(nn.Module):
    """Judges masks: a logit above 0 says drawn by a person.

    Attributes
    ----------
    conditional : bool
        Whether it needs the image beside the mask.
    """

    conditional = False

    def regions(
        self, target: Tensor, spacing: Sequence[float] | Sequence[Sequence[float]] | None = None
    ) -> Regions | None:
        """Regions to be given for the real and for the predicted mask; None where it needs none.

        Parameters
        ----------
        target : Tensor of int64, shape ``(B, *S)``
        spacing : sequence of float, or one such sequence per sample, optional
        """
        return None

    @abstractmethod
    def forward(self, mask: Tensor, image: Tensor | None = None, regions: Regions | None = None) -> Tensor:
        """Verdicts.

        Parameters
        ----------
        mask : Tensor, shape ``(B, C, *S)``
            Probabilities of the classes, or one-hot; 0 where unlabelled.
        image : Tensor, shape ``(B, M, *S)``
            For conditional discriminators.
        regions : Regions
            For ``context``: what `regions` returned for the target.

        Returns
        -------
        Tensor, shape ``(B, 1)`` or ``(B, 1, *T)``
            Logits: one per sample, or a map.

        Raises
        ------
        ValueError
            If image or regions are missing, or a shape does not fit.
        """


# ---------------------------------------------------------------- Seg-GLGAN


def _layers(dims: int, name: str) -> Any:
    return getattr(nn, f"{name}{dims}d")


def _convolutions(channels: int, dims: int, *, pools: bool) -> nn.Sequential:
    """9 -> 32, 5 -> 64, 5 -> 64 without padding, each with LeakyReLU and, with `pools`, an average pool of 2."""
    layers: list[nn.Module] = []
    for width, kernel in ((32, 9), (64, 5), (64, 5)):
        layers += [_layers(dims, "Conv")(channels, width, kernel), nn.LeakyReLU(SLOPE)]
        layers += [_layers(dims, "AvgPool")(2)] if pools else []
        channels = width
    return nn.Sequential(*layers)


def _left(length: int) -> int:
    """Side left by the pooled convolutions."""
    for kernel in (9, 5, 5):
        length = (length - kernel + 1) // 2
    return length


class PooledBranch(nn.Module):
    """Pooled convolutions and two dense layers: an image of one fixed size becomes a vector of 64."""

    def __init__(self, channels: int, size: tuple[int, ...]) -> None:
        super().__init__()
        self.size = size
        self.flattened = 64 * math.prod(_left(n) for n in size)
        self.convolutions = _convolutions(channels, len(size), pools=True)
        self.dense = nn.Sequential(
            nn.Flatten(),
            nn.Linear(self.flattened, 512),
            nn.LeakyReLU(SLOPE),
            nn.Linear(512, 64),
            nn.LeakyReLU(SLOPE),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Vector of 64 per sample."""
        if tuple(x.shape[2:]) != self.size:
            raise ValueError(f"built for {self.size}, got {tuple(x.shape[2:])}")
        y: Tensor = self.dense(self.convolutions(x))
        return y


class PlainDiscriminator(Discriminator):
    """One verdict on the whole mask (GAN rows of Murugesan et al. 2020)."""

    def __init__(self, config: PlainDiscriminatorConfig, inputs: Inputs) -> None:
        super().__init__()
        self.whole = PooledBranch(inputs.mask, inputs.size)
        self.verdict = nn.Linear(64, 1)

    def forward(self, mask: Tensor, image: Tensor | None = None, regions: Regions | None = None) -> Tensor:
        """Logits ``(B, 1)``; image and regions are not looked at."""
        y: Tensor = self.verdict(self.whole(mask))
        return y


class ContextDiscriminator(Discriminator):
    """One verdict from the whole mask and its region of interest (Seg-GLGAN, Murugesan et al. 2020, figure 1).

    Static region: the local branch is built like the global one. Dynamic and mask: its convolutions without pools, then
    the average over the region, so that regions of any size fit in a batch. Several regions of a sample are averaged.
    """

    def __init__(self, config: ContextDiscriminatorConfig, inputs: Inputs) -> None:
        super().__init__()
        assert inputs.roi is not None
        self._roi = inputs.roi
        self.whole = PooledBranch(inputs.mask, inputs.size)
        if isinstance(inputs.roi, StaticRoi):
            side = inputs.roi.size
            self.local: nn.Module = PooledBranch(inputs.mask, tuple(min(side, n) for n in inputs.size))
        else:
            self.local = _convolutions(inputs.mask, inputs.dims, pools=False)
        self.verdict = nn.Linear(128, 1)

    def regions(
        self, target: Tensor, spacing: Sequence[float] | Sequence[Sequence[float]] | None = None
    ) -> Regions:
        """Regions of the target; a window at the centre where it has no foreground."""
        return regions_of(target, self._roi, spacing)

    def forward(self, mask: Tensor, image: Tensor | None = None, regions: Regions | None = None) -> Tensor:
        """Logits ``(B, 1)``; the image is not looked at."""
        if regions is None:
            raise ValueError("the context discriminator needs the regions of the target")
        whole = self.whole(mask)
        if isinstance(self.local, PooledBranch):
            local = self.local(windows(mask, regions))
        else:
            crops = crops_of(mask, regions)
            local = pooled(self.local(crops.values), crops, len(mask)).to(whole.dtype)
        y: Tensor = self.verdict(torch.cat([whole, local], dim=1))
        return y


# ---------------------------------------------------------------- CR-GAN


class ConditionalDiscriminator(Discriminator):
    """Convolutions over image and mask, then optionally a recurrence over slices, then the verdict.

    In 2-D the slices of a patient are those that `patients_of` says, consecutive in the batch; in 3-D the recurrence runs
    along the first spatial axis.
    """

    conditional = True

    def __init__(self, features: nn.Module, recurrence: BiConvLSTM | None, verdict: nn.Module) -> None:
        super().__init__()
        self.features, self.recurrence, self.verdict = features, recurrence, verdict

    def forward(self, mask: Tensor, image: Tensor | None = None, regions: Regions | None = None) -> Tensor:
        """Logits: a map, or one per image for ``image``."""
        if image is None:
            raise ValueError("this discriminator needs the image beside the mask")
        x = self.features(torch.cat([image, mask], dim=1))
        if self.recurrence is not None:
            x = self.recurrence(x)
        y: Tensor = self.verdict(x)
        return y


def _block(
    inputs: Inputs, norm: str, channels: tuple[int, int], kernel: int, stride: int, padding: int
) -> list[nn.Module]:
    dims, width = inputs.dims, channels[1]
    layers: list[nn.Module] = [_layers(dims, "Conv")(*channels, kernel, stride=stride, padding=padding)]
    if norm == "group":
        layers.append(nn.GroupNorm(math.gcd(8, width), width))
    elif norm == "patient":
        layers.append(PatientBatchNorm(width, dims))
    return [*layers, nn.LeakyReLU(SLOPE)]


def build_pixel(config: PixelDiscriminatorConfig, inputs: Inputs) -> ConditionalDiscriminator:
    """Convolutions of one pixel, 64 and 128 wide (the pixel discriminator of Isola et al. 2017).

    Its recurrence has kernels of one pixel too: along the slices, still pixel by pixel.
    """
    w = config.width
    features = nn.Sequential(
        *_block(inputs, "none", (inputs.image + inputs.mask, w), 1, 1, 0),
        *_block(inputs, config.norm, (w, 2 * w), 1, 1, 0),
    )
    recurrence = BiConvLSTM(2 * w, max(1, w // 2), kernel=1) if config.recurrent else None
    width = recurrence.out_channels if recurrence else 2 * w
    return ConditionalDiscriminator(features, recurrence, _layers(inputs.dims, "Conv")(width, 1, 1))


def build_patch(config: PatchDiscriminatorConfig, inputs: Inputs) -> ConditionalDiscriminator:
    """PatchGAN with a field of 70 pixels: kernels of 4, strides 2, 2, 2, 1, 1 (Isola et al. 2017, appendix 6.1.2)."""
    w = config.width
    features = nn.Sequential(
        *_block(inputs, "none", (inputs.image + inputs.mask, w), 4, 2, 1),
        *_block(inputs, config.norm, (w, 2 * w), 4, 2, 1),
        *_block(inputs, config.norm, (2 * w, 4 * w), 4, 2, 1),
        *_block(inputs, config.norm, (4 * w, 8 * w), 4, 1, 1),
    )
    recurrence = BiConvLSTM(8 * w, w) if config.recurrent else None
    width = recurrence.out_channels if recurrence else 8 * w
    return ConditionalDiscriminator(
        features, recurrence, _layers(inputs.dims, "Conv")(width, 1, 4, padding=1)
    )


def build_image(config: ImageDiscriminatorConfig, inputs: Inputs) -> ConditionalDiscriminator:
    """Kernels of 6, 128, 256 and 512 wide with stride 2, 1024 with stride 1, then one dense logit (CR-GAN's code)."""
    w = config.width
    features = nn.Sequential(
        *_block(inputs, "none", (inputs.image + inputs.mask, w), 6, 2, 2),
        *_block(inputs, config.norm, (w, 2 * w), 6, 2, 2),
        *_block(inputs, config.norm, (2 * w, 4 * w), 6, 2, 2),
        *_block(inputs, config.norm, (4 * w, 8 * w), 6, 1, 2),
    )
    recurrence = BiConvLSTM(8 * w, max(1, 3 * w // 4)) if config.recurrent else None
    width = recurrence.out_channels if recurrence else 8 * w
    pixels = math.prod(n // 2 // 2 // 2 - 1 for n in inputs.size)
    return ConditionalDiscriminator(
        features, recurrence, nn.Sequential(nn.Flatten(), nn.Linear(width * pixels, 1))
    )


#: Configuration class -> builder.
DISCRIMINATORS: dict[type[Config], Callable[[Any, Inputs], Discriminator]] = {
    PlainDiscriminatorConfig: PlainDiscriminator,
    ContextDiscriminatorConfig: ContextDiscriminator,
    PixelDiscriminatorConfig: build_pixel,
    PatchDiscriminatorConfig: build_patch,
    ImageDiscriminatorConfig: build_image,
}


def make_discriminator(
    config: AnyDiscriminator | dict[str, Any] | str,
    dims: int,
    channels_mask: int,
    channels_image: int,
    size: Sequence[int],
    roi: RoiConfig | None = None,
) -> Discriminator:
    """Build a discriminator, safe for mixed precision.

    Parameters
    ----------
    config : configuration, dict or str
        ``"plain"``, ``{"kind": "pixel", "recurrent": True}`` or the matching configuration object.
    dims : {2, 3}
        Spatial axes.
    channels_mask : int
        Classes of the masks, background included.
    channels_image : int
        Channels of the image; used by the conditional ones.
    size : sequence of int
        Sides of a training patch: all batches have this size.
    roi : StaticRoi, DynamicRoi or MaskRoi
        For ``context``: what its local branch looks at.

    Raises
    ------
    pydantic.ValidationError
        If the kind is unknown or a parameter is out of range.
    InputError
        If the patch or the region is too small, or the region is missing.
    ValueError
        If `size` has not `dims` sides.
    """
    checked: Any = TypeAdapter(DiscriminatorConfig).validate_python(config)
    if len(size) != dims:
        raise ValueError(f"{dims} sides are needed, got {tuple(size)}")
    check_discriminator(checked, size, roi)
    inputs = Inputs(dims, channels_mask, channels_image, tuple(size), roi)
    network = DISCRIMINATORS[type(checked)](checked, inputs)
    make_safe(network)
    return network
