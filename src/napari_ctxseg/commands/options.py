"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from napari_ctxseg.config import PRESETS

Places = Annotated[
    list[str] | None, typer.Option(help="Folder, pattern, file, or @list.txt; may be repeated.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of text.")]
Classes = Annotated[
    str | None, typer.Option(help="Names and values, LV=1,myo=2. Other values are background.")
]
Foreground = Annotated[bool, typer.Option("--foreground", help="Every label above 0 is one class.")]
Annotation = Annotated[str | None, typer.Option(help="full, masks or scribbles: what an unpainted 0 means.")]
Background = Annotated[int | None, typer.Option(help="With scribbles: the value painted for background.")]
Preset = Annotated[
    str | None, typer.Option(help=f"Settings of the loss: {', '.join(PRESETS)}, where it has them.")
]
Roots = Annotated[
    list[str] | None,
    typer.Option("--root", help="NAME=DIR: where this machine keeps a folder that a project refers to."),
]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads; all cores when left out.")]
Group = Annotated[str | None, typer.Option(help="Regular expression that finds the patient in a file name.")]
Measures = Annotated[
    str | None,
    typer.Option(
        help="Measures or groups of them with commas between: overlap, surface, skeleton, detection, all. Left out: "
        "dice,iou,precision,recall,hausdorff,hd95."
    ),
]
Tolerance = Annotated[
    float | None,
    typer.Option(help="Of the surface Dice, in the unit of the spacing; left out: the finest spacing."),
]
Sizes = Annotated[
    str | None,
    typer.Option(help="Objects below the first are small, from the second on large; left out: 100,1000."),
]
SizeUnit = Annotated[
    str, typer.Option(help="Of --sizes: px counts voxels, world takes areas and volumes by the spacing.")
]
Overlap = Annotated[float, typer.Option(help="An object is found if more than this share of its voxels is.")]
Instances = Annotated[
    bool,
    typer.Option(
        "--instances",
        help="Values are numbers of objects, cells say: measures of objects tell touching ones apart.",
    ),
]
