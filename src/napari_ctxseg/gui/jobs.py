"""What a session needs to know of a job, and of the project that jobs may belong to. No Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from napari_ctxseg.errors import CtxsegError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_ctxseg.cases import Case
    from napari_ctxseg.config import RunConfig
    from napari_ctxseg.gui import layers as lay
    from napari_ctxseg.gui.annotation import Marks

Phase = Literal["idle", "preparing", "training", "predicting"]


def run_now(work: Callable[[], None], done: Callable[[], None], failed: Callable[[Exception], None]) -> None:
    """Stand-in for a background runner where there is no event loop."""
    try:
        work()
    except CtxsegError as error:
        failed(error)
    else:
        done()


class Host(Protocol):
    """Where images, labels and runs belong together: an open project."""

    def problem(self) -> str:
        """Why it cannot be trained on now; empty if it can."""

    def advice(self) -> str:
        """What its split leaves without a label, and what to do about it; empty if nothing."""

    def labelled_elsewhere(self) -> bool:
        """Whether images that are not open hold labels to learn from."""

    def patients(self) -> tuple[int, int]:
        """Labelled patients that train or validate, and those of them that train."""

    def named(self, shot: lay.Snapshot) -> lay.Snapshot:
        """A snapshot under the image's own name, whatever its layer is called."""

    def next_run(self, slug: str) -> Path:
        """Folder of a new run."""

    def begin(
        self, config: RunConfig, shot: lay.Snapshot, labels: NDArray[Any], marks: Marks, out: Path
    ) -> Callable[[], tuple[RunConfig, list[Case]]]:
        """Note that a training begins; what is returned gathers what it learns from, off the GUI thread."""


@dataclass
class Job:
    """What a job needs to put its results in place; `shot` None: of an image that is not open."""

    shot: lay.Snapshot | None
    out: Path | None = None
    saved: Path | None = None
    stop: bool = False
    sent_slice: int | None = None
    values: tuple[int, ...] = ()
    gives_way: bool = False
