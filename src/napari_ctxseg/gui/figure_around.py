"""What lies around a figure in a viewer: the project, the classes, files of layers and reports. No widgets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_ctxseg.gui import layers as lay
from napari_ctxseg.gui.compare_folders import PARENT
from napari_ctxseg.gui.figure_layers import offered
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


class Strokes:
    """Counts strokes in all labels layers of a viewer, whether or not the tab Train knows them."""

    _EVENTS = ("paint", "labels_update", "data")

    def __init__(self, viewer: Any) -> None:
        self.viewer, self.count = viewer, 0
        self._followed: list[Any] = []

    def look(self) -> int:
        """The count so far; layers that are new are followed from now on."""
        present = [lay.plain(layer) for layer in lay.layers_of(self.viewer, "labels")]
        for layer in present:
            if not any(layer is each for each in self._followed):
                self._connect(layer, on=True)
        for layer in self._followed:
            if not any(layer is each for each in present):
                self._connect(layer, on=False)
        self._followed = present
        return self.count

    def close(self) -> None:
        """Follow nothing any more."""
        for layer in self._followed:
            self._connect(layer, on=False)
        self._followed = []

    def _connect(self, layer: Any, *, on: bool) -> None:
        for name in self._EVENTS:
            emitter = getattr(layer.events, name)
            (emitter.connect if on else emitter.disconnect)(self._on_stroke)

    def _on_stroke(self, *_: object) -> None:
        self.count += 1


def known_files(viewer: Any) -> list[tuple[str, Path]]:
    """Files of open layers, layers without one, and reports of the project's comparisons, with titles."""
    found = [
        (f"layer {layer.name}, its file", Path(str(path)))
        for layer in map(lay.plain, viewer.layers)
        if (path := layer.metadata.get("ctxseg", {}).get("path"))
    ]
    project = project_folder(viewer)
    reports = sorted(project.glob(f"{PARENT}/*/report.*"), reverse=True) if project else []
    chosen = [path for path in reports if path.suffix in (".csv", ".json")][:MOST]
    return found + offered(viewer) + [(f"{path.parent.name}/{path.name}", path) for path in chosen]
