"""Label files as cases of their own, for commands that need no images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ctxseg import dataset, io
from napari_ctxseg.cases import Case
from napari_ctxseg.commands.settings import parse_classes
from napari_ctxseg.config import parse_config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ctxseg.config import DataConfig


def label_settings(
    classes: str | None, *, foreground: bool, annotation: str | None, background: int | None
) -> DataConfig:
    """What the values of label files mean, from options.

    Raises
    ------
    InputError
        Naming the option that is wrong.
    """
    values = {
        "classes": parse_classes(classes) if classes is not None else {},
        "foreground": foreground,
        "annotation": annotation or "full",
        "background": background,
    }
    return parse_config({"data": values}, "options").data


def label_cases(places: Sequence[str]) -> list[Case]:
    """Read label files; the labels stand in for their images too.

    Raises
    ------
    FileError, InputError
        If there is none, or one cannot be read.
    """
    cases = []
    for path in dataset.find_files(places, "label files"):
        image = io.read_labels(path)
        cases.append(Case(io.stem_of(path), image, image.array))
    return cases
