"""A new project's settings, and classes changed later."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING

from napari_ctxseg.errors import InputError
from napari_ctxseg.project.schema import ClassSpec, Policy, ProjectSpec, SplitSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Colours of classes that were given none, told apart by most people with defective colour vision (Okabe and Ito).
COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")


def coloured(classes: Sequence[ClassSpec] | Mapping[str, int]) -> list[ClassSpec]:
    """Classes with colours; those of a mapping get one each.

    Raises
    ------
    InputError
        If a name or value cannot be.
    """
    if not isinstance(classes, Mapping):
        return list(classes)
    try:
        return [
            ClassSpec(name=name, value=value, colour=COLOURS[i % len(COLOURS)])
            for i, (name, value) in enumerate(classes.items())
        ]
    except ValueError as error:
        raise InputError("classes", f"{dict(classes)} cannot be", "Give names, and values from 1") from error


def new_spec(
    name: str,
    classes: Sequence[ClassSpec] | Mapping[str, int],
    policy: Policy,
    *,
    background: int | None = None,
    regions: Mapping[str, Sequence[int]] | None = None,
    split: SplitSpec | None = None,
) -> ProjectSpec:
    """A project without images; see `napari_ctxseg.project.Project.create`.

    Raises
    ------
    InputError
        If the settings do not fit together.
    """
    listed = coloured(classes)
    if policy == "scribbles" and background is None:
        taken = {c.value for c in listed} | {v for values in (regions or {}).values() for v in values}
        background = next(value for value in range(1, 2**16) if value not in taken)
    chosen = split or SplitSpec(seed=secrets.randbits(31))
    return ProjectSpec(id=secrets.token_hex(6)).updated(
        name=name,
        classes=[c.model_dump() for c in listed],
        policy=policy,
        background=background,
        regions={region: tuple(values) for region, values in (regions or {}).items()},
        split=chosen.model_dump(),
    )


def with_classes(spec: ProjectSpec, classes: Sequence[ClassSpec] | Mapping[str, int]) -> ProjectSpec:
    """A project with other classes; see `napari_ctxseg.project.Project.set_classes`.

    Raises
    ------
    InputError
        If a class would get another value than it has.
    """
    new, before = coloured(classes), {c.name: c.value for c in spec.classes}
    for each in new:
        if before.get(each.name, each.value) != each.value:
            raise InputError(
                each.name,
                f"has the value {before[each.name]}, and labels may be painted in it",
                "Add a class of another name",
            )
    return spec.updated(classes=[c.model_dump() for c in new])
