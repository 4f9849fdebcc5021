"""Predictions as layers of the viewer: labels that arrive in parts, and the error masks of a CR-GAN. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_ctxseg.config import PredictConfig, from_yaml
from napari_ctxseg.errors import CtxsegError
from napari_ctxseg.gui import layers as lay
from napari_ctxseg.gui.choices import Choices
from napari_ctxseg.gui.refined import Refined
from napari_ctxseg.gui.timing import timed
from napari_ctxseg.gui.uncertain import UncertaintyLayers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_ctxseg.events import PredictionBlock

#: Seconds of composing in one go: at a threshold's change, and at each tick of the timer after it.
AT_ONCE, PORTION = 0.015, 0.012


class Predictions(Choices):
    """Choices, and what was predicted with them.

    Parameters
    ----------
    viewer : napari.viewer.Viewer or napari.components.ViewerModel
        Where the layers are.
    """

    #: First slice along axis 0 that was predicted anew, and the one after the last.
    predicted = Signal(int, int)

    def __init__(self, viewer: Any) -> None:
        super().__init__(viewer)
        #: What the next prediction gives besides labels.
        self.options = PredictConfig()
        self.uncertain = UncertaintyLayers(viewer)
        self._refined: dict[int, Refined] = {}  # id of an image layer -> its prediction by a CR-GAN

    def prediction_layer(self, shot: lay.Snapshot, values: Sequence[int] = (), region: str = "") -> Any:
        """The layer of our own that holds an image's prediction; made at first need, or again if deleted.

        It has room for the values of the table, and for those of a run with other classes.
        """
        image, layer = self._predictions.get((id(shot.layer), region), (None, None))
        dtype = lay.dtype_for([*(row.value for row in self.classes), *values])
        present = list(map(lay.plain, self.viewer.layers))
        if (
            image is shot.layer
            and layer in present
            and layer.data.shape == shot.shape
            and np.can_cast(dtype, layer.data.dtype)
        ):
            return layer
        colors = {n: lay.PALETTE[(n - 1) % len(lay.PALETTE)] for n in values} if region else self.colors()
        layer = lay.add_labels(
            self.viewer,
            shot,
            f"{shot.name} prediction {region}".rstrip(),
            dtype,
            opacity=0.5,
            colormap=lay.class_colormap(colors),
            meta={"prediction_of": shot.name},
        )
        self._predictions[id(shot.layer), region] = (shot.layer, layer)
        return layer

    def show_slices(
        self,
        shot: lay.Snapshot,
        start: int,
        labels: NDArray[Any],
        uncertainty: NDArray[Any] | None = None,
    ) -> None:
        """Put labels in place that come without error masks; those of an earlier prediction are out of date."""
        earlier = self._refined.pop(id(shot.layer), None)
        if earlier is not None:
            earlier.remove_errors()
        layer = self.prediction_layer(shot)
        shown, alone = lay.shown_slice(self.viewer, shot)
        lay.write_slices(layer, start, labels, shown if alone else None)
        self._tell(shot, layer, start, labels, uncertainty)

    def _tell(
        self,
        shot: lay.Snapshot,
        layer: Any,
        start: int,
        labels: NDArray[Any],
        uncertainty: NDArray[Any] | None,
    ) -> None:
        """Keep the uncertainty in step with what was predicted, and say what was."""
        count = labels.shape[-3] if labels.ndim >= len(shot.shape) == 3 else 1
        self.uncertain.show(shot, start, uncertainty, count, layer)
        self.predicted.emit(start, start + count)

    def show_regions(
        self,
        shot: lay.Snapshot,
        start: int,
        masks: NDArray[Any],
        regions: Sequence[str],
        uncertainty: NDArray[Any] | None = None,
    ) -> None:
        """Put masks of overlapping regions in place: a layer for each, whose label is the region's number."""
        _, prepared = self._predictions.get((id(shot.layer), ""), (None, None))
        there = list(map(lay.plain, self.viewer.layers))
        if start == 0 and prepared in there and not prepared.data.any():
            self.viewer.layers.remove(prepared)  # made ahead, for classes
        shown, alone = lay.shown_slice(self.viewer, shot)
        for number, (region, mask) in enumerate(zip(regions, masks, strict=True), start=1):
            layer = self.prediction_layer(shot, (number,), region)
            lay.write_slices(layer, start, mask * mask.dtype.type(number), shown if alone else None)
        self._tell(shot, layer, start, masks, uncertainty)

    def show_block(self, shot: lay.Snapshot, block: PredictionBlock, values: Sequence[int]) -> None:
        """Put a block of a prediction in place.

        Parameters
        ----------
        shot : Snapshot
            The same object for all blocks of one prediction.
        block : PredictionBlock
        values : sequence of int
            Class values of the run, in the order of the indices 1, 2, ...
        """
        if block.regions:
            self.show_regions(shot, block.start, block.labels, block.regions, block.uncertainty)
            return
        maps = (block.probabilities, block.fn, block.fp)
        if block.thresholds is None or any(one is None or len(one) != len(values) + 1 for one in maps):
            self.show_slices(shot, block.start, block.labels, block.uncertainty)
            return
        refined = self._refined.get(id(shot.layer))
        layer = self.prediction_layer(shot, values)
        if refined is None or refined.shot is not shot or refined.layer is not layer:
            earlier, refined = refined, Refined(self.viewer, shot, layer, values, block.thresholds)
            if earlier is not None:
                refined.adopt(earlier)
            self._refined[id(shot.layer)] = refined
        refined.take(block)
        self._tell(shot, layer, block.start, block.labels, block.uncertainty)

    @property
    def prediction(self) -> Any:
        """The layer that holds the ticked image's prediction, if there is one; None for overlapping regions."""
        image, layer = self._predictions.get((id(self.images[0]) if self.images else 0, ""), (None, None))
        there = layer is not None and layer in map(lay.plain, self.viewer.layers)
        return layer if there and self.images and image is self.images[0] else None

    @property
    def refined(self) -> Refined | None:
        """Prediction of the ticked image by a CR-GAN, whose thresholds can be moved."""
        if not self.images:
            return None
        found = self._refined.get(id(self.images[0]))
        return found if found is not None and found.shot.layer is self.images[0] and found.alive else None

    @timed
    def set_thresholds(self, fn: float, fp: float) -> None:
        """Move the thresholds of the shown prediction; the slice in sight follows at once."""
        refined = self.refined
        if refined is not None:
            refined.choose(fn, fp)
            refined.work(AT_ONCE)

    def work_on_predictions(self) -> None:
        """Let the other slices follow the thresholds, a portion at a time; let go of what was deleted. For a timer."""
        for key, refined in list(self._refined.items()):
            if refined.shot.layer not in map(lay.plain, self.viewer.layers):
                del self._refined[key]
            elif not refined.alive:
                refined.let_go()
            elif refined.busy:
                refined.work(PORTION)

    def values_of(self, run: Path) -> tuple[int, ...]:
        """Class values of a run in the order of its indices; those of the table if it does not say."""
        try:
            data = from_yaml(run / "config.yaml").data
        except CtxsegError:
            return tuple(row.value for row in self.classes)
        return (1,) if data.foreground else tuple(data.classes.values())
