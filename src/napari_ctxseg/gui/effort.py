"""How long a person has annotated: strokes that follow each other closely, and the pauses between them. No Qt."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import platformdirs

from napari_ctxseg.atomic import write_bytes_atomic
from napari_ctxseg.errors import CtxsegError

#: Seconds without a stroke after which the person is taken to do something else.
GAP = 60.0


class Effort:
    """Minutes of annotating since the last round. They are kept in the person's cache, by the project's id."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._last: float | None = None
        self._file: Path | None = None

    @property
    def minutes(self) -> float:
        """Since the last round."""
        return self.seconds / 60

    def begin(self, project: str) -> None:
        """Another project: its minutes count from where they stood."""
        self._file = Path(platformdirs.user_cache_path("napari-ctxseg")) / "effort" / f"{project}.json"
        self.seconds, self._last = 0.0, None
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            self.seconds = max(0.0, float(json.loads(self._file.read_bytes())["seconds"]))

    def note(self, now: float) -> None:
        """A stroke, at a moment of a clock that never goes back (seconds)."""
        if self._last is not None and now - self._last < GAP:
            self.seconds += now - self._last
        self._last = now

    def take(self, minutes: float) -> None:
        """These minutes have gone into a round; those since then go into the next one."""
        self.seconds = max(0.0, self.seconds - 60 * minutes)
        self.save()

    def save(self) -> None:
        """Keep them for the next time; a full disk costs no more than the count."""
        if self._file is not None:
            with contextlib.suppress(OSError, CtxsegError):
                self._file.parent.mkdir(parents=True, exist_ok=True)
                write_bytes_atomic(self._file, json.dumps({"seconds": self.seconds}).encode())
