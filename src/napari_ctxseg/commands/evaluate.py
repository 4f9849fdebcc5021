"""``ctxseg evaluate``: predicted label files against references."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg import dataset, io
from napari_ctxseg.atomic import write_bytes_atomic
from napari_ctxseg.cases import MOST_CLASSES
from napari_ctxseg.commands.settings import parse_classes
from napari_ctxseg.errors import InputError
from napari_ctxseg.evaluation.metrics import (
    MEASURES,
    MeasureOptions,
    chosen_measures,
    evaluate_case,
    summarise,
)
from napari_ctxseg.evaluation.tables import FORMATS, SUFFIXES, evaluation_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence, Set

    from napari_ctxseg.evaluation.metrics import ClassScores
    from napari_ctxseg.image import Image


@dataclass(frozen=True)
class Chosen:
    """Which measures, and how."""

    measures: tuple[str, ...] = MEASURES
    options: MeasureOptions = field(default_factory=MeasureOptions)


def chosen(
    measures: str | None = None,
    *,
    tolerance: float | None = None,
    sizes: str | None = None,
    size_unit: str = "px",
    overlap: float = 0.0,
    instances: bool = False,
) -> Chosen:
    """Measures and their options as the command line gives them.

    Raises
    ------
    InputError
        Naming the option that is wrong.
    """
    try:
        names = chosen_measures([name for name in (measures or "").split(",") if name.strip()])
    except ValueError as error:
        raise InputError(
            f"--measures {measures}", str(error), "Write for instance dice,hd95,cldice"
        ) from error
    limits = MeasureOptions().sizes
    if sizes is not None:
        try:
            small, large = map(float, sizes.split(","))
        except ValueError:
            small, large = 1.0, 0.0
        if not 0 < small <= large:
            raise InputError(f"--sizes {sizes}", "is not two rising numbers", "Write for instance 100,1000")
        limits = small, large
    if size_unit not in ("px", "world"):
        raise InputError(f"--size-unit {size_unit}", "is no unit of sizes", "Write px or world")
    if tolerance is not None and not 0 <= tolerance < math.inf:
        raise InputError(
            f"--tolerance {tolerance}", "is no length", "Give 0 or more, in the unit of the spacing"
        )
    if not 0 <= overlap < 1:
        raise InputError(f"--overlap {overlap}", "is no share", "Give 0 or more, below 1")
    options = MeasureOptions(
        tolerance, overlap=overlap, sizes=limits, physical=size_unit == "world", instances=instances
    )
    return Chosen(names, options)


def evaluate(
    pred: Sequence[str],
    ref: Sequence[str],
    *,
    classes: str | None,
    foreground: bool,
    chosen: Chosen | None = None,
) -> dict[str, Any]:
    """Compare label files.

    Returns
    -------
    dict
        ``{"mean": ..., "classes": ..., "cases": ..., "notes": ...}``.

    Raises
    ------
    CtxsegError
        If nothing can be compared, or a prediction lies on another grid than its reference.
    """
    how = chosen or Chosen()
    objects = how.options.instances
    if objects and (classes is not None or foreground):
        raise InputError(
            "--instances",
            "takes every value above 0 for an object of one class",
            "Leave --classes and --foreground out",
        )
    predictions = dataset.find_files(pred, "predicted label files")
    regions = {} if classes is not None or foreground or objects else _recorded(pred).regions
    if regions:
        return _evaluate_regions(predictions, ref, regions, how)
    pairs = dataset.pair_files(
        predictions, _references(predictions, dataset.find_files(ref, "reference label files"))
    )
    values, foreground = ({}, False) if objects else _classes_to_compare(pred, classes, foreground)
    if objects or foreground:
        values = {"objects" if objects else "foreground": 1}
    elif not values:  # a pass of its own: all files at once may not fit into memory
        found = set().union(*(_values(image) for pair in pairs for image in _read(pair)))
        if len(found) > MOST_CLASSES:
            raise InputError(
                "labels",
                f"hold {len(found)} different values, which looks like numbers of objects",
                "Add --instances, or --foreground for all as one class; or name the classes with --classes",
            )
        values = {f"class {v}": v for v in sorted(found)}
    guessed: set[int] = set()
    true: set[int] = set()
    cases = {}
    for pair in pairs:
        guess, truth = _read(pair)
        dataset.check_grid(pair.name, truth, guess, "reference", "prediction")
        guessed |= _values(guess)
        true |= _values(truth)
        a, b = (np.minimum(image.array, 1) if foreground else image.array for image in (guess, truth))
        cases[pair.name] = evaluate_case(
            a, b, values, truth.spacing, truth.unit, measures=how.measures, options=how.options
        )
    result = summarise(cases).to_json()
    notes = [] if objects or foreground else _strange_values(values, guessed, true)
    result["notes"] = [*_unpaired(ref, {pair.label for pair in pairs}), *notes, *_nothing(result)]
    return result


def _read(pair: dataset.Pair) -> tuple[Image, Image]:
    """Prediction and reference."""
    return io.read_labels(pair.images[0]), io.read_labels(_given(pair.label))


def _values(labels: Image) -> set[int]:
    return {int(v) for v in np.unique(labels.array)} - {0}


def form_of(form: str | None, out: Path | None) -> str | None:
    """Format that was asked for, by name or by the file's suffix; None where nothing was.

    Raises
    ------
    InputError
        If there is no such format.
    """
    if form is not None and form not in FORMATS:
        raise InputError(f"--format {form}", "is no format", f"There are: {', '.join(FORMATS)}")
    if form is None and out is not None:
        form = SUFFIXES.get(out.suffix.lower())
        if form is None:
            raise InputError(
                out, "has no suffix of a table", f"Name it {', '.join(SUFFIXES)}, or add --format"
            )
    return form


def write(result: Mapping[str, Any], form: str, out: Path) -> None:
    """Write an evaluation to a file, which is replaced if it is there."""
    write_bytes_atomic(out, evaluation_text(result, form).encode())


def _evaluate_regions(
    predictions: Sequence[Path], ref: Sequence[str], regions: Mapping[str, Sequence[int]], how: Chosen
) -> dict[str, Any]:
    """Compare files of regions with such files, or with labels of the values that the regions are made of."""
    found = _by_region(predictions, regions)
    references = {io.stem_of(path): path for path in dataset.find_files(ref, "reference label files")}
    drawn = {f"{name}_{region}": references.get(f"{name}_{region}") for name in found for region in regions}
    whole: dict[str, Path] = {}
    if None in drawn.values():
        stems = [Path(f"{name}.nii") for name in found]  # only their stems count
        pairs = dataset.pair_files(stems, _references(stems, list(references.values())))
        whole = {pair.name: _given(pair.label) for pair in pairs}
    cases: dict[str, dict[str, ClassScores]] = {}
    for name, files in found.items():
        labels = io.read_labels(whole[name]) if whole else None
        for region, values in regions.items():
            guess = io.read_labels(files[region])
            truth = labels or io.read_labels(_given(drawn[f"{name}_{region}"]))
            dataset.check_grid(name, truth, guess, "reference", "prediction")
            mask = np.isin(truth.array, list(values)) if whole else truth.array > 0
            scores = evaluate_case(
                guess.array > 0, mask, {region: 1}, truth.spacing, truth.unit,
                measures=how.measures, options=how.options,
            )  # fmt: skip
            cases.setdefault(name, {}).update(scores)
    result = summarise(cases).to_json()
    result["notes"] = [*_unpaired(ref, set(whole.values()) or set(drawn.values())), *_nothing(result)]
    return result


def _by_region(predictions: Sequence[Path], regions: Mapping[str, Any]) -> dict[str, dict[str, Path]]:
    """Image -> region -> its file."""
    found: dict[str, dict[str, Path]] = {}
    for path in predictions:
        stem = io.stem_of(path)
        region = max((each for each in regions if stem.endswith(f"_{each}")), key=len, default=None)
        if region is None:
            raise InputError(
                path, f"belongs to none of the regions {', '.join(regions)}", "Move it elsewhere"
            )
        found.setdefault(stem.removesuffix(f"_{region}"), {})[region] = path
    for name, files in found.items():
        missing = [region for region in regions if region not in files]
        if missing:
            raise InputError(name, f"has no predicted file of {', '.join(missing)}", "Predict it again")
    return found


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


def _unpaired(ref: Sequence[str], used: Set[Path | None]) -> list[str]:
    left = [path for path in dataset.find_files(ref) if path not in used]
    return [f"{len(left)} references have no prediction and are not part of the means"] if left else []


def _strange_values(values: Mapping[str, int], guesses: Set[int], truths: Set[int]) -> list[str]:
    """What the values that the files hold say against the classes."""
    known, notes = set(values.values()), []
    for what, held in (("predictions", guesses), ("references", truths)):
        if others := sorted(held - known):
            notes.append(f"the {what} also hold {_listed(others)}, no class here: taken for background")
    if len(guesses) == 1 and len(truths) > 2:
        notes.append(
            f"the predictions hold one value, the references {len(truths)}: if those are numbers of objects, compare with "
            "--instances or --foreground"
        )
    only = sorted((guesses - truths) & known), sorted((truths - guesses) & known)
    if all(only):
        notes.append(
            f"only the predictions hold {_listed(only[0])} and only the references {_listed(only[1])}: if they mean "
            "the same, compare with --foreground, or write one of them anew"
        )
    return notes


def _listed(values: Sequence[int]) -> str:
    shown = ", ".join(map(str, values[:8])) + (" ..." if len(values) > 8 else "")
    return f"the value{'s' if len(values) > 1 else ''} {shown}"


def _nothing(result: Mapping[str, Any]) -> list[str]:
    """That classes, or all files, have nothing that could be measured."""
    rows: Mapping[str, Mapping[str, Any]] = result["classes"]
    if not any(row["cases"] for row in rows.values()):
        return ["all references and predictions are empty: there is nothing to measure"]
    notes = []
    empty = [name for name, row in rows.items() if not row["cases"]]
    if empty:
        notes.append(f"in no reference and no prediction: {', '.join(empty)}")
    invented = [name for name, row in rows.items() if row["cases"] and row["cases"] == row["invented"]]
    if invented:
        notes.append(
            f"in no reference, but predicted: {', '.join(invented)}; its Dice of 0 is part of the mean over classes"
        )
    return notes


def _classes_to_compare(
    pred: Sequence[str], classes: str | None, foreground: bool
) -> tuple[dict[str, int], bool]:
    if foreground:
        return {}, True
    if classes is not None:
        return parse_classes(classes), False
    known = _recorded(pred)
    return known.classes, known.foreground


@dataclass(frozen=True)
class _Recorded:
    """What a folder of predictions says of itself."""

    classes: dict[str, int] = field(default_factory=dict)
    foreground: bool = False
    regions: dict[str, tuple[int, ...]] = field(default_factory=dict)


def _recorded(pred: Sequence[str]) -> _Recorded:
    record = Path(pred[0]) / dataset.PREDICTIONS
    if len(pred) != 1 or not record.is_file():
        return _Recorded()
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
        return _Recorded(
            {str(k): int(v) for k, v in known["classes"].items()},
            bool(known["foreground"]),
            {str(k): tuple(map(int, v)) for k, v in known.get("regions", {}).items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(record, f"cannot be read ({error})", "Name the classes with --classes") from error
