"""What is trained on: images and labels as they are at one moment, which later strokes do not change."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from napari_ctxseg.cases import Case

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from napari_ctxseg.project.folder import Project
    from napari_ctxseg.project.schema import Role


def cases_of(project: Project, roles: Sequence[Role], *, every: bool) -> list[Case]:
    """See `napari_ctxseg.project.Project.cases`."""
    found = []
    for entry in project.spec.images:
        if project.role(entry.name) not in roles:
            continue
        labels, labelled = annotation(project, entry.name)
        if labels is not None or every:
            found.append(Case(entry.name, project.image(entry.name), labels, entry.group, labelled))
    return found


def annotation(project: Project, name: str) -> tuple[NDArray[Any] | None, Mapping[int, Sequence[int]] | None]:
    """Labels of an image and the slices that count as labelled; nothing where nothing is labelled."""
    if not project.has_labels(name):
        return None, None
    store = project.labels(name)
    if project.spec.policy == "scribbles":
        labels = store.read() if store.written else None
        return (labels, None) if labels is not None and labels.any() else (None, None)
    labelled = store.counted()
    return (store.read(), labelled) if labelled else (None, None)


def fingerprint(project: Project, role: Role) -> str:
    """SHA-256 over names, labels and marks of the images in a role: equal exactly when scores on them compare."""
    digest = hashlib.sha256()
    for entry in sorted(project.spec.images, key=lambda entry: entry.name):
        if project.role(entry.name) != role:
            continue
        labels, labelled = annotation(project, entry.name)
        if labels is not None:
            marks = sorted((axis, tuple(found)) for axis, found in (labelled or {}).items())
            digest.update(repr((entry.name, entry.sha256, marks)).encode())
            digest.update(labels.astype("<u4").tobytes())
    return digest.hexdigest()
