"""Tiny made data sets in the folders of the papers' sets. Values and shapes are small; names are the sets' own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import PIL.Image
import SimpleITK as sitk
import tifffile

if TYPE_CHECKING:
    from pathlib import Path


def volume(seed, shape=(4, 40, 44), values=(1,)):
    """A bright box for each value, in noise; a slice at each end is empty."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    for i, value in enumerate(values):
        start = 4 + 8 * (i % 4), 6 + 8 * (i // 4)
        labels[1:-1, start[0] : start[0] + 8, start[1] : start[1] + 8] = value
    image = rng.normal(100, 5, shape) + 50 * labels
    return image.astype(np.float32), labels


def save_nifti(path: Path, array, spacing=(3.0, 1.5, 1.5)):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array.T, np.diag([-spacing[2], -spacing[1], spacing[0], 1.0]))
    image.header.set_xyzt_units("mm")
    image.to_filename(path)


def save_mhd(path: Path, array, spacing=(3.0, 0.8, 0.8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing[::-1])
    image.SetOrigin((5.0, -7.0, 11.0))
    sitk.WriteImage(image, str(path))


def promise12(root: Path, count=4):
    for i in range(count):
        image, labels = volume(i, (5, 60, 64))
        folder = root / ("TrainingData_Part1" if i < 2 else "TrainingData_Part2")
        save_mhd(folder / f"Case{i:02d}.mhd", image.astype(np.int16))
        save_mhd(folder / f"Case{i:02d}_segmentation.mhd", labels)
    save_mhd(root / "TestData" / "Case00.mhd", volume(9)[0].astype(np.int16))
    return count


def acdc(root: Path, count=3):
    for i in range(1, count + 1):
        folder = root / "database" / "training" / f"patient{i:03d}"
        for frame in (1, 12):
            image, labels = volume(i + frame, values=(1, 2, 3))
            save_nifti(folder / f"patient{i:03d}_frame{frame:02d}.nii.gz", image)
            save_nifti(folder / f"patient{i:03d}_frame{frame:02d}_gt.nii.gz", labels)
        save_nifti(folder / f"patient{i:03d}_4d.nii.gz", image)
        (folder / "Info.cfg").write_text("ED: 1\nES: 12\n")
    return 2 * count


def brats(root: Path, prefix: str, count=4):
    for i in range(count):
        stem = f"Brats17_TCIA_{i}_1" if prefix == "Brats17_" else f"BraTS2021_{i:05d}"
        folder = root / ("HGG" if i % 2 else "LGG") / stem if prefix == "Brats17_" else root / stem
        _, labels = volume(i, (20, 40, 44), (1, 2, 4))
        for j, channel in enumerate(("flair", "t1", "t1ce", "t2")):
            image = np.random.default_rng([i, j]).gamma(4, 20, labels.shape) + 40 * labels
            image[:, :3] = 0
            save_nifti(folder / f"{stem}_{channel}.nii.gz", image.astype(np.int16), (1, 1, 1))
        save_nifti(folder / f"{stem}_seg.nii.gz", labels, (1, 1, 1))
    return count


def lits(root: Path, count=4):
    for i in range(count):
        image, labels = volume(i, values=(1, 2))
        folder = root / f"Training Batch {1 + i % 2}"
        save_nifti(folder / f"volume-{i}.nii", image.astype(np.int16))
        save_nifti(folder / f"segmentation-{i}.nii", labels)
    save_nifti(root / "Test" / "test-volume-0.nii", image.astype(np.int16))
    return count


def synapse(root: Path):
    for number in ("0001", "0005", "0006", "0008"):
        image, labels = volume(int(number), values=(8, 4, 3, 2, 6, 11, 1, 7))
        top = root / "Abdomen" / "RawData" / "Training"
        save_nifti(top / "img" / f"img{number}.nii.gz", image.astype(np.int16))
        save_nifti(top / "label" / f"label{number}.nii.gz", labels)
    return 4


def amos(root: Path):
    for part, number in (("Tr", 1), ("Tr", 4), ("Va", 8), ("Va", 13), ("Tr", 507)):
        image, labels = volume(number, (8, 40, 44), tuple(range(1, 16)))
        save_nifti(root / "amos22" / f"images{part}" / f"amos_{number:04d}.nii.gz", image.astype(np.int16))
        save_nifti(root / "amos22" / f"labels{part}" / f"amos_{number:04d}.nii.gz", labels)
    return 4  # 507 is MR


def photo(path: Path, mask: Path, seed: int, shape=(36, 48)):
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    labels[10:20, 12:30] = 255
    image = rng.integers(0, 120, (*shape, 3)).astype(np.uint8) + labels[..., None] // 3
    for file, array in ((path, image), (mask, labels)):
        file.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(array).save(file)


def polyp(root: Path):
    for i in range(3):
        photo(
            root / "Kvasir-SEG" / "images" / f"cju{i}.jpg", root / "Kvasir-SEG" / "masks" / f"cju{i}.jpg", i
        )
    for i in (1, 2):
        folder = root / "CVC-ClinicDB"
        photo(folder / "Original" / f"{i}.tif", folder / "Ground Truth" / f"{i}.tif", 10 + i)
    return 5


def isic18(root: Path):
    for part, numbers in (("Training", (0, 1, 3)), ("Test", (12169, 12236))):
        for n in numbers:
            photo(
                root / f"ISIC2018_Task1-2_{part}_Input" / f"ISIC_{n:07d}.jpg",
                root / f"ISIC2018_Task1_{part}_GroundTruth" / f"ISIC_{n:07d}_segmentation.png",
                n,
            )
        (root / f"ISIC2018_Task1-2_{part}_Input" / "LICENSE.txt").write_text("CC")
    return 5


def mda231(root: Path):
    """Two films; whole frames, and single slices of others, have masks."""
    top = root / "Fluo-C3DL-MDA231"
    for film in ("01", "02"):
        for time in range(2):
            image, labels = volume(time, (6, 40, 44), (1, 2, 3))
            for folder in (top / film, top / f"{film}_GT" / "SEG"):
                folder.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(top / film / f"t{time:03d}.tif", image.astype(np.uint16))
            if time:
                for z in (2, 3):
                    name = f"man_seg_{time:03d}_{z:03d}.tif"
                    tifffile.imwrite(top / f"{film}_GT" / "SEG" / name, labels[z].astype(np.uint16))
            else:
                tifffile.imwrite(
                    top / f"{film}_GT" / "SEG" / f"man_seg{time:03d}.tif", labels.astype(np.uint16)
                )
    return 6


def phc_hela(root: Path, count=4):
    top = root / "PhC-HeLa"
    for folder in (top / "01", top / "01_GT" / "SEG"):
        folder.mkdir(parents=True)
    for i in range(count):
        image, labels = volume(i, (3, 40, 44), (1, 2, 3))
        tifffile.imwrite(top / "01" / f"t{i:03d}.tif", image[1].astype(np.uint8))
        tifffile.imwrite(top / "01_GT" / "SEG" / f"man_seg{i:03d}.tif", labels[1].astype(np.uint16))
    return count


#: Set -> function that makes it in a folder and returns its number of labelled cases.
MAKERS = {
    "promise12": promise12,
    "acdc": acdc,
    "brats17": lambda root: brats(root, "Brats17_"),
    "brats21": lambda root: brats(root, "BraTS2021_"),
    "lits": lits,
    "synapse": synapse,
    "amos": amos,
    "polyp": polyp,
    "isic18": isic18,
    "mda231": mda231,
    "phc_hela": phc_hela,
}
