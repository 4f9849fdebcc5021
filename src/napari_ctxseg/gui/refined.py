"""A CR-GAN's prediction in one viewer: its error masks as layers, and labels that follow two thresholds. No Qt.

The network is not asked again: `composition.compose_classes` puts the stages together in numpy, the slice in sight at
once, the others in portions while nothing else is to be done.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg.composition import compose_classes
from napari_ctxseg.evaluation.suspects import Stages
from napari_ctxseg.gui import layers as lay
from napari_ctxseg.gui.timing import napari_works

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_ctxseg.events import PredictionBlock

#: Numbers composed in one go: some five milliseconds.
MOST = 600_000
#: Error mask -> colour. Beside yellow-brown labels on grey images these two stay apart for colour-blind people too.
COLORS = {"FN": "blue", "FP": "red"}


class Refined:
    """Prediction of one image.

    Parameters
    ----------
    viewer : napari.viewer.Viewer or napari.components.ViewerModel
        Where the layers are.
    shot : Snapshot
        Of the image.
    layer : Labels
        Its prediction layer.
    values : sequence of int
        Class values in the order of the indices 1, 2, ...
    thresholds : tuple of float
        Of false negatives and false positives, as the run has fitted them.
    """

    def __init__(
        self,
        viewer: Any,
        shot: lay.Snapshot,
        layer: Any,
        values: Sequence[int],
        thresholds: tuple[float, float],
    ) -> None:
        self.viewer, self.shot, self.layer = viewer, shot, layer
        self.fitted = self.thresholds = thresholds
        self.errors: dict[str, Any] = {}
        self._values = np.array([0, *values], layer.data.dtype)
        self._shape = shot.shape if len(shot.shape) == 3 else (1, *shot.shape)
        # Nothing is taken up by zeros that nobody has written over: they grow with what arrives.
        self._maps = [np.zeros((len(self._values), *self._shape), np.float16) for _ in range(3)]
        self._written = np.zeros(self._shape, layer.data.dtype)
        self._known = np.zeros(self._shape[0], bool)
        self._todo: dict[int, int] = {}  # slice -> first row that is not composed yet

    @property
    def busy(self) -> bool:
        """Whether some slices still show earlier thresholds."""
        return bool(self._todo)

    @property
    def alive(self) -> bool:
        """Whether its prediction layer is still in the viewer."""
        return self.layer in map(lay.plain, self.viewer.layers)

    def take(self, block: PredictionBlock) -> None:
        """Put a block of the prediction in place; what was painted there gives way, as with any prediction."""
        assert block.probabilities is not None
        assert block.fn is not None
        assert block.fp is not None
        count = 1 if block.labels.ndim == 2 else len(block.labels)
        part = slice(block.start, block.start + count) if len(self.shot.shape) == 3 else slice(0, 1)
        for own, new in zip(self._maps, (block.probabilities, block.fn, block.fp), strict=True):
            own[:, part] = new.reshape(own[:, part].shape)
        self._written[part] = block.labels.reshape(self._written[part].shape)
        self._known[part] = True
        shown, alone = lay.shown_slice(self.viewer, self.shot)
        only = shown if alone else None
        lay.write_slices(self.layer, part.start, block.labels, only)
        for name, own in zip(COLORS, self._maps[1:], strict=True):
            errors = self._layer(name)
            if errors is not None:
                lay.write_slices(errors, part.start, _largest(own[1:, part]), only)
        if self.thresholds != self.fitted:
            self._todo.update(dict.fromkeys(range(part.start, part.stop), 0))

    def _layer(self, name: str) -> Any:
        """Layer of an error mask: made once, and not again when the person has deleted it."""
        if name in self.errors:
            layer = self.errors[name]
            return layer if layer in map(lay.plain, self.viewer.layers) else None
        from napari.layers import Image

        with napari_works("make a layer"):
            layer = Image(
                np.zeros(self.shot.shape, np.float16),
                name=f"{self.shot.name} {name}",
                colormap=COLORS[name],
                blending="additive",  # the image shines through
                opacity=0.5,
                contrast_limits=(0, 1),
                interpolation2d="nearest",
                metadata={"ctxseg": {"errors_of": self.shot.name}},
                **self.shot.look,
            )
        lay.insert_above(self.viewer, layer, [self.layer, *self.errors.values()])
        self.errors[name] = layer
        return layer

    def adopt(self, earlier: Refined) -> None:
        """Go on with the error layers of an earlier prediction of the same image: they are written over."""
        present = list(map(lay.plain, self.viewer.layers))
        fits = earlier.shot.shape == self.shot.shape
        self.errors = {name: each for name, each in earlier.errors.items() if fits and each in present}

    def let_go(self) -> None:
        """Free the memory: there is no layer any more that could follow."""
        self._maps, self._todo = [], {}

    def remove_errors(self) -> None:
        """Take the error layers out of the viewer."""
        for layer in self.errors.values():
            if layer in map(lay.plain, self.viewer.layers):
                with napari_works("remove a layer"):
                    self.viewer.layers.remove(layer)

    def stages_of(self, index: int) -> Stages | None:
        """What both stages say of a slice; None where they have said nothing yet."""
        maps = self._maps  # another thread may be asking while we let go
        if not maps or not self._known[index]:
            return None
        first, fn, fp = (each[:, index] for each in maps)
        return Stages([int(value) for value in self._values[1:]], first, fn, fp, self.thresholds)

    def largest_errors(self) -> dict[str, NDArray[np.float16]]:
        """Probability of a false negative and of a false positive of any class. Slow: call it off the GUI thread."""
        maps = zip(COLORS, self._maps[1:], strict=False)  # none are left when we have let go
        return {name.lower(): _largest(own[1:]).reshape(self.shot.shape) for name, own in maps}

    # ------------------------------------------------------------ thresholds

    def choose(self, fn: float, fp: float) -> None:
        """Take other thresholds; `work` then composes, the slice in sight first."""
        if (fn, fp) != self.thresholds:
            self.thresholds = (fn, fp)
            self._todo = dict.fromkeys(map(int, np.flatnonzero(self._known)), 0)

    def work(self, seconds: float) -> None:
        """Compose for about so long, beginning at the slice in sight, then show what of it is on screen."""
        if not self._todo:
            return
        end = time.perf_counter() + seconds
        shown, alone = lay.shown_slice(self.viewer, self.shot)
        touched = set()
        while self._todo:
            index = min(self._todo, key=lambda each: abs(each - shown))
            self._compose(index)
            touched.add(index)
            if time.perf_counter() > end:
                break
        if self.layer.visible and (not alone or shown in touched):
            self.layer.refresh(thumbnail=False, extent=False, highlight=False)

    def _compose(self, index: int) -> None:
        """Some rows of a slice. Only what still is as we wrote it changes: strokes of the person stay."""
        first = self._todo.pop(index)
        _, height, width = self._shape
        last = min(height, first + max(1, MOST // (width * len(self._values))))
        rows = slice(first, last)
        # Arithmetic in half precision is many times slower than turning the numbers into single precision.
        p, fn, fp = (np.asarray(each[:, index, rows], np.float32) for each in self._maps)
        new = self._values[compose_classes(p, fn, fp, *self.thresholds)]
        data = self.layer.data.reshape(self._shape) if self.layer.data.ndim == 2 else self.layer.data
        here, ours = data[index, rows], self._written[index, rows]
        same = here == ours
        np.copyto(here, new, where=same)
        np.copyto(ours, new, where=same)
        if last < height:
            self._todo[index] = last


def _largest(masks: NDArray[np.float16]) -> NDArray[np.float16]:
    """Maximum over the classes, ``(K, n, y, x)`` -> ``(n, y, x)``.

    The bits of positive half-precision numbers order as integers do, and integers are compared many times faster.
    """
    found: NDArray[np.float16] = np.ascontiguousarray(masks).view(np.uint16).max(axis=0).view(np.float16)
    return found
