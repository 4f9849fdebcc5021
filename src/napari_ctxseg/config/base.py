"""What all configurations share. No torch here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue

Unit = Literal["world", "px", "fraction"]
LengthUnit = Annotated[
    Unit,
    Field(
        title="Unit",
        description="px: voxels of the finest in-plane axis; world: the unit of the spacing; "
        "fraction: of the shorter in-plane side.",
    ),
]
#: ``json_schema_extra`` of fields that are rarely changed: a form keeps them behind "More".
ADVANCED: dict[str, JsonValue] = {"advanced": True}
#: ``json_schema_extra`` of fields that the data decide or that have no editor: only files and the command line set them.
OFF_SCREEN: dict[str, JsonValue] = {"off_screen": True}
Reduction = Annotated[
    Literal["macro", "micro"],
    Field(
        title="Average over",
        description="macro: Dice per class and image, then the mean over those present. micro: one Dice of all "
        "classes and images pooled, as released; large structures rule it.",
        json_schema_extra=ADVANCED,
    ),
]
Smoothing = Annotated[
    float,
    Field(
        gt=0,
        title="Smoothing",
        description="Added above and below the fraction; far below one pixel.",
        json_schema_extra=ADVANCED,
    ),
]


class Config(BaseModel):
    """Base of all configurations: frozen, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


def named(value: Any) -> Any:
    """A bare name stands for its defaults."""
    return {"kind": value} if isinstance(value, str) else value


def to_yaml(config: Config) -> str:
    """Configuration as YAML text, to be read back equal."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
