"""The measures beyond Dice and Hausdorff, against brute force and MONAI; choosing and writing them."""

from __future__ import annotations

import csv
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from napari_ctxseg.evaluation import tables
from napari_ctxseg.evaluation.metrics import (
    ALL_MEASURES,
    GROUPS,
    LESS_IS_BETTER,
    MEASURES,
    MeasureOptions,
    chosen_measures,
    evaluate_case,
    summarise,
)
from napari_ctxseg.evaluation.skeleton import cldice, skeleton
from napari_ctxseg.evaluation.surface import boundary
from tests.oracles import metrics as oracle

small = hnp.array_shapes(min_dims=2, max_dims=3, min_side=2, max_side=7)


@st.composite
def mask_pairs(draw):
    shape = draw(small)
    density = st.sampled_from([True, False, False]), st.booleans(), st.just(True), st.just(False)
    masks = [draw(hnp.arrays(bool, shape, elements=draw(st.sampled_from(density)))) for _ in range(2)]
    return *masks, tuple(draw(st.floats(0.1, 12)) for _ in shape)


def one(prediction, reference, spacing=None, options=None, measures=ALL_MEASURES):
    found = evaluate_case(prediction, reference, {"x": 1}, spacing, measures=measures, options=options)
    return found["x"].values


def agree(values, expected):
    for name, value in expected.items():
        assert values[name] == (None if value is None else pytest.approx(value, rel=1e-9, abs=1e-12)), name


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_numbered_objects_equal_brute_force(data):
    shape = data.draw(small)
    values = st.sampled_from([0, 0, 0, 1, 2, 7, 300])
    p, r = (
        data.draw(hnp.arrays(kind, shape, elements=values))
        for kind in (np.uint16, data.draw(st.just(np.int64)))
    )
    sizes = (4, 12)
    found = one(p, r, options=MeasureOptions(sizes=sizes, instances=True))
    if not (p.any() or r.any()):
        assert set(found.values()) == {None}
        return
    agree(found, oracle.detection(p, r, sizes, instances=True))
    agree(found, oracle.overlap(p > 0, r > 0))  # all else is that of the whole mask


def test_touching_cells_count_one_by_one():
    cells = np.zeros((6, 8), np.int32)
    cells[1:5, 0:4], cells[1:5, 4:8] = 5, 9
    each = MeasureOptions(instances=True)
    assert one(cells, cells, options=each)["seg"] == 1
    merged = one((cells > 0).astype(np.uint8), cells, options=each)  # one piece over both
    assert (merged["seg"], merged["dice"]) == (0.5, 1)
    assert (merged["lesion_recall"], merged["lesion_precision"]) == (1, 1)
    half = np.where(cells == 5, 1, 0)
    assert one(half, cells, options=each)["lesion_recall"] == 0.5
    assert one(half, cells > 0)["lesion_recall"] == 1  # which the mask cannot tell
    full = np.arange(1, 5).reshape(2, 2)  # no background
    assert one(full, full, options=each)["seg"] == 1
    with pytest.raises(ValueError, match="one class"):
        evaluate_case(cells, cells, {"a": 1, "b": 2}, options=each)


@settings(max_examples=150, deadline=None)
@given(mask_pairs(), st.floats(0, 20), st.floats(0, 0.9), st.booleans(), st.booleans())
def test_equals_brute_force(pair, tolerance, overlap, faces_only, physical):
    p, r, spacing = pair
    voxel = math.prod(spacing) if physical else 1.0
    sizes = (4 * voxel, 12 * voxel)
    options = MeasureOptions(tolerance, faces_only, overlap, sizes, physical)
    values = one(p, r, spacing, options)
    assert tuple(values) == ALL_MEASURES
    if not p.any() and not r.any():
        assert set(values.values()) == {None}
        return
    agree(values, oracle.rates(p, r))
    agree(values, oracle.detection(p, r, sizes, voxel, overlap, faces_only))
    if p.any() and r.any():
        agree(values, oracle.surface(p, r, spacing, tolerance))
        skeletons = skeleton(p.squeeze()), skeleton(r.squeeze())
        agree(values, {"cldice": oracle.cldice(*skeletons, p.squeeze(), r.squeeze())})
        assert values["mssd"] == values["hausdorff"]
    else:
        assert values["assd"] is values["mssd"] is None
        assert values["cldice"] == values["surface_dice"] == values["seg"] == values["lesion_f1"] == 0


@settings(max_examples=60, deadline=None)
@given(mask_pairs())
def test_a_mask_against_itself_is_perfect(pair):
    mask, _, spacing = pair
    best = {name: 0.0 if name in (*LESS_IS_BETTER, "rvd") else 1.0 for name in ALL_MEASURES}
    values = one(mask, mask, spacing)
    for name, value in values.items():
        # A size of which there is no object, and a negative class that does not exist, have no value.
        free = name.startswith("dice_") or (mask.all() and name in ("specificity", "fpr")) or not mask.any()
        assert value == pytest.approx(best[name]) or (free and value is None), name


@settings(max_examples=60, deadline=None)
@given(mask_pairs())
def test_the_boundary_is_where_scipy_erodes(pair):
    mask, _, _ = pair
    inner = ndimage.binary_erosion(mask, ndimage.generate_binary_structure(mask.ndim, 1))
    np.testing.assert_array_equal(boundary(mask), mask & ~inner)


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((40, 52), None), ((40, 52), (1.4, 0.7)), ((14, 30, 26), (8.0, 1.3, 1.4))],
)
def test_equals_monai(shape, spacing):
    import torch
    from monai.metrics import (
        compute_average_surface_distance,
        compute_confusion_matrix_metric,
        compute_surface_dice,
        get_confusion_matrix,
    )

    rng = np.random.default_rng(2)
    smooth = ndimage.gaussian_filter(rng.normal(size=(2, *shape)), (0, *(2,) * len(shape)))
    a, b = (s > s.std() * 0.5 for s in smooth)
    p, r = (torch.from_numpy(m.astype(np.uint8))[None, None] for m in (a, b))
    values = one(a, b, spacing, MeasureOptions(tolerance=2.0))
    again = {"include_background": True, "spacing": spacing}
    assert values["assd"] == pytest.approx(
        float(compute_average_surface_distance(p, r, symmetric=True, **again)), rel=1e-5
    )
    assert values["surface_dice"] == pytest.approx(
        float(compute_surface_dice(p, r, class_thresholds=[2.0], **again)), rel=1e-6
    )
    matrix = get_confusion_matrix(p, r, include_background=True)
    for ours, theirs in {
        "recall": "sensitivity",
        "specificity": "specificity",
        "precision": "precision",
        "fpr": "fall out",
        "fnr": "miss rate",
    }.items():
        assert values[ours] == pytest.approx(
            float(compute_confusion_matrix_metric(theirs, matrix)), rel=1e-6
        ), ours


def test_counts_by_hand():
    p, r = np.zeros((1, 20), bool), np.zeros((1, 20), bool)
    p[0, 2:8], r[0, 4:8] = True, True
    values = one(p, r)
    agree(
        values,
        {"specificity": 14 / 16, "fpr": 2 / 16, "fnr": 0, "voe": 1 - 4 / 6, "rvd": 0.5, "dice": 8 / 10},
    )


def test_objects_by_hand():
    p, r = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    r[2:6, 2:6] = True  # 16, found by a piece of 12 inside it
    p[2:5, 2:6] = True
    r[10:12, 2:4] = True  # 4, missed
    r[10:16, 10:16] = True  # 36, only a corner of 4 hit: found, but no match for SEG
    p[14:18, 14:18] = True
    p[0, 19] = True  # invented
    values = one(p, r, options=MeasureOptions(sizes=(10, 30)))
    agree(
        values,
        {
            "seg": (12 / 16 + 0 + 0) / 3,
            "lesion_recall": 2 / 3,
            "lesion_precision": 2 / 3,
            "lesion_f1": 2 / 3,
            "dice_small": 0,
            "dice_medium": 24 / 28,
            "dice_large": 8 / 52,
        },
    )
    strict = one(p, r, options=MeasureOptions(overlap=0.5, sizes=(10, 30)))
    agree(strict, {"lesion_recall": 1 / 3, "lesion_precision": 1 / 3})


def test_exactly_half_is_no_match():
    p, r = np.zeros((4, 8), bool), np.zeros((4, 8), bool)
    r[1, 1:5], p[1, 1:3] = True, True
    assert one(p, r)["seg"] == 0
    p[1, 3] = True
    assert one(p, r)["seg"] == 3 / 4


def test_many_specks_take_no_table_of_all_pairs():
    p, r = np.zeros((600, 600), bool), np.zeros((600, 600), bool)
    p[::2, ::2] = r[::2, ::2] = True
    p[0, 0] = False
    values = one(p, r, measures=GROUPS["detection"])
    n = 300 * 300
    agree(values, {"lesion_recall": (n - 1) / n, "lesion_precision": 1, "seg": (n - 1) / n})


# ---------------------------------------------------------------- centrelines


def test_a_cut_vessel_costs_centreline_not_dice():
    r = np.zeros((30, 80), bool)
    r[12:19, 4:76] = True
    p = r.copy()
    p[:, 38:41] = False
    values = one(p, r)
    line = skeleton(r)
    assert values["cldice"] == pytest.approx(
        2 * (share := 1 - line[:, 38:41].sum() / line.sum()) / (1 + share), abs=0.01
    )
    thin = r & (np.abs(np.arange(30) - 15) <= 1)[:, None]
    assert one(thin, r)["cldice"] > 0.9 > 0.7 > one(thin, r)["dice"]


def test_a_tube_in_a_volume():
    r = np.zeros((9, 9, 40), bool)
    r[3:6, 3:6, 3:37] = True
    p = np.zeros_like(r)
    p[4, 4, 3:37] = True
    assert cldice(p, r) > 0.95
    p[4, 4, 20:] = False
    assert cldice(p, r) == pytest.approx(2 * 0.5 / 1.5, abs=0.06)


@pytest.mark.parametrize("seed", range(4))
def test_another_thinning_gives_nearly_the_same(seed):
    rng = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(rng.normal(size=(48, 48)), 4) for _ in range(2)]
    a, b = (np.abs(f / f.std()) < 0.25 for f in (fields[0], fields[0] + 0.3 * fields[1]))
    expected = oracle.cldice(oracle.thinned(a), oracle.thinned(b), a, b)
    assert cldice(a, b) == pytest.approx(expected, abs=0.05)


@settings(max_examples=100, deadline=None)
@given(mask_pairs())
def test_every_piece_has_a_centreline(pair):
    mask, _, _ = pair
    line = skeleton(mask.squeeze())
    assert not (line & ~mask.squeeze()).any()
    for piece in oracle.pieces(mask.squeeze()):
        assert any(line[place] for place in piece)


# ---------------------------------------------------------------- choosing and writing


def test_choosing():
    assert chosen_measures([]) == chosen_measures(["default"]) == MEASURES
    assert chosen_measures(["all"]) == ALL_MEASURES
    assert chosen_measures(["cldice", " Sensitivity", "dice"]) == ("dice", "recall", "cldice")
    assert chosen_measures(["surface", "hd95"]) == GROUPS["surface"]
    with pytest.raises(ValueError, match="'dise' is no measure; there are dice, iou"):
        chosen_measures(["dise"])
    with pytest.raises(ValueError, match="there is no measure 'x'"):
        one(np.ones((2, 2), bool), np.ones((2, 2), bool), measures=("x",))


def test_only_what_is_asked_for_is_computed(monkeypatch):
    def never(*_args, **_more):
        raise AssertionError("was not asked for")

    for name in ("surface_distances", "cldice", "pieces_of"):
        monkeypatch.setattr(f"napari_ctxseg.evaluation.metrics.{name}", never)
    mask = np.ones((3, 3), bool)
    assert tuple(one(mask, mask, measures=GROUPS["overlap"])) == GROUPS["overlap"]
    for group in ("surface", "skeleton", "detection"):
        with pytest.raises(AssertionError, match="was not asked for"):
            one(mask, mask, measures=GROUPS[group])


def result():
    a, b = np.array([[1, 1, 0], [0, 0, 0]]), np.array([[1, 0, 0], [0, 0, 2]])
    pairs = {"P_1": (a, b), "P|2": (b, b), "none": (a * 0, a * 0)}
    cases = {k: evaluate_case(p, r, {"x": 1, "y_2": 2}, (2, 1), "mm") for k, (p, r) in pairs.items()}
    return summarise(cases).to_json() | {"notes": ["a note"]}


def test_csv_reads_back():
    record = result()
    rows = list(csv.DictReader(io.StringIO(tables.evaluation_text(record, "csv"))))
    assert [(r["case"], r["class"]) for r in rows][:3] == [("P_1", "x"), ("P_1", "y_2"), ("P|2", "x")]
    for row, (case, name) in zip(rows, [(c, n) for c in record["cases"] for n in c["classes"]], strict=True):
        for measure in MEASURES:
            value = case["classes"][name][measure]
            assert row[measure] == "" if value is None else float(row[measure]) == value
        assert row["unit"] == "mm"


def test_tables_hold_the_numbers_and_escape_names():
    record = result()
    text = tables.evaluation_text(record, "markdown")
    x, y = record["classes"]["x"], record["classes"]["y_2"]
    assert f"| x | {x['dice']:.3f} | {x['iou']:.3f} |" in text
    assert "| P\\|2 | x | 1.000 |" in text
    assert "distances in mm" in text
    assert "a note" in text
    widths = {line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("|")}
    assert len(widths) == 2  # every line of a table has the same number of cells
    tex = tables.evaluation_text(record, "latex")
    assert f"y\\_2 & {y['dice']:.3f}" in tex
    assert tex.count(r"\begin{tabular}") == tex.count(r"\end{tabular}") == 2
    assert all(line.startswith("%") for line in tex.splitlines()[:3:2])
    assert json.loads(tables.evaluation_text(record, "json")) == record
    assert (
        tables.latex("50 % {a_b} \\ ^~")
        == r"50 \% \{a\_b\} \textbackslash{} \textasciicircum{}\textasciitilde{}"
    )
