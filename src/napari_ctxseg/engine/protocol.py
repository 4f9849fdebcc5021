"""What the viewer and an engine say to each other: one JSON object per line, arrays as ``.npy`` files.

No torch, no Qt. Nothing here unpickles, evaluates or runs anything it reads. A message names an array by the
bare name of a file in the scratch folder that both sides share; whoever reads the message loads the file and
deletes it.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg.cases import Case
from napari_ctxseg.errors import CtxsegError
from napari_ctxseg.events import EVENTS, Event, fields_of
from napari_ctxseg.image import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

#: Longest line accepted. Arrays travel as files, so that real messages stay far below it.
MOST_BYTES = 16 * 2**20

_ARRAY_NAME = re.compile(r"g\d{6}-\d{8}-[a-z]\.npy")


class ProtocolError(CtxsegError):
    """A message between viewer and engine that cannot be understood."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            "message between viewer and engine", reason, "Update both to the same version of napari-ctxseg"
        )


class Scratch:
    """Arrays in a folder, named by generation so that a new job never reads an old one's array.

    Parameters
    ----------
    folder : Path
        Shared by both sides.
    side : str
        One letter, so that the two sides never choose the same name.
    """

    def __init__(self, folder: Path, side: str) -> None:
        self.folder, self.side, self.generation = folder, side, 0
        self._numbers = itertools.count()

    def put(self, array: NDArray[Any]) -> str:
        """Write an array under a fresh name, complete or not at all, and return the name."""
        array = np.asarray(array)
        if array.dtype.hasobject:
            raise ProtocolError(f"arrays of {array.dtype} cannot be sent")
        name = f"g{self.generation:06d}-{next(self._numbers):08d}-{self.side}.npy"
        temporary = self.folder / f"{name}.tmp"
        with temporary.open("wb") as file:
            np.save(file, array, allow_pickle=False)
        os.replace(temporary, self.folder / name)
        return name

    def take(self, name: object) -> NDArray[Any]:
        """Load an array and delete its file.

        Raises
        ------
        ProtocolError
            If the name is not one of ours, or the file is missing or damaged.
        """
        path = self.path(name)
        try:
            array: NDArray[Any] = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ProtocolError(f"the array {name!r} cannot be read ({error})") from error
        path.unlink(missing_ok=True)
        return array

    def path(self, name: object) -> Path:
        """Path of an array, only if its name is of the form that `put` makes: no folders."""
        if not isinstance(name, str) or not _ARRAY_NAME.fullmatch(name):
            raise ProtocolError(f"{name!r} is no array of ours")
        return self.folder / name

    def sweep(self, before: int) -> None:
        """Delete arrays of generations before this one: nobody will ask for them any more."""
        for path in self.folder.glob("g*.npy*"):
            if path.name[1:7].isdigit() and int(path.name[1:7]) < before:
                path.unlink(missing_ok=True)


def encode(message: Mapping[str, Any]) -> bytes:
    """One message as one line."""
    return json.dumps(message, separators=(",", ":"), default=_plain).encode() + b"\n"


def _plain(value: object) -> Any:
    """Numpy numbers and paths as what JSON knows."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    raise ProtocolError(f"a {type(value).__name__} cannot be sent")


def decode(line: bytes) -> dict[str, Any]:
    """Read one line.

    Raises
    ------
    ProtocolError
        If it is no JSON object with a ``type``.
    """
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"{line[:80]!r} is not JSON") from error
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise ProtocolError(f"{line[:80]!r} has no type")
    return message


class Lines:
    """Turns the bytes of a pipe into whole messages."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Add bytes and return the lines that are now complete."""
        self._rest += data
        *lines, rest = bytes(self._rest).split(b"\n")
        self._rest = bytearray(rest)
        if len(rest) > MOST_BYTES:
            raise ProtocolError(f"a line is longer than {MOST_BYTES} bytes")
        return [line for line in lines if line]


# ---------------------------------------------------------------- events


def event_message(event: Event, job: int, scratch: Scratch) -> dict[str, Any]:
    """An event as a message; its arrays are written to the scratch folder."""
    values = {}
    for name, value in fields_of(event).items():
        values[name] = {"$array": scratch.put(value)} if isinstance(value, np.ndarray) else value
    return {"type": "event", "job": job, "event": type(event).__name__, "fields": values}


def read_event(message: Mapping[str, Any], take: Callable[[object], NDArray[Any]]) -> Event:
    """The event of a message.

    Parameters
    ----------
    message : mapping
        As made by `event_message`.
    take : callable
        Loads an array by its name, usually `Scratch.take`.

    Raises
    ------
    ProtocolError
        If the event is unknown or its fields are not the ones it has.
    """
    cls = EVENTS.get(str(message.get("event")))
    values = message.get("fields")
    if cls is None or not isinstance(values, dict):
        raise ProtocolError(f"unknown event {message.get('event')!r}")
    known = {field.name for field in dataclasses.fields(cls)}
    if not set(values) <= known:
        raise ProtocolError(f"{cls.__name__} has no {sorted(set(values) - known)}")
    try:
        return cls(**{name: _read_value(value, take) for name, value in values.items()})
    except TypeError as error:
        raise ProtocolError(f"{cls.__name__}: {error}") from error


def array_names(message: Mapping[str, Any]) -> list[str]:
    """Names of the arrays that come with an event, for a reader that only wants to be rid of them."""
    values = message.get("fields")
    if not isinstance(values, dict):
        return []
    return [value["$array"] for value in values.values() if isinstance(value, dict) and "$array" in value]


def _read_value(value: Any, take: Callable[[object], NDArray[Any]]) -> Any:
    if isinstance(value, dict) and set(value) == {"$array"}:
        return take(value["$array"])
    if isinstance(value, list):  # events hold tuples, never lists
        return tuple(_read_value(each, take) for each in value)
    return value


# ---------------------------------------------------------------- cases


def case_message(case: Case, scratch: Scratch) -> dict[str, Any]:
    """A case as plain values; image and labels are written to the scratch folder. Slow for large images."""
    image = case.image
    labelled = (
        None if case.labelled is None else {str(a): [int(i) for i in s] for a, s in case.labelled.items()}
    )
    return {
        "name": case.name,
        "group": case.group,
        "labelled": labelled,
        "labels": None if case.labels is None else scratch.put(case.labels),
        "image": {
            "array": scratch.put(image.array),
            "axes": image.axes,
            "spacing": [float(step) for step in image.spacing],
            "affine": np.asarray(image.affine, float).tolist(),
            "channels": list(image.channels),
            "unit": image.unit,
            "notes": list(image.notes),
        },
    }


def read_case(values: Any, scratch: Scratch) -> Case:
    """The case of plain values. Its `Source` stays behind: an engine never touches the person's files.

    Raises
    ------
    ProtocolError
        If something is missing or of the wrong kind.
    """
    try:
        entry = values["image"]
        image = Image(
            scratch.take(entry["array"]),
            str(entry["axes"]),
            tuple(float(step) for step in entry["spacing"]),
            np.asarray(entry["affine"], float),
            tuple(map(str, entry["channels"])),
            str(entry["unit"]),
            None,
            tuple(map(str, entry["notes"])),
        )
        labels = None if values["labels"] is None else scratch.take(values["labels"])
        marks = values["labelled"]
        labelled = (
            None
            if marks is None
            else {int(axis): tuple(map(int, indices)) for axis, indices in marks.items()}
        )
        return Case(str(values["name"]), image, labels, str(values["group"]), labelled)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProtocolError(f"a case cannot be read ({type(error).__name__}: {error})") from error


#: Exit statuses of a process that was killed, by a person or for want of memory.
KILLED = (-9, 137)


def what_helps(returncode: int) -> str:
    """What a person can do about an engine that does not start."""
    if returncode in KILLED:
        return "Free some memory, then open this dock anew."
    return "Reinstall napari-ctxseg."


def why_ended(returncode: int) -> str:
    """An exit status in words."""
    if returncode in KILLED:
        return "ran out of memory or was killed (SIGKILL)"
    if returncode < 0:
        try:
            return f"crashed ({signal.Signals(-returncode).name})"
        except ValueError:
            return f"crashed (signal {-returncode})"
    return f"ended unexpectedly (exit code {returncode})"
