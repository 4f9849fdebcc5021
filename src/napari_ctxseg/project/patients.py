"""Which patient each image shows, said again after the images are there. The split follows by its own rules."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_ctxseg.cases import group_of
from napari_ctxseg.errors import InputError
from napari_ctxseg.project.schema import ROLES
from napari_ctxseg.project.split import with_groups

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from napari_ctxseg.project.folder import Project
    from napari_ctxseg.project.schema import ImageEntry, ProjectSpec, Role, SplitSpec


@dataclass(frozen=True)
class Regrouped:
    """A project's images with other patients, before it is written.

    Attributes
    ----------
    spec : ProjectSpec
        With the new patients and the split that follows.
    moved : dict of str to (Role, Role)
        Images that are for something else than before: name -> before, after.
    changed : list of str
        Images whose patient is another one.
    """

    spec: ProjectSpec
    moved: dict[str, tuple[Role, Role]]
    changed: list[str]

    def roles(self) -> list[Role]:
        """What each image would be for, in the project's order."""
        return [_role(self.spec, image) for image in self.spec.images]


def by_pattern(names: Iterable[str], pattern: str) -> dict[str, str]:
    """Image -> patient for the names that a pattern matches; it is read as ``--group`` reads it.

    Parameters
    ----------
    names : iterable of str
        Of images.
    pattern : str
        Regular expression: its first group, or the whole match, is the patient.

    Raises
    ------
    InputError
        If it is no regular expression, or a match is empty.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(
            f"pattern {pattern}", f"is not a regular expression: {error}", r"Try for instance P\d+"
        ) from error
    found: dict[str, str] = {}
    for name in names:
        if compiled.search(name) is None:
            continue
        patient = group_of(name, pattern)
        if not patient:
            raise InputError(f"pattern {pattern}", f"finds nothing in {name}", r"Try for instance P\d+")
        found[name] = patient
    return found


def regrouped(spec: ProjectSpec, patients: Mapping[str, str]) -> Regrouped:
    """Give images other patients, and the patients their roles.

    A patient that has a role keeps it. One that is only called differently (the same images, all of them) takes its old
    role along. All others get one as new patients do, by the hash of their names. Roles of names that are gone are kept,
    so that going back gives the split that was there.

    Parameters
    ----------
    spec : ProjectSpec
        As it is; not changed.
    patients : mapping of str to str
        Image -> patient; images that are left out keep theirs.

    Raises
    ------
    InputError
        If there is no such image, or a patient cannot be called so.
    """
    if unknown := sorted(set(patients) - {image.name for image in spec.images}):
        spec.entry(unknown[0])  # raises
    images = [
        image.model_dump() | {"group": patients.get(image.name, image.group).strip()} for image in spec.images
    ]
    after = spec.updated(images=images)
    split = with_groups(_renamed(spec, after), [image.group for image in after.images])
    after = after.updated(split=split.model_dump())
    both = list(zip(spec.images, after.images, strict=True))
    roles = {old.name: (_role(spec, old), _role(after, new)) for old, new in both}
    return Regrouped(
        after,
        {name: pair for name, pair in roles.items() if pair[0] != pair[1]},
        [old.name for old, new in both if old.group != new.group],
    )


def set_patients(project: Project, patients: Mapping[str, str]) -> Regrouped:
    """As `regrouped`, written into an open project.

    Raises
    ------
    CtxsegError
        As `regrouped`, and if the project cannot be written to.
    """
    project.check_writable()
    made = regrouped(project.spec, patients)
    if made.spec != project.spec:
        project.update(
            images=[image.model_dump() for image in made.spec.images], split=made.spec.split.model_dump()
        )
    return made


def sentences(made: Regrouped, *, runs: bool) -> list[str]:
    """What the change means, for a person.

    Parameters
    ----------
    made : Regrouped
    runs : bool
        Whether something was trained before.
    """
    spec = made.spec
    found = []
    for role, (patients, images) in counted(spec).items():
        if images:
            found.append(f"{role}: {_many(patients, 'patient')}, {_many(images, 'image')}")
    text = ["; ".join(found) + "."] if found else []
    if made.moved:
        each = [f"{name} ({old} \u2192 {new})" for name, (old, new) in made.moved.items()]
        text.append(f"For something else than before: {_listed(each)}.")
    kept_apart = [name for name, (old, new) in made.moved.items() if old == "train" and new != "train"]
    if kept_apart and runs:
        text.append(
            "Models trained before may have learnt from images that are kept apart now, so their numbers do not compare: "
            "start the next training from scratch."
        )
    if len({image.group for image in spec.images}) < 3:
        text.append("Below three patients none is kept for validation by itself.")
    return text


def counted(spec: ProjectSpec) -> dict[Role, tuple[int, int]]:
    """Patients and images of each role."""
    patients: dict[Role, list[str]] = {role: [] for role in ROLES}
    for image in spec.images:
        patients[_role(spec, image)].append(image.group)
    return {role: (len(set(found)), len(found)) for role, found in patients.items()}


def _renamed(before: ProjectSpec, after: ProjectSpec) -> SplitSpec:
    """The split with the roles of patients that are only called differently."""
    old, new = _members(before), _members(after)
    called = {members: group for group, members in old.items()}
    roles = dict(before.split.groups)
    for group, members in new.items():
        source = called.get(members)
        if group not in roles and source is not None and source in roles:
            roles[group] = roles[source]
    return before.split.model_copy(update={"groups": roles})


def _members(spec: ProjectSpec) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for image in spec.images:
        found.setdefault(image.group, set()).add(image.name)
    return {group: frozenset(names) for group, names in found.items()}


def _role(spec: ProjectSpec, image: ImageEntry) -> Role:
    return spec.split.groups.get(image.group, "train")


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _listed(texts: Sequence[str], most: int = 6) -> str:
    shown = ", ".join(texts[:most])
    return f"{shown} and {len(texts) - most} more" if len(texts) > most else shown
