"""The options of ``ctxseg project``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from napari_ctxseg.commands import report

app = typer.Typer(
    name="project",
    help="Make, fill, look at, mend, merge and split a project folder.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
Folder = Annotated[Path, typer.Argument(help="Project folder, NAME.ctxseg by custom.")]
Places = Annotated[
    list[str] | None, typer.Option(help="Folder, pattern, file, or @list.txt; may be repeated.")
]
Dataset = Annotated[
    Path | None, typer.Option(help="dataset.json of nnU-Net or the Medical Decathlon, or its folder.")
]
Group = Annotated[str | None, typer.Option(help="Regular expression that finds the patient in a file name.")]
Classes = Annotated[
    str | None, typer.Option(help="Names and values, LV=1,myo=2. Left out: the values in the label files.")
]
Foreground = Annotated[bool, typer.Option("--foreground", help="Every label above 0 is one class.")]
Copy = Annotated[
    bool | None,
    typer.Option("--copy/--refer", help="Copy the images, or refer to them. Left out: copy below 2 GB."),
]
Root = Annotated[
    str | None, typer.Option("--root", help="NAME=DIR: the folder that references are relative to.")
]
Roots = Annotated[
    list[str] | None,
    typer.Option("--root", help="NAME=DIR: where this machine keeps a folder that is referred to."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of text.")]


@app.command()
def create(
    folder: Folder,
    images: Places = None,
    labels: Places = None,
    dataset: Dataset = None,
    classes: Classes = None,
    foreground: Foreground = False,
    policy: Annotated[str | None, typer.Option(help="masks or scribbles: what an unpainted 0 means.")] = None,
    background: Annotated[int | None, typer.Option(help="With scribbles: the value of background.")] = None,
    group: Group = None,
    val: Annotated[float, typer.Option(min=0, max=0.9, help="Share of patients for validation.")] = 0.2,
    test: Annotated[float, typer.Option(min=0, max=0.9, help="Share of patients for testing.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split.")] = 0,
    copy: Copy = None,
    root: Root = None,
    json_: Json = False,
) -> None:
    """Make a project, empty or from files."""
    with report.errors(json_):
        from napari_ctxseg.commands import project as command
        from napari_ctxseg.commands.settings import parse_classes
        from napari_ctxseg.errors import InputError
        from napari_ctxseg.project import SplitSpec

        if policy not in (None, "masks", "scribbles"):
            raise InputError(f"--policy {policy}", "is no policy", "Choose masks or scribbles")
        named = parse_classes(classes) if classes else None
        settings = {"group": group, "classes": named, "foreground": foreground}
        found = command.found_images(images or [], labels or [], dataset, settings)
        count = len(found.images) if found else 0
        with report.progress("adding", count, as_json=json_ or not count) as show:
            done = command.create(
                folder, found, classes=named, policy=policy, background=background,  # type: ignore[arg-type]
                split=SplitSpec(seed=seed, validation=val, test=test), copy=copy, root=command.parse_root(root), show=show,
            )  # fmt: skip
        _show(done, json_)


@app.command()
def add(
    folder: Folder,
    images: Places = None,
    labels: Places = None,
    dataset: Dataset = None,
    foreground: Foreground = False,
    group: Group = None,
    copy: Copy = None,
    root: Root = None,
    json_: Json = False,
) -> None:
    """Add images, with labels or without."""
    with report.errors(json_):
        from napari_ctxseg.commands import project as command
        from napari_ctxseg.errors import InputError

        # Whatever values the labels hold are taken as they are: the project says which of them are classes.
        settings = {"group": group, "classes": {"any": 1}, "foreground": foreground}
        found = command.found_images(images or [], labels or [], dataset, settings)
        if found is None:
            raise InputError("add", "needs images", "Give --images or --dataset")
        with report.progress("adding", len(found.images), as_json=json_) as show:
            names, notes = command.add(
                folder, found, copy=copy, root=command.parse_root(root), roots={}, show=show
            )
        if json_:
            report.print_json({"added": names, "notes": notes})
            return
        report.print_line(f"added {len(names)} images")
        for note in notes:
            report.print_line(f"! {note}")


@app.command()
def info(
    folder: Folder,
    root: Roots = None,
    check: Annotated[
        bool, typer.Option("--check", help="Read all images and labels, to find damage.")
    ] = False,
    json_: Json = False,
) -> None:
    """Say what a project holds: images, split, labelled slices, runs, rounds."""
    with report.errors(json_):
        from napari_ctxseg.commands import project as command
        from napari_ctxseg.project.roots import parse_roots

        _show(command.info(folder, parse_roots(root or []), check=check), json_)


@app.command()
def restore(
    folder: Folder,
    image: Annotated[str | None, typer.Option(help="Mend or restore this image's labels.")] = None,
    generation: Annotated[int | None, typer.Option(help="State to go back to; see `info --json`.")] = None,
    slice_: Annotated[
        list[str] | None, typer.Option("--slice", help="Only these slices: 3 or 5-9; may be repeated.")
    ] = None,
    json_: Json = False,
) -> None:
    """Take the last good state of a damaged project, or an earlier state of an image's labels."""
    with report.errors(json_):
        from napari_ctxseg.commands import project as command

        done = command.restored(folder, image, generation, command.slice_numbers(slice_ or []))
        report.print_json({"done": done}) if json_ else report.print_line(done)


@app.command()
def merge(
    folder: Folder,
    other: Annotated[Path, typer.Argument(help="Another copy of the same project; it is only read.")],
    root: Roots = None,
    json_: Json = False,
) -> None:
    """Bring what another copy of a project has into this one."""
    with report.errors(json_):
        from napari_ctxseg.commands import project as command
        from napari_ctxseg.project.roots import parse_roots

        notes = command.merged(folder, other, parse_roots(root or []))
        if json_:
            report.print_json({"done": notes})
        else:
            for note in notes or ["nothing was missing"]:
                report.print_line(note)


@app.command()
def split(
    folder: Folder,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="PATIENT=train, validation or test; may be repeated.")
    ] = None,
    json_: Json = False,
) -> None:
    """Show which patients train, validate and test, or decide it by hand."""
    with report.errors(json_):
        from napari_ctxseg.commands import project as command

        roles = command.split(folder, set_ or [])
        if json_:
            report.print_json(roles)
        else:
            for role, groups in roles.items():
                report.print_line(f"{role}: {len(groups)}  {', '.join(groups)}")


@app.command()
def patients(
    folder: Folder,
    group: Group = None,
    own: Annotated[
        bool, typer.Option("--own", help="Each image a patient of its own, named like it.")
    ] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="IMAGE=PATIENT; may be repeated, and counts last.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would come of it; write nothing.")
    ] = False,
    json_: Json = False,
) -> None:
    """Show which patient each image is of, or change it; the split follows."""
    with report.errors(json_):
        from napari_ctxseg.commands import project as command

        found = command.patients(folder, group, set_ or [], own=own, dry_run=dry_run)
        if json_:
            report.print_json(found)
            return
        for row in found["images"]:
            report.print_line(f"{row['name']}: patient {row['patient']}, {row['role']}")
        for line in found["notes"]:
            report.print_line(line)


@app.command()
def regions(
    folder: Folder,
    set_: Annotated[
        str | None,
        typer.Option("--set", help="WT=1+2+3,ET=3: what is learnt instead of the classes. '': none."),
    ] = None,
    json_: Json = False,
) -> None:
    """Show or set the overlapping regions that are learnt instead of the classes."""
    with report.errors(json_):
        from napari_ctxseg.commands import project as command
        from napari_ctxseg.project import regions_text

        found = command.regions(folder, set_)
        if json_:
            report.print_json(found)
        else:
            report.print_line(regions_text(found) or "no regions: the classes are learnt")


def _show(values: dict[str, Any], as_json: bool) -> None:
    from napari_ctxseg.commands.project import lines

    if as_json:
        report.print_json(values)
    else:
        for line in lines(values):
            report.print_line(line)
