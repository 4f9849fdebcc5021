"""How unbalanced labels are, and which losses that speaks for. No torch here.

Numbers are those of what a loss sees: one slice at a time for a 2-D network, a volume for a 3-D one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import ndimage

from napari_ctxseg.image import IGNORE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

Dims = Literal[2, 3]


@dataclass(frozen=True)
class Sample:
    """Labels of one image.

    Parameters
    ----------
    indices : array of integers, shape ``(y, x)`` or ``(z, y, x)``
        Class indices: 0 background, -1 unlabelled.
    spacing : sequence of float
        One number per axis.
    unit : str
        Unit of the spacing.
    slices : int
        Slices of the whole stack, where `indices` holds only some; 0: all are there.
    """

    indices: NDArray[Any]
    spacing: Sequence[float]
    unit: str = "pixel"
    slices: int = 0


@dataclass(frozen=True)
class ClassBalance:
    """One class in all images together.

    Attributes
    ----------
    name : str
        As the person calls it.
    pixels : int
        How many are labelled so.
    share : float
        Of the labelled pixels.
    components : int
        Connected pieces, in all images; pieces that touch at a corner are one.
    per_image : float
        Pieces in each image that holds the class, on average.
    smallest : int
        Pixels of the smallest piece.
    smallest_size : float
        Its area or volume.
    radius : float
        Median over the pieces of the radius of a disk (ball) as large, in pixels of the finest in-plane axis.
    boundary : float
        Share of its pixels that have a neighbour of another class: what a contour of one pixel takes.
    slenderness : float
        Mean depth of its pixels over that of a disk (ball) as large as the piece: 1 for a disk, near 0 for vessels
        and walls.
    depth : float
        Twice the mean depth of its pixels, in the same pixels: half the thickness of a vessel or a wall.
    """

    name: str
    pixels: int
    share: float
    components: int = 0
    per_image: float = 0.0
    smallest: int = 0
    smallest_size: float = 0.0
    radius: float = 0.0
    boundary: float = 0.0
    slenderness: float = 1.0
    depth: float = 0.0


@dataclass(frozen=True)
class Imbalance:
    """Numbers of a set of labels.

    Attributes
    ----------
    dims : int
        2: each slice is an image of its own. 3: volumes.
    unit : str
        Of sizes; ``"px"`` where nothing is known.
    classes : tuple of ClassBalance
        Background first.
    slices, slices_labelled : int
        Along the first axis of stacks; a 2-D image is one slice.
    flat : bool
        Whether all images are 2-D.
    unlabelled : float
        Share of the pixels of the labelled slices that have no label.
    boundary : float
        Share of the foreground pixels that have a neighbour of another class.
    box_density, box_share : float or None
        Foreground over the tight box around it, and that box over the image; labelled pixels only, mean over the
        images with foreground. None without foreground.
    side : int
        Pixels of the shortest in-plane side.
    """

    dims: Dims
    unit: str
    classes: tuple[ClassBalance, ...]
    slices: int
    slices_labelled: int
    flat: bool
    unlabelled: float
    boundary: float
    box_density: float | None
    box_share: float | None
    side: int

    @property
    def labelled(self) -> int:
        """Number of labelled pixels."""
        return sum(one.pixels for one in self.classes)

    @property
    def foreground(self) -> tuple[ClassBalance, ...]:
        """The classes that are there, without background."""
        return tuple(one for one in self.classes[1:] if one.pixels)

    @property
    def smallest(self) -> int:
        """Pixels of the smallest piece of any class."""
        return min((one.smallest for one in self.foreground), default=0)

    @property
    def problem(self) -> str:
        """Why nothing can be said, in words for the person; empty if something can."""
        if not self.labelled:
            return "Nothing is labelled yet."
        if not self.foreground:
            return "Only background is labelled so far."
        if len(self.foreground) == 1 and self.foreground[0].pixels == self.labelled:
            return f"Every labelled pixel is '{self.foreground[0].name}': label background too."
        return ""

    def sentence(self) -> str:
        """The numbers in one line."""
        if self.problem:
            return self.problem
        what = "images" if self.flat else "slices"
        parts = [f"{self.slices_labelled} of {self.slices} {what} labelled"]
        rare = sorted(self.foreground, key=lambda one: one.share)
        shares = ", ".join(f"{one.name} {percent(one.share)}" for one in rare[:3])
        parts.append(f"{shares} of labelled pixels")
        parts.append(f"smallest component {self.smallest} px")
        parts.append(f"{percent(self.boundary)} of the foreground on a boundary")
        if self.box_density is not None:
            parts.append(f"box density {percent(self.box_density)}")
        if self.unlabelled > 0:
            parts.append(f"{percent(self.unlabelled)} of their pixels unlabelled")
        return ", ".join(parts)

    def details(self) -> str:
        """Every class in a line of its own, background first."""
        lines = []
        for place, one in enumerate(self.classes):
            line = f"{one.name}: {percent(one.share)} of labelled pixels"
            if place and one.pixels:
                pieces = "1 component" if one.components == 1 else f"{one.components} components"
                line += f", {pieces}, {percent(one.boundary)} of it on a boundary"
            lines.append(line)
        return "\n".join(lines) if self.labelled else ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "labelled": self.labelled, "smallest": self.smallest}


def percent(share: float) -> str:
    """A share for people: ``0.4 %``, ``3 %``, ``97 %``."""
    value = 100 * share
    if 99.5 <= value < 100:
        return "over 99 %"
    return f"{value:.2g} %" if value < 10 else f"{value:.0f} %"


@dataclass
class _Tally:
    """What is added up of one class."""

    sizes: list[NDArray[np.int64]] = field(default_factory=list)
    radii: list[NDArray[np.float64]] = field(default_factory=list)
    depths: list[NDArray[np.float64]] = field(default_factory=list)
    disks: list[NDArray[np.float64]] = field(default_factory=list)
    smallest_size: float = np.inf
    edge: int = 0

    def summary(self, name: str, pixels: int, labelled: int) -> ClassBalance:
        """The class in numbers."""
        share = pixels / labelled if labelled else 0.0
        if not self.sizes:
            return ClassBalance(name, pixels, share)
        sizes, radii, depths, round_ = (
            np.concatenate(each) for each in (self.sizes, self.radii, self.depths, self.disks)
        )
        return ClassBalance(
            name,
            pixels,
            share,
            len(sizes),
            len(sizes) / len(self.sizes),
            int(sizes.min()),
            self.smallest_size,
            float(np.median(radii)),
            self.edge / pixels,
            float(np.average(np.minimum(depths / round_, 1), weights=sizes)),
            2 * float(np.average(depths, weights=sizes)),
        )


def measure(samples: Iterable[Sample], names: Sequence[str], dims: Dims) -> Imbalance:
    """Look at labels.

    Parameters
    ----------
    samples : iterable of Sample
        One for each image.
    names : sequence of str
        Of the classes 1, 2, ...
    dims : 2 or 3
        Of the network: with 2 every slice of a stack along its first axis is an image of its own.

    Returns
    -------
    Imbalance

    Raises
    ------
    ValueError
        If there is no sample, or one has neither two nor three axes or holds an index without a name.
    """
    counts = np.zeros(len(names) + 2, np.int64)  # unlabelled first
    tallies = [_Tally() for _ in names]
    boxes: list[tuple[float, float]] = []
    number = slices = labelled = covered = 0
    side, flat = 0, True
    units: set[str] = set()
    for sample in samples:
        indices = np.asarray(sample.indices)
        if indices.ndim not in (2, 3) or not -1 <= indices.min(initial=0) <= indices.max(initial=0) <= len(
            names
        ):
            raise ValueError(
                f"labels must have 2 or 3 axes and indices from -1 to {len(names)}, got {indices.shape}"
            )
        planes = indices[None] if indices.ndim == 2 else indices
        some = [bool((plane != IGNORE).any()) for plane in planes]
        number, slices, labelled = number + 1, slices + (sample.slices or len(some)), labelled + sum(some)
        covered += sum(some) * int(np.prod(planes.shape[1:]))
        flat, units = flat and indices.ndim == 2, units | {sample.unit}
        side = min(side or min(planes.shape[1:]), *planes.shape[1:])
        for image, spacing in _images(indices, some, tuple(sample.spacing), dims):
            counts += _counted(image, len(names))
            boxes += _look_at(image, spacing, tallies)
    if not number:
        raise ValueError("there are no labels to look at")
    total = int(counts[1:].sum())
    classes = [ClassBalance("background", int(counts[1]), float(counts[1] / max(1, total)))]
    for name, tally, pixels in zip(names, tallies, counts[2:].tolist(), strict=True):
        classes.append(tally.summary(name, pixels, total))
    front = int(counts[2:].sum())
    unit = units.pop() if len(units) == 1 else "pixel"
    return Imbalance(
        dims,
        "px" if unit in ("pixel", "") else unit,
        tuple(classes),
        slices,
        labelled,
        flat,
        1 - total / covered if covered else 1.0,
        sum(tally.edge for tally in tallies) / front if front else 0.0,
        float(np.mean([density for density, _ in boxes])) if boxes else None,
        float(np.mean([share for _, share in boxes])) if boxes else None,
        side,
    )


def _images(
    indices: NDArray[Any], some: Sequence[bool], spacing: tuple[float, ...], dims: Dims
) -> Iterator[tuple[NDArray[Any], tuple[float, ...]]]:
    """What the loss sees at a time: labelled slices, or the volume from the first of them to the last."""
    if indices.ndim == 2:
        if some[0]:
            yield indices, spacing
    elif dims == 2:
        for index in np.flatnonzero(some):
            yield indices[index], spacing[1:]
    elif any(some):
        first, last = np.flatnonzero(some)[[0, -1]]
        yield indices[first : last + 1], spacing


def _look_at(
    image: NDArray[Any], spacing: tuple[float, ...], tallies: Sequence[_Tally]
) -> list[tuple[float, float]]:
    """Add one image to the tallies; density and share of its box, if it has foreground."""
    box = _box(image > 0)
    if box is None:
        return []
    valid = image != IGNORE
    inside = int(np.count_nonzero(valid[box]))
    front = int(np.count_nonzero(np.greater(image[box], 0)))
    # One pixel more on each side, where the image goes on: neighbours count, an edge of the image does not.
    near = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
    beyond = len(tallies) + 1
    crop: NDArray[Any] = image[near].astype(np.int8 if beyond < 128 else np.int32)
    differs = ndimage.maximum_filter(crop, 3, mode="nearest") > crop
    differs |= (
        ndimage.minimum_filter(np.where(crop == IGNORE, crop.dtype.type(beyond), crop), 3, mode="nearest")
        < crop
    )
    for index in np.flatnonzero(_counted(crop, len(tallies))[2:]) + 1:
        mask = crop == index
        tally = tallies[index - 1]
        tally.edge += int(np.count_nonzero(differs & mask))
        _add_pieces(mask, spacing, tally)
    return [(front / inside, inside / int(np.count_nonzero(valid)))]


def _counted(image: NDArray[Any], highest: int) -> NDArray[np.int64]:
    """How often -1, 0, 1 ... occur; row by row, because bincount keeps all other threads waiting."""
    total = np.zeros(highest + 2, np.int64)
    for row in image:
        total += np.bincount(row.ravel().astype(np.intp) + 1, minlength=len(total))
    return total


def _box(mask: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    found = []
    for axis in range(mask.ndim):
        places = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        if not places.size:
            return None
        found.append(slice(int(places[0]), int(places[-1]) + 1))
    return tuple(found)


def _add_pieces(mask: NDArray[np.bool_], spacing: tuple[float, ...], tally: _Tally) -> None:
    pieces, count = ndimage.label(mask, np.ones((3,) * mask.ndim, bool))
    sizes = _counted(pieces, count)[2:]
    steps = np.asarray(spacing) / min(spacing[-2:])
    volume = sizes * float(np.prod(steps))
    flat = mask.ndim == 2
    radii = np.sqrt(volume / np.pi) if flat else np.cbrt(3 * volume / (4 * np.pi))
    tally.sizes.append(sizes.astype(np.int64))
    tally.radii.append(radii)
    tally.disks.append(radii / (3 if flat else 4))  # mean distance to the rim of a disk, of a ball
    tally.depths.append(np.array([_depth(mask, box, steps) for box in ndimage.find_objects(pieces)]))
    tally.smallest_size = min(tally.smallest_size, float(sizes.min() * np.prod(spacing)))


def _depth(mask: NDArray[np.bool_], box: tuple[slice, ...], steps: NDArray[np.float64]) -> float:
    """Mean distance of the pixels in a box to the rim of the class, from their middle."""
    near = mask[tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)]
    if bool(np.all(near)):  # it fills the image: no rim in sight
        return float(min(n * step for n, step in zip(near.shape, steps, strict=True))) / 4
    distance = ndimage.distance_transform_edt(near, sampling=steps)
    return float(distance[near].mean()) - 0.5
