"""A training that runs elsewhere, followed through what it writes into its folder. No Qt."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from napari_ctxseg.events import EVENTS, EpochEnd, Event, RunFinished, RunStarted, StepEnd
from napari_ctxseg.project.runs import EVENTS as LOG
from napari_ctxseg.project.runs import RUNS

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from napari_ctxseg.gui.session import Session

#: Bytes read in one go; a day of training is some megabytes.
AT_ONCE = 1 << 20


class Watcher:
    """Reads the log of whichever run of a project is growing.

    Parameters
    ----------
    project : Path
        Project folder, on this machine or on a drive that another one writes to.
    """

    def __init__(self, project: Path) -> None:
        self._runs = project / RUNS
        self._sizes: dict[str, int] | None = None
        self._offset = 0
        self.run = ""

    def poll(self, own: Collection[str]) -> list[Event]:
        """What was logged since the last call. Off the GUI thread: the folder may be on a slow drive.

        A run counts as soon as its log has grown between two calls; it is then read from its beginning.

        Parameters
        ----------
        own : collection of str
            Names of runs that are followed in another way.
        """
        sizes = {
            path.parent.name: path.stat().st_size
            for path in (self._runs.glob(f"*/{LOG}") if self._runs.is_dir() else [])
            if path.parent.name not in own
        }
        before, self._sizes = self._sizes, sizes
        grown = [name for name, size in sizes.items() if before is not None and size > before.get(name, 0)]
        if grown and self.run not in grown:
            self.run, self._offset = max(grown), 0
        if not self.run or self.run not in sizes:
            return []
        return self._read(self._runs / self.run / LOG, sizes[self.run])

    def _read(self, path: Path, size: int) -> list[Event]:
        if size < self._offset:  # rewound, because the run was resumed from an earlier step
            self._offset = 0
        with open(path, "rb") as file:
            file.seek(self._offset)
            data = file.read(AT_ONCE)
        whole = data[: data.rfind(b"\n") + 1]  # the last line may be half written
        self._offset += len(whole)
        return [event for line in whole.splitlines() if (event := parse_event(line)) is not None]


def parse_event(line: bytes) -> Event | None:
    """A line of the log; None if it is damaged or of a kind that this version does not know."""
    try:
        record = json.loads(line)
        return EVENTS[record.pop("type")](**record)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def show_elsewhere(session: Session, run: str, events: list[Event]) -> None:
    """Show the curve of a training that another program does in the project's folder."""
    steps = 0
    for event in events:
        match event:
            case RunStarted():
                session.history.begin_run(fresh=True)
                session.history.curve, steps = event.curve, event.steps
            case StepEnd():
                steps = event.steps or steps
                if event.loss is not None:
                    session.history.add_loss(event.step, event.loss)
                session.status = f"{run}, trained elsewhere: {session.history.sentence(event, steps)}"
            case EpochEnd():
                session.history.add_dice(event.step, event.dice, event.mean)
            case RunFinished():
                session.status = f"{run} was trained elsewhere: {event.step} steps. Its model is in the list."
    session.curve_changed.emit()
    session.changed.emit()
