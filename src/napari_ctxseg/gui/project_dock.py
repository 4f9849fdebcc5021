"""The tab "Project": which project it is, its classes, images, earlier states and rounds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QFileDialog,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMenu,
    QMessageBox,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_ctxseg.errors import CtxsegError
from napari_ctxseg.gui import layers as lay
from napari_ctxseg.gui.background import Background
from napari_ctxseg.gui.dock import Dock
from napari_ctxseg.gui.panels import ClassPanel
from napari_ctxseg.gui.preferences import preferences
from napari_ctxseg.gui.project_panels import ImagePanel, RoundsPanel
from napari_ctxseg.gui.project_training import ProjectTraining
from napari_ctxseg.gui.recent import recent_projects, remember
from napari_ctxseg.gui.timing import timed
from napari_ctxseg.gui.train_dock import WIDEST
from napari_ctxseg.gui.workspace import Workspace
from napari_ctxseg.project import is_project, parse_regions, regions_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_ctxseg.gui.session import Session

TICK_MS = 80
MARK_KEY = "Shift+U"
SENTENCE = (
    "Full masks: draw every structure in the slices you choose; what is unpainted there is background. "
    "Scribbles: a few strokes on each class and on the background; what is unpainted is unlabelled."
)
REGIONS_TIP = (
    "Structures that overlap, each with its label values: WT=1+2+3, TC=1+3, ET=3. They are learnt and predicted instead of "
    "the classes, each by itself; values in none of them are background. Empty: the classes."
)
BEGIN = "A project begins by itself when you make or choose a labels layer for an image. Or open one:"


class ProjectDock(Dock):
    """A project beside a session of the same viewer.

    Parameters
    ----------
    session : Session
        Of the tab Train.
    """

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session, background = session, Background()
        self.workspace = Workspace(session, background, preferences().autosave)
        self.training = ProjectTraining(session, self.workspace, background)
        self.automatic = True  # begin an unnamed project as soon as there is something to save
        self._stale = True
        self._lay_out()
        self.workspace.changed.connect(self._mark_stale)
        self.training.changed.connect(self._mark_stale)
        session.changed.connect(self._mark_stale)
        self.workspace.failed.connect(self.tell)
        self._bind()
        self._timer = QTimer(self)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)
        self._timer.start()

    def _lay_out(self) -> None:
        self.name = QLabel()
        self.name.setWordWrap(True)
        self.new, self.open, self.save = QPushButton("New..."), QPushButton("Open"), QPushButton("Save as...")
        self.close_project = QPushButton("Close")
        self.new.setToolTip("Make a project in a folder that you choose, of the image and labels on screen.")
        self.save.setToolTip("Copy the whole project to a folder and go on there.")
        self.close_project.setToolTip("Save what is left and let go of the project. The layers stay.")
        self.new.clicked.connect(lambda: self._new())
        self.save.clicked.connect(lambda: self._save_as())
        self.close_project.clicked.connect(lambda: self._close())
        self._menu = QMenu(self.open)
        self._menu.aboutToShow.connect(self._list_recent)
        self.open.setMenu(self._menu)
        self.policies = QLabel(SENTENCE)
        self.policies.setWordWrap(True)
        self.class_panel = ClassPanel(self.session)
        self.class_panel.setTitle("Classes")
        self.class_panel.explanation.setVisible(False)
        self.regions = QLineEdit()
        self.regions.setPlaceholderText("none: the classes are learnt")
        self.regions.editingFinished.connect(self._set_regions)
        self.image_panel = ImagePanel(self.training, self.tell)
        self.rounds_panel = RoundsPanel(self.training, self.tell)
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(2, 2, 2, 2)
        column.addWidget(self.name)
        row = QHBoxLayout()
        for button in (self.new, self.open, self.save, self.close_project):
            row.addWidget(button)
        column.addLayout(row)
        for widget in (self.image_panel, self.rounds_panel, self.policies, self.class_panel):
            column.addWidget(widget)
        line = QFormLayout()
        line.addRow("Regions", self.regions)
        column.addLayout(line)
        column.addStretch(1)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(inner)
        self.scroll_area, self._inner = area, inner
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(area)

    def _fit_width(self) -> None:
        """As wide as the contents: scrolling sideways in a dock is a nuisance."""
        bar = self.scroll_area.verticalScrollBar()
        room = bar.sizeHint().width() if bar is not None else 0
        self.scroll_area.setMinimumWidth(min(self._inner.minimumSizeHint().width() + room + 2, WIDEST))

    # ------------------------------------------------------------ keys

    def _bind(self) -> None:
        """Keys of ours live as long as the dock, and take none that napari uses."""
        self.session.viewer.bind_key(MARK_KEY, self._mark_key)

    def _mark_key(self, *_: object) -> None:
        self.image_panel.toggle_mark()

    def _unbind(self) -> None:
        viewer = lay.plain(self.session.viewer)
        for key, bound in list(viewer.keymap.items()):
            if bound == self._mark_key:
                del viewer.keymap[key]

    # ------------------------------------------------------------ buttons

    def _try(self, action: Callable[[], object]) -> None:
        try:
            action()
        except CtxsegError as error:
            self.tell(str(error))

    def tell(self, text: str) -> None:
        """Say what went wrong, where the person sees it."""
        from napari.utils.notifications import show_error

        self.session.status = text
        self.session.changed.emit()
        show_error(text)

    def _may_close(self) -> bool:
        """Two projects do not share a viewer: ask before the first one is closed."""
        project = self.workspace.project
        if project is None:
            return True
        if self.session.phase != "idle":
            self.tell(f"The engine is {self.session.phase}: press Stop before another project is opened.")
            return False
        text = f"'{project.spec.name}' is open in this viewer. Everything in it is saved. Close it?"
        if QMessageBox.question(self, "Close the project?", text) != QMessageBox.StandardButton.Yes:
            return False
        return self._close()

    def _close(self) -> bool:
        if self.workspace.doing:
            self.tell(f"The project is busy: {self.workspace.doing}.")
            return False
        if not self.workspace.close_image(keep=False):
            self.tell("The labels cannot be saved, so the project stays open: see the line at the bottom.")
            return False
        self.workspace.close()
        self.automatic = False
        return True

    def _new(self) -> None:
        if self.workspace.project is not None and not self._may_close():
            return
        path, _ = QFileDialog.getSaveFileName(self, "Folder of the new project", "project.ctxseg")
        if path:
            self._try(lambda: self.workspace.new(Path(path)))

    def _save_as(self) -> None:
        try:
            self.workspace.check_movable()
        except CtxsegError as error:  # said before a folder is asked for
            self.tell(str(error))
            return
        path, _ = QFileDialog.getSaveFileName(self, "Folder to copy the project to", "project.ctxseg")
        if path:
            self._try(lambda: self.workspace.save_as(Path(path)))

    def open_path(self, path: Path) -> None:
        """Open a project; one that is open is closed if the person agrees."""
        if self._may_close():
            self._try(lambda: self.workspace.open(path))

    def _list_recent(self) -> None:
        self._menu.clear()
        browse = self._menu.addAction("Another folder...")
        assert browse is not None
        browse.triggered.connect(lambda: self._browse())
        self._menu.addSeparator()
        for path in recent_projects():
            action = self._menu.addAction(f"{path.name}   ({path.parent})")
            assert action is not None
            action.triggered.connect(lambda _=False, path=path: self.open_path(path))

    def _browse(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder of the project")
        if folder:
            self.open_path(Path(folder))

    @timed
    def _set_regions(self) -> None:
        """Take over what was written; what cannot be is said, and taken back."""
        project, text = self.workspace.project, self.regions.text()
        if project is None or text == regions_text(project.spec.regions):
            return
        self._try(lambda: self.workspace.set_regions(parse_regions(text)))
        self._stale = True

    # ------------------------------------------------------------ following

    def _mark_stale(self) -> None:
        self._stale = True

    @timed
    def _tick(self) -> None:
        if self.session.closed:  # the window goes
            return
        self._begin_unnamed()
        self.workspace.tick()
        self.training.tick()
        if self._stale:
            self._stale = False
            self._show()

    def _begin_unnamed(self) -> None:
        """There is always a project: what the person begins to paint in is saved."""
        session, workspace = self.session, self.workspace
        if not self.automatic or workspace.project is not None or workspace.doing or session.phase != "idle":
            return
        if session.labels is None or lay.image_problem(session.images):
            return
        if lay.labels_problem(session.images, session.labels) or lay.is_prediction(session.labels):
            return
        self.automatic = False  # once; if it fails the message says why
        self._try(workspace.new)

    def _show(self) -> None:
        project = self.workspace.project
        if project is None:
            self.name.setText(BEGIN)
            self.name.setToolTip("")
        else:
            note = " (not named yet: Save as...)" if project.is_unnamed else ""
            self.name.setText(f"<b>{project.spec.name}</b>{note}")
            self.name.setToolTip(str(project.path))
            if is_project(project.path) and self.name.property("path") != str(project.path):
                self.name.setProperty("path", str(project.path))
                remember(project.path)
        for button in (self.save, self.close_project):
            button.setEnabled(project is not None and not self.workspace.doing)
        for button in (self.new, self.open):
            button.setEnabled(not self.workspace.doing)
        self.class_panel.refresh()
        self.class_panel.explanation.setVisible(False)
        for panel in (self.image_panel, self.rounds_panel):
            panel.setVisible(project is not None)
            panel.refresh()
        self._show_regions()
        self._fit_width()

    def _show_regions(self) -> None:
        project = self.workspace.project
        problem = "" if project is not None else "Regions belong to a project."
        if project is not None and project.read_only:
            problem = "The project is open for reading only."
        self.regions.setEnabled(not problem)
        self.regions.setToolTip(problem or REGIONS_TIP)
        if not self.regions.hasFocus() or project is None or not self.regions.isModified():
            self.regions.setText("" if project is None else regions_text(project.spec.regions))

    def _end(self) -> None:
        """Save what is left, release the keys and the project."""
        self._timer.stop()
        self._unbind()
        self.training.shut_down()
        self.workspace.shut_down()
