"""What all configurations share. No torch here."""

from __future__ import annotations

from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict

Unit = Literal["world", "px", "fraction"]


class Config(BaseModel):
    """Base of all configurations: frozen, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def named(value: Any) -> Any:
    """A bare name stands for its defaults."""
    return {"kind": value} if isinstance(value, str) else value


def to_yaml(config: Config) -> str:
    """Configuration as YAML text, to be read back equal."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
