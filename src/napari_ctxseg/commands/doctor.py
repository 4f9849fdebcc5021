"""``ctxseg doctor``: what this machine offers."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from typing import Any

from napari_ctxseg import __version__
from napari_ctxseg.config import DeviceConfig


def doctor() -> dict[str, Any]:
    """Facts about this machine, most telling first."""
    from napari_ctxseg.training.plan import device_text, resolve_device, usable_cores

    device = resolve_device(DeviceConfig())
    packages = (
        "torch",
        "monai",
        "lightning-fabric",
        "napari",
        "npe2",
        "numpy",
        "nibabel",
        "tifffile",
        "SimpleITK",
    )
    return {
        "napari-ctxseg": __version__,
        "device": device_text(device),
        "precision": device.precision,
        "cores": usable_cores(),
        "display": has_display(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: _version(name) for name in packages},
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def has_display() -> bool:
    """Whether a window can be opened."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
