"""The runs of a comparison: who trains, who is predicted, and what came of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from napari_ctxseg.cases import group_of
from napari_ctxseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_ctxseg.compare.plan import ComparePlan, MeasureSettings
    from napari_ctxseg.config import RunConfig
    from napari_ctxseg.dataset import Pair


@dataclass(frozen=True)
class Cell:
    """One run.

    Parameters
    ----------
    variant : str
    fold, seed : int
    config : RunConfig
        Whole settings.
    train, test : tuple of str
        Names of cases.
    measures : MeasureSettings
        What is measured on the test cases.
    data : str
        Fingerprint of the files.
    """

    variant: str
    fold: int
    seed: int
    config: RunConfig
    train: tuple[str, ...]
    test: tuple[str, ...]
    measures: MeasureSettings
    data: str = ""

    @property
    def key(self) -> str:
        """Name of its files: the same settings on the same data have the same; names of variants play no part."""
        config = self.config.model_dump(mode="json")
        # Where files lie and which device computes does not make another run.
        config["data"] |= {"images": [], "labels": []}
        config.pop("device")
        measures = self.measures.model_dump(mode="json")
        if not measures["instances"]:  # runs from before there was a choice
            measures.pop("instances")
        record = [config, self.train, self.test, measures, self.data]
        return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Parameters
    ----------
    scores : dict
        Case -> class -> as `ClassScores.to_json`.
    seconds : float
        Of training.
    steps, kept_step : int
        Taken; whose weights predict.
    skipped : int
        Steps that were not finite and changed nothing.
    curve : list of (int, float, float or None)
        Step, seconds of training so far, Dice of the validation.
    curve_name : str
        What that Dice is measured on.
    notes : list of str
        Warnings.
    device : str
    error : str
        Why the run failed; empty if it did not. A failed run has no scores.
    """

    scores: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    seconds: float = 0.0
    steps: int = 0
    kept_step: int = 0
    skipped: int = 0
    curve: list[tuple[int, float, float | None]] = field(default_factory=list)
    curve_name: str = ""
    notes: list[str] = field(default_factory=list)
    device: str = ""
    error: str = ""

    def to_json(self, cell: Cell) -> dict[str, Any]:
        """With the cell it belongs to, plain values for ``json.dumps``."""
        place = {"variant": cell.variant, "fold": cell.fold, "seed": cell.seed, "key": cell.key}
        return {**place, "train": list(cell.train), "test": list(cell.test), **asdict(self)}


def groups_of(names: Sequence[str], pattern: str | None) -> dict[str, str]:
    """Case -> patient."""
    return {name: group_of(name, pattern) for name in names}


def dealt(groups: Sequence[str], folds: int) -> list[set[str]]:
    """Patients dealt into parts by the hash of their names: the parts never move with the order of the files.

    Raises
    ------
    InputError
        If there are fewer patients than folds.
    """
    names = sorted(set(groups), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    if len(names) < folds:
        have = "one patient" if len(names) == 1 else f"{len(names)} patients"
        raise InputError(
            f"--folds {folds}",
            f"cannot be made of {have}: a network must be tested on patients it has not seen",
            "Add patients, or check which image is of which patient (--group); with two patients there are two folds, but "
            "no test of significance",
        )
    return [set(names[part::folds]) for part in range(folds)]


def splits(plan: ComparePlan, groups: Mapping[str, str]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Names of the cases that train and that are predicted, for each fold.

    Parameters
    ----------
    plan : ComparePlan
    groups : mapping of str to str
        Case -> patient.

    Raises
    ------
    InputError
        If there are too few patients, or a test patient does not exist.
    """
    known = set(groups.values())
    if plan.folds is not None:
        parts = dealt(list(groups.values()), plan.folds)
    else:
        unknown = sorted(set(plan.test) - known)
        if unknown:
            raise InputError(
                f"test patient {unknown[0]}",
                "is in none of the images",
                f"There are: {', '.join(sorted(known)[:8])}",
            )
        parts = [set(plan.test)]
        if not known - parts[0]:
            raise InputError("test patients", "are all there are: nobody is left to train on", "Name fewer")
    return [
        (
            tuple(name for name, group in groups.items() if group not in part),
            tuple(name for name, group in groups.items() if group in part),
        )
        for part in parts
    ]


def cells_of(plan: ComparePlan, pairs: Sequence[Pair]) -> list[Cell]:
    """All runs of a plan, those that belong together in a row: all variants of a fold and seed, then the next.

    Raises
    ------
    InputError
        If patients cannot be split, or a variant's settings are wrong.
    """
    groups = groups_of([pair.name for pair in pairs], plan.run.data.group)
    parts = splits(plan, groups)
    return [
        Cell(
            variant.name,
            fold,
            seed,
            plan.config_of(variant, seed),
            train,
            test,
            plan.measures,
            plan.data_sha256,
        )
        for seed in plan.seeds
        for fold, (train, test) in enumerate(parts)
        for variant in plan.variants
    ]


def fingerprint(pairs: Sequence[Pair]) -> str:
    """SHA-256 of all images and labels, by their names."""
    digest = hashlib.sha256()
    for pair in sorted(pairs, key=lambda pair: pair.name):
        digest.update(f"\n{pair.name}|".encode())
        for path in (*pair.images, pair.label):
            if path is not None:
                with open(path, "rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
