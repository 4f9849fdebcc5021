"""What the scripted person of `annotator.py` labels, and what is tested on: stacks of slices from the shared data."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from skimage.io import imread

DATA = Path(os.environ.get("CTXSEG_DATA", Path(__file__).parents[1] / ".." / "shared" / "data")).resolve()
SIDE = 256


@dataclass(frozen=True)
class Stack:
    """Slices, their reference, and the patient or picture that each belongs to."""

    images: np.ndarray
    truth: np.ndarray
    groups: list[str]


def load(name: str) -> tuple[Stack, Stack]:
    """Pool to label, and test."""
    return SETS[name]()


def _stack(parts: list[tuple[np.ndarray, np.ndarray, str]]) -> Stack:
    """One volume of them all. Each slice was a picture of its own, so it is brought to its own mean and spread first."""
    images, truth, groups = zip(*parts, strict=True)
    even = [(one - one.mean()) / (one.std() or 1) for one in images]
    return Stack(np.stack(even).astype(np.float32), np.stack(truth).astype(np.uint8), list(groups))


def sunnybrook() -> tuple[Stack, Stack]:
    """LV cavity; patients 1, 2 and 4 against 5 and 6."""
    folder, pool, test = DATA / "sunnybrook_lv", [], []
    for path in sorted((folder / "images").glob("*.tif")):
        patient = path.name.split("_")[0]
        one = (imread(path), imread(folder / "labels" / path.name) == 1, patient)
        (test if patient in ("SC-HF-I-5", "SC-HF-I-6") else pool).append(one)
    return _stack(pool), _stack(test)


def nuclei() -> tuple[Stack, Stack]:
    """Sparse nuclei; every 4th of the sorted names is test. Of larger pictures the 256 x 256 in the middle."""
    folder, pool, test = DATA / "dsb2018_sparse", [], []
    for number, path in enumerate(sorted((folder / "images").glob("*.png"))):
        image, label = imread(path), imread(folder / "labels" / path.name) > 0
        y, x = ((n - SIDE) // 2 for n in image.shape[:2])
        box = slice(y, y + SIDE), slice(x, x + SIDE)
        (test if number % 4 == 3 else pool).append((image[box], label[box], path.stem))
    return _stack(pool), _stack(test)


def vessels() -> tuple[Stack, Stack]:
    """Retinal vessels in the green channel; first 20 pictures against last 8; three crops of 256 x 256 from each."""
    folder, pool, test = DATA / "chase_db1", [], []
    corners = ((180, 180), (360, 520), (560, 260))
    for number, path in enumerate(sorted((folder / "images").iterdir())):
        image = imread(path)[..., 1]
        label = imread(next((folder / "labels").glob(f"{path.stem}*"))) > 0
        for y, x in corners:
            box = slice(y, y + SIDE), slice(x, x + SIDE)
            (pool if number < 20 else test).append((image[box], label[box], path.stem))
    return _stack(pool), _stack(test)


SETS = {"sunnybrook_lv": sunnybrook, "dsb2018_sparse": nuclei, "chase_db1": vessels}
