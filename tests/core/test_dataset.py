"""Files found, paired and checked before anything is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
import tifffile

from napari_ctxseg import dataset
from napari_ctxseg.commands.predict import label_name
from napari_ctxseg.config import DataConfig
from napari_ctxseg.errors import FileError, InputError

if TYPE_CHECKING:
    from pathlib import Path


def touch(folder: Path, *names: str) -> list[Path]:
    folder.mkdir(exist_ok=True, parents=True)
    for name in names:
        tifffile.imwrite(folder / name, np.zeros((4, 5), np.uint8))
    return [folder / name for name in names]


def test_places(tmp_path: Path) -> None:
    touch(tmp_path / "d", "b.tif", "a.tif", ".hidden.tif")
    (tmp_path / "d" / "notes.txt").write_text("x")
    listing = tmp_path / "list.txt"
    listing.write_text(f"# two files\nd/a.tif\n\n{tmp_path / 'd' / 'b.tif'}\n")
    both = [tmp_path / "d" / "a.tif", tmp_path / "d" / "b.tif"]
    assert dataset.find_files([str(tmp_path / "d")]) == both
    assert dataset.find_files([f"@{listing}"]) == both
    assert dataset.find_files([str(tmp_path / "d" / "*.tif")]) == both
    assert dataset.find_files([str(both[1]), str(both[1])]) == both[1:]
    for place in (str(tmp_path / "nothing*"), str(tmp_path / "no"), f"@{tmp_path / 'no.txt'}"):
        with pytest.raises(InputError):
            dataset.find_files([place])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: holds no images.*\.nii\.gz"):
        dataset.find_files([str(tmp_path / "empty")])


def names(pairs: list[dataset.Pair]) -> list[tuple[str, list[str], str | None]]:
    return [(p.name, [f.name for f in p.images], p.label.name if p.label else None) for p in pairs]


def test_labels_by_stem_or_by_beginning(tmp_path: Path) -> None:
    images = touch(tmp_path / "i", "a.tif", "Image_01L.tif", "Image_01.tif")
    labels = touch(tmp_path / "l", "a.png", "Image_01L_1stHO.tif", "Image_01.tif", "Image_01_extra.tif")
    with pytest.raises(InputError, match=r"a\.png"):
        dataset.pair_files(images[:1], [*labels[:1], tmp_path / "l" / "a.tif"])
    assert names(dataset.pair_files(images, labels)) == [
        ("a", ["a.tif"], "a.png"),
        ("Image_01L", ["Image_01L.tif"], "Image_01L_1stHO.tif"),
        ("Image_01", ["Image_01.tif"], "Image_01.tif"),
    ]
    with pytest.raises(InputError, match="several label files"):
        dataset.pair_files(touch(tmp_path / "i", "x.tif"), touch(tmp_path / "l", "x_1.tif", "x_2.tif"))
    with pytest.raises(InputError, match=r"zz: has no label file \(1 of 2"):
        dataset.pair_files([images[0], *touch(tmp_path / "i", "zz.tif")], labels)


def test_channel_suffixes_where_they_make_sense(tmp_path: Path) -> None:
    channels = touch(tmp_path / "i", "p1_0001.tif", "p1_0000.tif", "p2_0000.tif", "p2_0001.tif")
    labels = touch(tmp_path / "l", "p1.tif", "p2.tif")
    assert names(dataset.pair_files(channels, labels)) == [
        ("p1", ["p1_0000.tif", "p1_0001.tif"], "p1.tif"),
        ("p2", ["p2_0000.tif", "p2_0001.tif"], "p2.tif"),
    ]
    with pytest.raises(InputError, match=r"channels \[1\]"):
        dataset.pair_files(channels[:1], labels)
    # A frame number is no channel: each of these has labels of its own.
    frames = touch(tmp_path / "f", "SC_0048.tif", "SC_0059.tif")
    own = touch(tmp_path / "fl", "SC_0048.tif", "SC_0059.tif")
    assert [p.name for p in dataset.pair_files(frames, own)] == ["SC_0048", "SC_0059"]
    assert [p.name for p in dataset.pair_files(frames, None, 1)] == ["SC_0048", "SC_0059"]
    assert [p.name for p in dataset.pair_files(channels, None, 2)] == ["p1", "p2"]


def test_one_label_serves_one_image(tmp_path: Path) -> None:
    images = touch(tmp_path / "i", "a.tif", "a_b.tif")
    labels = touch(tmp_path / "l", "a_b_c.tif")
    with pytest.raises(InputError, match="label of several images"):
        dataset.pair_files(images, labels)


def test_channels_are_stacked(tmp_path: Path) -> None:
    for i in range(2):
        tifffile.imwrite(tmp_path / f"p_000{i}.tif", np.full((4, 5), i, np.uint16))
    tifffile.imwrite(tmp_path / "lab.tif", np.ones((4, 5), np.uint8))
    pair = dataset.Pair("p", (tmp_path / "p_0000.tif", tmp_path / "p_0001.tif"), tmp_path / "lab.tif")
    case = dataset.read_case(pair, DataConfig())
    assert case.image.axes == "cyx"
    assert case.image.channel_array.mean(axis=(1, 2)).tolist() == [0, 1]
    tifffile.imwrite(tmp_path / "p_0001.tif", np.zeros((4, 6), np.uint16))
    with pytest.raises(InputError, match=r"\(4, 5\).*\(4, 6\)"):
        dataset.read_case(pair, DataConfig())


def save(path: Path, shape: tuple[int, ...], affine: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(np.ones(shape, np.uint8), affine), path)
    return path


def test_grids_must_agree(tmp_path: Path) -> None:
    image = save(tmp_path / "i.nii.gz", (6, 7, 8), np.diag([1.0, 1, 5, 1]))
    near = np.diag([1.0, 1, 5, 1])
    near[0, 3] = 1e-5
    dataset.read_case(dataset.Pair("x", (image,), save(tmp_path / "n.nii.gz", (6, 7, 8), near)), DataConfig())
    far = near.copy()
    far[2, 3] = 10.0
    with pytest.raises(InputError, match=r"2 voxels apart \(origins .*10.* and") as caught:
        dataset.read_case(
            dataset.Pair("x", (image,), save(tmp_path / "f.nii.gz", (6, 7, 8), far)), DataConfig()
        )
    assert "Resample" in str(caught.value)
    with pytest.raises(InputError, match=r"\(8, 7, 6\).*\(6, 7, 8\).*swapped"):
        dataset.read_case(
            dataset.Pair("x", (image,), save(tmp_path / "t.nii.gz", (8, 7, 6), near)), DataConfig()
        )


def test_broken_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "bad.nii.gz").write_bytes(b"not gzip")
    with pytest.raises(FileError, match=r"bad\.nii\.gz"):
        dataset.read_case(dataset.Pair("x", (tmp_path / "bad.nii.gz",)), DataConfig())


def test_predictions_of_channel_files_are_named_like_their_labels(tmp_path: Path) -> None:
    channels = touch(tmp_path, "p1_0000.tif", "p1_0001.tif")
    assert [label_name(pair) for pair in dataset.pair_files(channels, None, 2)] == ["p1.tif"]
    assert label_name(dataset.Pair("eye", (tmp_path / "eye.jpg",))) == "eye.png"
