"""What is compared: a run's settings, variants of them, a split by patient, seeds. One YAML file."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from napari_ctxseg.config import RunConfig, parse_config, set_fields
from napari_ctxseg.config.base import Config, named
from napari_ctxseg.errors import InputError
from napari_ctxseg.evaluation.metrics import (
    ALL_MEASURES,
    MEASURES,
    WITHOUT_DIRECTION,
    MeasureOptions,
    canonical,
    chosen_measures,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class Variant(Config):
    """One of the things compared: the settings in which it differs from the common ones."""

    name: str = Field(min_length=1)
    settings: dict[str, Any] = Field(default_factory=dict)
    #: Field and value, where it is one point of a sweep, and what the sweep is of.
    field: str | None = None
    value: float | int | str | None = None
    family: str = ""


class MeasureSettings(Config):
    """Which measures, and what they leave open; see `napari_ctxseg.evaluation.metrics.MeasureOptions`."""

    names: tuple[str, ...] = MEASURES
    tolerance: float | None = Field(None, ge=0)
    sizes: tuple[float, float] = (100.0, 1000.0)
    physical: bool = False
    overlap: float = Field(0.0, ge=0, lt=1)
    faces_only: bool = False
    instances: bool = False

    @property
    def options(self) -> MeasureOptions:
        """For `evaluate_case`."""
        return MeasureOptions(
            self.tolerance, self.faces_only, self.overlap, self.sizes, self.physical, self.instances
        )


class ComparePlan(Config):
    """A whole comparison.

    Parameters
    ----------
    run : RunConfig
        Common settings; its seed is replaced by each of `seeds`.
    variants : tuple of Variant
        At least one; names are unique.
    folds : int or None
        Patients are dealt into so many parts, each predicted once by a network that saw the others.
    test : tuple of str
        Or: patients that are only predicted, the others train.
    seeds : tuple of int
    measures : MeasureSettings
    primary : str
        The one measure that is tested; the others are described.
    reference : str
        Variant that the others are compared with; the first when left out.
    paired_test : str
        ``"wilcoxon"`` or ``"signs"``, see `napari_ctxseg.evaluation.statistics.paired_p`.
    data_sha256 : str
        Fingerprint of the files, once they have been read.
    """

    run: RunConfig = RunConfig()
    variants: tuple[Variant, ...] = Field(min_length=1)
    folds: int | None = Field(None, ge=2)
    test: tuple[str, ...] = ()
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    measures: MeasureSettings = MeasureSettings()
    primary: str = "dice"
    reference: str = ""
    paired_test: Literal["wilcoxon", "signs"] = "wilcoxon"
    data_sha256: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> ComparePlan:
        names = [variant.name for variant in self.variants]
        if len(set(names)) != len(names):
            raise ValueError(f"two variants have the same name: {names}")
        if self.reference and self.reference not in names:
            raise ValueError(f"the reference {self.reference!r} is none of the variants {names}")
        if len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds are different numbers from 0 on, not {list(self.seeds)}")
        if (self.folds is None) == (not self.test):
            raise ValueError("name either `folds` or the `test` patients")
        strange = [name for name in (*self.measures.names, self.primary) if name not in ALL_MEASURES]
        if strange:
            raise ValueError(f"{strange[0]!r} is no measure; there are {', '.join(ALL_MEASURES)}")
        if self.primary not in self.measures.names:
            raise ValueError(f"the tested measure {self.primary!r} is not among the measures")
        if self.primary in WITHOUT_DIRECTION:
            raise ValueError(
                f"{self.primary!r} is best at 0 from either side, and cannot be the tested measure"
            )
        if self.measures.instances and not self.run.data.foreground:
            raise ValueError(
                "measures.instances takes values for numbers of objects of one class: add --foreground (data.foreground)"
            )
        if self.run.data.annotation != "full":
            raise ValueError(
                "measuring needs complete masks of every image: data.annotation must be `full` in a comparison"
            )
        return self

    @property
    def base(self) -> str:
        """Name of the reference."""
        return self.reference or self.variants[0].name

    def config_of(self, variant: Variant, seed: int) -> RunConfig:
        """The settings of one run.

        Raises
        ------
        InputError
            Naming the variant and the field that is wrong.
        """
        values = merged(self.run.model_dump(mode="json"), variant.settings)
        return parse_config({**values, "seed": seed}, f"variant {variant.name}")


def merged(values: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with changes laid over them, the arguments left alone.

    A mapping, or the bare name of a kind, is laid over the section of its name; another ``kind`` or a ``preset`` replaces
    the section, because fields of another kind mean nothing - but a volume stays a volume (`dims`). ``a.b: v`` sets one
    field, as ``--set a.b=v`` does.
    """
    result = dict(values)
    for name, change in changes.items():
        before = result.get(name)
        if "." in name:
            result = set_fields(result, [f"{name}={yaml.safe_dump(change, default_flow_style=True).strip()}"])
        elif not isinstance(before, dict) or not isinstance(change, str | dict):
            result[name] = change
        else:
            new = named(change)
            other = "preset" in new or new.get("kind", before.get("kind")) != before.get("kind")
            kept = {"dims": before["dims"]} if other and "dims" in before else {}
            result[name] = {**kept, **new} if other else merged(before, new)
    return result


def load_plan(path: Path) -> ComparePlan:
    """Read a plan.

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
        raise InputError(path, "holds no plan", "Give a mapping with `run` and `variants`")
    return parse_plan(values, str(path))


def parse_plan(values: Mapping[str, Any], where: str = "plan") -> ComparePlan:
    """A plan from plain values.

    Parameters
    ----------
    values : mapping
        As `ComparePlan`, where `variants` may also be a mapping of name to settings, and ``sweep`` a mapping of field to
        values.
    where : str
        For messages.

    Raises
    ------
    InputError
        Naming the first field that is wrong.
    """
    plain = dict(values)
    sweeps = plain.pop("sweep", None) or {}
    given = plain.get("variants") or {}
    if isinstance(given, dict):
        plain["variants"] = [{"name": str(name), "settings": s or {}} for name, s in given.items()]
    if not plain["variants"] and sweeps:
        plain["variants"] = [{"name": "as given"}]
    try:
        plain |= _measures(plain.get("measures"), plain.get("primary"))
        plan = ComparePlan.model_validate(plain)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        text = str(first["msg"]).removeprefix("Value error, ")
        raise InputError(
            where, f"{field}: {text}" if field else text, "See `ctxseg compare --help`"
        ) from error
    except ValueError as error:
        raise InputError(where, str(error), "See docs/measures.md, or leave them out") from error
    for field, points in sweeps.items():
        plan = swept(plan, str(field), list(points))
    for variant in plan.variants:
        plan.config_of(variant, plan.seeds[0])
    return plan


def _measures(given: Any, primary: Any) -> dict[str, Any]:
    """Measures by the names that people use for them and for groups of them; the tested one is always among them."""
    if isinstance(given, str):
        given = given.split(",")
    settings = {"names": given} if isinstance(given, list | tuple) else dict(given or {})
    names = list(settings.get("names") or MEASURES)
    if not set(names) <= set(ALL_MEASURES):
        names = list(chosen_measures([str(name) for name in names]))
    tested = {} if primary is None else {"primary": canonical(str(primary))}
    if tested and tested["primary"] in ALL_MEASURES and tested["primary"] not in names:
        names.append(tested["primary"])
    return {"measures": {**settings, "names": names}, **tested}


def parse_sweep(text: str) -> tuple[str, list[Any]]:
    """Field and values of ``loss.radius=2,5,10``.

    Raises
    ------
    InputError
        If it is not of this form.
    """
    field, sign, values = text.partition("=")
    points = [value.strip() for value in values.split(",") if value.strip()]
    if not sign or not field.strip() or not points:
        raise InputError(f"sweep {text}", "is not of the form a.b=v,w", "Write loss.radius=2,5,10")
    return field.strip(), [yaml.safe_load(value) for value in points]


def swept(plan: ComparePlan, field: str, values: Sequence[Any]) -> ComparePlan:
    """Every variant that has a field once for each value of it; variants without the field stay as they are.

    Raises
    ------
    InputError
        If no variant has the field, or accepts a value.
    """
    variants: list[Variant] = []
    problem: InputError | None = None
    for variant in plan.variants:
        points = [
            Variant(
                name=f"{variant.name}, {field}={value}",
                settings={**variant.settings, field: value},
                field=field,
                value=value,
                family=variant.family or variant.name,
            )
            for value in values
        ]
        try:
            for point in points:
                plan.config_of(point, plan.seeds[0])
        except InputError as error:
            problem = error
            variants.append(variant)
        else:
            variants += points
    if not any(variant.field == field for variant in variants):
        raise problem or InputError(f"--sweep {field}", "names no values", "Write loss.radius=2,5,10")
    reference = plan.reference if plan.reference in {v.name for v in variants} else ""
    return plan.model_copy(update={"variants": tuple(variants), "reference": reference})


def crossed(axes: Sequence[tuple[str, Sequence[str]]]) -> dict[str, dict[str, Any]]:
    """Variants of all combinations of losses, methods and networks: ``[("loss", ["ce", "dice"]), ...]``."""
    return {
        ", ".join(names): dict(zip((section for section, _ in axes), names, strict=True))
        for names in itertools.product(*(names for _, names in axes))
    }
