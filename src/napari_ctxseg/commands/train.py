"""``ctxseg train``: run a training to its end or to Ctrl-C."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from napari_ctxseg import dataset
from napari_ctxseg.commands import report
from napari_ctxseg.config import RunConfig, from_yaml
from napari_ctxseg.errors import CheckpointError, CtxsegError
from napari_ctxseg.events import Described, Note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from napari_ctxseg.cases import Case
    from napari_ctxseg.events import Event


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """First Ctrl-C or SIGTERM ends the running step and saves; the second ends at once."""
    asked: list[int] = []

    def handler(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        with suppress(OSError):  # nobody may be there to read it; anything but a plain write is not safe here
            os.write(2, b"\nctxseg: stopping after this step; once more ends at once\n")

    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def train(config: RunConfig | None, out: Path, *, resume: bool, as_json: bool) -> None:
    """Run a training to its end or to Ctrl-C.

    Raises
    ------
    CtxsegError
        If data, settings or folder do not allow it.
    KeyboardInterrupt
        After a stop by signal; the state is saved.
    """
    if config is None:
        path = out / "config.yaml"
        if not path.is_file():
            raise CheckpointError(out, "holds no run to go on with", "Train without --resume")
        config = from_yaml(path)
    cases = dataset.training_cases(config.data)
    from napari_ctxseg.training import fit

    data = config.data.model_copy(
        update={
            "images": dataset.absolute(config.data.images),
            "labels": dataset.absolute(config.data.labels),
        }
    )
    with stop_on_signal() as stop:
        events = fit(config.updated(data=data), cases, out, stop=stop, resume=resume)
        if not (resume or as_json):
            events = needs_first(config, cases, events)
        finished = report.follow_training(events, as_json=as_json)
    if finished is not None and finished.stopped:
        raise KeyboardInterrupt


def needs_first(config: RunConfig, cases: Sequence[Case], events: Iterator[Event]) -> Iterator[Event]:
    """What the training will need, then its events; where it cannot be told, the training itself says why."""
    from napari_ctxseg.training.describe import describe, facts_of

    try:
        answer = describe(config, facts_of(cases, config.data))
    except CtxsegError:
        answer = Described(0, problem="refused")
    if not answer.problem:
        yield Note(answer.sentence())
    yield from events
