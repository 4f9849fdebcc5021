"""A comparison as the dock sees it: begun, paused, gone on with, looked at again. The engine does the work. No Qt."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from psygnal import Signal

from napari_ctxseg import dataset
from napari_ctxseg.compare.cells import cells_of
from napari_ctxseg.compare.prepare import RunState, run_states
from napari_ctxseg.compare.queue import OWN_IMAGES, OWN_LABELS, PLAN, CompareFolder
from napari_ctxseg.compare.writing import REPORT
from napari_ctxseg.errors import CtxsegError
from napari_ctxseg.events import (
    CellDone,
    CellStarted,
    JobDone,
    JobFailed,
    Note,
    Reported,
    RunFinished,
    StepEnd,
)
from napari_ctxseg.gui.compare_folders import discard_copies
from napari_ctxseg.gui.timing import timed
from napari_ctxseg.project.comparable import write_cases

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from napari_ctxseg.cases import Case
    from napari_ctxseg.compare.plan import ComparePlan
    from napari_ctxseg.engine.client import EngineClient
    from napari_ctxseg.events import Event

    #: Gives the plan of a folder, and the cases to write there; None where the plan names files of the person's.
    Gather = Callable[[Path], tuple[ComparePlan, Sequence[Case] | None]]

Phase = Literal["idle", "preparing", "running"]
GO_ON = "; press Resume to go on where it stood"


class Comparing:
    """One comparison at a time, in an engine of its own that ends with it.

    Parameters
    ----------
    background : callable
        Runs a function off the GUI thread, then one of two callbacks on it.
    make_engine : callable
        Gives a fresh engine.
    """

    #: Anything that is shown has changed.
    changed = Signal()
    #: A report is there; False: between two runs, of those that are done so far.
    reported = Signal(bool)
    failed = Signal(str)

    def __init__(self, background: Callable[..., None], make_engine: Callable[[], EngineClient]) -> None:
        self._background, self._make_engine = background, make_engine
        self.engine: EngineClient | None = None
        self.phase: Phase = "idle"
        self.stopping = self.closed = False
        self.folder: Path | None = None
        self.rows: list[RunState] = []
        self.report: dict[str, Any] | None = None
        self.status = ""
        self.current: int | None = None  # row of the run under way
        self._share = 0.0  # of that run
        self._first: tuple[float, float] | None = None  # its share and the time, when it was first heard of
        self._ask: Callable[[EngineClient], None] | None = None
        self._problem = ""  # why the job failed
        self._cell_begun = 0.0
        self._durations: list[float] = []

    # ------------------------------------------------------------ what is shown

    @property
    def missing(self) -> int:
        """Runs that are still to be done."""
        return sum(row.state in ("waiting", "begun") for row in self.rows)

    @property
    def unfinished(self) -> bool:
        """Whether anything is left to be done, and be it the report: the engine may have died while it wrote that."""
        counted = None if self.report is None else self.report["runs"]["missing"]
        return bool(self.missing or (self.rows and counted != 0))

    @property
    def failures(self) -> int:
        """Runs that failed."""
        return sum(row.state == "failed" for row in self.rows)

    @property
    def fraction(self) -> float:
        """Share of the comparison that is done."""
        ended = len(self.rows) - self.missing
        under_way = self._share if self.current is not None else 0.0
        return min(1.0, (ended + under_way) / len(self.rows)) if self.rows else 0.0

    def seconds_left(self, now: float | None = None) -> float | None:
        """Estimated from the runs so far; None where nothing is known yet."""
        now = time.monotonic() if now is None else now
        spent = now - self._cell_begun
        each = sum(self._durations) / len(self._durations) if self._durations else None
        if each is None:
            share, since = self._first or (0.0, now)  # a run that is gone on with does not begin at 0
            if self.current is None or self._share - share < 0.05:
                return None
            each = (now - since) / (self._share - share)
            spent = each * self._share
        rest = max(0.0, each - spent) if self.current is not None else 0.0
        waiting = self.missing - (self.current is not None)
        return rest + waiting * each

    # ------------------------------------------------------------ what the person asks

    def begin(self, folder: Path, gather: Gather) -> None:
        """Begin a comparison in a fresh folder; its data and plan are put together off the GUI thread."""
        self._prepare(folder)
        found: list[Any] = []

        def work() -> None:
            try:
                plan, cases = gather(folder)
                if cases is not None:
                    places = (folder / OWN_IMAGES, folder / OWN_LABELS)
                    write_cases(cases, *places, go_on=lambda: not self.closed)
                if self.closed:
                    shutil.rmtree(folder, ignore_errors=True)
                    return
                cells = cells_of(plan, dataset.training_pairs(plan.run.data))
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)  # nothing of anybody else's can be in it
                raise
            found.extend([[RunState(c.variant, c.fold, c.seed, "waiting") for c in cells], plan])

        def done() -> None:
            if self.closed:  # meanwhile: nobody would go on with copies without a plan
                shutil.rmtree(folder, ignore_errors=True)
                return
            rows, plan = found
            self._start(rows, lambda engine: engine.compare(folder, plan))

        self._background(work, done, lambda error: None if self.closed else self._gave_up(error))

    def resume(self, *, retry_failed: bool = False) -> None:
        """Go on where the comparison in the present folder stood."""
        folder = self.folder
        assert folder is not None
        self._prepare(folder)

        rows: list[RunState] = []

        def done() -> None:
            again = [
                replace(row, state="waiting", error="") if retry_failed and row.state == "failed" else row
                for row in rows
            ]
            self._start(again, lambda engine: engine.compare(folder, retry_failed=retry_failed))

        self._off_the_screen(lambda: rows.extend(run_states(CompareFolder(folder))), done, self._gave_up)

    def _prepare(self, folder: Path) -> None:
        self.phase, self.stopping, self.folder = "preparing", False, folder
        self.current, self._share, self._durations, self._problem = None, 0.0, [], ""
        self.status = "Putting the data together ..."
        self.changed.emit()

    def _start(self, rows: list[RunState], ask: Callable[[EngineClient], None]) -> None:
        if self.closed:
            return
        self.rows, self._ask = rows, ask
        engine = self.engine = self._make_engine()
        engine.go_on = GO_ON
        try:
            engine.start()
        except CtxsegError as error:
            self._gave_up(error)
            return
        self.phase, self.status = "running", "The engine is starting ..."
        self.changed.emit()

    def _gave_up(self, error: Exception) -> None:
        self._let_go()
        self.phase, self.rows = "idle", self.rows if self.folder and (self.folder / PLAN).is_file() else []
        self._tell(str(error) if isinstance(error, CtxsegError) else f"{type(error).__name__}: {error}")

    def pause(self) -> None:
        """End after the running step, with its state saved; the second time end the engine at once."""
        if self.engine is None or self.phase != "running":
            return
        if self.stopping:
            self.engine.kill()
            if self.folder is not None:
                CompareFolder(self.folder).forget_starts()
        elif self.engine.state == "busy":
            self.stopping, self.status = True, "Pausing: the running step ends and its state is saved ..."
            self.engine.stop()
        else:  # it has not begun yet
            known = self.folder is not None and (self.folder / PLAN).is_file()
            self._end("Paused before it began. Resume goes on." if known else "Given up before it began.")
        self.changed.emit()

    def look(self, folder: Path | None) -> None:
        """Show a stored comparison; None: none."""
        if self.phase != "idle":
            return
        self.folder, self.rows, self.report, self.status = folder, [], None, ""
        self.changed.emit()
        if folder is None:
            return
        seen: list[Any] = []

        def work() -> None:
            seen.extend([run_states(CompareFolder(folder)), _report_of(folder)])

        def done() -> None:
            if self.folder != folder or self.phase != "idle":
                return
            self.rows, self.report = seen
            self.status = self._where_it_stands()
            self.changed.emit()
            if self.report is not None:
                self.reported.emit(True)

        def failed(error: Exception) -> None:
            if self.folder == folder:
                self._tell(str(error))

        self._off_the_screen(work, done, failed)

    def _where_it_stands(self) -> str:
        ended, failed = len(self.rows) - self.missing, self.failures
        text = f"{ended} of {len(self.rows)} runs are done" + (
            f", {failed} of them failed." if failed else "."
        )
        if not self.missing and self.unfinished:
            return f"{text} The last report is not written: Resume writes it."
        return f"{text} Resume goes on where it stood." if self.missing else text

    # ------------------------------------------------------------ what the engine says

    @timed
    def tick(self) -> None:
        """Hear the engine. For a timer."""
        engine = self.engine
        if engine is None:
            return
        events = engine.poll()
        if self._ask is not None and engine.state == "ready":
            ask, self._ask = self._ask, None
            try:
                ask(engine)
            except CtxsegError as error:
                self._gave_up(error)
                return
            self.status = "Reading images and labels ..."
            self.changed.emit()
        for event in events:
            self._on_event(event)
        if self.engine is engine and engine.state == "dead":  # it died before it was ready
            self._end(self._problem)

    def _on_event(self, event: Event) -> None:
        match event:
            case CellStarted():
                self.current, self._share, self._first = event.number - 1, 0.0, None
                self._cell_begun = time.monotonic()
                self._set_row(event.number - 1, "begun")
                self.status = f"{event.variant}, fold {event.fold}, seed {event.seed}: training"
            case StepEnd():
                self._share = event.step / event.steps if event.steps else self._share
                if self._first is None:
                    self._first = (self._share, time.monotonic())
            case RunFinished():
                if not event.stopped and self.current is not None:
                    row = self.rows[self.current]
                    self.status = (
                        f"{row.variant}, fold {row.fold}, seed {row.seed}: predicting the test cases"
                    )
            case CellDone():
                self._set_row(event.number - 1, "failed" if event.error else "done", event.error)
                if not event.repeated:
                    self._durations.append(time.monotonic() - self._cell_begun)
                self.current = None
            case Note():
                if self.current is None:
                    self.status = event.text
                    if event.level == "warning":  # a variant that cannot run
                        self.failed.emit(event.text)
            case Reported():
                self._read_report(final=event.final)
            case JobFailed():
                where = f" Log: {event.log}" if event.log else ""
                self._problem = " ".join(part for part in (event.error, event.remedy) if part) + where
                if self.current is not None:  # the row says it too, at once
                    self._set_row(self.current, "begun", f"Interrupted: {self._problem}")
                self._tell(self._problem)
            case JobDone():
                self._job_done()
        self.changed.emit()

    def _set_row(self, number: int, state: str, error: str = "") -> None:
        if number < len(self.rows):
            self.rows = [
                replace(row, state=state, error=error) if place == number else row
                for place, row in enumerate(self.rows)
            ]

    def _job_done(self) -> None:
        done = f"Done: {len(self.rows)} runs" + (
            f", {self.failures} of them failed." if self.failures else "."
        )
        paused = f"Paused. {self._where_it_stands()}"
        self._end(self._problem or (paused if self.missing else done))

    def _end(self, status: str) -> None:
        self._let_go()
        self.phase, self.stopping, self.current, self.status = "idle", False, None, status
        if self.folder is not None and discard_copies(self.folder):  # refused before it began
            self.folder, self.rows = None, []

    def _let_go(self) -> None:
        engine, self.engine, self._ask = self.engine, None, None
        if engine is not None:
            engine.close()

    def _read_report(self, *, final: bool) -> None:
        folder = self.folder
        assert folder is not None
        found: list[Any] = []

        def done() -> None:
            if self.folder == folder and found[0] is not None:
                self.report = found[0]
                self.reported.emit(final)
                self.changed.emit()

        self._off_the_screen(lambda: found.append(_report_of(folder)), done, self._gave_up)

    def _off_the_screen(
        self, work: Callable[[], object], done: Callable[[], None], failed: Callable[[Exception], None]
    ) -> None:
        """In the background; what ends after the dock has closed is told to nobody."""
        self._background(
            work,
            lambda: None if self.closed else done(),
            lambda error: None if self.closed else failed(error),
        )

    def _tell(self, text: str) -> None:
        self.status = text
        self.changed.emit()
        self.failed.emit(text)

    def close(self) -> None:
        """Let go of the engine: it ends its step, saves its state, and the queue can be gone on with."""
        never_asked, self.closed = self._ask is not None, True
        self._let_go()
        self.phase = "idle"
        if never_asked and self.folder is not None:
            discard_copies(self.folder)  # no plan belongs to them


def _report_of(folder: Path) -> dict[str, Any] | None:
    """The stored report; None where there is none that can be read."""
    try:
        found: dict[str, Any] = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found
