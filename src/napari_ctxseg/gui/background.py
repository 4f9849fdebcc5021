"""Slow work off the GUI thread. A window that is closed meanwhile ends the process as if there were no such work."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

if TYPE_CHECKING:
    from collections.abc import Callable


class _Relay(QObject):
    """Carries the end of some work to the thread it was made in."""

    done = Signal()
    failed = Signal(object)


class Background:
    """Runs slow work in threads for one dock, and then a callback on the GUI thread, where it must be made.

    A worker of Qt's pool (superqt's, napari's) would abort the process if the application is gone when it ends.
    """

    def __init__(self) -> None:
        # Held until they have delivered: a relay that is collected takes its message along.
        self._waiting: set[_Relay] = set()

    def __call__(
        self, work: Callable[[], None], done: Callable[[], None], failed: Callable[[Exception], None]
    ) -> None:
        """Run `work`, then `done`, or `failed` with what it raised."""
        relay = _Relay()
        self._waiting.add(relay)

        def finish(callback: Callable[..., None], *args: object) -> None:
            self._waiting.discard(relay)
            callback(*args)

        # The relay lives in this thread, so that what another one emits waits for the event loop of this one.
        relay.done.connect(lambda: finish(done))
        relay.failed.connect(lambda error: finish(failed, error))

        def run() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - the callback says it, whatever it is
                # RuntimeError: Qt has deleted the relay, because there is nobody left to tell.
                with contextlib.suppress(RuntimeError):
                    relay.failed.emit(error)
            else:
                with contextlib.suppress(RuntimeError):
                    relay.done.emit()

        threading.Thread(target=run, name="ctxseg-background", daemon=True).start()
