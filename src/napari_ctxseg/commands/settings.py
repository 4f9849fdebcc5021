"""A run's configuration from a YAML file, options and assignments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from napari_ctxseg.config import (
    RunConfig,
    from_yaml,
    loss_kinds,
    parse_config,
    parse_loss,
    preset_values,
    set_fields,
)
from napari_ctxseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

T = TypeVar("T")


def settings(
    config: Path | None,
    options: Mapping[str, Any],
    *,
    loss: str | None,
    classes: str | None,
    assignments: list[str],
    preset: str | None = None,
) -> RunConfig:
    """A run's configuration from a YAML file, options, and ``--set`` assignments, the later ones winning.

    Raises
    ------
    InputError
        Naming the setting that is wrong.
    """
    values: dict[str, Any] = from_yaml(config).model_dump(mode="json") if config else {}
    if options.get("budget.steps") is not None and options.get("budget.minutes") is not None:
        raise InputError("--minutes and --steps", "are two budgets", "Give one of them")
    for name, value in options.items():
        if value is None:
            continue
        section, _, field = name.partition(".")
        if not field:
            values[section] = value
        elif section == "budget":
            values["budget"] = {field: value}
        else:
            before = values.get(section) or {}
            if field == "kind" and before.get("kind", value) != value:
                # Fields of another kind mean nothing; but a volume stays a volume.
                before = {name: before[name] for name in ("dims",) if name in before}
            values[section] = {**before, field: value}
    if loss is not None or preset is not None:
        values["loss"] = loss_values(loss or (values.get("loss") or {}).get("kind"), preset)
    if classes is not None:
        values.setdefault("data", {})["classes"] = parse_classes(classes)
    return parse_config(set_fields(values, assignments), "settings")


def loss_values(kind: str | None, preset: str | None) -> dict[str, Any]:
    """All fields of a loss by its name, those of a preset where one is asked for.

    Raises
    ------
    InputError
        If there is no such loss, or it has no such preset.
    """
    if kind is None:
        raise InputError(f"--preset {preset}", "names settings of a loss, but no loss is given", "Add --loss")
    if kind not in loss_kinds():
        raise InputError(f"--loss {kind}", "is no loss", f"There are: {', '.join(loss_kinds())}")
    values = {"kind": kind} if preset is None else preset_values(kind, preset)
    return parse_loss(values).model_dump(mode="json")  # whole, so that --set finds nested sections


def parse_classes(text: str) -> dict[str, int]:
    """``LV=1,myo=2`` as a mapping.

    Raises
    ------
    InputError
        If it is not of that form.
    """
    result: dict[str, int] = {}
    for part in text.split(","):
        name, sign, value = part.strip().rpartition("=")
        if not sign or not name or not value.strip().isdigit() or int(value) == 0 or name in result:
            raise InputError(
                f"--classes {text}", f"has {part.strip()!r} where NAME=VALUE is wanted", "Write LV=1,myo=2"
            )
        result[name.strip()] = int(value)
    return result


def given(name: str, value: T | None) -> T:
    """An option that is needed here, and not with a project.

    Raises
    ------
    InputError
        If it was left out.
    """
    if not value:
        raise InputError(name, "is missing", "Give it, or name a project folder")
    return value


def refuse_beside_resume(given: Sequence[str]) -> None:
    """A resumed run keeps its own settings: say so instead of ignoring options.

    Raises
    ------
    InputError
        If any were given.
    """
    if given:
        raise InputError(
            "--resume",
            f"takes its settings from the run; {', '.join(given)} cannot be changed",
            "Use --init for a new run",
        )
