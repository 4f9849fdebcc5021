"""UNETR from MONAI, for images of any size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monai.networks.nets.unetr import UNETR
from torch import nn

from napari_ctxseg.networks.parts import channels_of
from napari_ctxseg.networks.sizes import OneSize

if TYPE_CHECKING:
    from napari_ctxseg.config import UNETRConfig


def build_unetr(config: UNETRConfig) -> nn.Module:
    """UNETR (Hatamizadeh et al. 2022, arXiv 2103.10504) for one size of image; others are padded or cut in pieces.

    Raises
    ------
    ValueError
        If the channels or the size are not set.
    """
    in_channels, out_channels = channels_of(config)
    if config.img_size is None:
        raise ValueError("img_size, the size of the patch, must be set before a UNETR is built")
    network = UNETR(
        in_channels=in_channels,
        out_channels=out_channels,
        img_size=config.img_size,
        feature_size=config.width,
        hidden_size=config.hidden_size,
        mlp_dim=4 * config.hidden_size,
        num_heads=config.heads,
        spatial_dims=config.dims,
    )
    for block in network.vit.blocks:
        # MONAI makes it for attention to another image, which there is none of: weights that would never learn.
        block.norm_cross_attn = nn.Identity()
    return OneSize(network, config.img_size)
