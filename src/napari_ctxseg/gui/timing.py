"""How much of the GUI thread our callbacks take: measured always, because it costs next to nothing.

The promise is 50 ms of thread time per callback. What napari itself does on our behalf, such as building the
controls and shaders of a new layer, is booked apart.
"""

from __future__ import annotations

import functools
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

P = ParamSpec("P")
R = TypeVar("R")


@dataclass
class Costs:
    """Longest thread time, in seconds, per callback of ours and per work of napari's."""

    ours: dict[str, float] = field(default_factory=dict)
    napari: dict[str, float] = field(default_factory=dict)
    deducted: float = 0.0

    def clear(self) -> None:
        """Start over."""
        self.ours.clear()
        self.napari.clear()


costs = Costs()


def timed(callback: Callable[P, R]) -> Callable[P, R]:
    """Book a callback's thread time, less what napari took inside it."""

    @functools.wraps(callback)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        start, deducted = time.thread_time(), costs.deducted
        try:
            return callback(*args, **kwargs)
        finally:
            spent = time.thread_time() - start - (costs.deducted - deducted)
            name = callback.__qualname__
            costs.ours[name] = max(spent, costs.ours.get(name, 0.0))

    return wrapper


@contextmanager
def napari_works(name: str) -> Iterator[None]:
    """Book the thread time of a block as napari's."""
    start = time.thread_time()
    try:
        yield
    finally:
        spent = time.thread_time() - start
        costs.deducted += spent
        costs.napari[name] = max(spent, costs.napari.get(name, 0.0))
