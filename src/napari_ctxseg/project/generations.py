"""Earlier states of labels: chunks that were replaced since, kept as hard links, so that a state costs almost nothing."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from napari_ctxseg.atomic import file_error, sync_folder, write_bytes_atomic
from napari_ctxseg.project.chunks import META, Grid, checked, open_array, remove_folder
from napari_ctxseg.project.marks import STATE

if TYPE_CHECKING:
    from pathlib import Path

#: Seconds of changes that make one generation.
SPAN = 30.0
#: Generations kept by themselves, and those that were given a label.
KEPT, KEPT_LABELLED = 10, 10
RECORD = "generation.json"
_ABSENT = ".absent"


@dataclass(frozen=True)
class Generation:
    """A state that can be restored: the labels as they were at `time` (seconds since 1970), before what came after.

    `label` is what somebody called it, empty for one that was kept by itself.
    """

    number: int
    time: float
    label: str = ""


@dataclass(frozen=True)
class Saved:
    """What a call of `LabelStore.save` did: chunks written, seconds it took."""

    chunks: tuple[int, ...]
    seconds: float


@dataclass(frozen=True)
class Changes:
    """What was painted since a state: pixels that changed to each value, and the chunks they are in."""

    pixels: dict[int, int]
    chunks: tuple[int, ...]


class History:
    """The generations of one image's labels.

    Each is a folder with the chunks as they were before their first change since. A chunk of state *n* is therefore the one
    in the oldest generation from *n* on that holds it, and if none does, the present one.

    Parameters
    ----------
    path : Path
        ``labels/IMAGE.history``; made when needed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def folder(self, number: int) -> Path:
        """Folder of a generation: a zarr array of its own, with the chunks that were replaced."""
        return self.path / f"{number:06d}"

    def all(self) -> list[Generation]:
        """Generations, oldest first. One whose record cannot be read is left out."""
        found = []
        for number in self._numbers():
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                values = json.loads((self.folder(number) / RECORD).read_bytes())
                found.append(Generation(number, float(values["time"]), str(values["label"])))
        return found

    def _numbers(self) -> list[int]:
        if not self.path.is_dir():
            return []
        return sorted(int(e.name) for e in self.path.iterdir() if re.fullmatch(r"\d{6,9}", e.name))

    def begin(self, array: Path, now: float, label: str = "") -> Generation:
        """Start a generation: the state as it is now.

        Parameters
        ----------
        array : Path
            Folder of the labels; its header and marks are copied.
        now : float
            Seconds since 1970.
        label : str
            What to call it.

        Raises
        ------
        FileError
            If it cannot be written.
        """
        made = Generation(max(self._numbers(), default=0) + 1, now, label)
        temp = self.path / f".new-{os.getpid()}"
        try:
            self.path.mkdir(exist_ok=True)
            remove_folder(temp)
            temp.mkdir()
            for name in (META, STATE):
                if (array / name).exists():  # a link would share the present one's damage
                    write_bytes_atomic(temp / name, (array / name).read_bytes(), sync=False)
            write_bytes_atomic(temp / RECORD, json.dumps({"time": now, "label": label}).encode())
            os.rename(temp, self.folder(made.number))
            sync_folder(self.path)
        except OSError as error:
            raise file_error(self.path, error) from error
        return made

    def keep(self, number: int, array: Path, key: str) -> bool:
        """Keep a chunk that is about to be replaced; False if this generation has it already."""
        target = self.folder(number) / key
        absent = target.with_name(key + _ABSENT)
        if target.exists() or absent.exists():
            return False
        try:
            if (array / key).exists():
                _link(array / key, target)
            else:
                absent.touch()
        except OSError as error:
            raise file_error(target, error) from error
        return True

    def source(self, number: int, key: str) -> Path | Literal[False] | None:
        """Where a chunk of state `number` is.

        Returns
        -------
        Path, None or False
            The generation's folder; None where the chunk had not been written yet; False where it has not changed since.
        """
        for each in self._numbers():
            if each >= number:
                folder = self.folder(each)
                if (folder / key).exists():
                    return folder
                if (folder / (key + _ABSENT)).exists():
                    return None
        return False

    def changed(self, number: int, grid: Grid) -> list[int]:
        """Chunks that were written since a state."""
        names: set[str] = set()
        for each in self._numbers():
            if each >= number:
                names |= {entry.name.removesuffix(_ABSENT) for entry in self.folder(each).iterdir()}
        return [index for index in range(len(grid)) if grid.key(index) in names]

    def thin(self) -> None:
        """Drop what is too many: of those kept by themselves, states that are close together for their age."""
        every = self.all()
        while True:
            plain = [g for g in every if not g.label]
            named = [g for g in every if g.label]
            if len(named) > KEPT_LABELLED:
                gone = named[0]
            elif len(plain) > KEPT:
                gone = _most_crowded(every, plain)
            else:
                return
            before = [g for g in every if g.number < gone.number]
            if before:
                self._fold(self.folder(gone.number), self.folder(before[-1].number))
            self._remove(self.folder(gone.number))
            every.remove(gone)

    def _remove(self, folder: Path) -> None:
        """Under another name first: killed half way, the rest must not look like a generation."""
        gone = folder.with_name(f".gone-{folder.name}")
        remove_folder(gone)
        os.rename(folder, gone)
        remove_folder(gone)

    def sweep(self) -> None:
        """Remove what a killed process left half made or half removed."""
        for entry in self.path.iterdir() if self.path.is_dir() else []:
            if entry.name.startswith((".new-", ".gone-")):
                remove_folder(entry)

    def _fold(self, gone: Path, into: Path) -> None:
        """Chunks of a generation that its older neighbour lacks are the neighbour's too."""
        for entry in gone.iterdir():
            key = entry.name.removesuffix(_ABSENT)
            if not key.startswith("c.") or (into / key).exists() or (into / (key + _ABSENT)).exists():
                continue
            if _same_type(gone, into) or entry.name.endswith(_ABSENT):
                _link(entry, into / entry.name)
            else:  # the labels grew to a larger type between the two
                _recode(gone, into, key)


def history_of(labels: Path) -> Path:
    """Folder of the generations of ``IMAGE.zarr``, beside it."""
    return labels.with_name(labels.name.removesuffix(".zarr").removesuffix(".zarr.new") + ".history")


def _most_crowded(every: list[Generation], plain: list[Generation]) -> Generation:
    """The state that is missed least: neither the first nor the last, and with near neighbours for its age.

    What is left lies minutes apart for the last hour, hours apart for the last day, and always holds the first state.
    """
    newest = every[-1].time

    def room(one: Generation) -> float:
        place = every.index(one)
        older, newer = every[max(place - 1, 0)], every[min(place + 1, len(every) - 1)]
        return (newer.time - older.time) / max(newest - older.time, 1e-9)

    return min(plain[1:-1], key=room)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # file systems without hard links
        shutil.copyfile(source, target)


def _same_type(one: Path, other: Path) -> bool:
    return (one / META).read_bytes() == (other / META).read_bytes()


def _recode(gone: Path, into: Path, key: str) -> None:
    """The older generation's type is smaller, and it held the same chunk then: the values fit."""
    source, target = open_array(gone, read_only=True), open_array(into, read_only=False)
    grid = Grid(source.shape, source.chunks)
    index = next(i for i in range(len(grid)) if grid.key(i) == key)
    target[grid.box(index)] = checked(source, gone, grid, index)
