"""The dock "Train and predict": puts the panels together and keeps them in step with the `Session`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from platformdirs import user_cache_path
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_ctxseg.config.combinations import stages
from napari_ctxseg.engine.client import EngineClient
from napari_ctxseg.errors import CtxsegError
from napari_ctxseg.gui import layers as lay
from napari_ctxseg.gui.background import Background
from napari_ctxseg.gui.dock import Dock
from napari_ctxseg.gui.meter import Meter, MeterPanel
from napari_ctxseg.gui.model_panel import ModelPanel
from napari_ctxseg.gui.panels import ClassPanel, LayerPanel
from napari_ctxseg.gui.plot import CurveWidget
from napari_ctxseg.gui.refined_panel import RefinedPanel
from napari_ctxseg.gui.session import Session
from napari_ctxseg.gui.timing import costs, timed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import napari

TICK_MS = 40
#: Pixels that the dock may claim of a small screen.
WIDEST = 420


def runs_folder() -> Path:
    """A fresh folder for the runs of one dock, in the user's cache: an unnamed project."""
    return user_cache_path("napari-ctxseg") / "unnamed" / time.strftime("%Y%m%d-%H%M%S")


def train_docks(viewer: napari.viewer.Viewer) -> list[TrainDock]:
    """Open docks "Train and predict" of a viewer, on their own or as a tab of the Workbench."""
    docked = [lay.plain(widget) for widget in viewer.window.dock_widgets.values()]
    found = [getattr(widget, "train_dock", widget) for widget in docked]
    return [each for each in found if isinstance(each, TrainDock) and not each.session.closed]


class TrainDock(Dock):
    """Annotate, train, predict.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer whose layers are used.
    engine : EngineClient, optional
        An engine of one's own; a fresh one when left out.
    runs : Path, optional
        Folder of the runs.
    """

    def __init__(
        self,
        napari_viewer: napari.viewer.Viewer,
        engine: EngineClient | None = None,
        runs: Path | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        background = Background()
        self.session = Session(napari_viewer, engine or EngineClient(), runs or runs_folder(), background)
        self.layer_panel = LayerPanel(self.session)
        self.class_panel = ClassPanel(self.session)
        self.meter_panel = MeterPanel(Meter(self.session, background))
        self.model_panel = ModelPanel(self.session)
        self.refined_panel = RefinedPanel(self.session)
        self.meter_panel.chosen.connect(self.model_panel.loss.set_value)
        self.curve = CurveWidget(self.session.history)
        self.curve.setVisible(False)  # until there is something to see: the settings need the room
        self._lay_out()
        self._stale = True
        self.session.changed.connect(self._mark_stale)
        self.session.curve_changed.connect(self._redraw_curve)
        self.session.failed.connect(self._notify)
        self._timer = QTimer(self)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)
        session = self.session  # no reference to self: the widget is half gone when this runs
        self._if_destroyed(lambda: session.close())
        self._start_engine()
        # The first Labels layer loads pandas and more, for a second or two: better now, in the background.
        self.layer_panel.hold_new(True)
        lay.load_units()
        background(lay.warm_up, self._warm, self._warm)
        self._timer.start()
        self._tick()

    def _start_engine(self) -> None:
        try:
            self.session.engine.start()
        except CtxsegError as error:
            self.session.status = str(error)

    def _warm(self, *_: object) -> None:
        if not self.session.closed:  # the dock may be gone by now
            self.layer_panel.hold_new(False)

    def _lay_out(self) -> None:
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(2, 2, 2, 2)
        for panel in (self.layer_panel, self.class_panel, self.meter_panel, self.model_panel):
            column.addWidget(panel)
        column.addStretch(1)
        self.scroll_area = QScrollArea()
        self.scroll_area.setWidgetResizable(True)
        self.scroll_area.setFrameShape(QFrame.Shape.NoFrame)
        self.scroll_area.setWidget(inner)
        # As wide as its contents: scrolling sideways in a dock is a nuisance.
        self.scroll_area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._inner = inner
        self._fit_width()

        self.train_button, self.stop_button = QPushButton("Train"), QPushButton("Stop")
        self.predict_button = QPushButton("Predict")
        buttons = QHBoxLayout()
        for button, slot in (
            (self.train_button, self._train),
            (self.stop_button, self._stop),
            (self.predict_button, self._predict),
        ):
            buttons.addWidget(button)
            button.clicked.connect(slot)
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.progress.setMaximumHeight(8)
        self.status, self.device = QLabel(), QLabel()
        self.status.setWordWrap(True)
        self.status.setMinimumHeight(2 * self.status.fontMetrics().lineSpacing())
        self.device.setToolTip(
            "What the engine computes on. It is a process of its own; the viewer stays free."
        )

        layout = QVBoxLayout(self)
        layout.addWidget(self.scroll_area, 1)
        layout.addWidget(
            self.refined_panel
        )  # not in the scroll area: after a prediction it is what one moves
        layout.addWidget(self.curve)
        layout.addWidget(self.progress)
        layout.addWidget(self.status)
        layout.addLayout(buttons)
        layout.addWidget(self.device)

    def _fit_width(self) -> None:
        bar = self.scroll_area.verticalScrollBar()
        room = bar.sizeHint().width() if bar is not None else 0
        self.scroll_area.setMinimumWidth(min(self._inner.minimumSizeHint().width() + room + 2, WIDEST))

    # ------------------------------------------------------------ buttons

    @timed
    def _train(self, *_: object) -> None:
        self._try(self.session.train)

    @timed
    def _predict(self, *_: object) -> None:
        self._try(self.session.predict)

    @timed
    def _stop(self, *_: object) -> None:
        self.session.stop()

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except CtxsegError as error:
            self._notify(str(error))

    # ------------------------------------------------------------ following the session

    def _mark_stale(self) -> None:
        self._stale = True  # shown at the next tick: events come faster than labels need to change

    @timed
    def _tick(self) -> None:
        worked = costs.deducted
        self.session.tick()
        if costs.deducted != worked:  # a layer was made: enough for one tick
            return
        self.layer_panel.refresh()
        self.meter_panel.meter.tick()
        self.model_panel.describer.tick()
        if self._stale:
            self._stale = False
            self._show()

    def _show(self) -> None:
        session = self.session
        self.class_panel.refresh()
        self.meter_panel.refresh()
        self.model_panel.refresh()
        self.refined_panel.refresh()
        self.layer_panel.show_new()
        self._fit_width()
        train, predict = session.train_problem(), session.predict_problem()
        running = session.phase != "idle"
        again = session.last_run is not None and not session.from_scratch
        self.train_button.setText("Train on" if again else "Train")
        self._enable(
            self.train_button, train, "Go on from the last model." if again else "Learn from what is painted."
        )
        self._enable(
            self.predict_button, predict, "Label every slice of the ticked image with the last model."
        )
        self.stop_button.setText("End now" if session.stopping else "Stop")
        self._enable(
            self.stop_button,
            "" if running else "Nothing is running.",
            "End the engine at once; the last checkpoint is kept."
            if session.stopping
            else "End after the running step and keep the model.",
        )
        self.status.setText(self._status(train))
        if session.fraction is None:
            self.progress.setRange(0, 0 if running else 1)
            self.progress.setValue(0)
        else:
            self.progress.setRange(0, 1000)
            self.progress.setValue(int(1000 * session.fraction))
        engine = session.engine
        self.device.setText(
            "engine starting ..."
            if engine.state == "starting"
            else f"engine {engine.state} - {engine.device}".rstrip(" -")
        )

    def _status(self, problem: str) -> str:
        """What is going on, and below it what was last remarked on, or why training cannot start."""
        session = self.session
        advice = session.host.advice() if session.host is not None else ""
        below = problem or "\n".join(filter(None, (advice, stages(session.config.method))))
        if session.phase != "idle":
            below = session.remark
        return "\n".join(
            dict.fromkeys(filter(None, (session.status, below if below not in session.status else "")))
        )

    @staticmethod
    def _enable(button: QPushButton, problem: str, tooltip: str) -> None:
        button.setEnabled(not problem)
        button.setToolTip(problem or tooltip)

    def _redraw_curve(self) -> None:
        self.curve.setVisible(True)
        colors = self.session.colors()
        self.curve.refresh({row.name: str(colors[row.value]) for row in self.session.classes})

    def _notify(self, text: str) -> None:
        from napari.utils.notifications import show_error

        self.session.status = text
        self._stale = True
        show_error(text)

    # ------------------------------------------------------------ the end

    def _end(self) -> None:
        """Stop following the viewer and let go of the engine."""
        self._timer.stop()
        self.session.close()
