"""Predictions of a run: ``predictions/RUN/IMAGE.zarr``, complete only when its manifest says so."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from napari_ctxseg import __version__
from napari_ctxseg.atomic import file_error, sync_folder, write_bytes_atomic
from napari_ctxseg.errors import FileError
from napari_ctxseg.project.chunks import ChunkFolder, chunk_shape, remove_folder
from napari_ctxseg.project.schema import check_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

PREDICTIONS, MANIFEST = "predictions", "manifest.json"
VERSION = 1
#: What a prediction may hold: `labels` in class values (or one mask for each region), the others one map for each class.
ARRAYS = ("labels", "probabilities", "fp", "fn", "uncertainty")


@dataclass(frozen=True)
class Prediction:
    """A complete prediction of one image.

    Parameters
    ----------
    path : Path
        Its zarr group.
    image, run : str
        Names.
    arrays : tuple of str
        What it holds, of `ARRAYS`.
    names : tuple of str
        Classes or regions along the first axis of the maps; of `labels` too where there are regions.
    regions : bool
        Whether `labels` holds one mask for each region.
    sha256 : str
        Of the image's files when it was predicted.
    """

    path: Path
    image: str
    run: str
    arrays: tuple[str, ...]
    names: tuple[str, ...] = ()
    regions: bool = False
    sha256: str = ""

    def read(self, name: str = "labels", index: int | None = None) -> NDArray[Any]:
        """An array of it, or only slice `index` along the first spatial axis of a volume.

        Raises
        ------
        FileError
            If it is damaged, or there is no such array.
        """
        if name not in self.arrays:
            raise FileError(self.path, f"holds no {name}", f"It holds {', '.join(self.arrays)}")
        try:
            array = zarr.open_array(ChunkFolder(self.path / name, read_only=True), mode="r")
            stacked = self.regions if name == "labels" else name != "uncertainty"
            return np.asarray(array[...] if index is None else array[:, index] if stacked else array[index])
        except (ValueError, RuntimeError, OSError) as error:
            raise FileError(self.path / name, "is damaged", "Predict the image again") from error


def write_prediction(
    project: Path,
    run: str,
    image: str,
    arrays: Mapping[str, NDArray[Any]],
    *,
    names: tuple[str, ...] = (),
    regions: bool = False,
    sha256: str = "",
) -> Prediction:
    """Write a prediction; one that was there stays until the new one is complete.

    Parameters
    ----------
    project : Path
        Project folder.
    run, image : str
        Names.
    arrays : mapping
        `labels` of shape ``S``, or ``(R, *S)`` with regions; `probabilities`, `fp`, `fn` of shape ``(K, *S)``;
        `uncertainty` of shape ``S``.
    names, regions, sha256
        See `Prediction`.

    Raises
    ------
    FileError
        If the disk is full or the folder gone.
    ValueError
        If an array has another name, or there are no labels.
    """
    if "labels" not in arrays or set(arrays) - set(ARRAYS):
        raise ValueError(f"a prediction holds labels and perhaps {ARRAYS[1:]}, not {sorted(arrays)}")
    folder = project / PREDICTIONS / check_name(run)
    target, temp = folder / f"{check_name(image)}.zarr", folder / f".{image}.{os.getpid()}.new"
    record = {
        "version": VERSION, "made_by": __version__, "image": image, "run": run, "arrays": list(arrays), "names": list(names),
        "regions": regions, "sha256": sha256,
    }  # fmt: skip
    if not project.is_dir():
        raise FileError(project, "is not there any more", "Check the drive; nothing was written")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_folder(temp)
        temp.mkdir()
        zarr.create_group(ChunkFolder(temp))
        for name, values in arrays.items():
            _write_array(temp / name, values, stacked=regions if name == "labels" else name != "uncertainty")
        # Before this file is there the prediction does not count.
        write_bytes_atomic(temp / MANIFEST, json.dumps(record).encode())
        remove_folder(target)
        os.rename(temp, target)
        sync_folder(folder)
    except OSError as error:
        raise file_error(target, error) from error
    finally:
        remove_folder(temp)
    return _parse(target)


def _write_array(path: Path, values: NDArray[Any], *, stacked: bool) -> None:
    path.mkdir()
    shape = values.shape
    chunks = (1, *chunk_shape(shape[1:])) if stacked else chunk_shape(shape)
    array = zarr.create_array(
        store=ChunkFolder(path), shape=shape, chunks=chunks, dtype=values.dtype, fill_value=0,
        compressors=[ZstdCodec(level=1), Crc32cCodec()], chunk_key_encoding={"name": "default", "separator": "."},
        config={"write_empty_chunks": True},
    )  # fmt: skip
    array[...] = values
    sync_folder(path)


def find_predictions(project: Path, run: str) -> dict[str, Prediction]:
    """Complete predictions of a run, by the image's name. Those half written or damaged are left out."""
    folder = project / PREDICTIONS / check_name(run)
    found = {}
    for path in sorted(folder.glob("*.zarr")) if folder.is_dir() else []:
        try:
            prediction = _parse(path)
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if prediction.image == path.stem and prediction.run == run:
            found[prediction.image] = prediction
    return found


def _parse(path: Path) -> Prediction:
    values = json.loads((path / MANIFEST).read_bytes())
    if values["version"] > VERSION:
        raise ValueError("made by a newer version")
    arrays = tuple(name for name in map(str, values["arrays"]) if name in ARRAYS)
    return Prediction(
        path, str(values["image"]), str(values["run"]), arrays, tuple(map(str, values["names"])), bool(values["regions"]),
        str(values["sha256"]),
    )  # fmt: skip
