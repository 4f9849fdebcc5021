"""Networks that return full-size logits, or a tuple of them under deep supervision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_ctxseg.config import (
    Config,
    DeepLabV3Config,
    RecurrentUNetConfig,
    ResNet34UNetConfig,
    UNetConfig,
    UNETRConfig,
    VNetConfig,
    parse_network,
)
from napari_ctxseg.networks.deeplabv3 import build_deeplabv3
from napari_ctxseg.networks.discriminators import DISCRIMINATORS, make_discriminator
from napari_ctxseg.networks.noise import WithNoise
from napari_ctxseg.networks.patients import patients_of
from napari_ctxseg.networks.precision import make_safe
from napari_ctxseg.networks.recurrent_unet import build_recurrent_unet
from napari_ctxseg.networks.resnet34_unet import build_resnet34_unet
from napari_ctxseg.networks.unet import build_unet
from napari_ctxseg.networks.unetr import build_unetr
from napari_ctxseg.networks.vnet import build_vnet

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

#: Configuration class -> builder.
NETWORKS: dict[type[Config], Callable[[Any], nn.Module]] = {
    UNetConfig: build_unet,
    ResNet34UNetConfig: build_resnet34_unet,
    VNetConfig: build_vnet,
    UNETRConfig: build_unetr,
    DeepLabV3Config: build_deeplabv3,
    RecurrentUNetConfig: build_recurrent_unet,
}


def make_network(
    config: Config | dict[str, Any] | str, noise: float = 0.0, *, pretrained: bool = True
) -> nn.Module:
    """Build a network, safe for mixed precision.

    Parameters
    ----------
    config : configuration, dict or str
        ``{"kind": "unet", "dims": 2, "in_channels": 1, "out_channels": 3}`` or the matching configuration object.
    noise : float
        Deviation of a channel of noise that the network is given beside the image; 0: none.
    pretrained : bool
        Whether to read the file that a configuration with `weights` names. Not wanted where a run's own weights follow.

    Returns
    -------
    nn.Module
        Maps ``(B, in_channels, *S)`` to logits ``(B, out_channels, *S)`` for every size of `S`; in training, those with
        several heads return a tuple of such logits.

    Raises
    ------
    pydantic.ValidationError
        If the kind is unknown or a parameter is out of range.
    ValueError
        If the numbers of channels or classes, or a UNETR's image size, are not set.
    CheckpointError
        If the file with first weights is missing or holds something else.
    """
    checked = parse_network(config)
    if not pretrained and getattr(checked, "weights", None):
        checked = checked.model_copy(update={"weights": None})
    if noise == 0:
        return make_safe(NETWORKS[type(checked)](checked))
    more = checked.model_copy(update={"in_channels": (checked.in_channels or 0) + 1})
    return WithNoise(make_safe(NETWORKS[type(checked)](more)), noise)


__all__ = ["DISCRIMINATORS", "NETWORKS", "make_discriminator", "make_network", "patients_of"]
