"""A whole comparison as a generator: data read, all runs of the queue, and the report of what is done."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from napari_ctxseg.compare.prepare import prepare
from napari_ctxseg.compare.queue import CompareFolder, run_queue
from napari_ctxseg.compare.writing import write_report
from napari_ctxseg.config.combinations import refusals
from napari_ctxseg.errors import CtxsegError
from napari_ctxseg.events import CellDone, Event, Note, Reported
from napari_ctxseg.training.cell import cell_runner
from napari_ctxseg.training.describe import facts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from napari_ctxseg.compare.cells import Cell
    from napari_ctxseg.compare.plan import ComparePlan
    from napari_ctxseg.compare.prepare import Prepared


def run_cells(
    plan: ComparePlan,
    folder: CompareFolder,
    *,
    resume: bool,
    retry_failed: bool = False,
    stop: Callable[[], bool] = lambda: False,
    so_far: bool = False,
) -> Generator[Event, None, list[Cell]]:
    """Make all runs of a plan that are not made yet.

    Parameters
    ----------
    plan : ComparePlan
    folder : CompareFolder
    resume : bool
        Whether the folder holds this plan already, to go on with.
    retry_failed : bool
        Whether runs that failed before are done again.
    stop : callable
        Ends the running step and the queue when it says True; nothing that was done is lost.
    so_far : bool
        Whether the report of what is done, without pictures, is written after each run.

    Yields
    ------
    Event
        A `Note` for each variant that cannot run, see `napari_ctxseg.compare.queue.run_queue`, and `Reported` with
        `so_far`.

    Returns
    -------
    list of Cell
        All runs of the plan.

    Raises
    ------
    CtxsegError
        If data, settings or folder do not allow it.
    """
    ready = prepare(plan, folder, resume=resume)
    for text in impossible(ready):
        yield Note(text, level="warning")
    runner = cell_runner(ready.cases)
    for event in run_queue(folder, ready.cells, runner, stop=stop, retry_failed=retry_failed):
        yield event
        if so_far and isinstance(event, CellDone) and not event.repeated and event.number < event.total:
            # What cannot be reported now is told by the report at the end.
            with contextlib.suppress(CtxsegError):
                write_report(folder.path, ready.cells, pictures=False)
                yield Reported(str(folder.path), final=False)
    return ready.cells


def impossible(ready: Prepared) -> list[str]:
    """Variants that the data or their own settings do not allow, a sentence each, known before hours are spent on others."""
    found: dict[str, str] = {}
    for cell in ready.cells:
        if cell.variant in found or cell.seed != ready.cells[0].seed:  # a seed changes nothing of this
            continue
        facts = facts_of([ready.cases[name] for name in cell.train], cell.config.data)
        if refused := refusals(cell.config, facts):
            found[cell.variant] = f"{cell.variant} cannot be trained: {refused[0]}"
    return list(found.values())


def run_comparison(
    plan: ComparePlan | None,
    folder: CompareFolder,
    *,
    resume: bool,
    retry_failed: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Generator[Event, None, None]:
    """`run_cells`, then the report, also after a stop; without a plan that of the folder.

    Yields
    ------
    Event
        Those of the queue, and `Reported` after each run and at last.

    Raises
    ------
    CtxsegError
        If data, settings or folder do not allow it.
    """
    yield Note("Reading images and labels ...")
    chosen = folder.plan() if plan is None else plan
    cells = yield from run_cells(
        chosen, folder, resume=resume, retry_failed=retry_failed, stop=stop, so_far=True
    )
    yield Note("Writing the report ...")
    write_report(folder.path, cells)
    yield Reported(str(folder.path))
