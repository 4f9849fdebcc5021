"""ResNet encoders from MONAI's blocks that give the maps of all their levels; named like torchvision's."""

from __future__ import annotations

from monai.networks.nets.resnet import ResNet
from torch import Tensor, nn

#: Name -> block and number of blocks per level (He et al. 2016).
DEPTHS = {
    "resnet18": ("basic", [2, 2, 2, 2]),
    "resnet34": ("basic", [3, 4, 6, 3]),
    "resnet50": ("bottleneck", [3, 4, 6, 3]),
}
#: Channels that leave a block, relative to its width.
EXPANSION = {"basic": 1, "bottleneck": 4}


class ResNetEncoder(ResNet):
    """A ResNet without its classifier; batch normalisation, in 2-D or 3-D.

    MONAI's own ``resnet34`` has parameter-free shortcuts that pass no gradient; these have the convolutions of torchvision.

    Parameters
    ----------
    name : {"resnet18", "resnet34", "resnet50"}
    dims, in_channels : int
    width : int
        Channels of the first level, 64 in the paper.

    Attributes
    ----------
    channels : tuple of int
        Of the maps at 1/4, 1/8, 1/16 and 1/32.
    """

    def __init__(self, name: str, dims: int, in_channels: int, width: int = 64) -> None:
        block, depths = DEPTHS[name]
        super().__init__(
            block=block,
            layers=depths,
            block_inplanes=[width * 2**level for level in range(4)],
            spatial_dims=dims,
            n_input_channels=in_channels,
            conv1_t_stride=2,
            shortcut_type="B",
            bias_downsample=False,
            feed_forward=False,
        )
        del self.avgpool
        self.channels = tuple(width * 2**level * EXPANSION[block] for level in range(4))

    def forward(self, x: Tensor) -> list[Tensor]:  # type: ignore[override]  # all levels, not a vector
        """Maps at 1/4, 1/8, 1/16 and 1/32 of an image whose sides are multiples of 32."""
        x = self.maxpool(self.act(self.bn1(self.conv1(x))))
        maps = []
        for level in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = level(x)
            maps.append(x)
        return maps


def dilate(level: nn.Module, rate: int) -> None:
    """Take the stride out of a level and widen its 3-wide convolutions instead, in place."""
    for module in level.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            axes = len(module.kernel_size)
            module.stride = (1,) * axes
            if module.kernel_size[0] > 1:
                module.dilation = module.padding = (rate,) * axes
