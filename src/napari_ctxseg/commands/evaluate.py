"""``ctxseg evaluate``: predicted label files against references."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg import dataset, io
from napari_ctxseg.commands.predict import RECORD
from napari_ctxseg.commands.settings import parse_classes
from napari_ctxseg.errors import InputError
from napari_ctxseg.evaluation.metrics import evaluate_case, summarise

if TYPE_CHECKING:
    from collections.abc import Sequence


def evaluate(
    pred: Sequence[str], ref: Sequence[str], *, classes: str | None, foreground: bool
) -> dict[str, Any]:
    """Compare label files.

    Returns
    -------
    dict
        ``{"mean": ..., "classes": ..., "cases": ..., "notes": ...}``.

    Raises
    ------
    CtxsegError
        If nothing can be compared, or shapes differ.
    """
    predictions = dataset.find_files(pred, "predicted label files")
    pairs = dataset.pair_files(
        predictions, _references(predictions, dataset.find_files(ref, "reference label files"))
    )
    values, foreground = _classes_to_compare(pred, classes, foreground)
    loaded = [
        (pair.name, io.read_labels(pair.images[0]), io.read_labels(_given(pair.label))) for pair in pairs
    ]
    if not values and not foreground:
        found = {int(v) for _, a, b in loaded for image in (a, b) for v in np.unique(image.array)} - {0}
        values = {f"class {v}": v for v in sorted(found)}
    cases = {}
    for name, guess, truth in loaded:
        if guess.spatial_shape != truth.spatial_shape:
            raise InputError(
                name,
                f"prediction {guess.spatial_shape} and reference {truth.spatial_shape} have different shapes",
                "Compare masks of the same image",
            )
        a, b = (np.minimum(image.array, 1) if foreground else image.array for image in (guess, truth))
        table = {"foreground": 1} if foreground else values
        cases[name] = evaluate_case(a, b, table, truth.spacing, truth.unit)
    result = summarise(cases).to_json()
    result["notes"] = _unpaired(ref, pairs)
    return result


def _given(path: Path | None) -> Path:
    if path is None:
        raise InputError("references", "are incomplete", "Give one reference for each prediction")
    return path


def _references(predictions: Sequence[Path], references: Sequence[Path]) -> list[Path]:
    """References of the predictions at hand; more of them may lie in the folder."""
    stems = {io.stem_of(path) for path in predictions}
    return [
        p for p in references if any(io.stem_of(p) == s or io.stem_of(p).startswith(f"{s}_") for s in stems)
    ]


def _unpaired(ref: Sequence[str], pairs: Sequence[dataset.Pair]) -> list[str]:
    used = {pair.label for pair in pairs}
    left = [path for path in dataset.find_files(ref) if path not in used]
    return [f"{len(left)} references have no prediction and are not part of the means"] if left else []


def _classes_to_compare(
    pred: Sequence[str], classes: str | None, foreground: bool
) -> tuple[dict[str, int], bool]:
    if foreground:
        return {}, True
    if classes is not None:
        return parse_classes(classes), False
    record = Path(pred[0]) / RECORD
    if len(pred) == 1 and record.is_file():
        try:
            known = json.loads(record.read_text(encoding="utf-8"))
            return {str(k): int(v) for k, v in known["classes"].items()}, bool(known["foreground"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                record, f"cannot be read ({error})", "Name the classes with --classes"
            ) from error
    return {}, False
