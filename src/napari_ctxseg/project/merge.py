"""Two copies of a project made one again: a union of files, and of labels the newer slices."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from napari_ctxseg.atomic import file_error, write_bytes_atomic
from napari_ctxseg.errors import FileError, InputError
from napari_ctxseg.project.leftovers import set_aside
from napari_ctxseg.project.marks import SliceMarks
from napari_ctxseg.project.places import LABELS
from napari_ctxseg.project.predictions import PREDICTIONS, find_predictions
from napari_ctxseg.project.rounds import ROUNDS, load_rounds
from napari_ctxseg.project.runs import RUNS, all_runs
from napari_ctxseg.project.verdicts import merge_verdicts, verdicts_of

if TYPE_CHECKING:
    from pathlib import Path

    from napari_ctxseg.project.folder import Project
    from napari_ctxseg.project.schema import ImageEntry, ProjectSpec
    from napari_ctxseg.project.store import LabelStore


#: Label of the generation that holds the other copy's state.
OTHER = "the other copy"


def merge(into: Project, other: Project) -> list[str]:
    """Bring what another copy of a project has into this one. The other copy is only read.

    Images, rounds, runs and predictions that this copy lacks are copied. Of a slice that differs the one written last
    wins; both states stay as generations ("before merging", "the other copy"), so that nothing is lost. The clocks of the
    two machines should agree roughly.

    Parameters
    ----------
    into : Project
        Open for writing.
    other : Project
        Another copy of it.

    Returns
    -------
    list of str
        What was done, one sentence each.

    Raises
    ------
    InputError
        If they are not copies of one project, or disagree about a class, the policy, or an image's content. Nothing is
        changed.
    FileError
        If something cannot be written; what was merged until then stays, and merging again goes on.
    """
    into.check_writable()
    new = _compared(into.spec, other.spec)
    notes = [f"image {entry.name}: added" for entry in new]
    for entry in new:
        set_aside(into.path, entry.name)
        source = other.path / "images" / entry.name
        if source.is_dir():
            _copy(source, into.path / "images" / entry.name)
    merged, disagreed = _merged_spec(into.spec, other.spec, new)
    if merged != into.spec:
        into.update(**{name: getattr(merged, name) for name in ("classes", "images", "split")})
    notes += disagreed
    for entry in into.spec.images:
        if entry.name in other.names and other.has_labels(entry.name):
            notes += _merge_labels(into, other, entry)
            notes += _merge_verdicts(into, other, entry.name)
    return notes + _merge_files(into.path, other.path)


def _compared(mine: ProjectSpec, theirs: ProjectSpec) -> list[ImageEntry]:
    """Images that only the other copy has; complains about whatever cannot be united."""
    if mine.id != theirs.id:
        raise InputError(
            theirs.name or "the other folder",
            "is another project, not a copy of this one",
            "Nothing was changed",
        )
    for what in ("policy", "background", "regions"):
        if getattr(mine, what) != getattr(theirs, what):
            raise InputError(
                what,
                f"is {getattr(mine, what)} here and {getattr(theirs, what)} there",
                "Make them equal first",
            )
    values = {c.name: c.value for c in mine.classes}
    names = {c.value: c.name for c in mine.classes}
    for each in theirs.classes:
        if values.get(each.name, each.value) != each.value or names.get(each.value, each.name) != each.name:
            raise InputError(
                f"class {each.name}",
                f"with the value {each.value} clashes with this copy's classes {values}",
                "Rename one",
            )
    known = {image.name.casefold(): image for image in mine.images}
    new = []
    for image in theirs.images:
        own = known.get(image.name.casefold())
        if own is None:
            new.append(image)
        elif own.sha256 != image.sha256 or own.shape != image.shape:
            raise InputError(
                image.name,
                "is the name of two different images in the two copies",
                "Rename one; nothing was changed",
            )
    return new


def _merged_spec(
    mine: ProjectSpec, theirs: ProjectSpec, new: list[ImageEntry]
) -> tuple[ProjectSpec, list[str]]:
    known = {c.name for c in mine.classes}
    groups = {**theirs.split.groups, **mine.split.groups}
    notes = [
        f"patient {group}: {mine.split.groups[group]} here, {role} there; stays {mine.split.groups[group]}"
        for group, role in theirs.split.groups.items()
        if mine.split.groups.get(group, role) != role
    ]
    here = {image.name: image.group for image in mine.images}
    notes += [
        f"image {image.name}: patient {here[image.name]} here, {image.group} there; stays {here[image.name]}"
        for image in theirs.images
        if here.get(image.name, image.group) != image.group
    ]
    merged = mine.updated(
        classes=[
            c.model_dump() for c in (*mine.classes, *(c for c in theirs.classes if c.name not in known))
        ],
        images=[image.model_dump() for image in (*mine.images, *new)],
        split={**mine.split.model_dump(), "groups": groups},
    )
    return merged, notes


# ---------------------------------------------------------------- labels


def _merge_labels(into: Project, other: Project, entry: ImageEntry) -> list[str]:
    if not into.has_labels(entry.name):
        for name in (f"{entry.name}.history", f"{entry.name}.zarr"):
            if (other.path / LABELS / name).is_dir():
                _copy(other.path / LABELS / name, into.path / LABELS / name)
        return [f"{entry.name}: labels taken over"]
    mine, theirs = into.labels(entry.name), other.labels(entry.name)
    indices = sorted({*mine.written, *theirs.written})
    differ = [i for i in indices if (mine.read_chunk(i) != theirs.read_chunk(i)).any()]
    marks = _merged_marks(mine, theirs)
    if not differ:
        if marks != mine.marks:
            count = len(marks.differing(mine.marks))
            mine.save(_View(mine), [], marks)
            return [f"{entry.name}: marks of {count} slices taken over"]
        return []
    lost = [i for i in differ if mine.stamp(i) >= theirs.stamp(i)]
    if lost == differ and _kept_already(mine, theirs, differ):
        return []
    before = mine.checkpoint("before merging")
    mine.save(_View(theirs), differ)
    mine.checkpoint(OTHER)
    mine.save(_View(mine, before.number), lost, marks)
    taken = len(differ) - len(lost)
    return [
        f"{entry.name}: {taken} newer slices taken over, {len(lost)} kept; the other copy's are a generation"
    ]


def _merge_verdicts(into: Project, other: Project, name: str) -> list[str]:
    here, there = (verdicts_of(project.labels_path(name)) for project in (into, other))
    try:
        added = merge_verdicts(here, there, into.labels(name).shape)
    except FileError as error:
        return [f"{name}: what was decided in the Review is not merged: {error}"]
    return [f"{name}: {added} pieces decided in the Review taken over"] if added else []


def _kept_already(mine: LabelStore, theirs: LabelStore, indices: list[int]) -> bool:
    """Whether an earlier merge has kept these slices of the other copy."""
    return any(
        all((mine.read_generation(g.number, i) == theirs.read_chunk(i)).all() for i in indices)
        for g in mine.generations()
        if g.label == OTHER
    )


class _View:
    """Labels read chunk by chunk, so that no more than one is in memory."""

    def __init__(self, store: LabelStore, generation: int | None = None) -> None:
        self.store, self.generation, self.shape = store, generation, store.shape

    def __getitem__(self, box: tuple[slice, ...]) -> object:
        (index,) = self.store.chunks_in(box)
        if self.generation is None:
            return self.store.read_chunk(index)
        return self.store.read_generation(self.generation, index)


def _merged_marks(mine: LabelStore, theirs: LabelStore) -> SliceMarks:
    """Along the first axis the marks of whoever wrote the slice last; along the others those of both."""
    ours, others = mine.marks, theirs.marks
    planes: dict[int, set[int]] = {}
    cleared: set[tuple[int, int]] = set()
    for axis in range(3):
        both = {*ours.labelled.get(axis, ()), *others.labelled.get(axis, ())}
        both |= {index for each, index in (*ours.cleared, *others.cleared) if each == axis}
        for index in both:
            newer = others if axis == 0 and _written(theirs, index) > _written(mine, index) else ours
            if index in newer.labelled.get(axis, ()) or (axis > 0 and index in others.labelled.get(axis, ())):
                planes.setdefault(axis, set()).add(index)
            elif (axis, index) in newer.cleared:
                cleared.add((axis, index))
            elif index in others.labelled.get(axis, ()) or index in ours.labelled.get(axis, ()):
                planes.setdefault(axis, set()).add(index)
    return SliceMarks.of(planes, cleared)


def _written(store: LabelStore, index: int) -> float:
    """When a slice was last written or marked; the mark of a 2-D image is that of all of its tiles."""
    chunks = [index] if len(store.shape) > 2 else range(len(store.grid))
    return max(store.marked_at(index), *(store.stamp(chunk) for chunk in chunks))


# ---------------------------------------------------------------- files


def _merge_files(into: Path, other: Path) -> list[str]:
    notes = []
    rounds, damaged = load_rounds(other)
    notes += damaged
    for each in rounds:
        target = into / ROUNDS / f"{each.id}.json"
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            write_bytes_atomic(target, (other / ROUNDS / target.name).read_bytes())
            notes.append(f"round {each.id}: added")
    for run in all_runs(other):
        if not (into / RUNS / run.name).exists():
            _copy(run.path, into / RUNS / run.name)
            notes.append(f"run {run.name}: added")
        have = find_predictions(into, run.name)
        for image, prediction in find_predictions(other, run.name).items():
            if image not in have:
                _copy(prediction.path, into / PREDICTIONS / run.name / prediction.path.name)
    return notes


def _copy(source: Path, target: Path) -> None:
    """A folder copied under another name first, so that a kill leaves all of it or nothing."""
    temp = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temp, ignore_errors=True)
        shutil.copytree(source, temp, ignore=shutil.ignore_patterns(".ctxseg-*", ".lock"))
        if target.exists():  # left by an image that was taken off the list
            shutil.rmtree(target)
        os.rename(temp, target)
    except (OSError, shutil.Error) as error:
        shutil.rmtree(temp, ignore_errors=True)
        raise file_error(target, error if isinstance(error, OSError) else OSError(str(error))) from error
