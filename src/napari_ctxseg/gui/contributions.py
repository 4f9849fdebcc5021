"""What the manifest names: a reader for medical images, a writer for labels. No screen needed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg import io
from napari_ctxseg.errors import FileError
from napari_ctxseg.image import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    LayerTuple = tuple[Any, dict[str, Any], str]
    Reader = Callable[[str | Sequence[str]], list[LayerTuple]]

_READ = (".nii", ".nii.gz", ".mhd", ".mha")
_UNITS = {
    "millimeter": "mm",
    "micrometer": "um",
    "micron": "um",
    "nanometer": "nm",
    "meter": "m",
    "centimeter": "cm",
}


def get_reader(path: str | Sequence[str]) -> Reader | None:
    """Return a reader for one NIfTI or MetaImage file, None for anything else.

    Parameters
    ----------
    path : str or list of str
        What was opened. Several files at once are not read as one stack.
    """
    if not isinstance(path, (str, os.PathLike)) or io.suffix_of(path) not in _READ:
        return None
    return _read


def image_layers(image: Image, name: str) -> list[LayerTuple]:
    """Make layer tuples of an image, one for each channel.

    Always image layers: whether integers are labels is for the person to say.

    Parameters
    ----------
    image : Image
        From `napari_ctxseg.io.read`.
    name : str
        Name of the layer; channel names are added to it.

    Returns
    -------
    list of tuple
        Data of shape `image.spatial_shape`, keyword arguments, ``"image"``.
    """
    meta = layer_metadata(image)
    if not image.channels:
        return [(image.array, {"name": name, **meta}, "image")]
    return [
        (array, {"name": f"{name} {channel}", **layer_metadata(image)}, "image")
        for array, channel in zip(image.array, image.channels, strict=True)
    ]


def layer_metadata(image: Image) -> dict[str, Any]:
    """Keyword arguments that put any layer of an image in its place.

    Only what napari slices correctly: a rotation stays in ``metadata["ctxseg"]["affine"]``.

    Parameters
    ----------
    image : Image
        Its spacing, origin and unit are used.
    """
    spatial = image.spatial_axes
    return {
        "scale": image.spacing,
        "translate": tuple(float(at) for at in image.affine[:-1, -1]),
        "units": tuple("pixel" if axis == "t" else image.unit for axis in spatial),
        "axis_labels": tuple(spatial),
        "metadata": {
            "ctxseg": {
                "affine": image.affine,
                "path": str(image.source.path) if image.source else "",
                "image": image,
            }
        },
    }


def write_labels_layer(path: str, data: Any, meta: Mapping[str, Any]) -> list[str]:
    """Write one labels layer, on the grid of the image it was painted on.

    Parameters
    ----------
    path : str
        Its suffix chooses the format.
    data : array of integers
        Two or three axes.
    meta : dict
        Of the layer. ``metadata["ctxseg"]["image"]`` gives the geometry, else scale, translate and units.

    Returns
    -------
    list of str
        The path.

    Raises
    ------
    FileError
        If the labels do not fit the image, or cannot be written.
    """
    labels = np.asarray(data)
    known = (meta.get("metadata") or {}).get("ctxseg") or {}
    image = known.get("image")
    if not isinstance(image, Image):
        image = _image_from_layer(path, labels, meta)
    elif labels.shape != image.spatial_shape:
        raise FileError(
            path,
            f"the layer has shape {labels.shape}, the image it belongs to {image.spatial_shape}",
            "Save labels that cover the whole image",
        )
    io.write_labels(path, labels, image)
    return [path]


def _read(path: str | Sequence[str]) -> list[LayerTuple]:
    if not isinstance(path, (str, os.PathLike)):
        raise FileError(path, "is a list of files", "Open them one by one")
    return image_layers(io.read(path), io.stem_of(path))


def _image_from_layer(path: str, labels: np.ndarray[Any, Any], meta: Mapping[str, Any]) -> Image:
    """An image with the place of a layer that we did not make; its own values play no part."""
    n = labels.ndim
    if n not in (2, 3):
        raise FileError(Path(path).name, f"labels have {n} axes", "Save two or three axes at a time")
    scale = [float(step) for step in meta.get("scale", (1.0,) * n)]
    if any(step <= 0 for step in scale):
        raise FileError(
            Path(path).name, f"the layer's scale is {tuple(scale)}", "Give the layer a scale above 0"
        )
    affine = np.diag([*scale, 1.0])
    affine[:-1, -1] = meta.get("translate", (0.0,) * n)
    words = {str(unit) for unit in meta.get("units") or ()}
    unit = words.pop() if len(words) == 1 else "pixel"
    axes = "".join(str(label) for label in meta.get("axis_labels") or ())
    return Image(
        labels, axes if axes == "tyx" else "zyx"[-n:], tuple(scale), affine, (), _UNITS.get(unit, unit)
    )
