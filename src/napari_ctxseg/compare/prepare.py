"""What a comparison needs before its first run, and how far one has come. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_ctxseg import dataset
from napari_ctxseg.cases import class_table
from napari_ctxseg.compare.cells import cells_of, fingerprint
from napari_ctxseg.compare.queue import PLAN, CompareFolder
from napari_ctxseg.errors import CtxsegError, InputError

if TYPE_CHECKING:
    from pathlib import Path

    from napari_ctxseg.cases import Case
    from napari_ctxseg.compare.cells import Cell
    from napari_ctxseg.compare.plan import ComparePlan


@dataclass(frozen=True)
class Prepared:
    """A comparison that is ready to run.

    Attributes
    ----------
    plan : ComparePlan
        With whole paths, and the fingerprint of the data.
    cells : list of Cell
        All runs, in their order.
    cases : dict of str to Case
        All images with their labels, by name.
    """

    plan: ComparePlan
    cells: list[Cell]
    cases: dict[str, Case]


def prepare(plan: ComparePlan, folder: CompareFolder, *, resume: bool) -> Prepared:
    """Read the data, check everything that can be checked before a run, and store the plan.

    Raises
    ------
    CtxsegError
        If data, settings or folder do not allow it.
    """
    data = plan.run.data
    places = {"images": dataset.absolute(data.images), "labels": dataset.absolute(data.labels)}
    data = data.model_copy(update=places)
    plan = plan.model_copy(update={"run": plan.run.updated(data=data)})
    pairs = dataset.training_pairs(data)
    digest = fingerprint(pairs)
    if resume and plan.data_sha256 and digest != plan.data_sha256:
        raise InputError(
            folder.path,
            "the images or labels have changed since this comparison began",
            "Put the old files back, or begin a new comparison",
        )
    plan = plan.model_copy(update={"data_sha256": digest})
    cells = cells_of(plan, pairs)
    cases = {case.name: case for case in dataset.read_cases(pairs, data)}
    class_table(list(cases.values()), data)  # instance ids are refused now, not by every run
    folder.create(plan, resume=resume)
    return Prepared(plan, cells, cases)


@dataclass(frozen=True)
class RunState:
    """One planned run: ``"done"``, ``"failed"`` with its error, ``"begun"`` and interrupted, or ``"waiting"``."""

    variant: str
    fold: int
    seed: int
    state: str
    error: str = ""


def run_states(folder: CompareFolder) -> list[RunState]:
    """All runs of a stored comparison in their order, without reading any image.

    Raises
    ------
    CtxsegError
        If the plan is missing or damaged, or its files are gone.
    """
    plan = folder.plan()
    found = []
    for cell in cells_of(plan, dataset.training_pairs(plan.run.data)):
        record = folder.record(cell)
        error = "" if record is None else str(record["error"])
        begun = "begun" if (folder.runs / cell.key).is_dir() else "waiting"
        state = begun if record is None else "failed" if error else "done"
        found.append(RunState(cell.variant, cell.fold, cell.seed, state, error))
    return found


def stored_comparisons(parent: Path) -> list[Path]:
    """Folders of comparisons in a folder, the one last begun first; damaged ones are left out."""
    folders = (path for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else ()
    found = []
    for path in folders:
        try:
            if (path / PLAN).is_file():
                CompareFolder(path).plan()
                found.append(path)
        except CtxsegError:
            continue
    return sorted(found, key=lambda path: path.name, reverse=True)


def unfinished(path: Path) -> bool:
    """Whether a stored comparison has runs that are still to be done and can be."""
    try:
        return any(row.state in ("waiting", "begun") for row in run_states(CompareFolder(path)))
    except CtxsegError:
        return False
