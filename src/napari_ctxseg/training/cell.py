"""One run of a comparison: train, predict the patients it has not seen, measure."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from napari_ctxseg.cases import class_table
from napari_ctxseg.compare.cells import Cell, Outcome
from napari_ctxseg.errors import InputError
from napari_ctxseg.evaluation.metrics import evaluate_case
from napari_ctxseg.events import Event, Note, RunFinished, RunStarted
from napari_ctxseg.training.fit import fit
from napari_ctxseg.training.run import CONFIG, EVENTS, STATE

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from napari_ctxseg.cases import Case
    from napari_ctxseg.compare.queue import Runner
    from napari_ctxseg.evaluation.metrics import ClassScores
    from napari_ctxseg.inference import Predicted


def cell_runner(cases: Mapping[str, Case]) -> Runner:
    """A runner for `napari_ctxseg.compare.queue.run_queue`.

    Parameters
    ----------
    cases : mapping of str to Case
        All cases of the plan by their names, with labels.

    Returns
    -------
    callable
        Goes on in a run folder that holds an interrupted run; a run that had not saved anything begins again.
    """

    def run(cell: Cell, folder: Path, stop: Callable[[], bool]) -> Generator[Event, None, Outcome | None]:
        train = [cases[name] for name in cell.train]
        resume = (folder / CONFIG).is_file() and any((folder / STATE).glob("*"))
        if not resume:
            shutil.rmtree(folder, ignore_errors=True)
        notes: list[str] = []
        started: RunStarted | None = None
        finished: RunFinished | None = None
        for event in fit(cell.config, train, folder, stop=stop, resume=resume):
            if isinstance(event, Note) and event.level == "warning":
                notes.append(event.text)
            started = event if isinstance(event, RunStarted) else started
            finished = event if isinstance(event, RunFinished) else finished
            yield event
        if finished is None or finished.stopped:
            return None
        if 2 * finished.skipped > finished.step:  # what it predicts says nothing of the loss
            return Outcome(
                error=f"{finished.skipped} of {finished.step} steps were not finite: lower optim.lr, or try 32-true"
            )
        scores = yield from _judged(cell, cases, folder, stop)
        if scores is None:
            return None
        curve = _curve(folder)
        return Outcome(
            scores=scores,
            seconds=curve[-1][1] if curve else finished.seconds,
            steps=finished.step,
            skipped=finished.skipped,
            kept_step=finished.best_step,
            curve=curve,
            curve_name=started.curve if started else "",
            notes=list(dict.fromkeys(notes)),
            device=started.device if started else "",
        )

    return run


def _judged(
    cell: Cell, cases: Mapping[str, Case], folder: Path, stop: Callable[[], bool]
) -> Generator[Event, None, dict[str, dict[str, dict[str, object]]] | None]:
    """Measures of every test case; None when it was stopped."""
    from napari_ctxseg.inference import load_model, predict_case  # which need this package

    model = load_model(folder, cell.config.device)
    data = cell.config.data
    table = class_table([cases[name] for name in (*cell.train, *cell.test)], data)
    scores: dict[str, dict[str, dict[str, object]]] = {}
    for name in cell.test:
        if stop():
            return None
        case = cases[name]
        if case.labels is None:
            raise InputError(name, "has no labels to measure against", "Give it labels, or leave it out")
        if data.regions:
            found = _region_scores(cell, predict_case(model, case), case)
        else:
            merged = data.foreground and not cell.measures.instances
            truth = case.labels > 0 if merged else case.labels
            found = _scores(cell, predict_case(model, case).labels, truth, table, case)
        scores[name] = {label: each.to_json() for label, each in found.items()}
        yield Note(f"{name} is measured")
    return scores


def _region_scores(cell: Cell, predicted: Predicted, case: Case) -> dict[str, ClassScores]:
    import numpy as np

    found: dict[str, ClassScores] = {}
    for mask, (region, values) in zip(predicted.layers, cell.config.data.regions.items(), strict=True):
        assert case.labels is not None
        found |= _scores(cell, mask > 0, np.isin(case.labels, values), {region: 1}, case)
    return found


def _scores(
    cell: Cell,
    guess: NDArray[np.generic],
    truth: NDArray[np.generic],
    table: Mapping[str, int],
    case: Case,
) -> dict[str, ClassScores]:
    return evaluate_case(
        guess, truth, table, case.image.spacing, case.image.unit,
        measures=cell.measures.names, options=cell.measures.options,
    )  # fmt: skip


def _curve(folder: Path) -> list[tuple[int, float, float | None]]:
    """Step, seconds in steps so far and mean Dice of every validation, from the log, which survives interruptions."""
    log = folder / EVENTS
    points: list[tuple[int, float, float | None]] = []
    seconds = 0.0
    for line in log.read_text(encoding="utf-8").splitlines() if log.is_file() else []:
        record = json.loads(line)
        if record["type"] == "StepEnd":
            seconds += float(record["seconds"])
        elif record["type"] == "EpochEnd":
            points.append((int(record["step"]), round(seconds, 3), record["mean"]))
    return points
