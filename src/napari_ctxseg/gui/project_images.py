"""Images of a project in one viewer: added, opened, closed, and put back to earlier states. No Qt.

One image of a project is open at a time; the others stay on disk and are trained on from there. Layers are held as
objects, so that the person may rename, reorder and delete them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_ctxseg.errors import CtxsegError, InputError
from napari_ctxseg.gui import layers as lay
from napari_ctxseg.gui import project_layers as own
from napari_ctxseg.gui.effort import Effort
from napari_ctxseg.gui.opened import Opened, marks_of
from napari_ctxseg.gui.timing import napari_works, timed
from napari_ctxseg.gui.verdicts import Verdicts
from napari_ctxseg.project import NewImage, Project, SliceMarks
from napari_ctxseg.project.verdicts import load_verdicts, verdicts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_ctxseg.gui.choices import Choices
    from napari_ctxseg.image import Image
    from napari_ctxseg.project import Generation

#: Seconds between two signs of life in the project's lock.
REFRESH = 30.0


class ProjectImages:
    """The images of one project in one viewer; see `napari_ctxseg.gui.workspace.Workspace`."""

    #: Project, open image, state of saving or work in the background have changed.
    changed = Signal()
    failed = Signal(str)

    def __init__(self, choices: Choices, background: Callable[..., None], interval: float) -> None:
        self.choices, self.viewer = choices, choices.viewer
        self.project: Project | None = None
        self.opened: Opened | None = None
        self._left: Opened | None = None  # an image whose labels layer the person has deleted
        self.effort = Effort()
        self.doing = ""  # what goes on in the background
        self.closed = False
        self._background, self._interval = background, interval

    # ------------------------------------------------------------ work in the background

    def _check_free(self) -> None:
        if self.doing:
            raise InputError("project", f"is busy: {self.doing}", "Wait a moment")

    def _run(
        self,
        what: str,
        work: Callable[[], Any],
        done: Callable[[Any], None],
        undo: Callable[[], None] = lambda: None,
    ) -> None:
        """One thing at a time; what fails is told, after `undo`."""
        self._check_free()
        self.doing, results = what, list[Any]()

        def finish() -> None:
            self.doing = ""
            if self.closed:
                found = results[0] if isinstance(results[0], tuple) else (results[0],)
                for each in found:
                    if isinstance(each, Project):
                        each.close()
                return
            try:
                done(results[0])
            except CtxsegError as error:
                self.failed.emit(str(error))
            self.changed.emit()

        def failed(error: Exception) -> None:
            self.doing = ""
            if not self.closed:
                undo()
            self.changed.emit()
            text = str(error) if isinstance(error, CtxsegError) else f"{type(error).__name__}: {error}"
            self.failed.emit(text)

        self.changed.emit()
        self._background(lambda: results.append(work()), finish, failed)

    def _require(self) -> Project:
        if self.project is None:
            raise InputError("project", "none is open", "Open one, or make a new one")
        return self.project

    def _pause(self) -> None:
        """Save, and write nothing more until `_follow`.

        Raises
        ------
        InputError
            If it cannot be saved.
        """
        opened = self.opened
        self._check_free()
        if opened is None or opened.autosave is None:
            return
        if not opened.autosave.flush():
            raise InputError("labels", "on screen cannot be saved", opened.autosave.reason)
        if not opened.verdicts.flush():
            raise InputError("verdicts", "of the Review cannot be saved", opened.verdicts.problem)
        opened.autosave.close(0.0)
        opened.autosave = opened.verdicts.file = None

    # ------------------------------------------------------------ images

    def _chosen(self) -> tuple[lay.Snapshot, Path | None]:
        shot = lay.snapshot(self.choices.images)
        return shot, own.files_behind(self.choices.images, shot.arrays)

    def add_chosen(self) -> None:
        """Add the ticked image layers to the project as one image, and follow the labels on them.

        Raises
        ------
        InputError
            If they are in it already, or cannot be used together.
        """
        project, layers, labels = self._require(), list(self.choices.images), self.choices.labels
        if self.opened is not None and any(layer in self.opened.images for layer in layers):
            raise InputError(self.opened.name, "is in the project already", "Tick another image layer")
        if self.opened is not None and labels is self.opened.labels:
            labels = None  # they belong to another image
        shot, path = self._chosen()

        def done(entry: Any) -> None:
            self.close_image(keep=True)
            self._adopt(entry.name, layers, labels)

        self._run(f"adding {shot.name}", lambda: own.add_to_project(project, shot, path), done)

    def add_files(self, images: Sequence[NewImage]) -> None:
        """Add image files; where none is open, the first of them is opened."""
        project = self._require()

        def done(entries: Any) -> None:
            self.changed.emit()
            if self.opened is None and entries:
                self.open_image(entries[0].name)

        self._run(f"adding {len(images)} images", lambda: project.add_images(images), done)

    def open_image(self, name: str) -> None:
        """Show another image of the project; the one before is saved and its layers are removed.

        Raises
        ------
        InputError
            If there is no such image, or the one before cannot be saved.
        """
        project = self._require()
        project.spec.entry(name)
        self._check_free()
        if self.opened is not None and self.opened.name == name and self.opened.present:
            return
        if not self.close_image():
            raise InputError("labels", "of the image before cannot be saved", "See the line at the bottom")

        def work() -> tuple[Image, NDArray[Any], SliceMarks, Verdicts]:
            image = project.image(name)
            verdicts = _verdicts(project, name, image.spatial_shape)
            if project.read_only and not project.has_labels(name):
                return image, np.zeros(image.spatial_shape, np.uint8), SliceMarks(), verdicts
            store = project.labels(name)
            return image, store.read(), store.marks, verdicts

        self._run(f"opening {name}", work, lambda found: self._show(project, name, *found))

    @timed
    def _show(
        self,
        project: Project,
        name: str,
        image: Image,
        labels: NDArray[Any],
        saved: SliceMarks,
        verdicts: Verdicts,
    ) -> None:
        if self.project is not project:
            return
        if self._left is not None:
            self._left.remove_layers()
            self._left = None
        layers = own.add_image_layers(self.viewer, image, name)
        largest = [row.value for row in self.choices.classes] + [self.choices.background_value]
        if not np.can_cast(lay.dtype_for(largest), labels.dtype):
            labels = labels.astype(np.promote_types(labels.dtype, lay.dtype_for(largest)))
        colors = self.choices.colors()
        layer = own.add_annotation_layer(
            self.viewer, image, labels, name, colors, editable=not project.read_only
        )
        self.opened = Opened(self.choices, name, layers, layer, marks_of(saved), verdicts)
        if verdicts.unread:
            self.failed.emit(verdicts.unread)
        with napari_works("select a layer"):
            if self.choices.classes:
                layer.selected_label = self.choices.classes[0].value
            self.viewer.layers.selection.active = layer
        if not project.read_only:
            self._follow(self.opened)
        self.choices.choose(self.opened.images, self.opened.labels)

    def _adopt(self, name: str, images: Sequence[Any], labels: Any) -> None:
        """Layers on screen have become an image of the project: labels are saved from now on, what is there included."""
        present = list(map(lay.plain, self.viewer.layers))
        if any(layer not in present for layer in images):
            self.open_image(name)
            return
        if labels not in present or lay.labels_problem(images, labels):
            self.choices.choose(images, None)
            labels = self.choices.new_labels()
        self.choices.choose(images, labels)
        self.opened = Opened(self.choices, name, images, labels, self.choices.marks)
        self._follow(self.opened)

    def _follow(self, opened: Opened) -> None:
        project, name = self._require(), opened.name
        try:
            store = project.labels(name)
        except CtxsegError as error:
            self.failed.emit(str(error))
            return
        opened.follow(store, lambda: self._require().labels(name), self._background, self._interval)
        assert opened.autosave is not None
        if not opened.verdicts.unread:  # else the file stays as it is, for whoever can read it
            opened.verdicts.file = verdicts_of(project.labels_path(name))
        opened.autosave.changed.connect(self.changed.emit)
        self.changed.emit()

    def close_image(self, seconds: float = 10.0, *, keep: bool = False) -> bool:
        """Save the open image's labels and remove its layers, with its predictions; `keep`: leave them in the viewer.

        Returns
        -------
        bool
            Whether everything is on disk; if not, nothing was removed.
        """
        opened = self.opened
        if opened is None:
            return True
        saved = opened.verdicts.flush() & (opened.autosave is None or opened.autosave.flush(seconds))
        if not saved and not keep:
            return False
        opened.close(0.0)
        self.opened = None
        if not keep:
            opened.remove_layers()
        return saved

    # ------------------------------------------------------------ marks and earlier states

    def toggle_mark(self) -> str:
        """Count the shown slice as fully labelled, or no longer; says what was done.

        Raises
        ------
        InputError
            If there is nothing to mark.
        """
        if self.opened is None:
            raise InputError("slice", "cannot be marked", "Open an image of the project")
        text = self.opened.toggle_mark()
        self.effort.note(time.monotonic())
        self.choices.changed.emit()
        return text

    def generations(self) -> list[Generation]:
        """Earlier states of the open image's labels, newest first."""
        project = self._require()
        if self.opened is None or not project.has_labels(self.opened.name):
            return []
        from napari_ctxseg.project.generations import History, history_of

        return History(history_of(project.labels_path(self.opened.name))).all()[::-1]

    def restore(self, number: int) -> None:
        """Make an earlier state of the open image the present one; the present one becomes an earlier state.

        Raises
        ------
        InputError
            If the labels on screen cannot be saved first.
        """
        project, opened = self._require(), self.opened
        project.check_writable()
        if opened is None:
            raise InputError("labels", "are not open", "Open the image first")
        self._pause()
        opened.labels.editable = False

        def work() -> tuple[NDArray[Any], SliceMarks]:
            store = project.labels(opened.name)
            store.restore(number)
            return store.read(), store.marks

        def go_on() -> None:
            opened.labels.editable = True
            self._follow(opened)

        def done(found: tuple[NDArray[Any], SliceMarks]) -> None:
            labels, saved = found
            opened.marks = marks_of(saved)
            opened.labels.data = labels.astype(np.promote_types(labels.dtype, opened.labels.data.dtype))
            go_on()
            self.choices.changed.emit()

        self._run("restoring", work, done, go_on)


def _verdicts(project: Project, name: str, shape: tuple[int, ...]) -> Verdicts:
    """What was decided in the Review earlier; a file that cannot be read is told of in `unread`, and left alone."""
    try:
        return Verdicts(shape, load_verdicts(verdicts_of(project.labels_path(name)), shape))
    except CtxsegError as error:
        found = Verdicts(shape)
        found.unread = f"What was decided in the Review is not known: {error}"
        return found
