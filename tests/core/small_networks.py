"""Every network in a size that tests can afford."""

from __future__ import annotations

from typing import Any

from napari_ctxseg.config import NetworkBase, parse_network, presets_of

SMALL: dict[str, dict[str, Any]] = {
    "unet": {"features": (4, 8, 8, 16)},
    "resnet34_unet": {"width": 4},
    "vnet": {"width": 4},
    "unetr": {"hidden_size": 24, "heads": 2, "width": 4},
    "deeplabv3": {"backbone": "resnet18", "width": 4},
    "recurrent_unet": {"features": (4, 8, 8)},
}
#: Presets whose own sizes are kept apart from their widths.
WIDTHS: dict[tuple[str, str], dict[str, Any]] = {
    ("unet", "context"): {"features": (4, 4, 8, 8, 8)},
    ("unet", "context_gan"): {"features": (4, 4, 8, 8, 8)},
    ("unet", "contour"): {"features": (4, 4, 8, 8, 8)},
    ("resnet34_unet", "paper"): {"width": 4, "weights": None},
    ("deeplabv3", "paper"): {"width": 4},
    ("recurrent_unet", "released"): {"features": (4, 4, 8, 8, 8)},
}


def small(kind: str, dims: int, preset: str | None = None, **fields: Any) -> NetworkBase:
    """A narrow form of a network, for patches of its smallest size."""
    values = {"kind": kind, "dims": dims, "in_channels": 1, "out_channels": 2} | SMALL[kind]
    if preset is not None:
        assert preset in presets_of(kind)
        values |= {"preset": preset} | WIDTHS.get((kind, preset), {})
    config = parse_network(values | fields)
    return config.for_patch(config.smallest)
