"""Folders of photographs: Kvasir-SEG with CVC-ClinicDB, and ISIC 2018; and of cells in the Cell Tracking Challenge's layout.

Checked against public code that reads them, named at each set; none of it is copied.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from napari_ctxseg.errors import InputError
from napari_ctxseg.recipes.layouts.base import Entry, Layout, beside, first_folder, needed, readable

if TYPE_CHECKING:
    from pathlib import Path

    from napari_ctxseg.recipes.layouts.base import Part

PHOTO = (".jpg", ".jpeg", ".png", ".tif", ".tiff")


def _photos(images: Path, masks: Path, part: Part, prefix: str) -> list[Entry]:
    """A mask of the same stem for every image."""
    entries = []
    for image in readable(images, PHOTO):
        names = [f"{image.stem}{suffix}" for suffix in (image.suffix, *PHOTO)]
        label = beside(masks, names, f"the mask of {image.name}")
        name = f"{prefix}{image.stem}"
        entries.append(Entry(name, name, (image,), label, part, mask=True))
    return entries


# ---------------------------------------------------------------- polyps
# Kvasir-SEG/{images,masks}/NAME.jpg (datasets.simula.no/kvasir-seg); CVC-ClinicDB/{Original,Ground Truth}/N.tif, or .png.


def polyps(root: Path) -> list[Entry]:
    """All of Kvasir-SEG to train on, all of CVC-ClinicDB to test."""
    entries = []
    kvasir = first_folder(root, "Kvasir-SEG", "kvasir-seg")
    if kvasir is not None and (kvasir / "images").is_dir():
        entries += _photos(kvasir / "images", kvasir / "masks", "train", "kvasir-")
    cvc = first_folder(root, "CVC-ClinicDB/PNG", "CVC-ClinicDB/TIF", "CVC-ClinicDB")
    if cvc is not None and (cvc / "Original").is_dir():
        entries += _photos(cvc / "Original", cvc / "Ground Truth", "test", "cvc-")
    if {entry.part for entry in entries} == {"train"}:
        raise InputError(
            root / "CVC-ClinicDB" / "Original",
            "is missing: the test images",
            "Put CVC-ClinicDB beside Kvasir-SEG",
        )
    if {entry.part for entry in entries} == {"test"}:
        raise InputError(
            root / "Kvasir-SEG" / "images",
            "is missing: the training images",
            "Put Kvasir-SEG beside CVC-ClinicDB",
        )
    return entries


# ---------------------------------------------------------------- ISIC 2018
# Names as on challenge.isic-archive.com/data: ISIC_NNNNNNN.jpg and ISIC_NNNNNNN_segmentation.png.


def isic(root: Path) -> list[Entry]:
    """The training and test images of task 1."""
    entries = []
    parts: tuple[tuple[str, Part], ...] = (("Training", "train"), ("Test", "test"))
    for name, part in parts:
        folder = root / f"ISIC2018_Task1-2_{name}_Input"
        masks = root / f"ISIC2018_Task1_{name}_GroundTruth"
        for image in readable(folder, (".jpg",)) if folder.is_dir() else ():
            label = needed(masks / f"{image.stem}_segmentation.png", f"the mask of {image.name}")
            entries.append(Entry(image.stem, image.stem, (image,), label, part, mask=True))
    if entries and {entry.part for entry in entries} == {"train"}:
        raise InputError(
            root / "ISIC2018_Task1-2_Test_Input",
            "is missing: the test images",
            "Unpack them beside the training images",
        )
    return entries


# ---------------------------------------------------------------- Cell Tracking Challenge
# NAME/01/t000.tif with 01_GT/SEG/man_seg000.tif of a whole frame, or man_seg_000_013.tif of slice 13 of it.

_SEG = re.compile(r"man_seg_?(?P<time>\d{3,4})(_(?P<z>\d{3}))?\.tif")


def cells(root: Path, *names: str) -> list[Entry]:
    """Frames and slices with manual segmentation; those that are only tracked have none and are left out.

    A frame is a group: neighbouring frames of one film may come to both sides of a split, because a set has two films.
    """
    top = first_folder(root, *names) or root
    entries = []
    for film in sorted(p for p in top.iterdir() if p.is_dir() and re.fullmatch(r"\d{2}", p.name)):
        truth = top / f"{film.name}_GT" / "SEG"
        for label in sorted(truth.glob("man_seg*.tif")) if truth.is_dir() else ():
            match = _SEG.fullmatch(label.name)
            if match is None:
                raise InputError(
                    label,
                    "has no name of the Cell Tracking Challenge",
                    "Name it man_seg000.tif or man_seg_000_013.tif",
                )
            image = needed(film / f"t{match['time']}.tif", f"the frame of {label.name}")
            group = f"{film.name}-t{match['time']}"
            z = match["z"]
            name = group if z is None else f"{group}__z{z}"
            entries.append(Entry(name, group, (image,), label, slice_=None if z is None else int(z)))
        if not truth.is_dir() and any(film.glob("t*.tif")):
            raise InputError(
                truth, "is missing: the labels of the film", "Unpack the training part of the set"
            )
    return entries


CTC = "terms of the Cell Tracking Challenge; read them there"
LAYOUTS = {
    "polyp": Layout(
        "Kvasir-SEG and CVC-ClinicDB, polyps",
        "https://datasets.simula.no/kvasir-seg and https://polyp.grand-challenge.org/CVCClinicDB",
        "research and teaching, by the terms on both pages",
        "Kvasir-SEG/ with images/NAME.jpg and masks/NAME.jpg, and CVC-ClinicDB/ with Original/N.tif and Ground Truth/N.tif",
        1612, polyps,
    ),
    "isic18": Layout(
        "ISIC 2018 task 1, skin lesions", "https://challenge.isic-archive.com/data/#2018", "by the terms on that page",
        "ISIC2018_Task1-2_Training_Input/ISIC_NNNNNNN.jpg, "
        "ISIC2018_Task1_Training_GroundTruth/ISIC_NNNNNNN_segmentation.png, and the same with Test",
        3594, isic,
    ),
    "mda231": Layout(
        "MDA231 breast cancer cells (Fluo-C3DL-MDA231)", "https://celltrackingchallenge.net/3d-datasets", CTC,
        "Fluo-C3DL-MDA231/ with 01/tNNN.tif and 01_GT/SEG/man_segNNN.tif or man_seg_NNN_ZZZ.tif, and the same for 02",
        0, lambda root: cells(root, "Fluo-C3DL-MDA231"),
    ),
    "phc_hela": Layout(
        "HeLa cells in phase contrast (22 images, 2228 cells)",
        "the paper does not name it: most likely the phase contrast HeLa cells of Arteta et al. 2012 (VGG, Oxford)",
        "by their terms. It marks cells by points: masks must be drawn, or had from elsewhere",
        "PhC-HeLa/ in the layout of the Cell Tracking Challenge: 01/tNNN.tif and 01_GT/SEG/man_segNNN.tif",
        22, lambda root: cells(root, "PhC-HeLa"),
    ),
}  # fmt: skip
