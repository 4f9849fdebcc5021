"""Folders of PROMISE12, ACDC, BraTS, LiTS, Synapse (BTCV) and AMOS, as they are when unpacked.

Checked against public code that reads them, named at each set; none of it is copied.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from napari_ctxseg.recipes.layouts.base import Entry, Layout, beside, first_folder, needed, numbered, readable

if TYPE_CHECKING:
    from pathlib import Path

    from napari_ctxseg.recipes.layouts.base import Part


# ---------------------------------------------------------------- PROMISE12
# nnU-Net v1, dataset_conversion/Task024_Promise2012.py: *segmentation.mhd beside the image of the same name.


def promise12(root: Path) -> list[Entry]:
    """``CaseNN.mhd`` and ``CaseNN_segmentation.mhd``, in one folder or in parts; a folder without any is the test set."""
    folders = sorted({path.parent for path in root.rglob("Case*_segmentation.mhd")})
    entries = []
    for folder in folders:
        for image in numbered(p for p in folder.glob("Case*.mhd") if "_segmentation" not in p.name):
            label = needed(folder / f"{image.stem}_segmentation.mhd", f"the labels of {image.name}")
            entries.append(Entry(image.stem, image.stem, (image,), label))
        for label in folder.glob("Case*_segmentation.mhd"):
            name = label.name.replace("_segmentation", "")
            needed(folder / name, f"the image of {label.name}")
    return entries


# ---------------------------------------------------------------- ACDC
# database/training/patientNNN/patientNNN_frameMM(.nii.gz | _gt.nii.gz), as nnU-Net v2's Dataset027_ACDC.py reads it.


def acdc(root: Path) -> list[Entry]:
    """The two labelled frames of each patient in ``training``; the 4-D films are not looked at."""
    top = first_folder(root, "database/training", "training") or root
    entries = []
    for folder in sorted(p for p in top.glob("patient*") if p.is_dir()):
        frames = [p for p in readable(folder) if re.fullmatch(rf"{folder.name}_frame\d+\.nii(\.gz)?", p.name)]
        for image in frames:
            stem = image.name.partition(".")[0]
            label = beside(folder, (f"{stem}_gt.nii.gz", f"{stem}_gt.nii"), f"the labels of {image.name}")
            frame = stem.removeprefix(f"{folder.name}_")
            entries.append(Entry(f"{folder.name}__{frame}", folder.name, (image,), label))
        if not frames:
            beside(folder, (f"{folder.name}_frame01.nii.gz",), "the frame at the end of the diastole")
    return entries


# ---------------------------------------------------------------- BraTS
# 2017: MICCAI_BraTS17_Data_Training/{HGG,LGG}/Brats17_ID_1/Brats17_ID_1_{flair,t1,t1ce,t2,seg}.nii.gz
# 2021: BraTS2021_NNNNN/BraTS2021_NNNNN_{flair,t1,t1ce,t2,seg}.nii.gz

CHANNELS = ("flair", "t1", "t1ce", "t2")


def brats(root: Path, prefix: str) -> list[Entry]:
    """Four channels and labels in a folder for each patient, at any depth; folders without labels are other parts."""
    labels = {path.parent: path for path in root.rglob(f"{prefix}*_seg.nii*")}
    entries = []
    for folder, label in sorted(labels.items()):
        stem = label.name.partition("_seg.nii")[0]
        images = tuple(
            beside(folder, (f"{stem}_{name}.nii.gz", f"{stem}_{name}.nii"), f"the channel {name} of {stem}")
            for name in CHANNELS
        )
        entries.append(Entry(stem, stem, images, label))
    return entries


# ---------------------------------------------------------------- LiTS
# volume-N.nii beside segmentation-N.nii in "Training Batch 1" and "Training Batch 2" (kaiko-ai/eva, docs/datasets/lits.md).


def lits(root: Path) -> list[Entry]:
    """Scans with their segmentation, at any depth; ``test-volume-N.nii`` have none."""
    entries = []
    for image in numbered(p for p in root.rglob("volume-*.nii*") if p.is_file()):
        name = image.name.partition(".")[0]
        stem = name.replace("volume", "segmentation")
        label = beside(image.parent, (f"{stem}.nii", f"{stem}.nii.gz"), f"the labels of {image.name}")
        entries.append(Entry(name, name, (image,), label))
    return entries


# ---------------------------------------------------------------- Synapse (BTCV)
# Abdomen/RawData/Training/{img/img0001.nii.gz, label/label0001.nii.gz}. The 18 and 12 scans are TransUNet's lists.

SYNAPSE_TEST = frozenset(
    ("0001", "0002", "0003", "0004", "0008", "0022", "0025", "0029", "0032", "0035", "0036", "0038")
)


def synapse(root: Path) -> list[Entry]:
    """The 30 labelled scans, with the part that TransUNet put them in."""
    places = ("Abdomen/RawData/Training", "RawData/Training", "Training", ".")
    top = next((root / place for place in places if (root / place / "img").is_dir()), None)
    entries = []
    for image in readable(top / "img", (".nii.gz", ".nii")) if top else ():
        number = image.name.partition(".")[0].removeprefix("img")
        label = beside(
            image.parents[1] / "label",
            (f"label{number}.nii.gz", f"label{number}.nii"),
            f"the labels of {image.name}",
        )
        part: Part = "test" if number in SYNAPSE_TEST else "train"
        entries.append(Entry(f"img{number}", f"img{number}", (image,), label, part))
    return entries


# ---------------------------------------------------------------- AMOS
# amos22/{imagesTr,labelsTr,imagesVa,labelsVa}/amos_NNNN.nii.gz; numbers above 500 are MR (zenodo.org/records/7262581).

LAST_CT = 500


def amos(root: Path) -> list[Entry]:
    """The CT scans of the training and validation folders; ``imagesTs`` has no public labels."""
    top = first_folder(root, "amos22") or root
    entries = []
    for part in ("Tr", "Va"):
        folder = top / f"images{part}"
        for image in readable(folder, (".nii.gz",)) if folder.is_dir() else ():
            name = image.name.partition(".")[0]
            number = re.fullmatch(r"amos_(\d{4})", name)
            if number is None or int(number[1]) > LAST_CT:
                continue
            label = needed(top / f"labels{part}" / image.name, f"the labels of {image.name}")
            entries.append(Entry(name, name, (image,), label))
    return entries


REGISTER = "own terms of the organisers, after registration; read them there"
LAYOUTS = {
    "promise12": Layout(
        "PROMISE12, prostate MR", "https://promise12.grand-challenge.org", REGISTER,
        "CaseNN.mhd, CaseNN.raw, CaseNN_segmentation.mhd and CaseNN_segmentation.raw, in one folder or several",
        50, promise12,
    ),
    "acdc": Layout(
        "ACDC, cardiac MR", "https://humanheart-project.creatis.insa-lyon.fr/database", REGISTER,
        "database/training/patientNNN/ with patientNNN_frameMM.nii.gz and patientNNN_frameMM_gt.nii.gz",
        200, acdc,
    ),
    "brats17": Layout(
        "BraTS 2017, brain MR", "https://www.med.upenn.edu/sbia/brats2017/data.html", REGISTER,
        "HGG/ and LGG/ with a folder Brats17_*_1 for each patient: NAME_flair, _t1, _t1ce, _t2 and _seg.nii.gz",
        285, lambda root: brats(root, "Brats17_"),
    ),
    "brats21": Layout(
        "BraTS 2021, brain MR", "https://www.med.upenn.edu/cbica/brats2021", REGISTER,
        "a folder BraTS2021_NNNNN for each patient: NAME_flair, _t1, _t1ce, _t2 and _seg.nii.gz",
        1251, lambda root: brats(root, "BraTS2021_"),
    ),
    "lits": Layout(
        "LiTS 2017, liver CT", "https://competitions.codalab.org/competitions/17094", REGISTER,
        "volume-N.nii beside segmentation-N.nii, for instance in Training Batch 1/ and Training Batch 2/",
        131, lits,
    ),
    "synapse": Layout(
        "Synapse (BTCV), abdominal CT", "https://www.synapse.org/#!Synapse:syn3193805", REGISTER,
        "Abdomen/RawData/Training/ with img/imgNNNN.nii.gz and label/labelNNNN.nii.gz", 30, synapse,
    ),
    "amos": Layout(
        "AMOS 2022, abdominal CT", "https://zenodo.org/records/7262581", "CC BY 4.0",
        "amos22/ with imagesTr/amos_NNNN.nii.gz, labelsTr/amos_NNNN.nii.gz, and the same in imagesVa and labelsVa",
        300, amos,
    ),
}  # fmt: skip
