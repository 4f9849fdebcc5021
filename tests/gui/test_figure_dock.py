"""The dock Figure in a real napari window: what is seen, zoomed, coloured, saved, opened again, and refused."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import yaml
from qtpy.QtWidgets import QFileDialog, QToolButton

from napari_ctxseg import io
from napari_ctxseg.config.figure_parts import ViewConfig
from napari_ctxseg.engine.client import EngineClient
from napari_ctxseg.errors import InputError
from napari_ctxseg.figures import Sources, draw, read_recipe
from napari_ctxseg.gui.figure_around import known_files
from napari_ctxseg.gui.figure_dock import FigureDock
from napari_ctxseg.gui.figure_editors import ViewEditor
from napari_ctxseg.gui.figure_zoom import NAME
from napari_ctxseg.gui.seen import capture
from napari_ctxseg.gui.train_dock import WIDEST
from napari_ctxseg.gui.workbench import TABS, Workbench
from napari_ctxseg.image import Image, plain_affine
from napari_ctxseg.project import Project

from .conftest import FakeEngine

pytestmark = pytest.mark.viewer

SHAPE = (4, 40, 50)
HANGS = 60_000


@pytest.fixture(autouse=True)
def own_settings(tmp_path, monkeypatch):
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: tmp_path / "settings")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: tmp_path / "cache")


@pytest.fixture
def viewer(make_napari_viewer_proxy):
    made = make_napari_viewer_proxy(show=True)
    made.window.resize(1280, 800)
    return made


def add_layers(viewer):
    """A volume and two label layers in mm."""
    place = {"scale": (5.0, 1.5, 1.5), "translate": (10.0, 2.0, 4.0), "units": ("mm",) * 3}
    rng = np.random.default_rng(0)
    image = viewer.add_image(rng.normal(size=SHAPE).astype(np.float32), name="mr", **place)
    labels = np.zeros(SHAPE, np.uint8)
    labels[:, 10:20, 15:30] = 1
    labels[2, 22:30, 15:30] = 3
    first = viewer.add_labels(labels, name="lv", **place)
    second = viewer.add_labels(np.roll(labels, 2, axis=1), name="guess", **place)
    viewer.dims.set_current_step(0, 2)
    return image, first, second


@pytest.fixture
def dock(viewer):
    made = FigureDock(viewer, EngineClient(1, lane="figures"))
    viewer.window.add_dock_widget(made, name="Figure")
    yield made
    made.shut_down()


def previewed(dock, qtbot):
    """The next preview that is not out of date."""
    qtbot.waitUntil(
        lambda: dock.making.picture is not None and not dock.making.busy and not dock._quiet, timeout=HANGS
    )
    return dock.making.picture


def saved(dock, qtbot, out):
    dock.making.status = ""
    dock.save_to(out)
    qtbot.waitUntil(lambda: "Saved" in dock.making.status, timeout=HANGS)


# ---------------------------------------------------------------- what is seen


def test_slice_zoom_and_visible_layers_are_taken(viewer):
    _, first, second = add_layers(viewer)
    viewer.add_points([[10, 10, 10]], name="dots")
    second.visible = False
    first.contour = 2
    viewer.scene.camera.center = (0, 30, 40)
    viewer.scene.camera.zoom = 20
    seen = capture(viewer, {1: "LV"})
    view = seen.view()
    assert [layer.name for layer in view.layers] == ["mr", "lv"]
    assert view.unit == "mm"
    np.testing.assert_array_equal(view.layers[1].data, first.data[2])
    assert view.layers[1].contour
    assert set(view.layers[1].labels) == {1, 3}
    assert view.layers[1].names == {1: "LV", 3: "lv 3"}
    assert view.layers[0].limits == tuple(viewer.layers["mr"].contrast_limits)
    height, width = viewer.canvas.size
    top, left, bottom, right = view.field
    assert top == pytest.approx(max(1.25, 30 - height / 40))
    assert bottom == pytest.approx(min(61.25, 30 + height / 40))
    assert right - left <= width / 20 + 1e-6
    assert "'dots' is not drawn" in seen.notes[0]


def test_other_planes_and_orders_are_taken_as_shown(viewer):
    image, *_ = add_layers(viewer)
    viewer.dims.order = (1, 2, 0)
    viewer.dims.set_current_step(1, 12)
    seen = capture(viewer, {}).view()
    np.testing.assert_array_equal(seen.layers[0].data, np.asarray(image.data)[:, 12].T)
    assert seen.layers[0].scale == (1.5, 5.0)
    viewer.dims.ndisplay = 3
    with pytest.raises(InputError, match="2-D"):
        capture(viewer, {})


def test_strokes_after_the_capture_do_not_change_it(viewer):
    _, first, _ = add_layers(viewer)
    seen = capture(viewer, {})
    first.paint((2, 2, 2), 1)
    assert seen.view().layers[1].data[2, 2] == 0


# ---------------------------------------------------------------- the dock


def test_preview_follows_and_the_picture_is_made_again(dock, viewer, qtbot, tmp_path):
    add_layers(viewer)
    before = previewed(dock, qtbot)
    assert not dock.preview.pixmap().isNull()
    viewer.layers["guess"].visible = False
    qtbot.waitUntil(
        lambda: dock.making.picture is not None and dock.making.picture is not before, timeout=HANGS
    )
    dock.zoom.draw()
    assert viewer.layers[-1].name == NAME
    viewer.layers[-1].add_rectangles(np.array([[20, 30], [20, 50], [35, 50], [35, 30]], float))
    dock.view_panel.panels.setCurrentIndex(1)
    dock.style_panel.safe.setChecked(True)
    dock.style_panel.bar.setValue(10)
    saved(dock, qtbot, tmp_path / "fig2.png")
    values = yaml.safe_load((tmp_path / "fig2.recipe.yaml").read_text())
    assert values["zoom"] == [20.0, 30.0, 35.0, 50.0]
    assert values["panels"] == "each"
    assert values["style"]["scale_length"] == 10
    assert values["arrays"] == "fig2.npz"
    assert [layer["name"] for layer in values["layers"]] == ["mr", "lv"]
    out = tmp_path / "again.png"
    command = [
        sys.executable,
        "-m",
        "napari_ctxseg.cli",
        "figure",
        str(tmp_path / "fig2.recipe.yaml"),
        "--out",
        str(out),
    ]
    subprocess.run(command, check=True)
    assert out.read_bytes() == (tmp_path / "fig2.png").read_bytes()
    for suffix in (".svg", ".pdf"):
        saved(dock, qtbot, (tmp_path / "fig2").with_suffix(suffix))
        assert (tmp_path / f"fig2{suffix}").stat().st_size > 1000
    dock.view_panel.no_zoom.click()
    assert NAME not in viewer.layers


def test_a_recipe_is_opened_again_and_changed(dock, viewer, qtbot, tmp_path):
    add_layers(viewer)
    previewed(dock, qtbot)
    saved(dock, qtbot, tmp_path / "a.png")
    viewer.layers.clear()
    dock.open_recipe(tmp_path / "a.recipe.yaml")
    assert not dock.view_panel.follow.isChecked()
    saved(dock, qtbot, tmp_path / "b.png")
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "a.png").read_bytes()
    dock.style_panel.form.editor("legend").value = False
    saved(dock, qtbot, tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes() != (tmp_path / "a.png").read_bytes()


def test_a_figure_of_files_through_the_form(dock, viewer, qtbot, tmp_path):
    spacing = (5.0, 1.5, 1.5)
    image = Image(
        np.random.default_rng(0).normal(size=SHAPE).astype(np.float32),
        "zyx",
        spacing,
        plain_affine(spacing),
        unit="mm",
    )
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:3, 10:20, 15:30] = 1
    io.write_map(tmp_path / "im.nii", image.array, image)
    for name in ("ref", "guess"):
        io.write_labels(tmp_path / f"{name}.nii", labels, image)
    dock.kind.setCurrentIndex(dock.kind.findData("overlay"))
    qtbot.waitUntil(lambda: "needs Image" in dock.status.text(), timeout=HANGS)
    fields = dock._fields["overlay"]
    fields._editors["image"].setText(str(tmp_path / "im.nii"))
    fields._editors["reference"].setText(str(tmp_path / "ref.nii"))
    fields._editors["predictions"].setText(f"{tmp_path / 'guess.nii'}")
    view = fields._editors["view"]
    view.index.box.setValue(2)
    view.zoom.setCurrentText("inset")
    view.zoom_margin.box.setValue(4)
    fields._colours["reference"].put("#112233")
    previewed(dock, qtbot)
    saved(dock, qtbot, tmp_path / "o.png")
    recipe, notes = read_recipe(tmp_path / "o.recipe.yaml")
    assert notes == []
    assert recipe.view.index == 2
    assert (recipe.view.zoom.place, recipe.view.zoom.margin) == ("inset", 4)
    assert recipe.reference.colour == "#112233"
    assert draw(recipe, Sources(tmp_path)).chosen["zoom"]
    fields._editors["reference"].setText(str(tmp_path / "gone.nii"))
    qtbot.waitUntil(
        lambda: "gone.nii" in dock.status.text() and "is not there" in dock.status.text(), timeout=HANGS
    )
    fields._editors["classes"].setText("{lv: ")
    qtbot.waitUntil(lambda: "cannot be read" in dock.status.text(), timeout=HANGS)
    fields._editors["classes"].setText("")
    view.low.setText("1")
    qtbot.waitUntil(lambda: "needs both numbers" in dock.status.text(), timeout=HANGS)
    view.high.setText("much")
    qtbot.waitUntil(lambda: "needs 2 numbers" in dock.status.text(), timeout=HANGS)
    fields._colours["reference"].put(None)
    dock.open_recipe(tmp_path / "o.recipe.yaml")
    assert fields.values()["view"]["index"] == 2
    assert "window" not in fields.values()["view"]
    assert fields._colours["reference"].colour == "#112233"
    assert fields._editors["reference"].text().endswith("ref.nii"), "the button has the colour"


def test_layers_without_a_file_are_written_beside_the_figure(dock, viewer, qtbot, tmp_path):
    """The recipe names files, so it draws the same picture without the viewer."""
    image, first, _ = add_layers(viewer)
    dock.kind.setCurrentIndex(dock.kind.findData("overlay"))
    fields = dock._fields["overlay"]
    known = dict(known_files(viewer))
    assert set(known) == {f"layer {name}, as it is when drawn" for name in ("mr", "lv", "guess")}
    put = {"image": "mr", "reference": "lv", "predictions": "guess"}
    for name, layer in put.items():
        fields._editors[name].setText(str(known[f"layer {layer}, as it is when drawn"]))
    fields._editors["view"].index.box.setValue(2)
    previewed(dock, qtbot)
    first.paint((2, 30, 40), 3)
    saved(dock, qtbot, tmp_path / "o.png")
    assert read_recipe(tmp_path / "o.recipe.yaml")[1] == []
    text = (tmp_path / "o.recipe.yaml").read_text()
    assert "o.layers/mr.nii" in text
    assert str(dock.making.scratch) not in text
    stored = io.read_labels(tmp_path / "o.layers" / "lv.nii")
    np.testing.assert_array_equal(stored.array, first.data)
    assert stored.spacing == pytest.approx((5.0, 1.5, 1.5))
    np.testing.assert_allclose(io.read(tmp_path / "o.layers" / "mr.nii").array, image.data)
    drawn = (tmp_path / "o.png").read_bytes()
    viewer.layers.clear()
    dock.open_recipe(tmp_path / "o.recipe.yaml")
    saved(dock, qtbot, tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == drawn
    assert not (tmp_path / "again.layers").exists()
    fields._editors["image"].setText("layer:mr")
    with pytest.raises(InputError, match="not in the viewer any more"):
        dock.build()
    viewer.add_image(np.zeros((20, 20, 3), np.uint8), name="mr", rgb=True)
    with pytest.raises(InputError, match="colour image"):
        dock.build()


def test_numbers_and_names_have_editors(dock, viewer, qtbot):
    dock.kind.setCurrentIndex(dock.kind.findData("errors"))
    errors = dock._fields["errors"]
    assert errors.values()["threshold"] == 0.5
    box = errors._editors["threshold"].box
    box.setValue(7)
    assert errors.values()["threshold"] == 1.0, "never out of bounds"
    assert "channel" not in errors.values(), "left open"
    errors._editors["channel"].box.setValue(1)
    assert errors.values()["channel"] == 1
    view = errors._editors["view"]
    assert view.box.isHidden()
    view.crop.setCurrentIndex(2)
    assert not view.box.isHidden()
    view.box.setText("1, 2, 30, 40")
    view.low.setText("-1.5")
    view.high.setText("2")
    view.axis.setCurrentText("y")
    found = ViewConfig.model_validate(errors.values()["view"])
    assert (found.crop, found.window, found.axis, found.index) == ((1, 2, 30, 40), (-1.5, 2.0), "y", None)
    again = ViewEditor()
    qtbot.addWidget(again)
    again.put(found)
    assert ViewConfig.model_validate(again.value()) == found
    dock.kind.setCurrentIndex(dock.kind.findData("boxplots"))
    plots = dock._fields["boxplots"]
    line = plots._editors["measures"]
    menu = next(each.menu() for each in line.parent().findChildren(QToolButton))
    for wanted in ("hd95", "dice", "hd95"):
        menu.aboutToShow.emit()
        next(action for action in menu.actions() if action.text() == wanted).trigger()
    assert plots.values()["measures"] == ["dice"]
    dock._fit_width()
    assert dock.scroll_area.minimumWidth() <= WIDEST


def test_a_labels_layer_is_chosen_and_its_strokes_are_followed(dock, viewer, qtbot):
    _, _, second = add_layers(viewer)
    previewed(dock, qtbot)
    panel = dock.view_panel.labels
    qtbot.waitUntil(lambda: panel.count() == 3, timeout=HANGS)
    assert [panel.itemText(n) for n in range(3)] == ["All labels in sight", "only lv", "only guess"]

    def names():
        dock.build()
        return [layer.name for layer in dock._taken.view().layers]

    assert names() == ["mr", "lv", "guess"]
    panel.setCurrentIndex(2)
    panel.activated.emit(2)
    assert names() == ["mr", "guess"]
    before = previewed(dock, qtbot)
    second.paint((2, 5, 5), 1)
    qtbot.waitUntil(
        lambda: dock.making.picture is not before and not np.array_equal(dock.making.picture, before),
        timeout=HANGS,
    )
    second.name = "mine"
    qtbot.waitUntil(lambda: panel.currentText() == "only mine", timeout=HANGS)
    viewer.layers.remove("mine")
    qtbot.waitUntil(lambda: panel.currentText() == "All labels in sight", timeout=HANGS)
    assert names() == ["mr", "lv"]


def test_a_loss_map_needs_torch_and_the_screen_does_not(dock, viewer, qtbot, tmp_path):
    spacing = (5.0, 1.5, 1.5)
    image = Image(np.zeros(SHAPE, np.float32), "zyx", spacing, plain_affine(spacing), unit="mm")
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:3, 10:20, 15:30] = 1
    io.write_labels(tmp_path / "l.nii", labels, image)
    dock.kind.setCurrentIndex(dock.kind.findData("contour"))
    dock._fields["contour"]._editors["labels"].setText(str(tmp_path / "l.nii"))
    assert previewed(dock, qtbot).shape[2] == 3


def test_nothing_to_see_and_names_that_cannot_be_written(dock, viewer, qtbot, tmp_path, monkeypatch):
    qtbot.waitUntil(lambda: "shows no image or labels" in dock.status.text(), timeout=HANGS)
    add_layers(viewer)
    previewed(dock, qtbot)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "a.bmp"), "PNG (*.png)"))
    dock.save_button.click()
    assert ".bmp" in dock.status.text()
    assert ".png .svg .pdf" in dock.status.text()
    monkeypatch.setattr(
        QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "no" / "a"), "PNG (*.png)")
    )
    (tmp_path / "no").write_text("a file")
    dock.save_button.click()
    qtbot.waitUntil(lambda: dock.making.failed, timeout=HANGS)
    assert "no" in dock.status.text()
    (tmp_path / "bad.yaml").write_text("kind: overlay\n")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(tmp_path / "bad.yaml"), ""))
    dock.open_button.click()
    assert "bad.yaml" in dock.status.text()


def test_a_killed_engine_comes_back(dock, viewer, qtbot):
    add_layers(viewer)
    previewed(dock, qtbot)
    dock.making.engine._process.kill()
    qtbot.waitUntil(lambda: dock.making.failed, timeout=HANGS)
    dock.making.forget()
    dock.view_panel.button.click()
    previewed(dock, qtbot)


def test_in_the_workbench_the_recipe_is_kept_in_the_project(viewer, qtbot, tmp_path):
    with Project.create(tmp_path / "p.ctxseg", classes={"LV": 1}) as made:
        spacing = (5.0, 1.5, 1.5)
        array = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
        made.add_array(Image(array, "zyx", spacing, plain_affine(spacing), unit="mm"), "p0")
        labels = np.zeros(SHAPE, np.uint8)
        labels[:, 10:20, 15:30] = 1
        made.import_labels("p0", labels, complete=True)
    bench = Workbench(viewer, FakeEngine(), FakeEngine(), tmp_path / "runs")
    viewer.window.add_dock_widget(bench, name="Workbench")
    try:
        bench.project_dock.open_path(tmp_path / "p.ctxseg")
        qtbot.waitUntil(lambda: bench.project_dock.workspace.opened is not None, timeout=HANGS)
        bench.tabs.setCurrentIndex([tab.title for tab in TABS].index("Figure"))
        # matplotlib is imported in the background first
        qtbot.waitUntil(lambda: isinstance(bench.tabs.currentWidget(), FigureDock), timeout=HANGS)
        dock = bench.tabs.currentWidget()
        previewed(dock, qtbot)
        (tmp_path / "elsewhere").mkdir()
        saved(dock, qtbot, tmp_path / "elsewhere" / "f.png")
        copy = tmp_path / "p.ctxseg" / "figures" / "f.recipe.yaml"
        qtbot.waitUntil(copy.exists, timeout=HANGS)
        recipe, notes = read_recipe(copy)
        assert notes == []
        assert recipe.layers[1].names == {1: "LV"}
        assert (copy.parent / recipe.arrays).exists()
    finally:
        bench.shut_down()
