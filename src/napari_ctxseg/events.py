"""Small frozen messages that say what a job is doing. Arrays in them are detached numpy copies."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Event:
    """Base of all messages."""


@dataclass(frozen=True)
class Note(Event):
    """A sentence for the person: something mended, guessed, left out. `level` is ``"info"`` or ``"warning"``."""

    text: str
    level: str = "info"


@dataclass(frozen=True)
class RunStarted(Event):
    """Training is about to take its first step. `steps` is 0 while a budget in minutes is being measured."""

    run: str
    step: int
    steps: int
    device: str
    precision: str
    parameters: int
    curve: str  # "validation Dice" or "training Dice"
    classes: tuple[str, ...]


@dataclass(frozen=True)
class BudgetSet(Event):
    """Minutes have been turned into steps."""

    steps: int
    seconds_per_step: float


@dataclass(frozen=True)
class StepEnd(Event):
    """One optimiser step. `loss` is None when the step was skipped because something was not finite.

    `parts` holds what the loss is made of and, in adversarial training, the norms of the gradients.
    """

    step: int
    steps: int
    loss: float | None
    lr: float
    seconds: float
    parts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class EpochEnd(Event):
    """A validation. `dice` holds one value per class, None where the class is in neither mask."""

    step: int
    dice: dict[str, float | None]
    mean: float | None
    best: bool
    curve: str


@dataclass(frozen=True)
class Preview(Event):
    """Prediction of one slice during training: class values, shape ``(y, x)``, or `regions` as in `PredictionBlock`."""

    step: int
    case: str
    index: int
    labels: NDArray[Any]
    regions: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckpointSaved(Event):
    """The state of this step is safe on disk."""

    step: int
    path: str


@dataclass(frozen=True)
class RunFinished(Event):
    """Training has ended: `stopped` by the person, or by its budget."""

    run: str
    step: int
    steps: int
    stopped: bool
    best_step: int
    dice: float | None
    skipped: int
    seconds: float


@dataclass(frozen=True)
class PredictionBlock(Event):
    """Class values of slices ``start : start + n`` along the first spatial axis of a case, shape ``(n, y, x)``, or of an
    image, ``(y, x)``.

    Where `regions` names overlapping regions, `labels` holds one mask of 0 and 1 for each of them, in that order, along one
    axis more in front: ``(R, n, y, x)`` or ``(R, y, x)``. An empty `regions` is a prediction of classes.

    A CR-GAN also gives, for K classes with background or K regions, the first stage's probabilities and those of its false
    negatives and false positives, each of shape ``(K, n, y, x)`` (``(K, y, x)`` for an image), and the thresholds of the
    latter two that made the labels.

    `uncertainty`, if it was asked for, is 0 to 1 for each voxel, shape ``(n, y, x)`` or ``(y, x)``.
    """

    case: str
    start: int
    labels: NDArray[Any]
    done: float  # fraction of the whole case, 0 to 1
    probabilities: NDArray[Any] | None = None
    fn: NDArray[Any] | None = None
    fp: NDArray[Any] | None = None
    thresholds: tuple[float, float] | None = None
    regions: tuple[str, ...] = ()
    uncertainty: NDArray[Any] | None = None


@dataclass(frozen=True)
class PredictionProgress(Event):
    """Share of a case's windows that are through the network; its blocks come later."""

    case: str
    done: float


@dataclass(frozen=True)
class PredictionFinished(Event):
    """All blocks of a case have been sent."""

    case: str
    seconds: float


@dataclass(frozen=True)
class LossMaps(Event):
    """What a loss looks at in one slice or volume, see `napari_ctxseg.losses.anatomy.Anatomy`.

    `request` is the number of the request it answers; `boxes` holds (start, stop) per axis for each box.
    """

    request: int
    seconds: float
    far: float | None = None
    loss: float | None = None
    boxes: tuple[tuple[tuple[int, int], ...], ...] = ()
    weight: NDArray[Any] | None = None
    roi: NDArray[Any] | None = None
    contour: NDArray[Any] | None = None
    interior: NDArray[Any] | None = None
    dilated: NDArray[Any] | None = None
    ce: NDArray[Any] | None = None
    weighted: NDArray[Any] | None = None


@dataclass(frozen=True)
class Described(Event):
    """What a training will need, see `napari_ctxseg.training.describe`.

    `memory` and `free` are bytes, the latter None where nobody can say; `problem` says why there is nothing to tell.
    """

    request: int
    parameters: int = 0
    discriminator: int = 0
    memory: int = 0
    free: int | None = None
    patch: tuple[int, ...] = ()
    batch: int = 0
    problem: str = ""

    def sentence(self) -> str:
        """All of it in words."""
        if self.problem:
            return self.problem
        judge = f" and {_count(self.discriminator)} of the discriminator" if self.discriminator else ""
        sides = " x ".join(map(str, self.patch))
        text = (
            f"{_count(self.parameters)} weights{judge}, about {_bytes(self.memory)} to train "
            f"(patches {sides}, batch {self.batch})"
        )
        if self.free is not None and self.memory > self.free:
            text += f". More than is free ({_bytes(self.free)}): choose a smaller network, or 2-D"
        return f"{text}."


def _count(number: int) -> str:
    if number >= 1e5:
        return f"{number / 1e6:.1f} M"
    return f"{number / 1e3:.1f} k" if number >= 1e3 else str(number)


def _bytes(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e8 else f"{max(1, round(number / 1e6))} MB"


@dataclass(frozen=True)
class CellStarted(Event):
    """A run of a comparison begins: the `number`-th of `total`."""

    variant: str
    fold: int
    seed: int
    number: int
    total: int


@dataclass(frozen=True)
class CellDone(Event):
    """A run of a comparison has ended; `error` is empty unless it failed. `repeated`: it had been done before."""

    variant: str
    fold: int
    seed: int
    number: int
    total: int
    error: str
    repeated: bool


@dataclass(frozen=True)
class Reported(Event):
    """The report of a comparison lies in its folder; not `final`: between two runs, of those that are done so far."""

    path: str
    final: bool = True


@dataclass(frozen=True)
class FigureDrawn(Event):
    """A figure: pixels of its preview, shape ``(h, w, 3)``, or the files that were written, with the recipe beside them."""

    picture: NDArray[Any] | None = None
    files: tuple[str, ...] = ()
    recipe: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CasePrepared(Event):
    """Files of a case of a recipe's data set are ready. `repeated`: they had been made before."""

    name: str
    number: int
    total: int
    repeated: bool


@dataclass(frozen=True)
class JobFailed(Event):
    """A job ended with an error. `remedy` may be empty; `log` is the path of the traceback."""

    error: str
    remedy: str = ""
    log: str = ""


@dataclass(frozen=True)
class JobDone(Event):
    """A job has ended and the engine is free again."""


EVENTS: dict[str, type[Event]] = {cls.__name__: cls for cls in Event.__subclasses__()}


def fields_of(event: Event) -> dict[str, Any]:
    """Field values of an event, without copying its arrays."""
    return {f.name: getattr(event, f.name) for f in dataclasses.fields(event)}
