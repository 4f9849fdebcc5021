"""Configurations of what a loss looks at: regions of interest and contours."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from napari_ctxseg.config.base import ADVANCED, Config, LengthUnit, named


class StaticRoi(Config):
    """Window of one size around the foreground's centroid, shifted inside the image (context CE, section 3.1)."""

    kind: Literal["static"] = "static"
    size: int = Field(
        64, ge=1, title="Side", description="Side of the window in pixels, the same for every image."
    )


class DynamicRoi(Config):
    """Tight box around the foreground of the image, with a margin (context CE, section 3.2)."""

    kind: Literal["dynamic"] = "dynamic"
    margin: int = Field(0, ge=0, title="Margin", description="Pixels added to the box on each side.")
    per: Literal["union", "class", "component"] = Field(
        "union",
        title="One box per",
        description="union: one box around all foreground; class: one per class; component: one per connected "
        "piece. Each box counts the same, so small pieces are not drowned by large ones.",
    )


class MaskRoi(Config):
    """All places within a radius of the foreground: fits vessels and other sparse structures, where a box fails."""

    kind: Literal["mask"] = "mask"
    radius: float = Field(
        10.0,
        ge=0,
        allow_inf_nan=True,
        title="Radius",
        description="How far the region reaches beyond the foreground.",
    )
    unit: LengthUnit = "world"


RoiConfig = Annotated[StaticRoi | DynamicRoi | MaskRoi, Field(discriminator="kind"), BeforeValidator(named)]


class ContourConfig(Config):
    """The band along the boundary of a structure (contour-weighted CE, section 2.4)."""

    iterations: int = Field(
        1,
        ge=0,
        title="Thickness",
        description="Erosions by a 3-wide box: thickness of the band in voxels on each side of the boundary.",
    )
    side: Literal["inner", "outer", "both"] = Field(
        "both",
        title="Side",
        description="inner: the structure's own rim; outer: the ring around it; both: the two together. "
        "Separable Dice always uses the inner rim.",
    )
    border: Literal["same", "contour"] = Field(
        "same",
        title="Image border",
        description="same: a structure goes on beyond the image. contour: the image's edge counts as a boundary, "
        "as in the released code.",
        json_schema_extra=ADVANCED,
    )
    adapt: float = Field(
        0.0,
        ge=0,
        le=1,
        title="Adapt to size",
        description="0: the same thickness for all. Otherwise thickness is at most this share of a piece's depth "
        "(0.3 is a good value) and never all of it, so that small structures keep an interior.",
        json_schema_extra=ADVANCED,
    )
    softness: float = Field(
        0.0,
        ge=0,
        title="Softness",
        description="0: a hard band. Otherwise the weight falls off as a Gaussian of this many pixels from the "
        "boundary, and the thickness plays no part.",
        json_schema_extra=ADVANCED,
    )
