"""Numbers of hand-made labels, and what the rules make of them."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from napari_ctxseg import io
from napari_ctxseg.config import (
    BalancedCE,
    ContextCE,
    ContourConfig,
    ContourWeightedCEDice,
    Dice,
    DiceCE,
    DilatedBalancedCE,
    DynamicRoi,
    GeneralizedDice,
    MaskRoi,
)
from napari_ctxseg.evaluation.imbalance import Sample, measure, percent
from napari_ctxseg.evaluation.suggest import suggest

if TYPE_CHECKING:
    from pathlib import Path


def look(*arrays, names=("lesion",), dims=2, spacing=None, unit="mm"):
    samples = [Sample(a, spacing or (1.0,) * a.ndim, unit) for a in arrays]
    return measure(samples, names, dims)


def disk(shape, centre, radius):
    grid = np.indices(shape)
    return sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) <= radius**2


# ---------------------------------------------------------------- numbers


def test_numbers_of_two_rectangles():
    labels = np.zeros((20, 30), np.int16)
    labels[2:6, 3:11] = 1  # 4 x 8
    labels[10:12, 3:5] = 1  # 2 x 2
    labels[6:8, 3:7] = 2  # touches the first
    labels[:, 25:] = -1
    found = look(labels, names=("a", "b"), spacing=(2.0, 0.5))
    back, a, b = found.classes
    assert (a.pixels, b.pixels, back.pixels) == (36, 8, 500 - 44)
    assert found.labelled == 500
    assert a.share == 36 / 500
    assert (a.components, b.components, a.per_image) == (2, 1, 2)
    assert (a.smallest, a.smallest_size, found.smallest) == (4, 4.0, 4)
    assert a.boundary == (36 - 2 * 6) / 36, "all but the inside of the large one"
    assert b.boundary == 1
    assert found.boundary == (24 + 8) / 44
    assert found.box_density == 44 / (10 * 8)
    assert found.box_share == 80 / 500
    assert found.unlabelled == pytest.approx(1 / 6)
    assert (found.slices, found.slices_labelled, found.flat, found.side) == (1, 1, True, 20)
    radii = [np.sqrt(n * (2.0 / 0.5) / np.pi) for n in (32, 4)]
    assert a.radius == pytest.approx(np.median(radii)), "in pixels of the finest axis"
    assert json.loads(json.dumps(found.to_json()))["classes"][1]["name"] == "a"


def test_an_edge_of_the_image_and_an_unlabelled_pixel_are_no_boundary():
    labels = np.full((8, 9), -1, np.int16)
    labels[:4] = 1
    assert look(labels).boundary == 0
    labels[4, 4] = 0
    assert look(labels).boundary == 3 / 36, "neighbours over a corner count"


def test_a_stack_is_slices_for_a_2d_network_and_a_volume_for_a_3d_one():
    labels = np.full((6, 16, 16), -1, np.int16)
    labels[1:4] = 0
    labels[1, 2:6, 2:6] = labels[3, 8:12, 8:12] = 1
    flat, solid = look(labels), look(labels, dims=3)
    for found in (flat, solid):
        assert (found.slices, found.slices_labelled, found.unlabelled) == (6, 3, 0)
        assert found.foreground[0].components == 2
    assert flat.box_density == 1
    assert flat.foreground[0].per_image == 1
    assert solid.box_density == 32 / (3 * 10 * 10)
    assert solid.foreground[0].per_image == 2
    assert solid.foreground[0].smallest_size == 16


def test_depth_tells_walls_from_disks():
    size = (80, 80)
    ring = disk(size, (40, 40), 30) & ~disk(size, (40, 40), 24)
    whole = disk(size, (40, 40), 20)
    wall, filled = (look(mask.astype(np.int16)).foreground[0] for mask in (ring, whole))
    assert wall.depth == pytest.approx(3, abs=0.5)
    assert wall.slenderness < 0.35
    assert filled.slenderness == pytest.approx(1, abs=0.05)
    ball = look(disk((41, 41, 41), (20, 20, 20), 15).astype(np.int16), dims=3).foreground[0]
    assert ball.slenderness == pytest.approx(1, abs=0.1)
    assert ball.radius == pytest.approx(15, rel=0.02)


def test_sentences():
    labels = np.zeros((4, 50, 50), np.int16)
    labels[:2, 3:5, 3:8] = 1
    labels[0, 40, 40] = 1
    assert look(labels).sentence() == (
        "4 of 4 slices labelled, lesion 0.21 % of labelled pixels, smallest component 1 px, "
        "100 % of the foreground on a boundary, box density 50 %"
    )
    labels[2, 20:30, 20:30], labels[3, 20:30, 20:40], labels[3, :2, :50] = 2, 3, 4
    found = look(labels, names=("lesion", "b", "c", "d", "e"))
    assert found.details().split("\n") == [
        "background: 96 % of labelled pixels",
        "lesion: 0.21 % of labelled pixels, 3 components, 100 % of it on a boundary",
        "b: 1 % of labelled pixels, 1 component, 36 % of it on a boundary",
        "c: 2 % of labelled pixels, 1 component, 28 % of it on a boundary",
        "d: 1 % of labelled pixels, 1 component, 50 % of it on a boundary",
        "e: 0 % of labelled pixels",
    ]
    assert [percent(v) for v in (0.0, 0.00042, 0.004, 0.03, 0.0966, 0.97, 0.9996, 1.0)] == [
        "0 %", "0.042 %", "0.4 %", "3 %", "9.7 %", "97 %", "over 99 %", "100 %",
    ]  # fmt: skip


def test_nothing_to_say_is_said():
    shape = (8, 8)
    for value, words in ((-1, "Nothing is labelled"), (0, "Only background"), (1, "label background too")):
        found = look(np.full(shape, value, np.int16))
        assert words in found.problem
        assert found.sentence() == found.problem
        assert suggest(found) == []
    assert "Nothing" in look(np.zeros((0, 5, 5), np.int16)).problem
    for wrong in (np.full(shape, 2), np.full(shape, -2), np.zeros(4, int)):
        with pytest.raises(ValueError, match="indices from -1 to 1"):
            look(wrong)
    with pytest.raises(ValueError, match="no labels"):
        measure([], ["a"], 2)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.int16, hnp.array_shapes(min_dims=2, max_dims=3, max_side=7), elements=st.integers(-1, 2)),
    st.sampled_from((2, 3)),
)
def test_what_always_holds(labels, dims):
    found = look(labels, names=("a", "b"), dims=dims)
    assert found.labelled == np.count_nonzero(labels >= 0)
    for index, one in enumerate(found.classes):
        assert one.pixels == np.count_nonzero(labels == index)
        assert 0 <= one.boundary <= 1
        assert 0 <= one.slenderness <= 1
    assert found.labelled == 0 or sum(one.share for one in found.classes) == pytest.approx(1)
    assert 0 <= found.unlabelled <= 1
    assert 0 <= found.boundary <= 1
    if dims == 3 or labels.ndim == 2:
        for index, one in enumerate(found.classes[1:], start=1):
            assert one.components == ndimage.label(labels == index, np.ones((3,) * labels.ndim))[1]
    if found.box_density is not None and found.box_share is not None:
        assert 0 < found.box_density <= 1
        assert 0 < found.box_share <= 1
    mirrored = look(labels[..., ::-1], names=("a", "b"), dims=dims)
    assert mirrored.boundary == found.boundary
    assert mirrored.box_density == pytest.approx(found.box_density)
    offered = suggest(found)
    assert bool(offered) == (not found.problem)
    assert len(offered) <= 3
    assert len({repr(one.loss) for one in offered}) == len(offered)


def test_a_usual_stack_takes_seconds_at_most():
    labels = np.zeros((64, 512, 512), np.int16)
    rng = np.random.default_rng(0)
    for _ in range(30):
        z, y, x = rng.integers((2, 20, 20), (60, 480, 480))
        labels[z - 2 : z + 2, y - 9 : y + 9, x - 9 : x + 9] = 1
    begin = time.perf_counter()
    look(labels)
    assert time.perf_counter() - begin < 10


# ---------------------------------------------------------------- rules


def losses(found):
    return [one.loss for one in suggest(found)]


def test_very_small_and_scattered_as_in_the_story():
    labels = np.zeros((320, 320), np.int16)
    for k in range(14):
        labels[disk(labels.shape, (30 + 60 * (k % 5), 40 + 90 * (k // 5)), 3)] = 1
    found = look(labels)
    first, second = suggest(found)
    assert first.loss == DilatedBalancedCE(radius=6, unit="px", per="component")
    assert first.reason.startswith("lesion is 0.4 % of the labelled pixels in 14 pieces of about 3 px radius")
    assert second.loss == ContextCE(roi=MaskRoi(radius=4, unit="px"))
    assert "box around the foreground would be 99 % background" in second.reason


def test_one_very_small_object_has_its_radius_capped():
    labels = disk((400, 400), (200, 200), 20).astype(np.int16)
    assert losses(look(labels)) == [
        DilatedBalancedCE(radius=25, unit="px"),
        ContextCE(roi=DynamicRoi(margin=4)),
    ]


def test_one_compact_structure():
    labels = disk((100, 100), (40, 50), 12).astype(np.int16)
    (only,) = suggest(look(labels))
    assert only.loss == ContextCE(roi=DynamicRoi(margin=4))
    assert "covers 6.2 % of the image and is 71 % foreground" in only.reason


def test_a_vessel_tree_gets_no_box():
    labels = np.zeros((300, 300), np.int16)
    labels[148:152] = labels[:, 148:152] = 1
    assert losses(look(labels)) == [ContextCE(roi=MaskRoi(radius=4, unit="px"))]


def test_a_thin_wall():
    size = (60, 60)
    ring = disk(size, (30, 30), 25) & ~disk(size, (30, 30), 22)
    first = suggest(look(ring.astype(np.int16), names=("wall",)))[0]
    assert first.loss == ContourWeightedCEDice(contour=ContourConfig(iterations=1, adapt=0.3))
    assert "wall" in first.reason


def test_small_disks_are_boundary_but_no_wall():
    labels = disk((40, 40), (20, 20), 3).astype(np.int16)
    found = look(labels)
    assert found.boundary > 0.5
    assert losses(found) == [ContextCE(roi=DynamicRoi(margin=4))]


def test_balanced_classes():
    labels = np.zeros((60, 60), np.int16)
    labels[5:40, 5:40], labels[40:55, 5:50] = 1, 2
    assert losses(look(labels, names=("a", "b"))) == [DiceCE()]


def test_neither_rare_nor_balanced():
    labels = np.zeros((60, 60), np.int16)
    labels[5:17, 5:17] = labels[40:48, 30:50] = 1
    (only,) = suggest(look(labels))
    assert only.loss == DiceCE()
    assert "nothing that calls for a special loss" in only.reason


def test_strokes_get_no_overlap_loss_and_no_box():
    labels = np.full((80, 80), -1, np.int16)
    labels[10, 10:60], labels[50:53, 20:70] = 1, 0
    (only,) = suggest(look(labels))
    assert only.loss == BalancedCE()
    assert "97 % of the labelled slices is unlabelled" in only.reason
    assert not isinstance(only.loss, Dice | DiceCE | GeneralizedDice | ContourWeightedCEDice)


# ---------------------------------------------------------------- real labels


@pytest.mark.data
@pytest.mark.parametrize(
    ("folder", "count", "names", "kinds"),
    [
        ("sunnybrook_lv", 20, ("LV",), ["dynamic"]),
        ("chase_db1", 4, ("vessel",), ["mask"]),
        ("dsb2018_sparse", 20, ("nucleus",), ["mask"]),
        ("dsb2018_fluo", 20, ("nucleus",), ["dice_ce"]),
        ("msd_hippocampus", 8, ("anterior", "posterior"), ["dynamic"]),
    ],
)
def test_real_labels_get_sane_suggestions(data_dir: Path, folder, count, names, kinds):
    samples = []
    for path in sorted((data_dir / folder / "labels").iterdir())[:count]:
        image = io.read_labels(path)
        array = image.array
        if folder in ("chase_db1", "dsb2018_sparse", "dsb2018_fluo"):
            array = array > 0
        samples.append(Sample(np.where(array <= len(names), array, 0).astype(np.int16), image.spacing))
    offered = losses(measure(samples, names, 2))
    assert [getattr(loss, "roi", loss).kind for loss in offered] == kinds
