"""What figures of images hold: artists, colours, contours, scale bars, sizes, text."""

from __future__ import annotations

import itertools
import json
import shutil

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import find_contours

from napari_ctxseg.config import FigureStyle
from napari_ctxseg.errors import FileError, InputError
from napari_ctxseg.figures.palette import PALETTES
from tests.core.figure_files import (
    SHAPE,
    by_gid,
    contours_of,
    drawn,
    legend_of,
    make_files,
    panels,
    save_nifti,
    texts,
    tints_of,
    toy_image,
    toy_labels,
)

PAPERS, SAFE = PALETTES["papers"], PALETTES["colour_blind"]
INCH = 25.4
BASE = {"image": "image.nii.gz"}
CLASSES = {"classes": {"wall": 1, "core": 2}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_files(tmp_path_factory.mktemp("figures"))


def edges(mask):
    """Vertices half way between a mask and the rest, by another package."""
    lines = find_contours(np.pad(mask.astype(float), 1), 0.5)
    return {(round(float(y) - 1, 6), round(float(x) - 1, 6)) for line in lines for y, x in line}


# ---------------------------------------------------------------- overlay


def overlay(folder, **more):
    values = {"kind": "overlay", **BASE, "reference": {"file": "labels.nii.gz", "name": "expert"}} | more
    return drawn(folder, **values)


@pytest.mark.parametrize(("name", "palette"), PALETTES.items())
def test_contours_follow_the_masks_in_the_colours_of_the_palette(folder, name, palette):
    made = overlay(
        folder, predictions=["guess.nii.gz"], classes={"wall": 1}, style={"palette": name}, view={"index": 3}
    )
    (axes,) = panels(made.figure)
    labels = toy_labels()[3]
    wanted = {
        palette.reference: edges(labels == 1),
        palette.predictions[0]: edges(np.roll(labels, 2, 1) == 1),
    }
    assert contours_of(axes) == wanted
    assert legend_of(made.figure) == {"expert": palette.reference, "guess": palette.predictions[0]}


def test_structures_at_the_edge_are_closed(folder, tmp_path):
    labels = np.zeros(SHAPE, np.uint8)
    labels[1, :5, :7] = 1
    save_nifti(tmp_path / "image.nii.gz", toy_image())
    save_nifti(tmp_path / "labels.nii.gz", labels)
    (axes,) = panels(overlay(tmp_path).figure)
    assert contours_of(axes) == {PAPERS.reference: edges(labels[1] == 1)}
    (paths,) = [c.get_paths() for c in by_gid(axes, "contour")]
    assert np.array_equal(paths[0].vertices[0], paths[0].vertices[-1])


def test_the_slice_with_most_of_the_reference_is_shown(folder):
    made = overlay(folder)
    assert made.chosen["index"] == 3
    (image,) = by_gid(panels(made.figure)[0], "image")
    assert np.array_equal(image.get_array(), toy_image()[3])


def test_one_file_of_several_classes_is_coloured_by_class(folder):
    made = overlay(folder, **CLASSES)
    labels = toy_labels()[3]
    wanted = {PAPERS.classes[0]: edges(labels == 1), PAPERS.classes[1]: edges(labels == 2)}
    assert contours_of(panels(made.figure)[0]) == wanted
    assert legend_of(made.figure) == {"wall": PAPERS.classes[0], "core": PAPERS.classes[1]}


def test_several_files_of_several_classes_have_colours_and_dashes(folder):
    made = overlay(folder, predictions=["guess.nii.gz"], **CLASSES)
    (legend,) = made.figure.legends
    assert [t.get_text() for t in legend.get_texts()] == ["expert", "guess", "wall", "core"]
    assert [h.get_linestyle() for h in legend.legend_handles] == ["-", "-", "-", "--"]
    dashed = [c for c in by_gid(panels(made.figure)[0], "contour") if c.get_linestyles()[0][1] is not None]
    assert len(dashed) == 2  # class 2 of both files


def test_a_panel_for_each_file(folder):
    made = overlay(folder, predictions=["guess.nii.gz"], panels="each", **CLASSES)
    assert texts(made.figure, "title") == ["image", "expert", "guess"]
    plain, expert, guess = panels(made.figure)
    assert not contours_of(plain)
    assert contours_of(expert)[PAPERS.classes[1]] == edges(toy_labels()[3] == 2)
    assert contours_of(guess)[PAPERS.classes[1]] == edges(np.roll(toy_labels()[3], 2, 1) == 2)


def test_files_of_the_same_name_are_told_apart_by_their_folders(folder, tmp_path):
    for name in ("dice_ce", "focal"):
        (tmp_path / name).mkdir()
        shutil.copy(folder / "guess.nii.gz", tmp_path / name / "P1.nii.gz")
    files = [{"file": str(tmp_path / name / "P1.nii.gz")} for name in ("dice_ce", "focal")]
    made = drawn(folder, kind="overlay", image="image.nii.gz", predictions=files, foreground=True)
    assert list(legend_of(made.figure)) == ["dice_ce/P1", "focal/P1"]
    files[1]["name"] = "P1"
    made = drawn(folder, kind="overlay", image="image.nii.gz", predictions=files, foreground=True)
    assert list(legend_of(made.figure)) == ["dice_ce/P1", "P1"]


def test_files_elsewhere_in_space_are_refused(folder, tmp_path):
    save_nifti(tmp_path / "other.nii.gz", toy_labels(), spacing=(2.0, 0.5, 0.5))
    other = {"file": str(tmp_path / "other.nii.gz")}
    with pytest.raises(InputError, match=r"other.nii.gz.*image and file lie .* voxels apart"):
        drawn(folder, kind="overlay", image="image.nii.gz", predictions=[other], foreground=True)
    with pytest.raises(InputError, match=r"other.nii.gz.*image and map lie .* voxels apart"):
        drawn(folder, kind="probability", image="image.nii.gz", probability=str(tmp_path / "other.nii.gz"))


def test_filled_structures_are_tinted(folder):
    made = overlay(
        folder, reference={"file": "labels.nii.gz", "filled": True, "colour": "#123456"}, foreground=True
    )
    assert np.array_equal(tints_of(panels(made.figure)[0])["#123456"], toy_labels()[3] > 0)


def test_a_colour_image_stays_in_colour(tmp_path):
    import PIL.Image

    colours = np.random.default_rng(1).integers(0, 255, (20, 24, 3), np.uint8)
    PIL.Image.fromarray(colours).save(tmp_path / "image.png")
    PIL.Image.fromarray(np.eye(20, 24, dtype=np.uint8)).save(tmp_path / "labels.png")
    recipe = {"kind": "overlay", "image": "image.png", "reference": "labels.png"}
    (image,) = by_gid(panels(drawn(tmp_path, **recipe).figure)[0], "image")
    assert np.allclose(image.get_array(), colours / 255)
    (image,) = by_gid(panels(drawn(tmp_path, **recipe, channel=1).figure)[0], "image")
    assert np.array_equal(image.get_array(), colours[..., 1])


# ---------------------------------------------------------------- size, text, marks


@pytest.mark.parametrize("width", [85, 170])
def test_width_and_text_are_what_the_journal_asks_for(folder, width):
    style = {"width": width, "size": 9, "line": 1.5, "dpi": 123}
    made = overlay(folder, predictions=["guess.nii.gz"], panels="each", style=style, **CLASSES)
    figure = made.figure
    assert figure.get_size_inches()[0] == pytest.approx(width / INCH)
    assert figure.dpi == 123
    assert {t.get_fontsize() for t in by_gid(figure, "title")} == {9}
    assert {t.get_fontsize() for t in figure.legends[0].get_texts()} == {9}
    assert {t.get_fontsize() for t in by_gid(figure, "scale_text") + by_gid(figure, "orientation")} == {8}
    assert {c.get_linewidths()[0] for c in by_gid(figure, "contour")} == {1.5}


@pytest.mark.parametrize("length", [None, 2.0])
def test_the_scale_bar_has_its_length(folder, length):
    made = overlay(folder, style={"scale_length": length})  # 0.25 mm a pixel, 10 mm wide
    (axes,) = panels(made.figure)
    (bar,) = by_gid(axes, "scale_bar")
    assert bar.get_width() * 0.25 == pytest.approx(length or 2)
    assert texts(axes, "scale_text") == ["2 mm"]
    right = bar.get_x() + bar.get_width()
    assert axes.get_xlim()[0] < bar.get_x() < right < axes.get_xlim()[1]
    assert made.chosen["scale_bars"] == [2.0]


def test_marks_can_be_switched_off(folder):
    off = {"scale_bar": False, "orientation": False, "legend": False, "titles": False}
    made = overlay(folder, predictions=["guess.nii.gz"], panels="each", style=off)
    assert not made.figure.legends
    for gid in ("scale_bar", "scale_text", "orientation", "title"):
        assert not by_gid(made.figure, gid)


def test_panels_have_the_shape_of_the_world(folder):
    """A pixel is as much higher than wide on paper as it is in the patient."""
    for axis, ratio in (("z", 2.0), ("y", 8.0), ("x", 4.0)):
        made = overlay(folder, view={"axis": axis}, reference="labels.nii.gz")
        (axes,) = panels(made.figure)
        place, size = axes.get_position(), made.figure.get_size_inches()
        wide = place.width * size[0] / np.ptp(axes.get_xlim())
        high = place.height * size[1] / np.ptp(axes.get_ylim())
        assert high / wide == pytest.approx(ratio)


RECIPES = {
    "overlay": {
        **BASE,
        "reference": "labels.nii.gz",
        "predictions": ["guess.nii.gz"],
        "panels": "each",
        **CLASSES,
    },
    "errors": {**BASE, "reference": "labels.nii.gz", "prediction": "guess.nii.gz", "view": {"zoom": {}}},
    "probability": {**BASE, "probability": "p.nii.gz", "reference": "labels.nii.gz", "view": {"zoom": {}}},
    "refinement": {
        **BASE,
        "stage1": "p.nii.gz",
        "fn": "fn.nii.gz",
        "fp": "fp.nii.gz",
        "reference": "labels.nii.gz",
    },
    "montage": {**BASE, "labels": "labels.nii.gz", "count": 5, **CLASSES},
    "contour": {
        "labels": "labels.nii.gz",
        "image": "image.nii.gz",
        "interior": "labels.nii.gz",
        "band": "p.nii.gz",
    },
    "loss_anatomy": {**BASE, "labels": "labels.nii.gz", "ce": "p.nii.gz", "weight": "fn.nii.gz", **CLASSES},
}


@pytest.mark.parametrize("width", [60, 170])
@pytest.mark.parametrize("kind", RECIPES)
def test_nothing_overlaps_or_leaves_the_page(folder, kind, width):
    style = {"width": width, "letters": True, "dpi": 100}
    figure = drawn(folder, kind=kind, **RECIPES[kind], style=style).figure
    figure.canvas.draw()
    renderer, page = figure.canvas.get_renderer(), figure.bbox
    boxes = [
        axes.get_window_extent(renderer) for axes in figure.axes if axes.get_gid() in ("panel", "colour_bar")
    ]
    boxes += [t.get_window_extent(renderer) for t in figure.texts]
    boxes += [b.get_window_extent(renderer) for b in figure.legends]
    bars = [axes.get_tightbbox(renderer) for axes in figure.axes if axes.get_gid() == "colour_bar"]
    for box in (*boxes, *bars):
        assert page.x0 - 2 <= box.x0 <= box.x1 <= page.x1 + 2
        assert page.y0 - 2 <= box.y0 <= box.y1 <= page.y1 + 2
    for number, one in enumerate(boxes):
        for other in boxes[number + 1 :]:
            wide = min(one.x1, other.x1) - max(one.x0, other.x0)
            high = min(one.y1, other.y1) - max(one.y0, other.y0)
            assert wide <= 1 or high <= 1
    legend = figure.legends[0].get_window_extent(renderer) if figure.legends else None
    for bar in bars:
        assert legend is None or bar.y0 >= legend.y1 - 1


def test_tall_panels_stay_on_a_page(folder, tmp_path):
    labels = np.zeros((2, 90, 12), np.uint8)
    labels[0, 40:50, 2:9] = 1
    save_nifti(tmp_path / "image.nii.gz", labels.astype(np.float32), (1, 1, 1))
    save_nifti(tmp_path / "labels.nii.gz", labels, (1, 1, 1))
    source = {"file": "labels.nii.gz", "name": "a rather long name of a file"}
    figure = overlay(
        tmp_path, reference=source, predictions=[source], panels="each", style={"width": 170}
    ).figure
    assert figure.get_size_inches()[1] * INCH <= 226
    figure.canvas.draw()
    boxes = [t.get_window_extent() for t in by_gid(figure, "title")]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
    step = {round(a.get_position().width * 170 / 12, 6) for a in panels(figure)}
    assert len(step) == 1


def test_a_channel_that_is_not_there(folder):
    with pytest.raises(InputError, match="channel: 3 is not in the image"):
        overlay(folder, channel=3)


# ---------------------------------------------------------------- zoom


def test_a_zoomed_panel_shows_its_box_and_frames_it(folder):
    made = overlay(folder, view={"zoom": {"box": [6, 8, 10, 12]}})
    whole, part = panels(made.figure)
    assert part.get_xlim() == (7.5, 19.5)
    assert sorted(part.get_ylim()) == [5.5, 15.5]
    frames = [(f.get_x(), f.get_y(), f.get_width(), f.get_height()) for f in by_gid(whole, "zoom_frame")]
    assert set(frames) == {(7.5, 5.5, 12, 10)}
    assert texts(part, "scale_text") == ["500 µm"]
    (bar,) = by_gid(part, "scale_bar")
    assert bar.get_width() * 0.25 == pytest.approx(0.5)


def test_the_zoom_finds_the_largest_structure(folder, tmp_path):
    labels = np.zeros(SHAPE, np.uint8)
    labels[1, 2:4, 2:4], labels[1, 20:25, 25:33] = 1, 1
    save_nifti(tmp_path / "image.nii.gz", toy_image(), (1, 1, 1))
    save_nifti(tmp_path / "labels.nii.gz", labels, (1, 1, 1))
    made = overlay(tmp_path, view={"zoom": {"margin": 2}})
    assert made.chosen["zoom"] == [18, 23, 9, 12]


def test_an_inset_lies_where_it_hides_least_of_its_box(folder):
    for box, corner in (([0, 0, 8, 10], (1, 1)), ([0, 28, 8, 10], (0, 1))):
        made = overlay(folder, view={"zoom": {"box": box, "place": "inset"}})
        (axes,) = panels(made.figure)
        (inset,) = axes.child_axes
        assert sorted(inset.get_ylim()) == [box[0] - 0.5, box[0] + box[2] - 0.5]
        place = inset.get_position()
        panel = axes.get_position()
        centre = (
            ((place.x0 + place.x1) / 2 - panel.x0) / panel.width,
            ((place.y0 + place.y1) / 2 - panel.y0) / panel.height,
        )
        assert (round(centre[0]), round(centre[1])) == corner
        assert contours_of(inset) == contours_of(axes)
    assert not made.notes
    made = overlay(folder, view={"zoom": {"box": [0, 0, 28, 38], "place": "inset"}})
    assert any("choose a smaller box" in note for note in made.notes)


def test_crop_auto_takes_all_structures_and_a_margin(folder):
    made = overlay(folder, view={"crop": "auto", "margin": 3})
    assert made.chosen["crop"] == [5, 7, 18, 26]
    (axes,) = panels(made.figure)
    assert axes.get_xlim() == (6.5, 32.5)


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(("name", "palette"), PALETTES.items())
def test_errors_are_red_and_blue(folder, name, palette):
    made = drawn(folder, kind="errors", **BASE, reference="labels.nii.gz", prediction="guess.nii.gz", **CLASSES,
                 style={"palette": name})  # fmt: skip
    truth = toy_labels()[3]
    guess = np.roll(truth, 2, 1)
    (axes,) = panels(made.figure)
    found = tints_of(axes)
    assert np.array_equal(found[palette.fp], (guess > 0) & (truth == 0))
    assert np.array_equal(found[palette.fn], (guess == 0) & (truth > 0))
    assert np.array_equal(found[palette.wrong], (guess > 0) & (truth > 0) & (guess != truth))
    assert contours_of(axes) == {"#ffffff": edges(truth > 0)}
    assert made.chosen["pixels"]["false positive"] == int(((guess > 0) & (truth == 0)).sum())
    assert legend_of(made.figure) == {
        "false positive": palette.fp, "false negative": palette.fn, "wrong class": palette.wrong, "reference": "#ffffff",
    }  # fmt: skip


def test_the_papers_colours():
    assert (PAPERS.fp, PAPERS.fn) == ("#ff0000", "#0000ff")
    okabe_ito = {"#000000", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"}
    used = {
        SAFE.reference,
        SAFE.fp,
        SAFE.fn,
        SAFE.wrong,
        SAFE.mask,
        *SAFE.predictions,
        *SAFE.classes,
        *SAFE.methods,
    }
    assert used <= okabe_ito
    assert SAFE.reference not in SAFE.predictions


def test_errors_from_maps(folder):
    labels, guess = toy_labels(), np.roll(toy_labels(), 2, 2)
    for threshold, fewer in ((0.5, True), (0.75, False)):
        made = drawn(folder, kind="errors", **BASE, fp="fp.nii.gz", fn="fn.nii.gz", threshold=threshold,
                     view={"index": 3})  # fmt: skip
        found = tints_of(panels(made.figure)[0])
        assert np.array_equal(found["#0000ff"], ((labels > 0) & (guess == 0))[3])
        assert found["#ff0000"].any() == fewer


# ---------------------------------------------------------------- maps


def test_a_probability_map_is_shown_as_it_is(folder):
    made = drawn(
        folder, kind="probability", **BASE, probability="p.nii.gz", view={"index": 2}, colours="magma"
    )
    (_, axes) = panels(made.figure)
    (shown,) = by_gid(axes, "map")
    assert np.array_equal(
        shown.get_array(), np.where(np.roll(toy_labels(), 2, 2) > 0, 0.9, 0.2).astype(np.float32)[2]
    )
    assert (shown.get_clim(), shown.get_cmap().name) == ((0, 1), "magma")
    (bar,) = [a for a in made.figure.axes if a.get_gid() == "colour_bar"]
    assert [t.get_text() for t in bar.get_xticklabels()] == ["0", "0.5", "1"]


def test_refinement_composes_the_masks(folder):
    half = {"fn_threshold": 0.5, "fp_threshold": 0.5}
    made = drawn(folder, kind="refinement", **RECIPES["refinement"], **half, name="lesion", foreground=True)
    first, missed, made_up, refined = panels(made.figure)
    truth, guess = toy_labels()[3] > 0, np.roll(toy_labels()[3], 2, 1) > 0
    assert texts(made.figure, "title") == ["stage 1", "predicted FN", "predicted FP", "refined"]
    assert contours_of(first)[PAPERS.mask] == edges(guess)
    assert np.array_equal(tints_of(missed)[PAPERS.fn], truth & ~guess)
    assert np.array_equal(tints_of(made_up)[PAPERS.fp], guess & ~truth)
    assert contours_of(refined)[PAPERS.mask] == edges(
        truth
    )  # the maps are right, so what is left is the truth
    assert all(contours_of(axes)[PAPERS.reference] == edges(truth) for axes in panels(made.figure))
    assert made.chosen["changed pixels"] == int((truth ^ guess).sum())


def test_thresholds_of_a_refinement_are_the_runs(folder, tmp_path):
    maps = tmp_path / "maps"
    maps.mkdir()
    for name in ("p", "fn", "fp"):  # FN are 0.8, FP 0.7
        shutil.copy(folder / f"{name}.nii.gz", maps)
    recipe = {"kind": "refinement", "image": str(folder / "image.nii.gz"), "stage1": "maps/p.nii.gz",
              "fn": "maps/fn.nii.gz", "fp": "maps/fp.nii.gz", "foreground": True}  # fmt: skip

    def wrong(**more):
        made = drawn(tmp_path, **recipe, **more)
        return made.chosen["thresholds"], made.chosen["changed pixels"]

    missed, made_up = (int(np.count_nonzero(a & ~b)) for a, b in itertools.permutations(
        (toy_labels()[3] > 0, np.roll(toy_labels()[3], 2, 1) > 0)))  # fmt: skip
    assert wrong() == ([0.75, 0.75], missed)  # the released ones: no FP is above
    record = tmp_path / "predictions.json"
    record.write_text(json.dumps({"thresholds": {"fn": 0.9, "fp": 0.6}}))
    assert wrong() == ([0.9, 0.6], made_up)
    assert wrong(fn_threshold=0.5) == ([0.5, 0.6], missed + made_up)
    record.write_text(json.dumps({"thresholds": None}))  # a run of one stage
    assert wrong()[0] == [0.75, 0.75]
    record.write_text(json.dumps({"thresholds": {"fn": "x"}}))
    with pytest.raises(FileError, match="holds no thresholds"):
        wrong()
    assert wrong(fn_threshold=0.5, fp_threshold=0.5)[0] == [0.5, 0.5]


def test_refinement_takes_the_refined_file(folder):
    made = drawn(folder, kind="refinement", **RECIPES["refinement"], refined="guess.nii.gz", foreground=True)
    assert contours_of(panels(made.figure)[3])[PAPERS.mask] == edges(np.roll(toy_labels()[3], 2, 1) > 0)


def test_montage_shows_the_slices_in_one_grey_scale(folder):
    made = drawn(folder, kind="montage", **BASE, labels="labels.nii.gz", slices=[3, 0, 2], **CLASSES)
    assert texts(made.figure, "title") == ["z = 3", "z = 0", "z = 2"]
    images = [by_gid(axes, "image")[0] for axes in panels(made.figure)]
    for shown, index in zip(images, (3, 0, 2), strict=True):
        assert np.array_equal(shown.get_array(), toy_image()[index])
    assert len({shown.get_clim() for shown in images}) == 1
    assert contours_of(panels(made.figure)[2])[PAPERS.classes[1]] == edges(toy_labels()[2] == 2)
    assert len(by_gid(made.figure, "scale_bar")) == 1
    made = drawn(folder, kind="montage", **BASE, labels="labels.nii.gz", count=4)
    assert made.chosen["index"] == [2, 3]  # all that are labelled


# ---------------------------------------------------------------- maps that torch computes


def test_contour_panels(folder):
    from napari_ctxseg.commands.figure import computed
    from napari_ctxseg.config import parse_figure
    from napari_ctxseg.figures import Sources, draw

    recipe = parse_figure(
        {"kind": "contour", "labels": "labels.nii.gz", "contour": {"iterations": 2}, **CLASSES}
    )
    sources = Sources(folder)
    sources.computed.update(computed(recipe, sources))
    made = draw(recipe, sources)
    labels = toy_labels()[3]
    # A pixel survives if the 5 x 5 box around it holds one value; beyond the image everything goes on.
    box = {"size": 5, "mode": "nearest"}
    whole = ndimage.maximum_filter(labels, **box) == ndimage.minimum_filter(labels, **box)
    shown = [np.asarray(by_gid(axes, "map")[0].get_array()) for axes in panels(made.figure)]
    for value, colour in ((1, (1, 0, 0)), (2, (0, 192 / 255, 0))):
        assert np.array_equal(np.isclose(shown[0], colour).all(-1), labels == value)
        assert np.array_equal(np.isclose(shown[1], colour).all(-1), (labels == value) & whole)
    assert np.array_equal(shown[2] > 0, ~whole)
    assert texts(made.figure, "title") == ["mask", "eroded 2 times", "contour (both)"]


@pytest.mark.parametrize("dims", [2, 3])
def test_loss_anatomy_adds_up(folder, tmp_path, dims):
    from napari_ctxseg.commands.figure import computed
    from napari_ctxseg.config import parse_figure
    from napari_ctxseg.figures import Sources, draw

    labels = toy_labels()
    rng = np.random.default_rng(2)
    p = rng.dirichlet((4, 2, 2), SHAPE).astype(np.float32)
    for name, array in (("image", toy_image()), ("labels", labels), ("wall", p[..., 1]), ("core", p[..., 2])):
        save_nifti(tmp_path / f"{name}.nii.gz", array, (1, 1, 1))
    recipe = parse_figure(
        {"kind": "loss_anatomy", **BASE, "labels": "labels.nii.gz", **CLASSES, "dims": dims, "loss": "balanced_ce",
         "probabilities": {"wall": "wall.nii.gz", "core": "core.nii.gz"}}
    )  # fmt: skip
    sources = Sources(tmp_path)
    sources.computed.update(computed(recipe, sources))
    made = draw(recipe, sources)
    ce = -np.log(np.take_along_axis(p, labels[..., None].astype(int), -1)[..., 0])
    counted = labels[3] if dims == 2 else labels
    weight = sum((labels == c) / (counted == c).sum() for c in range(3))
    shown = [np.asarray(by_gid(axes, "map")[0].get_array()) for axes in panels(made.figure)[2:]]
    ratio = shown[1] / weight[3]  # a constant factor is a question of the loss's normaliser
    assert np.allclose(shown[0], ce[3], rtol=1e-3, atol=1e-4)
    assert np.allclose(ratio, ratio[0, 0], rtol=1e-5)
    assert np.allclose(shown[2], shown[0] * shown[1], rtol=1e-4)
    assert made.chosen["weighted loss of the slice"] == pytest.approx(float(shown[2].sum()), rel=1e-4)
    assert texts(made.figure, "title")[:3] == ["image", "labels", "cross-entropy"]


def test_letters_of_panels_are_bold_and_in_order(folder):
    made = drawn(folder, kind="refinement", **RECIPES["refinement"], style={"letters": True, "width": 170})
    assert texts(made.figure, "letter") == ["a", "b", "c", "d"]
    assert {t.get_fontweight() for t in by_gid(made.figure, "letter")} == {"bold"}


def test_narrow_figures_break_into_rows(folder):
    made = drawn(folder, kind="refinement", **RECIPES["refinement"], style={"width": 60})
    places = [axes.get_position() for axes in panels(made.figure)]
    assert len({round(p.y0, 6) for p in places}) == 2
    assert len({round(p.width, 6) for p in places}) == 1
    assert FigureStyle().columns is None
