"""Layers without a file, as inputs of a figure of files: written where the recipe finds them again. No widgets."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg import io
from napari_ctxseg.atomic import file_error
from napari_ctxseg.config import Config, parse_figure
from napari_ctxseg.errors import InputError
from napari_ctxseg.gui import layers as lay
from napari_ctxseg.project.schema import safe_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari_ctxseg.config import Recipe

#: Begins what stands for a layer where a recipe wants a file.
PREFIX = "layer:"
#: Folder of the files that were made of layers: in the scratch folder, and as the end of its name beside a picture.
FOLDER, BESIDE = "layers", ".layers"
_GRID = (
    "name",
    "data",
    "multiscale",
    "metadata",
    "rotate",
    "shear",
    "affine",
    "scale",
    "translate",
    "units",
    "axis_labels",
)


def offered(viewer: Any) -> list[tuple[str, Path]]:
    """Layers that have no file, or may have been painted in since, with what stands for them."""
    return [
        (f"layer {layer.name}, as it is when drawn", Path(f"{PREFIX}{name}"))
        for name, layer in _named(viewer).items()
        if _is_labels(layer) or not layer.metadata.get("ctxseg", {}).get("path")
    ]


def _named(viewer: Any) -> dict[str, Any]:
    """Image and labels layers by names that can be a file's and stand in a line, two of them never alike."""
    from napari.layers import Image as ImageLayer

    found: dict[str, Any] = {}
    for layer in map(lay.plain, viewer.layers):
        if isinstance(layer, ImageLayer) or _is_labels(layer):
            found[safe_name(layer.name, found)] = layer
    return found


def _is_labels(layer: Any) -> bool:
    from napari.layers import Labels

    return isinstance(layer, Labels)


class LayersTaken:
    """The layers that a form names, noted down on the GUI thread and written in another one.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    values : mapping
        As the form gives them.

    Raises
    ------
    InputError
        If a layer is gone, or cannot be written.
    """

    def __init__(self, viewer: Any, values: Mapping[str, Any]) -> None:
        self.values = values
        self._shots: dict[str, tuple[lay.Snapshot, bool]] = {}
        present = _named(viewer)

        def note(text: str) -> str:
            name = text.removeprefix(PREFIX)
            if name != text and name not in self._shots:
                if name not in present:
                    raise InputError(text, "is not in the viewer any more", "Choose another layer, or a file")
                self._shots[name] = _shot(present[name])
            return text

        _each_text(values, note)

    def filled(self, scratch: Path) -> Any:
        """The values with files in place of layers. Off the GUI thread: layers are written into the folder.

        Raises
        ------
        CtxsegError
            If one cannot be written.
        """
        paths = {name: _written(*self._shots[name], scratch / FOLDER, name) for name in self._shots}
        return _each_text(
            self.values,
            lambda text: str(paths[text.removeprefix(PREFIX)]) if text.startswith(PREFIX) else text,
        )


def with_layers(recipe: Recipe, scratch: Path, picture: Path) -> Recipe:
    """The recipe with what was made of layers in a folder beside its picture, where it is found again.

    Parameters
    ----------
    recipe : Recipe
    scratch : Path
        Folder that `LayersTaken.filled` wrote into.
    picture : Path
        What will be drawn; its folder gets ``STEM.layers/``.

    Raises
    ------
    FileError
        If they cannot be written.
    """
    made, target = scratch / FOLDER, picture.with_name(f"{picture.stem}{BESIDE}").absolute()
    found: list[Path] = []

    def moved(path: Path) -> Path:
        if path.parent != made:
            return path
        found.append(path)
        return target / path.name

    values = _each_path(recipe, moved)
    if not found:
        return recipe
    try:
        target.mkdir(parents=True, exist_ok=True)
        for path in set(found):
            shutil.copyfile(path, target / path.name)
    except OSError as error:
        raise file_error(target, error) from error
    return parse_figure(values, "the figure")


def _shot(layer: Any) -> tuple[lay.Snapshot, bool]:
    """A layer as it is noted down for other threads, and whether it is labels."""
    if getattr(layer, "rgb", False):
        raise InputError(
            f"'{layer.name}'", "is a colour image without a file", "Save it with napari, and choose the file"
        )
    # Labels have all that an image has, but for this one thing.
    stand_in = SimpleNamespace(rgb=False, **{name: getattr(layer, name) for name in _GRID})
    return lay.snapshot([stand_in]), _is_labels(layer)


def _written(shot: lay.Snapshot, labels: bool, folder: Path, name: str) -> Path:
    image = replace(shot.image(), source=None)
    path = folder / f"{name}{'.tif' if len(shot.shape) == 2 else '.nii'}"
    folder.mkdir(parents=True, exist_ok=True)
    if labels:
        io.write_labels(path, image.array, image)
    else:
        io.write_map(path, np.asarray(image.array, np.float32), image)
    return path


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    """Plain values with each text in them changed; keys stay."""
    if isinstance(value, dict):
        return {key: _each_text(each, change) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_each_text(each, change) for each in value]
    return change(value) if isinstance(value, str) else value


def _each_path(value: Any, change: Callable[[Path], Path]) -> Any:
    """A recipe as plain values, each path in it changed."""
    if isinstance(value, Config):
        kind = {"kind"} & set(type(value).model_fields)  # a default, and yet it must be said
        return {name: _each_path(getattr(value, name), change) for name in value.model_fields_set | kind}
    if isinstance(value, dict):
        return {key: _each_path(each, change) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_each_path(each, change) for each in value]
    return change(value) if isinstance(value, Path) else value
