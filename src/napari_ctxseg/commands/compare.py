"""``ctxseg compare``: the same data, budget and seeds for several losses, methods or networks, and an honest report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from napari_ctxseg.commands import report as printed
from napari_ctxseg.commands.evaluate import chosen as chosen_measures
from napari_ctxseg.commands.settings import settings
from napari_ctxseg.commands.train import stop_on_signal
from napari_ctxseg.commands.wide import lines_console, print_table
from napari_ctxseg.compare import writing
from napari_ctxseg.compare.plan import ComparePlan, crossed, load_plan, parse_plan, parse_sweep
from napari_ctxseg.compare.queue import CompareFolder
from napari_ctxseg.compare.report import short_table
from napari_ctxseg.errors import InputError
from napari_ctxseg.events import CellDone, CellStarted, Event, Note, RunFinished, StepEnd

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from napari_ctxseg.compare.cells import Cell


def from_options(
    places: Mapping[str, Path | None],
    *,
    run: Mapping[str, Any],
    axes: Sequence[tuple[str, str | None]],
    variants: Sequence[str],
    sweeps: Sequence[str],
    more: Mapping[str, Any],
    measuring: Mapping[str, Any],
) -> tuple[ComparePlan | None, Path]:
    """What is to be done, and where; no plan where the folder holds it.

    Parameters
    ----------
    places : mapping
        ``out``, ``plan``, ``resume``, ``report``: at most one of the last three.
    run : mapping
        ``config``, ``classes``, ``set``, and options of a run by their sections.
    axes : sequence of (str, str or None)
        Sections and the kinds that are compared, with commas: ``("loss", "dice_ce,ce")``.
    variants, sweeps : sequence of str
        ``'NAME: {loss: {...}}'`` and ``loss.radius=2,5,10``.
    more : mapping
        Fields of the plan.
    measuring : mapping
        Arguments of `commands.evaluate.chosen`.

    Raises
    ------
    InputError
        Naming the option that is wrong.
    """
    given = [name for name in ("plan", "resume", "report") if places[name] is not None]
    # What is missing here has a default, so that it cannot be told whether it was given.
    measured = [measuring.get(name) for name in ("measures", "tolerance", "sizes")]
    options = [*run.values(), *(text for _, text in axes), *variants, *sweeps, *more.values(), *measured]
    if len(given) > 1 or (given and any(value not in (None, [], ()) for value in options)):
        raise InputError(
            f"--{given[0]}", "holds the whole plan; other options cannot be added", "Leave them out"
        )
    if given and given[0] != "plan":
        folder = places[given[0]]
        assert folder is not None
        return None, folder
    if places["out"] is None:
        raise InputError("--out", "is missing: the folder of the comparison", "Add --out DIR")
    if places["plan"] is not None:
        return load_plan(places["plan"]), places["out"]
    chosen = [(section, _names(text)) for section, text in axes if text is not None]
    table: dict[str, Any] = crossed(chosen) if chosen else {}
    for text in variants:
        table |= _variant(text)
    if not table and not sweeps:
        raise InputError("comparison", "names nothing to compare", "Add --losses, --variant or --sweep")
    common = {name: value for name, value in run.items() if name not in ("config", "classes", "set")}
    base = settings(run["config"], common, loss=None, classes=run["classes"], assignments=run["set"] or [])
    how = chosen_measures(**measuring)
    plain = {name: value for name, value in more.items() if value is not None}
    if "test" in plain:
        plain["test"] = _names(plain["test"])
    elif "folds" not in plain:
        raise InputError("comparison", "has no test patients", "Add --folds 3, or --test with some patients")
    measures = {
        "names": how.measures, "tolerance": how.options.tolerance, "sizes": how.options.sizes,
        "physical": how.options.physical, "overlap": how.options.overlap,
        "instances": how.options.instances,
    }  # fmt: skip
    values = {"run": base.model_dump(mode="json"), "variants": table, "measures": measures, **plain}
    return parse_plan({**values, "sweep": dict(map(parse_sweep, sweeps))}, "comparison"), places["out"]


def compare(
    plan: ComparePlan | None, out: Path, *, resume: bool, retry_failed: bool = False, as_json: bool = False
) -> None:
    """Make all runs that are not made yet, then the report.

    Raises
    ------
    CtxsegError
        If data, settings or folder do not allow it, or every run failed.
    KeyboardInterrupt
        After a stop by signal; the running run's state and a report of what is done are saved.
    """
    folder = CompareFolder(out)
    cells, stopped = carry_out(
        folder.plan() if plan is None else plan,
        folder,
        resume=resume,
        retry_failed=retry_failed,
        as_json=as_json,
    )
    report = write_report(out, cells=cells, as_json=as_json)
    if stopped:
        raise KeyboardInterrupt
    if report["failed"] and not report["runs"]["done"]:
        raise InputError(
            out,
            f"has no run that ended well: {report['failed'][0]['error']}",
            f"Mend that, and go on with --resume {out} --retry-failed",
        )


def carry_out(
    plan: ComparePlan,
    folder: CompareFolder,
    *,
    resume: bool,
    retry_failed: bool = False,
    as_json: bool = False,
) -> tuple[list[Cell], bool]:
    """Make all runs of a plan that are not made yet; returns all of them, and whether it was stopped by signal.

    Raises
    ------
    CtxsegError
        If data, settings or folder do not allow it.
    """
    from napari_ctxseg.training.comparison import run_cells

    with stop_on_signal() as stop:
        events = run_cells(plan, folder, resume=resume, retry_failed=retry_failed, stop=stop)
        cells = _follow(events, as_json)
        stopped = stop()
    return cells, stopped


def write_report(out: Path, *, cells: Sequence[Cell] | None = None, as_json: bool = False) -> dict[str, Any]:
    """Write the report from what is done, see `napari_ctxseg.compare.writing`, and print the result.

    Raises
    ------
    CtxsegError
        If the folder holds no comparison, or a stored run is damaged.
    """
    report = writing.write_report(out, cells)
    _show(report, out, as_json)
    return report


def _follow(events: Generator[Event, None, list[Cell]], as_json: bool) -> list[Cell]:
    """Show the queue, and return what its generator returns."""
    cells: list[Cell] = []

    def each() -> Iterator[Event]:
        cells.extend((yield from events))

    _show_queue(each(), as_json)
    return cells


def _show_queue(events: Iterable[Event], as_json: bool) -> None:
    """One bar over all runs, a line for each that ends."""
    if as_json:
        for event in events:
            printed.print_json(printed.event_record(event))
        return
    console = lines_console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("comparing", total=None)
        done, name = 0, ""
        for event in events:
            if isinstance(event, Note) and event.level == "warning" and not name:
                console.print(f"! {event.text}", markup=False, highlight=False)
            elif isinstance(event, CellStarted):
                done, name = event.number - 1, f"{event.variant}, fold {event.fold}, seed {event.seed}"
                bar.update(task, total=event.total, completed=done, description=name)
            elif isinstance(event, StepEnd):
                bar.update(task, completed=done + (event.step / event.steps if event.steps else 0))
            elif isinstance(event, RunFinished) and not event.stopped:
                bar.update(task, description=f"{name}: predicting")
            elif isinstance(event, CellDone):
                bar.update(task, total=event.total, completed=event.number)
                if event.error or not event.repeated:
                    what = f"failed: {event.error}" if event.error else "done"
                    console.print(
                        f"{'! ' if event.error else ''}{event.variant}, fold {event.fold}, seed {event.seed}: {what}",
                        markup=False,
                        highlight=False,
                    )


def _show(report: Mapping[str, Any], out: Path, as_json: bool) -> None:
    if as_json:
        printed.print_json(
            {"type": "Report", "path": str(out / "report.md"), "sentences": report["sentences"]}
        )
        return
    print_table(*short_table(report))
    console = lines_console()
    for text in report["sentences"]:
        console.print(f"- {text}", markup=False, highlight=False)
    console.print(f"{out / 'report.md'}", markup=False, highlight=False)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _variant(text: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError:
        values = None
    if not isinstance(values, dict) or not all(isinstance(v, dict) for v in values.values()):
        raise InputError(
            f"--variant {text}",
            "is not of the form NAME: {settings}",
            "Write 'dice, large patches: {patch.size: [256, 256]}'",
        )
    return {str(name): settings for name, settings in values.items()}
