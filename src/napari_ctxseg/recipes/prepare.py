"""A data set made ready for a recipe: found, dealt into parts, every case through the steps, kept as files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_ctxseg import io
from napari_ctxseg.atomic import sweep_stale, write_bytes_atomic
from napari_ctxseg.cases import split_groups
from napari_ctxseg.errors import FileError, InputError
from napari_ctxseg.events import CasePrepared
from napari_ctxseg.recipes.layouts import LAYOUTS, Entry, find_entries, read_entry
from napari_ctxseg.recipes.steps import apply, learn
from napari_ctxseg.recipes.steps.config import Nyul

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from napari_ctxseg.cases import Case
    from napari_ctxseg.recipes.schema import Recipe
    from napari_ctxseg.recipes.steps.values import Standard

#: Part of the name of prepared folders: raised when a step comes to do something else.
VERSION = 2
SUFFIX = ".nii.gz"


@dataclass(frozen=True)
class Prepared:
    """Files that are ready to be trained on.

    Parameters
    ----------
    images, labels : Path
        Text files with one path a line.
    parts : dict of str to str
        Patient -> ``"train"`` or ``"test"``.
    cases : int
        Images, slices where the recipe cuts slices.
    used, whole : int
        Cases of the set that were used, and that its layout counts when it is complete; 0 where that is not known.
    """

    images: Path
    labels: Path
    parts: dict[str, str]
    cases: int
    used: int
    whole: int


def prepare(
    recipe: Recipe, name: str, data: Path, out: Path, *, patients: int | None = None
) -> Generator[CasePrepared, None, Prepared]:
    """Make a data set ready. What was made before from the same files by the same steps is not made again.

    Parameters
    ----------
    recipe : Recipe
    name : str
        Of the recipe.
    data : Path
        Where the set was unpacked; only read.
    out : Path
        Prepared files go to ``prepared/`` in it.
    patients : int, optional
        Only so many patients, chosen by the hash of their names.

    Yields
    ------
    CasePrepared

    Raises
    ------
    CtxsegError
        If files are missing, damaged or do not fit, or there are too few patients to keep some apart.
    """
    entries = find_entries(recipe.set_, data)
    parts = dealt(recipe, entries, patients)
    entries = [entry for entry in entries if entry.group in parts]
    folder = _folder(recipe, entries, parts, data, out)
    standards = _standards(recipe, folder, [e for e in entries if parts[e.group] == "train"])
    files: list[str] = []
    images: list[str] = []
    for number, entry in enumerate(entries, start=1):
        known = _known(folder, entry)
        made = known or _make(recipe, folder, entry, standards)
        files += made["files"]
        images += made["images"]
        yield CasePrepared(entry.name, number, len(entries), known is not None)
    left = {file.partition("__")[0] for file in files}
    parts = {group: part for group, part in parts.items() if group in left}
    if set(parts.values()) != {"train", "test"}:
        raise InputError(
            data,
            "holds no labels to train on, or none to test on, after preparation",
            "Check the label files, or take more patients",
        )
    lists = folder / "lists"
    lists.mkdir(exist_ok=True)
    labels = [f"{file}{SUFFIX}" for file in files]
    for what, names in (("images", images), ("labels", labels)):
        text = "".join(f"{(folder / what / each).absolute()}\n" for each in names)
        write_bytes_atomic(lists / f"{name}-{what}.txt", text.encode())
    return Prepared(
        lists / f"{name}-images.txt",
        lists / f"{name}-labels.txt",
        parts,
        len(files),
        len(entries),
        LAYOUTS[recipe.set_].cases,
    )


def dealt(recipe: Recipe, entries: Sequence[Entry], patients: int | None = None) -> dict[str, str]:
    """Patient -> part, as the set or the recipe's shares have it.

    Raises
    ------
    InputError
        If either part would be empty.
    """
    groups = _by_hash({entry.group for entry in entries})
    if recipe.split.by == "set":
        of: dict[str, str] = {entry.group: entry.part for entry in entries}
        if patients is not None:
            tested = [group for group in groups if of[group] == "test"]
            few = max(1, round(patients * len(tested) / len(groups)))
            trained = [group for group in groups if of[group] == "train"]
            groups = [*tested[:few], *trained[: max(1, patients - few)]]
        parts = {group: of[group] for group in groups}
    else:
        groups = groups[:patients]
        apart = split_groups(groups, recipe.split.test)
        parts = {group: "test" if group in apart else "train" for group in groups}
    if set(parts.values()) != {"train", "test"}:
        there = "one patient is" if len(groups) == 1 else f"{len(groups)} patients are"
        raise InputError(
            LAYOUTS[recipe.set_].title,
            f"{there} too few to train on some and test on others",
            "Three are needed at least",
        )
    return parts


def _by_hash(groups: set[str]) -> list[str]:
    return sorted(groups, key=lambda name: hashlib.sha256(name.encode()).hexdigest())


def _folder(recipe: Recipe, entries: Sequence[Entry], parts: dict[str, str], data: Path, out: Path) -> Path:
    """Folder of these steps on this set; a standard that is learnt depends on the training images too."""
    record: list[Any] = [VERSION, recipe.set_, [step.model_dump(mode="json") for step in recipe.prepare]]
    if any(isinstance(step, Nyul) for step in recipe.prepare):
        record.append([_stamp(e) for e in entries if parts[e.group] == "train"])
    key = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:12]
    folder = out / "prepared" / f"{recipe.set_}-{key}"
    if out.resolve().is_relative_to(data.resolve()):
        raise InputError(out, "lies within the data set's folder", "Name a folder outside of it with --out")
    try:
        for each in ("images", "labels", "cases"):
            (folder / each).mkdir(parents=True, exist_ok=True)
            sweep_stale(folder / each)
    except OSError as error:
        raise InputError(
            folder, f"cannot be written to ({error.strerror or error})", "Choose another folder with --out"
        ) from error
    return folder


def _stamp(entry: Entry) -> list[Any]:
    """What tells whether the files of a case have changed."""
    found = []
    for path in (*entry.images, entry.label):
        try:
            state = path.stat()
        except OSError as error:
            raise FileError(path, f"cannot be read ({error.strerror})", "Unpack the set again") from error
        found.append([path.name, state.st_size, state.st_mtime_ns])
    return [entry.name, found]


def _known(folder: Path, entry: Entry) -> dict[str, list[str]] | None:
    """What was made of a case before, if it is of the same sources and still there."""
    record = folder / "cases" / f"{entry.name}.json"
    try:
        values = json.loads(record.read_text(encoding="utf-8"))
        found = {name: [str(file) for file in values[name]] for name in ("files", "images")}
        same = values["sources"] == _stamp(entry)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    there = [folder / "images" / each for each in found["images"]]
    there += [folder / "labels" / f"{each}{SUFFIX}" for each in found["files"]]
    return found if same and all(path.is_file() for path in there) else None


def _make(recipe: Recipe, folder: Path, entry: Entry, standards: Sequence[Standard]) -> dict[str, list[str]]:
    """Stems of the cases that come of an entry, and their image files."""
    stamp = _stamp(entry)
    cases = apply(recipe.prepare, read_entry(entry), standards)
    made = {
        "files": [case.name for case in cases],
        "images": [file for case in cases for file in _write(folder, case)],
    }
    record = json.dumps({"sources": stamp, **made})
    write_bytes_atomic(folder / "cases" / f"{entry.name}.json", record.encode())
    return made


def _write(folder: Path, case: Case) -> list[str]:
    """Image and labels as files; the names of the image's."""
    assert case.labels is not None  # of a layout's entries
    channels = case.image.channel_array
    names = [f"{case.name}{f'_{i:04d}' if len(channels) > 1 else ''}{SUFFIX}" for i in range(len(channels))]
    for name, channel in zip(names, channels, strict=True):
        io.write_map(folder / "images" / name, channel.astype("float32"), case.image)
    io.write_labels(folder / "labels" / f"{case.name}{SUFFIX}", case.labels, case.image)
    return names


def _standards(recipe: Recipe, folder: Path, training: Sequence[Entry]) -> list[Standard]:
    """Learnt once, then kept beside the files: what changes them has another folder."""
    path = folder / "standards.json"
    if path.is_file():
        try:
            return [tuple(tuple(map(float, c)) for c in s) for s in json.loads(path.read_text("utf-8"))]
        except (ValueError, TypeError) as error:
            raise FileError(path, f"is damaged ({error})", f"Delete the folder {folder}") from error

    def cases() -> Iterator[Case]:
        return (read_entry(entry) for entry in training)

    found = learn(recipe.prepare, cases)
    write_bytes_atomic(path, json.dumps(found).encode())
    return found
