"""Recipes and pictures as files: the same again, changes that are said, bad input, the command line, views."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import yaml
from typer.testing import CliRunner

from napari_ctxseg import figures
from napari_ctxseg.cli import app
from napari_ctxseg.commands.figure import EXAMPLES, default_out, example
from napari_ctxseg.config import FigureStyle, figure_classes, parse_figure
from napari_ctxseg.errors import CtxsegError, FileError, InputError
from napari_ctxseg.figures import SeenLayer, Sources, View, draw, make_figure, read_recipe, view_recipe
from tests.core.figure_files import (
    by_gid,
    contours_of,
    drawn,
    make_files,
    panels,
    save_nifti,
    texts,
    toy_labels,
)

ROOT = Path(__file__).resolve().parents[2]
RECIPE = {
    "kind": "overlay", "image": "image.nii.gz", "reference": "labels.nii.gz", "predictions": ["guess.nii.gz"],
    "foreground": True, "view": {"zoom": {}}, "style": {"dpi": 80},
}  # fmt: skip


@pytest.fixture(scope="module")
def made_files(tmp_path_factory):
    return make_files(tmp_path_factory.mktemp("figures"))


@pytest.fixture
def folder(tmp_path, made_files):
    shutil.copytree(made_files, tmp_path, dirs_exist_ok=True)
    (tmp_path / "fig.yaml").write_text(yaml.safe_dump(RECIPE))
    return tmp_path


def ctxseg(*words):
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


# ---------------------------------------------------------------- the same again


def test_another_process_with_other_settings_gives_the_same_bytes(folder, tmp_path_factory):
    assert ctxseg("figure", folder / "fig.yaml", "--set", "style.formats=[png, svg, pdf]").exit_code == 0
    other = tmp_path_factory.mktemp("other")
    (other / "matplotlibrc").write_text(
        "font.size: 30\naxes.facecolor: red\nsavefig.bbox: tight\nimage.cmap: jet\n"
    )
    code = "from napari_ctxseg.cli import app; app()"
    subprocess.run(
        [sys.executable, "-c", code, "figure", str(folder / "fig.recipe.yaml"), "--out", str(other / "fig")],
        check=True, timeout=300, capture_output=True,
        env={**os.environ, "MPLCONFIGDIR": str(other), "PYTHONHASHSEED": "7", "SOURCE_DATE_EPOCH": "1"},
    )  # fmt: skip
    for suffix in (".png", ".svg", ".pdf"):
        assert (other / f"fig{suffix}").read_bytes() == (folder / f"fig{suffix}").read_bytes(), suffix


def test_pictures_have_their_size_and_no_date(folder):
    assert ctxseg("figure", folder / "fig.yaml", "--set", "style.formats=[png, svg, pdf]").exit_code == 0
    picture = PIL.Image.open(folder / "fig.png")
    assert abs(picture.width - 85 / 25.4 * 80) < 1
    assert picture.info["dpi"] == pytest.approx((80, 80), abs=0.1)
    assert set(picture.info) == {"dpi"}
    svg = (folder / "fig.svg").read_text()
    assert ">labels<" in svg  # text stays text
    assert "dc:date" not in svg
    assert b"CreationDate" not in (folder / "fig.pdf").read_bytes()


def test_the_recipe_beside_the_picture_says_everything(folder):
    result = ctxseg(
        "figure", folder / "fig.yaml", "--set", "style.line=2", "--out", folder / "fig.png", "--json"
    )
    said = json.loads(result.stdout)
    assert said["files"] == [str(folder / "fig.png")]
    stored = yaml.safe_load((folder / "fig.recipe.yaml").read_text())
    made = stored.pop("made")
    assert stored["style"]["line"] == 2
    assert stored["image"] == "image.nii.gz"
    assert set(made["inputs"]) == {"image.nii.gz", "labels.nii.gz", "guess.nii.gz"}
    assert made["inputs"]["image.nii.gz"] == figures.sources.file_hash(folder / "image.nii.gz")
    assert made["chosen"]["index"] == 3
    assert made["versions"]["matplotlib"]
    assert parse_figure(stored) == parse_figure({**RECIPE, "style": {**RECIPE["style"], "line": 2}})


def test_the_recipe_of_one_format_makes_that_format_again(folder):
    for suffix in ("pdf", "svg"):
        made = folder / f"one.{suffix}"
        assert ctxseg("figure", folder / "fig.yaml", "--out", made).exit_code == 0
        before = made.read_bytes()
        made.unlink()
        again = ctxseg("figure", folder / "one.recipe.yaml")
        assert again.exit_code == 0, again.stderr
        assert made.read_bytes() == before
        assert not (folder / "one.png").exists()
        made.unlink()


def test_a_moved_folder_works_and_a_changed_input_is_said(folder, tmp_path_factory):
    ctxseg("figure", folder / "fig.yaml")
    place = tmp_path_factory.mktemp("moved") / "all"
    shutil.move(folder, place)
    result = ctxseg("figure", place / "fig.recipe.yaml")
    assert result.exit_code == 0
    assert "changed" not in result.stdout
    save_nifti(place / "labels.nii.gz", np.roll(toy_labels(), 1, 1))
    result = ctxseg("figure", place / "fig.recipe.yaml", "--out", place / "new.png")
    assert "! labels.nii.gz has changed since the picture was made" in result.stdout
    assert "image.nii.gz has changed" not in result.stdout


def test_recipes_are_written_relative_to_the_picture(folder):
    (folder / "out").mkdir()
    ctxseg("figure", folder / "fig.yaml", "--out", folder / "out" / "a.png")
    stored = yaml.safe_load((folder / "out" / "a.recipe.yaml").read_text())
    assert stored["image"] == "../image.nii.gz"
    assert stored["predictions"][0]["file"] == "../guess.nii.gz"
    again = ctxseg("figure", folder / "out" / "a.recipe.yaml", "--out", folder / "b.png")
    assert again.exit_code == 0
    assert (folder / "b.png").read_bytes() == (folder / "out" / "a.png").read_bytes()


def test_another_version_is_said(folder):
    ctxseg("figure", folder / "fig.yaml")
    beside = folder / "fig.recipe.yaml"
    values = yaml.safe_load(beside.read_text())
    values["made"]["versions"]["matplotlib"] = "1.0"
    beside.write_text(yaml.safe_dump(values))
    _, notes = read_recipe(beside)
    assert [note for note in notes if "made with matplotlib 1.0" in note]


def test_the_persons_own_recipe_and_files_stay_as_they_are(folder):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    ctxseg("figure", folder / "fig.yaml")
    for name, content in before.items():
        assert (folder / name).read_bytes() == content
    assert default_out(folder / "fig2.recipe.yaml").name == default_out(folder / "fig2.yaml").name == "fig2"


def test_a_picture_never_replaces_its_input(folder):
    PIL.Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "in.png")
    recipe = parse_figure({"kind": "overlay", "image": "in.png", "reference": "in.png"})
    with pytest.raises(InputError, match=r"in\.png.*recipe's own files"):
        make_figure(recipe, Sources(folder), folder / "in.png")


def test_a_failed_figure_leaves_the_old_one(folder):
    ctxseg("figure", folder / "fig.yaml")
    before = (folder / "fig.png").read_bytes()
    (folder / "labels.nii.gz").write_bytes(b"no image")
    assert ctxseg("figure", folder / "fig.yaml").exit_code == 1
    assert (folder / "fig.png").read_bytes() == before
    assert not [p for p in folder.iterdir() if p.name.endswith(".tmp")]


# ---------------------------------------------------------------- command line


def test_every_kind_is_listed_and_has_an_example():
    listed = ctxseg("figure", "--list").stdout
    assert set(EXAMPLES) == set(figure_classes())
    for kind, cls in figure_classes().items():
        assert kind in listed
        assert type(parse_figure(yaml.safe_load(example(kind)))) is cls
    assert json.loads(ctxseg("figure", "--list", "--json").stdout).keys() == figure_classes().keys()


def test_an_example_can_be_used(folder):
    shutil.copy(folder / "guess.nii.gz", folder / "prediction.nii.gz")
    (folder / "e.yaml").write_text(ctxseg("figure", "--example", "errors").stdout)
    result = ctxseg("figure", folder / "e.yaml", "--set", "style.dpi=60", "--set", "foreground=true")
    assert result.exit_code == 0, result.stderr
    assert (folder / "e.png").is_file()


def test_figures_of_a_network(folder, small_config, blobs):
    """The anatomy of a loss, with the logits of a run."""
    import tifffile

    from napari_ctxseg.training import fit

    list(fit(small_config(budget={"steps": 1}), blobs[:1], folder / "run"))
    tifffile.imwrite(folder / "blob.tif", blobs[0].image.array)
    PIL.Image.fromarray(blobs[0].labels).save(folder / "blob.png")
    recipe = {"kind": "loss_anatomy", "image": "blob.tif", "labels": "blob.png", "run": "run", "loss": "ce",
              "style": {"dpi": 60}}  # fmt: skip
    (folder / "a.yaml").write_text(yaml.safe_dump(recipe))
    result = ctxseg("figure", folder / "a.yaml", "--json")
    assert result.exit_code == 0, result.stderr
    stored = yaml.safe_load((folder / "a.recipe.yaml").read_text())
    assert "run/model.safetensors" in stored["made"]["inputs"]
    loss = stored["made"]["chosen"]["weighted loss of the slice"]
    assert 0.01 < loss < 10
    (folder / "a.yaml").write_text(yaml.safe_dump({**recipe, "loss": "dice"}))
    assert "no weighted cross-entropy" in ctxseg("figure", folder / "a.yaml").stderr


def test_every_kind_is_documented_and_in_the_gallery():
    pages = (ROOT / "docs" / "figures.md").read_text(), (ROOT / "docs" / "gallery.md").read_text()
    recipes = {
        path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "docs" / "gallery").glob("*.yaml")
    }
    pictures = {path.stem for path in (ROOT / "docs" / "images" / "gallery").glob("*.png")}
    assert {parse_figure(recipe) and recipe["kind"] for recipe in recipes.values()} | {"view"} == set(
        figure_classes()
    )
    assert pictures == {*recipes, "view"}
    for kind, cls in figure_classes().items():
        assert kind == "view" or f"{{{{ settings: {cls.__name__} }}}}" in pages[0]
        assert f"`{kind}`." in pages[0]
    for name in recipes:
        assert f"images/gallery/{name}.png" in pages[1]
        assert f"{{{{ recipe: {name} }}}}" in pages[1]


# ---------------------------------------------------------------- bad input


def bad(**more):
    return {**RECIPE, **more}


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"kind": "pie"}, "kind: 'pie' is no figure.*overlay, errors"),
        ({"image": "image.nii.gz"}, "names no kind"),
        (bad(colour="red"), "colour: Extra inputs"),
        (bad(style={"width": 3}), "style.width"),
        (bad(style={"font": "No Such Font"}), "style.font.*No Such Font"),
        (bad(predictions=["guess.nii.gz", {"file": "a", "colour": "red"}]), r"predictions\.1\.colour"),
        (bad(reference=None, predictions=[]), "give a reference, or predictions"),
        (bad(image="gone.nii.gz"), "gone.nii.gz: is not there"),
        (bad(reference="small.nii.gz"), r"small.nii.gz: has shape \(2, 3, 4\), the image \(6, 30, 40\)"),
        (bad(view={"index": 6}), "view.index: 6 is outside.*0 to 5"),
        (bad(view={"index": 0, "zoom": {}}), "view.zoom: finds no structure"),
        (bad(view={"zoom": {"box": [0, 0, 31, 5]}}), "view.zoom.box.*beyond"),
        (bad(view={"zoom": {"box": [0, -1, 3, 5]}}), "view.*0 or more"),
        (bad(view={"window": [5, 5]}), "view.*below the second"),
        (bad(reference="empty.nii.gz", predictions=[]), "view.index: cannot be chosen, because nothing is labelled"),
        (bad(style={"scale_length": 50}), "style.scale_length.*longer than the panel"),
        (bad(foreground=False, reference="ids.nii.gz"), "classes: are not given.*hold 40 values"),
        ({"kind": "errors", "image": "image.nii.gz", "reference": "labels.nii.gz"}, "or fp and fn"),
        ({"kind": "probability", "image": "image.nii.gz", "probability": "image.nii.gz"}, "not probabilities"),
        ({"kind": "probability", "image": "image.nii.gz", "probability": "objects.npy"}, "objects.npy: cannot be read"),
        ({"kind": "probability", "image": "image.nii.gz", "probability": "short.npy"}, "short.npy: cannot be read"),
        ({"kind": "montage", "image": "image.nii.gz", "labels": "labels.nii.gz", "slices": [1, 9]}, "slices: 9 is outside"),
        ({"kind": "loss_anatomy", "image": "image.nii.gz", "labels": "labels.nii.gz"}, "give one of: run"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(folder, recipe, words):
    save_nifti(folder / "small.nii.gz", np.ones((2, 3, 4), np.uint8))
    save_nifti(folder / "empty.nii.gz", np.zeros((6, 30, 40), np.uint8))
    save_nifti(folder / "ids.nii.gz", np.tile(np.arange(1, 41, dtype=np.uint8), (6, 30, 1)))
    np.save(folder / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save(folder / "short.npy", np.zeros((6, 30, 40)))
    with open(folder / "short.npy", "r+b") as file:
        file.truncate(5000)
    (folder / "bad.yaml").write_text(yaml.safe_dump(recipe))
    result = ctxseg("figure", folder / "bad.yaml")
    assert result.exit_code == 1
    assert re.search(words, result.stderr), result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (folder / "bad.png").exists()


@pytest.mark.parametrize(
    "text", ["- a list", "kind: [unclosed", "\x00", "!!python/object/apply:os.system ['true']"]
)
def test_what_is_no_recipe(tmp_path, text):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(CtxsegError, match=r"r\.yaml"):
        read_recipe(tmp_path / "r.yaml")


def test_other_suffixes_are_refused(folder):
    assert "Use .png .svg .pdf" in ctxseg("figure", folder / "fig.yaml", "--out", folder / "fig.jpg").stderr
    assert "cannot be read as YAML" in ctxseg("figure", folder / "gone.yaml").stderr
    assert "no figure" in ctxseg("figure", "--example", "pie").stderr


def test_an_empty_slice_is_drawn_and_said(folder):
    made = drawn(folder, **{**RECIPE, "view": {"index": 0}})
    assert not contours_of(panels(made.figure)[0])
    assert made.notes == [
        "labels: nothing is labelled in this slice",
        "guess: nothing is labelled in this slice",
    ]


# ---------------------------------------------------------------- what a viewer shows


def a_view(**more):
    rng = np.random.default_rng(3)
    image = rng.random((4, 6, 8))
    labels = np.zeros((6, 8), np.uint8)
    labels[2:4, 3:6], labels[4, 1] = 1, 9
    layers = [
        SeenLayer(
            "image",
            image,
            scale=(5, 2, 1),
            translate=(100, 10, 20),
            limits=(0, 1),
            colours=("#000000", "#00ff00"),
        ),
        SeenLayer(
            "paint",
            labels,
            "labels",
            (2, 1),
            (10, 20),
            opacity=0.5,
            labels={1: "#ff0000"},
            names={1: "lesion"},
        ),
        SeenLayer("rim", labels, "labels", (2, 1), (10, 20), contour=True, labels={1: "#ffffff"}),
    ]
    values = {
        "field": (9.0, 19.5, 21.0, 27.5),
        "axis": 0,
        "position": 111.0,
        "unit": "mm",
        "ends": ("R", "L", "A", "P"),
    }
    return View(layers, **{**values, **more}), image, labels


def test_the_picture_of_a_view_is_what_was_seen(tmp_path):
    view, image, labels = a_view()
    recipe = view_recipe(view, tmp_path / "v.npz", FigureStyle(width=100, dpi=254))
    made = draw(recipe, Sources(tmp_path))
    (axes,) = panels(made.figure)
    light = np.asarray(by_gid(axes, "image")[0].get_array())
    assert light.shape == (1500, 1000, 3)  # 12 x 8 mm on 1000 pixels
    # Position 111 lies nearest to slice 2 (100, 105, 110, 115); a pixel of the layer is 125 x 250 of the picture.
    for row, column in ((0, 0), (2, 3), (3, 5), (4, 1), (5, 7)):
        corners = light[
            row * 250 + 5 : (row + 1) * 250 - 4 : 240, column * 125 + 4 : (column + 1) * 125 - 3 : 117
        ]
        green = round(image[2, row, column] * 255.999 // 1) / 255
        wanted = (0.5, green / 2, 0) if labels[row, column] == 1 else (0, green, 0)
        assert corners.shape == (2, 2, 3)
        assert np.allclose(corners, wanted, atol=0.005), (row, column)
    assert contours_of(axes)["#ffffff"] >= {(2 * 250 - 0.5, 4 * 125 - 0.5 - 62.5)}
    (bar,) = by_gid(axes, "scale_bar")
    assert bar.get_width() / 1000 * 8 == pytest.approx(2)
    assert texts(axes, "scale_text") == ["2 mm"]
    assert texts(axes, "orientation") == ["R", "L", "A", "P"]
    assert [t.get_text() for t in made.figure.legends[0].get_texts()] == ["lesion"]


def test_a_view_is_kept_and_made_again(tmp_path):
    view, _, _ = a_view(caption="here")
    recipe = view_recipe(view, tmp_path / "v.npz", FigureStyle(dpi=60))
    first = make_figure(recipe, Sources(tmp_path), tmp_path / "v.png")
    stored, notes = read_recipe(first.recipe)
    assert stored.arrays.as_posix() == "v.npz"
    assert not notes
    again = make_figure(stored, Sources(tmp_path), tmp_path / "w.png")
    assert first.files[0].read_bytes() == again.files[0].read_bytes()
    with np.load(tmp_path / "v.npz", allow_pickle=False) as arrays:
        assert {name: arrays[name].shape for name in arrays} == {f"layer_{i}": (6, 8) for i in range(3)}


def test_a_view_in_panels_with_a_part_drawn_larger(tmp_path):
    view, image, _ = a_view(caption="all")
    recipe = view_recipe(view, tmp_path / "v.npz", FigureStyle(width=100, dpi=254))
    zoom = (12.0, 21.5, 16.0, 24.5)  # rows 1.5 to 3.5, columns 2 to 5 of the layers
    made = draw(recipe.model_copy(update={"panels": "each", "zoom": zoom}), Sources(tmp_path))
    every = panels(made.figure)
    assert [text.get_text() for text in by_gid(made.figure, "title")] == ["image", "paint", "rim"]
    assert len(every) == 6
    lights = [np.asarray(by_gid(axes, "image")[0].get_array()) for axes in every]
    assert len({light.shape for light in lights[:3]}) == 1
    assert not lights[0][..., 0].any(), "the first panel shows the image alone"
    assert lights[1][..., 0].any()
    height, width = lights[3].shape[:2]
    assert height / width == pytest.approx(4 / 3, rel=0.01)
    assert lights[3][height // 2, width // 2] == pytest.approx((0, image[2, 2, 3], 0), abs=0.03)
    assert len(by_gid(every[0], "zoom_frame")) == 2
    assert not by_gid(every[3], "zoom_frame")
    assert [bool(by_gid(axes, "scale_bar")) for axes in every] == [True, False, False, True, False, False]
    one = draw(recipe.model_copy(update={"zoom": zoom}), Sources(tmp_path))
    assert len(panels(one.figure)) == 2
    with pytest.raises(InputError, match=r"zoom.*is empty"):
        draw(recipe.model_copy(update={"zoom": (12.0, 21.5, 12.0, 24.5)}), Sources(tmp_path))


def test_colours_of_a_view_for_colour_blind_people(tmp_path):
    view, _, _ = a_view()
    layers = [
        dataclasses.replace(view.layers[1], labels={1: "#ff0000", 9: "#E69F00"}),
        dataclasses.replace(view.layers[2], labels={1: "#ff0000", 9: "#00ff00"}),
    ]
    style = FigureStyle(palette="colour_blind", dpi=60)
    recipe = view_recipe(View(layers, view.field), tmp_path / "v.npz", style)
    made = draw(recipe, Sources(tmp_path))
    (axes,) = panels(made.figure)
    # The orange is of the palette and stays; red and green become other colours of it, red the same in both layers.
    assert set(contours_of(axes)) == {"#56b4e9", "#009e73"}
    light = np.asarray(by_gid(axes, "image")[0].get_array())
    seen = {
        tuple(np.round(colour * 2 * 255).astype(int)) for colour in np.unique(light.reshape(-1, 3), axis=0)
    }
    assert seen == {(0, 0, 0), (0x56, 0xB4, 0xE9), (0xE6, 0x9F, 0x00)}


def test_additive_layers_add_their_light(tmp_path):
    one = np.full((4, 4), 0.25)
    layers = [SeenLayer("a", one, limits=(0, 1), colours=("#000000", "#ff0000")),
              SeenLayer("b", one * 2, limits=(0, 1), colours=("#000000", "#0000ff"), additive=True)]  # fmt: skip
    recipe = view_recipe(View(layers, (-0.5, -0.5, 3.5, 3.5)), tmp_path / "v.npz")
    light = np.asarray(by_gid(draw(recipe, Sources(tmp_path)).figure, "image")[0].get_array())
    assert light[5, 5] == pytest.approx((0.25, 0, 0.5), abs=0.005)


def test_outside_the_layers_it_is_black_and_layers_beside_the_slice_are_left_out(tmp_path):
    view, _, _ = a_view(field=(0.0, 0.0, 21.0, 27.5), position=300.0)
    recipe = view_recipe(view, tmp_path / "v.npz")
    assert [layer.name for layer in recipe.layers] == ["paint", "rim"]
    light = np.asarray(by_gid(draw(recipe, Sources(tmp_path)).figure, "image")[0].get_array())
    assert not light[10, 10].any()
    assert light.any()


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (SeenLayer("x", np.zeros((2, 3, 4, 5))), "x: has 4 axes"),
        (SeenLayer("x", np.zeros((3, 4)), "labels"), "x: holds float64"),
        (SeenLayer("x", np.zeros((3, 4)), scale=(1, 1, 1)), "3 scales"),
    ],
)
def test_layers_that_do_not_fit_their_description(tmp_path, layer, words):
    with pytest.raises(InputError, match=words):
        view_recipe(View([layer], (0, 0, 1, 1)), tmp_path / "v.npz")
    assert not (tmp_path / "v.npz").exists()


def test_arrays_of_a_view_hold_no_objects(tmp_path):
    view, _, _ = a_view()
    recipe = view_recipe(view, tmp_path / "v.npz")
    np.savez(tmp_path / "v.npz", layer_0=np.array([{"a": 1}], dtype=object))
    with pytest.raises(FileError, match="cannot be read"):
        draw(recipe, Sources(tmp_path))
    (tmp_path / "v.npz").write_bytes(b"PK no archive")
    with pytest.raises(FileError, match="cannot be read"):
        draw(recipe, Sources(tmp_path))
    np.savez(tmp_path / "v.npz", other=np.zeros(3))
    with pytest.raises(InputError, match="holds no array layer_0"):
        draw(recipe, Sources(tmp_path))
