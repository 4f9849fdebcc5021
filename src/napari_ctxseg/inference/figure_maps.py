"""Maps of figures that only torch can compute: what a loss sees in the shown slice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg.cases import Case, class_indices
from napari_ctxseg.config import ContourFigure, DataConfig, DeviceConfig, LossAnatomyFigure, parse_loss
from napari_ctxseg.errors import InputError
from napari_ctxseg.figures.contour import contour_scene
from napari_ctxseg.figures.loss_anatomy import anatomy_scene

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_ctxseg.config import Recipe
    from napari_ctxseg.figures import Sources
    from napari_ctxseg.figures.planes import Plane
    from napari_ctxseg.figures.scene import Scene
    from napari_ctxseg.image import Image

#: Probabilities are kept this far from 0, where cross-entropy has no number.
LEAST = 1e-7


def computed(recipe: Recipe, sources: Sources) -> dict[str, NDArray[Any]]:
    """Maps of the shown slice that the recipe needs and names no files of.

    Raises
    ------
    CtxsegError
        If files are missing, or do not fit together.
    """
    if isinstance(recipe, LossAnatomyFigure) and recipe.ce is None:
        return _anatomy(recipe, sources)
    if isinstance(recipe, ContourFigure) and recipe.interior is None:
        return _contour(recipe, sources)
    return {}


def _indices(
    labels: Image, values: Mapping[str, int], foreground: bool, scene: Scene, dims: int
) -> tuple[NDArray[Any], tuple[float, ...], Plane | None]:
    """Class indices of the slice or the volume, their spacing, and how the slice is cut from the result."""
    data = DataConfig(foreground=True) if foreground else DataConfig(classes=dict(values))
    indices = class_indices(Case("labels", labels, labels.array), values, data)
    if scene.plane.flat:
        if dims == 3:
            raise InputError("dims", "is 3, but the image has two axes", "Set dims: 2")
        return indices, labels.spacing, None
    if dims == 3:
        return indices, labels.spacing, scene.plane
    return scene.plane.cut(indices), scene.plane.spacing, None


def _contour(recipe: ContourFigure, sources: Sources) -> dict[str, NDArray[Any]]:
    from napari_ctxseg.losses.anatomy import anatomy

    scene, labels, values = contour_scene(recipe, sources)
    indices, spacing, _ = _indices(labels, values, recipe.foreground, scene, 2)
    loss = {"kind": "contour_weighted_ce", "contour": recipe.contour.model_dump()}
    seen = anatomy(loss, indices, spacing, classes=len(values) + 1)
    assert seen.interior is not None
    assert seen.contour is not None
    table = np.array([0, *values.values()])
    return {"interior": table[seen.interior], "band": seen.contour}


def _anatomy(recipe: LossAnatomyFigure, sources: Sources) -> dict[str, NDArray[Any]]:
    import torch

    from napari_ctxseg.losses.anatomy import anatomy

    scene, labels, values = anatomy_scene(recipe, sources)
    if recipe.dims == 2 and not scene.plane.flat and scene.plane.axis != 0:
        raise InputError(
            "dims",
            "is 2, but the slice lies across the ones that a 2-D network sees",
            "Set dims: 3, or leave out view.axis",
        )
    indices, spacing, plane = _indices(labels, values, recipe.foreground, scene, recipe.dims)
    logits = _logits(recipe, sources, scene.image, values)
    if logits.ndim - 1 > indices.ndim:
        logits = scene.plane.cut(logits)
    loss = parse_loss(recipe.loss)
    try:
        seen = anatomy(loss, indices, spacing, classes=len(values) + 1, logits=torch.from_numpy(logits))
    except ValueError as error:  # weights for another number of classes, for instance
        raise InputError("loss", str(error), "Change the loss in the recipe") from error
    maps = {"ce": seen.ce, "weight": seen.weight, "weighted": seen.weighted}
    missing = [name for name, each in maps.items() if each is None]
    if missing:
        raise InputError(
            "loss",
            f"{recipe.loss.kind} is no weighted cross-entropy: it has no {missing[0]}",
            "Choose another loss",
        )
    found = {name: each for name, each in maps.items() if each is not None}
    return {name: each if plane is None else plane.cut(each) for name, each in found.items()}


def _logits(
    recipe: LossAnatomyFigure, sources: Sources, image: Image, values: Mapping[str, int]
) -> NDArray[np.float32]:
    """Of the whole image, ``(C, *S)``: a network's, or logarithms of given probabilities."""
    if recipe.run is not None:
        run = sources.path(recipe.run)
        if run.is_dir():
            sources.path(recipe.run / "model.safetensors")  # its weights are an input too
        return _network_logits(run, image, values)
    wrong = set(recipe.probabilities) ^ set(values)
    if wrong:
        raise InputError(
            "probabilities",
            f"and classes differ in {', '.join(sorted(wrong))}",
            "Name one map for each class",
        )
    given = np.stack([sources.values(recipe.probabilities[name], image) for name in values]).astype(
        np.float32
    )
    if given.min() < -1e-3 or given.max() > 1 + 1e-3:
        raise InputError(
            "probabilities", f"hold {given.min():.4g} to {given.max():.4g}", "Give maps from 0 to 1"
        )
    every = np.concatenate([1 - given.sum(axis=0, keepdims=True), given])
    logarithm: NDArray[np.float32] = np.log(np.clip(every, LEAST, 1)).astype(np.float32)
    return logarithm


def _network_logits(run: Path, image: Image, values: Mapping[str, int]) -> NDArray[np.float32]:
    import torch

    from napari_ctxseg.inference import load_model
    from napari_ctxseg.inference.blocks import logit_blocks
    from napari_ctxseg.training.data import normalise

    model = load_model(
        run, DeviceConfig(accelerator="cpu", precision="32-true")
    )  # the same pixels everywhere
    if model.regions or model.thresholds is not None:
        raise InputError(run, "is of regions or of two stages", "Use a run of one network and plain classes")
    if list(model.classes.values()) != list(values.values()):
        raise InputError(
            run,
            f"knows the classes {dict(model.classes)}, the recipe {dict(values)}",
            "Set classes as in the run",
        )
    if image.channel_array.shape[0] != model.channels:
        raise InputError(
            run, f"was trained on {model.channels} channels", f"The image has {image.channel_array.shape[0]}"
        )
    parts = []
    with torch.inference_mode():
        tensor = normalise(image.channel_array, "image").to(model.device)
        for _, logits, _ in logit_blocks(model, tensor, model.tiles, model.network):
            if logits is not None:
                parts.append(logits.float().cpu().numpy())
    joined: NDArray[np.float32] = parts[0] if len(image.spatial_shape) == 2 else np.concatenate(parts, axis=1)
    return joined
