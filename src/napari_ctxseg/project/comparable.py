"""What a comparison can use of a project: completely labelled images, or the labelled slices of the others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg import io
from napari_ctxseg.cases import Case
from napari_ctxseg.errors import InputError
from napari_ctxseg.project.schema import safe_name
from napari_ctxseg.project.snapshot import annotation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from napari_ctxseg.project.folder import Project

#: Between patient and image in the name of a file, where the two differ.
BETWEEN = "--"
#: Finds the patient in such a name.
PATIENT = rf"^(.+?)(?:{BETWEEN}.*)?$"
SCRIBBLES = "is annotated with scribbles, and measuring needs complete masks"


@dataclass(frozen=True)
class Comparable:
    """Cases of a comparison.

    Attributes
    ----------
    cases : list of Case
        With complete masks; named by patient and image.
    group : str or None
        Pattern that finds the patient in a name; None where every image is a patient of its own.
    cut : bool
        Whether some images are there with their labelled slices only: no distance between slices holds then.
    notes : list of str
        What is left out or cut, one sentence each.
    """

    cases: list[Case]
    group: str | None
    cut: bool
    notes: list[str]


def comparable(project: Project, *, volumes: bool) -> Comparable:
    """Images with complete masks, the patients kept for testing left out.

    Parameters
    ----------
    project : Project
    volumes : bool
        Whether a network sees whole volumes: then images that are labelled in some slices only are left out. Otherwise
        they take part with the slices along their first axis that count as labelled.

    Raises
    ------
    InputError
        If nothing can be used; the reason and what to do are named.
    """
    spec = project.spec
    if spec.policy == "scribbles":
        raise InputError(spec.name or "project", SCRIBBLES, "Choose folders with complete masks instead")
    apart = any(entry.group != entry.name for entry in spec.images)
    patients = _file_names([entry.group for entry in spec.images])
    cases, cut, out = [], [], []
    for entry in spec.images:
        labels, labelled = annotation(project, entry.name)
        if labels is None or project.role(entry.name) == "test":
            continue
        slices = complete_slices(labels.shape, labelled)
        if slices is not None and (volumes or not slices):
            out.append(entry.name)
            continue
        name = f"{patients[entry.group]}{BETWEEN}{entry.name}" if apart else entry.name
        case = Case(name, project.image(entry.name), labels, entry.group)
        if slices is not None:
            cut.append(entry.name)
            case = with_slices(case, slices)
        cases.append(case)
    if not cases:
        raise InputError(
            spec.name or "project",
            "has no completely labelled image"
            if out
            else "has no labelled image that is not kept for testing",
            "Label every slice of some images (tab Project: Shift+U marks the shown one)"
            + (", or choose a 2-D network" if volumes and out else ""),
        )
    return Comparable(cases, PATIENT if apart else None, bool(cut), _notes(cut, out, volumes=volumes))


def _file_names(groups: Sequence[str]) -> dict[str, str]:
    """Patients as they can stand in the name of a file, two of them never alike."""
    names: dict[str, str] = {}
    for group in dict.fromkeys(groups):
        names[group] = safe_name(group.replace(BETWEEN, "-"), names.values())
    return names


def complete_slices(
    shape: Sequence[int], labelled: Mapping[int, Sequence[int]] | None
) -> tuple[int, ...] | None:
    """Slices along the first axis that count as labelled; None where that is the whole image."""
    marks = {} if labelled is None else labelled
    if len(shape) == 2 or any(len(set(found)) == shape[axis] for axis, found in marks.items()):
        return None
    return tuple(sorted(set(marks.get(0, ()))))


def with_slices(case: Case, slices: Sequence[int]) -> Case:
    """An image of some slices of a volume."""
    image, chosen = case.image, list(slices)
    first = image.array.ndim - 3
    part: Any = (slice(None),) * first + (chosen,)
    assert case.labels is not None
    return replace(
        case, image=replace(image, array=image.array[part], source=None), labels=case.labels[chosen]
    )


def _notes(cut: Sequence[str], out: Sequence[str], *, volumes: bool) -> list[str]:
    notes = []
    if cut:
        notes.append(
            f"{len(cut)} of the images take part with their labelled slices only, so that distances are not measured"
        )
    if out:
        why = (
            "not labelled in every slice, as a 3-D network needs" if volumes else "labelled in no whole slice"
        )
        notes.append(f"left out, because {why}: {', '.join(out[:4])}{' ...' if len(out) > 4 else ''}")
    return notes


def write_cases(
    cases: Sequence[Case], images: Path, labels: Path, *, go_on: Callable[[], bool] = lambda: True
) -> None:
    """Write cases as files that `napari_ctxseg.dataset` pairs: one for each channel, real numbers in single precision.

    `go_on` is asked before each; when it says False, the others are not written.

    Raises
    ------
    CtxsegError
        If they cannot be written.
    """
    for folder in (images, labels):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(folder, f"cannot be made ({error.strerror})", "Choose another place") from error
    for case in cases:
        if not go_on():
            return
        like = replace(case.image, source=None)
        suffix = ".tif" if len(like.spatial_shape) == 2 else ".nii"
        assert case.labels is not None
        io.write_labels(labels / f"{case.name}{suffix}", case.labels, like)
        channels = case.image.channel_array
        for number, channel in enumerate(channels):
            name = f"{case.name}_{number:04d}" if len(channels) > 1 else case.name
            io.write_map(images / f"{name}{suffix}", np.asarray(channel, np.float32), like)
