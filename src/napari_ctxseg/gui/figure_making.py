"""Previews and pictures for the dock Figure: drawn by an engine, so that the screen never waits. No Qt."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from psygnal import Signal

from napari_ctxseg.atomic import write_bytes_atomic
from napari_ctxseg.config import Recipe, ViewFigure
from napari_ctxseg.errors import CtxsegError
from napari_ctxseg.events import FigureDrawn, JobDone, JobFailed
from napari_ctxseg.figures import ENDING, MADE, read_recipe, save_recipe, targets
from napari_ctxseg.gui.figure_layers import with_layers
from napari_ctxseg.gui.timing import timed

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_ctxseg.engine.client import EngineClient
    from napari_ctxseg.events import Event

    #: Gives a recipe, and the folder that its relative paths start from. Off the GUI thread.
    Build = Callable[[Path], tuple[Recipe, Path]]


class FigureMaking:
    """One figure at a time; of several previews that are wanted meanwhile only the last is drawn.

    Parameters
    ----------
    engine : EngineClient
        Of the lane ``"figures"``.
    background : callable
        Runs a function off the GUI thread, then one of two callbacks on it.
    """

    #: A preview is there, or something failed.
    changed = Signal()
    #: A picture has been written: its recipe.
    saved = Signal(object)

    def __init__(self, engine: EngineClient, background: Callable[..., None]) -> None:
        self.engine, self._background = engine, background
        self.scratch = Path(tempfile.mkdtemp(prefix="ctxseg-figure-"))
        self.picture: NDArray[Any] | None = None
        self.status, self.failed, self.closed = "", False, False
        self._wanted: tuple[Build, Path | None] | None = None
        self._saves: list[tuple[Build, Path]] = []
        self._busy = self._outdated = False

    @property
    def busy(self) -> bool:
        """Whether anything is being drawn or waits."""
        return self._busy or self._wanted is not None or bool(self._saves)

    def start(self) -> None:
        """Start the engine."""
        try:
            self.engine.start()
        except CtxsegError as error:
            self._tell(str(error))

    def preview(self, build: Build) -> None:
        """Ask for a preview; one that has not begun is replaced."""
        self._wanted = (build, None)

    def forget(self) -> None:
        """The preview that is there, or being drawn, is of another figure."""
        self.picture, self._wanted, self._outdated = None, None, self._busy

    def save(self, build: Build, out: Path) -> None:
        """Ask for a picture with its recipe beside it."""
        self._saves.append((build, out))

    # ------------------------------------------------------------ doing it

    @timed
    def tick(self) -> None:
        """Hear the engine, and ask for the next. For a timer."""
        if self.closed:
            return
        for event in self.engine.poll():
            self._on_event(event)
        if self._busy or self.engine.state != "ready":
            return
        if self._saves:
            self._draw(*self._saves.pop(0))
        elif self._wanted is not None:
            wanted, self._wanted = self._wanted, None
            self._draw(*wanted)

    def _draw(self, build: Build, out: Path | None) -> None:
        self._busy, self._outdated = True, False
        path = self.scratch / f"{'picture' if out else 'preview'}{ENDING}"

        def work() -> None:
            recipe, folder = build(self.scratch)
            if out is not None:
                picture = targets(out, recipe.style)[0]
                if isinstance(recipe, ViewFigure):
                    recipe = _with_arrays(recipe, folder, picture.with_suffix(".npz"))
                else:
                    recipe = with_layers(recipe, self.scratch, picture)
            save_recipe(path, recipe, folder, {}, {})

        def done() -> None:
            if self.closed:
                return
            try:
                self.engine.figure(path, out)
            except CtxsegError as error:
                self._give_up(error)

        self._background(work, done, self._give_up)

    def _give_up(self, error: Exception) -> None:
        self._busy = False
        self._tell(str(error) if isinstance(error, CtxsegError) else f"{type(error).__name__}: {error}")

    def _on_event(self, event: Event) -> None:
        match event:
            case FigureDrawn():
                self.failed = False
                if event.picture is not None and self._outdated:
                    return
                if event.picture is not None:
                    self.picture, self.status = event.picture, "\n".join(event.notes)
                else:
                    self.status = "\n".join([f"Saved {', '.join(event.files)}.", *event.notes])
                    self.saved.emit(Path(event.recipe))
                self.changed.emit()
            case JobFailed():
                self._busy = False
                self._tell(" ".join(part for part in (event.error, event.remedy) if part))
            case JobDone():
                self._busy = False

    def _tell(self, text: str) -> None:
        if self.closed:  # what was begun before fails for want of its folder, and there is nobody to tell
            return
        self.status, self.failed = text, True
        self.changed.emit()

    def close(self) -> None:
        """Let go of the engine."""
        self.closed = True
        self.engine.close()
        shutil.rmtree(self.scratch, ignore_errors=True)


def _with_arrays(recipe: ViewFigure, folder: Path, beside: Path) -> ViewFigure:
    """The recipe with its arrays beside the picture, where they are found again."""
    source = folder / recipe.arrays
    if source.resolve() != beside.resolve():
        write_bytes_atomic(beside, source.read_bytes())
    return recipe.model_copy(update={"arrays": beside.absolute()})


def keep_recipe(beside: Path, folder: Path) -> Path | None:
    """Also keep a picture's recipe, and the arrays of a view, in a project's folder of figures.

    Parameters
    ----------
    beside : Path
        The recipe beside the picture.
    folder : Path
        ``figures/`` of a project; a recipe that lies there already is left alone.

    Returns
    -------
    Path or None
        The copy.

    Raises
    ------
    CtxsegError
        If it cannot be read or written.
    """
    if beside.parent.resolve() == folder.resolve():
        return None
    recipe, _ = read_recipe(beside)
    made = yaml.safe_load(beside.read_text(encoding="utf-8")).get(MADE, {})
    inputs = {beside.parent / str(name): str(digest) for name, digest in made.pop("inputs", {}).items()}
    made.pop("versions", None)
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / beside.name
    if isinstance(recipe, ViewFigure):
        arrays = folder / copy.name.replace(ENDING, ".npz")
        digest = inputs.pop(beside.parent / recipe.arrays, "")
        recipe = _with_arrays(recipe, beside.parent, arrays)
        inputs[arrays] = digest
    save_recipe(copy, recipe, beside.parent, made, inputs)
    return copy
