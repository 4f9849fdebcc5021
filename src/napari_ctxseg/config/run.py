"""A run's whole configuration, and reading it from YAML and assignments."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from napari_ctxseg.config.base import OFF_SCREEN, Config
from napari_ctxseg.config.losses import DiceCE, LossConfig
from napari_ctxseg.config.methods import MethodConfig, SupervisedConfig
from napari_ctxseg.config.networks import NetworkConfig, UNetConfig
from napari_ctxseg.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path


# ---------------------------------------------------------------- a run

Annotation = Literal["full", "masks", "scribbles"]


class DataConfig(Config):
    """Which files, which classes, and what an unpainted pixel means."""

    images: tuple[str, ...] = Field(
        (), title="Images", description="Files, folders or patterns; layer names on screen."
    )
    labels: tuple[str, ...] = Field((), title="Labels", description="Label files, paired by stem.")
    group: str | None = Field(
        None,
        title="Patient pattern",
        description="Regular expression; equal matches in the file name are one patient.",
    )
    val: float = Field(
        0.2, ge=0, lt=1, title="Validation share", description="Share of patients kept for validation."
    )
    validation: tuple[str, ...] = Field(
        (),
        title="Validation patients",
        description="Patients kept for validation by name, as a project fixes them. Left empty: a share of all.",
        json_schema_extra=OFF_SCREEN,
    )
    classes: dict[str, int] = Field(
        default_factory=dict, title="Classes", description="Name and value. Values not named are background."
    )
    regions: dict[str, tuple[int, ...]] = Field(
        default_factory=dict,
        title="Overlapping regions",
        description="Name and values of each, such as `WT: [1, 2, 4]`; each is predicted for itself. Values in none are "
        "background. Left empty: classes, which exclude each other.",
    )
    foreground: bool = Field(
        False,
        title="Any label is foreground",
        description="Every label above 0 is one class, as instance masks need.",
    )
    annotation: Annotation = Field(
        "full",
        title="Annotation",
        description="full: files are complete masks. masks: 0 is background in labelled slices only. "
        "scribbles: 0 is unlabelled everywhere.",
    )
    background: int | None = Field(
        None, ge=1, title="Background value", description="With scribbles: the value painted for background."
    )
    planes: tuple[Literal["z", "y", "x"], ...] = Field(
        ("z",),
        min_length=1,
        title="Planes",
        description="Axes along which a 2-D model sees slices of a volume. Several: it learns from all of them, "
        "and their predictions are averaged.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> DataConfig:
        values = list(self.classes.values())
        if len(set(values)) != len(values):
            raise ValueError(f"two classes share a value: {self.classes}")
        if any(v == 0 for v in values):
            raise ValueError("class value 0 is kept for background (or unlabelled)")
        if len(set(self.planes)) != len(self.planes):
            raise ValueError(f"a plane is named twice: {self.planes}")
        if self.background is not None and self.background in values:
            raise ValueError(f"value {self.background} is the painted background and cannot be a class too")
        if self.foreground and self.classes:
            raise ValueError(
                "`foreground` makes one class of every label above 0: name no `classes` beside it"
            )
        if self.regions:
            self._check_regions()
        return self

    def _check_regions(self) -> None:
        if self.foreground:
            raise ValueError(
                "`foreground` makes one class of every label above 0: name no `regions` beside it"
            )
        for name, values in self.regions.items():
            if not re.fullmatch(r"[\w-]+", name):
                raise ValueError(
                    f"the region {name!r} names files: use letters, digits, hyphens and underscores only"
                )
            if not values or min(values) < 1 or len(set(values)) != len(values):
                raise ValueError(
                    f"the region {name} needs values of 1 or more, each once, not {list(values)}"
                )
            if self.background in values:
                raise ValueError(
                    f"value {self.background} is the painted background and cannot be in {name} too"
                )
        for one, other in itertools.combinations(self.regions, 2):
            if one.casefold() == other.casefold():
                raise ValueError(f"the regions {one} and {other} would have the same files")
            if set(self.regions[one]) == set(self.regions[other]):
                raise ValueError(f"the regions {one} and {other} have the same values: leave one out")
        within = {value for values in self.regions.values() for value in values}
        if self.classes and set(self.classes.values()) != within:
            raise ValueError(
                f"`classes` beside `regions` only name the regions' values {sorted(within)}, "
                f"not {sorted(self.classes.values())}"
            )


class PatchConfig(Config):
    """How training patches are cut."""

    size: tuple[int, ...] | None = Field(
        None, title="Patch size", description="Left empty: chosen from the data."
    )
    batch: int | None = Field(None, ge=1, title="Batch size", description="Left empty: 8 in 2-D, 4 in 3-D.")
    foreground: float = Field(
        0.6,
        ge=0,
        le=1,
        title="Foreground share",
        description="Share of patches centred on a labelled structure.",
    )
    sequence: int | None = Field(
        None,
        ge=1,
        title="Slices in a row",
        description="Consecutive slices of one patient in a 2-D batch, as recurrent networks and patient-wise "
        "normalisation need. Left empty: half the batch where the network needs them, else 1.",
    )


class OptimConfig(Config):
    """Optimiser and its learning rate over the steps."""

    kind: Literal["adamw"] = "adamw"
    lr: float | None = Field(
        None,
        gt=0,
        title="Learning rate",
        description="Size of the first steps. Left empty: 1e-3 in 2-D, 2e-3 in 3-D.",
    )
    weight_decay: float = Field(
        1e-4, ge=0, title="Weight decay", description="Pull of the weights towards zero."
    )
    schedule: Literal["poly", "constant"] = Field(
        "poly", title="Schedule", description="poly: falls to zero at the end of the budget."
    )
    power: float = Field(0.9, gt=0, title="Power", description="Exponent of the poly schedule.")


class AugmentConfig(Config):
    """Random changes of the training patches, drawn once and applied to image and labels alike."""

    preset: Literal["default", "none"] = Field(
        "default",
        title="Augmentation",
        description="default: rotation, zoom, contrast, brightness, gamma, noise.",
    )
    mirror: bool = Field(
        False,
        title="Mirror",
        description="Also mirror along every axis. Right for cells; for organs it makes left and right look alike.",
    )


class BudgetConfig(Config):
    """How long to train: steps, or minutes that are turned into steps after 20 timed ones."""

    steps: int | None = Field(None, ge=1, title="Steps", description="Number of optimiser steps.")
    minutes: float | None = Field(
        None, gt=0, title="Minutes", description="Time to train for, on this machine."
    )
    val_every: int | None = Field(
        None, ge=1, title="Validate every", description="Steps; left empty: chosen from the budget."
    )

    @model_validator(mode="after")
    def _some(self) -> BudgetConfig:
        if self.steps is None and self.minutes is None:
            raise ValueError("a budget needs `steps` or `minutes`")
        return self


class DeviceConfig(Config):
    """Where and how to compute."""

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", title="Device", description="auto: a GPU if there is one."
    )
    precision: Literal["auto", "32-true", "bf16-mixed"] = Field(
        "auto", title="Precision", description="auto: bfloat16 where the device computes in it, else float32."
    )
    threads: int | None = Field(
        None, ge=1, title="CPU threads", description="Left empty: all cores; on screen all but one."
    )


class RunConfig(Config):
    """A run's whole configuration, one YAML file."""

    data: DataConfig = DataConfig()
    network: NetworkConfig = UNetConfig()
    loss: LossConfig = DiceCE()
    method: MethodConfig = SupervisedConfig()
    patch: PatchConfig = PatchConfig()
    optim: OptimConfig = OptimConfig()
    augment: AugmentConfig = AugmentConfig()
    budget: BudgetConfig = BudgetConfig(minutes=5)
    device: DeviceConfig = DeviceConfig()
    init: str | None = Field(
        None, title="Start from", description="An earlier run whose weights are the start."
    )
    seed: int = Field(0, ge=0, title="Seed", description="Same seed, same data, same machine: same result.")

    def updated(self, **sections: Any) -> RunConfig:
        """A copy with whole sections replaced, validated again."""
        return RunConfig.model_validate({**self.model_dump(), **sections})


def parse_config(values: Any, where: str = "configuration") -> RunConfig:
    """Validate plain values.

    Raises
    ------
    InputError
        Naming the first field that is wrong.
    """
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InputError(
            where, f"{field}: {first['msg']}" if field else first["msg"], "See `ctxseg train --help`"
        ) from error


def from_yaml(path: Path) -> RunConfig:
    """Read a run's configuration.

    Raises
    ------
    InputError
        If the file is not YAML or a field is wrong.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(
            path, f"cannot be read as YAML ({error.__class__.__name__})", "Check the file"
        ) from error
    if not isinstance(values, dict):
        raise InputError(path, "holds no settings", "Give a mapping such as `loss: {kind: dice_ce}`")
    return parse_config(values, str(path))


def set_fields(values: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
    """Apply ``a.b=v`` assignments (values in YAML) to plain settings, without changing the argument.

    Raises
    ------
    InputError
        If an assignment has no ``=`` or goes through something that is not a section.
    """
    result = yaml.safe_load(yaml.safe_dump(values, sort_keys=False)) or {}
    for text in assignments:
        name, sign, value = text.partition("=")
        if not sign or not name.strip():
            raise InputError(
                f"--set {text}", "is not of the form a.b=value", "Write for instance --set optim.lr=3e-4"
            )
        *sections, last = name.strip().split(".")
        node = result
        for section in sections:
            child = node.get(section)
            if isinstance(child, str):
                child = {"kind": child}
            if child is not None and not isinstance(child, dict):
                raise InputError(
                    f"--set {text}", f"{section} is not a section", "See a run's config.yaml for the names"
                )
            node[section] = child or {}
            node = node[section]
        parsed = _scalar(value)
        if last == "kind" and node.get("kind", parsed) != parsed:
            node.clear()  # fields of another kind mean nothing
        node[last] = parsed
    return result


def _scalar(value: str) -> Any:
    """YAML 1.1 reads ``1e-3`` as text; people mean the number."""
    parsed = yaml.safe_load(value)
    if isinstance(parsed, str):
        try:
            return float(parsed)
        except ValueError:
            return parsed
    return parsed
