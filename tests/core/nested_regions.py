"""Nested balls as overlapping regions: made cases and small runs of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg.cases import Case
from napari_ctxseg.config import parse_config
from napari_ctxseg.image import image_from_array
from napari_ctxseg.training.plan import make_plan, resolve_device

if TYPE_CHECKING:
    from napari_ctxseg.config import RunConfig
    from napari_ctxseg.training.plan import Plan

REGIONS = {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}
SMALL = {"kind": "unet", "features": (4, 8, 8)}


def nested(name: str, shape: tuple[int, ...] = (36, 40), seed: int = 0, group: str = "") -> Case:
    """Three balls one in the other, each brighter than the one around it: values 2, 1 and 4."""
    rng = np.random.default_rng(seed)
    centre = [rng.uniform(0.4 * n, 0.6 * n) for n in shape]
    distance = np.sqrt(sum((g - c) ** 2 for g, c in zip(np.indices(shape), centre, strict=True)))
    labels = np.zeros(shape, np.uint8)
    for value, share in ((2, 0.38), (1, 0.28), (4, 0.17)):
        labels[distance <= share * min(shape)] = value
    brightness = np.array([0, 80, 40, 0, 130])[labels]
    image = (rng.normal(100, 8, shape) + brightness).astype(np.float32)
    return Case(name, image_from_array(image, "zyx"[-len(shape) :]), labels, group or name)


def build(dims: int = 2, data: dict[str, Any] | None = None, **sections: Any) -> RunConfig:
    values: dict[str, Any] = {
        "data": {"regions": REGIONS, **(data or {})},
        "network": SMALL | {"dims": dims},
        "loss": "dice_ce",
        "patch": {"size": (32,) * dims if dims == 2 else (16,) * 3, "batch": 2},
        "budget": {"steps": 4, "val_every": 4},
        "device": {"accelerator": "cpu", "precision": "32-true", "threads": 1},
    }
    return parse_config({**values, **sections})


def plan_of(config: RunConfig, cases: list[Case]) -> Plan:
    return make_plan(config.updated(device=resolve_device(config.device)), cases)


def wanted(labels: Any) -> np.ndarray:
    """Masks of the regions, by hand."""
    return np.stack([np.isin(labels, values) for values in REGIONS.values()])
