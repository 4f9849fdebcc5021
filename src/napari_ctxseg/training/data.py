"""Cases made ready for the network: normalised images, class indices, and where patches may be centred."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_ctxseg.cases import Case, class_indices
from napari_ctxseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_ctxseg.config import DataConfig

#: Enough voxels for percentiles and moments; more only cost time.
MOST_FOR_STATISTICS = 1_000_000
#: Positions remembered per class and case.
MOST_POSITIONS = 20_000
#: More non-finite voxels than this share is a broken file, not a few bad pixels.
MOST_NONFINITE = 0.01


@dataclass(frozen=True)
class Sample:
    """One case, ready for patches.

    Parameters
    ----------
    name, group : str
        Of the case.
    image : Tensor of float32, shape ``(C, *S)``
        Normalised.
    target : Tensor of int16, shape ``*S``
        Class indices, `IGNORE` where unlabelled.
    spacing : tuple of float
        One number per axis of `S`.
    positions : dict of int to ndarray, shape (n, len(S))
        Class index (0 = background) -> some labelled voxels of it.
    """

    name: str
    group: str
    image: Tensor
    target: Tensor
    spacing: tuple[float, ...]
    positions: dict[int, NDArray[np.int32]]


def normalise(array: NDArray[Any], name: str) -> Tensor:
    """Each channel clipped to its 0.5 and 99.5 percentiles, then to mean 0 and deviation 1.

    Parameters
    ----------
    array : ndarray, shape ``(C, *S)``
        Any numeric type.
    name : str
        For messages.

    Returns
    -------
    Tensor of float32, shape ``(C, *S)``
        A constant channel becomes 0 everywhere.

    Raises
    ------
    InputError
        If more than one voxel in a hundred is not finite.
    """
    result = np.empty(array.shape, np.float32)
    for channel, values in enumerate(array):
        flat = np.asarray(values).reshape(-1)
        some = flat[:: max(1, flat.size // MOST_FOR_STATISTICS)].astype(np.float64)
        finite = np.isfinite(some)
        if finite.mean() < 1 - MOST_NONFINITE:
            raise InputError(
                name,
                f"{1 - finite.mean():.0%} of its voxels are NaN or infinite",
                "Mend or leave out the image",
            )
        some = some[finite]
        low, high = np.percentile(some, [0.5, 99.5])
        if not high > low:
            low, high = some.min(), some.max()
        clipped = np.clip(some, low, high)
        mean, deviation = clipped.mean(), clipped.std()
        scaled = np.nan_to_num(
            np.asarray(values, np.float32), nan=float(low), posinf=float(high), neginf=float(low)
        )
        np.clip(scaled, low, high, out=scaled)
        result[channel] = (scaled - mean) / deviation if deviation > 1e-8 * max(1.0, abs(mean)) else 0.0
    return torch.from_numpy(result)


def prepare(case: Case, classes: Mapping[str, int], data: DataConfig) -> Sample:
    """Make one case ready.

    Raises
    ------
    InputError
        If its labels do not fit its image.
    """
    indices = class_indices(case, classes, data)
    return Sample(
        case.name,
        case.group or case.name,
        normalise(case.image.channel_array, case.name),
        torch.from_numpy(np.ascontiguousarray(indices)),
        case.image.spacing,
        _positions(indices, len(classes) + 1),
    )


def planes_of(data: DataConfig) -> tuple[int, ...]:
    """Spatial axes of a volume along which 2-D networks see slices."""
    return tuple("zyx".index(plane) for plane in data.planes)


def along(sample: Sample, axis: int) -> Sample:
    """A volume with another axis first, so that it is cut into slices of that plane; the plane is a patient of its own
    where statistics or sequences belong to one (Rezaei et al. 2018, algorithm 1).
    """
    if axis == 0:
        return sample
    order = [axis, *(a for a in range(sample.target.ndim) if a != axis)]
    return Sample(
        sample.name,
        sample.group,
        sample.image.permute(0, *(a + 1 for a in order)),
        sample.target.permute(order),
        tuple(sample.spacing[a] for a in order),
        {index: places[:, order] for index, places in sample.positions.items()},
    )


def in_planes(samples: Sequence[Sample], planes: Sequence[int]) -> list[Sample]:
    """Every volume once for each plane; 2-D images as they are."""
    return [
        along(sample, axis) for sample in samples for axis in (planes if sample.target.ndim == 3 else (0,))
    ]


def _positions(indices: NDArray[np.int16], classes: int) -> dict[int, NDArray[np.int32]]:
    rng = np.random.default_rng(0)
    found: dict[int, NDArray[np.int32]] = {}
    for index in range(classes):
        flat = np.flatnonzero(indices.reshape(-1) == index)
        if flat.size:
            chosen = (
                flat
                if flat.size <= MOST_POSITIONS
                else np.sort(rng.choice(flat, MOST_POSITIONS, replace=False))
            )
            found[index] = np.stack(np.unravel_index(chosen, indices.shape), axis=1).astype(np.int32)
    return found


def check_trainable(
    samples: Sequence[Sample], classes: Mapping[str, int], regions: Mapping[str, Sequence[int]] | None = None
) -> list[str]:
    """Refuse what cannot be learnt from; return what should be said.

    Raises
    ------
    InputError
        If nothing is labelled, or everything labelled is one class.
    """
    seen = {index for sample in samples for index in sample.positions}
    if not seen - {0}:
        raise InputError(
            "labels", "hold no painted class" if 0 in seen else "are empty", "Paint some labels first"
        )
    if len(seen) < 2:
        name = list(classes)[next(iter(seen)) - 1]
        raise InputError(
            "labels", f"hold only the class {name!r}", "Label some background too, or another class"
        )
    absent = [name for i, name in enumerate(classes, 1) if i not in seen]
    if regions:
        notes = _region_notes(regions, {classes[name] for name in absent}, everywhere=0 not in seen)
    else:
        notes = [f"Class {name!r} is nowhere in the labels" for name in absent]
    constant = [s.name for s in samples if not bool(s.image.any())]
    if constant:
        notes.append(f"Constant images teach nothing: {', '.join(constant[:5])}")
    return notes


def _region_notes(regions: Mapping[str, Sequence[int]], absent: set[int], *, everywhere: bool) -> list[str]:
    notes = []
    for name, values in regions.items():
        missing = sorted(set(values) & absent)
        if len(missing) == len(values):
            notes.append(f"Region {name!r} is nowhere in the labels: none of its values {missing} is")
        elif missing:
            notes.append(f"Region {name!r} names values that are nowhere in the labels: {missing}")
        others = {v for each in regions.values() for v in each} - set(values) - absent
        if everywhere and not others:
            notes.append(f"Region {name!r} is everywhere that is labelled: nothing says what is outside")
    return notes
