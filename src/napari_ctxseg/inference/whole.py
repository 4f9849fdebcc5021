"""Prediction of a case in one piece."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg.errors import InputError
from napari_ctxseg.events import PredictionBlock, PredictionProgress
from napari_ctxseg.inference.predictor import Model, predict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_ctxseg.cases import Case
    from napari_ctxseg.config import PredictConfig

#: What a second stage gives besides labels.
MAPS = ("probabilities", "fn", "fp")


@dataclass
class Predicted:
    """All blocks of one case put together.

    Parameters
    ----------
    labels : ndarray, shape ``case.image.spatial_shape``
        Class values; masks of the regions have one axis more in front.
    regions : bool
        Whether there are regions.
    maps : dict of str to ndarray, shape ``(K, *S)``
        Probabilities and error masks by their names, background first if there is one; empty without a second stage.
    uncertainty : ndarray, shape ``case.image.spatial_shape``, or None
        Where it was asked for.
    """

    labels: NDArray[Any]
    maps: dict[str, NDArray[Any]]
    regions: bool = False
    uncertainty: NDArray[Any] | None = None

    @property
    def layers(self) -> list[NDArray[Any]]:
        """What goes into a file of its own: the labels, or each region's mask."""
        return list(self.labels) if self.regions else [self.labels]

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything, as a project keeps it."""
        more = {} if self.uncertainty is None else {"uncertainty": self.uncertainty}
        return {"labels": self.labels, **self.maps, **more}

    @property
    def without_stages(self) -> Predicted:
        """Without what only a second stage gives."""
        return replace(self, maps={})


def predict_case(
    model: Model,
    case: Case,
    show: Callable[[float], None] = lambda share: None,
    options: PredictConfig | None = None,
    members: Sequence[Model] = (),
) -> Predicted:
    """Predict one case; `show` is told the share of the image that is done."""
    shape = case.image.spatial_shape
    found: Predicted | None = None
    for event in predict(model, case, options=options, members=members):
        if isinstance(event, PredictionProgress | PredictionBlock):
            show(event.done)
        if isinstance(event, PredictionBlock):
            parts = {name: getattr(event, name) for name in MAPS if getattr(event, name) is not None}
            if found is None:
                maps = {name: np.zeros((len(part), *shape), part.dtype) for name, part in parts.items()}
                front = (len(event.regions),) if event.regions else ()
                found = Predicted(np.zeros((*front, *shape), event.labels.dtype), maps, bool(front))
                if event.uncertainty is not None:
                    found.uncertainty = np.zeros(shape, event.uncertainty.dtype)
            count = event.labels.shape[-len(shape)]
            rows = slice(None) if len(shape) == 2 else slice(event.start, event.start + count)
            where = (slice(None), rows) if event.regions else rows
            found.labels[where] = event.labels
            for name, part in parts.items():
                found.maps[name][:, rows] = part
            if found.uncertainty is not None:
                found.uncertainty[rows] = event.uncertainty
    if found is None:
        raise InputError(case.name, "gave no prediction", "This is a fault of ours: please report it")
    return found
