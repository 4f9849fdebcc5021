"""One row of a results table: all settings that make it, and the value that is printed there."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, model_validator

from napari_ctxseg.config import (
    AugmentConfig,
    BudgetConfig,
    Config,
    DataConfig,
    LossConfig,
    MethodConfig,
    NetworkConfig,
    OptimConfig,
    PatchConfig,
    RunConfig,
    SupervisedConfig,
)
from napari_ctxseg.evaluation.metrics import ALL_MEASURES
from napari_ctxseg.recipes.layouts import LAYOUTS
from napari_ctxseg.recipes.steps.config import StepConfig

#: Papers by the names that recipes use.
PAPERS = {
    "context": "Murugesan et al., Seg-GLGAN and context CE, ISBI 2020, arXiv 2001.02387",
    "crgan": "Rezaei et al., CR-GAN, arXiv 1810.03871",
    "dbce": "Hosseini and Soleymani Baghshah, dilated balanced CE, arXiv 2412.06045",
    "cwcd": "Huang and Sui, contour-weighted loss, ICIP 2024, arXiv 2407.06176",
}
#: Prepared files are ``PATIENT.nii.gz`` or ``PATIENT__REST.nii.gz``.
GROUP = "^(.+?)(?:__|$)"


class Printed(Config):
    """One number of the row, as it stands in the paper."""

    measure: str
    class_: str = Field("", alias="class", description="Class or region; empty: the mean over them.")
    value: float | None = Field(None, description="Empty where the paper prints a failure.")
    percent: bool = False
    unit: str = ""

    @model_validator(mode="after")
    def _known(self) -> Printed:
        if self.measure not in ALL_MEASURES:
            raise ValueError(f"{self.measure!r} is no measure; there are {', '.join(ALL_MEASURES)}")
        return self


class Unknown(Config):
    """A setting that the paper does not state, or contradicts itself about."""

    setting: str = Field(min_length=1)
    chosen: str = Field(min_length=1)
    why: str = Field(min_length=1)


class Split(Config):
    """Who trains and who is tested.

    ``by: set`` takes the parts that the set has; ``share`` deals patients by the hash of their names.
    """

    by: Literal["set", "share"] = "share"
    test: float = Field(0.3, gt=0, lt=1, description="Share of patients that are only tested.")
    val: float = Field(0.0, ge=0, lt=1, description="Share of the others kept for validation.")


class Schedule(Config):
    """How long the paper trains."""

    epochs: int = Field(ge=1)
    items: int = Field(ge=1, description="Training images, slices or blocks that an epoch goes through.")


class Row(Config):
    """What every row of a table has.

    Parameters
    ----------
    paper : str
        One of `PAPERS`.
    table, row : str
        As in the paper.
    set_ : str
        Name of the layout.
    printed : tuple of Printed
        Empty where the paper's number did not survive or was not reported; `note` says so.
    note : str
        What a reader of the number should know.
    """

    paper: Literal["context", "crgan", "dbce", "cwcd"]
    table: str = Field(min_length=1)
    row: str = Field(min_length=1)
    set_: str = Field(alias="set")
    printed: tuple[Printed, ...] = ()
    note: str = ""

    @model_validator(mode="after")
    def _honest(self) -> Row:
        if self.set_ not in LAYOUTS:
            raise ValueError(f"{self.set_!r} is no set; there are {', '.join(LAYOUTS)}")
        if not self.printed and not self.note:
            raise ValueError("a row without printed values needs a note that says why")
        places = [(each.measure, each.class_) for each in self.printed]
        if len(set(places)) != len(places):
            raise ValueError("a measure of a class is printed twice")
        return self

    @property
    def source(self) -> str:
        """Paper, table and row."""
        return f"{PAPERS[self.paper]}, table {self.table}, {self.row}"


class CitedRow(Row):
    """A result of others that a paper prints beside its own without saying how it was made: it cannot be run."""

    kind: Literal["cited"] = "cited"


class Recipe(Row):
    """A row that can be run: preparation, settings of a run, and measures.

    Parameters
    ----------
    prepare : tuple of step configurations
    split : Split
    data, network, loss, method, patch, optim, augment
        Sections of a `RunConfig`; `data` holds classes, regions, planes.
    schedule : Schedule
        Turned into steps with the batch size.
    measures : tuple of str
        The paper's.
    instances : bool
        Whether label values are numbers of objects, so that measures of objects tell touching ones apart.
    unknown : tuple of Unknown
    differs : tuple of str
        Where we knowingly do otherwise than the paper, a sentence each.
    """

    kind: Literal["recipe"] = "recipe"
    prepare: tuple[StepConfig, ...] = ()
    split: Split = Split()
    data: DataConfig = DataConfig()
    network: NetworkConfig
    loss: LossConfig
    method: MethodConfig = SupervisedConfig()
    patch: PatchConfig = PatchConfig()
    optim: OptimConfig = OptimConfig()
    augment: AugmentConfig = AugmentConfig()
    schedule: Schedule
    measures: tuple[str, ...] = Field(min_length=1)
    instances: bool = False
    unknown: tuple[Unknown, ...] = ()
    differs: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        missing = sorted({each.measure for each in self.printed} - set(self.measures))
        if missing:
            raise ValueError(f"{missing[0]} is printed but not measured")
        strange = sorted(set(self.measures) - set(ALL_MEASURES))
        if strange:
            raise ValueError(f"{strange[0]!r} is no measure; there are {', '.join(ALL_MEASURES)}")
        if self.instances and not self.data.foreground:
            raise ValueError("instances are one class: data.foreground must be true")
        known = {"", *self.structures}
        classes = sorted({each.class_ for each in self.printed} - known)
        if classes:
            raise ValueError(
                f"{classes[0]!r} is printed, but the structures are {', '.join(self.structures)}"
            )
        if self.data.images or self.data.labels or self.data.group:
            raise ValueError("a recipe names no files and no patients: the set's layout does")
        return self

    @property
    def structures(self) -> tuple[str, ...]:
        """Names of what is measured."""
        if self.data.foreground:
            return ("foreground",)
        return tuple(self.data.regions or self.data.classes)

    @property
    def steps(self) -> int:
        """Optimiser steps of the paper's epochs, every epoch going through all items once."""
        return self.schedule.epochs * math.ceil(self.schedule.items / (self.patch.batch or 1))

    def config(self, images: str = "", labels: str = "") -> RunConfig:
        """The whole settings of a run, on prepared files.

        Parameters
        ----------
        images, labels : str
            Folders or lists of prepared files; empty where only the settings are of interest.
        """
        data = self.data.model_copy(
            update={
                "images": (images,) if images else (),
                "labels": (labels,) if labels else (),
                "group": GROUP,
                "val": self.split.val,
            }
        )
        return RunConfig(
            data=data, network=self.network, loss=self.loss, method=self.method, patch=self.patch, optim=self.optim,
            augment=self.augment, budget=BudgetConfig(steps=self.steps),
        )  # fmt: skip


AnyRow = Annotated[Recipe | CitedRow, Field(discriminator="kind")]
_ROW: TypeAdapter[Any] = TypeAdapter(AnyRow)


def parse_row(values: Any) -> Recipe | CitedRow:
    """Validate a row given as plain values; without `kind` it is a recipe.

    Raises
    ------
    pydantic.ValidationError
        If a field is unknown, missing or out of range.
    """
    if isinstance(values, dict) and "kind" not in values:
        values = {"kind": "recipe"} | values
    checked: Recipe | CitedRow = _ROW.validate_python(values)
    return checked
