"""Training, whatever the method: one generator of events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ctxseg.config import CrGanConfig
from napari_ctxseg.training.loop import run_network
from napari_ctxseg.training.run import RunFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from napari_ctxseg.cases import Case
    from napari_ctxseg.config import RunConfig
    from napari_ctxseg.events import Event


def _never() -> bool:
    return False


def fit(
    config: RunConfig,
    cases: Sequence[Case],
    out: Path,
    *,
    stop: Callable[[], bool] = _never,
    visible: Callable[[], tuple[str, int] | None] | None = None,
    resume: bool = False,
) -> Iterator[Event]:
    """Train a network, or the two stages of CR-GAN.

    Parameters
    ----------
    config : RunConfig
        The whole configuration. With `resume` only the one stored in `out` counts.
    cases : sequence of Case
        Images with labels.
    out : Path
        Run folder: a new or empty one, or the run to go on with.
    stop : callable
        Asked after every step; training then ends with its state saved.
    visible : callable, optional
        Case name and slice the person looks at, for previews.
    resume : bool
        Go on where the run in `out` was interrupted. On the same machine, versions and thread count the result equals the
        uninterrupted run's bit for bit.

    Yields
    ------
    Event
        `RunStarted`, `StepEnd` ..., at last `RunFinished`.

    Raises
    ------
    CtxsegError
        If the data, the settings or the folder do not allow training; before anything is written where possible.
    """
    if resume:
        config = RunFolder(out, resume=True).load_config()
    if isinstance(config.method, CrGanConfig):
        # Here, because its second stage predicts with the first one, and prediction needs this package.
        from napari_ctxseg.training.cr_gan import fit_cr_gan

        yield from fit_cr_gan(config, cases, out, stop=stop, visible=visible, resume=resume)
    else:
        yield from run_network(config, cases, out, stop=stop, visible=visible, resume=resume)
