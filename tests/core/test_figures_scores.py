"""Box plots, sweeps and tables: the numbers of the files, in the right places."""

from __future__ import annotations

import json
import re
import statistics

import numpy as np
import pytest

from napari_ctxseg.errors import CtxsegError
from napari_ctxseg.figures.palette import PALETTES
from tests.core.figure_files import by_gid, drawn, texts

METHODS = PALETTES["papers"].methods


def scores(values, label="lesion", unit="mm"):
    """What `ctxseg evaluate --json` prints for these Dice values; the distance is ten times what is missing."""
    cases = [
        {
            "name": f"case{i}",
            "classes": {
                label: {
                    "dice": v,
                    "hd95": None if v is None else 10 * (1 - v),
                    "predicted": 5,
                    "reference": 6,
                    "unit": unit,
                }
            },
        }
        for i, v in enumerate(values)
    ]
    return {"mean": {"dice": 0.5, "hd95": 1.0, "unit": unit}, "classes": {}, "cases": cases}


ONE, TWO = [0.5, 0.7, 0.9, 0.8], [0.55, None, 0.95, 0.9]


@pytest.fixture
def folder(tmp_path):
    for name, values in (("one", ONE), ("two", TWO)):
        (tmp_path / f"{name}.json").write_text(json.dumps(scores(values)))
    rows = ["variant,fold,seed,case,patient,class,dice,predicted,reference,unit"]
    rows += [f"ce,0,{seed},P{p}_{c},P{p},lesion,{0.1 * p + 0.01 * c + 0.001 * seed},5,5,mm"
             for seed in (0, 1) for p in (1, 2, 3) for c in (0, 1)]  # fmt: skip
    rows += ["focal,0,0,P1_0,P1,lesion,,0,5,mm", "focal,0,0,P2_0,P2,lesion,0.25,5,5,mm"]
    (tmp_path / "report.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


PAIR = {"scores": {"first method": "one.json", "second": "two.json"}}


# ---------------------------------------------------------------- box plots


def test_boxes_and_points_are_the_scores(folder):
    made = drawn(folder, kind="boxplots", **PAIR, measures=["dice", "hd95"])
    dice, distance = made.figure.axes
    points = list(by_gid(dice, "points"))
    assert [sorted(line.get_xdata()) for line in points] == [sorted(ONE), sorted(v for v in TWO if v)]
    assert [line.get_color() for line in points] == list(METHODS[:2])
    medians = [line.get_xdata()[0] for line in dice.lines if line.get_color() == "black"]
    assert medians == pytest.approx([statistics.median(ONE), statistics.median([0.55, 0.95, 0.9])])
    assert [t.get_text() for t in dice.get_yticklabels()] == ["first method", "second"]
    assert dice.yaxis_inverted()
    assert dice.get_xlabel() == "Dice, 3 to 4 cases"
    assert distance.get_xlabel() == "HD95 (mm),\n3 to 4 cases"  # too long for its axes
    assert any("1 values do not apply" in note for note in made.notes)


def test_patients_of_a_comparison_are_the_units(folder):
    made = drawn(folder, kind="boxplots", report="report.csv")
    (axes,) = made.figure.axes
    points = [sorted(line.get_xdata()) for line in by_gid(axes, "points")]
    assert points[0] == pytest.approx([0.1055, 0.2055, 0.3055])  # mean over two cases and two seeds
    assert points[1] == [0.25]
    assert axes.get_xlabel() == "Dice, 1 to 3 patients"


def test_runs_without_numbers_are_told(folder):
    rows = (folder / "report.csv").read_text().splitlines()
    rows = [rows[0] + ",error", *(row + "," for row in rows[1:])]
    rows += [
        "ce,1,0,,,,,,,,out of memory",
        "vnet,0,0,,,,,,,,still to be done",
        "vnet,1,0,,,,,,,,out of memory",
    ]
    (folder / "report.csv").write_text("\n".join(rows) + "\n")
    notes = [
        "ce: 1 of its runs have no numbers", "vnet: 2 of its runs have no numbers; it is not in the figure",
    ]  # fmt: skip
    made = drawn(folder, kind="boxplots", report="report.csv")
    assert [t.get_text() for t in made.figure.axes[0].get_yticklabels()] == ["ce (incomplete)", "focal"]
    assert made.notes[:2] == notes
    made = drawn(folder, kind="table", report="report.csv", style={"width": 120})
    assert made.notes[:2] == notes
    assert "| ce (incomplete) |" in made.texts[".md"]


@pytest.mark.parametrize(("width", "measures"), [(60, 2), (85, 2), (85, 4), (174, 4)])
def test_panels_of_boxes_go_to_the_next_row_where_titles_would_meet(folder, width, measures):
    names = ["dice", "hd95", "seg", "lesion_recall"][:measures]
    for name, values in (("one", ONE), ("two", TWO)):
        made = scores(values)
        for case in made["cases"]:
            case["classes"]["lesion"] |= {"seg": 0.4, "lesion_recall": 0.5}
        (folder / f"{name}.json").write_text(json.dumps(made))
    both = {"contour_weighted_ce_dice": "one.json", "second": "two.json"}
    made = drawn(folder, kind="boxplots", scores=both, measures=names, style={"width": width})
    made.figure.canvas.draw()
    renderer, page = made.figure.canvas.get_renderer(), made.figure.bbox
    shown = [axes for axes in made.figure.axes if axes.get_visible()]
    assert len(shown) == measures
    titles = [axes.xaxis.label.get_window_extent(renderer) for axes in shown]
    for number, one in enumerate(titles):
        assert page.x0 - 1 <= one.x0 <= one.x1 <= page.x1 + 1
        assert page.y0 - 1 <= one.y0
        assert not any(one.overlaps(other) for other in titles[number + 1 :])
    assert all(axes.yaxis_inverted() for axes in shown)
    points = [line.get_xdata() for line in by_gid(shown[0], "points")]
    assert sorted(points[0]) == sorted(ONE)


def test_text_of_charts_has_its_size(folder):
    made = drawn(folder, kind="boxplots", **PAIR, style={"size": 10, "width": 120})
    (axes,) = made.figure.axes
    assert made.figure.get_size_inches()[0] == pytest.approx(120 / 25.4)
    assert axes.xaxis.label.get_fontsize() == 10
    assert {t.get_fontsize() for t in axes.get_xticklabels()} == {9}
    assert {t.get_fontsize() for t in axes.get_yticklabels()} == {10}


# ---------------------------------------------------------------- sweep


def test_a_sweep_shows_means_and_cases(folder):
    made = drawn(
        folder, kind="sweep", points={20: "two.json", 5: "one.json"}, label="radius (px)", logarithmic=True
    )
    (axes,) = made.figure.axes
    (means,) = by_gid(axes, "means")
    assert list(means.get_xdata()) == [5, 20]
    assert list(means.get_ydata()) == pytest.approx([0.725, 0.8])
    assert {len(line.get_ydata()) for line in by_gid(axes, "points")} == {4, 3}
    assert (axes.get_xlabel(), axes.get_xscale()) == ("radius (px)", "log")
    assert [t.get_text() for t in axes.get_xticklabels()] == ["5", "20"]


def test_a_sweep_of_a_comparison_shows_intervals(folder):
    def variant(name, field, value, mean, low, high):
        interval = {"value": mean, "low": low, "high": high, "units": 6}
        return {
            "name": name,
            "field": field,
            "value": value,
            "family": "dilated",
            "measures": {"dice": interval},
        }

    report = {
        "unit": "patients",
        "variants": [variant("b", "loss.radius", 10, 0.8, 0.7, 0.85), variant("a", "loss.radius", 5, 0.6, 0.5, 0.7),
                     variant("plain", None, None, 0.4, None, None)],
    }  # fmt: skip
    (folder / "report.json").write_text(json.dumps(report))
    made = drawn(folder, kind="sweep", report="report.json")
    (axes,) = made.figure.axes
    (bars,) = axes.containers
    line, _, (spread,) = bars
    assert list(line.get_xdata()) == [5, 10]
    assert list(line.get_ydata()) == [0.6, 0.8]
    assert np.allclose([s[:, 1] for s in spread.get_segments()], [[0.5, 0.7], [0.7, 0.85]])
    assert " ".join(axes.get_ylabel().split()) == "Dice: mean, 95 % interval over patients"
    assert [t.get_text() for t in made.figure.legends[0].get_texts()] == ["plain", "dilated"]


@pytest.mark.parametrize("width", [60, 85, 174])
def test_long_names_stay_on_the_page(folder, width):
    interval = {"value": 0.5, "low": 0.4, "high": 0.6, "units": 6}
    names = [
        "dilated_balanced_ce, network=resnet34_unet",
        "contour_weighted_ce_dice",
        "balanced_ce",
        "generalized_dice",
    ]
    variants = [
        {"name": f"{name} {v}", "field": "loss.radius", "value": v, "family": name, "measures": {"dice": interval}}
        for name in names[:2] for v in (2, 5)
    ] + [
        {"name": n, "field": None, "value": None, "family": n, "complete": n != "balanced_ce", "done": 1, "planned": 2,
         "measures": {"dice": interval}} for n in names[2:]
    ]  # fmt: skip
    variants.append({**variants[0], "name": "gone", "value": 9, "complete": False, "done": 0, "planned": 2,
                     "measures": {"dice": None}})  # fmt: skip
    (folder / "report.json").write_text(json.dumps({"unit": "patients", "variants": variants}))
    made = drawn(folder, kind="sweep", report="report.json", style={"width": width})
    made.figure.canvas.draw()
    renderer, page = made.figure.canvas.get_renderer(), made.figure.bbox
    (legend,), (axes,) = made.figure.legends, made.figure.axes
    label = axes.yaxis.label.get_window_extent(renderer)
    for box in (legend.get_window_extent(renderer), label, axes.xaxis.label.get_window_extent(renderer)):
        assert page.x0 - 1 <= box.x0 <= box.x1 <= page.x1 + 1
        assert page.y0 - 1 <= box.y0 <= box.y1 <= page.y1 + 1
    assert not legend.get_window_extent(renderer).overlaps(label)
    shown = [" ".join(t.get_text().split()) for t in legend.get_texts()]
    assert sorted(shown) == sorted(
        [f"{names[0]} (incomplete)", names[1], f"{names[2]} (incomplete)", names[3]]
    )
    assert made.notes == ["balanced_ce: 1 of its 2 runs have numbers", "gone: 0 of its 2 runs have numbers"]


# ---------------------------------------------------------------- table


def test_a_mean_over_fewer_units_says_so_and_is_not_the_best(folder):
    """A method that misses a structure has no distance there: its mean distance can look better than it is."""
    few = scores(TWO)
    few["cases"][0]["classes"]["lesion"]["hd95"] = None
    (folder / "two.json").write_text(json.dumps(few))
    made = drawn(folder, kind="table", **PAIR, style={"width": 120})
    line = next(line for line in made.texts[".md"].splitlines() if line.startswith("| second"))
    assert line == "| second | 0.800 (0.218) | 0.750 (0.354), n = 2 | 3 |"
    assert "**" not in made.texts[".md"]
    assert made.notes == [
        f"{name} is not of the same units for all methods, so none is bold" for name in ("Dice", "HD95 (mm)")
    ]


def test_a_table_as_picture_markdown_and_latex(folder):
    whole = [0.55, 0.8, 0.95, 0.9]
    (folder / "two.json").write_text(json.dumps(scores(whole)))
    made = drawn(folder, kind="table", **PAIR, style={"width": 120})
    mean, spread = statistics.fmean(ONE), statistics.stdev(ONE)
    assert (
        f"| first method | {mean:.3f} ({spread:.3f}) | {10 * (1 - mean):.3f} ({10 * spread:.3f}) | 4 |"
        in made.texts[".md"]
    )
    assert "| second | **0.800 (0.178)** | **2.000 (1.780)** | 4 |" in made.texts[".md"]
    assert r"second & \textbf{0.800 (0.178)} & \textbf{2.000 (1.780)} & 4 \\" in made.texts[".tex"]
    cells = texts(made.figure, "cell")
    assert cells[:4] == ["method", "Dice", "HD95 (mm)", "n"]
    assert cells[8:] == ["second", "0.800 (0.178)", "2.000 (1.780)", "4"]
    bold = [t.get_text() for t in by_gid(made.figure, "cell") if t.get_fontweight() == "bold"]
    assert bold == ["method", "Dice", "HD95 (mm)", "n", "0.800 (0.178)", "2.000 (1.780)"]


def test_cells_of_a_table_do_not_touch(folder):
    figure = drawn(folder, kind="table", **PAIR, style={"width": 90}).figure
    figure.canvas.draw()
    boxes = [t.get_window_extent() for t in figure.texts]
    for number, one in enumerate(boxes):
        assert figure.bbox.x0 <= one.x0 < one.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= one.y0 < one.y1 <= figure.bbox.y1
        assert not any(one.overlaps(other) for other in boxes[number + 1 :])


def test_latex_is_escaped_and_classes_have_a_column(tmp_path):
    both = scores([0.5, 0.6])
    for case in both["cases"]:
        case["classes"]["50 % & more_"] = case["classes"]["lesion"]
    (tmp_path / "s.json").write_text(json.dumps(both))
    made = drawn(tmp_path, kind="table", scores={"a|b": "s.json"}, measures=["dice"], style={"width": 120})
    assert r"a|b & 50 \% \& more\_ & 0.550 (0.071) & 2 \\" in made.texts[".tex"]
    assert r"| a\|b | 50 % & more_ | 0.550 (0.071) | 2 |" in made.texts[".md"]
    assert re.search(r"\\begin\{tabular\}\{llrr\}", made.texts[".tex"])


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"kind": "table", **PAIR, "style": {"width": 30}}, "style.width.*too narrow.*needs"),
        ({"kind": "boxplots", **PAIR, "measures": ["froc"]}, "froc is not in the scores.*dice, hd95"),
        ({"kind": "boxplots", **PAIR, "classes": ["tumour"]}, "leave no scores.*lesion"),
        ({"kind": "boxplots", "scores": {"a": "gone.json"}}, "gone.json.*is not there"),
        ({"kind": "boxplots", "scores": {"a": "report.csv"}}, "report.csv.*cannot be read as JSON"),
        ({"kind": "boxplots", "scores": {"a": "list.json"}}, "list.json.*does not hold what"),
        ({"kind": "boxplots", "scores": {"a": "odd.json"}}, "odd.json.*'much'"),
        ({"kind": "boxplots", "report": "one.json"}, "one.json.*report.csv"),
        ({"kind": "sweep", "report": "one.json"}, "one.json.*report.json"),
    ],
)
def test_scores_that_are_none_are_named(folder, recipe, words):
    (folder / "list.json").write_text("[1, 2]")
    odd = scores([0.5])
    odd["cases"][0]["classes"]["lesion"]["dice"] = "much"
    (folder / "odd.json").write_text(json.dumps(odd))
    with pytest.raises(CtxsegError, match=f"(?s){words}"):
        drawn(folder, **recipe)
