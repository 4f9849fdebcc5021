"""Slices, letters of orientation and scale bars, against nibabel and arithmetic."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_ctxseg import io
from napari_ctxseg.config import ViewConfig
from napari_ctxseg.errors import InputError
from napari_ctxseg.figures.marks import length_text, round_length
from napari_ctxseg.figures.planes import choose_plane, letters_of, oriented
from napari_ctxseg.image import Image, Source, image_from_array
from tests.core.figure_files import by_gid, drawn, panels, texts

OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "S": "I", "I": "S"}


@st.composite
def turned(draw):
    """An affine of array axes (z, y, x) to LPS (z, y, x): permuted, flipped, scaled and shifted."""
    order = draw(st.permutations(range(3)))
    signs = draw(st.tuples(*[st.sampled_from((-1.0, 1.0))] * 3))
    steps = draw(st.tuples(*[st.floats(0.1, 9)] * 3))
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[list(order)] * signs * steps
    affine[:3, 3] = draw(st.tuples(*[st.floats(-100, 100)] * 3))
    return affine


def by_nibabel(affine):
    """Letters at the high end of each axis, by nibabel, whose world is RAS in (x, y, z)."""
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine[[2, 1, 0, 3]]
    return nib.aff2axcodes(ras)


@given(affine=turned(), axis=st.sampled_from("zyx"))
@settings(max_examples=60, deadline=None)
def test_letters_are_nibabels(affine, axis):
    source = Source(Path("made.nii"), "nifti", (2, 1, 0), (False,) * 3)
    spacing = tuple(np.linalg.norm(affine[:3, :3], axis=0))
    image = Image(np.zeros((3, 4, 5)), "zyx", spacing, affine, (), "mm", source)
    plane = choose_plane(ViewConfig(axis=axis, index=0), image, [])
    rows, columns = (a for a in range(3) if a != "zyx".index(axis))
    codes = by_nibabel(affine)
    down = codes[rows]  # where the rows lead to
    upward = down == "S"
    assert plane.upward == upward
    top, bottom = (down, OPPOSITE[down]) if upward else (OPPOSITE[down], down)
    assert plane.ends == (OPPOSITE[codes[columns]], codes[columns], top, bottom)
    assert plane.spacing == (spacing[rows], spacing[columns])
    assert plane.shape == ((3, 4, 5)[rows], (3, 4, 5)[columns])


@given(angle=st.floats(-89, 89))
@settings(max_examples=60, deadline=None)
def test_oblique_axes_have_two_letters(angle):
    direction = np.array([0.0, np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))])  # x towards y
    low, high = letters_of(direction)
    if abs(abs(angle) - 22.5) < 0.1 or abs(abs(angle) - 67.5) < 0.1 or abs(abs(angle) - 45) < 0.1:
        return  # on the border
    side = "P" if angle > 0 else "A"
    wanted = (
        "L"
        if abs(angle) < 22.5
        else side
        if abs(angle) > 67.5
        else f"L{side}"
        if abs(angle) < 45
        else f"{side}L"
    )
    assert high == wanted
    assert low == "".join(OPPOSITE[letter] for letter in wanted)


@pytest.mark.parametrize("codes", ["LPS", "RAS", "ASR", "PIR", "SLA"])
def test_a_spot_on_the_patients_left_is_drawn_at_the_letter_l(tmp_path, codes):
    """End to end: file, slice and picture, for three spots and three planes."""
    ras = np.zeros((9, 11, 13), np.float32)  # x, y, z in RAS
    spots = {"L": (1, 5, 6), "A": (4, 9, 6), "S": (4, 5, 11)}
    for number, place in enumerate(spots.values(), start=1):
        ras[place] = 100 * number
    labels = np.zeros_like(ras, np.uint8)
    labels[4, 5, 6] = 1
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(np.eye(4)), nib.orientations.axcodes2ornt(codes)
    )
    for name, array in (("image", ras), ("labels", labels)):
        nib.save(nib.Nifti1Image(array, np.eye(4)).as_reoriented(turn), tmp_path / f"{name}.nii.gz")
    for axis, seen in (("z", "LA"), ("y", "LS"), ("x", "AS")):
        made = drawn(
            tmp_path, kind="overlay", image="image.nii.gz", reference="labels.nii.gz", view={"axis": axis}
        )
        (axes,) = panels(made.figure)
        left, right, top, bottom = texts(axes, "orientation")
        values = np.asarray(by_gid(axes, "image")[0].get_array())
        for letter in seen:
            row, column = np.argwhere(values == 100 * (1 + list(spots).index(letter)))[0]
            x, y = axes.transData.transform((column, row))
            across, up = axes.transAxes.inverted().transform((x, y))
            where = {right: across > 0.6, left: across < 0.4, top: up > 0.6, bottom: up < 0.4}
            assert where[letter], (codes, axis, letter)
        assert top == ("S" if "S" in seen else "A")


def test_letters_only_where_the_file_knows(tmp_path):
    array = np.zeros((4, 5, 6), np.float32)
    plain = nib.Nifti1Image(array, None)
    plain.header.set_sform(None, 0)
    plain.header.set_qform(None, 0)
    nib.save(plain, tmp_path / "plain.nii")
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "placed.nii")
    assert not oriented(io.read(tmp_path / "plain.nii"))
    assert oriented(io.read(tmp_path / "placed.nii"))
    assert not oriented(image_from_array(array, "zyx"))


# ---------------------------------------------------------------- slices


def test_the_first_of_equal_slices_is_taken_along_any_axis():
    mask = np.zeros((5, 6, 7), bool)
    mask[1, 2:4, 3:5] = mask[3, 2:4, 3:5] = True
    image = image_from_array(np.zeros(mask.shape), "zyx")
    assert [choose_plane(ViewConfig(axis=a), image, [mask]).index for a in "zyx"] == [1, 2, 3]


def test_the_next_mask_chooses_where_the_first_is_empty():
    mask = np.zeros((5, 6, 7), bool)
    mask[4, 1, 1] = True
    image = image_from_array(np.zeros(mask.shape), "zyx")
    assert choose_plane(ViewConfig(), image, [np.zeros_like(mask), mask]).index == 4


@pytest.mark.parametrize(
    ("view", "words"),
    [
        ({"index": 5}, "view.index.*5 is outside.*0 to 4"),
        ({}, "view.index.*nothing is labelled"),
        ({"index": 0, "crop": (0, 0, 7, 3)}, r"view.crop.*beyond.*6 x 7"),
        ({"axis": "t", "index": 0}, "view.axis.*t is no axis"),
    ],
)
def test_what_is_not_in_the_image_is_said(view, words):
    image = image_from_array(np.zeros((5, 6, 7)), "zyx")
    with pytest.raises(InputError, match=words):
        choose_plane(ViewConfig(**view), image, [np.zeros((5, 6, 7), bool)])


def test_a_film_has_no_scale_in_time():
    film = image_from_array(np.zeros((5, 6, 7)), "tyx", spacing=(0.1, 2.0, 3.0), unit="um")
    assert choose_plane(ViewConfig(index=1), film, []).spacing == (2.0, 3.0)
    across = choose_plane(ViewConfig(axis="y", index=1), film, [])
    assert (across.unit, across.spacing) == ("pixel", (1.0, 1.0))


# ---------------------------------------------------------------- scale bars


@given(longest=st.floats(1e-6, 1e6))
def test_round_lengths(longest):
    length = round_length(longest)
    assert longest / 2.5 < length <= longest * (1 + 1e-6)
    digits = f"{length:e}"
    assert float(digits.split("e")[0]) in (1, 2, 5)


@pytest.mark.parametrize(
    ("length", "unit", "text"),
    [(10, "mm", "10 mm"), (0.5, "mm", "500 µm"), (2000, "um", "2 mm"), (50, "um", "50 µm"), (0.2, "um", "200 nm"),
     (20, "pixel", "20 px"), (1000, "pixel", "1000 px"), (5, "cm", "5 cm"), (3, "parsec", "3 parsec")],
)  # fmt: skip
def test_lengths_as_text(length, unit, text):
    assert length_text(length, unit) == text
