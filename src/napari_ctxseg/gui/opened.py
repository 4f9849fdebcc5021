"""The image of a project that is open: its layers, which slices count as labelled, and what saves it. No Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg.errors import InputError
from napari_ctxseg.gui import layers as lay
from napari_ctxseg.gui.annotation import Marks
from napari_ctxseg.gui.autosave import Autosave
from napari_ctxseg.gui.timing import napari_works, timed
from napari_ctxseg.gui.verdicts import Verdicts
from napari_ctxseg.project import SliceMarks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari_ctxseg.gui.choices import Choices
    from napari_ctxseg.project import LabelStore


#: What a layer of ours says that it was made of: it goes with that image.
DERIVED = ("prediction_of", "errors_of", "uncertainty_of")


@dataclass(frozen=True)
class _Grid:
    shape: tuple[int, ...]
    look: Mapping[str, Any]


def marks_of(saved: SliceMarks) -> Marks:
    """Saved marks, to go on with."""
    marks = Marks()
    marks.planes = {axis: set(found) for axis, found in saved.labelled.items()}
    marks.cleared = set(saved.cleared)
    return marks


class Opened:
    """An image and its annotation in the viewer. Until `follow` is called nothing is saved: for reading only.

    Parameters
    ----------
    choices : Choices
        Whose marks are ours while it has chosen our labels.
    name : str
        Of the image in the project.
    images, labels
        The layers.
    marks : Marks
        Slices that count as labelled.
    verdicts : Verdicts
        What was decided in the Review.
    """

    def __init__(
        self,
        choices: Choices,
        name: str,
        images: Sequence[Any],
        labels: Any,
        marks: Marks | None = None,
        verdicts: Verdicts | None = None,
    ) -> None:
        self.choices, self.viewer, self.name = choices, choices.viewer, name
        self.images, self.labels = list(map(lay.plain, images)), lay.plain(labels)
        self.marks = marks if marks is not None else Marks()
        self.verdicts = verdicts if verdicts is not None else Verdicts(tuple(self.labels.data.shape))
        self.autosave: Autosave | None = None
        self.labels.events.paint.connect(self._on_paint)
        choices.changed.connect(self.hold_marks)

    @property
    def present(self) -> bool:
        """Whether the labels are still in the viewer."""
        return self.labels in map(lay.plain, self.viewer.layers)

    def follow(
        self,
        store: LabelStore,
        reopen: Callable[[], LabelStore],
        background: Callable[..., None],
        interval: float,
    ) -> Autosave:
        """Save the labels from now on, and whatever differs from the store already."""
        self.autosave = Autosave(
            self.labels,
            store,
            self._slice_marks,
            background,
            reopen,
            self._shown,
            interval,
        )
        self.autosave.check_all()
        return self.autosave

    def _slice_marks(self) -> SliceMarks:
        self.marks.follow(self.labels)
        return SliceMarks.of(self.marks.planes, self.marks.cleared)

    def _shown(self) -> int | None:
        grid = _Grid(tuple(self.labels.data.shape), lay.look_of(self.labels))
        index, alone = lay.shown_slice(self.viewer, grid)
        return index if alone else None

    @timed
    def _on_paint(self, event: Any) -> None:
        """Marks of strokes that the choices do not follow, because other labels are chosen or their dock is closed."""
        if self.choices.labels is not self.labels and self.labels.ndim > 2:
            self.marks.stroke(event.value, lay.hidden_axis(self.viewer, self.labels.ndim))

    def hold_marks(self) -> None:
        """The choices begin with empty marks when a layer is chosen; ours come back with our layer."""
        if self.choices.labels is self.labels:
            self.choices.marks, self.choices.verdicts = self.marks, self.verdicts

    def toggle_mark(self) -> str:
        """Count the shown slice as fully labelled, or no longer; says what was done.

        Raises
        ------
        InputError
            If marks mean nothing here.
        """
        if self.autosave is None:
            raise InputError("slice", "cannot be marked: the project is open for reading only")
        if self.choices.policy == "scribbles":
            raise InputError(
                "slice", "is not marked in a project of scribbles", "Paint the background instead"
            )
        labels, axis, index = self.labels, 0, 0
        if labels.ndim > 2:
            axis = lay.hidden_axis(self.viewer, labels.ndim)
            point = labels.world_to_data(self.viewer.dims.point)[axis]
            index = int(np.clip(round(float(point)), 0, labels.data.shape[axis] - 1))
        what = f"Slice {index}" if labels.ndim > 2 else "The image"
        self.choices.edits += 1
        if self.marks.has(axis, index):
            self.marks.decide(axis, index, labelled=False)
            return f"{what} no longer counts as labelled."
        self.marks.decide(axis, index, labelled=True)
        return f"{what} counts as fully labelled: what is unpainted in it is background."

    def close(self, seconds: float) -> bool:
        """Save what is left, waiting for this long at most, and let go of the layers."""
        saved = self.autosave is None or self.autosave.close(seconds)
        self.labels.events.paint.disconnect(self._on_paint)
        self.choices.changed.disconnect(self.hold_marks)
        self.verdicts.file = None  # whoever saves them from now on says where
        return saved

    def remove_layers(self) -> None:
        """Take image, annotation, predictions and what belongs to them out of the viewer."""
        of = {layer.name for layer in self.images} | {self.name}
        # Removing a selected layer swaps the layer controls, and that draws the canvas in the middle of the removal:
        # software OpenGL has crashed there.
        with napari_works("select no layer"):
            self.viewer.layers.selection.clear()
        for layer in list(map(lay.plain, self.viewer.layers)):
            known = layer.metadata.get("ctxseg", {})
            ours = layer in self.images or layer is self.labels
            if ours or any(known.get(each) in of for each in DERIVED):
                with napari_works("remove a layer"):
                    self.viewer.layers.remove(layer)
        self.choices.forget_missing_layers()
