"""Pieces that a person has decided on in the Review; kept beside the labels, so that none is asked about twice."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg.atomic import write_bytes_atomic
from napari_ctxseg.errors import FileError
from napari_ctxseg.evaluation.suspects import REASONS, Suspect

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

VERSION = 1
REMEDY = "Delete the file to be asked about every piece again"


def verdicts_of(labels: Path) -> Path:
    """File beside a store of labels: ``labels/IMAGE.verdicts.json``."""
    return labels.with_name(labels.name.removesuffix(".zarr") + ".verdicts.json")


def save_verdicts(file: Path, shape: tuple[int, ...], pieces: Mapping[int, Sequence[Suspect]]) -> None:
    """Replace the file as a whole.

    Parameters
    ----------
    file : Path
        From `verdicts_of`.
    shape : tuple of int
        Of the labels, ``(z, y, x)`` or ``(y, x)``.
    pieces : mapping of int to sequence of Suspect
        Slice along axis 0 (0 in a 2-D image) -> what was decided there.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    records = [_record(index, one) for index, found in sorted(pieces.items()) for one in found]
    content = {"version": VERSION, "shape": list(shape), "pieces": records}
    write_bytes_atomic(file, json.dumps(content).encode())


def load_verdicts(file: Path, shape: tuple[int, ...]) -> dict[int, list[Suspect]]:
    """Read what `save_verdicts` wrote; nothing where there is no file.

    Raises
    ------
    FileError
        If the file is damaged, of labels of another shape, or from a newer version.
    """
    try:
        content = json.loads(file.read_bytes())
        version = content["version"]
        if isinstance(version, int) and version > VERSION:
            raise FileError(file, "was made by a newer version of napari-ctxseg", "Update napari-ctxseg")
        if tuple(content["shape"]) != tuple(shape):
            raise ValueError("it is of labels of another shape")
        pieces: dict[int, list[Suspect]] = {}
        for record in content["pieces"]:
            index, one = _parse(record, shape)
            pieces.setdefault(index, []).append(one)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise FileError(file, f"is damaged, or does not fit the labels ({error})", REMEDY) from error
    return pieces


def merge_verdicts(into: Path, other: Path, shape: tuple[int, ...]) -> int:
    """Add what was decided in another copy of the project; returns how many pieces are new.

    Raises
    ------
    FileError
        If one of the two files cannot be read, or the result not be written; then nothing has changed.
    """
    mine, theirs = load_verdicts(into, shape), load_verdicts(other, shape)
    added = 0
    for index, found in theirs.items():
        here = mine.setdefault(index, [])
        known = {json.dumps(_record(index, one)) for one in here}
        new = [one for one in found if json.dumps(_record(index, one)) not in known]
        here += new
        added += len(new)
    if added:
        save_verdicts(into, shape, mine)
    return added


def _record(index: int, one: Suspect) -> dict[str, Any]:
    """Plain values for JSON; the mask as bits, row by row."""
    return {
        "slice": index,
        "value": one.value,
        "reason": one.reason,
        "score": round(one.score, 3),
        "box": [[part.start, part.stop] for part in one.box],
        "mask": base64.b64encode(np.packbits(one.mask).tobytes()).decode(),
    }


def _parse(record: Any, shape: tuple[int, ...]) -> tuple[int, Suspect]:
    depth, plane = (shape[0] if len(shape) > 2 else 1), shape[-2:]
    index, (rows, columns) = int(record["slice"]), record["box"]
    box = slice(int(rows[0]), int(rows[1])), slice(int(columns[0]), int(columns[1]))
    inside = all(0 <= part.start < part.stop <= end for part, end in zip(box, plane, strict=True))
    if not (0 <= index < depth and inside):
        raise ValueError("a piece lies outside the image")
    size = [part.stop - part.start for part in box]
    bits = np.frombuffer(base64.b64decode(record["mask"], validate=True), np.uint8)
    if len(bits) != -(-size[0] * size[1] // 8):
        raise ValueError("a mask does not fit its box")
    mask = np.unpackbits(bits, count=size[0] * size[1]).astype(bool).reshape(size)
    if record["reason"] not in REASONS or not mask.any():
        raise ValueError("a piece is none")
    return index, Suspect(int(record["value"]), record["reason"], box, mask, float(record["score"]))
