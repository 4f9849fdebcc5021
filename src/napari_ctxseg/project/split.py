"""Which patients train, which validate, which test. A role once given stays until a person changes it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from napari_ctxseg.project.schema import ROLES, Role, SplitSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def with_groups(split: SplitSpec, groups: Iterable[str]) -> SplitSpec:
    """Give patients that have no role yet one of their own; those that have one keep it.

    New patients are put into an order by the hash of the seed and their names. The first of them fill up what is missing
    for the shares of test and validation among all patients, at least one each where a share is asked for; the others
    train. Below three patients all train, and two are always left to train on.

    Parameters
    ----------
    split : SplitSpec
        Seed, shares, and roles given so far.
    groups : iterable of str
        All patients of the project.

    Returns
    -------
    SplitSpec
        With a role for each patient; roles of patients that are gone are kept, should they come back.
    """
    present = set(groups)
    roles = dict(split.groups)
    new = sorted(present - set(roles), key=lambda name: (_place(split.seed, name), name))
    total = len(present)
    for name in new:
        roles[name] = _role(split, [roles[g] for g in present if g in roles], total)
    return split.model_copy(update={"groups": roles}) if new else split


def _role(split: SplitSpec, taken: list[Role], total: int) -> Role:
    apart = sum(role != "train" for role in taken)
    if total < 3 or apart >= total - 2:
        return "train"
    for role, share in (("validation", split.validation), ("test", split.test)):
        wanted = max(1, round(share * total)) if share > 0 else 0
        if taken.count(role) < wanted:  # type: ignore[arg-type]
            return role  # type: ignore[return-value]
    return "train"


def _place(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


def counts(split: SplitSpec, groups: Iterable[str]) -> Mapping[Role, int]:
    """Number of images in each role, given the patient of each image."""
    found = [split.groups.get(group, "train") for group in groups]
    return {role: found.count(role) for role in ROLES}
