"""What the person has set under Preferences > Plugins, declared in the manifest. No Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from napari_ctxseg.gui.autosave import INTERVAL


@dataclass(frozen=True)
class Preferences:
    """Device of new runs, CPU threads of the engine (None: all but one), seconds between two savings."""

    device: str = "auto"
    threads: int | None = None
    autosave: float = INTERVAL


def preferences() -> Preferences:
    """The settings; their defaults where napari does not know the plugin, as in tests."""
    from napari.settings import get_plugin_settings

    try:
        found: Any = get_plugin_settings("napari-ctxseg")
    except KeyError:
        return Preferences()
    threads = int(found.engine.threads)
    return Preferences(str(found.engine.device), threads or None, float(found.project.autosave))
