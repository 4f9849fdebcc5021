"""Which slices count as labelled, and the small file beside the labels that keeps it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg.atomic import write_bytes_atomic
from napari_ctxseg.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

#: In the folder of the labels.
STATE = "state.json"
VERSION = 1


@dataclass(frozen=True)
class SliceMarks:
    """Slices that count as completely labelled under the policy *masks*, and slices that a person said do not.

    Parameters
    ----------
    labelled : mapping of int to tuple of int
        Spatial axis -> indices, sorted. A 2-D image as a whole is ``{0: (0,)}``.
    cleared : frozenset of (int, int)
        Axis and index of slices that do not count even though something is painted in them.
    """

    labelled: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    cleared: frozenset[tuple[int, int]] = frozenset()

    @classmethod
    def of(cls, labelled: Mapping[int, Iterable[int]], cleared: Iterable[tuple[int, int]] = ()) -> SliceMarks:
        """Marks from any mapping of axis to indices, such as the one of a running session."""
        kept = {int(axis): tuple(sorted({int(i) for i in found})) for axis, found in sorted(labelled.items())}
        pairs = frozenset((int(axis), int(index)) for axis, index in cleared)
        return cls({axis: found for axis, found in kept.items() if found}, pairs)

    def differing(self, other: SliceMarks) -> set[int]:
        """Slices along the first axis of which the two say different things."""
        mine, theirs = (
            {(index, True) for index in marks.labelled.get(0, ())}
            | {(index, False) for axis, index in marks.cleared if axis == 0}
            for marks in (self, other)
        )
        return {index for index, _ in mine ^ theirs}

    def record(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "labelled": {str(axis): list(found) for axis, found in self.labelled.items()},
            "cleared": sorted(map(list, self.cleared)),
        }

    @classmethod
    def parse(cls, values: Any, shape: tuple[int, ...]) -> SliceMarks:
        """Back from `record`.

        Raises
        ------
        ValueError
            If a slice lies outside the shape, or the values are something else.
        """
        limits = shape if len(shape) > 2 else (1,)
        try:
            marks = cls.of(
                {int(axis): found for axis, found in values["labelled"].items()},
                [(axis, index) for axis, index in values["cleared"]],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("no marks") from error
        places = [(axis, i) for axis, found in marks.labelled.items() for i in found] + list(marks.cleared)
        if any(not 0 <= axis < len(limits) or not 0 <= index < limits[axis] for axis, index in places):
            raise ValueError("marks outside the image")
        return marks


def counted(
    marks: SliceMarks, written: Iterable[int], read: Callable[[int], NDArray[Any]]
) -> dict[int, tuple[int, ...]]:
    """Marked slices, and slices along axis 0 with labels in no marked plane, see `LabelStore.counted`.

    Parameters
    ----------
    marks : SliceMarks
        As saved.
    written : iterable of int
        Slices along axis 0 that may hold anything.
    read : callable
        Gives one of them.
    """
    planes = {axis: set(found) for axis, found in marks.labelled.items()}
    first = planes.setdefault(0, set())
    for index in written:
        if index in first or (0, index) in marks.cleared:
            continue
        rest = np.array(read(index))
        for axis, found in planes.items():
            if axis > 0:
                rest[(slice(None),) * (axis - 1) + (sorted(found),)] = 0
        if rest.any():
            first.add(index)
    return {axis: tuple(sorted(found)) for axis, found in sorted(planes.items()) if found}


@dataclass(frozen=True)
class State:
    """What is kept beside an array of labels.

    Parameters
    ----------
    marks : SliceMarks
    stamps : dict of int to float
        When each chunk was written, seconds since 1970.
    marked : dict of int to float
        When the mark of a slice along the first axis was last set or taken away.
    """

    shape: tuple[int, ...]
    dtype: str
    marks: SliceMarks
    stamps: dict[int, float]
    marked: dict[int, float] = field(default_factory=dict)


def write_state(folder: Path, state: State) -> None:
    """Replace the state as a whole.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    record = {
        "version": VERSION,
        "shape": list(state.shape),
        "dtype": state.dtype,
        "marks": state.marks.record(),
        "written": {str(index): round(stamp, 3) for index, stamp in sorted(state.stamps.items())},
        "marked": {str(index): round(stamp, 3) for index, stamp in sorted(state.marked.items())},
    }
    write_bytes_atomic(folder / STATE, json.dumps(record).encode())


def read_state(folder: Path, shape: tuple[int, ...], dtype: str | None, count: int) -> State:
    """Read and check the state.

    Parameters
    ----------
    folder : Path
        Of the labels, or of a generation.
    shape, dtype, count
        Of the array, and how many chunks it has; `dtype` None: any.

    Raises
    ------
    FileError
        If it is missing, damaged, of another array, or from a newer version.
    """
    file = folder / STATE
    try:
        record = json.loads(file.read_bytes())
        version = record["version"]
        if isinstance(version, int) and version > VERSION:
            raise FileError(file, "was made by a newer version of napari-ctxseg", "Update napari-ctxseg")
        if tuple(record["shape"]) != shape or (dtype is not None and record["dtype"] != dtype):
            raise ValueError("it is of another array")
        marks = SliceMarks.parse(record["marks"], shape)
        stamps = {int(index): float(stamp) for index, stamp in record["written"].items()}
        marked = {int(index): float(stamp) for index, stamp in record.get("marked", {}).items()}
        if any(not 0 <= index < count for index in stamps):
            raise ValueError("it names chunks that cannot be")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise FileError(
            file,
            f"is missing, damaged, or does not fit the labels ({error})",
            "Take the last good one: `ctxseg project restore PROJECT --image NAME`",
        ) from error
    return State(shape, str(record["dtype"]), marks, stamps, marked)
