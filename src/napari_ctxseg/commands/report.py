"""What the command line prints: progress, results, errors in one line. Nothing here computes."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from napari_ctxseg.commands.wide import lines_console, print_table
from napari_ctxseg.errors import CtxsegError
from napari_ctxseg.evaluation.tables import CLASS_COUNTS, case_rows, number
from napari_ctxseg.events import (
    BudgetSet,
    CheckpointSaved,
    EpochEnd,
    Event,
    Note,
    RunFinished,
    RunStarted,
    StepEnd,
    fields_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

FAILED, INTERRUPTED = 1, 130


@contextmanager
def errors(as_json: bool) -> Iterator[None]:
    """Turn errors that a person can mend into one line and an exit code."""
    # Other packages' warnings mean nothing to the person; ours are events.
    warnings.filterwarnings("ignore", module=r"(monai|lightning_fabric|torch)\b")
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # the precision is in our first line
    try:
        yield
    except CtxsegError as error:
        _complain(str(error), as_json)
        raise typer.Exit(FAILED) from error
    except KeyboardInterrupt as error:
        _complain("stopped", as_json)
        raise typer.Exit(INTERRUPTED) from error
    except BrokenPipeError as error:
        # The reader of our output has gone: nothing is left to tell, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(FAILED) from error


def _complain(text: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"error": text}))
    typer.echo(f"ctxseg: {text}", err=True)


def print_line(text: str) -> None:
    """One line for the person."""
    typer.echo(text)


def print_text(text: str) -> None:
    """Text that ends its own lines."""
    typer.echo(text, nl=False)


def print_json(record: Any) -> None:
    """One line of JSON on standard output."""
    typer.echo(json.dumps(record))


def event_record(event: Event) -> dict[str, Any]:
    """An event as plain values; arrays are left out."""
    values = {k: v for k, v in fields_of(event).items() if not hasattr(v, "dtype")}
    return {"type": type(event).__name__, **values}


def follow_training(events: Iterable[Event], *, as_json: bool) -> RunFinished | None:
    """Show a training run; returns its last word."""
    finished: RunFinished | None = None
    if as_json:
        for event in events:
            print_json(event_record(event))
            finished = event if isinstance(event, RunFinished) else finished
        return finished
    console = lines_console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("training", total=None)
        for event in events:
            if isinstance(event, StepEnd):
                loss = "skipped" if event.loss is None else f"loss {event.loss:.3f}"
                bar.update(task, completed=event.step, total=event.steps or None, description=loss)
            elif not isinstance(event, CheckpointSaved):
                text = describe(event)
                if text:
                    console.print(text, highlight=False, markup=False)
            finished = event if isinstance(event, RunFinished) else finished
    return finished


@contextmanager
def progress(title: str, total: int, *, as_json: bool) -> Iterator[Callable[[float], None]]:
    """A bar on the error stream; what it yields takes the number of things done, fractions included."""
    if as_json:
        yield lambda done: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.update(task, completed=done)


def describe(event: Event) -> str:
    """One sentence for an event, or nothing."""
    if isinstance(event, RunStarted):
        size = f"{event.parameters / 1e6:.2f} million weights"
        return f"{event.device}, {event.precision}, {size}, classes: {', '.join(event.classes)}"
    if isinstance(event, BudgetSet):
        return f"{event.seconds_per_step:.2f} s a step: {event.steps} steps"
    if isinstance(event, EpochEnd):
        classes = ", ".join(f"{name} {number(value)}" for name, value in event.dice.items())
        return f"step {event.step}: {event.curve} {number(event.mean)} ({classes}){'  best so far' if event.best else ''}"
    if isinstance(event, Note):
        return f"{'! ' if event.level == 'warning' else ''}{event.text}"
    if isinstance(event, RunFinished):
        end = f"stopped at step {event.step}" if event.stopped else f"finished after {event.step} steps"
        return f"{end}, {event.seconds:.0f} s; weights of step {event.best_step} in {event.run}"
    return ""


def scores(result: Mapping[str, Any], *, as_json: bool, per_case: bool = False) -> None:
    """Print an evaluation."""
    if as_json:
        print_json(result)
        return
    unit = result["mean"]["unit"]
    measures = [name for name in result["mean"] if name != "unit"]
    rows = [
        [
            name,
            *(number(values.get(m)) for m in measures),
            *(str(values.get(n, "")) for n in CLASS_COUNTS),
        ]
        for name, values in result["classes"].items()
    ]
    rows.append(["mean", *(number(result["mean"][m]) for m in measures), *[""] * len(CLASS_COUNTS)])
    title = f"{len(result['cases'])} cases; distances in {unit or 'mixed units'}"
    print_table(["class", *measures, *CLASS_COUNTS], rows, title=title)
    if per_case:
        header, cases = case_rows(result)
        print_table(header, [[number(cell) for cell in row[:-1]] for row in cases], keys=2)
    console = lines_console()
    for note in result.get("notes", []):
        console.print(f"! {note}", markup=False)
