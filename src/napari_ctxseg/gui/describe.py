"""What the chosen model needs, asked of the engine whenever the choice has rested and the engine is free. No Qt."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_ctxseg.config.combinations import refusals, warnings
from napari_ctxseg.errors import CtxsegError
from napari_ctxseg.gui.timing import timed

if TYPE_CHECKING:
    from napari_ctxseg.events import Described
    from napari_ctxseg.gui.session import Session

#: Seconds without a change before the engine is asked.
PAUSE = 0.3


class Describer:
    """Follows a session's configuration and images; `text` is what the person reads.

    Parameters
    ----------
    session : Session
        Its engine is asked.
    """

    changed = Signal()

    def __init__(self, session: Session) -> None:
        self.session = session
        self.text = ""
        self._seen: Any = None
        self._asked: Any = None
        self._since = 0.0
        self._number = 0
        session.described.connect(self._take)

    @timed
    def tick(self, now: float | None = None) -> None:
        """Ask if something has changed and rested. For a timer."""
        now = time.monotonic() if now is None else now
        session = self.session
        config, facts = session.config, session.facts()
        state = (config.network, config.method, config.patch, config.device, facts)
        if state != self._seen:
            # An answer that is still to come is about something else by now.
            self._seen, self._asked, self._since, self._number = state, None, now, 0
            if facts is None or refusals(config, facts):  # the status line says why
                self._asked = state
                self._show("")
        if state == self._asked or facts is None:
            return
        if session.phase != "idle" or session.engine.state != "ready":
            self._show("")  # not for long: what stands there is about another choice
            return
        if now - self._since < PAUSE:
            return
        self._asked = state
        try:
            self._number = session.engine.describe(config, facts)
        except CtxsegError as error:
            self._show(str(error))

    def _take(self, event: Described) -> None:
        if event.request == self._number:  # else it is about what was chosen before
            self._show(event.sentence())

    def _show(self, text: str) -> None:
        if text != self.text:
            self.text = text
            self.changed.emit()

    def warnings(self) -> list[str]:
        """What speaks against the choice, though it can be trained."""
        facts = self.session.facts()
        return warnings(self.session.config, facts) if facts is not None else []
