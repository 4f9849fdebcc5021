"""One slice of an image: which one, how large its pixels are, and where the patient's left is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_ctxseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_ctxseg.config import ViewConfig
    from napari_ctxseg.image import Image

Box = tuple[int, int, int, int]
#: Letters at the low and the high end of the world's axes (z, y, x) in LPS.
ENDS = (("I", "S"), ("A", "P"), ("R", "L"))
#: sin(22.5 degrees): beyond it the second letter is named as well, as DICOM viewers do.
OBLIQUE = 0.3827
#: Formats that say how the body lies.
ORIENTED = ("nifti", "metaimage")
UNPLACED = "The file says nothing usable about its orientation"


@dataclass(frozen=True)
class Plane:
    """A slice and its geometry.

    Attributes
    ----------
    axis, index : int
        The spatial axis that is cut, and where. A 2-D image has axis 0 and index 0 and is not cut.
    shape : tuple of int
        Rows and columns.
    spacing : tuple of float
        Size of a pixel, row and column, in `unit`.
    unit : str
        ``"mm"``, ``"um"``, ..., ``"pixel"``.
    ends : tuple of str or None
        Letters at left, right, top and bottom as drawn; None where nobody knows.
    upward : bool
        Rows are drawn from the bottom up, so that the head is on top.
    box : tuple of int
        What is shown: top, left, height, width in pixels.
    flat : bool
        Whether the image has two axes only.
    """

    axis: int
    index: int
    shape: tuple[int, int]
    spacing: tuple[float, float]
    unit: str
    ends: tuple[str, str, str, str] | None
    upward: bool
    box: Box
    flat: bool

    def cut(self, array: NDArray[Any]) -> NDArray[Any]:
        """The slice of an array on the image's grid; channels in front stay."""
        if self.flat:
            return array
        part: NDArray[Any] = np.take(array, self.index, axis=array.ndim - 3 + self.axis)
        return part

    @property
    def aspect(self) -> float:
        """Height over width of what is shown, in the world."""
        return aspect_of(self.box, self.spacing)


def aspect_of(box: Box, spacing: tuple[float, float]) -> float:
    """Height over width of a box of pixels, in the world."""
    return box[2] * spacing[0] / (box[3] * spacing[1])


def choose_plane(view: ViewConfig, image: Image, masks: Sequence[NDArray[np.bool_]]) -> Plane:
    """The slice that a view asks for.

    Parameters
    ----------
    view : ViewConfig
    image : Image
    masks : sequence of bool arrays, shape ``image.spatial_shape``
        Structures, in order of importance: the first one chooses the slice, all of them the crop.

    Raises
    ------
    InputError
        If there is no such slice or axis, or nothing to choose a slice by.
    """
    letters = image.spatial_axes
    flat = len(letters) == 2
    if view.axis is not None and view.axis not in letters and not flat:
        raise InputError("view.axis", f"{view.axis} is no axis of the image", f"It has: {', '.join(letters)}")
    axis = letters.index(view.axis) if view.axis is not None and not flat else 0
    index = 0 if flat else _index(view, image, axis, masks)
    if flat and view.index not in (None, 0):
        raise InputError("view.index", f"{view.index} is no slice of a 2-D image", "Leave it out")
    kept = [a for a in range(len(letters)) if flat or a != axis]
    rows, columns = kept
    shape = (image.spatial_shape[rows], image.spatial_shape[columns])
    low_high = _ends(image, rows, columns)
    upward = low_high is not None and low_high[0][1].startswith("S")
    timed = "t" in (letters[rows], letters[columns])
    spacing = (1.0, 1.0) if timed else (image.spacing[rows], image.spacing[columns])
    plane = Plane(
        axis=axis, index=index, shape=shape, spacing=spacing, unit="pixel" if timed else image.unit,
        ends=_drawn(low_high, upward), upward=upward, box=(0, 0, *shape), flat=flat,
    )  # fmt: skip
    box = _crop(view, plane, masks)
    return replace(plane, box=box)


def _index(view: ViewConfig, image: Image, axis: int, masks: Sequence[NDArray[np.bool_]]) -> int:
    count = image.spatial_shape[axis]
    if view.index is not None:
        if view.index >= count:
            raise InputError(
                "view.index", f"{view.index} is outside the image", f"Its slices are 0 to {count - 1}"
            )
        return view.index
    others = tuple(a for a in range(3) if a != axis)
    for mask in masks:
        areas = np.count_nonzero(mask, axis=others)
        if areas.any():
            return int(np.argmax(areas))
    raise InputError(
        "view.index", "cannot be chosen, because nothing is labelled", "Give the number of the slice"
    )


def _crop(view: ViewConfig, plane: Plane, masks: Sequence[NDArray[np.bool_]]) -> Box:
    if view.crop is None:
        return plane.box
    if view.crop == "auto":
        drawn = [plane.cut(mask) for mask in masks]
        union = np.any(drawn, axis=0) if drawn else np.zeros(plane.shape, bool)
        return around(union, view.margin, plane.shape) if union.any() else plane.box
    return inside(view.crop, plane.shape, "view.crop")


def inside(box: Box, shape: tuple[int, int], name: str) -> Box:
    """The box, if it lies in the slice.

    Raises
    ------
    InputError
        If it does not.
    """
    top, left, height, width = box
    if top + height > shape[0] or left + width > shape[1]:
        raise InputError(
            name, f"{list(box)} reaches beyond the slice", f"The slice has {shape[0]} x {shape[1]} pixels"
        )
    return box


def around(mask: NDArray[np.bool_], margin: int, shape: tuple[int, int]) -> Box:
    """Box around all of a mask, with a margin, shifted and cut to lie in the slice."""
    low, high = [], []
    for axis in (0, 1):
        filled = np.flatnonzero(mask.any(axis=1 - axis))
        low.append(max(int(filled[0]) - margin, 0))
        high.append(min(int(filled[-1]) + 1 + margin, shape[axis]))
    return low[0], low[1], max(high[0] - low[0], 2), max(high[1] - low[1], 2)


def largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected piece of a mask, the first of equals."""
    pieces, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(pieces.ravel())[1:]
    piece: NDArray[np.bool_] = pieces == int(np.argmax(sizes)) + 1
    return piece


def zoom_box(view: ViewConfig, plane: Plane, masks: Sequence[NDArray[np.bool_]]) -> Box | None:
    """The part to draw larger; None when there is none.

    Raises
    ------
    InputError
        If the box is not in the slice, or there is nothing to zoom in on.
    """
    if view.zoom is None:
        return None
    if view.zoom.box is not None:
        return inside(view.zoom.box, plane.shape, "view.zoom.box")
    for mask in masks:
        drawn = plane.cut(mask)
        if drawn.any():
            return _squared(around(largest(drawn), view.zoom.margin, plane.shape), plane)
    raise InputError("view.zoom", "finds no structure in this slice", "Give view.zoom.box")


def _squared(box: Box, plane: Plane) -> Box:
    """At most twice as long as wide, so that its panel has a usable shape."""
    start, size = list(box[:2]), list(box[2:])
    world = [size[a] * plane.spacing[a] for a in (0, 1)]
    short = int(world[0] > world[1])
    wanted = min(int(np.ceil(max(world) / 2 / plane.spacing[short])), plane.shape[short])
    if wanted > size[short]:
        start[short] = max(0, min(start[short] - (wanted - size[short]) // 2, plane.shape[short] - wanted))
        size[short] = wanted
    return start[0], start[1], size[0], size[1]


def oriented(image: Image) -> bool:
    """Whether the file says how the body lies."""
    if image.source is None or image.source.format not in ORIENTED or "t" in image.axes:
        return False
    return len(image.spatial_axes) == 3 and not any(note.startswith(UNPLACED) for note in image.notes)


def letters_of(direction: NDArray[np.float64]) -> tuple[str, str]:
    """Letters at the low and the high end of a direction in LPS coordinates ``(z, y, x)``.

    The nearest axis comes first; a second one is named from 22.5 degrees on.
    """
    cosines = direction / np.linalg.norm(direction)
    order = np.argsort(-np.abs(cosines), kind="stable")
    named = [w for w in order[:2] if abs(cosines[w]) > OBLIQUE]
    low = "".join(ENDS[w][int(cosines[w] < 0)] for w in named)
    high = "".join(ENDS[w][int(cosines[w] > 0)] for w in named)
    return low, high


def _ends(image: Image, rows: int, columns: int) -> tuple[tuple[str, str], tuple[str, str]] | None:
    """Letters at the low and high ends of rows and columns."""
    if not oriented(image):
        return None
    return letters_of(image.affine[:3, rows]), letters_of(image.affine[:3, columns])


def _drawn(
    ends: tuple[tuple[str, str], tuple[str, str]] | None, upward: bool
) -> tuple[str, str, str, str] | None:
    """Left, right, top, bottom as drawn."""
    if ends is None:
        return None
    (first, last), (left, right) = ends
    return (left, right, last, first) if upward else (left, right, first, last)
