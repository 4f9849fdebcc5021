"""The lane `maps` of the engine: what a loss sees, for the Lens. Torch is loaded at first use.

It holds what does not change from stroke to stroke: the last target and image, the network of a run, and its
logits of the slices last looked at.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from napari_ctxseg.errors import InputError
from napari_ctxseg.events import Event, LossMaps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_ctxseg.engine.requests import MapsRequest, NetworkRequest
    from napari_ctxseg.inference import Model
    from napari_ctxseg.losses.anatomy import Anatomy

#: Slices whose logits are kept.
KEPT = 16
MODEL_FILE = "model.safetensors"


class MapsLane:
    """Answers requests, one after the other."""

    def __init__(self) -> None:
        self._target: NDArray[Any] | None = None
        self._anatomy: tuple[object, Anatomy] | None = None
        self._image: tuple[int, Tensor] | None = None
        self._model: tuple[tuple[str, int], Model] | None = None
        self._logits: OrderedDict[tuple[Any, ...], Tensor] = OrderedDict()

    def adopt(self, request: MapsRequest) -> None:
        """Keep a request's arrays, also of one that is not answered: the next may build on them."""
        if request.target is not None:
            self._target, self._anatomy = request.target, None
        network = request.network
        if network is not None and network.image is not None:
            from napari_ctxseg.training.data import normalise

            self._image = network.token, normalise(network.image, "image")
            self._logits.clear()

    def answer(self, request: MapsRequest, number: int, newer: Callable[[], bool]) -> Iterator[Event]:
        """Maps of a request: at once those that need no network, then all of them if there is one.

        Parameters
        ----------
        request : MapsRequest
            Adopted by `adopt` before.
        number : int
            Given back in the answer.
        newer : callable
            Whether another request waits; the network is then left for later.

        Yields
        ------
        LossMaps

        Raises
        ------
        CtxsegError
            If loss, target, image and run do not fit together.
        """
        start = time.monotonic()
        if self._target is None:
            raise InputError("Lens", "there are no labels to look at")
        try:
            seen = self._look(request)
            yield _event(seen, request.index, number, start)
            if request.network is None or newer():
                return
            logits = self._logits_of(request, request.network, newer)
            if logits is not None:
                yield self._with_network(request, seen, logits, number, start)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise InputError("loss", f"{place}: {first['msg']}" if place else first["msg"]) from error
        except ValueError as error:  # of the losses: shapes, classes, parameters
            raise InputError("Lens", str(error).splitlines()[0]) from error

    def _look(self, request: MapsRequest) -> Anatomy:
        """Anatomy of the target without a network; kept, because a slider in z only wants another slice of it."""
        from napari_ctxseg.losses.anatomy import anatomy

        assert self._target is not None
        key = (repr(dict(request.loss)), request.spacing, len(request.values))
        if self._anatomy is None or self._anatomy[0] != key:
            classes = len(request.values) + 1
            found = anatomy(dict(request.loss), self._target, request.spacing, classes=classes)
            self._anatomy = key, found
        return self._anatomy[1]

    def _with_network(
        self, request: MapsRequest, seen: Anatomy, logits: Tensor, number: int, start: float
    ) -> LossMaps:
        from napari_ctxseg.losses.anatomy import anatomy, shares_of_slice

        target = self._target
        assert target is not None
        classes = len(request.values) + 1
        if request.index is None:
            full = anatomy(dict(request.loss), target, request.spacing, classes=classes, logits=logits)
            return _event(full, None, number, start)
        # The loss sees the volume, the network's answer is there for one slice of it: no value of the whole loss.
        plane = anatomy("ce", target[request.index], request.spacing[1:], classes=classes, logits=logits)
        event = _event(seen, request.index, number, start)
        weighted = shares_of_slice(dict(request.loss), target, request.index, logits, event.weight)
        return replace(event, ce=plane.ce, weighted=weighted)

    # ------------------------------------------------------------ the network

    def _logits_of(
        self, request: MapsRequest, network: NetworkRequest, newer: Callable[[], bool]
    ) -> Tensor | None:
        """Logits of the shown slice, ``(K, y, x)``; None if they are not known and may not be computed now."""
        path = Path(network.run) / MODEL_FILE
        try:
            version = path.stat().st_mtime_ns
        except OSError as error:
            raise InputError(network.run, "holds no model", "Train first") from error
        # With the class values: logits of other classes say nothing about these labels.
        key = (network.run, version, network.token, network.index, request.values)
        if key in self._logits:
            self._logits.move_to_end(key)
            return self._logits[key]
        if not network.compute:
            return None
        if self._image is None or self._image[0] != network.token:
            raise InputError("Lens", "the image has not arrived")
        model = self._loaded(path, version)
        if model.regions:
            raise InputError(
                Path(network.run).name,
                "predicts overlapping regions, which the Lens does not show",
                "Choose a run of classes",
            )
        if tuple(model.classes.values()) != request.values:
            raise InputError(
                Path(network.run).name,
                f"was trained on the class values {list(model.classes.values())}, not {list(request.values)}",
                "Train again",
            )
        logits = _slice_logits(model, self._image[1], network.index, newer)
        if logits is not None:
            self._logits[key] = logits
            while len(self._logits) > KEPT:
                self._logits.popitem(last=False)
        return logits

    def _loaded(self, path: Path, version: int) -> Model:
        from napari_ctxseg.config import DeviceConfig
        from napari_ctxseg.inference import load_model

        if self._model is None or self._model[0] != (str(path), version):
            self._model = None  # the old one's memory first
            model = load_model(path, DeviceConfig(accelerator="cpu", precision="32-true", threads=1))
            self._model = (str(path), version), model
        return self._model[1]


def _slice_logits(model: Model, image: Tensor, index: int, newer: Callable[[], bool]) -> Tensor | None:
    """Logits of one slice, window by window; None as soon as something newer waits."""
    import torch

    from napari_ctxseg.inference.tiling import sliding_window

    if image.shape[0] != model.channels:
        raise InputError(
            "Lens", f"the image has {image.shape[0]} channels, but the model was trained on {model.channels}"
        )
    start = 0
    if image.ndim == 4:
        index = min(max(index, 0), image.shape[1] - 1)
        if model.tiles.dims == 2:
            image = image[:, index]
        else:  # one window's depth around the slice: what the network would see of it anyway
            depth = min(model.tiles.size[0], image.shape[1])
            start = min(max(index - depth // 2, 0), image.shape[1] - depth)
            image = image[:, start : start + depth]
    elif model.tiles.dims == 3:
        raise InputError("Lens", "the image is 2-D, but the model is 3-D", "Train a 2-D model")
    with torch.inference_mode():
        for logits in sliding_window(model, image[None], model.tiles.size, windows_at_once=1):
            if logits is not None:
                return logits[0] if model.tiles.dims == 2 else logits[0][:, index - start]
            if newer():
                return None
    return None


def _event(seen: Anatomy, index: int | None, number: int, start: float) -> LossMaps:
    """Anatomy as a message: of a volume the shown slice alone, which is all that can be looked at."""

    def part(values: NDArray[Any] | None) -> NDArray[Any] | None:
        return values if values is None or index is None else values[index]

    return LossMaps(
        request=number,
        seconds=time.monotonic() - start,
        far=seen.far,
        loss=seen.loss,
        boxes=seen.boxes,
        weight=part(seen.weight),
        roi=part(seen.roi),
        contour=part(seen.contour),
        interior=part(seen.interior),
        dilated=part(seen.dilated),
        ce=part(seen.ce),
        weighted=part(seen.weighted),
    )
