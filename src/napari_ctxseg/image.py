"""`Image`: the value that flows from files and layers to the network and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

#: Label index of a pixel that nobody has labelled. It is never background.
IGNORE = -1


@dataclass(frozen=True)
class Source:
    """Where an image came from and how its grid was turned, so that labels can be written back like it.

    Parameters
    ----------
    path : Path
        The file.
    format : str
        ``"nifti"``, ``"tiff"``, ``"png"`` or ``"metaimage"``.
    order : tuple of int
        File axis behind each spatial axis of the array (``array = transpose(file, order)``, then flips).
    flips : tuple of bool
        Whether that axis was flipped, one per spatial axis of the array.
    header : dict
        What the format needs to write its own geometry bit for bit (raw header bytes, tags, key lines).
    """

    path: Path
    format: str
    order: tuple[int, ...]
    flips: tuple[bool, ...]
    header: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Image:
    """An image on its own grid, axes turned (never resampled) to the nearest LPS orientation.

    Parameters
    ----------
    array : ndarray
        Spatial axes in the order of `axes`; a channel axis, if any, comes first.
    axes : str
        One letter per axis of `array`: ``"yx"``, ``"zyx"``, ``"tyx"``, or with a leading ``"c"``.
    spacing : tuple of float
        Size of one step along each spatial axis, in `unit`.
    affine : ndarray, shape (n + 1, n + 1)
        Maps an index ``(z, y, x, 1)`` to LPS coordinates in the same order, in `unit`. n is the number of spatial axes.
    channels : tuple of str
        Names of the channels; empty when there is no channel axis.
    unit : str
        ``"mm"``, ``"um"`` ... or ``"pixel"`` where the file says nothing.
    source : Source or None
        The file behind it.
    notes : tuple of str
        Everything the reader had to guess or mend, one sentence each. Shown before training.
    """

    array: NDArray[Any]
    axes: str
    spacing: tuple[float, ...]
    affine: NDArray[np.float64]
    channels: tuple[str, ...] = ()
    unit: str = "pixel"
    source: Source | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.spatial_axes)
        if self.array.ndim != len(self.axes):
            raise ValueError(f"array has {self.array.ndim} axes, but axes={self.axes!r}")
        if "c" in self.axes[1:]:
            raise ValueError(f"the channel axis must come first, got axes={self.axes!r}")
        if len(self.spacing) != n or self.affine.shape != (n + 1, n + 1):
            raise ValueError(
                f"spacing {self.spacing} and affine {self.affine.shape} do not fit {n} spatial axes"
            )
        if self.axes.startswith("c") and len(self.channels) != self.array.shape[0]:
            raise ValueError(f"{len(self.channels)} channel names for {self.array.shape[0]} channels")

    @property
    def spatial_axes(self) -> str:
        """Letters of the spatial axes only."""
        return self.axes.removeprefix("c")

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Shape without the channel axis."""
        return tuple(self.array.shape[-len(self.spatial_axes) :])

    @property
    def channel_array(self) -> NDArray[Any]:
        """The array with a channel axis in front, a view: shape ``(C, *S)``."""
        return self.array if self.axes.startswith("c") else self.array[None]


def plain_affine(spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """Affine of a grid that has a spacing and nothing else."""
    return np.diag([*map(float, spacing), 1.0])


def image_from_array(
    array: NDArray[Any], axes: str, *, spacing: tuple[float, ...] | None = None, unit: str = "pixel"
) -> Image:
    """Wrap a bare array, for instance a napari layer's data.

    Parameters
    ----------
    array : ndarray
        Channels first when `axes` starts with ``"c"``.
    axes : str
        See `Image`.
    spacing : tuple of float, optional
        One per spatial axis; ones when left out.
    unit : str
        Unit of the spacing.

    Raises
    ------
    ValueError
        If array, axes and spacing do not fit.
    """
    n = len(axes.removeprefix("c"))
    steps = tuple(map(float, spacing)) if spacing is not None else (1.0,) * n
    names = tuple(f"channel {i}" for i in range(array.shape[0])) if axes.startswith("c") else ()
    return Image(array, axes, steps, plain_affine(steps), names, unit)
