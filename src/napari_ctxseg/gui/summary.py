"""What a project holds, counted for its table of images. No Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_ctxseg.errors import CtxsegError
from napari_ctxseg.project import LabelStore
from napari_ctxseg.project.marks import STATE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ctxseg.project import Project
    from napari_ctxseg.project.schema import Role

#: Patients that are named in a sentence.
NAMED = 3


@dataclass(frozen=True)
class ImageRow:
    """An image in the table: labelled slices of how many, patient and role, and what is wrong with its labels."""

    name: str
    group: str
    role: Role
    labelled: int
    slices: int
    problem: str = ""


class Summary:
    """Counts labelled slices, again only where labels have changed."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, int, str]] = {}

    def rows(self, project: Project) -> list[ImageRow]:
        """One row for each image. Off the GUI thread: labels are read."""
        return [self._row(project, name) for name in project.names]

    def _row(self, project: Project, name: str) -> ImageRow:
        entry = project.spec.entry(name)
        slices = entry.shape[0] if len(entry.shape) > 2 else 1
        state = project.labels_path(name) / STATE
        stamp = state.stat().st_mtime_ns if state.is_file() else 0
        key = f"{project.path}/{name}/{project.spec.policy}"
        known = self._known.get(key)
        if known is None or known[0] != stamp:
            known = (stamp, *(_count(project, name) if stamp else (0, "")))
            self._known[key] = known
        return ImageRow(name, entry.group, project.role(name), known[1], slices, known[2])


def _count(project: Project, name: str) -> tuple[int, str]:
    try:
        store = LabelStore.open(project.labels_path(name), read_only=True)
        if project.spec.policy == "scribbles":
            return len({store.grid.box(index)[0].start for index in store.contents().chunks}), ""
        return sum(len(found) for found in store.counted().values()), ""
    except CtxsegError as error:
        return 0, str(error)


def counts(rows: Sequence[ImageRow]) -> str:
    """The table in one line."""
    labelled = [row for row in rows if row.labelled]
    slices, every = sum(row.labelled for row in labelled), sum(row.slices for row in rows)
    apart = {role: sum(row.role == role for row in labelled) for role in ("validation", "test")}
    text = f"{len(labelled)} of {len(rows)} images labelled, {slices} of {every} slices"
    kept = ", ".join(f"{count} for {role}" for role, count in apart.items() if count)
    return f"{text} ({kept})." if kept else f"{text}."


def split_problem(rows: Sequence[ImageRow]) -> str:
    """What the split leaves without a label, and what to do about it, in one sentence; empty if nothing."""
    if not rows:
        return ""
    labelled = {row.role for row in rows if row.labelled}
    train, kept = (_patients(rows, role) for role in ("train", "validation"))
    if "train" not in labelled:
        if not train:
            return "No patient is for training: select one in the table of images and choose 'train' for it."
        other = ", or choose 'train' for a labelled patient in the table of images" if labelled else ""
        return (
            f"Nothing to train on is labelled yet: paint in an image that is for training ({train}){other}."
        )
    if kept and "validation" not in labelled:
        return (
            f"No slice for validation is labelled, so no round can be measured: paint in one of {kept}, or choose "
            "'validation' for another labelled patient in the table of images."
        )
    return ""


def _patients(rows: Sequence[ImageRow], role: Role) -> str:
    """Patients in a role, the first of them by name."""
    names = list(dict.fromkeys(row.group for row in rows if row.role == role))
    return ", ".join([*names[:NAMED], "..."] if len(names) > NAMED else names)
