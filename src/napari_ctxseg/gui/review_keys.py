"""Keys that a dock lends from the viewer while it is open. No Qt.

They are bound to the viewer, below the layers in napari's chain: what napari 0.9.2 binds to a layer wins. N, A, R, G and
U are free on Labels and Image layers; A selects all on Points and Shapes layers and R draws rectangles on Shapes, as ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_ctxseg.gui import layers as lay

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Keys:
    """Bindings that are there until `release`.

    Parameters
    ----------
    viewer : napari.viewer.Viewer or napari.components.ViewerModel
    actions : mapping of str to callable
        Key -> what it does. A key that somebody else has bound to the viewer is left to them.
    """

    def __init__(self, viewer: Any, actions: Mapping[str, Callable[[], None]]) -> None:
        self._viewer = viewer
        self._bound: dict[str, Callable[[Any], None]] = {}
        self._waiting = {key: _calling(action) for key, action in actions.items()}
        self.take()

    def take(self) -> None:
        """Bind the keys that somebody else had, if they are free now."""
        for key, call in list(self._waiting.items()):
            try:
                self._viewer.bind_key(key, call)
            except ValueError:
                continue
            self._bound[key] = self._waiting.pop(key)

    @property
    def note(self) -> str:
        """Which keys are somebody else's; empty if none."""
        taken = ", ".join(key.upper() for key in self._waiting)
        return f"Somebody else uses the key {taken}: press the button." if taken else ""

    def release(self) -> None:
        """Give the keys back, unless somebody else has taken them meanwhile; may be called twice."""
        for key, call in self._bound.items():
            now = lay.plain(self._viewer.bind_key(key, None))
            if now is not None and now is not call:
                self._viewer.bind_key(key, now)
        self._bound.clear()
        self._waiting.clear()


def _calling(action: Callable[[], None]) -> Callable[[Any], None]:
    def call(viewer: Any) -> None:
        action()

    return call
