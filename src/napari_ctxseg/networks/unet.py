"""U-Nets from MONAI's blocks: with residual units, and the plain ones of the papers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from monai.networks.blocks.convolutions import Convolution
from monai.networks.layers.factories import Conv, Pool
from monai.networks.nets.unet import UNet
from torch import Tensor, nn

from napari_ctxseg.networks.parts import ACTIVATIONS, channels_of, two_convs, with_norm
from napari_ctxseg.networks.sizes import AnySize, Heads, enlarged

if TYPE_CHECKING:
    from napari_ctxseg.config import UNetConfig

#: The lowest levels have no head of their own under deep supervision: they are too coarse for small structures.
WITHOUT_HEAD = 2


def build_unet(config: UNetConfig) -> nn.Module:
    """U-Net (Ronneberger et al. 2015), of residual units or plain.

    Raises
    ------
    ValueError
        If the channels are not set.
    """
    network = _residual(config) if config.block == "residual" else PlainUNet(config)
    if config.init != "default":
        initialise(network, config.init)
    return AnySize(network, config.stride, config.smallest)


def _residual(config: UNetConfig) -> nn.Module:
    """MONAI's ``UNet`` with two-convolution residual units.

    Every level halves the image, the first one too: on a CPU a step costs a third of a U-Net whose first level works at
    full size, and learns more in the same time (benchmarks/results/defaults.md).
    """
    in_channels, out_channels = channels_of(config)
    # MONAI's instance normalisation has no scale and shift; earlier runs were made with it.
    named = {"none": None, "instance": "instance"}.get(config.norm, "batch")
    network = UNet(
        spatial_dims=config.dims,
        in_channels=in_channels,
        out_channels=out_channels,
        channels=config.widths,
        strides=config.steps,
        num_res_units=2,
        act=ACTIVATIONS[config.act],
        norm=named,  # type: ignore[arg-type]
    )
    # MONAI normalises the class maps themselves before the last convolution. Over an image without the structure that
    # blows noise up to the size of a signal, so the normalisation and activation there are taken out.
    *_, last = (module for module in network.modules() if hasattr(module, "adn") and _upsamples(module))
    last.adn = nn.Identity()
    return with_norm(network, config.norm, config.dims) if named == "batch" else network


def _upsamples(module: nn.Module) -> bool:
    return isinstance(getattr(module, "conv", None), nn.ConvTranspose2d | nn.ConvTranspose3d)


class PlainUNet(nn.Module):
    """Two convolutions a level from full size on, bridges, a 1-wide convolution at the end.

    Parameters
    ----------
    config : UNetConfig
        With channels and classes.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        in_channels, out_channels = channels_of(config)
        widths, steps, dims = config.widths, config.steps, config.dims
        pool, conv = Pool[Pool.MAX, dims], Conv[Conv.CONV, dims]

        def block(before: int, width: int, stride: int = 1) -> nn.Module:
            return two_convs(dims, before, width, act=config.act, norm=config.norm, stride=stride)

        self.encoder = nn.ModuleList([block(in_channels, widths[0])])
        for above, width, step in zip(widths, widths[1:], steps, strict=False):
            if config.down == "conv":
                self.encoder.append(block(above, width, step))
            else:
                self.encoder.append(nn.Sequential(pool(step), block(above, width)))
        self.ups, self.decoder = nn.ModuleList(), nn.ModuleList()
        for level in reversed(range(len(steps))):
            up, made = _up(config, widths[level + 1], widths[level], steps[level])
            self.ups.append(up)
            self.decoder.append(block(made + widths[level], widths[level]))
        # From the lowest level that has one up to full size.
        levels = len(steps)
        first = min(WITHOUT_HEAD - 1, levels - 1) if config.deep_supervision else levels - 1
        self.first_head = first
        self.heads = nn.ModuleList(
            conv(widths[levels - 1 - place], out_channels, kernel_size=1) for place in range(first, levels)
        )

    def forward(self, x: Tensor) -> Heads:
        """Logits, ``(B, C, *S)`` -> ``(B, K, *S)``; in training under deep supervision a tuple of them, finest first."""
        shape = x.shape[2:]
        kept = []
        for level in self.encoder:
            x = level(x)
            kept.append(x)
        kept.pop()
        several = self.training and len(self.heads) > 1
        found: list[Tensor] = []
        for place, (up, level) in enumerate(zip(self.ups, self.decoder, strict=True)):
            x = level(torch.cat([kept.pop(), up(x)], dim=1))
            last = place == len(self.ups) - 1
            if place >= self.first_head and (several or last):
                logits = self.heads[place - self.first_head](x)
                found.append(logits if last else enlarged(logits, shape))
        return tuple(reversed(found)) if several else found[0]


def _up(config: UNetConfig, channels: int, width: int, step: int) -> tuple[nn.Module, int]:
    """Layer that enlarges a map, and the channels it makes."""
    if config.up == "nearest":
        return nn.Upsample(scale_factor=step, mode="nearest"), channels
    normed = config.up == "transposed_norm"
    layer = Convolution(
        config.dims,
        channels,
        width,
        strides=step,
        kernel_size=step,
        padding=0,
        output_padding=0,
        is_transposed=True,
        act=ACTIVATIONS[config.act] if normed else None,
        norm="batch" if normed else None,
        conv_only=not normed,
    )
    return with_norm(layer, config.norm, config.dims), width


def initialise(network: nn.Module, name: str) -> None:
    """Draw the weights of all convolutions anew, in place; biases become 0.

    Parameters
    ----------
    network : nn.Module
    name : {"xavier", "kaiming"}
        Uniform with gain sqrt(2) (Glorot and Bengio 2010), or normal for leaky ReLU (He et al. 2015).
    """
    kinds = nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d
    for module in network.modules():
        if not isinstance(module, kinds):
            continue
        if name == "xavier":
            nn.init.xavier_uniform_(module.weight, gain=math.sqrt(2))
        else:
            nn.init.kaiming_normal_(module.weight, a=0.01)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
