"""Steps that change the grid. Index space alone is resampled; `Image.affine` follows, so that places stay places."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg.cases import Case
from napari_ctxseg.image import Image, plain_affine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_ctxseg.recipes.steps.config import CropPad, Resample, Resize, Slices

    #: New channel or labels from the old: ``(array, is_labels) -> array``.
    Change = Callable[[NDArray[Any], bool], NDArray[Any]]

#: SimpleITK's names.
_INTERPOLATIONS = {"linear": "sitkLinear", "bspline": "sitkBSpline"}
_NEAREST = "sitkNearestNeighbor"


def resample(config: Resample, case: Case) -> Case:
    """See `Resample`; None keeps an axis. A 2-D image takes the last two numbers."""
    image = case.image
    wanted = _last(config.spacing, image)
    shape = image.spatial_shape
    size = [
        n if w is None else max(1, round(n * s / w))
        for n, s, w in zip(shape, image.spacing, wanted, strict=True)
    ]
    # The spacing asked for exactly, about the same centre: the extent may change by less than a voxel.
    scale = [1.0 if w is None else w / s for s, w in zip(image.spacing, wanted, strict=True)]

    def change(array: NDArray[Any], labels: bool) -> NDArray[Any]:
        how = _NEAREST if labels else _INTERPOLATIONS[config.interpolation]
        return _resampled(array, size, scale, how)

    return _changed(case, change, _centred(shape, size, scale), scale)


def _resampled(array: NDArray[Any], size: Sequence[int], scale: Sequence[float], how: str) -> NDArray[Any]:
    import SimpleITK  # slow to import, and not always needed

    sitk: Any = SimpleITK  # it has no types
    source = sitk.GetImageFromArray(np.ascontiguousarray(array))
    filter_ = sitk.ResampleImageFilter()
    filter_.SetSize([int(n) for n in reversed(size)])
    filter_.SetOutputSpacing([float(s) for s in reversed(scale)])
    filter_.SetOutputOrigin([float(o) for o in reversed(_centred(array.shape, size, scale))])
    filter_.SetInterpolator(getattr(sitk, how))
    # Half a voxel beyond the outer centres is still inside the image: take the border, not a made-up 0.
    filter_.SetUseNearestNeighborExtrapolator(True)
    result: NDArray[Any] = sitk.GetArrayFromImage(filter_.Execute(source))
    return result


def crop_pad(config: CropPad, case: Case) -> Case:
    """See `CropPad`; None keeps an axis. An odd remainder goes to the end."""
    shape = case.image.spatial_shape
    size = [n if w is None else w for n, w in zip(shape, _last(config.size, case.image), strict=True)]
    starts = [(n - w) // 2 if n >= w else -((w - n) // 2) for n, w in zip(shape, size, strict=True)]

    def change(array: NDArray[Any], labels: bool) -> NDArray[Any]:
        result = np.full(size, 0 if labels else array.min(), array.dtype)
        to, of = [], []
        for n, w, start in zip(shape, size, starts, strict=True):
            length = min(n, w)
            to.append(slice(max(-start, 0), max(-start, 0) + length))
            of.append(slice(max(start, 0), max(start, 0) + length))
        result[tuple(to)] = array[tuple(of)]
        return result

    return _changed(case, change, [float(s) for s in starts], [1.0] * len(shape))


def resize(config: Resize, case: Case) -> Case:
    """See `Resize`; a volume keeps its slices."""
    from skimage.transform import resize as skimage_resize  # slow to import

    shrink: Any = skimage_resize  # it has no types
    shape = case.image.spatial_shape
    size = [*shape[:-2], *config.size]
    scale = [n / w for n, w in zip(shape, size, strict=True)]

    def change(array: NDArray[Any], labels: bool) -> NDArray[Any]:
        if labels:
            return _resampled(array, size, scale, _NEAREST)
        slices = array.reshape(-1, *shape[-2:]).astype(np.float32, copy=False)
        done = [
            shrink(one, config.size, order=1, mode="edge", anti_aliasing=True, preserve_range=True)
            for one in slices
        ]
        return np.stack(done).reshape(size).astype(np.float32)

    return _changed(case, change, _centred(shape, size, scale), scale)


def slices(config: Slices, case: Case) -> list[Case]:
    """See `Slices`; a 2-D image is its own only slice, and is left out like any other."""
    labels = case.labels
    if len(case.image.spatial_shape) == 2:
        return [case] if config.keep == "all" or (labels is not None and labels.any()) else []
    image = case.image
    array = image.channel_array
    steps = image.spacing[1:]
    axes = ("c" if image.axes.startswith("c") else "") + image.spatial_axes[1:]
    found = []
    for index in range(array.shape[1]):
        if config.keep == "foreground" and (labels is None or not labels[index].any()):
            continue
        values = array[:, index] if axes.startswith("c") else array[0, index]
        one = replace(image, array=values, axes=axes, spacing=steps, affine=plain_affine(steps), source=None)
        joint = "_" if "__" in case.name else "__"
        name = f"{case.name}{joint}z{index:03d}"
        found.append(Case(name, one, None if labels is None else labels[index], case.group))
    return found


def _last(values: Sequence[Any], image: Image) -> tuple[Any, ...]:
    """One value for each spatial axis: a 2-D image takes those of the slices; of two, a volume keeps its first axis."""
    n = len(image.spatial_axes)
    return (*[None] * (n - len(values)), *values)[-n:]


def _centred(shape: Sequence[int], size: Sequence[int], scale: Sequence[float]) -> list[float]:
    """Old index of the new first voxel when both grids have the same centre."""
    return [(n - 1) / 2 - s * (w - 1) / 2 for n, w, s in zip(shape, size, scale, strict=True)]


def _changed(case: Case, change: Change, offset: Sequence[float], scale: Sequence[float]) -> Case:
    """Image and labels on a new grid, whose voxel ``j`` lies at the old index ``offset + scale * j``."""
    image = case.image
    channels = [change(channel, False) for channel in image.channel_array]
    array = np.stack(channels) if image.axes.startswith("c") else channels[0]
    move = np.diag([*scale, 1.0])
    move[:-1, -1] = offset
    steps = tuple(s * f for s, f in zip(image.spacing, scale, strict=True))
    new = replace(image, array=array, spacing=steps, affine=image.affine @ move, source=None)
    labels = None if case.labels is None else change(case.labels, True)
    return replace(case, image=new, labels=labels)
