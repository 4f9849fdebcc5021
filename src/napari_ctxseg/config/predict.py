"""How a prediction is made, beside where. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from napari_ctxseg.config.base import Config

Uncertainty = Literal["none", "entropy", "tta", "ensemble"]


class PredictConfig(Config):
    """What a prediction gives besides labels. None of it changes the labels."""

    uncertainty: Uncertainty = Field(
        "none",
        title="Uncertainty",
        description="entropy: how undecided the network is, at no cost. tta: how much its answer changes when the image is "
        "mirrored; takes as many passes. ensemble: how much several runs disagree.",
    )
    passes: int = Field(
        4,
        ge=2,
        le=4,
        title="Passes",
        description="With tta: as it is, mirrored left to right, top to bottom, and both.",
    )
    runs: tuple[str, ...] = Field(
        (), title="Other runs", description="With ensemble: runs of the same classes to ask beside the first."
    )

    @model_validator(mode="after")
    def _consistent(self) -> PredictConfig:
        if self.uncertainty == "ensemble" and not self.runs:
            raise ValueError("an ensemble needs other `runs` beside the first")
        return self
