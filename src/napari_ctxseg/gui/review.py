"""Going through a prediction and saying of each piece whether it is there. No Qt: the dock only shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg.errors import CtxsegError, InputError
from napari_ctxseg.evaluation.next_slice import look, rank
from napari_ctxseg.gui import layers as lay
from napari_ctxseg.gui.review_find import Findings
from napari_ctxseg.gui.timing import napari_works, timed

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_ctxseg.evaluation.next_slice import Candidate, Seen
    from napari_ctxseg.gui.predictions import Predictions
    from napari_ctxseg.gui.review_data import Material, Row

    Where = tuple[NDArray[np.intp], ...]
    Places = tuple[Where, NDArray[Any]]


class Review(Findings):
    """Suspicious pieces, and what was decided.

    Parameters
    ----------
    viewer, choices, background
        See `Findings`.
    """

    def __init__(self, viewer: Any, choices: Predictions, background: Callable[..., None]) -> None:
        self.overwrite = self.write_background = False
        self.suggested: list[Candidate] = []
        super().__init__(viewer, choices, background)

    # ------------------------------------------------------------ going through

    @timed
    def next(self, step: int = 1) -> None:
        """Go to the next row, or to the first."""
        if not self.rows:
            self._say(self.problem or ("Still looking ..." if self.busy else "Nothing suspicious is left."))
            return
        if self.current in self.rows:
            place = self.rows.index(self.current) + step
        else:  # it was decided on: the next one has moved to its place
            place = self._place if step > 0 else self._place - 1
        self.go(self.rows[place % len(self.rows)])

    @timed
    def go(self, row: Row) -> None:
        """Show a row: its slice, with the piece outlined in the middle of the screen."""
        self.current, self._place = row, self.rows.index(row) if row in self.rows else 0
        middle = row.suspect.middle
        self._move_to((row.index, *middle) if self.prediction.data.ndim > 2 else middle)
        self.layers.outline(self.prediction, row.index, row.suspect)
        self.status = ""
        self.changed.emit()

    def _move_to(self, place: tuple[float, ...], centre: bool = True) -> None:
        """Stand at a place of the prediction, given in its pixels."""
        layer, dims = self.prediction, self.viewer.dims
        n = layer.data.ndim
        world = np.asarray(layer.translate, float)[-n:] + np.asarray(layer.scale, float)[-n:] * np.asarray(
            place
        )
        axes = range(dims.ndim - n, dims.ndim)
        for axis, point in zip(axes, world, strict=True):
            if axis in dims.not_displayed:
                with napari_works("show another slice"):
                    dims.set_point(axis, float(point))
        if centre:
            camera = self.viewer.scene.camera
            points = dict(zip(axes, map(float, world), strict=True))
            shown = [points.get(axis, 0.0) for axis in dims.displayed]
            camera.center = tuple(([0.0] * 3 + shown)[-3:])

    # ------------------------------------------------------------ deciding

    @timed
    def accept(self) -> None:
        """Say that the piece is there: write it into the annotation."""
        self._decide(self._accepted)

    @timed
    def reject(self) -> None:
        """Say that the piece is not there, and remember it; `write_background` and `overwrite` say what is written."""
        self._decide(self._rejected)

    def _decide(self, how: Callable[[Row], None]) -> None:
        row = self.current
        if row is None:
            self._say("Choose a row first.")
            return
        try:
            self._ready()
            how(row)
        except CtxsegError as error:
            self._say(str(error))

    def _ready(self) -> None:
        if self.problem:
            raise InputError("review", self.problem)
        self._on_shown()

    def _accepted(self, row: Row) -> None:
        value = row.suspect.value
        self.edits.check([value])
        where = self._places(row)
        here = self.edits.layer.data[where]
        free = (here == 0) | (self.overwrite & (here != value))
        changed = self._settle(row, where, free, value)
        kept = int(np.count_nonzero(~free & (here != value)))
        more = f", {kept} kept as they were" if kept else ""
        self._say(f"Accepted: {changed} pixels written{more}.")

    def _rejected(self, row: Row) -> None:
        choices = self.choices
        background = choices.policy == "scribbles" and self.write_background
        new = choices.background_value if background else 0
        self.edits.check([new])
        where = self._places(row)
        here = self.edits.layer.data[where]
        free = (self.overwrite & (here == row.suspect.value)) | (background & (here == 0))
        changed = self._settle(row, where, free, new)
        self._say(f"Rejected: {changed} pixels written." if changed else "Rejected.")

    def _places(self, row: Row) -> Where:
        """Where the pixels of a row lie in the annotation."""
        one = row.suspect
        places = [axis + box.start for axis, box in zip(np.nonzero(one.mask), one.box, strict=True)]
        if self.prediction.data.ndim < 3:
            return tuple(places)
        return np.full(len(places[0]), row.index, np.intp), *places

    def _settle(self, row: Row, where: Where, free: NDArray[np.bool_], value: int) -> int:
        """Write where it is free, and do not ask again."""
        settled = self._settled
        marked = [row.index] if free.any() and self.edits.layer.ndim > 2 else []
        changed = self.edits.write(
            tuple(axis[free] for axis in where),
            value,
            marked,
            undo=lambda: settled.remove(row.index, row.suspect),
            redo=lambda: settled.add(row.index, row.suspect),
        )
        settled.add(row.index, row.suspect)
        self._touch([row.index])
        self._gather()
        return changed

    @property
    def decided(self) -> bool:
        """Whether there are pieces that are not asked about because of what was said of them."""
        return bool(self._settled)

    @timed
    def ask_again(self) -> None:
        """Forget what was said of this image's pieces; what was written into the annotation stays."""
        self._settled.clear()
        self._gather()
        self._say("Every piece is asked about again.")

    # ------------------------------------------------------------ whole slices

    @timed
    def copy_prediction(self, *, everywhere: bool = False) -> None:
        """Write the prediction into the annotation where nothing is labelled: in the slice in sight, or in all."""
        try:
            self._ready()
            material = self._material()
            self.edits.check(row.value for row in self.choices.classes)
        except CtxsegError as error:
            self._say(str(error))
            return
        indices = range(material.depth) if everywhere else [self.shown]
        round_, state = self._round, self.edits.state
        found: list[Places] = []
        flat = material.prediction.ndim < 3

        def work() -> None:
            each = [material.missing(index) for index in indices]
            values = np.concatenate([here for _, here in each])
            axes = [np.concatenate(parts) for parts in zip(*(places for places, _ in each), strict=True)]
            stack = np.repeat(np.asarray(indices, np.intp), [len(here) for _, here in each])
            found.append((tuple(axes) if flat else (stack, *axes), values))

        def done() -> None:
            if round_ == self._round and not self.closed:
                self._copy(*found[0], untouched=state == self.edits.state)

        self._background(work, done, lambda error: self._failed(error, round_))

    @timed
    def _copy(self, where: Where, values: NDArray[Any], *, untouched: bool) -> None:
        if not untouched:  # the person has painted meanwhile
            free = np.asarray(self.edits.layer.data[where]) == 0
            where, values = tuple(axis[free] for axis in where), values[free]
        if not len(values):
            self._say("There is nothing to copy: what is predicted lies where the annotation counts.")
            return
        try:
            self.edits.check([int(values.max())])
        except CtxsegError as error:
            self._say(str(error))
            return
        flat = self.edits.layer.ndim < 3
        slices = [] if flat else [int(index) for index in np.unique(where[0])]
        changed = self.edits.write(where, values.astype(self.edits.layer.data.dtype), slices)
        self._touch(slices or [0])
        self._say(f"Copied {changed} pixels into the annotation.")

    @timed
    def use_slice(self) -> None:
        """Say that the slice in sight is labelled completely; said again, that it is not.

        With scribbles the pixels without a label become background, which is a step that can be undone.
        """
        try:
            self._ready()
            self.edits.check([self.choices.background_value if self.choices.policy == "scribbles" else 0])
        except CtxsegError as error:
            self._say(str(error))
            return
        index, marks, layer = self.shown, self.choices.marks, self.edits.layer
        if self.choices.policy == "scribbles":
            plane = np.asarray(layer.data[index] if layer.ndim > 2 else layer.data)
            places = np.nonzero(plane == 0)
            where = (np.full(len(places[0]), index, np.intp), *places) if layer.ndim > 2 else places
            changed = self.edits.write(where, self.choices.background_value, []) if len(places[0]) else 0
            self._say(f"Slice {index}: {changed} pixels are background now.")
        elif marks.has(0, index):
            marks.decide(0, index, labelled=False)
            self._say(f"Slice {index} does not count as labelled any more.")
        else:
            marks.decide(0, index, labelled=True)
            self._say(f"Slice {index} counts as fully labelled.")
        self._touch([index])
        self.choices.changed.emit()

    # ------------------------------------------------------------ what to label next

    @timed
    def next_slice(self) -> None:
        """Go to the slice that is most worth labelling; again, to the one after it."""
        if self.problem:
            self._say(self.problem)
            return
        if self._ranked and self.suggested:
            self._go_to_suggested()
            return
        material, round_ = self._material(), self._round
        image = self.choices.images[0] if self.choices.images and self._chosen is None else None
        bright = None if image is None else (lay.base_data(image), bool(image.rgb))
        found: list[Candidate] = []
        self._say("Looking for the slice to label next ...")

        def work() -> None:
            found.extend(rank([_seen(material, bright)]))

        def done() -> None:
            if round_ == self._round and not self.closed:
                self.suggested, self._ranked = found, True
                self._go_to_suggested()

        self._ranked = False
        self._background(work, done, lambda error: self._failed(error, round_))

    def _go_to_suggested(self) -> None:
        if not self.suggested:
            self._say("Every slice is labelled.")
            return
        best = self.suggested.pop(0)
        if self.prediction.data.ndim > 2:
            self._move_to((best.index, 0, 0), centre=False)
        again = "" if self.suggested else " It is the last one."
        self._say(f"Slice {best.index}: {best.reason or 'first of equals'} ({best.score:.2f}).{again}")


def _seen(material: Material, bright: tuple[Any, bool] | None) -> Seen:
    """What `rank` needs of the image; without an image the prediction alone."""
    prediction = np.asarray(material.prediction)
    image: NDArray[Any] = np.zeros(prediction.shape, np.float32)
    if bright is not None:
        array, rgb = np.asarray(bright[0]), bright[1]
        image = array[..., :3].mean(axis=-1, dtype=np.float32) if rgb else array
    errors: dict[str, NDArray[Any]] = {}
    if material.refined is not None:
        errors = material.refined.largest_errors()
    labelled = [index for index in range(material.depth) if material.complete(index)]
    unsure = None if material.uncertainty is None else np.asarray(material.uncertainty)
    return look("image", image, prediction, uncertainty=unsure, labelled=labelled, **errors)
