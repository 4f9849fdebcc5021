"""Numbers of a comparison: patients' values from the runs that are done, and nothing from those that are not."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_ctxseg.evaluation.comparison import Comparison, compare, with_holm

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence, Set

    from napari_ctxseg.compare.cells import Cell
    from napari_ctxseg.compare.plan import ComparePlan

#: Fold and seed: runs of all variants with the same patients and the same start.
Block = tuple[int, int]


@dataclass(frozen=True)
class Results:
    """A comparison as far as it has come.

    Parameters
    ----------
    plan : ComparePlan
    cells : sequence of Cell
        All that are planned.
    records : mapping of str to dict
        Key of a cell -> what is stored of it, failed ones included.
    groups : mapping of str to str
        Case -> patient.
    """

    plan: ComparePlan
    cells: Sequence[Cell]
    records: Mapping[str, Mapping[str, Any]]
    groups: Mapping[str, str]

    def done(self, variant: str) -> dict[Block, Mapping[str, Any]]:
        """Runs of a variant that ended well."""
        found = ((cell, self.records.get(cell.key)) for cell in self.cells if cell.variant == variant)
        return {
            (cell.fold, cell.seed): record
            for cell, record in found
            if record is not None and not record["error"]
        }

    def without_numbers(self, variant: str) -> dict[Block, str]:
        """Planned runs of a variant that give no numbers, and why."""
        done = self.done(variant)
        return {
            (cell.fold, cell.seed): str(self.records.get(cell.key, {}).get("error") or "still to be done")
            for cell in self.cells
            if cell.variant == variant and (cell.fold, cell.seed) not in done
        }

    def failed(self) -> list[Mapping[str, Any]]:
        """Runs that ended with an error; the variant's name is that of the plan."""
        return [
            {**record, "variant": cell.variant}
            for cell in self.cells
            if (record := self.records.get(cell.key)) is not None and record["error"]
        ]

    def planned(self, variant: str) -> int:
        """How many runs the plan has of a variant."""
        return sum(cell.variant == variant for cell in self.cells)

    @property
    def missing(self) -> int:
        """Runs that are still to be done."""
        return sum(cell.key not in self.records for cell in self.cells)

    @property
    def classes(self) -> list[str]:
        """Classes that were measured, in the order of the settings."""
        return list(dict.fromkeys(name for _, _, name, _ in self._scores()))

    def _scores(
        self, variant: str | None = None, blocks: Set[Block] | None = None
    ) -> Iterator[tuple[Block, str, str, Mapping[str, Any]]]:
        """Block, case, class, and the scores."""
        names = [variant] if variant is not None else [each.name for each in self.plan.variants]
        for name in names:
            for block, record in self.done(name).items():
                if blocks is None or block in blocks:
                    for case, classes in record["scores"].items():
                        for label, scores in classes.items():
                            yield block, case, label, scores

    def units(
        self,
        variant: str,
        measure: str,
        *,
        label: str | None = None,
        blocks: Set[Block] | None = None,
        by_case: bool = False,
    ) -> dict[str, float]:
        """Patient -> mean over seeds and cases for each class, then over the classes.

        Parameters
        ----------
        variant, measure : str
        label : str, optional
            Only this class.
        blocks : set of Block, optional
            Only these runs.
        by_case : bool
            Case instead of patient.

        Returns
        -------
        dict of str to float
            Patients without any value are left out.
        """
        found: dict[str, dict[str, list[float]]] = {}
        for _, case, name, scores in self._scores(variant, blocks):
            if scores.get(measure) is not None and label in (None, name):
                unit = case if by_case else self.groups[case]
                found.setdefault(unit, {}).setdefault(name, []).append(float(scores[measure]))
        return {
            unit: _mean([_mean(each) for each in classes.values()]) for unit, classes in sorted(found.items())
        }

    def counts(self, variant: str, label: str | None = None) -> dict[str, int]:
        """Case-class pairs over all runs, of one class if asked: measured, in neither mask (absent), missed, invented."""
        result = {"cases": 0, "absent": 0, "missed": 0, "invented": 0}
        for _, _, name, scores in self._scores(variant):
            if label not in (None, name):
                continue
            there = bool(scores["predicted"] or scores["reference"])
            result["cases"] += there
            result["absent"] += not there
            result["missed"] += there and not scores["predicted"]
            result["invented"] += there and not scores["reference"]
        return result

    def seed_spread(self, variant: str, measure: str) -> float | None:
        """Standard deviation between seeds of the mean over patients; None unless two seeds have all their folds."""
        folds = {cell.fold for cell in self.cells}
        done = self.done(variant)
        means = []
        for seed in self.plan.seeds:
            blocks = {(fold, seed) for fold in folds}
            values = self.units(variant, measure, blocks=blocks) if blocks <= set(done) else {}
            if values:
                means.append(_mean(list(values.values())))
        return statistics.stdev(means) if len(means) > 1 else None

    def seed_differences(self, variant: str) -> dict[int, float]:
        """Seed -> mean over patients of variant minus reference, for seeds in which both have all folds."""
        folds = {cell.fold for cell in self.cells}
        shared = set(self.done(self.plan.base)) & set(self.done(variant))
        found = {}
        for seed in self.plan.seeds:
            blocks = {(fold, seed) for fold in folds}
            if blocks <= shared:
                one, base = (
                    self.units(name, self.plan.primary, blocks=blocks) for name in (variant, self.plan.base)
                )
                differences = [one[unit] - base[unit] for unit in sorted(set(one) & set(base))]
                if differences:
                    found[seed] = _mean(differences)
        return found

    def comparisons(self) -> list[Comparison]:
        """Every variant against the reference in the primary measure, on the runs that both have, corrected together."""
        base, measure = self.plan.base, self.plan.primary
        found: list[Comparison] = []
        for variant in self.plan.variants:
            if variant.name == base:
                continue
            shared = set(self.done(base)) & set(self.done(variant.name))
            values = {name: self.units(name, measure, blocks=shared) for name in (base, variant.name)}
            found += compare(values, base, measure, test=self.plan.paired_test)
        return with_holm(found)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
