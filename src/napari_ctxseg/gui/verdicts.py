"""What was decided of one image's suspicious pieces, and that it is saved. No Qt."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from napari_ctxseg.errors import CtxsegError
from napari_ctxseg.project.verdicts import save_verdicts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_ctxseg.evaluation.suspects import Suspect

#: Seconds until saving is tried again after it has failed.
AGAIN = 5.0


class Verdicts:
    """Pieces that are not to be asked about again.

    Parameters
    ----------
    shape : tuple of int
        Of the labels.
    slices : dict of int to list of Suspect, optional
        What was decided earlier.
    """

    def __init__(self, shape: tuple[int, ...] = (), slices: dict[int, list[Suspect]] | None = None) -> None:
        self.shape, self.slices = shape, slices or {}
        self.file: Path | None = None  # None: kept for the session only
        #: Why what was decided earlier is not known, and why it cannot be saved; empty if all is well.
        self.unread = self.problem = ""
        self._edits = self._saved = 0
        self._lock, self._written = threading.Lock(), 0
        self._busy = False
        self._not_before = 0.0

    def __bool__(self) -> bool:
        return any(self.slices.values())

    def of(self, index: int) -> list[Suspect]:
        """What was decided in a slice."""
        return self.slices.get(index, [])

    def add(self, index: int, piece: Suspect) -> None:
        """A piece was decided on."""
        self.slices.setdefault(index, []).append(piece)
        self._edits += 1

    def remove(self, index: int, piece: Suspect) -> None:
        """That was taken back."""
        if piece in self.of(index):
            self.slices[index].remove(piece)
            self._edits += 1

    def clear(self) -> None:
        """Everything is asked about again."""
        self.slices.clear()
        self._edits += 1

    def tick(
        self, background: Callable[..., None], tell: Callable[[str], None], now: float | None = None
    ) -> None:
        """Save in the background if something has changed; `tell` gets why it cannot be, once. For a timer."""
        now = time.monotonic() if now is None else now
        file, edits = self.file, self._edits
        if file is None or self._busy or edits == self._saved or now < self._not_before:
            return
        self._busy = True
        pieces = {index: list(found) for index, found in self.slices.items()}

        def done() -> None:
            self._busy, self._saved, self.problem = False, edits, ""

        def failed(error: Exception) -> None:
            self._busy, self._not_before = False, now + AGAIN
            if self.problem != str(error):
                self.problem = str(error)
                tell(self.problem)

        background(lambda: self._write(file, pieces, edits), done, failed)

    def _write(self, file: Path, pieces: dict[int, list[Suspect]], edits: int) -> None:
        """In any thread; what has waited while something newer was written is dropped."""
        with self._lock:
            if edits > self._written:
                save_verdicts(file, self.shape, pieces)
                self._written = edits

    def flush(self) -> bool:
        """Save now; returns whether all is on disk, or has no place there."""
        if self.file is not None and self._edits != self._saved:
            edits = self._edits
            try:
                self._write(self.file, self.slices, edits)
            except CtxsegError as error:
                self.problem = str(error)
                return False
            self._saved, self.problem = edits, ""
        return True
