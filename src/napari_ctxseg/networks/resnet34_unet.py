"""The network of the dilated CE paper: a U-Net decoder on a ResNet-34, with three heads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from monai.networks.layers.factories import Conv
from torch import nn

from napari_ctxseg.networks.parts import channels_of, two_convs, with_norm
from napari_ctxseg.networks.pretrained import load_encoder
from napari_ctxseg.networks.resnet import ResNetEncoder
from napari_ctxseg.networks.sizes import AnySize, Heads, enlarged

if TYPE_CHECKING:
    from torch import Tensor

    from napari_ctxseg.config import ResNet34UNetConfig


class ResNet34UNet(nn.Module):
    """Decoder from 1/32 up to 1/4; a head at each of 1/16, 1/8 and 1/4 whose logits are enlarged to full size.

    Parameters
    ----------
    config : ResNet34UNetConfig
        With channels and classes. Its `weights` are not looked at here.
    """

    def __init__(self, config: ResNet34UNetConfig) -> None:
        super().__init__()
        in_channels, out_channels = channels_of(config)
        self.encoder = ResNetEncoder("resnet34", config.dims, in_channels, config.width)
        conv = Conv[Conv.CONV, config.dims]
        self.decoder, self.heads = nn.ModuleList(), nn.ModuleList()
        *skips, below = self.encoder.channels
        for width in reversed(skips):
            self.decoder.append(two_convs(config.dims, below + width, width))
            self.heads.append(conv(width, out_channels, kernel_size=3, padding=1))
            below = width

    def forward(self, x: Tensor) -> Heads:
        """Logits, ``(B, C, *S)`` -> ``(B, K, *S)``; in training a tuple: those of 1/4, 1/8 and 1/16."""
        shape = x.shape[2:]
        *skips, y = self.encoder(x)
        found = []
        for place, (level, head) in enumerate(zip(self.decoder, self.heads, strict=True)):
            skip = skips.pop()
            y = level(torch.cat([skip, enlarged(y, skip.shape[2:])], dim=1))
            if self.training or place == len(self.heads) - 1:
                found.append(enlarged(head(y), shape))
        return tuple(reversed(found)) if self.training else found[0]


def build_resnet34_unet(config: ResNet34UNetConfig) -> nn.Module:
    """U-Net on ResNet-34, as the dilated CE paper describes it (arXiv 2412.06045).

    Raises
    ------
    ValueError
        If the channels are not set.
    CheckpointError
        If `weights` names something that is not a ResNet-34 of torchvision.
    """
    network = ResNet34UNet(config)
    if config.weights:
        load_encoder(network.encoder, config.weights)
    return AnySize(with_norm(network, config.norm, config.dims), config.stride, config.smallest)
