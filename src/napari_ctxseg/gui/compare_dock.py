"""The dock "Compare": losses, methods or networks on one's own data, as a queue that outlives the window."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Qt, QTimer
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_ctxseg import dataset
from napari_ctxseg.compare.plan import parse_plan
from napari_ctxseg.compare.prepare import stored_comparisons, unfinished
from napari_ctxseg.compare.queue import CompareFolder
from napari_ctxseg.config import BudgetConfig, RunConfig, UNetConfig
from napari_ctxseg.engine.client import EngineClient
from napari_ctxseg.errors import CtxsegError, InputError
from napari_ctxseg.gui.background import Background
from napari_ctxseg.gui.compare_folders import (
    PARENT,
    comparisons_folder,
    duration,
    fresh_folder,
    sweep_orphans,
    title_of,
)
from napari_ctxseg.gui.compare_plan import Offer, PlanPage, of_project
from napari_ctxseg.gui.compare_results import ResultsPage, RunsPage
from napari_ctxseg.gui.compare_widgets import enable, scrolled
from napari_ctxseg.gui.comparing import Comparing
from napari_ctxseg.gui.dock import Dock
from napari_ctxseg.gui.preferences import preferences
from napari_ctxseg.gui.project_training import PATIENCE, ProjectTraining
from napari_ctxseg.gui.timing import napari_works, timed
from napari_ctxseg.gui.train_dock import train_docks
from napari_ctxseg.project.comparable import BETWEEN, comparable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import napari

    from napari_ctxseg.cases import Case
    from napari_ctxseg.compare.plan import ComparePlan

TICK_MS = 80
#: Ticks between two looks at what the Workbench offers.
LOOK_EVERY = 6
NEW = "A new comparison"
COMPARED = "a comparison in it is under way"


class CompareDock(Dock):
    """Plan, queue and results of a comparison.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Images are opened in it. If the Workbench is open there, its project and its settings are offered.
    make_engine : callable, optional
        Gives an engine for a comparison; fresh ones when left out.
    """

    def __init__(
        self,
        napari_viewer: napari.viewer.Viewer,
        make_engine: Callable[[], EngineClient] | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.viewer = napari_viewer
        background = self._background = Background()
        chosen = preferences()
        self.comparing = Comparing(background, make_engine or (lambda: EngineClient(chosen.threads)))
        self._device = chosen.device
        self._training: ProjectTraining | None = None
        self._listed: list[Path] = []
        self._places: tuple[Path, ...] = ()
        self._stale, self._ticks = True, 0
        self.notes: list[str] = []
        self._lay_out(background)
        self.comparing.changed.connect(self._mark_stale)
        self.comparing.reported.connect(self._show_report)
        self.comparing.failed.connect(self._notify)
        comparing = self.comparing  # no reference to self: the widget is half gone when this runs
        self._if_destroyed(lambda: comparing.close())
        self._look_around()
        self._timer = QTimer(self)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)
        self._timer.start()

    # ------------------------------------------------------------ laying out

    def _lay_out(self, background: Background) -> None:
        self.which = QComboBox()
        self.which.setToolTip("A new comparison, or one that was made before: to look at, or to go on with.")
        self.which.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.which.setMinimumContentsLength(16)
        self.which.activated.connect(lambda *_: self._choose())
        self.plan, self.runs, self.results = PlanPage(), RunsPage(), ResultsPage(background)
        self.plan.changed.connect(self._mark_stale)
        self.results.wanted.connect(self.open_case)
        self.pages = QTabWidget()
        self.scroll_area = scrolled(self.plan)
        self.pages.addTab(self.scroll_area, "Plan")
        self.pages.addTab(self.runs, "Runs")
        self.pages.addTab(scrolled(self.results), "Results")
        self.progress = QProgressBar()
        self.progress.setRange(0, 1000)
        self.progress.setTextVisible(False)
        self.progress.setMaximumHeight(8)
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.status.setMinimumHeight(2 * self.status.fontMetrics().lineSpacing())
        self.status.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.start, self.pause, self.resume = (
            QPushButton("Start"),
            QPushButton("Pause"),
            QPushButton("Resume"),
        )
        self.start.clicked.connect(lambda: self._try(self.begin))
        self.pause.clicked.connect(lambda: self.comparing.pause())
        self.resume.clicked.connect(lambda: self._go_on())
        self.retry = QCheckBox("Failed runs again")
        self.retry.setToolTip("Resume also makes the runs that failed once more.")
        self.retry.toggled.connect(self._mark_stale)
        buttons = QHBoxLayout()
        for button in (self.start, self.pause, self.resume, self.retry):
            buttons.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2, 2, 2, 2)
        for widget in (self.which, self.pages, self.progress, self.status):
            layout.addWidget(widget, int(widget is self.pages))
        layout.addLayout(buttons)

    # ------------------------------------------------------------ what is offered

    def _look_around(self) -> None:
        """Follow the Workbench of this viewer: its settings, its project, and the comparisons in it."""
        open_docks = train_docks(self.viewer)
        session = open_docks[0].session if open_docks else None
        host = session.host if session is not None else None
        self._training = host if isinstance(host, ProjectTraining) else None
        if self._training is not None:
            self._training.workspace.holds[self.comparing] = self._held
        run = session.config if session is not None else self._default_run()
        project = self._training.workspace.project if self._training is not None else None
        rows = self._training.rows if self._training is not None and project is not None else []
        images = tuple((row.name, row.group) for row in rows if row.labelled and row.role != "test")
        self.plan.show_offer(Offer(run, session is not None, project, images))
        places = (*((project.path / PARENT,) if project is not None else ()), comparisons_folder())
        if places != self._places and self.comparing.phase == "idle":
            self._places = places
            self._list(offer=True)

    def _default_run(self) -> RunConfig:
        run = RunConfig(network=UNetConfig(), budget=BudgetConfig(minutes=2))
        return run.updated(device=run.device.model_dump() | {"accelerator": self._device})

    def _list(self, *, offer: bool = False) -> None:
        """List the stored comparisons; `offer` the last one if it is unfinished."""
        places, found, left = self._places, list[Path](), list[bool]()

        def work() -> None:
            for place in places:
                sweep_orphans(place)
                found.extend(stored_comparisons(place))
            left.append(bool(found) and offer and unfinished(found[0]))

        def done() -> None:
            if self._closed or places != self._places:
                return
            self._listed = found
            self._fill_which()
            if left[0] and self.comparing.phase == "idle" and self.comparing.folder is None:
                self.comparing.look(found[0])
                self._fill_which()

        self._background(work, done, lambda error: None)

    def _fill_which(self) -> None:
        with QSignalBlocker(self.which):
            self.which.clear()
            self.which.addItem(NEW, None)
            for path in self._listed:
                self.which.addItem(title_of(path), path)
                self.which.setItemData(self.which.count() - 1, str(path), Qt.ItemDataRole.ToolTipRole)
            folder = self.comparing.folder
            self.which.setCurrentIndex(self._listed.index(folder) + 1 if folder in self._listed else 0)

    @timed
    def _choose(self) -> None:
        self.results.show_report(None, None)
        folder = self.which.currentData()
        self.comparing.look(folder)
        self.pages.setCurrentIndex(0 if folder is None else 1)

    # ------------------------------------------------------------ buttons

    def begin(self) -> None:
        """Begin what the page Plan says, in a fresh folder.

        Raises
        ------
        InputError
            If the plan is not complete.
        """
        if problem := self.problem():
            raise InputError("comparison", problem)
        values = self.plan.values()
        parent = self._places[0] if not self.plan.of_folders else comparisons_folder()
        folder = fresh_folder(parent)
        self.notes = []
        gather = self._of_folders(values) if self.plan.of_folders else self._of_project(values)
        self.results.show_report(None, None)
        self.comparing.report = None
        self.comparing.begin(folder, gather)
        self.pages.setCurrentIndex(1)

    @staticmethod
    def _of_folders(values: dict[str, object]) -> Callable[[Path], tuple[ComparePlan, None]]:
        return lambda folder: (parse_plan(values, "plan"), None)

    def _of_project(self, values: dict[str, object]) -> Callable[[Path], tuple[ComparePlan, Sequence[Case]]]:
        """Gathers the project's labels as they are now: strokes of this moment are written first."""
        assert self._training is not None
        workspace, project = self._training.workspace, self.plan.offer.project
        assert project is not None
        volumes, written = self.plan.offer.run.network.dims == 3, threading.Event()
        opened = workspace.opened
        if opened is not None and opened.autosave is not None:
            opened.autosave.ask(written.set)
        else:
            written.set()

        def gather(folder: Path) -> tuple[ComparePlan, Sequence[Case]]:
            if not written.wait(PATIENCE):
                raise InputError("labels", "are not on disk yet", "See the line at the bottom")
            found = comparable(project, volumes=volumes)
            self.notes = found.notes
            plan = of_project(values, found.cases, found.group, project, folder, cut=found.cut)
            return plan, found.cases

        return gather

    def _go_on(self) -> None:
        self.comparing.resume(retry_failed=self.retry.isChecked())
        self.pages.setCurrentIndex(1)

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except CtxsegError as error:
            self._notify(str(error))

    def problem(self) -> str:
        """Why a new comparison cannot begin; empty if it can."""
        if self.comparing.phase != "idle":
            return "A comparison is under way: pause it first."
        if not self.plan.of_folders and self._training is not None and self._training.workspace.doing:
            return f"The project is busy: {self._training.workspace.doing}."
        return self.plan.problem()

    def _held(self) -> str:
        """Why the project must stay where it is; empty if it need not."""
        folder, training = self.comparing.folder, self._training
        project = training.workspace.project if training is not None else None
        if self._closed or self.comparing.phase == "idle" or folder is None or project is None:
            return ""
        return COMPARED if folder.is_relative_to(project.path) else ""

    def open_case(self, name: str) -> None:
        """Open the image of a case: in the project if it is one of its images, else from its files."""
        image = name.split(BETWEEN, 1)[-1]
        project = self._training.workspace.project if self._training is not None else None
        if self._training is not None and project is not None and image in project.names:
            self._try(lambda: self._training.workspace.open_image(image))  # type: ignore[union-attr]
            return
        folder = self.comparing.folder
        found: list[Path] = []

        def work() -> None:
            assert folder is not None
            pairs = dataset.training_pairs(CompareFolder(folder).plan().run.data)
            found.extend(path for pair in pairs if pair.name == name for path in pair.images)

        def done() -> None:
            if not self._closed and found:
                with napari_works("open an image"):
                    self.viewer.open([str(path) for path in found], plugin="napari-ctxseg")

        self._background(work, done, lambda error: self._notify(str(error)))

    # ------------------------------------------------------------ showing

    def _mark_stale(self, *_: object) -> None:
        self._stale = True

    @timed
    def _show_report(self, final: bool) -> None:
        """Show what is known; only a report that is asked for, or the last one, comes to the front."""
        if self.comparing.report is not None:
            self.results.show_report(self.comparing.report, self.comparing.folder)
            if final:
                self.pages.setCurrentIndex(2)

    @timed
    def _tick(self) -> None:
        self._ticks += 1
        if self._ticks % LOOK_EVERY == 0:
            self._look_around()
            comparing = self.comparing
            if comparing.phase == "idle" and comparing.rows and comparing.folder not in self._listed:
                self._list()
            return
        self.comparing.tick()
        if self._stale:
            self._stale = False
            self._show()

    def _show(self) -> None:
        comparing = self.comparing
        idle, running = comparing.phase == "idle", comparing.phase == "running"
        self.which.setEnabled(idle)
        self.runs.show_rows(comparing.rows, comparing.current)
        self.progress.setValue(int(1000 * comparing.fraction))
        problem = self.problem()
        enable(self.start, problem, "Make all runs, one after the other. The window may be closed meanwhile.")
        what = (
            "End the engine at once; what was saved is kept."
            if comparing.stopping
            else ("End the running step, save its state, and write the report of what is done.")
        )
        enable(self.pause, "" if running else "Nothing is running.", what)
        self.pause.setText("End now" if comparing.stopping else "Pause")
        again = self.retry.isChecked() and comparing.failures
        left = idle and comparing.folder is not None and bool(comparing.unfinished or again)
        enable(
            self.resume, "" if left else "Nothing is left to be done.", "Go on where the comparison stood."
        )
        self.retry.setVisible(bool(comparing.failures))
        self.status.setText(self._sentence(problem))

    def _sentence(self, problem: str) -> str:
        comparing = self.comparing
        if comparing.phase == "idle":
            shown = comparing.status
            if comparing.folder is None:
                shown = shown or problem or self.plan.amount_text()
            return "\n".join(filter(None, (shown, *(self.notes if comparing.status else ()))))
        left = comparing.seconds_left()
        done = len(comparing.rows) - comparing.missing
        count = f"{done} of {len(comparing.rows)} runs done" if comparing.rows else ""
        when = "" if left is None or comparing.stopping else f"about {duration(left)} left"
        return "\n".join(
            filter(None, (comparing.status, ", ".join(filter(None, (count, when))), *self.notes))
        )

    def _notify(self, text: str) -> None:
        from napari.utils.notifications import show_error

        self.comparing.status = text
        self._stale = True
        show_error(text)

    # ------------------------------------------------------------ the end

    def _end(self) -> None:
        """Stop following the viewer and let go of the engine."""
        self.results.folder = None  # pictures that are still being read have no place any more
        self._timer.stop()
        if self._training is not None:
            self._training.workspace.holds.pop(self.comparing, None)
        self.comparing.close()
