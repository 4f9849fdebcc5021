"""V-Net from MONAI's transitions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monai.networks.blocks.convolutions import Convolution
from monai.networks.layers.factories import Conv
from monai.networks.nets.vnet import DownTransition, UpTransition
from torch import Tensor, nn

from napari_ctxseg.networks.parts import channels_of, with_norm
from napari_ctxseg.networks.sizes import AnySize

if TYPE_CHECKING:
    from napari_ctxseg.config import VNetConfig

#: Convolutions of the levels below the first one, on the way down and on the way up.
DOWN, UP = (1, 2, 3, 2), (2, 2, 1, 1)
#: Not in place: what an activation overwrites cannot be looked at any more.
ACT = ("elu", {"inplace": False})


class InputLevel(nn.Module):
    """5-wide convolution, with the image itself added to its maps.

    MONAI's repeats the image and so refuses, for 16 maps, images of 3 channels; here the last repetition may be cut off.
    """

    def __init__(self, dims: int, in_channels: int, width: int) -> None:
        super().__init__()
        self.times, self.width = -(-width // in_channels), width
        self.conv = Convolution(dims, in_channels, width, kernel_size=5, act=None, norm="batch", bias=False)
        self.act = nn.ELU()

    def forward(self, x: Tensor) -> Tensor:
        """Maps of full size, ``(B, C, *S)`` -> ``(B, width, *S)``."""
        repeated = x.repeat(1, self.times, *[1] * (x.ndim - 2))[:, : self.width]
        y: Tensor = self.act(self.conv(x) + repeated)
        return y


class VNet(nn.Module):
    """Four levels below full size, on each a residual unit of 5-wide convolutions (Milletari et al. 2016).

    The class maps come from a 1-wide convolution, as printed; MONAI's normalises them before that.
    """

    def __init__(self, config: VNetConfig) -> None:
        super().__init__()
        in_channels, out_channels = channels_of(config)
        dims, width, drop = config.dims, config.width, config.dropout
        self.first = InputLevel(dims, in_channels, width)
        self.down = nn.ModuleList(
            DownTransition(
                dims, width * 2**level, count, ACT, dropout_prob=drop if level > 1 else None, dropout_dim=dims
            )
            for level, count in enumerate(DOWN)
        )
        made = (16, 16, 8, 4, 2)
        self.up = nn.ModuleList(
            UpTransition(
                dims,
                width * made[place],
                width * made[place + 1],
                count,
                ACT,
                dropout_prob=(drop if place < 2 else None, drop),
                dropout_dim=dims,
            )
            for place, count in enumerate(UP)
        )
        self.last = Conv[Conv.CONV, dims](width * made[-1], out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, ``(B, C, *S)`` -> ``(B, K, *S)``."""
        kept = [self.first(x)]
        for level in self.down:
            kept.append(level(kept[-1]))
        y = kept.pop()
        for level in self.up:
            y = level(y, kept.pop())
        logits: Tensor = self.last(y)
        return logits


def build_vnet(config: VNetConfig) -> nn.Module:
    """V-Net (Milletari et al. 2016, arXiv 1606.04797) in 2-D or 3-D.

    Raises
    ------
    ValueError
        If the channels are not set.
    """
    network = with_norm(VNet(config), config.norm, config.dims)
    return AnySize(network, config.stride, config.smallest)
