"""U-Net from MONAI's blocks, for images of any size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monai.networks.nets import BasicUNet, DynUNet, UNet
from torch import Tensor, nn
from torch.nn import functional
import os

if TYPE_CHECKING:
    from napari_ctxseg.config import UNetConfig


class AnySize(nn.Module):
    """Pads its input at the far end to a multiple of the network's stride, and crops the output back."""

    def __init__(self, network: nn.Module, stride: int) -> None:
        super().__init__()
        self.network, self.stride = network, stride

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the input's own size."""
        shape = x.shape[2:]
        missing = [-n % self.stride for n in shape]
        if any(missing):
            x = functional.pad(x, [m for n in reversed(missing) for m in (0, n)], mode="replicate")
        y: Tensor = self.network(x)
        return y[(..., *(slice(n) for n in shape))] if any(missing) else y


def build_unet(config: UNetConfig) -> nn.Module:
    """U-Net with residual units, instance normalisation and PReLU.

    Raises
    ------
    ValueError
        If the numbers of channels are not set.
    """
    if config.in_channels is None or config.out_channels is None:
        raise ValueError("in_channels and out_channels must be set before the network is built")
    arch = os.environ.get("ARCH", "res2")
    f = config.features
    if arch == "basic":
        return BasicUNet(config.dims, config.in_channels, config.out_channels, features=(*f, f[0]))
    if arch == "dyn":
        k = [3] * len(f); st = [1] + [2] * (len(f) - 1)
        return AnySize(DynUNet(config.dims, config.in_channels, config.out_channels, k, st, st[1:], filters=list(f)), 2 ** (len(f) - 1))
    network = UNet(
        spatial_dims=config.dims,
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        channels=config.features,
        strides=(2,) * (len(config.features) - 1),
        num_res_units=2,
    )
    return AnySize(network, 2 ** (len(config.features) - 1))
