"""Small made cases that train in seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_ctxseg.cases import Case
from napari_ctxseg.config import RunConfig, parse_config
from napari_ctxseg.events import StepEnd
from napari_ctxseg.image import image_from_array

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from napari_ctxseg.events import Event


def blob_case(name: str, shape: tuple[int, ...] = (40, 44), seed: int = 0, value: int = 1) -> Case:
    """A bright ball in noise, and its mask."""
    rng = np.random.default_rng(seed)
    centre = [rng.uniform(0.35 * n, 0.65 * n) for n in shape]
    grid = np.indices(shape)
    distance = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True))
    mask = distance <= (min(shape) / 5) ** 2
    image = (rng.normal(100, 10, shape) + 60 * mask).astype(np.float32)
    axes = "zyx"[-len(shape) :]
    return Case(name, image_from_array(image, axes), (mask * value).astype(np.uint8), name)


@pytest.fixture
def blobs() -> list[Case]:
    return [blob_case(f"blob{i}", seed=i) for i in range(5)]


@pytest.fixture
def small_config() -> Callable[..., RunConfig]:
    """A run of a few steps of a tiny network."""

    def build(**sections: Any) -> RunConfig:
        values: dict[str, Any] = {
            "network": {"kind": "unet", "dims": 2, "features": (4, 8, 8)},
            "loss": "dice_ce",
            "patch": {"size": (32, 32), "batch": 2},
            "budget": {"steps": 6, "val_every": 3},
            "device": {"accelerator": "cpu", "precision": "32-true", "threads": 1},
        }
        return parse_config({**values, **sections})

    return build


def fit_until(count: int, config: RunConfig, cases: Sequence[Case], out: Path, **options: Any) -> list[Event]:
    """Train, and ask to stop once so many steps are done; gives the events."""
    from napari_ctxseg.training import fit

    events: list[Event] = []

    def enough() -> bool:
        return sum(isinstance(event, StepEnd) for event in events) >= count

    for event in fit(config, cases, out, stop=enough, **options):
        events.append(event)
    return events
