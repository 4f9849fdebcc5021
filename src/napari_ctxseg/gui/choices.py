"""What the person has chosen in one viewer, and whether it can be trained on. No Qt here.

Layers are held as objects, never by name: they may be renamed, edited or deleted at any time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from psygnal import Signal

from napari_ctxseg.cases import Case, class_indices
from napari_ctxseg.config import BudgetConfig, RunConfig, UNetConfig
from napari_ctxseg.config.combinations import Facts, refusals
from napari_ctxseg.errors import InputError
from napari_ctxseg.gui import layers as lay
from napari_ctxseg.gui.annotation import Census, Marks, unexplained_slices
from napari_ctxseg.gui.timing import timed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_ctxseg.config import DataConfig
    from napari_ctxseg.gui.verdicts import Verdicts

#: More unknown values than this are instance ids, not classes.
MOST_FRESH = 20

Policy = Literal["masks", "scribbles"]


@dataclass(frozen=True)
class ClassRow:
    """A class as the person knows it: name, painted value, colour (None: as the labels layer shows it)."""

    name: str
    value: int
    color: str | None = None


class Choices:
    """Layers, classes, policy and configuration of the next run.

    Parameters
    ----------
    viewer : napari.viewer.Viewer or napari.components.ViewerModel
        Where the layers are.
    """

    changed = Signal()

    def __init__(self, viewer: Any) -> None:
        self.viewer = viewer
        self.images: list[Any] = []
        self.labels: Any = None
        self.policy: Policy = "masks"
        self.background_value = 2
        self.classes: list[ClassRow] = [ClassRow("class 1", 1)]
        self.config = RunConfig(network=UNetConfig(), budget=BudgetConfig(minutes=5))
        self.form_problem = ""
        self.marks = Marks()
        self.verdicts: Verdicts | None = None  # of a project's image; None: the Review keeps its own
        self._dismissed: set[int] = set()
        self.census: Census | None = None
        self.edits = 0  # grows with every stroke, and with another array
        # id of an image layer, and a region's name or nothing -> (the layer, its prediction)
        self._predictions: dict[tuple[int, str], tuple[Any, Any]] = {}

    def choose(self, images: Sequence[Any], labels: Any) -> None:
        """Use these image layers as channels and this labels layer as annotation."""
        self.images = [lay.plain(layer) for layer in images]
        labels = lay.plain(labels) if labels is not None else None
        if labels is not self.labels:
            self._watch(labels)
        self.changed.emit()

    def _watch(self, labels: Any) -> None:
        if self.labels is not None:
            self.labels.events.paint.disconnect(self._on_paint)
            self.labels.events.data.disconnect(self._on_data)
            self.labels.events.set_data.disconnect(self._on_shown)
        self.labels, self.marks, self.census = labels, Marks(), None
        self.verdicts = None
        if labels is not None:
            labels.events.paint.connect(self._on_paint)
            labels.events.data.connect(self._on_data)
            labels.events.set_data.connect(self._on_shown)
            self._on_data()

    @timed
    def _on_data(self, event: Any = None) -> None:
        """The layer got another array: count anew. Marks of slices stay."""
        self.edits += 1
        self.census = None if self.labels.multiscale else Census(self.labels.data)

    @timed
    def _on_shown(self, event: Any) -> None:
        """Redrawn, perhaps because something was undone."""
        self.marks.follow(self.labels)

    @timed
    def _on_paint(self, event: Any) -> None:
        self.edits += 1
        if self.census is not None:
            self.census.touch(event.value)
        if self.labels.ndim > 2:
            self.marks.stroke(event.value, lay.hidden_axis(self.viewer, self.labels.ndim))

    def forget_missing_layers(self) -> None:
        """Drop choices that were deleted from the viewer."""
        present = list(map(lay.plain, self.viewer.layers))
        images = [layer for layer in self.images if layer in present]
        labels = self.labels if self.labels in present else None
        if images != self.images or labels is not self.labels:
            self.choose(images, labels)

    def new_labels(self) -> Any:
        """Add an empty labels layer on the chosen image's grid and choose it."""
        shot = lay.snapshot(self.images)
        values = [row.value for row in self.classes] + [self.background_value]
        layer = lay.add_labels(self.viewer, shot, f"{shot.name} labels", lay.dtype_for(values))
        layer.selected_label = self.classes[0].value if self.classes else 1
        self.viewer.layers.selection.active = layer
        self.choose(self.images, layer)
        self.recolor()
        return layer

    def set_classes(self, rows: Sequence[ClassRow]) -> None:
        """Take over an edited class table and show its colours."""
        gone = {row.value for row in self.classes} - {row.value for row in rows}
        self._dismissed |= gone  # what the person removes does not come back by itself
        self.classes = list(rows)
        self.recolor()
        self.changed.emit()

    def colors(self) -> dict[int, Any]:
        """Colour of every class value, and of the painted background."""
        found: dict[int, Any] = {}
        for index, row in enumerate(self.classes):
            found[row.value] = row.color or lay.PALETTE[index % len(lay.PALETTE)]
        if self.policy == "scribbles":
            found.setdefault(self.background_value, "#4d4d4d")
        return found

    def recolor(self) -> None:
        """Give the chosen labels and our predictions the class colours."""
        colors = self.colors()
        targets = [layer for (_, region), (_, layer) in self._predictions.items() if not region]
        for layer in [*targets, *([self.labels] if self.labels is not None else [])]:
            layer.colormap = lay.class_colormap(colors)

    def adopt_painted_classes(self) -> bool:
        """Add painted values that the table does not have; True if there were any."""
        if self.census is None or not self.census.complete:
            return False
        known = {row.value for row in self.classes}
        if self.policy == "scribbles":
            known.add(self.background_value)
        fresh = sorted(self.census.values - known - self._dismissed)
        if not fresh or len(fresh) > MOST_FRESH:
            return False
        unused = len(self.classes) == 1 and self.classes[0] == ClassRow("class 1", 1)
        keep = [] if unused and 1 not in self.census.values else self.classes
        self.classes = [*keep, *(ClassRow(f"class {value}", value) for value in fresh)]
        self.recolor()
        self.changed.emit()
        return True

    # ------------------------------------------------------------ checks

    def data_problem(self) -> str:
        """Why the chosen layers and settings cannot be trained on, in plain words; empty if they can."""
        return self.layers_problem() or self._model_problem()

    def layers_problem(self) -> str:
        """Why the chosen layers, classes or paint do not do; empty if they do."""
        return lay.image_problem(self.images) or self._labels_problem()

    def _labels_problem(self) -> str:
        return self._settings_problem() or self._paint_problem()

    def _settings_problem(self) -> str:
        """Why labels and classes do not do, whatever is painted."""
        if problem := lay.labels_problem(self.images, self.labels):
            return problem
        if not self.classes:
            return "Add a class."
        values = [row.value for row in self.classes]
        if len(set(values)) < len(values):
            return f"Two classes have the same value ({max(values, key=values.count)})."
        if self.policy == "scribbles" and self.background_value in values:
            return f"The background value {self.background_value} is also a class: choose another."
        census, known = self.census, {*values, self.background_value}
        if census is not None and len(census.values - known - self._dismissed) > MOST_FRESH:
            return (
                f"'{self.labels.name}' holds {len(census.values)} different values, which looks like instance ids: "
                "make one value per class of them first."
            )
        return ""

    def _paint_problem(self) -> str:
        """Why what is painted does not do."""
        census, scribbles = self.census, self.policy == "scribbles"
        if census is None:
            return ""
        found, values = census.values, [row.value for row in self.classes]
        if not found:
            return (
                f"Paint in '{self.labels.name}' first."
                if census.complete
                else f"Looking at '{self.labels.name}' ..."
            )
        if scribbles and len(found & {*values, self.background_value}) < 2:
            return f"Paint at least two kinds: a class, and background (value {self.background_value})."
        return ""

    def _model_problem(self) -> str:
        if self.form_problem:
            return self.form_problem
        facts = self.facts()
        refused = refusals(self.config, facts) if facts is not None else []
        return str(refused[0]) if refused else ""

    def facts(self) -> Facts | None:
        """What is known of the data; None without a usable image. The layers of one image are one patient."""
        if lay.image_problem(self.images):
            return None
        first = self.images[0]
        channels = 3 if first.rgb else len(self.images)
        return Facts(lay.spatial_shape(first), channels, max(1, len(self.classes)))

    def run_config(self, init: str | None = None) -> RunConfig:
        """The configuration of the next run, as `ctxseg train` takes it too.

        Parameters
        ----------
        init : str, optional
            Folder of an earlier run to go on from.
        """
        scribbles = self.policy == "scribbles"
        data = {
            "images": [layer.name for layer in self.images],
            "labels": [self.labels.name],
            "classes": {row.name: row.value for row in self.classes},
            "annotation": self.policy,
            "background": self.background_value if scribbles else None,
        }
        return self.config.updated(data=data, init=init)


def open_case(
    shot: lay.Snapshot, labels: NDArray[Any], marks: Marks, config: RunConfig, group: str = ""
) -> Case:
    """The image in sight with its labels, as training takes it. Slow for large or lazy arrays."""
    labelled = None
    if config.data.annotation == "masks" and labels.ndim == 3:
        labelled = marks.counted(unexplained_slices(labels, marks.planes))
    elif config.data.annotation == "masks" and marks.has(0, 0):
        labelled = {0: (0,)}
    return Case(shot.name, shot.image(), labels, group or shot.name, labelled)


def check_labels(cases: Sequence[Case], data: DataConfig) -> None:
    """Refuse labels that cannot teach anything, before anything is written.

    Raises
    ------
    InputError
        If nothing, or only one kind of pixel, is labelled.
    """
    kinds: set[int] = set()
    for case in cases:
        indices = class_indices(case, data.classes, data)
        found = np.flatnonzero(np.bincount((indices + 1).ravel().astype(np.intp), minlength=1))
        kinds |= set(map(int, found)) - {0}
        if len(kinds) > 1 and kinds - {1}:
            return
    name = cases[0].name if len(cases) == 1 else "the labelled images"
    if not kinds - {1}:
        raise InputError(
            name, "no pixel of a class is painted", "Paint one, or check the values in the class table"
        )
    only = list(data.classes)[min(kinds) - 2]
    raise InputError(
        name,
        f"every labelled pixel is '{only}'",
        "Paint background too"
        if data.annotation == "scribbles"
        else "Leave background unpainted in some slice",
    )


def with_budget(config: RunConfig, amount: float, kind: str) -> RunConfig:
    """A configuration with another budget, in ``"minutes"`` or ``"steps"``."""
    value: float = int(amount) if kind == "steps" else amount
    return config.updated(budget={kind: value})


def renamed(rows: Sequence[ClassRow], index: int, **changes: Any) -> list[ClassRow]:
    """A class table with one row changed."""
    return [replace(row, **changes) if i == index else row for i, row in enumerate(rows)]
