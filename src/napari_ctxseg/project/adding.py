"""Images and labels put into a project: from files, from arrays, and checked before anything is listed."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_ctxseg import io
from napari_ctxseg.errors import InputError
from napari_ctxseg.project import roots, sources
from napari_ctxseg.project.leftovers import remove_unlisted, set_aside
from napari_ctxseg.project.marks import SliceMarks
from napari_ctxseg.project.schema import ImageEntry, Role, safe_name
from napari_ctxseg.project.split import with_groups

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_ctxseg.image import Image
    from napari_ctxseg.project.folder import Project
    from napari_ctxseg.project.store import LabelStore


@dataclass(frozen=True)
class NewImage:
    """An image to add: files (one, or one for each channel), and perhaps name, patient, label file, and role."""

    files: tuple[Path, ...]
    name: str | None = None
    group: str | None = None
    labels: Path | None = None
    fourth: Literal["channel"] | None = None
    role: Role | None = None
    #: Values of the label file -> values of the project; others stay as they are.
    values: Mapping[int, int] = field(default_factory=dict)
    #: Every value above 0 of the label file becomes 1.
    foreground: bool = False


def add_images(
    project: Project,
    images: Sequence[NewImage],
    *,
    copy: bool | None = None,
    root: tuple[str, Path] | None = None,
    show: Callable[[float], None] = lambda done: None,
    tell: Callable[[str], None] = lambda text: None,
) -> list[ImageEntry]:
    """Add images and their labels. All are read once, so that a damaged one is refused now.

    Parameters
    ----------
    images : sequence of NewImage
        What to add. Without a name they are called like their file, without a patient like themselves.
    copy : bool, optional
        Copy the files into the project, or refer to them; left out: copy below 2 GB.
    root : (str, Path), optional
        Name and folder that references are relative to; left out: a known one that holds them all, or their common
        folder.
    show : callable
        Told how many are done.
    tell : callable
        Told what a person should know, a sentence each: label values that are no class.

    Raises
    ------
    CtxsegError
        If a file cannot be read, labels do not fit their image, or there is no room. Nothing is added then.
    """
    project.check_writable()
    every = [path for image in images for path in image.files]
    if copy is None:
        copy = sources.size_of(every) < sources.LARGE
    at = None if copy else _root_for(project, every, root)
    made: list[ImageEntry] = []
    roles: dict[str, Role] = {}
    names: list[str] = []
    try:
        for number, new in enumerate(images):
            names.append(_free_name(project, new, names))
            set_aside(project.path, names[-1])
            entry = _entry(project, new, names[-1], at)
            if new.labels is not None:
                _import_file(project, entry, new, tell)
            if new.role is not None:
                roles[entry.group] = new.role
            made.append(entry)
            show(number + 1)
        _add(project, made, roles)
    except BaseException:
        remove_unlisted(project.path, [name for name in names if name not in project.names])
        raise
    if at is not None:
        project.roots[at[0]] = at[1]
        roots.remember(project.spec.id, project.roots)
    return made


def add_array(project: Project, image: Image, name: str, group: str | None = None) -> ImageEntry:
    """Add an image that has no file, such as a layer's data; it is written into the project without loss.

    Raises
    ------
    CtxsegError
        If it cannot be written.
    """
    project.check_writable()
    own = safe_name(name, project.names)
    set_aside(project.path, own)
    files, place = sources.stored_array(project.path, own, image)
    shape, axes = image.spatial_shape, image.spatial_axes
    entry = ImageEntry(name=own, group=group or own, files=tuple(files), shape=shape, axes=axes, place=place)
    _add(project, [entry], {})
    return entry


def import_labels(project: Project, name: str, labels: NDArray[Any], *, complete: bool = True) -> None:
    """Take labels from elsewhere into the store; what was there becomes a generation.

    Parameters
    ----------
    name : str
        Of the image.
    labels : ndarray of int
        Its spatial shape, values as in the project.
    complete : bool
        Under the policy *masks*: whether 0 in them means background, so that every slice counts as labelled.

    Raises
    ------
    CtxsegError
        If they do not fit, or cannot be written.
    """
    project.check_writable()
    _take_over(project.labels(name), labels, complete and project.spec.policy == "masks")


def _take_over(store: LabelStore, labels: NDArray[Any], complete: bool) -> None:
    count = store.shape[0] if len(store.shape) > 2 else 1
    if store.written:
        store.checkpoint("before labels were taken over")
    store.save(labels, range(len(store.grid)), SliceMarks.of({0: range(count)}) if complete else None)


def _import_file(project: Project, entry: ImageEntry, new: NewImage, tell: Callable[[str], None]) -> None:
    """Labels of an image that is not on the list yet: a kill before it is leaves files that nothing refers to."""
    assert new.labels is not None
    found = io.read_labels(new.labels)
    if found.spatial_shape != entry.shape:
        raise InputError(
            new.labels, f"has the shape {found.spatial_shape}, but the image {entry.name} has {entry.shape}",
            "Use labels drawn on this image",
        )  # fmt: skip
    values = (found.array > 0).astype(np.uint8) if new.foreground else found.array
    values = _mapped(values, new.values) if new.values else values
    spec = project.spec
    known = {
        0,
        spec.background,
        *(c.value for c in spec.classes),
        *(v for r in spec.regions.values() for v in r),
    }
    if strange := sorted(set(np.unique(values).tolist()) - known):
        shown = ", ".join(map(str, strange[:8])) + (" ..." if len(strange) > 8 else "")
        tell(f"{entry.name}: no class has the label value {shown}; pixels with it count as background")
    _take_over(project.labels_of(entry), values, spec.policy == "masks")


def _free_name(project: Project, new: NewImage, others: Sequence[str]) -> str:
    taken = [*project.names, *others]
    if new.name is not None and new.name.casefold() in {t.casefold() for t in taken}:
        raise InputError(new.name, "is the name of an image of this project already", "Choose another name")
    return safe_name(new.name or io.stem_of(new.files[0]), taken)


def _entry(project: Project, new: NewImage, name: str, at: tuple[str, Path] | None) -> ImageEntry:
    image = sources.read_image(new.files, name, new.fourth)
    beside = sources.companions(new.files)
    every = [*new.files, *beside]
    refs = sources.copied(project.path, name, every) if at is None else sources.referred(every, *at)
    count = len(new.files)
    return ImageEntry(
        name=name, group=new.group or name, files=tuple(refs[:count]), beside=tuple(refs[count:]),
        shape=image.spatial_shape, axes=image.spatial_axes, fourth=new.fourth,
    )  # fmt: skip


def _add(project: Project, made: Sequence[ImageEntry], roles: Mapping[str, Role]) -> None:
    images = [*project.spec.images, *made]
    split = project.spec.split
    split = split.model_copy(update={"groups": {**split.groups, **roles}})
    split = with_groups(split, [image.group for image in images])
    project.update(images=[image.model_dump() for image in images], split=split.model_dump())


def _root_for(project: Project, files: Sequence[Path], root: tuple[str, Path] | None) -> tuple[str, Path]:
    if root is not None:
        return root
    for name, folder in project.roots.items():
        if all(path.absolute().is_relative_to(folder.absolute()) for path in files):
            return name, folder
    common = Path(os.path.commonpath([str(path.absolute().parent) for path in files]))
    return safe_name(common.name or "root", project.roots), common


def _mapped(values: NDArray[Any], mapping: Mapping[int, int]) -> NDArray[Any]:
    """Values exchanged all at once, in a type that holds the new ones."""
    result = values.astype(np.int64)
    for old, new in mapping.items():
        result[values == old] = new
    return result
