"""What is suspicious in one viewer, kept up to date. No Qt.

Pieces are found slice by slice, off the GUI thread: the slice in sight first, after a stroke only the slices it touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_ctxseg.errors import CtxsegError
from napari_ctxseg.evaluation.suspects import Limits
from napari_ctxseg.gui import layers as lay
from napari_ctxseg.gui.annotation import touched
from napari_ctxseg.gui.review_data import Examined, Material, Row, grid_of, image_of
from napari_ctxseg.gui.review_edit import Edits
from napari_ctxseg.gui.review_layers import ReviewLayers
from napari_ctxseg.gui.timing import timed
from napari_ctxseg.gui.verdicts import Verdicts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from napari_ctxseg.gui.predictions import Predictions

#: Slices that are looked at in one go off the GUI thread; then what was found is shown.
BATCH = 16
#: Rows of the table.
MOST_ROWS = 500
#: Share of a piece's pixels that must have been decided on before for it not to be asked again.
SAME = 0.5

Marked = tuple[dict[int, frozenset[int]], frozenset[tuple[int, int]]]


class Findings:
    """Suspicious pieces of one prediction.

    Parameters
    ----------
    viewer : napari.viewer.Viewer or napari.components.ViewerModel
        Where the layers are.
    choices : Predictions
        Annotation, classes, policy, and the prediction.
    background : callable
        Runs a function off the GUI thread, then one of two callbacks on it.
    """

    changed = Signal()

    def __init__(self, viewer: Any, choices: Predictions, background: Callable[..., None]) -> None:
        self.viewer, self.choices, self._background = viewer, choices, background
        self.layers = ReviewLayers(viewer)
        self.limits = Limits()
        self.status = ""
        self.closed = False
        self.edits = Edits(choices)
        self._kept: list[Edits] = []  # of layers looked at before, whose steps can still be undone
        self._decided: dict[Any, Verdicts] = {}
        self._heard: Any = None
        self._chosen: Any = None  # a prediction layer that is not of our own making
        self._round = 0
        self._start_over()
        choices.predicted.connect(self._on_predicted)
        self._watch()

    def _start_over(self) -> None:
        """Forget what was found; what is under way belongs to other layers. Verdicts are remembered for each image."""
        self._round += 1
        self.rows: list[Row] = []
        self.current: Row | None = None
        self._place = 0
        self._found: dict[int, Examined] = {}
        self._settled = self._verdicts()
        self._dirty: set[int] = set()
        self._busy = self._ranked = False
        self._marks: Marked | None = None

    def _verdicts(self) -> Verdicts:
        """What was decided: the project's of its open image, else our own of each image, for the session."""
        if self.choices.verdicts is not None and self._chosen is None:
            return self.choices.verdicts
        layer = self.prediction
        key = None if layer is None else (image_of(layer), tuple(layer.data.shape))
        return self._decided.setdefault(key, Verdicts())

    def follow(self, choices: Predictions, prediction: Any = None) -> None:
        """Look at the annotation of these choices, and at their prediction or another labels layer."""
        self.choices.predicted.disconnect(self._on_predicted)
        self.choices, self._chosen = choices, lay.plain(prediction) if prediction is not None else None
        choices.predicted.connect(self._on_predicted)
        self._watch()

    def _watch(self) -> None:
        """Take up other layers than before."""
        self._start_over()
        self.layers.clear()
        self._kept = [each for each in self._kept if each.layer in map(lay.plain, self.viewer.layers)]
        same = (e for e in self._kept if e.layer is self.choices.labels and e.choices is self.choices)
        self.edits = next(same, None) or Edits(self.choices)
        if self.edits.layer is not None and self.edits not in self._kept:
            self._kept.append(self.edits)
        self._prediction, self._shown_key = self.prediction, self._key()
        self._listen(self.edits.layer)
        self._all_dirty()
        self.changed.emit()

    def _listen(self, layer: Any) -> None:
        """Listen to a labels layer, or to none."""
        slots = {"paint": self._on_paint, "data": self._on_data, "set_data": self._on_shown}
        for name, slot in slots.items():
            if self._heard is not None:
                getattr(self._heard.events, name).disconnect(slot)
            if layer is not None:
                getattr(layer.events, name).connect(slot)
        self._heard = layer

    @property
    def prediction(self) -> Any:
        """The labels layer that is looked through, or None."""
        if self._chosen is not None:
            return self._chosen if self._chosen in map(lay.plain, self.viewer.layers) else None
        return self.choices.prediction

    @property
    def problem(self) -> str:
        """Why there is nothing to look through, in words for the person; empty if there is."""
        layer, labels = self.prediction, self.choices.labels
        if layer is None:
            return "Predict first: there is nothing to look through yet. Overlapping regions cannot be."
        if labels is not None and labels.multiscale:
            return f"'{labels.name}' is a pyramid, which napari cannot edit."
        if labels is not None and tuple(labels.data.shape) != tuple(layer.data.shape):
            return f"'{labels.name}' and '{layer.name}' have different shapes."
        return ""

    def _material(self) -> Material:
        choices, layer = self.choices, self.prediction
        image = choices.images[0] if choices.images else None
        unsure = choices.uncertain.get(image) if image is not None and self._chosen is None else None
        labels = choices.labels
        return Material(
            layer.data,
            None if labels is None else labels.data,
            None if unsure is None or unsure.data.shape != layer.data.shape else unsure.data,
            choices.refined if self._chosen is None else None,
            choices.policy,
            choices.background_value,
            choices.marks.copy(),
        )

    def _key(self) -> tuple[Any, ...]:
        """What all slices depend on, beside pixels."""
        choices, refined = self.choices, self.choices.refined
        return (
            choices.policy,
            choices.background_value,
            self.limits,
            None if refined is None or refined.busy else refined.thresholds,
        )

    @property
    def shown(self) -> int:
        """The slice along axis 0 that the viewer stands at."""
        return lay.shown_slice(self.viewer, grid_of(self.prediction))[0]

    # ------------------------------------------------------------ what has changed

    def _all_dirty(self) -> None:
        layer = self.prediction
        if layer is not None:
            self._touch(range(layer.data.shape[0] if layer.data.ndim > 2 else 1))

    def _touch(self, indices: Iterable[int]) -> None:
        layer = self.prediction
        depth = 0 if layer is None else layer.data.shape[0] if layer.data.ndim > 2 else 1
        self._dirty |= {index for index in indices if 0 <= index < depth}
        self._ranked = False

    @timed
    def _on_predicted(self, start: int, stop: int) -> None:
        self._touch(range(start - 1, stop + 1))

    @timed
    def _on_paint(self, event: Any) -> None:
        flat = self.edits.layer.ndim < 3
        self._touch(index for atom in event.value for index in ([0] if flat else touched(atom[0][0])))

    @timed
    def _on_data(self, event: Any = None) -> None:
        self._all_dirty()

    @timed
    def _on_shown(self, event: Any = None) -> None:
        """Redrawn: perhaps because something was undone or redone."""
        slices = self.edits.follow()
        if slices:
            self._touch(slices)
            if self.choices.census is not None:
                for index in slices:
                    self.choices.census.recount(index)
            self._gather()
            self.choices.changed.emit()

    @timed
    def tick(self) -> None:
        """Follow the choices, look at what has changed, a batch at a time. For a timer."""
        if self.closed:
            return
        labels, layer = self.choices.labels, self.prediction
        others = labels is not self.edits.layer or layer is not self._prediction
        if others or self._verdicts() is not self._settled:
            self._watch()
        if self.problem:
            return
        self._on_shown()  # a hidden layer is not redrawn when something is undone
        marks = self.choices.marks
        if self._key() != self._shown_key:
            self._shown_key = self._key()
            self._all_dirty()
        now = {axis: frozenset(found) for axis, found in marks.planes.items()}, frozenset(marks.cleared)
        if self._marks is not None and now != self._marks:
            self._touch_marks(self._marks, now)
        self._marks = now
        if self._dirty and not self._busy:
            self._begin()

    def _touch_marks(self, before: Marked, now: Marked) -> None:
        if any(before[0].get(axis) != now[0].get(axis) for axis in (1, 2)):
            self._all_dirty()
        none: frozenset[int] = frozenset()
        self._touch(before[0].get(0, none) ^ now[0].get(0, none))
        self._touch(index for _, index in before[1] ^ now[1])

    def _begin(self) -> None:
        material, round_, shown, limits = self._material(), self._round, self.shown, self.limits
        batch = sorted(self._dirty, key=lambda index: (abs(index - shown), index))[:BATCH]
        self._dirty -= set(batch)
        self._busy = True
        found: dict[int, Examined] = {}

        def work() -> None:
            for index in batch:
                found[index] = material.examine(index, limits)

        self._background(work, lambda: self._take(found, round_), lambda error: self._failed(error, round_))

    @timed
    def _take(self, found: dict[int, Examined], round_: int) -> None:
        if round_ != self._round or self.closed:
            return
        self._busy = False
        self._found |= found
        if self.choices.refined is None:
            self.layers.show_errors(self.prediction, found)
        else:
            self.layers.drop_errors()
        self._gather()

    def _failed(self, error: Exception, round_: int) -> None:
        if round_ == self._round:
            self._busy = False
            self._say(str(error) if isinstance(error, CtxsegError) else f"{type(error).__name__}: {error}")

    @property
    def busy(self) -> bool:
        """Whether some slices have not been looked at yet."""
        return not self.problem and (bool(self._dirty) or self._busy)

    def _gather(self) -> None:
        """Rows from what was found and not decided on, the most doubtful first, then the largest."""
        rows = []
        for index, examined in self._found.items():
            settled = self._settled.of(index)
            rows += [
                row
                for row in examined.rows
                if not any(row.suspect.covered(other) >= SAME for other in settled)
            ]
        rows.sort(key=lambda row: row.order)
        self.rows = rows[:MOST_ROWS]
        if self.current is not None:
            self.current = self._again(self.current)
            if self.current is None:
                self.layers.hide()
        self.changed.emit()

    def _again(self, row: Row) -> Row | None:
        """The same piece among the rows of now."""
        same = [r for r in self.rows if r.index == row.index and r.suspect.covered(row.suspect) >= SAME]
        return max(same, key=lambda r: r.suspect.covered(row.suspect), default=None)

    def _say(self, text: str) -> None:
        self.status = text
        self.changed.emit()

    def close(self) -> None:
        """Let go of everything, and take our layers out of the viewer."""
        if self.closed:
            return
        self.choices.predicted.disconnect(self._on_predicted)
        self._listen(None)
        self.closed = True
        self._round += 1
        self.layers.clear()
