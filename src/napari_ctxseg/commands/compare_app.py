"""Options of ``ctxseg compare``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer looks at the annotations
from typing import Annotated

import typer

from napari_ctxseg.commands import report
from napari_ctxseg.commands.options import (
    Classes,
    Device,
    Foreground,
    Group,
    Instances,
    Json,
    Measures,
    Overlap,
    Places,
    Sizes,
    SizeUnit,
    Threads,
    Tolerance,
)


def compare(
    more_seeds: Annotated[list[int] | None, typer.Argument(hidden=True)] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the comparison: a new one.")] = None,
    plan: Annotated[
        Path | None, typer.Option(help="YAML file with the whole plan, instead of the options below.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the comparison in this folder, where it stood.")
    ] = None,
    report_: Annotated[
        Path | None, typer.Option("--report", help="Only write the report of this folder anew.")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="With --resume: do runs that failed again.")
    ] = False,
    images: Places = None,
    labels: Places = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file with the settings that all runs share.")
    ] = None,
    losses: Annotated[str | None, typer.Option(help="Losses to compare, with commas between.")] = None,
    methods: Annotated[str | None, typer.Option(help="Training methods to compare.")] = None,
    networks: Annotated[str | None, typer.Option(help="Networks to compare.")] = None,
    variant: Annotated[
        list[str] | None, typer.Option(help="A variant in YAML, 'NAME: {loss: {kind: focal, gamma: 3}}'.")
    ] = None,
    sweep: Annotated[
        list[str] | None, typer.Option(help="Values of one field, loss.radius=2,5,10, of all that have it.")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(help="Parts the patients are dealt into; each is tested once.")
    ] = None,
    test: Annotated[
        str | None, typer.Option(help="Or: patients that are only tested, with commas between.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Seeds, for instance --seeds 0 1 2.")] = None,
    reference: Annotated[
        str | None, typer.Option(help="Variant the others are compared with; left out: the first.")
    ] = None,
    primary: Annotated[str | None, typer.Option(help="The measure that is tested; left out: dice.")] = None,
    paired_test: Annotated[
        str | None, typer.Option(help="wilcoxon (signed ranks, exact) or signs (permutation).")
    ] = None,
    measures: Measures = None,
    tolerance: Tolerance = None,
    sizes: Sizes = None,
    size_unit: SizeUnit = "px",
    overlap: Overlap = 0.0,
    instances: Instances = False,
    dims: Annotated[int | None, typer.Option(help="2: slice by slice. 3: whole volumes.")] = None,
    classes: Classes = None,
    foreground: Foreground = False,
    group: Group = None,
    minutes: Annotated[float | None, typer.Option(help="Training time of each run.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps of each run.")] = None,
    device: Device = None,
    threads: Threads = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Any field that all runs share.")] = None,
    json_: Json = False,
) -> None:
    """Compare losses, methods or networks on your data: same patients, patches and budget, honest statistics."""
    with report.errors(json_):
        from napari_ctxseg.commands import compare as command

        chosen, folder = command.from_options(
            {"out": out, "plan": plan, "resume": resume, "report": report_},
            run={
                "config": config, "classes": classes, "set": set_, "data.images": images, "data.labels": labels,
                "data.group": group, "data.foreground": foreground or None, "network.dims": dims,
                "budget.minutes": minutes, "budget.steps": steps,
                "device.accelerator": device, "device.threads": threads,
            },
            axes=(("loss", losses), ("method", methods), ("network", networks)),
            variants=variant or [], sweeps=sweep or [],
            more={
                "folds": folds, "test": test, "seeds": None if seeds is None else [seeds, *(more_seeds or [])],
                "reference": reference, "primary": primary, "paired_test": paired_test,
            },
            measuring={
                "measures": measures, "tolerance": tolerance, "sizes": sizes, "size_unit": size_unit, "overlap": overlap,
                "instances": instances,
            },
        )  # fmt: skip
        if report_ is not None:
            command.write_report(folder, as_json=json_)
        else:
            command.compare(
                chosen, folder, resume=resume is not None, retry_failed=retry_failed, as_json=json_
            )
