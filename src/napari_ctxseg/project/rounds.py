"""Rounds of annotating and retraining: one small file each, and whether the last one helped."""

from __future__ import annotations

import json
import secrets
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationError

from napari_ctxseg.atomic import write_bytes_atomic
from napari_ctxseg.config import Config
from napari_ctxseg.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ROUNDS = "rounds"
#: A change of the mean validation Dice by less than this is no more than the noise between two seeds.
GAIN = 0.01


class Scores(Config):
    """Dice on the validation images: per class (None where a class is in neither mask) and their mean."""

    classes: dict[str, float | None] = Field(default_factory=dict)
    mean: float | None = None


class Round(Config):
    """One round: what was labelled, what was trained on it, and what it brought.

    Parameters
    ----------
    id : str
        Twelve hex digits, also the name of its file.
    number : int
        Counts up in one copy of a project; after a merge two rounds may have the same.
    started : datetime
        When its training began, with time zone.
    minutes : float
        Spent annotating since the last round.
    pixels : dict
        Class name -> pixels that were given to it since the last round; ``"unlabelled"`` and ``"background"`` too.
    slices, images : int
        How many of them were touched.
    run, parent : str
        Names of the run, and of the one it started from; empty for none.
    config : str
        SHA-256 of the run's configuration.
    validation : tuple of str
        Patients that it was measured on.
    truth : str
        Fingerprint of their labels: scores of two rounds compare only where it is the same.
    before, after : Scores or None
        On the validation images: of the run that it started from, and of its own.
    versions : dict
        Package -> version.
    """

    version: Literal[1] = 1
    id: str = Field(pattern=r"^[0-9a-f]{12}$")
    number: int = Field(ge=1)
    started: datetime
    minutes: float = Field(0.0, ge=0)
    pixels: dict[str, int] = Field(default_factory=dict)
    slices: int = Field(0, ge=0)
    images: int = Field(0, ge=0)
    run: str = ""
    parent: str = ""
    config: str = ""
    validation: tuple[str, ...] = ()
    truth: str = ""
    before: Scores | None = None
    after: Scores | None = None
    versions: dict[str, str] = Field(default_factory=dict)


def new_id() -> str:
    """A fresh id."""
    return secrets.token_hex(6)


def save_round(project: Path, made: Round) -> Path:
    """Write a round's file.

    Raises
    ------
    FileError
        If the disk is full or the folder gone.
    """
    folder = project / ROUNDS
    if not project.is_dir():
        raise FileError(project, "is not there any more", "Check the drive; the round was not recorded")
    folder.mkdir(exist_ok=True)
    path = folder / f"{made.id}.json"
    write_bytes_atomic(path, json.dumps(made.model_dump(mode="json"), indent=1).encode())
    return path


def load_rounds(project: Path) -> tuple[list[Round], list[str]]:
    """All rounds in the order of time, and a sentence for each file that could not be read."""
    rounds, notes = [], []
    folder = project / ROUNDS
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        try:
            made = Round.model_validate_json(path.read_bytes())
            if made.id != path.stem:
                raise ValueError("its name is not its id")
            if made.started.tzinfo is None:
                raise ValueError("its time has no time zone")
            rounds.append(made)
        except (OSError, ValidationError, ValueError, RecursionError) as error:
            notes.append(f"{path.name} is left out: it cannot be read ({_first(error)})")
    return sorted(rounds, key=lambda r: (r.started, r.number, r.id)), notes


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        found = error.errors()[0]
        return f"{'.'.join(map(str, found['loc']))}: {found['msg']}".strip(": ")
    return str(error) or type(error).__name__


def helped(previous: Round | None, this: Round) -> str:
    """Whether a round helped, in one sentence.

    Compares the mean validation Dice of `this` with the one before it: its own `before`, or the `after` of the previous
    round where both were measured on the same labels. A change of at least `GAIN` counts.
    """
    after = this.after.mean if this.after else None
    if after is None:
        return "There was no validation: whether this round helped cannot be told."
    before = this.before.mean if this.before else None
    if before is None and previous is not None and previous.after is not None:
        if not previous.truth or previous.truth != this.truth:
            return f"Validation Dice {_short(after)}; on other labels than the round before, so they do not compare."
        before = previous.after.mean
    if before is None:
        return f"Validation Dice {_short(after)}: the first one, to compare the next round with."
    change = after - before
    sign = "+" if change >= 0 else "\u2212"
    verdict = (
        "this round helped"
        if change >= GAIN
        else "this round made it worse"
        if change <= -GAIN
        else "gained little"
    )
    return (
        f"Validation Dice {_short(before)} \u2192 {_short(after)} ({sign}{_short(abs(change))}): {verdict}."
    )


def _short(value: float) -> str:
    return f"{value:.2f}"


def since(rounds: Sequence[Round], run: str) -> Round | None:
    """The round that made a run, or None."""
    return next((r for r in reversed(rounds) if r.run == run), None)
