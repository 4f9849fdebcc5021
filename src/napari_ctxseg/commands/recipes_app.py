"""The options of ``ctxseg recipes``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_ctxseg.commands import report
from napari_ctxseg.commands.options import Device, Json, Threads

app = typer.Typer(
    name="recipes",
    help="The rows of the papers' tables: list them, run them on a downloaded data set, see ours beside the paper's.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
Name = Annotated[str, typer.Argument(help="Name of a row, as `list` prints it, or a YAML file of your own.")]
Paper = Annotated[str | None, typer.Option(help="Only this paper: context, crgan, dbce, cwcd.")]
Set = Annotated[str | None, typer.Option("--set", help="Only this data set.")]
Data = Annotated[
    Path | None, typer.Option(help="Folder of downloaded sets: also say which of them are there.")
]


@app.command("list")
def list_(paper: Paper = None, set_: Set = None, data: Data = None, json_: Json = False) -> None:
    """List the rows of all tables."""
    with report.errors(json_):
        from napari_ctxseg.commands import recipes as command

        command.listed(paper=paper, set_=set_, data=data, as_json=json_)


@app.command()
def show(name: Name, json_: Json = False) -> None:
    """Print a row: source, where its data can be had, settings, printed values, what is not known."""
    with report.errors(json_):
        from napari_ctxseg.commands import recipes as command

        command.show(name, as_json=json_)


@app.command()
def run(
    name: Name,
    data: Annotated[Path, typer.Option(help="Folder in which the data set was unpacked; only read.")],
    out: Annotated[
        Path, typer.Option(help="Folder of prepared files, runs and results, of all recipes together.")
    ] = Path("ctxseg-recipes"),
    steps: Annotated[
        int | None, typer.Option(help="Optimiser steps; left out: as many as the paper's.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Training time instead of steps.")] = None,
    folds: Annotated[
        int | None, typer.Option(help="Parts the patients are dealt into, instead of the recipe's split.")
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Seed; may be repeated.")] = None,
    patients: Annotated[int | None, typer.Option(min=2, help="Only so many patients of the set.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any field of the run, for instance --set patch.batch=4."),
    ] = None,
    device: Device = None,
    threads: Threads = None,
    json_: Json = False,
) -> None:
    """Prepare a set as the paper did, train, predict, measure, print ours beside the paper's; goes on where it stood."""
    with report.errors(json_):
        from napari_ctxseg.commands import recipes as command

        command.run(
            name, data, out, steps=steps, minutes=minutes, folds=folds, seeds=seed or [0], patients=patients,
            assignments=set_ or [], device={"accelerator": device, "threads": threads}, as_json=json_,
        )  # fmt: skip


@app.command()
def table(
    runs: Annotated[
        Path | None, typer.Option(help="The --out folder of `run`; left out: the papers' values alone.")
    ] = None,
    data: Data = None,
    paper: Paper = None,
    set_: Set = None,
    whole: Annotated[
        bool, typer.Option("--all", help="A line for each class, also where the paper prints a mean.")
    ] = False,
    form: Annotated[
        str | None, typer.Option("--format", help="markdown or csv instead of the table.")
    ] = None,
    json_: Json = False,
) -> None:
    """Print ours beside the papers' values, with what differs."""
    with report.errors(json_):
        from napari_ctxseg.commands import recipes as command

        command.table(runs=runs, data=data, paper=paper, set_=set_, whole=whole, form=form, as_json=json_)
