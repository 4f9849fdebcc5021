"""The dock "Workbench": everything as tabs of one dock, and below them what is saved."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QHBoxLayout, QLabel, QTabWidget, QVBoxLayout, QWidget

from napari_ctxseg.engine.client import EngineClient
from napari_ctxseg.gui.background import Background
from napari_ctxseg.gui.dock import Dock
from napari_ctxseg.gui.lens_dock import LensDock
from napari_ctxseg.gui.preferences import preferences
from napari_ctxseg.gui.project_dock import ProjectDock
from napari_ctxseg.gui.review_dock import ReviewDock
from napari_ctxseg.gui.train_dock import TrainDock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import napari

TICK_MS = 120
#: Milliseconds after which the rest is imported: the tab Train and its engine come first.
LATER = 2000
#: Pixels around a page: margins of the dock, of the tabs, and of the page itself.
FRAME = 36
#: Colour of the dot: told apart by most people with defective colour vision, and a word stands beside it.
DOTS = {"saved": "#009e73", "saving": "#e69f00", "failed": "#d55e00"}


@dataclass(frozen=True)
class Tab:
    """A tab: `make` gets the workbench, at once for the first two, else when the tab is first looked at."""

    title: str
    make: Callable[[Workbench], QWidget]
    #: Imported in the background before it is made: statistics and matplotlib take a second each.
    module: str = ""


class Workbench(Dock):
    """Everything for an afternoon in one dock.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer.
    engine, lens_engine : EngineClient, optional
        Engines of one's own; fresh ones when left out.
    """

    def __init__(
        self,
        napari_viewer: napari.viewer.Viewer,
        engine: EngineClient | None = None,
        lens_engine: EngineClient | None = None,
        runs: Path | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.viewer, self.lens_engine = napari_viewer, lens_engine
        chosen = preferences()
        self.train_dock = TrainDock(napari_viewer, engine or EngineClient(chosen.threads), runs)
        self._prefer(chosen.device)
        self.project_dock = ProjectDock(self.train_dock.session)
        self.tabs = QTabWidget()
        self._made: dict[int, QWidget] = {}
        for number, tab in enumerate(TABS):
            at_once = tab.make(self) if number < 2 else None
            if at_once is not None:
                self._made[number] = at_once
            self.tabs.addTab(at_once or _placeholder(), tab.title)
        self.tabs.currentChanged.connect(self._make_tab)
        self._load = _Loading(self._loaded)
        self.dot, self.saved = QLabel("\u25cf"), QLabel()
        self.saved.setWordWrap(True)
        line = QHBoxLayout()
        line.addWidget(self.dot)
        line.addWidget(self.saved, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2, 2, 2, 2)
        layout.addWidget(self.tabs, 1)
        layout.addLayout(line)
        self._shown: Any = None
        self._timer = QTimer(self)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._show_saving)
        self._timer.start()
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.timeout.connect(lambda: self._load())
        self._later.start(LATER)
        self._show_saving()

    def _prefer(self, device: str) -> None:
        session = self.train_dock.session
        if device != "auto":
            session.config = session.config.updated(
                device=session.config.device.model_dump() | {"accelerator": device}
            )

    def _make_tab(self, index: int) -> None:
        """The Lens has an engine and layers of its own: it begins when it is looked at."""
        if index in self._made or not 0 <= index < len(TABS) or self._closed:
            return
        if TABS[index].module and not self._load.done:
            self._load()
            return
        made = self._made[index] = TABS[index].make(self)
        place = self.tabs.widget(index)
        self.tabs.blockSignals(True)
        self.tabs.removeTab(index)
        self.tabs.insertTab(index, made, TABS[index].title)
        self.tabs.setCurrentIndex(index)
        self.tabs.blockSignals(False)
        if place is not None:
            place.deleteLater()

    def _loaded(self) -> None:
        if not self._closed:
            self._make_tab(self.tabs.currentIndex())

    def _show_saving(self) -> None:
        """What is saved, in sight whatever tab is in front."""
        areas = [made.scroll_area for made in self._made.values() if hasattr(made, "scroll_area")]
        # A page that is not in front does not widen the dock by itself.
        self.setMinimumWidth(max(area.minimumWidth() for area in areas) + FRAME)
        state, sentence = self.project_dock.workspace.saving
        engine = self.train_dock.session.engine
        text = f"{sentence}   \u00b7   engine {engine.state}"
        if (state, text) != self._shown:
            self._shown = state, text
            self.dot.setText(f'<font color="{DOTS[state]}">\u25cf</font>')
            self.saved.setText(text)

    # ------------------------------------------------------------ the end

    def _end(self) -> None:
        """Close all tabs, the project first."""
        self._timer.stop()
        self._later.stop()
        self.project_dock.shut_down()
        for made in self._made.values():
            end = getattr(made, "shut_down", None)
            if end is not None:
                end()


class _Loading:
    """Imports the modules of tabs that are slow to import, once, off the GUI thread."""

    def __init__(self, then: Callable[[], None]) -> None:
        self._then, self._background, self._begun = then, Background(), False
        self._modules = [tab.module for tab in TABS if tab.module]
        self.done = all(module in sys.modules for module in self._modules)

    def __call__(self) -> None:
        """Begin, unless that was done before."""
        if not (self._begun or self.done):
            self._begun = True
            self._background(self._work, self._finish, lambda error: self._finish())

    def _work(self) -> None:
        for module in self._modules:
            import_module(module)

    def _finish(self) -> None:
        self.done = True  # what could not be imported says why when its tab is made
        self._then()


def _placeholder() -> QWidget:
    label = QLabel("Loading ...")
    label.setAlignment(Qt.AlignmentFlag.AlignCenter)
    return label


def _compare(bench: Workbench) -> QWidget:
    from napari_ctxseg.gui.compare_dock import CompareDock

    return CompareDock(bench.viewer)


def _figure(bench: Workbench) -> QWidget:
    from napari_ctxseg.gui.figure_dock import FigureDock

    return FigureDock(bench.viewer)


#: The tabs in their order. A further one is one line here: its maker gets the workbench, whose `train_dock.session`,
#: `project_dock.workspace` and `project_dock.training` it may use.
TABS: tuple[Tab, ...] = (
    Tab("Project", lambda bench: bench.project_dock),
    Tab("Train", lambda bench: bench.train_dock),
    Tab("Lens", lambda bench: LensDock(bench.viewer, bench.lens_engine)),
    Tab("Review", lambda bench: ReviewDock(bench.viewer)),
    Tab("Compare", _compare, "napari_ctxseg.gui.compare_dock"),
    Tab("Figure", _figure, "napari_ctxseg.gui.figure_dock"),
)
