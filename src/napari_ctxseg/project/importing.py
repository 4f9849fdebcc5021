"""Whole data sets brought into a project: folders of files, and ``dataset.json`` of nnU-Net and of the Medical Decathlon."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg import dataset, io
from napari_ctxseg.cases import MOST_CLASSES, group_of
from napari_ctxseg.errors import InputError
from napari_ctxseg.project.adding import NewImage
from napari_ctxseg.project.schema import Policy, check_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

DATASET = "dataset.json"
_LARGEST_JSON = 1 << 26


@dataclass(frozen=True)
class Import:
    """What a data set says: the settings of a project, and its images.

    `notes` says what was left out or exchanged, one sentence each.
    """

    images: tuple[NewImage, ...]
    classes: dict[str, int] = field(default_factory=dict)
    regions: dict[str, tuple[int, ...]] = field(default_factory=dict)
    policy: Policy = "masks"
    background: int | None = None
    name: str = ""
    notes: tuple[str, ...] = ()


def from_files(
    images: Sequence[str],
    labels: Sequence[str] = (),
    *,
    group: str | None = None,
    classes: Mapping[str, int] | None = None,
    foreground: bool = False,
) -> Import:
    """Images and labels from folders, patterns, ``@lists`` and files, paired as `ctxseg train` does.

    Parameters
    ----------
    images, labels : sequence of str
        See `napari_ctxseg.dataset.find_files`. Without labels the images are there to be painted.
    group : str, optional
        Regular expression that finds the patient in a file name; without it each image is a patient.
    classes : mapping, optional
        Name -> value; left out: the values that the label files hold.
    foreground : bool
        Every value above 0 becomes 1, as instance masks need.

    Raises
    ------
    CtxsegError
        If files are missing, ambiguous or unreadable, or their values look like instance ids.
    """
    found = dataset.find_files(images)
    marked = dataset.find_files(labels, "label files") if labels else None
    pairs = dataset.pair_files(found, marked)
    listed = tuple(
        NewImage(pair.images, pair.name, group_of(pair.name, group), pair.label, foreground=foreground)
        for pair in pairs
    )
    if foreground:
        return Import(listed, {"foreground": 1})
    named = dict(classes) if classes else _values_of(image.labels for image in listed if image.labels)
    return Import(listed, named)


def _values_of(files: Iterable[Path]) -> dict[str, int]:
    values: set[int] = set()
    for path in files:
        values |= {int(value) for value in np.unique(io.read_labels(path).array)}
        if len(values) > MOST_CLASSES:
            raise InputError(
                path,
                "and those before it hold so many values that they look like instance ids",
                "Take all of them as one class with --foreground, or name the classes with --classes",
            )
    return {f"class {value}": value for value in sorted(values - {0})}


def from_dataset_json(path: Path, *, group: str | None = None) -> Import:
    """A data set of nnU-Net (version 2 or 1) or of the Medical Segmentation Decathlon.

    nnU-Net's ``ignore`` label means unlabelled: such a data set becomes a project of scribbles, whose background is a
    value of its own. Images in ``imagesTs`` or ``test`` are for testing.

    Parameters
    ----------
    path : Path
        ``dataset.json``, or its folder.
    group : str, optional
        Regular expression that finds the patient in a case's name.

    Raises
    ------
    InputError
        If the file is damaged, of another kind, or names files elsewhere or that are not there.
    """
    file = path / DATASET if path.is_dir() else path
    values = _read_json(file)
    try:
        if isinstance(values.get("training"), list):
            found = _decathlon(file, values)
        elif "file_ending" in values or "channel_names" in values:
            found = _nnunet(file, values)
        else:
            raise InputError(
                file,
                "lists no training images and names no file ending",
                "Is it of nnU-Net or the Decathlon?",
            )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            file, f"is not as nnU-Net or the Decathlon write it ({error})", "Check the file"
        ) from error
    if not found.images:
        raise InputError(file, "names no images", "Check imagesTr and labelsTr beside it")
    images = tuple(replace(image, group=group_of(image.name or "", group)) for image in found.images)
    return replace(found, images=images, name=str(values.get("name") or file.parent.name)[:200])


def _read_json(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > _LARGEST_JSON:
            raise InputError(file, "is far too large", "Check the file")
        values = json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise InputError(file, "is not there", "Name the folder that holds dataset.json") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            file, f"cannot be read as JSON ({type(error).__name__})", "Check the file"
        ) from error
    if not isinstance(values, dict):
        raise InputError(file, "holds no settings", "Check the file")
    return values


# ---------------------------------------------------------------- Decathlon


def _decathlon(file: Path, values: Mapping[str, Any]) -> Import:
    classes = {str(name): int(value) for value, name in values["labels"].items() if int(value) != 0}
    channels = len(values.get("modality") or {"0": ""})
    images = [
        _listed(file, entry["image"], channels, label=entry.get("label")) for entry in values["training"]
    ]
    for entry in values.get("test", []):
        listed = entry["image"] if isinstance(entry, dict) else entry
        if isinstance(listed, list):
            listed = listed[0]
        images.append(replace(_listed(file, listed, channels), role="test"))
    return Import(tuple(images), _unique(classes))


def _listed(file: Path, listed: str, channels: int, label: str | None = None) -> NewImage:
    image = _inside(file, listed)
    name = io.stem_of(image)
    where = _inside(file, label) if label else None
    if image.is_file():
        return NewImage((image,), name, labels=where, fourth="channel" if channels > 1 else None)
    # nnU-Net 1 lists CASE.nii.gz and keeps CASE_0000.nii.gz.
    suffix = io.suffix_of(image)
    files = tuple(image.with_name(f"{name}_{number:04d}{suffix}") for number in range(channels))
    return NewImage(_there(file, files), name, labels=where)


def _inside(file: Path, listed: str) -> Path:
    inner = re.sub(r"^(\./)+", "", str(listed))
    try:
        path = file.parent / check_path(inner)
    except ValueError as error:
        raise InputError(
            file, f"names a file elsewhere: {listed!r}", "Put all files beside dataset.json"
        ) from error
    if not path.resolve().is_relative_to(file.parent.resolve()):
        raise InputError(
            file, f"names a file elsewhere, by a link: {listed!r}", "Put all files beside dataset.json"
        )
    return path


def _there(file: Path, files: tuple[Path, ...]) -> tuple[Path, ...]:
    for path in files:
        if not path.is_file():
            raise InputError(file, f"names {path.name}, which is not there", "Copy the whole data set again")
    return files


# ---------------------------------------------------------------- nnU-Net 2


def _nnunet(file: Path, values: Mapping[str, Any]) -> Import:
    channels, ending = len(values["channel_names"]), str(values.get("file_ending", ".nii.gz"))
    classes, regions, ignore = _nnunet_labels(values["labels"])
    if isinstance(values.get("dataset"), dict):
        images = [
            NewImage(
                _there(file, tuple(_inside(file, each) for each in entry["images"])),
                str(name),
                labels=_inside(file, entry["label"]),
            )
            for name, entry in values["dataset"].items()
        ]
    else:
        images = _in_folder(file, "imagesTr", channels, ending, labels="labelsTr")
    known = {image.name for image in images}
    tests = [
        image
        for image in _in_folder(file, "imagesTs", channels, ending, labels="labelsTs")
        if image.name not in known
    ]
    images += [replace(image, role="test") for image in tests]
    if ignore is None:
        return Import(tuple(images), classes, regions)
    background = next(v for v in range(1, 2**16) if v not in {ignore, *classes.values()})
    exchanged = {0: background, ignore: 0}
    images = [replace(image, values=exchanged) if image.labels else image for image in images]
    note = f"The value {ignore} meant unlabelled: it became 0, and background the value {background} (policy scribbles)"
    return Import(tuple(images), classes, regions, "scribbles", background, notes=(note,))


def _in_folder(file: Path, folder: str, channels: int, ending: str, *, labels: str) -> list[NewImage]:
    place = file.parent / folder
    first = f"_0000{ending}"
    names = (
        sorted(p.name.removesuffix(first) for p in place.iterdir() if p.name.endswith(first))
        if place.is_dir()
        else []
    )
    found = []
    for name in names:
        files = _there(file, tuple(place / f"{name}_{number:04d}{ending}" for number in range(channels)))
        label = file.parent / labels / f"{name}{ending}"
        if not label.is_file() and labels == "labelsTr":
            raise InputError(label, "is not there, but its image is", "Copy the whole data set again")
        found.append(NewImage(files, name, labels=label if label.is_file() else None))
    return found


def _nnunet_labels(
    labels: Mapping[str, Any],
) -> tuple[dict[str, int], dict[str, tuple[int, ...]], int | None]:
    """Classes, regions, and the value of what is to be ignored."""
    ignore = int(labels["ignore"]) if "ignore" in labels else None
    named = {name: value for name, value in labels.items() if name not in ("background", "ignore")}
    if not any(isinstance(value, list) for value in named.values()):
        return (
            _unique({str(name): int(value) for name, value in named.items() if int(value) != 0}),
            {},
            ignore,
        )
    regions = {
        re.sub(r"[^\w-]+", "-", str(name)): tuple(
            int(v) for v in (value if isinstance(value, list) else [value])
        )
        for name, value in named.items()
    }
    within = sorted({value for values in regions.values() for value in values})
    return {f"class {value}": value for value in within}, regions, ignore


def _unique(classes: dict[str, int]) -> dict[str, int]:
    if len(set(classes.values())) != len(classes):
        raise ValueError(f"two labels share a value: {classes}")
    return classes
