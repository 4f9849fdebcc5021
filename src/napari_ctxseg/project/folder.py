"""`Project`: a folder with images, autosaved labels, rounds, runs and predictions. The folder is the interface."""

from __future__ import annotations

import secrets
import shutil
from typing import TYPE_CHECKING, Any

from napari_ctxseg.atomic import file_error, sweep_stale
from napari_ctxseg.errors import CtxsegError, InputError
from napari_ctxseg.project import adding, manifest, snapshot, sources
from napari_ctxseg.project import roots as machine
from napari_ctxseg.project.adding import NewImage
from napari_ctxseg.project.locks import Lock, LockedError, acquire
from napari_ctxseg.project.making import new_spec, with_classes
from napari_ctxseg.project.marks import STATE
from napari_ctxseg.project.places import LABELS, LOCK, SUFFIX, copy_project, unnamed_folder
from napari_ctxseg.project.store import LabelStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_ctxseg.cases import Case
    from napari_ctxseg.image import Image
    from napari_ctxseg.project.schema import (
        ClassSpec,
        ImageEntry,
        Policy,
        ProjectSpec,
        Role,
        SplitSpec,
    )


class Project:
    """An open project. Make one with `create`, `open` or `unnamed`; close it, or use it in a ``with`` block.

    While it is open for writing it holds the lock of labels and images. Runs have locks of their own, and rounds are
    files of their own, so a training may add both to a project that is open elsewhere.

    Parameters
    ----------
    path : Path
        The folder.
    spec : ProjectSpec
        What ``project.yaml`` says.
    lock : Lock or None
        None: for reading only.
    known : mapping
        Root name -> folder on this machine.
    notice : str
        Why it is open for reading only, for the person; empty otherwise.
    """

    def __init__(
        self, path: Path, spec: ProjectSpec, lock: Lock | None, known: Mapping[str, Path], notice: str = ""
    ) -> None:
        self.path, self.spec, self.lock, self.notice = path, spec, lock, notice
        self.roots = dict(known)

    # ---- opening and closing

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        classes: Sequence[ClassSpec] | Mapping[str, int] = (),
        policy: Policy = "masks",
        background: int | None = None,
        regions: Mapping[str, Sequence[int]] | None = None,
        name: str = "",
        split: SplitSpec | None = None,
    ) -> Project:
        """Make a project in a new or empty folder.

        Parameters
        ----------
        path : Path
            The folder, by custom ``NAME.ctxseg``.
        classes : sequence of ClassSpec, or mapping of name to value
            May be empty at first; a mapping gets colours.
        policy : "masks" or "scribbles"
            What an unpainted 0 means: background in labelled slices, or unlabelled everywhere.
        background : int, optional
            With scribbles: the value painted for background; the first free value when left out.
        regions : mapping, optional
            Overlapping regions, name -> values.
        name : str
            For people; the folder's when left out.
        split : SplitSpec, optional
            Seed and shares of validation and test.

        Raises
        ------
        InputError
            If the folder is not empty, or the settings do not fit together.
        """
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(
                path, "is there already and not empty", "Choose a new folder, or open the project in it"
            )
        spec = new_spec(
            name or path.name.removesuffix(SUFFIX),
            classes,
            policy,
            background=background,
            regions=regions,
            split=split,
        )
        try:
            path.mkdir(parents=True, exist_ok=True)
            (path / LABELS).mkdir(exist_ok=True)
        except OSError as error:
            raise file_error(path, error) from error
        lock = acquire(path / LABELS / LOCK, "the labels of this project")
        try:
            manifest.save(path, spec)
        except BaseException:
            lock.release()
            raise
        return cls(path, spec, lock, {})

    @classmethod
    def open(cls, path: Path, roots: Mapping[str, Path] | None = None, *, read_only: bool = False) -> Project:
        """Open a project.

        Somebody else's lock is no error: the project is then open for reading only, and `notice` says who writes.

        Parameters
        ----------
        path : Path
            The folder.
        roots : mapping, optional
            Where this machine keeps folders that the project refers to; remembered for the next time.
        read_only : bool
            Do not ask for the lock.

        Raises
        ------
        InputError
            If there is no project, it is damaged (an earlier state is offered), or from a newer version.
        """
        spec = manifest.load(path)
        known = machine.known(spec.id)
        if roots:
            known |= dict(roots)
            machine.remember(spec.id, known)
        lock, notice = None, "" if not read_only else "opened for reading only, as asked"
        if not read_only:
            try:
                (path / LABELS).mkdir(exist_ok=True)
                lock = acquire(path / LABELS / LOCK, "the labels of this project")
                sweep_stale(path)
            except LockedError as error:
                notice = str(error)
            except (CtxsegError, OSError) as error:  # a read-only drive, a folder of somebody else
                notice = f"{path}: cannot be written to, so it is open for reading only ({error})"
        return cls(path, spec, lock, known, notice)

    @classmethod
    def unnamed(cls, **settings: object) -> Project:
        """Make a project in the person's cache folder, for those who have not yet thought of a name; see `save_as`.

        Takes the settings of `create`.
        """
        path = unnamed_folder() / f"{secrets.token_hex(6)}{SUFFIX}"
        return cls.create(path, **{"name": "unnamed", **settings})  # type: ignore[arg-type]

    @property
    def read_only(self) -> bool:
        """Whether labels, images and classes cannot be changed here."""
        return self.lock is None or not self.lock.held

    @property
    def is_unnamed(self) -> bool:
        """Whether it still lies in the cache folder."""
        return self.path.resolve().parent == unnamed_folder().resolve()

    def close(self) -> None:
        """Let others write. Does nothing a second time."""
        if self.lock is not None:
            self.lock.release()

    def __enter__(self) -> Project:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def save_as(self, path: Path) -> Project:
        """Copy the whole project to a new folder and open it there; an unnamed one is removed from the cache.

        This one is closed.

        Raises
        ------
        InputError
            If the folder is not empty.
        FileError
            If there is no room; the project stays where it was.
        """
        copy_project(self.path, path)
        moved, read_only = self.is_unnamed, self.read_only
        self.close()
        if moved and not read_only:
            shutil.rmtree(self.path, ignore_errors=True)
        project = Project.open(path)
        if moved and not project.read_only:
            project.update(name=path.name.removesuffix(SUFFIX))
        return project

    # ---- what project.yaml says

    def update(self, **fields: Any) -> None:
        """Replace fields of `spec` and write them: ``name``, ``regions``, ``split``, ``images``, ``classes``.

        Raises
        ------
        InputError
            If they do not fit together, the project is open for reading only, or was changed by another program since.
        FileError
            If they cannot be written; what was there before stays.
        """
        self._write(self.spec.updated(**fields))

    def set_classes(self, classes: Sequence[ClassSpec] | Mapping[str, int]) -> None:
        """Replace the classes; one that would get another value raises `InputError`.

        Values are never renumbered. What is painted in a class that is left out stays in the labels.
        """
        self._write(with_classes(self.spec, classes))

    def set_role(self, group: str, role: Role) -> None:
        """Decide by hand what a patient is for.

        Raises
        ------
        InputError
            If there is no such patient.
        """
        if group not in {image.group for image in self.spec.images}:
            raise InputError(group, "is no patient of this project", "See `ctxseg project info`")
        self.update(split={**self.spec.split.model_dump(), "groups": {**self.spec.split.groups, group: role}})

    def role(self, name: str) -> Role:
        """What an image is for, by its patient."""
        return self.spec.split.groups.get(self.spec.entry(name).group, "train")

    def _write(self, spec: ProjectSpec) -> None:
        self.check_writable()
        if manifest.load(self.path) != self.spec:
            raise InputError(
                self.path / manifest.FILE,
                "was changed by another program since it was opened",
                "Close the project and open it again",
            )
        manifest.save(self.path, spec)
        self.spec = spec

    def check_writable(self) -> None:
        """Refuse to go on where this project is open for reading only.

        Raises
        ------
        InputError
            Saying why it is.
        """
        if self.read_only:
            raise InputError(
                self.path, self.notice or "has been closed", "Close it where it is being changed"
            )

    # ---- images

    @property
    def names(self) -> list[str]:
        """Names of the images, in their order."""
        return [image.name for image in self.spec.images]

    def add_image(
        self,
        files: Sequence[Path],
        name: str | None = None,
        group: str | None = None,
        *,
        copy: bool | None = None,
    ) -> ImageEntry:
        """Add one image, see `add_images`."""
        return self.add_images([NewImage(tuple(files), name, group)], copy=copy)[0]

    def add_images(
        self,
        images: Sequence[NewImage],
        *,
        copy: bool | None = None,
        root: tuple[str, Path] | None = None,
        show: Callable[[float], None] = lambda done: None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> list[ImageEntry]:
        """Add images and their labels, see `napari_ctxseg.project.adding.add_images`."""
        return adding.add_images(self, images, copy=copy, root=root, show=show, tell=tell)

    def add_array(self, image: Image, name: str, group: str | None = None) -> ImageEntry:
        """Add an image that has no file, such as a layer's data, see `napari_ctxseg.project.adding.add_array`."""
        return adding.add_array(self, image, name, group)

    def remove_image(self, name: str) -> None:
        """Take an image off the list. Its labels and files stay in the folder."""
        gone = self.spec.entry(name)
        self.update(images=[image.model_dump() for image in self.spec.images if image != gone])

    def image(self, name: str) -> Image:
        """Read an image.

        Raises
        ------
        InputError
            If its file has changed since it was added, lies in a root that is unknown here, or there is no such image.
        FileError
            If it is missing or cannot be read.
        """
        return sources.read_entry(self.path, self.spec.entry(name), self.roots)

    # ---- labels

    def labels(self, name: str) -> LabelStore:
        """Labels of an image, made when there are none yet and the project is open for writing.

        Raises
        ------
        FileError
            If they are damaged, or there are none and none can be made.
        InputError
            If they are of another shape than the image.
        """
        return self.labels_of(self.spec.entry(name))

    def labels_of(self, entry: ImageEntry) -> LabelStore:
        """As `labels`, of an image that may not be on the list yet."""
        path = self.path / LABELS / f"{entry.name}.zarr"
        if not self.read_only and not _is_there(path):
            values = [c.value for c in self.spec.classes]
            return LabelStore.create(
                path, entry.shape, largest=max([255, *values, self.spec.background or 0])
            )
        store = LabelStore.open(path, read_only=self.read_only)
        if store.shape != entry.shape:
            raise InputError(
                path, f"holds labels of shape {store.shape}, but the image has {entry.shape}",
                "Move the folder away to begin anew, or put back the image it was made on",
            )  # fmt: skip
        return store

    def labels_path(self, name: str) -> Path:
        """Folder of an image's labels."""
        return self.path / LABELS / f"{self.spec.entry(name).name}.zarr"

    def has_labels(self, name: str) -> bool:
        """Whether an image has labels, perhaps empty ones."""
        return _is_there(self.labels_path(name))

    def import_labels(self, name: str, labels: NDArray[Any], *, complete: bool = True) -> None:
        """Take labels from elsewhere into the store, see `napari_ctxseg.project.adding.import_labels`."""
        adding.import_labels(self, name, labels, complete=complete)

    # ---- for training

    def cases(self, roles: Sequence[Role] = ("train", "validation"), *, every: bool = False) -> list[Case]:
        """Images of patients in these roles with what is labelled; a snapshot that later strokes do not change.

        Parameters
        ----------
        roles : sequence of str
            ``"train"``, ``"validation"``, ``"test"``.
        every : bool
            Also those on which nothing is labelled.

        Raises
        ------
        CtxsegError
            If an image or its labels cannot be read.
        """
        return snapshot.cases_of(self, roles, every=every)

    def groups(self, role: Role) -> list[str]:
        """Patients in a role, sorted."""
        return sorted({i.group for i in self.spec.images if self.role(i.name) == role})


def _is_there(path: Path) -> bool:
    """Whether there are labels; a kill may have left them under their second name for `LabelStore.open` to mend."""
    return path.exists() or (path.with_name(f"{path.name}.new") / STATE).is_file()
