"""How CR-GAN is divided: patients into folds, the budget into stages, and the run it may start from."""

from __future__ import annotations

import csv
import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_ctxseg.config import BudgetConfig, CGanConfig, CrGanConfig
from napari_ctxseg.errors import CheckpointError, InputError
from napari_ctxseg.training import checkpoint
from napari_ctxseg.training.run import CONFIG, RunFolder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ctxseg.config import RunConfig
    from napari_ctxseg.training.plan import Plan

#: Folders of the parts within the run's folder, beside ``fold1``, ``fold2`` ...
FIRST, SECOND, JOINT = "first", "second", "joint"


def deal(groups: Sequence[str], folds: int) -> dict[str, int]:
    """Patients dealt into folds, by the hash of their names so that nothing moves with their order.

    Raises
    ------
    InputError
        If there are fewer patients than folds.
    """
    names = sorted(set(groups), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    if len(names) < 2:
        raise InputError(
            "refinement",
            "needs predictions on patients that were not trained on, but there is only one patient",
            "Add labelled patients, name them with a patient pattern (--group), or choose the method cgan",
        )
    if len(names) < folds:
        raise InputError(
            "method.refine.folds", f"{folds} folds need as many patients, but {len(names)} are trained on",
            f"Set it to {len(names)}",
        )  # fmt: skip
    return {name: number % folds for number, name in enumerate(names)}


@dataclass(frozen=True)
class Stages:
    """How the budget is spent: steps of the first stage, of each fold, and of the second stage.

    Where the budget is in minutes, steps are None until they are known.
    """

    first: BudgetConfig | None
    second: BudgetConfig
    folds: int
    joint: int

    def total(self, first: int | None, second: int | None) -> int:
        """Steps of everything, or 0 while they are not known."""
        if first is None or second is None:
            return 0
        own = first if self.first is not None else 0
        return own + self.folds * first + second + self.joint


def budgets(config: RunConfig, base: RunConfig | None) -> Stages:
    """Split a budget. Without a base it covers everything; with one, the second stage alone: the folds cost what the base
    did.
    """
    method, budget = config.method, config.budget
    assert isinstance(method, CrGanConfig)
    refine = method.refine
    if base is not None:
        second = budget.model_copy(update={"steps": refine.steps or budget.steps, "val_every": None})
        return Stages(None, second, refine.folds, refine.joint)
    if budget.steps is not None:
        left = budget.steps - refine.joint
        own = refine.steps or max(1, left // (refine.folds + 2))
        first = max(1, (left - own) // (refine.folds + 1))
        return Stages(BudgetConfig(steps=first), BudgetConfig(steps=own), refine.folds, refine.joint)
    assert budget.minutes is not None
    share = budget.minutes / (refine.folds + 2)
    second = BudgetConfig(steps=refine.steps, minutes=share)
    return Stages(BudgetConfig(minutes=share), second, refine.folds, refine.joint)


def first_stage(config: RunConfig) -> RunConfig:
    """Configuration of the first stage: the same, less the refinement."""
    method = config.method
    assert isinstance(method, CrGanConfig)
    values = {name: getattr(method, name) for name in CGanConfig.model_fields if name != "kind"}
    return config.updated(method=CGanConfig(**values))


def base_config(run: str) -> RunConfig:
    """Configuration of a run that is to be refined.

    Raises
    ------
    CtxsegError
        If there is no finished run.
    InputError
        If it has been refined already.
    """
    folder = RunFolder(Path(run), resume=True)
    config = folder.load_config()
    if isinstance(config.method, CrGanConfig):
        raise InputError(run, "has been refined already", f"Name its first stage: {run}/{FIRST}")
    if not (folder.path / checkpoint.MODEL).is_file() or config.budget.steps is None:
        raise CheckpointError(run, "is not finished", "Train it to its end, or name another run")
    return config


def check_base(run: str | None, plan: Plan) -> None:
    """The base must have been trained on these training patients, and on none of those that are kept apart.

    Raises
    ------
    InputError
        If it was not, or has other classes.
    """
    assert run is not None
    _, record = checkpoint.load_tensors(Path(run) / checkpoint.MODEL)
    known = record.get("groups")
    ours = sorted({s.group for s in plan.train})
    theirs, own = checkpoint.described(record), plan.regions or plan.classes
    if list(theirs.items()) != list(own.items()):  # channels go by their order
        raise InputError(run, f"has other classes: {theirs}", f"Use {own} in both")
    if known != ours:
        raise InputError(
            run,
            f"was trained on the patients {known}, but here {ours} are trained on",
            "Refine a run with the images and labels it was trained on",
        )


def begun(out: Path) -> bool:
    """Whether a part can be gone on with; one that was cut off before its first saved state is cleared away."""
    if not out.exists():
        return False
    if (out / CONFIG).is_file() and any((out / "state").glob("*.safetensors")):
        return True
    shutil.rmtree(out)
    return False


def seconds_per_step(run: str | None) -> float | None:
    """Median time of a run's steps, from its metrics."""
    if run is None:
        return None
    try:
        with open(Path(run) / "metrics.csv", encoding="utf-8", newline="") as file:
            times = sorted(float(row["seconds"]) for row in csv.DictReader(file) if row["seconds"])
    except (OSError, KeyError, ValueError):
        return None
    return times[len(times) // 2] if times else None
