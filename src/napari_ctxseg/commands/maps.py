"""``ctxseg maps``: what a loss sees in a label file, as a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import ValidationError

from napari_ctxseg import io
from napari_ctxseg.cases import class_indices, class_table, class_values
from napari_ctxseg.commands.labels import label_cases
from napari_ctxseg.commands.settings import loss_values
from napari_ctxseg.config import parse_loss, set_fields
from napari_ctxseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_ctxseg.config import Config, DataConfig
    from napari_ctxseg.losses.anatomy import Anatomy

MapName = Literal["weight", "roi", "contour", "interior", "dilated"]
MAPS: tuple[MapName, ...] = ("weight", "roi", "contour", "interior", "dilated")
#: Maps of real numbers; the others hold labels.
REAL = ("weight", "contour")


def chosen_loss(kind: str, preset: str | None, assignments: Sequence[str]) -> Config:
    """A loss from options.

    Raises
    ------
    InputError
        Naming what is wrong.
    """
    fields = set_fields(loss_values(kind, preset), list(assignments))
    try:
        return parse_loss(fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"] if part != kind)
        raise InputError(
            f"--loss {kind}",
            f"{field}: {first['msg']}" if field else first["msg"],
            "See the docs' page Losses",
        ) from error


def maps(
    labels: Path, out: Path, loss: Config, data: DataConfig, *, name: str, dims: int, overwrite: bool
) -> dict[str, Any]:
    """Write one map of a loss.

    Returns
    -------
    dict
        ``{"file", "map", "loss", "low", "high", "sum"}``.

    Raises
    ------
    CtxsegError
        If labels, loss, map and file do not fit together.
    """
    if name not in MAPS:
        raise InputError(f"--map {name}", "is no map", f"There are: {', '.join(MAPS)}")
    _check_out(labels, out, name, overwrite)
    (case,) = label_cases([str(labels)])
    table = class_table([case], data)
    indices = class_indices(case, table, data)
    if dims not in (2, 3) or dims > indices.ndim:
        raise InputError(f"--dims {dims}", f"does not fit labels with {indices.ndim} axes", "Use --dims 2")
    values = _computed(loss, indices, case.image.spacing, len(table) + 1, name, dims)
    if name in REAL:
        io.write_map(out, values.astype(np.float32), case.image)
    else:
        values = values.astype(np.uint8) if name == "roi" else class_values(values, table)
        io.write_labels(out, values, case.image)
    return {
        "file": str(out),
        "map": name,
        "loss": loss.model_dump(mode="json"),
        "low": float(values.min()),
        "high": float(values.max()),
        "sum": float(values.sum(dtype=np.float64)),
    }


def _computed(
    loss: Config, indices: NDArray[Any], spacing: Sequence[float], classes: int, name: str, dims: int
) -> NDArray[Any]:
    """The map of a volume, or of each slice as a sample of its own."""
    from napari_ctxseg.losses.anatomy import anatomy

    try:
        if dims == indices.ndim:
            return _picked(anatomy(loss, indices, spacing, classes=classes), loss, name)
        slices = [anatomy(loss, one, spacing[1:], classes=classes) for one in indices]
    except ValueError as error:  # weights for another number of classes, for instance
        raise InputError(f"--loss {getattr(loss, 'kind', '')}", str(error), "Change it with --set") from error
    return np.stack([_picked(one, loss, name) for one in slices])


def _picked(seen: Anatomy, loss: Config, name: str) -> NDArray[Any]:
    values: NDArray[Any] | None = getattr(seen, name)
    if values is None:
        known = [each for each in MAPS if getattr(seen, each) is not None]
        raise InputError(
            f"--map {name}",
            f"is nothing that the loss {getattr(loss, 'kind', '')} has",
            f"It has: {', '.join(known) or 'no map at all'}",
        )
    return values


def _check_out(labels: Path, out: Path, name: str, overwrite: bool) -> None:
    suffixes = io.MAP_SUFFIXES if name in REAL else io.LABEL_SUFFIXES
    if io.suffix_of(out) not in suffixes:
        raise InputError(
            out,
            f"has the suffix {io.suffix_of(out)!r}, which cannot hold this map",
            f"Use {' '.join(suffixes)}",
        )
    if out.exists() and labels.exists() and out.samefile(labels):
        raise InputError(out, "is the label file itself", "Choose another name")
    if out.exists() and not overwrite:
        raise InputError(out, "is there already", "Choose another name, or use --overwrite")
