"""CR-GAN: a first stage, and a second one that learns its errors on patients it has not seen (Rezaei et al. 2018).

The training patients are dealt into folds. For each fold the first stage is trained again without it and predicts it; from
these out-of-fold predictions the second stage learns what the first one misses and makes up. Every part is a run of its
own in a folder of its own, so that an interrupted training goes on where it was.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from napari_ctxseg.atomic import write_bytes_atomic
from napari_ctxseg.composition import RELEASED
from napari_ctxseg.config import BudgetConfig, CrGanConfig
from napari_ctxseg.events import (
    BudgetSet,
    CheckpointSaved,
    EpochEnd,
    Event,
    Note,
    Preview,
    RunFinished,
    RunStarted,
    StepEnd,
)
from napari_ctxseg.networks.summary import summarise
from napari_ctxseg.training.loop import run_network
from napari_ctxseg.training.memory import check_memory
from napari_ctxseg.training.plan import device_text, make_plan, resolve_device
from napari_ctxseg.training.refine import (
    JointTrainer,
    RefineTrainer,
    out_of_fold,
    refine_plan,
    refinement_of,
    save_refined,
)
from napari_ctxseg.training.run import RunFolder
from napari_ctxseg.training.stages import (
    FIRST,
    JOINT,
    SECOND,
    base_config,
    begun,
    budgets,
    check_base,
    deal,
    first_stage,
    seconds_per_step,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from napari_ctxseg.cases import Case
    from napari_ctxseg.config import LossConfig, RunConfig
    from napari_ctxseg.training.plan import Plan

#: Who was in which fold: the proof that no sample of the second stage was predicted by a model that knew its patient.
FOLDS = "folds.json"


def fit_cr_gan(
    config: RunConfig,
    cases: Sequence[Case],
    out: Path,
    *,
    stop: Callable[[], bool],
    visible: Callable[[], tuple[str, int] | None] | None,
    resume: bool,
) -> Iterator[Event]:
    """All stages of CR-GAN as one run; see `napari_ctxseg.training.fit`."""
    method, base = config.method, None
    assert isinstance(method, CrGanConfig)
    if method.refine.base is not None:
        base = base_config(method.refine.base)
        own = {"network": base.network, "loss": base.loss, "patch": base.patch, "augment": base.augment}
        inherited = {name: getattr(base.data, name) for name in ("val", "validation", "planes")}
        data = config.data.model_copy(update=inherited)
        config = config.updated(**own, optim=base.optim, data=data)
    device = resolve_device(config.device)
    torch.set_num_threads(device.threads or 1)
    plan = make_plan(config.updated(device=device), cases)
    check_memory(plan.config)
    folds = deal([s.group for s in plan.train], method.refine.folds)
    if base is not None:
        check_base(method.refine.base, plan)
    folder = RunFolder(out, resume=resume)
    if not resume:
        folder.save_config(plan.config)
    run = _CrGan(plan, config.loss, cases, folder, folds, base, stop, visible)
    for event in run.all(resume=resume):
        folder.log(event)
        yield event


class _CrGan:
    """One call of `fit_cr_gan`."""

    def __init__(
        self,
        plan: Plan,
        loss: LossConfig,
        cases: Sequence[Case],
        folder: RunFolder,
        folds: Mapping[str, int],
        base: RunConfig | None,
        stop: Callable[[], bool],
        visible: Callable[[], tuple[str, int] | None] | None,
    ) -> None:
        self.plan, self.cases, self.folder, self.folds, self.base = plan, cases, folder, folds, base
        # Not the plan's: class weights counted over all patients would tell a fold of those it must not know.
        self.loss, self.stop, self.visible = loss, stop, visible
        self.config = plan.config
        self.stages = budgets(self.config, base)
        self.started = time.monotonic()
        self.offset = self.skipped = 0
        known = base.budget if base is not None else self.stages.first
        self.first_steps = known.steps if known is not None else None
        self.second_steps = self.stages.second.steps
        self.stopped = False
        self.last: RunFinished | None = None

    @property
    def method(self) -> CrGanConfig:
        assert isinstance(self.config.method, CrGanConfig)
        return self.config.method

    @property
    def total(self) -> int:
        return self.stages.total(self.first_steps, self.second_steps)

    def all(self, *, resume: bool) -> Iterator[Event]:
        """Every stage, in order."""
        text = device_text(self.config.device)
        self.folder.save_environment(text)
        yield RunStarted(
            run=str(self.folder.path),
            step=0,
            steps=self.total,
            device=text,
            precision=str(self.config.device.precision),
            parameters=self._weights(),
            curve=self.plan.curve,
            classes=tuple(self.plan.names),
        )
        yield from (Note(text, "warning") for text in self.plan.notes)
        yield from self._announce()
        for stage in (self._first, self._folds, self._second, self._joint):
            yield from stage()
            if self.stopped:
                break
        if not self.stopped:
            yield from self._save()
        seconds = time.monotonic() - self.started
        dice = self.last.dice if self.last is not None else None
        run = str(self.folder.path)
        yield RunFinished(
            run, self.offset, self.total, self.stopped, self.offset, dice, self.skipped, seconds
        )

    def _weights(self) -> int:
        """Trainable weights of both stages."""
        networks = (self.plan.config.network, refinement_of(self.plan))
        size = self.plan.config.patch.size or ()
        return sum(summarise(network, size, 1).parameters for network in networks)

    def _announce(self) -> Iterator[Note]:
        counts = [list(self.folds.values()).count(k) for k in range(self.method.refine.folds)]
        yield Note(
            f"{len(self.folds)} patients in {len(counts)} folds of {', '.join(map(str, counts))}: the first stage is "
            f"trained {len(counts) + (self.base is None)} times"
        )
        seconds = seconds_per_step(self.method.refine.base)
        if self.base is not None and seconds is not None and self.base.budget.steps:
            minutes = seconds * self.base.budget.steps * len(counts) / 60
            yield Note(f"The folds take about {minutes:.1f} minutes, then the refinement is trained")

    # ---- stages

    def _first(self) -> Iterator[Event]:
        if self.base is not None:
            return
        assert self.stages.first is not None
        yield Note("First stage: all training patients")
        config = first_stage(self.config).updated(budget=self.stages.first)
        yield from self._run(FIRST, config, self.cases, curve=True)

    def _folds(self) -> Iterator[Event]:
        write_bytes_atomic(self.folder.path / FOLDS, json.dumps(self.folds, indent=1).encode())
        source = self.base or first_stage(self.config)
        data = self.config.data.model_copy(update={"val": 0.0})
        steps = self.first_steps
        assert steps is not None
        for fold in range(self.method.refine.folds):
            apart = [name for name, number in self.folds.items() if number == fold]
            yield Note(f"Fold {fold + 1} of {self.method.refine.folds}: without {', '.join(apart)}")
            config = source.updated(
                data=data,
                budget=BudgetConfig(steps=steps, val_every=steps),
                device=self.config.device,
                loss=self.loss,
                seed=self.config.seed + 1 + fold,
            )
            others = {name for name, number in self.folds.items() if number != fold}
            cases = [case for case in self.cases if (case.group or case.name) in others]
            yield from self._run(f"fold{fold + 1}", config, cases, curve=False)
            if self.stopped:
                return

    def _second(self) -> Iterator[Event]:
        yield Note("Second stage: learns the errors on patients that the first stage had not seen")
        path = self.folder.path
        models = {fold: path / f"fold{fold + 1}" for fold in range(self.method.refine.folds)}
        samples = yield from out_of_fold(self.plan, models, self.folds, self.stop)
        if samples is None:
            self.stopped = True
            return
        plan = refine_plan(self.plan, samples, self.stages.second)
        yield from self._run(SECOND, plan.config, self.cases, curve=True, plan=plan)

    def _joint(self) -> Iterator[Event]:
        if not self.method.refine.joint:
            return
        yield Note("Both stages are trained together")
        plan = replace(
            self.plan,
            config=self.plan.config.updated(
                budget=BudgetConfig(steps=self.method.refine.joint),
                loss="dice_ce",
                init=None,
                optim=self.plan.config.optim.model_copy(
                    update={"lr": (self.plan.config.optim.lr or 1e-3) / 10}
                ),
            ),
        )
        first, second = self.first_run, self.folder.path / SECOND
        yield from self._run(
            JOINT,
            plan.config,
            self.cases,
            curve=True,
            plan=plan,
            make=lambda p: JointTrainer(p, first, second),
        )

    @property
    def first_run(self) -> Path:
        """Folder of the first stage."""
        base = self.method.refine.base
        return self.folder.path / FIRST if base is None else Path(base)

    # ---- running a part

    def _run(
        self,
        name: str,
        config: RunConfig,
        cases: Sequence[Case],
        *,
        curve: bool,
        plan: Plan | None = None,
        make: Callable[[Plan], Any] | None = None,
    ) -> Iterator[Event]:
        """One part, from its start or from where it was interrupted; its events as part of the whole."""
        out = self.folder.path / name
        resume = begun(out)
        if plan is not None and make is None:
            first = self.first_run

            def make(plan: Plan) -> RefineTrainer:
                return RefineTrainer(plan, first)

        events = run_network(
            config, cases, out, stop=self.stop, visible=self.visible if curve else None, resume=resume,
            plan=plan, make=make,
        )  # fmt: skip
        for event in events:
            if isinstance(event, RunFinished):
                self.last = event if curve else self.last
                self.stopped, self.skipped = event.stopped, self.skipped + event.skipped
                done, steps = event.step, event.steps
                continue
            if isinstance(event, BudgetSet):
                self._budget(name, event.steps)
                if self.total:
                    yield BudgetSet(self.total, event.seconds_per_step)
                continue
            moved = self._moved(event, curve)
            if moved is not None:
                yield moved
        if name == FIRST:
            self.first_steps = steps
        self.offset += done

    def _budget(self, name: str, steps: int) -> None:
        if name == FIRST:
            self.first_steps = steps
            # Until it is measured: the second stage is given the same time, so about as many steps.
            self.second_steps = self.second_steps or steps
        elif name == SECOND:
            self.second_steps = steps

    def _moved(self, event: Event, curve: bool) -> Event | None:
        """A part's event as one of the whole run."""
        if isinstance(event, StepEnd):
            return replace(event, step=event.step + self.offset, steps=self.total)
        if isinstance(event, CheckpointSaved | Preview):
            return replace(event, step=event.step + self.offset)
        if isinstance(event, EpochEnd):
            return replace(event, step=event.step + self.offset, best=False) if curve else None
        return None if isinstance(event, RunStarted) else event

    def _save(self) -> Iterator[Note]:
        path = self.folder.path
        joint = path / JOINT if self.method.refine.joint else None
        found = save_refined(self.plan, self.first_run, path / SECOND, joint, path, self.offset)
        if found is None:
            yield Note(
                f"No patients are kept apart to fit the thresholds on: both are {RELEASED[0]}, as released",
                "warning",
            )
        else:
            yield Note(
                f"Thresholds fitted on validation: false negatives {found.fn}, false positives {found.fp}; "
                f"Dice {_text(found.dice)}, of the first stage alone {_text(found.stage1)}"
            )


def _text(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"
