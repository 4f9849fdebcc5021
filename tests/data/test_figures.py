"""The gallery's recipes on the real files: what is in the pictures, read again by other packages."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
import yaml

from napari_ctxseg.commands.figure import computed
from napari_ctxseg.config import parse_figure
from napari_ctxseg.figures import Sources, draw
from tests.core.figure_files import by_gid, contours_of, panels, texts, tints_of

pytestmark = pytest.mark.data
GALLERY = Path(__file__).resolve().parents[2] / "docs" / "gallery"


@pytest.fixture
def make(data_dir, tmp_path):
    def make(name):
        (tmp_path / "data").symlink_to(data_dir.resolve())
        recipe = parse_figure(yaml.safe_load((GALLERY / f"{name}.yaml").read_text()))
        sources = Sources(tmp_path)
        sources.computed.update(computed(recipe, sources))
        return draw(recipe, sources)

    return make


def pixels(path):
    return np.asarray(PIL.Image.open(path)) > 0


def test_errors_between_two_observers(make, data_dir):
    figure = make("errors").figure
    first = pixels(data_dir / "chase_db1" / "labels" / "Image_01L_1stHO.png")
    second = pixels(data_dir / "chase_db1" / "labels_observer2" / "Image_01L_2ndHO.png")
    for axes in panels(figure):
        assert np.array_equal(tints_of(axes)["#ff0000"], second & ~first)
        assert np.array_equal(tints_of(axes)["#0000ff"], first & ~second)
    assert texts(figure, "scale_text") == ["200 px", "20 px"]
    assert not by_gid(figure, "orientation")


def test_a_coronal_slice_of_anisotropic_ct(make, data_dir):
    made = make("overlay-inset")
    labels = nib.load(data_dir / "tiny_msd_spleen_crop" / "labels" / "spleen2_crop.nii.gz")
    areas = np.asarray(labels.dataobj).astype(bool).sum(axis=(0, 2))
    across = (
        len(areas) - 1 - np.flatnonzero(areas == areas.max())
    )  # the file's y runs to the front, LPS to the back
    assert labels.affine[1, 1] > 0
    assert made.chosen["index"] == across.min()
    (axes,) = panels(made.figure)
    assert texts(axes, "orientation") == ["R", "L", "S", "I"]
    (bar,) = by_gid(axes, "scale_bar")
    assert bar.get_width() * labels.header.get_zooms()[0] == pytest.approx(20)
    place, size = axes.get_position(), made.figure.get_size_inches()
    step = [place.width * size[0] / np.ptp(axes.get_xlim()), place.height * size[1] / np.ptp(axes.get_ylim())]
    assert step[1] / step[0] == pytest.approx(labels.header.get_zooms()[2] / labels.header.get_zooms()[0])
    assert not made.notes


def test_montage_of_hippocampus(make, data_dir):
    made = make("montage")
    labels = np.asarray(nib.load(data_dir / "msd_hippocampus" / "labels" / "hippocampus_366.nii.gz").dataobj)
    filled = np.flatnonzero(labels.any(axis=(0, 1)))
    assert made.chosen["index"] == sorted(
        set(np.rint(np.linspace(filled[0], filled[-1], 10)).astype(int).tolist())
    )
    for axes, index in zip(panels(made.figure), made.chosen["index"], strict=True):
        drawn = set(contours_of(axes))
        wanted = {"#ff0000"} if (labels[..., index] == 1).any() else set()
        wanted |= {"#00c000"} if (labels[..., index] == 2).any() else set()
        assert drawn == wanted
    assert texts(made.figure, "scale_text") == ["10 mm"]


def test_contour_of_the_heart(make):
    figure = make("contour").figure
    mask, eroded, band = (np.asarray(by_gid(axes, "map")[0].get_array()) for axes in panels(figure)[1:])
    inside = mask.any(-1)
    assert (eroded.any(-1) <= inside).all()
    assert np.array_equal(
        eroded[eroded.any(-1)], mask[eroded.any(-1)]
    )  # what is left has its own class's colour
    assert not (band[eroded.any(-1)] > 0).any()
    assert (band[inside & ~eroded.any(-1)] == 1).all()
    assert texts(figure, "letter") == ["a", "b", "c", "d"]
