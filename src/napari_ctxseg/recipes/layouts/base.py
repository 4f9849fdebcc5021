"""What all layouts share: entries, finding files, and errors that say what is expected where."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_ctxseg import io
from napari_ctxseg.cases import Case
from napari_ctxseg.config import DataConfig
from napari_ctxseg.dataset import Pair, read_case
from napari_ctxseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

Part = Literal["train", "test", ""]
#: Masks that are pictures are white where the structure is; JPEG blurs the border between.
WHITE = 127
NO_GROUPS = DataConfig()
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Entry:
    """Files of one case, where the set has put them.

    Parameters
    ----------
    name : str
        Unique in the set. Begins with `group`, then ``__`` and what tells cases of the group apart.
    group : str
        Patient, or whatever must not be on both sides of a split.
    images : tuple of Path
        One file for each channel, or one that holds them all.
    label : Path
    part : "train", "test" or ""
        Where the set, or those who use it, have put the case; empty where that is left open.
    slice_ : int, optional
        The labels are of this slice of the volume alone.
    mask : bool
        The labels are a picture: white is 1, black 0.
    """

    name: str
    group: str
    images: tuple[Path, ...]
    label: Path
    part: Part = ""
    slice_: int | None = None
    mask: bool = False


@dataclass(frozen=True)
class Layout:
    """A public data set: where it can be had, and how its files are found.

    Parameters
    ----------
    title : str
    source, terms : str
        Where it can be had, and on what terms. Nothing is downloaded.
    expected : str
        Files and folders, in one sentence.
    cases : int
        Labelled cases of the whole set, by this layout's count; 0 where that is not known.
    find : callable
        Entries below a folder; none if there are no such files.
    """

    title: str
    source: str
    terms: str
    expected: str
    cases: int
    find: Callable[[Path], list[Entry]]


def read_entry(entry: Entry) -> Case:
    """Image and labels of an entry.

    Raises
    ------
    FileError, InputError
        If a file cannot be read, or image and labels do not fit.
    """
    if entry.slice_ is None and not entry.mask:
        case = read_case(Pair(entry.name, entry.images, entry.label), NO_GROUPS)
        return replace(case, group=entry.group)
    image = io.read(entry.images[0])
    labels = _white(io.read(entry.label).channel_array) if entry.mask else io.read_labels(entry.label).array
    if entry.slice_ is not None:
        if len(image.spatial_axes) != 3 or not 0 <= entry.slice_ < image.spatial_shape[0]:
            raise InputError(
                entry.label,
                f"is of slice {entry.slice_}, but {entry.images[0].name} has the shape {image.spatial_shape}",
                "Check that both are of the same sequence",
            )
        steps = image.spacing[1:]
        plane = np.ascontiguousarray(image.array[..., entry.slice_, :, :])
        image = replace(
            image, array=plane, axes=image.axes.replace("z", "").replace("t", ""), spacing=steps,
            affine=np.diag([*steps, 1.0]), source=None,
        )  # fmt: skip
    if labels.shape != image.spatial_shape:
        raise InputError(
            entry.label,
            f"has the shape {labels.shape}, its image {image.spatial_shape}",
            "Copy both again from where they came from",
        )
    return Case(entry.name, image, labels, entry.group)


def _white(channels: NDArray[Any]) -> NDArray[np.uint8]:
    # Alpha, if there is any, is no colour: three channels at most are looked at.
    highest: NDArray[Any] = channels[:3].max(axis=0)
    limit = WHITE if highest.max() > 1 else 0
    return (highest > limit).astype(np.uint8)


def first_folder(root: Path, *places: str) -> Path | None:
    """The first of some folders below a root that exists; ``"."`` is the root itself."""
    return next((root / place for place in places if (root / place).is_dir()), None)


def needed(path: Path, of: str, *others: Path) -> Path:
    """A file that must be there, or one of those that may stand in for it.

    Raises
    ------
    InputError
        Naming the file that is missing, and what it belongs to.
    """
    for each in (path, *others):
        if each.is_file():
            return each
    raise InputError(path, f"is missing: {of}", "Unpack the set again, or leave the case out")


def beside(folder: Path, names: Iterable[str], of: str) -> Path:
    """As `needed`, one of some names in a folder."""
    first, *others = (folder / name for name in names)
    return needed(first, of, *others)


def readable(folder: Path, suffixes: Sequence[str] = ()) -> list[Path]:
    """Image files directly in a folder, by name; all that can be read, or those of some suffixes."""
    wanted = tuple(suffixes) or tuple(io.SUPPORTED)
    found = (p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    return sorted(p for p in found if io.suffix_of(p) in wanted)


def numbered(found: Iterable[Path]) -> list[Path]:
    """In the order of the numbers in their names."""
    return sorted(found, key=lambda p: ([int(n) for n in _NUMBER.findall(p.name)], p.name))
