"""What several networks are put together from: normalisation by name, blocks of two convolutions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from monai.networks.blocks.convolutions import Convolution
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from napari_ctxseg.networks.patients import PatientBatchNorm

if TYPE_CHECKING:
    from napari_ctxseg.config import NetworkBase

#: Names of our configurations -> MONAI's activations.
ACTIVATIONS: dict[str, Any] = {
    "prelu": "prelu",
    "relu": "relu",
    "leaky_relu": ("leakyrelu", {"negative_slope": 0.01}),
}


def channels_of(config: NetworkBase) -> tuple[int, int]:
    """Input channels and classes.

    Raises
    ------
    ValueError
        If they are not set: the plan, or the caller, must do that before a network is built.
    """
    if config.in_channels is None or config.out_channels is None:
        raise ValueError("in_channels and out_channels must be set before the network is built")
    return config.in_channels, config.out_channels


def norm_layer(name: str, channels: int, dims: int) -> nn.Module:
    """Normalisation by our name; all but ``none`` have a scale and a shift per channel.

    Raises
    ------
    ValueError
        If there is no such normalisation.
    """
    if name == "none":
        return nn.Identity()
    if name == "batch":
        return (nn.BatchNorm2d if dims == 2 else nn.BatchNorm3d)(channels)
    if name == "instance":
        return (nn.InstanceNorm2d if dims == 2 else nn.InstanceNorm3d)(channels, affine=True)
    if name == "group":
        return nn.GroupNorm(math.gcd(8, channels), channels)
    if name == "patient":
        return PatientBatchNorm(channels, dims)
    raise ValueError(f"there is no normalisation {name!r}")


def with_norm(network: nn.Module, name: str, dims: int) -> nn.Module:
    """Replace a network's batch normalisations by others, in place, scale and shift taken over; returns the network.

    MONAI's blocks know no patient-wise normalisation, and some know only batch normalisation: all are built with that.
    """
    if name == "batch":
        return network
    for parent in list(network.modules()):
        for child_name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm):
                other = norm_layer(name, child.num_features, dims)
                own = other.state_dict()
                other.load_state_dict(own | {k: v for k, v in child.state_dict().items() if k in own})
                setattr(parent, child_name, other)
    return network


def two_convs(
    dims: int, channels: int, width: int, *, act: str = "relu", norm: str = "batch", stride: int = 1
) -> nn.Sequential:
    """Two 3-wide convolutions, each with normalisation and activation; the first one may have a stride."""

    def conv(before: int, step: int) -> nn.Module:
        layer: nn.Module = Convolution(
            dims,
            before,
            width,
            strides=step,
            kernel_size=3,
            act=ACTIVATIONS[act],
            norm="batch",
        )
        return with_norm(layer, norm, dims)

    return nn.Sequential(conv(channels, stride), conv(width, 1))
