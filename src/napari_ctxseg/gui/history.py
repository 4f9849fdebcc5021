"""The curve of a session: losses and Dice over all its runs, thinned to a bounded length. No Qt here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_ctxseg.events import StepEnd

#: More points than a plot has pixels are of no use.
MOST_POINTS = 1000
#: What the curve calls the discriminator's mean answers, and what the trainer does.
ANSWERS = {"real": "real", "predicted": "fake"}


class History:
    """Loss and Dice over steps; runs that go on from each other are laid end to end."""

    def __init__(self) -> None:
        self.curve = "Dice"
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.loss: list[tuple[int, float]] = []
        self.dice: dict[str, list[tuple[int, float]]] = {}
        self.answers: dict[str, list[tuple[int, float]]] = {}
        self.starts: list[int] = []
        self._offset = 0
        self._last = 0
        self._stride = 1
        self._seen = 0
        self._smooth: float | None = None
        self._means: dict[str, float] = {}

    def begin_run(self, *, fresh: bool) -> None:
        """A run begins: from nothing (`fresh`), or where the last one ended."""
        if fresh:
            self.clear()
            return
        self._offset = self._last
        self.starts.append(self._offset)

    def add_loss(self, step: int, loss: float) -> None:
        """Note a step's loss, smoothed over some ten steps."""
        self._last = self._offset + step
        self._smooth = loss if self._smooth is None else 0.9 * self._smooth + 0.1 * loss
        self._seen += 1
        if self._seen % self._stride:
            return
        self.loss.append((self._last, self._smooth))
        if len(self.loss) > MOST_POINTS:
            del self.loss[1::2]
            self._stride *= 2

    def add_parts(self, step: int, parts: Mapping[str, float]) -> None:
        """Note what an adversarial run's discriminator answers, 0 to 1, smoothed as the loss is."""
        for name, part in ANSWERS.items():
            if part not in parts:
                continue
            old = self._means.get(name, parts[part])
            self._means[name] = 0.9 * old + 0.1 * parts[part]
            points = self.answers.setdefault(name, [])
            if self._seen % self._stride == 0:
                points.append((self._offset + step, self._means[name]))
            if len(points) > MOST_POINTS:
                del points[1::2]

    def add_dice(self, step: int, dice: Mapping[str, float | None], mean: float | None) -> None:
        """Note a validation: one curve per class, or the mean of many."""
        values = dict(dice) if len(dice) <= 4 else {"mean": mean}
        for name, value in values.items():
            if value is not None:
                points = self.dice.setdefault(name, [])
                points.append((self._offset + step, value))
                if len(points) > MOST_POINTS:
                    del points[1::2]

    def sentence(self, event: StepEnd, steps: int) -> str:
        """Where a run stands, in one line."""
        loss = "skipped" if event.loss is None else f"loss {self._smooth:.3f}"
        if self._means:
            answers = ", ".join(f"{name} {value:.2f}" for name, value in self._means.items())
            loss += f" (discriminator: {answers})"
        if not steps:
            return f"Step {event.step}, {loss}; measuring the speed ..."
        left = max(0.0, (steps - event.step) * event.seconds)
        return f"Step {event.step} of {steps}, {loss}, {int(left // 60)}:{int(left % 60):02d} left"
