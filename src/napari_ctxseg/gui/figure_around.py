"""What lies around a figure in a viewer: the project, the classes, files of layers and reports. No widgets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_ctxseg.gui import layers as lay
from napari_ctxseg.gui.compare_folders import PARENT
from napari_ctxseg.gui.project_training import ProjectTraining
from napari_ctxseg.gui.train_dock import train_docks

#: Reports of comparisons that are offered.
MOST = 8


def project_folder(viewer: Any) -> Path | None:
    """Folder of the project that is open in the viewer."""
    for dock in train_docks(viewer):
        host = dock.session.host
        if isinstance(host, ProjectTraining) and host.workspace.project is not None:
            return host.workspace.project.path
    return None


def class_names(viewer: Any) -> dict[int, str]:
    """Classes by their values, as the tab Train has them."""
    docks = train_docks(viewer)
    return {row.value: row.name for row in docks[0].session.classes} if docks else {}


def strokes(viewer: Any) -> int:
    """A number that grows with every stroke in the annotation."""
    return sum(dock.session.edits for dock in train_docks(viewer))


def known_files(viewer: Any) -> list[tuple[str, Path]]:
    """Files of open layers, and reports of the project's comparisons, with titles."""
    found = [
        (f"layer {layer.name}", Path(str(path)))
        for layer in map(lay.plain, viewer.layers)
        if (path := layer.metadata.get("ctxseg", {}).get("path"))
    ]
    project = project_folder(viewer)
    reports = sorted(project.glob(f"{PARENT}/*/report.*"), reverse=True) if project else []
    chosen = [path for path in reports if path.suffix in (".csv", ".json")][:MOST]
    return found + [(f"{path.parent.name}/{path.name}", path) for path in chosen]
