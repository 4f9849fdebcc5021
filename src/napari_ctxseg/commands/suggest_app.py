"""Options of ``ctxseg suggest``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer looks at the annotations
from typing import Annotated

import typer

from napari_ctxseg.commands import report
from napari_ctxseg.commands.options import Device, Json, Roots, Threads


def suggest(
    where: Annotated[Path, typer.Argument(help="A project, or a run folder made by `ctxseg train`.")],
    files: Annotated[
        list[str] | None, typer.Argument(help="With a run: images, folders, patterns, @list.txt.")
    ] = None,
    labels: Annotated[
        list[str] | None, typer.Option(help="With a run: label files of some images; may be repeated.")
    ] = None,
    run: Annotated[
        str | None, typer.Option(help="With a project: which run; the last when left out.")
    ] = None,
    root: Roots = None,
    top: Annotated[int, typer.Option(min=1, help="How many slices.")] = 10,
    uncertainty: Annotated[str, typer.Option(help="none, entropy, tta, ensemble.")] = "entropy",
    ensemble: Annotated[
        list[str] | None, typer.Option(help="With --uncertainty ensemble: another run; may be repeated.")
    ] = None,
    device: Device = None,
    threads: Threads = None,
    json_: Json = False,
) -> None:
    """Say which slices are worth labelling next: unsure, probably wrong, or unlike what is labelled. A heuristic."""
    with report.errors(json_):
        from napari_ctxseg.commands import suggest as command
        from napari_ctxseg.commands.predict import predict_options
        from napari_ctxseg.project.roots import parse_roots

        slices, images = command.suggest(
            where, files or [], run=run, roots=parse_roots(root or []), labels=labels or [], top=top, device=device,
            threads=threads, as_json=json_, options=predict_options(uncertainty, ensemble or []),
        )  # fmt: skip
        command.show(slices, images, as_json=json_)
