"""DeepLabV3 in 2-D and 3-D."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from monai.networks.blocks.convolutions import Convolution
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from napari_ctxseg.networks.parts import channels_of, with_norm
from napari_ctxseg.networks.resnet import ResNetEncoder, dilate
from napari_ctxseg.networks.sizes import AnySize, enlarged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ctxseg.config import DeepLabV3Config

#: Channels of the pooled maps, relative to the backbone's width: 256 of 64 in the paper.
POOLED = 4


class ScalePooling(nn.Module):
    """Parallel convolutions, 1-wide and 3-wide with several dilations, and the mean of the image, joined by a 1-wide one.

    The branch of the mean is not normalised: it has one value per image and channel, which has no variance of its own.
    """

    def __init__(self, dims: int, channels: int, width: int, rates: Sequence[int]) -> None:
        super().__init__()

        def conv(before: int, kernel: int, rate: int = 1) -> nn.Module:
            return Convolution(
                dims, before, width, kernel_size=kernel, dilation=rate, act="relu", norm="batch", bias=False
            )

        self.branches = nn.ModuleList([conv(channels, 1), *(conv(channels, 3, rate) for rate in rates)])
        self.mean = nn.Sequential(Conv[Conv.CONV, dims](channels, width, kernel_size=1), nn.ReLU())
        self.join = conv(width * (len(rates) + 2), 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps of the same size, ``(B, C, *S)`` -> ``(B, width, *S)``."""
        mean = self.mean(x.mean(dim=tuple(range(2, x.ndim)), keepdim=True))
        parts = [branch(x) for branch in self.branches]
        y: Tensor = self.join(torch.cat([*parts, mean.expand_as(parts[0])], dim=1))
        return y


class DeepLabV3(nn.Module):
    """ResNet whose last levels keep their size, `ScalePooling`, a 3-wide convolution, class maps enlarged to full size."""

    def __init__(self, config: DeepLabV3Config) -> None:
        super().__init__()
        in_channels, out_channels = channels_of(config)
        self.encoder = ResNetEncoder(config.backbone, config.dims, in_channels, config.width)
        if config.output_stride == 8:
            dilate(self.encoder.layer3, 2)
        dilate(self.encoder.layer4, 32 // config.output_stride)
        width = POOLED * config.width
        self.pooling = ScalePooling(config.dims, self.encoder.channels[-1], width, config.rates)
        self.head = nn.Sequential(
            Convolution(config.dims, width, width, kernel_size=3, act="relu", norm="batch", bias=False),
            Conv[Conv.CONV, config.dims](width, out_channels, kernel_size=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits, ``(B, C, *S)`` -> ``(B, K, *S)``."""
        return enlarged(self.head(self.pooling(self.encoder(x)[-1])), x.shape[2:])


def build_deeplabv3(config: DeepLabV3Config) -> nn.Module:
    """DeepLabV3 (Chen et al. 2017, arXiv 1706.05587), without its multi-grid, in 2-D or 3-D.

    Raises
    ------
    ValueError
        If the channels are not set.
    """
    network = with_norm(DeepLabV3(config), config.norm, config.dims)
    return AnySize(network, config.stride, config.smallest)
