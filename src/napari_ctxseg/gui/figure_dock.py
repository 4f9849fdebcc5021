"""The dock "Figure": a picture of what the viewer shows, or of files, with a recipe that makes it again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QSignalBlocker, Qt, QTimer
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_ctxseg.config import ViewFigure, figure_classes, figure_kind, parse_figure
from napari_ctxseg.engine.client import EngineClient
from napari_ctxseg.errors import CtxsegError, InputError
from napari_ctxseg.figures import FORMATS, read_recipe, view_recipe
from napari_ctxseg.gui import figure_around as around
from napari_ctxseg.gui import layers as lay
from napari_ctxseg.gui.background import Background
from napari_ctxseg.gui.dock import Dock
from napari_ctxseg.gui.figure_fields import RecipeFields
from napari_ctxseg.gui.figure_layers import LayersTaken
from napari_ctxseg.gui.figure_making import FigureMaking, keep_recipe
from napari_ctxseg.gui.figure_panels import StylePanel, ViewPanel
from napari_ctxseg.gui.figure_zoom import ZoomFrame
from napari_ctxseg.gui.seen import Captured, capture, look_of_viewer
from napari_ctxseg.gui.timing import timed
from napari_ctxseg.gui.train_dock import WIDEST

if TYPE_CHECKING:
    from collections.abc import Callable

    import napari

    from napari_ctxseg.config import Recipe
    from napari_ctxseg.gui.figure_making import Build

TICK_MS = 60
#: Ticks between two looks at the viewer, and ticks of quiet before a preview.
LOOK_EVERY, QUIET = 5, 4
#: Pixels: height of the preview's place.
HIGH = 230
FILTER = "PNG (*.png);;SVG (*.svg);;PDF (*.pdf)"
TITLES = {"view": "What the viewer shows"}


class FigureDock(Dock):
    """Kind, settings, preview, and the picture as a file.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Figures are made from what it shows.
    engine : EngineClient, optional
        Of the lane ``"figures"``; a fresh one when left out.
    """

    def __init__(
        self,
        napari_viewer: napari.viewer.Viewer,
        engine: EngineClient | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.viewer, self._background = napari_viewer, Background()
        self.making = FigureMaking(engine or EngineClient(lane="figures"), self._background)
        self.zoom, self._strokes = ZoomFrame(napari_viewer), around.Strokes(napari_viewer)
        self.folder: Path | None = None  # of an opened recipe
        self._stored: ViewFigure | None = None  # of an opened recipe of a view
        self._taken: Captured | None = None
        self._seen: Any = None
        self.notes: list[str] = []
        self._ticks = self._quiet = 0
        self._fields: dict[str, RecipeFields] = {}
        self._lay_out()
        self.making.changed.connect(self._show)
        self.making.saved.connect(self._keep)
        making = self.making  # no reference to self: the widget is half gone when this runs
        self._if_destroyed(lambda: making.close())
        self.making.start()
        self._choose_kind()
        self._timer = QTimer(self)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)
        self._timer.start()

    # ------------------------------------------------------------ laying out

    def _lay_out(self) -> None:
        self.kind = QComboBox()
        for name in sorted(figure_classes(), key=lambda name: name != "view"):
            self.kind.addItem(TITLES.get(name, name.replace("_", " ").capitalize()), name)
            about = (figure_classes()[name].__doc__ or "").splitlines()[0]
            self.kind.setItemData(self.kind.count() - 1, about, Qt.ItemDataRole.ToolTipRole)
        self.kind.setToolTip("What the figure shows.")
        self.kind.currentIndexChanged.connect(self._choose_kind)
        self.preview = QLabel()
        self.preview.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.preview.setFixedHeight(HIGH)
        self.preview.setMinimumWidth(1)
        self.preview.setToolTip("The figure at the resolution of the screen.")
        self.view_panel, self.style_panel = ViewPanel(), StylePanel()
        self.view_panel.take.connect(self._take)
        self.view_panel.draw_zoom.connect(lambda: self._try(self.zoom.draw))
        self.view_panel.drop_zoom.connect(self._drop_zoom)
        self.view_panel.changed.connect(self._want)
        self.view_panel.follow.toggled.connect(self._set_follow)
        self.style_panel.changed.connect(self._want)
        inner = QWidget()
        self._column = QVBoxLayout(inner)
        self._column.setContentsMargins(2, 2, 2, 2)
        self._column.addWidget(self.view_panel)
        self._column.addWidget(self.style_panel)
        self._column.addStretch(1)
        self.scroll_area, self._inner = QScrollArea(), inner
        self.scroll_area.setWidgetResizable(True)
        self.scroll_area.setFrameShape(QFrame.Shape.NoFrame)
        # As wide as its contents: scrolling sideways in a dock is a nuisance.
        self.scroll_area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.scroll_area.setWidget(inner)
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.status.setMinimumHeight(2 * self.status.fontMetrics().lineSpacing())
        self.status.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.save_button, self.open_button = QPushButton("Save as..."), QPushButton("Open recipe...")
        self.save_button.setToolTip(
            "PNG, SVG or PDF by the end of the name; the recipe is written beside it."
        )
        self.open_button.setToolTip("Show the figure of a recipe again: the same pixels.")
        self.save_button.clicked.connect(lambda: self._ask_save())
        self.open_button.clicked.connect(lambda: self._ask_open())
        buttons = QHBoxLayout()
        buttons.addWidget(self.save_button)
        buttons.addWidget(self.open_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2, 2, 2, 2)
        layout.addWidget(self.kind)
        layout.addWidget(self.preview)
        layout.addWidget(self.scroll_area, 1)
        layout.addWidget(self.status)
        layout.addLayout(buttons)

    def _fit_width(self) -> None:
        bar = self.scroll_area.verticalScrollBar()
        room = bar.sizeHint().width() if bar is not None else 0
        self.scroll_area.setMinimumWidth(min(self._inner.minimumSizeHint().width() + room + 2, WIDEST))

    # ------------------------------------------------------------ choosing

    @timed
    def _choose_kind(self, *_: object) -> None:
        kind = self.kind.currentData()
        if kind != "view" and kind not in self._fields:
            fields = RecipeFields(figure_classes()[kind], lambda: around.known_files(self.viewer), self)
            fields.changed.connect(self._want)
            self._fields[kind] = fields
            self._column.insertWidget(1, fields)
        for name, each in self._fields.items():
            each.setVisible(name == kind)
        self.view_panel.setVisible(kind == "view")
        self._fit_width()
        self.making.forget()
        self.preview.clear()
        self._seen = None
        self._want()

    def _drop_zoom(self) -> None:
        self.zoom.clear()
        if self._stored is not None:
            self._stored = self._stored.model_copy(update={"zoom": None})
        self._want()

    def _set_follow(self, on: bool) -> None:
        if on:
            self._stored = None
        self._seen = None

    def _take(self) -> None:
        """Take what the viewer shows now."""
        self._stored, self._taken = None, None
        self._want()

    @timed
    def _want(self, *_: object) -> None:
        self._quiet = QUIET

    # ------------------------------------------------------------ the recipe

    def build(self) -> Build:
        """What makes the recipe of the form, off the GUI thread.

        Raises
        ------
        InputError
            If the viewer shows nothing, or a line cannot be read.
        """
        if self.style_panel.problem:
            raise InputError("style", self.style_panel.problem)
        style, kind, folder = self.style_panel.value, self.kind.currentData(), self.folder
        if kind != "view":
            values = {"kind": kind, "style": style.model_dump(), **self._fields[kind].values()}
            if missing := self._fields[kind].missing():
                raise InputError("the figure", f"needs {missing}", "Fill in the lines with a star")
            base = folder or around.project_folder(self.viewer) or Path.cwd()
            taken = LayersTaken(self.viewer, values)
            return lambda scratch: (parse_figure(taken.filled(scratch), "the figure"), base)
        more: dict[str, Any] = {"panels": self.view_panel.panels.currentData(), "style": style}
        drawn = self.zoom.corners()
        if self._stored is not None:
            stored, place = self._stored, folder or Path.cwd()
            more |= {"zoom": drawn} if drawn is not None else {}
            return lambda scratch: (stored.model_copy(update=more), place)
        if self.view_panel.follow.isChecked() or self._taken is None:
            skip = [*([] if self.zoom.present is None else [self.zoom.present]), *self.view_panel.skipped]
            self._taken = capture(self.viewer, around.class_names(self.viewer), skip)
        seen = self._taken
        self.notes = seen.notes

        def make(scratch: Path) -> tuple[Recipe, Path]:
            recipe = view_recipe(seen.view(), scratch / "view.npz", style)
            return recipe.model_copy(update={**more, "zoom": drawn}), scratch

        return make

    def save_to(self, out: Path) -> None:
        """Make the picture, its recipe beside it.

        Raises
        ------
        InputError
            If there is nothing to draw, or the name has another end.
        """
        if out.suffix.lower() not in FORMATS:
            raise InputError(out, f"has the suffix {out.suffix or '(none)'}", f"Use {' '.join(FORMATS)}")
        self.making.save(self.build(), out)

    def open_recipe(self, path: Path) -> None:
        """Show the figure of a recipe again.

        Raises
        ------
        CtxsegError
            If it cannot be read.
        """
        recipe, changed = read_recipe(path)
        self.folder, kind = path.parent.absolute(), figure_kind(recipe)
        self.notes = changed
        with QSignalBlocker(self.kind):
            self.kind.setCurrentIndex(self.kind.findData(kind))
        self._choose_kind()
        self.zoom.clear()
        if isinstance(recipe, ViewFigure):
            self.view_panel.show_recipe(recipe)
            self._stored = recipe
        else:
            self._fields[kind].show_recipe(recipe)
        self.style_panel.show_style(recipe.style)
        self._want()

    def _keep(self, beside: Path) -> None:
        """Put a copy of the recipe into the project."""
        project = around.project_folder(self.viewer)
        if project is None:
            return

        def work() -> None:
            keep_recipe(beside, project / "figures")

        self._background(work, lambda: None, lambda error: self._notify(str(error)))

    # ------------------------------------------------------------ buttons

    def _start_folder(self) -> str:
        project = around.project_folder(self.viewer)
        if project is not None:
            (project / "figures").mkdir(exist_ok=True)
            return str(project / "figures")
        return str(self.folder or Path.cwd())

    def _ask_save(self) -> None:
        name = str(Path(self._start_folder()) / "figure.png")
        chosen, form = QFileDialog.getSaveFileName(self, "Save the figure", name, FILTER)
        if chosen:
            path = Path(chosen)
            named = path if path.suffix else path.with_suffix(f".{form[:3].lower()}")
            self._try(lambda: self.save_to(named))

    def _ask_open(self) -> None:
        chosen, _ = QFileDialog.getOpenFileName(
            self, "Open a recipe", self._start_folder(), "Recipes (*.yaml *.yml)"
        )
        if chosen:
            self._try(lambda: self.open_recipe(Path(chosen)))

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except CtxsegError as error:
            self._notify(str(error))

    def _notify(self, text: str) -> None:
        from napari.utils.notifications import show_error

        self.status.setText(text)
        show_error(text)

    # ------------------------------------------------------------ all the time

    @timed
    def _tick(self) -> None:
        self.making.tick()
        if not self.isVisible():
            return
        self._ticks += 1
        if self._ticks % LOOK_EVERY == 0:
            self._look()
        if self._quiet:
            self._quiet -= 1
            if not self._quiet:
                self._preview()

    def _look(self) -> None:
        """Ask for a preview when the viewer shows something else."""
        if self.kind.currentData() != "view":
            return
        state: Any = self.zoom.corners()
        self.view_panel.offer_labels([lay.plain(each) for each in lay.layers_of(self.viewer, "labels")])
        strokes = self._strokes.look()
        if self.view_panel.follow.isChecked():
            state = (state, look_of_viewer(self.viewer), strokes, id(self.view_panel.only))
        if state != self._seen:
            self._seen = state
            self._want()

    def _preview(self) -> None:
        try:
            build = self.build()
        except CtxsegError as error:  # said quietly: the person is still filling in
            self.status.setText(str(error).partition(" See `ctxseg")[0])  # an example is no help on screen
            return
        self.making.preview(build)

    @timed
    def _show(self) -> None:
        making = self.making
        self.status.setText("\n".join(filter(None, (making.status, *([] if making.failed else self.notes)))))
        picture = making.picture
        if picture is None or making.failed:
            return
        pixels = np.ascontiguousarray(picture)
        height, width = pixels.shape[:2]
        image = QImage(pixels.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
        place = self.preview.size()
        self.preview.setPixmap(
            QPixmap.fromImage(image).scaled(
                place.width(), place.height(), Qt.AspectRatioMode.KeepAspectRatio,
                Qt.TransformationMode.SmoothTransformation,
            )
        )  # fmt: skip

    # ------------------------------------------------------------ the end

    def _end(self) -> None:
        """Let go of the engine and of the rectangle."""
        self._timer.stop()
        self._strokes.close()
        self.zoom.clear()
        self.making.close()
