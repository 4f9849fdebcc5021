"""What the recipes of all figures share: style, view, sources.

Every file that a recipe names is a `Path`, never a `str`: that is how it is found, hashed, and written relative to the
recipe.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from napari_ctxseg.config.base import ADVANCED, Config

PictureFormat = Literal["png", "svg", "pdf"]
Box = tuple[int, int, int, int]
Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]


class FigureStyle(Config):
    """How a figure looks, whatever it shows."""

    width: float = Field(
        85.0, ge=20, le=1000, title="Width", description="mm. Journals: 85 for a column, 170 for two."
    )
    dpi: int = Field(300, ge=50, le=1200, title="Resolution", description="Pixels per inch of a PNG.")
    size: float = Field(
        8.0,
        ge=4,
        le=30,
        title="Text",
        description="pt, of titles and legends. Scale bar, letters of orientation and ticks are 1 pt smaller.",
    )
    font: str = Field(
        "DejaVu Sans",
        title="Font",
        description="A family that this machine has; matplotlib brings DejaVu Sans.",
        json_schema_extra=ADVANCED,
    )
    palette: Literal["papers", "colour_blind"] = Field(
        "papers",
        title="Colours",
        description="papers: false positives red, false negatives blue, reference green. colour_blind: Okabe and Ito's.",
    )
    line: float = Field(
        1.0,
        gt=0,
        le=10,
        title="Contours",
        description="Width of contours in pt.",
        json_schema_extra=ADVANCED,
    )
    titles: bool = Field(True, title="Titles", description="A title above each panel.")
    letters: bool = Field(
        False,
        title="Panel letters",
        description="a, b, c ... before the titles.",
        json_schema_extra=ADVANCED,
    )
    legend: bool = Field(True, title="Legend", description="Names of the colours below the panels.")
    scale_bar: bool = Field(
        True,
        title="Scale bar",
        description="In each panel whose scale no other one shows; px where the file says no more.",
    )
    scale_length: float | None = Field(
        None, gt=0, title="Bar length", description="In the unit of the image. Left empty: a round number."
    )
    orientation: bool = Field(
        True,
        title="Orientation",
        description="L, R, A, P, S, I at the edges, where the file says how the body lies.",
        json_schema_extra=ADVANCED,
    )
    columns: int | None = Field(
        None,
        ge=1,
        title="Columns",
        description="Panels in a row. Left empty: as many as stay at least 25 mm wide.",
        json_schema_extra=ADVANCED,
    )
    formats: tuple[PictureFormat, ...] = Field(
        ("png",), min_length=1, title="Formats", description="png, svg, pdf; several at once."
    )


class ZoomConfig(Config):
    """A part of the image, drawn larger."""

    box: Box | None = Field(
        None,
        title="Box",
        description="Top, left, height, width in pixels of the slice. Left empty: around the largest structure.",
    )
    margin: int = Field(
        6, ge=0, title="Margin", description="Pixels around the structure when the box is left empty."
    )
    place: Literal["beside", "inset"] = Field(
        "beside",
        title="Place",
        description="beside: a panel of its own (below, when there are several panels). inset: in a corner of the panel.",
    )


class ViewConfig(Config):
    """Which part of the image is shown."""

    axis: Literal["z", "y", "x", "t"] | None = Field(
        None, title="Axis", description="The axis that is cut. Left empty: the first one."
    )
    index: int | None = Field(
        None,
        ge=0,
        title="Slice",
        description="Counted from 0 on the grid turned to LPS. Left empty: the slice with most labelled pixels, "
        "the first of equals.",
    )
    crop: Box | Literal["auto"] | None = Field(
        None,
        title="Crop",
        description="Top, left, height, width in pixels of the slice; auto: all structures and a margin. Left empty: "
        "the whole slice.",
    )
    margin: int = Field(
        10, ge=0, title="Margin", description="Pixels around the structures for `crop: auto`."
    )
    window: tuple[float, float] | None = Field(
        None,
        title="Window",
        description="Values shown black and white. Left empty: the 0.5 and 99.5 percentiles of the slice.",
    )
    zoom: ZoomConfig | None = Field(None, title="Zoom", description="A part of the image, drawn larger.")

    @model_validator(mode="after")
    def _boxes(self) -> ViewConfig:
        if self.window is not None and self.window[0] >= self.window[1]:
            raise ValueError("window: the first value must be below the second")
        for name, box in (("crop", self.crop), ("zoom.box", self.zoom.box if self.zoom else None)):
            if isinstance(box, tuple) and (min(box) < 0 or min(box[2:]) < 2):
                raise ValueError(f"{name}: top and left must be 0 or more, height and width 2 or more")
        return self


def _file(value: Any) -> Any:
    """A bare path stands for a source with the file's own name."""
    return {"file": value} if isinstance(value, str | Path) else value


class LabelSource(Config):
    """One label file and how it is drawn."""

    file: Path = Field(title="File", description="Label file, on the grid of the image.")
    name: str | None = Field(None, title="Name", description="In the legend. Left empty: the file's.")
    colour: Colour | None = Field(None, title="Colour", description="#rrggbb. Left empty: from the palette.")
    filled: bool = Field(False, title="Filled", description="Also tint the inside.")


Source = Annotated[LabelSource, BeforeValidator(_file)]


class Recipe(Config):
    """What every recipe has."""

    style: FigureStyle = Field(
        FigureStyle(), title="Style", description="How it looks: size, text, colours, marks."
    )


class ImageRecipe(Recipe):
    """What every recipe with an image has."""

    image: Path = Field(title="Image", description="Image file.")
    channel: int | None = Field(
        None,
        ge=0,
        title="Channel",
        description="Of several. Left empty: the first one; colour images in colour.",
    )
    classes: dict[str, int] = Field(
        {}, title="Classes", description="Names and values. Left empty: every value that is found."
    )
    foreground: bool = Field(
        False, title="One class", description="Every label above 0 is one class, for instance ids of nuclei."
    )
    view: ViewConfig = Field(
        ViewConfig(), title="View", description="Which slice, which part of it, and a zoomed part."
    )


class ScoresRecipe(Recipe):
    """What every recipe of numbers has."""

    scores: dict[str, Path] = Field(
        {}, title="Scores", description="Method -> file of `ctxseg evaluate --json`."
    )
    report: Path | None = Field(
        None, title="Report", description="Instead: `report.csv` of `ctxseg compare`, all its variants."
    )
    classes: tuple[str, ...] = Field((), title="Classes", description="Which ones; all when left out.")

    @model_validator(mode="after")
    def _one_source(self) -> ScoresRecipe:
        if bool(self.scores) == (self.report is not None):
            raise ValueError("give either scores or report")
        return self
