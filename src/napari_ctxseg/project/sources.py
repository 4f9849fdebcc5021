"""The images' own files: copied into the project or referred to, fingerprinted, and read only if they are unchanged."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_ctxseg import dataset, io
from napari_ctxseg.atomic import file_error, write_atomic
from napari_ctxseg.config import DataConfig
from napari_ctxseg.errors import FileError, InputError
from napari_ctxseg.io import metaimage, tiff
from napari_ctxseg.project.schema import FileRef, ImageEntry, Place, safe_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from napari_ctxseg.image import Image

IMAGES = "images"
#: Sets of images of at least this many bytes are referred to, not copied, unless asked otherwise.
LARGE = 2_000_000_000
_BLOCK = 1 << 20


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises
    ------
    FileError
        If it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise FileError(
            path, f"cannot be read: {error.strerror or error}", "Check the file and the drive"
        ) from error
    return digest.hexdigest()


def companions(files: Sequence[Path]) -> list[Path]:
    """Files that belong to image files: the voxels of ``.mhd`` headers.

    Raises
    ------
    FileError
        If a header is damaged.
    """
    found = [metaimage.voxel_file(path) for path in files if io.suffix_of(path) == ".mhd"]
    return [path for path in dict.fromkeys(found) if path is not None]


def size_of(files: Sequence[Path]) -> int:
    """Bytes that files take.

    Raises
    ------
    FileError
        If one is not there.
    """
    try:
        return sum(path.stat().st_size for path in files)
    except OSError as error:
        raise FileError(
            error.filename, f"cannot be read: {error.strerror}", "Check the file and the drive"
        ) from error


def copied(project: Path, name: str, files: Sequence[Path]) -> list[FileRef]:
    """Copy files into ``images/NAME/`` and compare the copies with the originals.

    Raises
    ------
    FileError
        If the disk is too full, or a copy differs from the original.
    """
    folder = project / IMAGES / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free, need = shutil.disk_usage(folder).free, size_of(files)
    except OSError as error:
        raise file_error(folder, error) from error
    if need > free:
        raise FileError(
            folder, f"has {free / 1e6:.0f} MB left, but the images take {need / 1e6:.0f} MB",
            "Free some space, or refer to the images instead of copying them",
        )  # fmt: skip
    refs, taken = [], list[str]()
    for source in files:
        # The name of an .mhd's voxels is written in its header and cannot change.
        own = _own_name(source, taken)
        if len(files) > 1 and own != source.name and companions(files):
            raise FileError(
                source, "has a name that cannot be used on every system", "Rename it, or convert it"
            )
        taken.append(own)
        digest = sha256_of(source)
        write_atomic(folder / own, lambda temp, source=source: _copy(source, temp))  # type: ignore[misc]
        if sha256_of(folder / own) != digest:
            raise FileError(
                folder / own, "differs from the file it was copied from", "Check the disk, then try again"
            )
        refs.append(FileRef(path=f"{IMAGES}/{name}/{own}", sha256=digest, size=source.stat().st_size))
    return refs


def _own_name(source: Path, taken: Sequence[str]) -> str:
    """A safe name with the file's own suffix, by which its format is known."""
    stem = io.stem_of(source)
    ending, number = source.name[len(stem) :], 1
    own = first = f"{safe_name(stem)}{ending}"
    while own.casefold() in {name.casefold() for name in taken}:
        number += 1
        own = f"{first.removesuffix(ending)}-{number}{ending}"
    return own


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def referred(files: Sequence[Path], root: str, folder: Path) -> list[FileRef]:
    """References to files below a folder.

    Raises
    ------
    InputError
        If one lies elsewhere.
    """
    refs = []
    for path in files:
        try:
            inner = path.absolute().relative_to(folder.absolute()).as_posix()
            refs.append(FileRef(path=inner, sha256=sha256_of(path), size=path.stat().st_size, root=root))
        except ValueError as error:
            raise InputError(
                path, f"cannot be referred to from {folder} ({error})", "Copy it into the project"
            ) from error
    return refs


def locate(project: Path, ref: FileRef, roots: Mapping[str, Path]) -> Path:
    """Where a file is on this machine.

    Raises
    ------
    InputError
        If its root is unknown here, or a link leads out of the project.
    """
    if ref.root is not None:
        if ref.root not in roots:
            raise InputError(
                ref.path,
                f"lies in the folder {ref.root!r}, which this machine does not know",
                f"Give --root {ref.root}=DIR",
            )
        return roots[ref.root] / ref.path
    path = project / ref.path
    try:
        inside = path.resolve().is_relative_to(project.resolve())
    except (OSError, RuntimeError):  # a loop of links
        inside = False
    if not inside:
        raise InputError(
            path, "is a link that leads out of the project", "Copy the file itself into the project"
        )
    return path


def verify(path: Path, ref: FileRef) -> None:
    """Compare a file with what it was when it was added.

    Raises
    ------
    FileError
        If it is not there.
    InputError
        If its content is another.
    """
    if not path.is_file():
        raise FileError(path, "is not there", "Check the drive, or name where it is now with --root")
    if path.stat().st_size != ref.size or sha256_of(path) != ref.sha256:
        raise InputError(
            path, "has changed since it was added to the project, so its labels may not fit any more",
            "Put the file back as it was, or add it as a new image",
        )  # fmt: skip


def read_image(files: Sequence[Path], name: str, fourth: Literal["channel"] | None = None) -> Image:
    """Read an image of one file, or of one for each channel.

    Raises
    ------
    FileError, InputError
        As `napari_ctxseg.io.read` and `napari_ctxseg.dataset.read_case`.
    """
    if len(files) == 1:
        return io.read(files[0], fourth=fourth)
    return dataset.read_case(dataset.Pair(name, tuple(files)), DataConfig()).image


def read_entry(project: Path, entry: ImageEntry, roots: Mapping[str, Path]) -> Image:
    """Read an image of a project, if its files are what they were.

    Raises
    ------
    CtxsegError
        If a file is missing, has changed, or cannot be read.
    """
    paths = []
    for ref in (*entry.files, *entry.beside):
        paths.append(locate(project, ref, roots))
        verify(paths[-1], ref)
    image = read_image(paths[: len(entry.files)], entry.name, entry.fourth)
    if image.spatial_shape != entry.shape:
        raise InputError(
            entry.name, f"has the shape {image.spatial_shape}, not {entry.shape} as project.yaml says", ""
        )
    if entry.place is None:
        return replace(image, axes=image.axes[: -len(entry.axes)] + entry.axes)
    place = entry.place
    axes = ("c" if image.axes.startswith("c") else "") + entry.axes
    return replace(image, axes=axes, spacing=place.spacing, affine=np.array(place.affine), unit=place.unit)


def stored_array(project: Path, name: str, image: Image) -> tuple[list[FileRef], Place]:
    """Write an image that has no file of its own into ``images/NAME/``, one TIFF for each channel, without loss.

    Raises
    ------
    FileError
        If it cannot be written, or its type not be kept in a TIFF.
    """
    folder = project / IMAGES / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise file_error(folder, error) from error
    refs = []
    for number, channel in enumerate(image.channel_array):
        path = folder / f"{name}_{number:04d}.ome.tif"
        values = channel.astype(np.uint8) if channel.dtype == bool else channel
        tiff.save_map(path, values, replace(image, source=None), suffix=".ome.tif")
        inner = f"{IMAGES}/{name}/{path.name}"
        refs.append(FileRef(path=inner, sha256=sha256_of(path), size=path.stat().st_size))
    affine = tuple(tuple(float(v) for v in row) for row in image.affine)
    return refs, Place(spacing=image.spacing, affine=affine, unit=image.unit)
