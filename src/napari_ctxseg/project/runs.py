"""Runs of a project: ``runs/0007-slug-a1b2c3/``. Their content is that of any run folder."""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_ctxseg.errors import InputError
from napari_ctxseg.project.locks import Lock, acquire
from napari_ctxseg.project.schema import safe_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

RUNS, MODEL, CONFIG, EVENTS = "runs", "model.safetensors", "config.yaml", "events.jsonl"
LOCK = ".lock"
_RUN = re.compile(r"^(\d{4,6})-[\w.+-]*-[0-9a-f]{6}$")


@dataclass(frozen=True)
class RunEntry:
    """A run of a project.

    Parameters
    ----------
    name : str
        Of its folder.
    path : Path
        Its folder.
    number : int
        It was the n-th to be started, in this copy of the project.
    has_model : bool
        Whether it can predict.
    finished : bool
        Whether its training came to its end; otherwise it can be resumed.
    """

    name: str
    path: Path
    number: int
    has_model: bool
    finished: bool


def all_runs(project: Path) -> list[RunEntry]:
    """Runs in the order of their numbers."""
    folder = project / RUNS
    if not folder.is_dir():
        return []
    found = []
    for path in sorted(folder.iterdir()):
        match = _RUN.match(path.name)
        if match and (path / CONFIG).is_file():
            model = (path / MODEL).is_file()
            found.append(RunEntry(path.name, path, int(match[1]), model, model and _finished(path / EVENTS)))
    return sorted(found, key=lambda run: (run.number, run.name))


def last_model(runs: Sequence[RunEntry]) -> Path | None:
    """Folder of the last run that has come to its end and can predict."""
    usable = [run for run in runs if run.has_model and run.finished]
    return usable[-1].path if usable else None


def find_run(project: Path, name: str | None = None) -> RunEntry:
    """A run by its name or the beginning of it; the last one that can predict when left out.

    Raises
    ------
    InputError
        If there is none, or several begin like that.
    """
    runs = all_runs(project)
    if name is None:
        runs = [run for run in runs if run.has_model][-1:]
    elif any(run.name == name for run in runs):
        runs = [run for run in runs if run.name == name]
    else:
        runs = [run for run in runs if run.name.startswith(name) or run.name.endswith(f"-{name}")]
    if len(runs) != 1:
        what = "has no run yet that can predict" if name is None else f"has no single run {name!r}"
        raise InputError(project, what, "See `ctxseg project info` for its runs")
    return runs[0]


def next_run(project: Path, slug: str) -> Path:
    """Folder for a new run; not made yet.

    Parameters
    ----------
    project : Path
        Project folder.
    slug : str
        A word or two for people, such as the loss.
    """
    folder = project / RUNS
    numbers = [int(m[1]) for p in folder.iterdir() if (m := _RUN.match(p.name))] if folder.is_dir() else []
    word = safe_name(slug)[:40].strip(".+-") or "run"
    return folder / f"{max(numbers, default=0) + 1:04d}-{word}-{secrets.token_hex(3)}"


def lock_run(run: Path) -> Lock:
    """Lock a run against a second trainer. The lock file lies beside its folder, which must be empty at the start.

    Raises
    ------
    LockedError
        If somebody trains it already.
    FileError
        If the project cannot be written to.
    """
    run.parent.mkdir(parents=True, exist_ok=True)
    return acquire(run.with_name(f".{run.name}{LOCK}"), f"the run {run.name}")


def _finished(log: Path) -> bool:
    """Whether the last word of a run was that it came to its end; only the end of the log is read."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - 65536))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return False
    for line in reversed(lines):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and event.get("type") == "RunFinished":
            return not event.get("stopped", False)
        if isinstance(event, dict) and event.get("type") == "StepEnd":
            return False
    return False
