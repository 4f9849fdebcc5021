"""A folder of runs: done one after the other, each written when it ends, so that any interruption costs one run at most.

``compare.yaml`` (the plan), ``cells/KEY.json`` (one finished or failed run each), ``runs/KEY/`` (the run folders, with
their exact state while they are under way).
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

import yaml

from napari_ctxseg.atomic import sweep_stale, write_bytes_atomic
from napari_ctxseg.compare.cells import Cell, Outcome
from napari_ctxseg.compare.plan import ComparePlan, load_plan
from napari_ctxseg.errors import CtxsegError, FileError, InputError
from napari_ctxseg.events import CellDone, CellStarted, Event

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from pathlib import Path

    #: Runs a cell in a folder of its own, going on where one was interrupted; None when it was stopped.
    Runner = Callable[[Cell, Path, Callable[[], bool]], Generator[Event, None, Outcome | None]]

PLAN = "compare.yaml"
#: A run that ended its process so often without coming any further is not tried again by itself.
MOST_KILLED = 2
KILLED = (
    f"its process was ended from outside {MOST_KILLED} times at the same place, most often for want of memory: "
    "choose a smaller patch or batch, then try failed runs again"
)
#: Images and labels, where a comparison has its own copies: found in the folder, wherever that was moved to.
OWN_IMAGES, OWN_LABELS = "data/images", "data/labels"


class CompareFolder:
    """Files of a comparison.

    Parameters
    ----------
    path : Path
        A new or empty folder, or one that holds a comparison.
    runs : Path, optional
        Where the runs are kept, several comparisons' together, so that what they have in common is made once; `path` itself
        when left out.
    """

    def __init__(self, path: Path, runs: Path | None = None) -> None:
        self.path, self.cells, self.runs = path, (runs or path) / "cells", (runs or path) / "runs"

    def create(self, plan: ComparePlan, *, resume: bool) -> None:
        """Store the plan, or check that the stored one is resumed.

        Raises
        ------
        InputError
            If the folder holds something else, another plan, or cannot be written to.
        """
        there = (self.path / PLAN).is_file()
        if not resume and self.path.exists() and (not self.path.is_dir() or self._taken()):
            hint = "use --resume to go on" if there else "name a new folder"
            raise InputError(self.path, "is there already and not empty", f"Name a new folder, or {hint}")
        if resume and not there:
            raise InputError(self.path, "holds no comparison to go on with", "Start it without --resume")
        try:
            for folder in (self.path, self.cells, self.runs):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                self.path, f"cannot be written to ({error.strerror or error})", "Choose another output folder"
            ) from error
        for folder in (self.path, self.cells):
            sweep_stale(folder)
        text = yaml.safe_dump(plan.model_dump(mode="json"), sort_keys=False)
        write_bytes_atomic(self.path / PLAN, text.encode())

    def _taken(self) -> bool:
        """Whether there is anything but a comparison's own images and labels."""
        return any(path.name != OWN_IMAGES.split("/")[0] for path in self.path.iterdir())

    def plan(self) -> ComparePlan:
        """The stored plan.

        Raises
        ------
        InputError
            If there is none, or it is damaged.
        """
        if not (self.path / PLAN).is_file():
            raise InputError(self.path, "holds no comparison", "Make one with `ctxseg compare --out`")
        plan = load_plan(self.path / PLAN)
        images, labels = self.path.absolute() / OWN_IMAGES, self.path.absolute() / OWN_LABELS
        if not images.is_dir():
            return plan
        data = plan.run.data.model_copy(update={"images": (str(images),), "labels": (str(labels),)})
        return plan.model_copy(update={"run": plan.run.updated(data=data)})

    def record(self, cell: Cell) -> dict[str, Any] | None:
        """What is stored of a cell, or None.

        Raises
        ------
        FileError
            If the file is damaged.
        """
        path = self.cells / f"{cell.key}.json"
        if not path.is_file():
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["key"] != cell.key or not isinstance(found["scores"], dict):
                raise ValueError("of another run")
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise FileError(
                path, f"is damaged ({error})", "Delete it, and resume to make this run again"
            ) from error
        record: dict[str, Any] = found
        return record

    def store(self, cell: Cell, outcome: Outcome) -> None:
        """Write what came of a cell, as a whole or not at all."""
        text = json.dumps(outcome.to_json(cell), indent=1, allow_nan=False)
        write_bytes_atomic(self.cells / f"{cell.key}.json", text.encode())

    def begin(self, cell: Cell) -> int:
        """Note that a run is begun, and return how often in succession it was without having come any further."""
        path = self.runs / f"{cell.key}.begun"
        come = sorted(file.name for file in (self.runs / cell.key).glob("**/state/*"))
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            times = int(before["times"]) + 1 if before["come"] == come else 1
        except (OSError, ValueError, KeyError, TypeError):
            times = 1  # there is none, or its writer was killed too: it is only a count
        write_bytes_atomic(path, json.dumps({"times": times, "come": come}).encode())
        return times

    def over(self, cell: Cell) -> None:
        """Forget that a run was begun: it ended, or was stopped, with this process alive."""
        (self.runs / f"{cell.key}.begun").unlink(missing_ok=True)

    def forget_starts(self) -> None:
        """Forget all runs that were begun: for a person who ended the process on purpose."""
        for path in self.runs.glob("*.begun"):
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second process from working on the same queue; the lock ends with the process, however it ends.

        Raises
        ------
        InputError
            If another process holds it.
        """
        if sys.platform == "win32":  # no lock there that a killed process gives back by itself
            yield
            return
        import fcntl

        with open(self.runs.parent / ".lock", "a", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise InputError(
                    self.runs.parent, "is being worked on by another process", "Wait for it, or stop it first"
                ) from error
            yield


def run_queue(
    folder: CompareFolder,
    cells: Sequence[Cell],
    runner: Runner,
    *,
    stop: Callable[[], bool] = lambda: False,
    retry_failed: bool = False,
) -> Iterator[Event]:
    """Do all runs that are not done yet.

    Parameters
    ----------
    folder : CompareFolder
        Created already.
    cells : sequence of Cell
        In the order in which they are to be done.
    runner : callable
        ``runner(cell, run_folder, stop)`` yields events and returns an `Outcome`, or None when it was stopped and left its
        state in the run folder. Whatever it raises is recorded as the failure of this run, and the next one begins.
    stop : callable
        Asked between runs, and by the runner within them.
    retry_failed : bool
        Whether runs that failed before are done again.

    Yields
    ------
    Event
        `CellStarted`, the runner's events, `CellDone`; ends early when stopped.

    Raises
    ------
    CtxsegError
        If the folder cannot be written, or a stored cell is damaged.
    KeyboardInterrupt
        From the runner.
    """
    with folder.locked():
        for number, cell in enumerate(cells, start=1):
            place = (cell.variant, cell.fold, cell.seed, number, len(cells))
            known = folder.record(cell)
            if known is not None and not (known["error"] and retry_failed):
                yield CellDone(*place, str(known["error"]), True)
                continue
            if stop():
                return
            yield CellStarted(*place)
            run = folder.runs / cell.key
            if known is not None:
                shutil.rmtree(run, ignore_errors=True)
                folder.over(cell)
            outcome: Outcome | None
            try:
                if folder.begin(cell) > MOST_KILLED:
                    outcome = Outcome(error=KILLED)
                else:
                    outcome = yield from runner(cell, run, stop)
            except (
                CtxsegError,
                MemoryError,
                RuntimeError,
                ValueError,
                ArithmeticError,
                LookupError,
            ) as error:
                outcome = Outcome(error=_reason(error))
            finally:
                folder.over(cell)
            if outcome is None:
                return
            folder.store(cell, outcome)
            shutil.rmtree(run / "state", ignore_errors=True)  # nothing is left to resume
            yield CellDone(*place, outcome.error, False)


def _reason(error: Exception) -> str:
    if isinstance(error, CtxsegError):
        return str(error)
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else 'no message'}"
