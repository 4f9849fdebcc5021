"""U-Net from MONAI's blocks, for images of any size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monai.networks.nets.unet import UNet
from torch import Tensor, nn
from torch.nn import functional

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
        for axis, n in enumerate(shape):
            y = y.narrow(axis + 2, 0, n)
        return y


def build_unet(config: UNetConfig) -> nn.Module:
    """U-Net with two-convolution residual units, instance normalisation and PReLU (MONAI's ``UNet``).

    Every level halves the image, the first one too: on a CPU a step costs a third of a U-Net whose first level works at
    full size, and learns more in the same time (benchmarks/results/defaults.md).

    Raises
    ------
    ValueError
        If the channels or widths are not set.
    """
    if config.in_channels is None or config.out_channels is None or config.features is None:
        raise ValueError("in_channels, out_channels and features must be set before the network is built")
    levels = len(config.features)
    network = UNet(
        spatial_dims=config.dims,
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        channels=config.features,
        strides=(2,) * (levels - 1),
        num_res_units=2,
    )
    # MONAI normalises the class maps themselves before the last convolution. Over an image without the structure that
    # blows noise up to the size of a signal, so the normalisation and activation there are taken out.
    *_, last = (module for module in network.modules() if hasattr(module, "adn") and _upsamples(module))
    last.adn = nn.Identity()
    return AnySize(network, 2 ** (levels - 1))


def _upsamples(module: nn.Module) -> bool:
    return isinstance(getattr(module, "conv", None), nn.ConvTranspose2d | nn.ConvTranspose3d)
