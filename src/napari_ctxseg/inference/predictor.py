"""Prediction of whole images with a finished run."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_ctxseg.cases import class_values
from napari_ctxseg.composition import compose
from napari_ctxseg.config import DeviceConfig, PredictConfig
from napari_ctxseg.errors import CheckpointError, InputError
from napari_ctxseg.events import Event, PredictionBlock, PredictionFinished, PredictionProgress
from napari_ctxseg.inference.blocks import Tiles, logit_blocks
from napari_ctxseg.inference.tiling import decided
from napari_ctxseg.inference.uncertainty import FLIPS, Spread, check_members, entropy, mirrored, probabilities
from napari_ctxseg.networks import make_network
from napari_ctxseg.networks.refined import Refined, error_maps
from napari_ctxseg.networks.refinement import make_refinement
from napari_ctxseg.training import checkpoint
from napari_ctxseg.training.data import normalise
from napari_ctxseg.training.plan import resolve_device

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from napari_ctxseg.cases import Case

#: Slices per block sent: small enough to be written into a layer without a stall.
BLOCK = 8
#: Seconds between two words about progress.
PROGRESS_EVERY = 0.1


@dataclass(frozen=True)
class Model:
    """A trained network and what it needs to predict.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode, on `device`.
    classes : dict of str to int
        Name -> value, in the order of the indices 1, 2, ...
    channels : int
        Input channels.
    tiles : Tiles
        Dimensions and window.
    device : torch.device
    precision : str
        ``"32-true"`` or ``"bf16-mixed"``.
    thresholds : tuple of float, or None
        Of false negatives and false positives, where the network has a second stage that predicts them (CR-GAN).
    regions : dict of str to tuple of int
        Name -> values of the overlapping regions that the network's channels are; empty where they are classes.
    """

    network: nn.Module
    classes: dict[str, int]
    channels: int
    tiles: Tiles
    device: torch.device
    precision: str
    thresholds: tuple[float, float] | None = None
    regions: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def __call__(self, windows: Tensor) -> Tensor:
        """Logits of some windows, in the model's precision."""
        mixed = self.precision == "bf16-mixed"
        with torch.autocast(self.device.type, torch.bfloat16) if mixed else contextlib.nullcontext():
            out = self.network(windows)
        logits: Tensor = out if isinstance(out, torch.Tensor) else out[0]
        return logits.float()


def load_model(run: Path, device: DeviceConfig | None = None) -> Model:
    """Load a run's weights.

    Parameters
    ----------
    run : Path
        A run folder, or its ``model.safetensors``.
    device : DeviceConfig, optional
        Where to compute.

    Raises
    ------
    CheckpointError
        If the weights are missing, damaged, foreign or from a newer version.
    InputError
        If the device is not there.
    """
    resolved = resolve_device(device or DeviceConfig())
    torch.set_num_threads(resolved.threads or 1)
    path = run if run.is_file() else run / checkpoint.MODEL
    tensors, record = checkpoint.load_tensors(path)
    try:
        noise = float(record.get("noise", 0.0))
        network = make_network(record["network"], noise, pretrained=False)
        classes = {str(name): int(value) for name, value in record["classes"].items()}
        regions = checkpoint.regions_of(record)
        outputs = len(regions) or len(classes) + 1
        second, thresholds = record.get("second"), None
        if second is not None:
            refinement = make_refinement(
                second,
                dims=int(second["dims"]),
                image_channels=int(record["network"]["in_channels"]),
                classes=outputs,
                regions=bool(regions),
                head=record["head"],
                pretrained=False,
            )
            network = Refined(network, refinement)
            thresholds = (float(record["thresholds"][0]), float(record["thresholds"][1]))
        tiles = Tiles(
            int(record["network"]["dims"]),
            tuple(int(n) for n in record["patch"]),
            tuple(int(axis) for axis in record.get("planes", [0])),
            2 * outputs if second is not None else 0,
            regions=bool(regions),
        )
        channels = int(record["network"]["in_channels"])
        network.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            path, f"does not describe a network of this version ({error})", "Train again"
        ) from error
    place = torch.device(resolved.accelerator)
    network = network.eval().to(place)
    return Model(network, classes, channels, tiles, place, resolved.precision, thresholds, regions)


def load_members(model: Model, options: PredictConfig, device: DeviceConfig | None = None) -> list[Model]:
    """Models of the other runs of an ensemble; none where none are asked for.

    Raises
    ------
    CtxsegError
        If one cannot be loaded, or predicts something else.
    """
    if options.uncertainty != "ensemble":
        return []
    others = [load_model(Path(run), device) for run in options.runs]
    check_members(model, others)
    return others


def predict(
    run: Path | Model,
    case: Case,
    *,
    device: DeviceConfig | None = None,
    options: PredictConfig | None = None,
    members: Sequence[Model] | None = None,
    stop: Callable[[], bool] = lambda: False,
    first: int = 0,
) -> Iterator[Event]:
    """Predict one image.

    Parameters
    ----------
    run : Path or Model
        A run folder, or a model from `load_model` (saves loading it again for the next image).
    case : Case
        Its labels are not looked at.
    device : DeviceConfig, optional
        Where to compute, when `run` is a folder.
    options : PredictConfig, optional
        What to give besides labels. Mirrored images and ensembles are asked one after the other, and all blocks come
        at the end.
    members : sequence of Model, optional
        The other models of an ensemble, from `load_members` (saves loading them again for the next image).
    stop : callable
        Asked after every forward pass; prediction then ends without `PredictionFinished`.
    first : int
        Slice of a volume to begin with, the others nearest first; for networks that see one slice at a time.

    Yields
    ------
    Event
        `PredictionProgress` ..., `PredictionBlock` ... with class values on the image's own grid, `PredictionFinished`.

    Raises
    ------
    CtxsegError
        If run and image do not fit together.
    """
    model = run if isinstance(run, Model) else load_model(run, device)
    options = options or PredictConfig()
    others = load_members(model, options, device) if members is None else members
    for each in (model, *others):
        _check(each, case)
    began = shown = time.monotonic()
    with torch.inference_mode():
        image = normalise(case.image.channel_array, case.name)
        compared = options.uncertainty in ("tta", "ensemble")
        events = (
            _compare([model, *others], case, image, options)
            if compared
            else _once(model, case, image, options, first)
        )
        for event in events:
            if isinstance(event, PredictionBlock):
                yield event
            elif time.monotonic() - shown > PROGRESS_EVERY:
                shown = time.monotonic()
                yield event
            if stop():
                return
    yield PredictionFinished(case.name, time.monotonic() - began)


def _once(model: Model, case: Case, image: Tensor, options: PredictConfig, first: int) -> Iterator[Event]:
    """One answer, sent as it comes."""
    image = image.to(model.device)
    for start, logits, done in logit_blocks(model, image, model.tiles, model.network, first):
        if logits is None:
            yield PredictionProgress(case.name, done)
        else:
            yield from _blocks(model, case, start, logits, done, options)


def _compare(models: Sequence[Model], case: Case, image: Tensor, options: PredictConfig) -> Iterator[Event]:
    """Several answers: the labels of the first model to the image as it is, and how far the others differ."""
    flips = FLIPS[: options.passes] if options.uncertainty == "tta" else FLIPS[:1]
    answers = [(model, flip) for model in models for flip in flips]
    spread = Spread(case.image.spatial_shape, len(models[0].regions))
    held: list[PredictionBlock] = []
    for number, (model, flip) in enumerate(answers):
        for start, logits, done in mirrored(model, image.to(model.device), flip):
            if logits is not None and number == 0:
                held += _blocks(model, case, start, logits, 1.0, options, spread)
            elif logits is not None:
                spread.add(start, _probabilities(model, logits))
            yield PredictionProgress(case.name, (number + done) / len(answers))
        if number:
            spread.count()
    result = spread.result().numpy().astype(np.float16)
    for block in held:
        rows = block.labels.shape[-result.ndim]
        yield replace(block, uncertainty=result[block.start : block.start + rows])


def _probabilities(model: Model, logits: Tensor) -> Tensor:
    return probabilities(logits, regions=bool(model.regions), refined=model.thresholds is not None)


def _blocks(
    model: Model,
    case: Case,
    start: int,
    logits: Tensor,
    done: float,
    options: PredictConfig,
    spread: Spread | None = None,
) -> Iterator[PredictionBlock]:
    """What was decided, in portions; the first answer of several goes into `spread` too."""
    parts: dict[str, Any] = {}
    regions = tuple(model.regions)
    if model.thresholds is None:
        found = decided(logits, regions=bool(regions)).cpu().numpy()
    else:
        p, fn, fp = (
            part.cpu().numpy().astype(np.float16) for part in error_maps(logits, regions=bool(regions))
        )
        # From the numbers that are sent, so that whoever composes them again gets the same labels.
        single = [part.astype(np.float32) for part in (p, fn, fp)]
        found = compose(single[0], single[1], single[2], *model.thresholds, regions=bool(regions))
        parts = {"probabilities": p, "fn": fn, "fp": fp}
    unsure: NDArray[Any] | None = None
    if options.uncertainty == "entropy":
        shares = entropy(_probabilities(model, logits), regions=bool(regions))
        unsure = shares.cpu().numpy().astype(np.float16)
    elif spread is not None:
        spread.begin(start, _probabilities(model, logits), found)
    labels = found.astype(np.uint8) if regions else class_values(found, model.classes)
    last: dict[str, Any] = {"thresholds": model.thresholds, "regions": regions}
    if logits.ndim == 3:
        yield PredictionBlock(case.name, 0, labels, done, uncertainty=unsure, **(parts | last))
        return
    for first in range(0, logits.shape[1], BLOCK):
        rows = slice(first, first + BLOCK)
        some = last | {name: part[:, rows] for name, part in parts.items()}
        some["uncertainty"] = None if unsure is None else unsure[rows]
        yield PredictionBlock(case.name, start + first, labels[..., rows, :, :], done, **some)


def _check(model: Model, case: Case) -> None:
    channels = case.image.channel_array.shape[0]
    if channels != model.channels:
        raise InputError(
            case.name,
            f"has {channels} channels, but the model was trained on {model.channels}",
            "Choose the same channels",
        )
    if model.tiles.dims == 3 and len(case.image.spatial_shape) == 2:
        raise InputError(
            case.name, "is a single 2-D image, but the model is 3-D", "Choose a volume, or a 2-D model"
        )
    if 0 in case.image.array.shape:
        raise InputError(case.name, f"is empty: shape {case.image.array.shape}", "Leave it out")
