"""Small made files for figures, and ways to look into them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from matplotlib.colors import to_hex

from napari_ctxseg.config import parse_figure
from napari_ctxseg.figures import Sources, draw

if TYPE_CHECKING:
    from pathlib import Path

#: (z, y, x) with two classes; class 1 is largest in slice 3, class 2 lies in slice 2 and 3.
SHAPE = (6, 30, 40)


def toy_labels() -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[3, 8:20, 10:30] = 1
    labels[2, 10:15, 12:20] = 1
    labels[2:4, 12:16, 14:22] = 2
    return labels


def toy_image() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(100, 10, SHAPE) + 50 * (toy_labels() > 0)).astype(np.float32)


def save_nifti(path: Path, array: np.ndarray, spacing=(2.0, 0.5, 0.25)) -> None:
    """An array ``(z, y, x)`` in LPS with spacing in the same order."""
    affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])
    image = nib.Nifti1Image(array.T, affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def make_files(folder: Path) -> Path:
    """image, labels, a prediction moved by two pixels, and probability maps of it."""
    labels = toy_labels()
    guess = np.roll(labels, 2, axis=2)
    save_nifti(folder / "image.nii.gz", toy_image())
    save_nifti(folder / "labels.nii.gz", labels)
    save_nifti(folder / "guess.nii.gz", guess)
    p = np.where(guess > 0, 0.9, 0.2).astype(np.float32)
    save_nifti(folder / "p.nii.gz", p)
    save_nifti(folder / "fn.nii.gz", ((labels > 0) & (guess == 0)) * np.float32(0.8))
    save_nifti(folder / "fp.nii.gz", ((labels == 0) & (guess > 0)) * np.float32(0.7))
    return folder


def drawn(folder: Path, computed: Any = None, **values: Any):
    """The figure of a recipe, within its style."""
    return draw(parse_figure(values), Sources(folder, computed))


def panels(figure) -> list:
    return [axes for axes in figure.axes if axes.get_gid() == "panel"]


def by_gid(owner, gid: str) -> list:
    return list(owner.findobj(lambda a: a.get_gid() == gid))


def texts(owner, gid: str) -> list[str]:
    return [artist.get_text() for artist in by_gid(owner, gid)]


def legend_of(figure) -> dict[str, str]:
    """Name -> colour."""
    (legend,) = figure.legends
    found = {}
    for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
        colour = handle.get_color() if hasattr(handle, "get_color") else handle.get_facecolor()
        found[text.get_text()] = to_hex(colour)
    return found


def contours_of(axes) -> dict[str, set[tuple[float, float]]]:
    """Colour -> vertices (row, column)."""
    found: dict[str, set[tuple[float, float]]] = {}
    for drawn_set in by_gid(axes, "contour"):
        points = {(round(y, 6), round(x, 6)) for path in drawn_set.get_paths() for x, y in path.vertices}
        found.setdefault(to_hex(drawn_set.get_edgecolor()[0]), set()).update(points)
    return found


def tints_of(axes) -> dict[str, np.ndarray]:
    """Colour -> pixels that have it."""
    found = {}
    for layer in by_gid(axes, "tint"):
        rgba = np.asarray(layer.get_array())
        found[to_hex(rgba[0, 0, :3])] = rgba[..., 3] > 0
    return found
