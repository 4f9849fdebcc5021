"""``ctxseg``: every action of the screen as a command, from the same configuration."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_ctxseg.commands import compare_app, project_app, recipes_app, report, suggest_app
from napari_ctxseg.commands.options import (
    Annotation,
    Background,
    Classes,
    Device,
    Foreground,
    Group,
    Instances,
    Json,
    Measures,
    Overlap,
    Places,
    Preset,
    Roots,
    Sizes,
    SizeUnit,
    Threads,
    Tolerance,
)
from napari_ctxseg.config import loss_kinds, method_kinds, network_kinds
from napari_ctxseg.io import MAP_SUFFIXES

#: Turns that a thread of torch spins before it sleeps; libgomp reads it when torch is loaded, which is later than this. By
#: default it spins so long that one busy core beside it makes a step a hundred times slower (benchmarks/waiting.py).
SPINS = "1000"
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)

app = typer.Typer(
    name="ctxseg",
    help="Teach a segmentation network the small structures that ordinary losses ignore.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(project_app.app)
app.add_typer(recipes_app.app)
app.command()(compare_app.compare)
app.command()(suggest_app.suggest)
LOSSES, NETWORKS, METHODS = loss_kinds(), network_kinds(), method_kinds()


@app.command()
def train(
    project: Annotated[
        Path | None,
        typer.Argument(
            help="Project folder: its images, labels and split are used, and the run is kept in it."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder: a new one, or with --resume the run to go on with.")
    ] = None,
    images: Places = None,
    labels: Places = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file with settings; options given here win.")
    ] = None,
    dims: Annotated[int | None, typer.Option(help="2: slice by slice. 3: whole volumes.")] = None,
    model: Annotated[str | None, typer.Option(help=f"Network: {', '.join(NETWORKS)}.")] = None,
    method: Annotated[str | None, typer.Option(help=f"Training method: {', '.join(METHODS)}.")] = None,
    loss: Annotated[str | None, typer.Option(help=f"Loss: {', '.join(LOSSES)}.")] = None,
    preset: Preset = None,
    classes: Classes = None,
    foreground: Foreground = False,
    annotation: Annotation = None,
    group: Group = None,
    minutes: Annotated[
        float | None, typer.Option(help="Time to train for; turned into steps after 20 timed ones.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps to train for.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, patches and augmentation.")] = None,
    init: Annotated[
        str | None,
        typer.Option(
            help="Earlier run whose weights are the start. In a project: left out, its last run of the same network; "
            "`scratch` for none."
        ),
    ] = None,
    root: Roots = None,
    device: Device = None,
    threads: Threads = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any field, for instance --set optim.lr=3e-4.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, exactly where it stood.")
    ] = False,
    json_: Json = False,
) -> None:
    """Train a network on images and labels, or on a project, and write a run folder."""
    options = {
        "data.images": images,
        "data.labels": labels,
        "data.annotation": annotation,
        "data.group": group,
        "data.foreground": foreground or None,
        "network.dims": dims,
        "network.kind": model,
        "method.kind": method,
        "budget.minutes": minutes,
        "budget.steps": steps,
        "device.accelerator": device,
        "device.threads": threads,
        "seed": seed,
        "init": init if project is None else None,
    }
    with report.errors(json_):
        from napari_ctxseg.commands import settings as options_
        from napari_ctxseg.commands import train as command

        if resume:
            given = sorted(name for name, value in options.items() if value is not None)
            more = {
                "--set": set_,
                "--config": config,
                "--loss": loss,
                "--preset": preset,
                "--classes": classes,
            }
            options_.refuse_beside_resume([*given, *(name for name, value in more.items() if value)])
            chosen = None
        else:
            chosen = options_.settings(
                config, options, loss=loss, preset=preset, classes=classes, assignments=set_ or []
            )
        if project is None:
            command.train(chosen, options_.given("--out", out), resume=resume, as_json=json_)
        else:
            from napari_ctxseg.commands import project_runs
            from napari_ctxseg.project.roots import parse_roots

            fixed = [name for name in project_runs.FIXED if options[name] is not None]
            fixed += [
                name for name, value in {"--out": out, "--classes": classes}.items() if value is not None
            ]
            project_runs.refuse_beside_project(fixed)
            project_runs.train(project, chosen, parse_roots(root or []), init=init, as_json=json_)


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="Run folder made by `ctxseg train`, or a project folder.")],
    files: Annotated[
        list[str] | None,
        typer.Argument(
            help="Images: files, folders, patterns, @list.txt. Of a project: names, or all of them."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the label files; made when it does not exist.")
    ] = None,
    run_: Annotated[
        str | None, typer.Option("--run", help="Of a project: the run; left out, the last one.")
    ] = None,
    root: Roots = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace label files that are there already.")
    ] = False,
    maps: Annotated[
        bool,
        typer.Option(
            "--maps",
            help="Also write what a refined run (cr_gan) bases its labels on, for each class: the first stage's "
            "probability, and those of a false negative and a false positive.",
        ),
    ] = False,
    uncertainty: Annotated[
        str,
        typer.Option(
            help="Also write how sure the prediction is, 0 to 1: none, entropy, tta (mirrored images), ensemble."
        ),
    ] = "none",
    ensemble: Annotated[
        list[str] | None, typer.Option(help="With --uncertainty ensemble: another run; may be repeated.")
    ] = None,
    device: Device = None,
    threads: Threads = None,
    json_: Json = False,
) -> None:
    """Write a label file for each image: same stem, same format, same geometry; of a run of regions one for each region."""
    with report.errors(json_):
        from napari_ctxseg.commands import predict as command
        from napari_ctxseg.commands import settings as options_

        options = command.predict_options(uncertainty, ensemble or [])
        if (run / "project.yaml").exists():
            from napari_ctxseg.commands import project_runs
            from napari_ctxseg.project.roots import parse_roots

            project_runs.refuse_beside_project(["--out"] if out is not None else [])
            failed = project_runs.predict(
                run, run_, files or [], parse_roots(root or []), device=device, threads=threads, as_json=json_,
                options=options,
            )  # fmt: skip
        else:
            failed = command.predict(
                run, options_.given("the images", files), options_.given("--out", out),
                device=device, threads=threads, overwrite=overwrite, maps=maps, as_json=json_, options=options,
            )  # fmt: skip
    if failed:
        raise typer.Exit(1)


@app.command()
def evaluate(
    pred: Annotated[list[str], typer.Option(help="Predicted label files: folder, pattern, @list.txt.")],
    ref: Annotated[list[str], typer.Option(help="Reference label files, of the same stems.")],
    classes: Annotated[
        str | None, typer.Option(help="Names and values; left out: as the prediction's run had them.")
    ] = None,
    foreground: Foreground = False,
    measures: Measures = None,
    tolerance: Tolerance = None,
    sizes: Sizes = None,
    size_unit: SizeUnit = "px",
    overlap: Overlap = 0.0,
    instances: Instances = False,
    out: Annotated[
        Path | None, typer.Option(help="File to write to: .json .csv .md .tex; the table is printed as well.")
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="json, csv, markdown or latex instead of the table.")
    ] = None,
    per_case: Annotated[bool, typer.Option("--per-case", help="Also print a table of the cases.")] = False,
    json_: Json = False,
) -> None:
    """Compare predictions with references: overlap, surface distances, centrelines, objects found and missed."""
    with report.errors(json_):
        from napari_ctxseg.commands import evaluate as command
        from napari_ctxseg.evaluation.tables import evaluation_text

        how = command.chosen(
            measures, tolerance=tolerance, sizes=sizes, size_unit=size_unit, overlap=overlap, instances=instances
        )  # fmt: skip
        wanted = command.form_of(form, out)
        result = command.evaluate(pred, ref, classes=classes, foreground=foreground, chosen=how)
        if out is not None and wanted is not None:
            command.write(result, wanted, out)
        elif wanted is not None:
            report.print_text(evaluation_text(result, wanted))
            return
        report.scores(result, as_json=json_, per_case=per_case)


@app.command()
def imbalance(
    labels: Annotated[list[str], typer.Argument(help="Label files, folders, patterns, @list.txt.")],
    classes: Classes = None,
    foreground: Foreground = False,
    annotation: Annotation = None,
    background: Background = None,
    dims: Annotated[
        int,
        typer.Option(min=2, max=3, help="2: slice by slice, as a 2-D network sees them. 3: whole volumes."),
    ] = 2,
    json_: Json = False,
) -> None:
    """Say how unbalanced labels are, and which losses that speaks for."""
    with report.errors(json_):
        from napari_ctxseg.commands import imbalance as command
        from napari_ctxseg.commands.labels import label_settings

        data = label_settings(classes, foreground=foreground, annotation=annotation, background=background)
        found, offered, power = command.imbalance(labels, data, dims=3 if dims == 3 else 2)
        command.show(found, offered, power, as_json=json_)


@app.command()
def maps(
    labels: Annotated[Path, typer.Argument(help="Label file.")],
    loss: Annotated[str, typer.Option(help=f"Loss: {', '.join(LOSSES)}.")],
    out: Annotated[
        Path, typer.Option(help=f"File of the map: {' '.join(MAP_SUFFIXES)}; labels also .png, never .npy.")
    ],
    map_: Annotated[
        str, typer.Option("--map", help="weight, contour (real numbers); roi, interior, dilated (labels).")
    ] = "weight",
    preset: Preset = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A field of the loss, for instance --set radius=8.")
    ] = None,
    classes: Classes = None,
    foreground: Foreground = False,
    annotation: Annotation = None,
    background: Background = None,
    dims: Annotated[
        int,
        typer.Option(
            help="2: each slice along the first axis is an image of its own, with weights of its own, as a 2-D "
            "network sees it. 3: the whole volume."
        ),
    ] = 2,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    json_: Json = False,
) -> None:
    """Write what a loss sees in labels, with their geometry: weights, regions, contours."""
    with report.errors(json_):
        from napari_ctxseg.commands import maps as command
        from napari_ctxseg.commands.labels import label_settings

        data = label_settings(classes, foreground=foreground, annotation=annotation, background=background)
        chosen = command.chosen_loss(loss, preset, set_ or [])
        done = command.maps(labels, out, chosen, data, name=map_, dims=dims, overwrite=overwrite)
        text = f"{done['file']}: {done['map']} from {done['low']:.4g} to {done['high']:.4g}, sum {done['sum']:.6g}"
        report.print_json(done) if json_ else report.print_line(text)


@app.command()
def figure(
    recipe: Annotated[Path | None, typer.Argument(help="Recipe of the figure, a YAML file.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Picture: .png, .svg or .pdf; without a suffix all formats of the recipe. Left out: beside it."
        ),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any field, for instance --set style.width=170.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Print the kinds of figures.")] = False,
    example: Annotated[str | None, typer.Option(help="Print a recipe of this kind to begin with.")] = None,
    json_: Json = False,
) -> None:
    """Make a figure for a publication from a recipe; the same recipe gives the same picture."""
    with report.errors(json_):
        from napari_ctxseg.commands import figure as command
        from napari_ctxseg.commands.settings import given

        if list_:
            command.show_kinds(as_json=json_)
        elif example is not None:
            report.print_line(command.example(example).rstrip())
        else:
            command.figure(given("the recipe", recipe), out, set_ or [], as_json=json_)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the run, the predictions and the overlay.")] = Path(
        "ctxseg-demo"
    ),
    steps: Annotated[
        int | None, typer.Option(help="Optimiser steps; left out: about a minute's worth.")
    ] = None,
    no_viewer: Annotated[
        bool, typer.Option("--no-viewer", help="Do not open napari, even with a display.")
    ] = False,
    json_: Json = False,
) -> None:
    """Train on a made heart, predict a subject it has not seen, measure, and draw the result."""
    with report.errors(json_):
        from napari_ctxseg.commands import demo as command

        command.run(out, steps=steps, viewer=not no_viewer, as_json=json_)


@app.command()
def doctor(json_: Json = False) -> None:
    """Say what this machine offers: versions, device, precision, threads, display."""
    with report.errors(json_):
        from napari_ctxseg.commands import doctor as command

        facts: dict[str, Any] = command.doctor()
    if json_:
        typer.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        typer.echo(f"{name:18} {value}")


if __name__ == "__main__":
    app()
