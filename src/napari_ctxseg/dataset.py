"""Files on disk found, paired and read as cases. Pairing rules: the same stem, channels by suffix, lists by ``@``."""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg import io
from napari_ctxseg.cases import Case, group_of
from napari_ctxseg.errors import FileError, InputError
from napari_ctxseg.image import Image

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_ctxseg.config import DataConfig

#: ``patient07_0001`` is channel 1 of ``patient07`` - where that makes sense of the files.
_CHANNEL = re.compile(r"^(?P<base>.+)_(?P<channel>\d{4})$")
#: Image and label grids may disagree by this many voxels.
TOLERANCE = 1e-3
#: What a folder of predictions says of itself: run, classes, thresholds of a second stage.
PREDICTIONS = "predictions.json"


@dataclass(frozen=True)
class Pair:
    """Files of one case: its channels, and its labels if it has any."""

    name: str
    images: tuple[Path, ...]
    label: Path | None = None


def find_files(places: Sequence[str], what: str = "images") -> list[Path]:
    """Files behind folders, patterns, ``@lists`` and plain names, sorted within each place.

    Parameters
    ----------
    places : sequence of str
        ``DIR``: every readable file in it; ``@FILE``: one path a line (relative to the list); a pattern; or a file.
    what : str
        For messages.

    Raises
    ------
    InputError
        If a place does not exist or holds nothing.
    """
    files: list[Path] = []
    for place in places:
        found = list(_files_of(place))
        if not found:
            if not place.startswith("@") and not glob.has_magic(place) and not Path(place).exists():
                raise InputError(place, "does not exist", "Check the spelling of the path")
            raise InputError(
                place, f"holds no {what}", f"Formats that can be read: {', '.join(io.SUPPORTED)}"
            )
        files += found
    return list(dict.fromkeys(files))


def _files_of(place: str) -> Iterator[Path]:
    if place.startswith("@"):
        listing = Path(place[1:])
        try:
            lines = listing.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                listing, "is a list that cannot be read", "Give a text file with one path a line"
            ) from error
        for line in lines:
            text = line.strip()
            if text and not text.startswith("#"):
                path = Path(text)
                yield path if path.is_absolute() or path.exists() else listing.parent / path
    elif Path(place).is_dir():
        yield from (p for p in sorted(Path(place).iterdir()) if p.is_file() and _readable(p))
    elif Path(place).exists():
        yield Path(place)
    else:
        yield from (
            Path(p)
            for p in sorted(glob.glob(place, recursive=True))
            if Path(p).is_file() and _readable(Path(p))
        )


def _readable(path: Path) -> bool:
    return not path.name.startswith(".") and io.suffix_of(path) in io.SUPPORTED


def pair_files(
    images: Sequence[Path], labels: Sequence[Path] | None, channels: int | None = None
) -> list[Pair]:
    """Put channels together and find each image's labels.

    Parameters
    ----------
    images : sequence of Path
        Image files.
    labels : sequence of Path, or None
        Label files; None for prediction.
    channels : int, optional
        For prediction: how many channels the model takes. ``_0000`` suffixes are read as channels only when there are
        more than one.

    Returns
    -------
    list of Pair
        In the order of the images.

    Raises
    ------
    InputError
        If stems are ambiguous, or an image has no labels or labels no image.
    """
    stems = _unique_stems(images, "images")
    if labels is None:
        return _as_pairs(
            _grouped(stems, set(stems)) if channels and channels > 1 else {s: [p] for s, p in stems.items()}
        )
    by_stem = _unique_stems(labels, "labels")
    cases = _grouped(stems, {s for s in stems if s not in by_stem})
    pairs = [Pair(name, tuple(files), _label_of(name, by_stem)) for name, files in cases.items()]
    missing = [pair.name for pair in pairs if pair.label is None]
    if missing:
        raise InputError(
            missing[0],
            f"has no label file ({len(missing)} of {len(pairs)} images have none)",
            "Name the label file like its image, or leave the image out",
        )
    twice = {pair.label for pair in pairs if sum(other.label == pair.label for other in pairs) > 1}
    if twice:
        raise InputError(
            next(iter(twice)), "is the label of several images", "Give each image its own label file"
        )
    return pairs


def _unique_stems(files: Sequence[Path], what: str) -> dict[str, Path]:
    stems: dict[str, Path] = {}
    for path in files:
        stem = io.stem_of(path)
        if stem in stems and stems[stem] != path:
            raise InputError(
                path, f"has the same stem as {stems[stem].name} among the {what}", "Keep only one of them"
            )
        stems[stem] = path
    return stems


def _grouped(stems: dict[str, Path], loose: set[str]) -> dict[str, list[Path]]:
    """Cases with their channels in order; only stems in `loose` may be channels."""
    cases: dict[str, list[tuple[int, Path]]] = {}
    for stem, path in stems.items():
        match = _CHANNEL.match(stem) if stem in loose else None
        name, channel = (match["base"], int(match["channel"])) if match else (stem, 0)
        cases.setdefault(name, []).append((channel, path))
    result = {}
    for name, found in cases.items():
        numbers = sorted(number for number, _ in found)
        if numbers != list(range(len(found))):
            raise InputError(
                name,
                f"has the channels {numbers}, not 0 to {len(found) - 1}",
                "Add or rename the missing files",
            )
        result[name] = [path for _, path in sorted(found)]
    return result


def with_labels(pairs: Sequence[Pair], labels: Sequence[Path]) -> list[Pair]:
    """The same pairs with their labels, where there are any.

    Raises
    ------
    InputError
        If stems are ambiguous, or no label file belongs to any image.
    """
    by_stem = _unique_stems(labels, "labels")
    found = [Pair(pair.name, pair.images, _label_of(pair.name, by_stem)) for pair in pairs]
    if labels and all(pair.label is None for pair in found):
        raise InputError(labels[0], "belongs to none of the images", "Name the label file like its image")
    return found


def _as_pairs(cases: dict[str, list[Path]]) -> list[Pair]:
    return [Pair(name, tuple(files)) for name, files in cases.items()]


def _label_of(name: str, labels: dict[str, Path]) -> Path | None:
    if name in labels:
        return labels[name]
    starting = [path for stem, path in labels.items() if stem.startswith(f"{name}_")]
    if len(starting) > 1:
        raise InputError(
            name, f"has several label files: {', '.join(p.name for p in starting[:4])}", "Keep one per image"
        )
    return starting[0] if starting else None


def read_case(pair: Pair, data: DataConfig) -> Case:
    """Read one case.

    Raises
    ------
    FileError
        If a file cannot be read.
    InputError
        If channels, or image and labels, lie on different grids.
    """
    image = _stacked([io.read(path) for path in pair.images], pair)
    group = group_of(pair.name, data.group)
    if pair.label is None:
        return Case(pair.name, image, group=group)
    labels = io.read_labels(pair.label)
    check_grid(pair.name, image, labels)
    return Case(pair.name, image, labels.array, group)


def read_cases(pairs: Sequence[Pair], data: DataConfig) -> list[Case]:
    """Read all cases of a training set."""
    return [read_case(pair, data) for pair in pairs]


def absolute(places: Sequence[str]) -> tuple[str, ...]:
    """Places that still hold when work goes on from another folder."""
    return tuple(
        f"@{Path(p[1:]).absolute()}" if p.startswith("@") else str(Path(p).absolute()) for p in places
    )


def training_cases(data: DataConfig) -> list[Case]:
    """Find, pair and read everything that a configuration names.

    Raises
    ------
    FileError, InputError
        Naming the first file or pair that is wrong.
    """
    return read_cases(training_pairs(data), data)


def training_pairs(data: DataConfig) -> list[Pair]:
    """Find and pair everything that a configuration names.

    Raises
    ------
    InputError
        Naming the first file or pair that is wrong.
    """
    if not data.images or not data.labels:
        raise InputError("data", "names no images or no labels", "Give --images and --labels")
    return pair_files(find_files(data.images), find_files(data.labels, "label files"))


def _stacked(images: list[Image], pair: Pair) -> Image:
    first = images[0]
    if len(images) == 1:
        return first
    for image, path in zip(images[1:], pair.images[1:], strict=True):
        if image.axes.startswith("c") or first.axes.startswith("c"):
            raise FileError(
                path,
                "has channels of its own and a channel suffix",
                "Give one file per channel, or one for all",
            )
        check_grid(path.name, first, image, "first channel", "channel")
    array: NDArray[Any] = np.stack([image.array for image in images])
    names = tuple(io.stem_of(path) for path in pair.images)
    notes = tuple(note for image in images for note in image.notes)
    return Image(array, f"c{first.axes}", first.spacing, first.affine, names, first.unit, first.source, notes)


def check_grid(name: str, image: Image, labels: Image, of: str = "image", and_: str = "labels") -> None:
    """Refuse two images that do not lie on the same grid.

    Parameters
    ----------
    name : str
        Of the case or file, for the message.
    image, labels : Image
        Where the files of both say where they lie in space, that is compared too.
    of, and_ : str
        What they are, for the message.

    Raises
    ------
    InputError
        If shapes differ, or corners lie apart.
    """
    if image.spatial_shape != labels.spatial_shape:
        hint = f"Use {and_} drawn on this image" if of == "image" else f"Give {of} and {and_} of one image"
        if sorted(image.spatial_shape) == sorted(labels.spatial_shape):
            hint = f"The axes look swapped. {hint}"
        raise InputError(
            name, f"{of} {image.spatial_shape} and {and_} {labels.spatial_shape} have different shapes", hint
        )
    if not (_has_place(image) and _has_place(labels)):
        return
    corners = np.array([[0.0, *corner] for corner in np.ndindex(*(2,) * len(image.spatial_shape))])[:, 1:]
    ends = corners * (np.array(image.spatial_shape) - 1)
    points = np.c_[ends, np.ones(len(ends))]
    offset = (points @ (image.affine - labels.affine).T)[:, :-1]
    away = float(np.abs(offset / np.asarray(image.spacing)).max())
    if away > TOLERANCE:
        raise InputError(
            name,
            f"{of} and {and_} lie {away:.3g} voxels apart (origins {_origin(image)} and {_origin(labels)}, "
            f"spacings {_numbers(image.spacing)} and {_numbers(labels.spacing)})",
            f"Resample the {and_} onto the grid of the {of}",
        )


def _has_place(image: Image) -> bool:
    """Whether the file says where the image lies in space."""
    return image.source is not None and image.source.format in ("nifti", "metaimage")


def _origin(image: Image) -> str:
    return _numbers(image.affine[:-1, -1])


def _numbers(values: Any) -> str:
    return "(" + ", ".join(f"{float(v):.4g}" for v in values) + ")"
