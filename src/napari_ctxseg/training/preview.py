"""Predictions of the slice that the person looks at, while training goes on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from napari_ctxseg.cases import class_values
from napari_ctxseg.events import Preview
from napari_ctxseg.training.data import normalise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from napari_ctxseg.cases import Case
    from napari_ctxseg.training.plan import Plan
    from napari_ctxseg.training.supervised import Trainer

#: Seconds between previews at least, and share of the time that they may take.
EVERY, SHARE = 1.0, 0.1


class Previewer:
    """Yields a preview when one is due.

    Parameters
    ----------
    trainer : Trainer
        Whose network predicts.
    plan : Plan
        Its classes.
    cases : sequence of Case
        All images, labelled or not.
    visible : callable or None
        Case name and slice index, or None while nothing is shown.
    """

    def __init__(
        self,
        trainer: Trainer,
        plan: Plan,
        cases: Sequence[Case],
        visible: Callable[[], tuple[str, int] | None] | None,
    ) -> None:
        self._trainer, self._plan, self._visible = trainer, plan, visible
        self._cases = {case.name: case for case in cases}
        self._images: dict[str, Tensor] = {s.name: s.image for s in [*plan.train, *plan.val]}
        self._next = time.monotonic() + EVERY

    def due(self, step: int) -> Iterator[Preview]:
        """At most one preview."""
        now = time.monotonic()
        wanted = self._visible() if self._visible is not None and now >= self._next else None
        if wanted is None or wanted[0] not in self._cases:
            return
        name, index = wanted
        shown, regions = self._slice(name, index).numpy(), tuple(self._plan.regions)
        labels = shown.astype(np.uint8) if regions else class_values(shown, self._plan.classes)
        spent = time.monotonic() - now
        self._next = time.monotonic() + max(EVERY, spent / SHARE)
        yield Preview(step, name, index, labels, regions)

    def _slice(self, name: str, index: int) -> Tensor:
        if name not in self._images:
            self._images[name] = normalise(self._cases[name].image.channel_array, name)
        image, tiles = self._images[name], self._trainer.tiles
        if image.ndim == 3:
            return self._trainer.segment(image)
        index = min(max(index, 0), image.shape[1] - 1)
        if tiles.dims == 2:
            return self._trainer.segment(image[:, index])
        # One window's depth around the slice: what the network would see of it anyway.
        depth = min(tiles.size[0], image.shape[1])
        start = min(max(index - depth // 2, 0), image.shape[1] - depth)
        return self._trainer.segment(image[:, start : start + depth])[..., index - start, :, :]
