"""Networks that return full-size logits, or a tuple of them under deep supervision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_ctxseg.config import Config, UNetConfig, parse_network
from napari_ctxseg.networks.discriminators import DISCRIMINATORS, make_discriminator
from napari_ctxseg.networks.noise import WithNoise
from napari_ctxseg.networks.precision import make_safe
from napari_ctxseg.networks.unet import build_unet

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

#: Configuration class -> builder.
NETWORKS: dict[type[Config], Callable[[Any], nn.Module]] = {UNetConfig: build_unet}


def make_network(config: Config | dict[str, Any] | str, noise: float = 0.0) -> nn.Module:
    """Build a network, safe for mixed precision.

    Parameters
    ----------
    config : configuration, dict or str
        ``{"kind": "unet", "dims": 2, "in_channels": 1, "out_channels": 3}`` or the matching configuration object.
    noise : float
        Deviation of a channel of noise that the network is given beside the image; 0: none.

    Returns
    -------
    nn.Module
        Maps ``(B, in_channels, *S)`` to logits ``(B, out_channels, *S)`` for every size of `S`.

    Raises
    ------
    pydantic.ValidationError
        If the kind is unknown or a parameter is out of range.
    """
    checked = parse_network(config)
    if noise == 0:
        return make_safe(NETWORKS[type(checked)](checked))
    more = checked.model_copy(update={"in_channels": (checked.in_channels or 0) + 1})
    return WithNoise(make_safe(NETWORKS[type(checked)](more)), noise)


__all__ = ["DISCRIMINATORS", "NETWORKS", "make_discriminator", "make_network"]
