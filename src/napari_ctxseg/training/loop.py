"""The training loop: a generator of events that ends at the end of a step, and resumes exactly."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING

import torch

from napari_ctxseg.config import BudgetConfig
from napari_ctxseg.errors import CtxsegError, InputError
from napari_ctxseg.events import (
    BudgetSet,
    CheckpointSaved,
    EpochEnd,
    Event,
    Note,
    RunFinished,
    RunStarted,
    StepEnd,
)
from napari_ctxseg.training import checkpoint
from napari_ctxseg.training.memory import check_memory
from napari_ctxseg.training.methods import make_trainer
from napari_ctxseg.training.plan import Plan, device_text, make_plan, resolve_device
from napari_ctxseg.training.preview import Previewer
from napari_ctxseg.training.run import RunFolder, data_hash
from napari_ctxseg.training.supervised import WARM_UP

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from pathlib import Path

    from napari_ctxseg.cases import Case
    from napari_ctxseg.config import RunConfig
    from napari_ctxseg.training.supervised import Trainer

#: Seconds between saved states: what a power failure may cost.
SAVE_EVERY = 10.0
#: Share of the time that validation may take.
VALIDATION_SHARE = 0.06
#: Validation Dice on a few images is noisy: a difference below this is no reason to give up the end of the schedule.
NOISE = 0.02
#: Skipped steps in a row after which training gives up.
MOST_SKIPPED = 25


@dataclass
class _Progress:
    """What a resumed run must know besides the weights."""

    step: int = 0
    best: float = -1.0
    best_step: int = 0
    skipped: int = 0
    validated: int = -1
    last: float = -1.0


def _never() -> bool:
    return False


def run_network(
    config: RunConfig,
    cases: Sequence[Case],
    out: Path,
    *,
    stop: Callable[[], bool] = _never,
    visible: Callable[[], tuple[str, int] | None] | None = None,
    resume: bool = False,
    plan: Plan | None = None,
    make: Callable[[Plan], Trainer] | None = None,
) -> Iterator[Event]:
    """Train one network in a folder of its own; `napari_ctxseg.training.fit` is the same for every method.

    Parameters
    ----------
    config, cases, out, stop, visible, resume
        As in `napari_ctxseg.training.fit`.
    plan : Plan, optional
        Instead of the one made from configuration and cases; its budget is that of the configuration.
    make : callable, optional
        Builds the trainer, instead of the method's.
    """
    started = time.monotonic()
    if resume:
        config = RunFolder(out, resume=True).load_config()
        if getattr(
            config.network, "weights", None
        ):  # the run's own follow, and the file may not be on this machine
            config = config.updated(network=config.network.model_copy(update={"weights": None}))
    device = resolve_device(config.device)
    torch.set_num_threads(device.threads or 1)
    if plan is None:
        plan = make_plan(config.updated(device=device), cases)
    else:
        plan = replace(plan, config=plan.config.updated(device=device, budget=config.budget))
    check_memory(plan.config)
    folder = RunFolder(out, resume=resume)
    trainer = (make or make_trainer)(plan)
    session = _Session(plan, trainer, folder, _Progress(), started)
    previewer = Previewer(trainer, plan, cases, visible)
    for event in session.run(stop, previewer, resume=resume):
        folder.log(event)
        yield event


class _Session:
    """One call of `fit`."""

    def __init__(
        self, plan: Plan, trainer: Trainer, folder: RunFolder, progress: _Progress, started: float
    ) -> None:
        self.plan, self.trainer, self.folder, self.progress = plan, trainer, folder, progress
        self.config, self.started = plan.config, started
        self.saved_at = time.monotonic()
        self.fingerprint = data_hash([*plan.train, *plan.val])

    def run(self, stop: Callable[[], bool], previewer: Previewer, *, resume: bool) -> Iterator[Event]:
        yield from self._begin(resume)
        stopped = False
        if self.config.budget.steps is None:
            stopped = yield from self._measure(stop, previewer)
        steps = self.config.budget.steps or 0
        every = self.config.budget.val_every or max(1, min(200, steps // 10))
        step = self.progress.step
        if 0 < step < steps and step % every == 0 and not stopped and self.progress.validated != step:
            stopped = yield from self._validate(stop)  # a run that was stopped right after this step owes it
        stopped = stopped or (stop() and self.progress.step < steps)
        while self.progress.step < steps and not stopped:
            yield from self._step(steps)
            yield from previewer.due(self.progress.step)
            stopped = stop() and self.progress.step < steps
            if stopped:
                break
            if self.progress.step % every == 0 or self.progress.step == steps:
                stopped = yield from self._validate(stop)
            if not stopped and time.monotonic() - self.saved_at > SAVE_EVERY:
                yield self._save()
        yield from self._finish(steps, stopped, stop)

    # ---- beginning

    def _begin(self, resume: bool) -> Iterator[Event]:
        notes = [Note(text, "warning") for text in self.plan.notes]
        if resume:
            notes += self._restore()
        else:
            self.folder.save_config(self.config)
            if self.config.init:
                notes += self.trainer.start_from(self.config.init)
        text = device_text(self.config.device)
        self.folder.save_environment(text)
        yield RunStarted(
            run=str(self.folder.path),
            step=self.progress.step,
            steps=self.config.budget.steps or 0,
            device=text,
            precision=str(self.config.device.precision),
            parameters=self.trainer.parameters,
            curve=self.plan.curve,
            classes=tuple(self.plan.names),
        )
        yield from notes

    def _restore(self) -> list[Note]:
        tensors, record, damaged = checkpoint.load_state(self.folder.state)
        if record["data"] != self.fingerprint:
            raise InputError(
                self.folder.path,
                "the images or labels have changed since this run was interrupted",
                "Start a new run from its weights with --init",
            )
        self.trainer.restore(tensors, self.folder.path)
        self.progress = _Progress(**{f.name: record[f.name] for f in fields(_Progress)})
        self.folder.rewind(self.progress.step)
        return [
            *(Note(text, "warning") for text in damaged),
            Note(f"Going on from step {self.progress.step}"),
        ]

    def _measure(self, stop: Callable[[], bool], previewer: Previewer) -> Generator[Event, None, bool]:
        """Turn minutes into steps: time the steps of the warm-up, whose learning rate does not depend on their number.

        Returns whether it was stopped; the budget then stays in minutes, and a resumed run measures it again.
        """
        times: list[float] = []
        while self.progress.step < WARM_UP or len(times) < 4:
            began = time.monotonic()
            yield from self._step(0)
            times.append(time.monotonic() - began)
            yield from previewer.due(self.progress.step)
            if stop():
                return True
        seconds = sorted(times)[len(times) // 2]  # the first steps are slower, and a hiccup proves nothing
        began = time.monotonic()
        if (yield from self._validate(stop)):
            return True
        cost = time.monotonic() - began
        every = max(10, round(cost / (VALIDATION_SHARE * seconds)))
        left = (self.config.budget.minutes or 0) * 60 - (time.monotonic() - self.started) - cost
        # Previews and saved states take a little too.
        steps = self.progress.step + max(0, int(left / (seconds * 1.03 + cost / every)))
        self._set_budget(steps, min(every, max(10, steps // 4)))
        yield BudgetSet(steps, seconds)
        return False

    def _set_budget(self, steps: int, every: int | None) -> None:
        minutes = self.config.budget.minutes
        self.config = self.config.updated(budget=BudgetConfig(steps=steps, minutes=minutes, val_every=every))
        self.folder.save_config(self.config)

    # ---- the middle

    def _step(self, steps: int) -> Iterator[Event]:
        began = time.monotonic()
        try:
            done = self.trainer.step(self.progress.step, steps)
        except torch.OutOfMemoryError as error:
            raise _out_of_memory(self.config) from error
        except RuntimeError as error:
            if "DefaultCPUAllocator" in str(error):
                raise _out_of_memory(self.config) from error
            raise
        self.progress.step += 1
        seconds = time.monotonic() - began
        yield StepEnd(self.progress.step, steps, done.loss, done.lr, seconds, done.parts)
        yield from (Note(text, "warning") for text in done.notes)
        if done.loss is None:
            self.progress.skipped += 1
            if self.trainer.skipped_in_a_row == 1:
                yield Note(f"Step {self.progress.step} was not finite and is skipped", "warning")
            if self.trainer.skipped_in_a_row >= MOST_SKIPPED:
                yield self._save()
                raise CtxsegError(
                    "training",
                    f"{MOST_SKIPPED} steps in a row were not finite",
                    "Lower the learning rate, or set precision to 32-true",
                )

    def _validate(self, stop: Callable[[], bool]) -> Generator[Event, None, bool]:
        """Validate; returns whether it was stopped on the way: the run then owes it."""
        found = self.trainer.validate(stop)
        if found is None:
            return True
        dice, mean = found
        best = bool(self.plan.val) and mean is not None and mean > self.progress.best
        if best and mean is not None:
            self.progress.best, self.progress.best_step = mean, self.progress.step
            self._save_model()
        self.progress.validated, self.progress.last = self.progress.step, -1.0 if mean is None else mean
        yield EpochEnd(self.progress.step, dice, mean, best, self.plan.curve)
        return False

    def _save(self) -> CheckpointSaved:
        p = self.progress
        path = self.trainer.save_state(self.folder.state, p.step, {**asdict(p), "data": self.fingerprint})
        if not p.best_step:
            self._save_model()
        self.saved_at = time.monotonic()
        return CheckpointSaved(p.step, str(path))

    def _save_model(self) -> None:
        """Weights to predict with. At the end they are the last ones, unless an earlier validation was clearly better."""
        self.trainer.save_model(self.folder.path / checkpoint.MODEL, self.plan, self.progress.step)

    # ---- the end

    def _finish(self, steps: int, stopped: bool, stop: Callable[[], bool]) -> Iterator[Event]:
        # A run cut short validates nothing that the whole run would not: resuming it must end with the same weights.
        if not stopped and self.progress.validated != self.progress.step:
            stopped = yield from self._validate(stop)
        yield self._save()
        p = self.progress
        if p.skipped:
            yield Note(f"{p.skipped} of {p.step} steps were not finite and were skipped", "warning")
        kept, dice = p.best_step or p.step, p.best if p.best_step else None
        if not stopped and p.best_step and p.last >= p.best - NOISE:
            self._save_model()
            kept, dice = p.step, p.last
        seconds = time.monotonic() - self.started
        yield RunFinished(str(self.folder.path), p.step, steps, stopped, kept, dice, p.skipped, seconds)


def _out_of_memory(config: RunConfig) -> CtxsegError:
    patch = config.patch
    return CtxsegError(
        "memory",
        f"is too small for batches of {patch.batch} patches of {patch.size}",
        "Lower the batch size (patch.batch) or the patch size (patch.size)",
    )
