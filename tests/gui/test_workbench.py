"""The workbench in a real napari window: painted with the mouse's own calls, saved, switched, closed in every phase."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QMessageBox

from napari_ctxseg.errors import InputError
from napari_ctxseg.events import JobDone, RunFinished, StepEnd
from napari_ctxseg.gui import project_dock as module
from napari_ctxseg.gui import workbench
from napari_ctxseg.gui.recent import recent_projects
from napari_ctxseg.gui.timing import costs
from napari_ctxseg.gui.workbench import TABS, Workbench
from napari_ctxseg.image import Image, plain_affine
from napari_ctxseg.project import Project, Round, Scores, new_id, save_round, unnamed_projects

from .conftest import FakeEngine

pytestmark = pytest.mark.viewer

SHAPE = (6, 40, 50)


@pytest.fixture(autouse=True)
def own_settings(tmp_path, monkeypatch):
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: tmp_path / "settings")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: tmp_path / "cache")


class FakeMaps(FakeEngine):
    """An engine of the lane `maps` that never answers."""

    pid = 1

    def maps(self, request):
        self.asked.append(("maps", request))
        return len(self.asked)


@pytest.fixture
def viewer(make_napari_viewer_proxy):
    return make_napari_viewer_proxy(show=True)


@pytest.fixture
def bench(viewer, tmp_path):
    made = Workbench(viewer, FakeEngine(), FakeMaps(), tmp_path / "runs")
    viewer.window.add_dock_widget(made, name="Workbench")
    yield made
    made.shut_down()


@pytest.fixture
def path(tmp_path):
    folder = tmp_path / "heart.ctxseg"
    with Project.create(folder, classes={"LV": 1, "myo": 5}) as made:
        for number in range(2):
            array = np.random.default_rng(number).normal(size=SHAPE).astype(np.float32)
            made.add_array(
                Image(array, "zyx", (8.0, 1.5, 1.5), plain_affine((8.0, 1.5, 1.5)), unit="mm"), f"p{number}"
            )
    return folder


def add_image(viewer):
    return viewer.add_image(np.random.default_rng(0).normal(size=SHAPE).astype(np.float32), name="mr")


def stored(path, name):
    with Project.open(path, read_only=True) as found:
        return found.labels(name).read()


def opened(bench, qtbot, path):
    bench.project_dock.open_path(path)
    workspace = bench.project_dock.workspace
    qtbot.waitUntil(lambda: workspace.opened is not None and workspace.saving[0] == "saved", timeout=20_000)
    return workspace


def test_a_stroke_in_a_new_layer_is_in_a_project(bench, viewer, qtbot):
    add_image(viewer)
    panel = bench.train_dock.layer_panel
    qtbot.waitUntil(panel.new.isEnabled, timeout=20_000)
    panel.new.click()
    workspace = bench.project_dock.workspace
    qtbot.waitUntil(lambda: workspace.opened is not None and workspace.saving[0] == "saved", timeout=20_000)
    assert workspace.project.is_unnamed
    labels = bench.train_dock.session.labels
    assert workspace.opened.labels is labels
    labels.paint((3, 20, 20), 1)
    qtbot.waitUntil(lambda: stored(workspace.project.path, "mr")[3].any(), timeout=20_000)
    qtbot.waitUntil(lambda: "saved" in bench.saved.text())
    assert "not named yet" in bench.project_dock.name.text()
    qtbot.waitUntil(lambda: bench.project_dock.image_panel.table.rowCount() == 1, timeout=10_000)
    kept = workspace.project.path
    bench.shut_down()
    assert unnamed_projects() == [kept], "it is there the next time"
    assert kept in recent_projects()


def test_an_undone_stroke_leaves_no_mark(bench, viewer, qtbot, path):
    workspace = opened(bench, qtbot, path)
    labels = workspace.opened.labels
    viewer.dims.set_current_step(0, 4)
    labels.paint((4, 20, 20), 1)

    def on_disk():
        with Project.open(path, read_only=True) as found:
            store = found.labels("p0")
            return bool(store.read()[4].any()), store.marks.labelled

    qtbot.waitUntil(lambda: on_disk() == (True, {0: (4,)}), timeout=20_000)
    labels.undo()
    qtbot.waitUntil(lambda: on_disk() == (False, {}), timeout=20_000)
    labels.redo()
    qtbot.waitUntil(lambda: on_disk() == (True, {0: (4,)}), timeout=20_000)


def test_an_unnamed_project_without_paint_leaves_nothing(bench, viewer, qtbot):
    add_image(viewer)
    panel = bench.train_dock.layer_panel
    qtbot.waitUntil(panel.new.isEnabled, timeout=20_000)
    panel.new.click()
    workspace = bench.project_dock.workspace
    qtbot.waitUntil(lambda: workspace.opened is not None, timeout=20_000)
    bench.shut_down()
    assert unnamed_projects() == []


def more_images(path, count):
    with Project.open(path) as made:
        for number in range(count):
            array = np.random.default_rng(number).normal(size=SHAPE).astype(np.float32)
            made.add_array(
                Image(array, "zyx", (1.0, 1.0, 1.0), plain_affine((1.0, 1.0, 1.0))),
                f"P{number // 2}_{number}",
            )


def test_patients_are_named_by_a_pattern_on_screen(bench, qtbot, path):
    more_images(path, 6)
    workspace = opened(bench, qtbot, path)
    panel = bench.project_dock.image_panel
    qtbot.waitUntil(lambda: panel.table.rowCount() == 8, timeout=10_000)
    assert panel.table.isColumnHidden(3), "every image is its own patient"
    qtbot.waitUntil(panel.patients.isEnabled, timeout=10_000)
    panel.patients.click()
    dialog = panel.dialog
    ok = dialog.buttons.button(dialog.buttons.StandardButton.Ok)
    assert not ok.isEnabled()
    before = workspace.project.spec
    dialog.pattern.setText("P(")
    dialog.pattern.textEdited.emit("P(")
    assert "regular expression" in dialog.note.text()
    assert not ok.isEnabled()
    dialog.pattern.setText(r"P\d")
    dialog.pattern.textEdited.emit(r"P\d")
    assert [dialog.table.item(row, 1).text() for row in range(8)] == [
        "p0",
        "p1",
        "P0",
        "P0",
        "P1",
        "P1",
        "P2",
        "P2",
    ]
    assert "Not matched, so as before: p0, p1" in dialog.note.text()
    dialog.table.item(1, 1).setText("P0")
    assert dialog.patients()["p1"] == "P0"
    assert "Not matched" not in dialog.note.text()
    shown = {dialog.table.item(row, 0).text(): dialog.table.item(row, 2).text() for row in range(8)}
    assert workspace.project.spec == before, "only shown until OK"
    assert ok.isEnabled()
    ok.click()
    qtbot.waitUntil(lambda: not panel.table.isColumnHidden(3), timeout=10_000)
    assert [panel.table.item(row, 3).text() for row in range(8)] == [
        "p0",
        "P0",
        "P0",
        "P0",
        "P1",
        "P1",
        "P2",
        "P2",
    ]
    with Project.open(path, read_only=True) as found:
        assert [image.group for image in found.spec.images][1] == "P0"
        assert {name: found.role(name) for name in found.names} == {
            name: text.split(" ")[-1] for name, text in shown.items()
        }
        roles = {image.group: found.role(image.name) for image in found.spec.images}
        assert "validation" in roles.values()
    assert bench.project_dock.scroll_area.minimumWidth() < module.WIDEST, "no scrolling sideways"


def test_regions_are_written_in_a_line(bench, qtbot, path):
    workspace, dock = opened(bench, qtbot, path), bench.project_dock
    qtbot.waitUntil(dock.regions.isEnabled, timeout=10_000)
    assert dock.regions.text() == ""

    def write(text):
        dock.regions.setFocus()
        dock.regions.selectAll()
        qtbot.keyClicks(dock.regions, text)
        qtbot.keyClick(dock.regions, Qt.Key.Key_Return)
        dock.name.setFocus()
        bench.setFocus()
        dock.regions.clearFocus()

    write("heart=1+5, LV=1")
    assert workspace.project.spec.regions == {"heart": (1, 5), "LV": (1,)}
    with Project.open(path, read_only=True) as stored_:
        assert stored_.spec.regions == {"heart": (1, 5), "LV": (1,)}
    write("heart=1+7")
    assert "value 7, which is no class" in dock.session.status
    assert workspace.project.spec.regions == {"heart": (1, 5), "LV": (1,)}
    qtbot.waitUntil(lambda: dock.regions.text() == "heart=1+5, LV=1", timeout=10_000)
    dock.regions.setFocus()
    dock.regions.selectAll()
    qtbot.keyClick(dock.regions, Qt.Key.Key_Delete)
    qtbot.keyClick(dock.regions, Qt.Key.Key_Return)
    assert workspace.project.spec.regions == {}
    assert dock.scroll_area.minimumWidth() < module.WIDEST, "no scrolling sideways"


def test_patients_of_a_read_only_project_are_greyed_with_the_reason(bench, qtbot, path):
    with Project.open(path):
        bench.project_dock.open_path(path)
        panel = bench.project_dock.image_panel
        qtbot.waitUntil(lambda: panel.table.rowCount() == 2, timeout=20_000)
        qtbot.waitUntil(lambda: "reading only" in panel.patients.toolTip(), timeout=10_000)
        assert not panel.patients.isEnabled()
        assert "reading only" in panel.role.toolTip()
        assert not bench.project_dock.regions.isEnabled()
        assert "reading only" in bench.project_dock.regions.toolTip()


def test_patients_stay_while_a_training_needs_them(bench, qtbot, path):
    workspace = opened(bench, qtbot, path)
    panel, session = bench.project_dock.image_panel, bench.train_dock.session
    qtbot.waitUntil(panel.patients.isEnabled, timeout=10_000)
    session.phase = "training"
    session.changed.emit()
    qtbot.waitUntil(lambda: not panel.patients.isEnabled(), timeout=10_000)
    assert "training is under way" in panel.patients.toolTip()
    with pytest.raises(InputError, match="training is under way"):
        workspace.set_patients({"p0": "a"})
    session.phase = "idle"


def test_a_project_is_opened_labelled_and_switched(bench, viewer, qtbot, path):
    workspace = opened(bench, qtbot, path)
    dock = bench.project_dock
    qtbot.waitUntil(lambda: dock.image_panel.table.rowCount() == 2, timeout=10_000)
    assert dock.image_panel.counts.text().startswith("0 of 2 images labelled")
    viewer.dims.set_current_step(0, 2)
    workspace.opened.labels.paint((2, 20, 20), 5)
    qtbot.waitUntil(lambda: dock.image_panel.counts.text().startswith("1 of 2"), timeout=10_000)
    assert dock.image_panel.table.item(0, 1).text() == "1 of 6"
    dock.image_panel.table.cellDoubleClicked.emit(1, 0)
    qtbot.waitUntil(lambda: workspace.opened is not None and workspace.opened.name == "p1", timeout=10_000)
    assert [layer.name for layer in viewer.layers] == ["p1", "p1 labels"]
    assert bench.train_dock.session.labels.name == "p1 labels"
    assert (stored(path, "p0") == 5).any()
    dock.image_panel.table.setCurrentCell(1, 0)
    dock.image_panel.role.setCurrentText("test")
    dock.image_panel.role.activated.emit(dock.image_panel.role.currentIndex())
    qtbot.waitUntil(lambda: dock.image_panel.table.item(1, 2).text() == "test", timeout=10_000)
    assert Project.open(path, read_only=True).role("p1") == "test"
    assert [name for name in costs.ours if not name.startswith(("TrainDock", "ClassPanel"))], "timed"


def test_a_split_without_labels_is_said_in_both_tabs(bench, viewer, qtbot, path):
    with Project.open(path) as made:
        made.set_role("p1", "validation")
    workspace = opened(bench, qtbot, path)
    panel, status = bench.project_dock.image_panel, bench.train_dock.status
    qtbot.waitUntil(lambda: "Nothing to train on" in panel.advice.text(), timeout=10_000)
    viewer.dims.set_current_step(0, 2)
    workspace.opened.labels.paint((2, 20, 20), 5)
    qtbot.waitUntil(lambda: "paint in one of p1" in panel.advice.text(), timeout=10_000)
    qtbot.waitUntil(lambda: panel.advice.text() in status.text(), timeout=10_000)
    workspace.open_image("p1")
    qtbot.waitUntil(lambda: workspace.opened is not None, timeout=10_000)
    viewer.dims.set_current_step(0, 2)
    workspace.opened.labels.paint((2, 20, 20), 5)
    qtbot.waitUntil(lambda: panel.advice.text() == "", timeout=10_000)
    assert panel.advice.isHidden()


def test_the_key_marks_the_shown_slice_and_is_given_back(bench, viewer, qtbot, path):
    from napari_ctxseg.gui.layers import plain

    workspace = opened(bench, qtbot, path)
    viewer.dims.set_current_step(0, 4)
    (binding,) = [bound for key, bound in plain(viewer).keymap.items() if str(key) == module.MARK_KEY]
    binding(viewer)
    qtbot.waitUntil(
        lambda: Project.open(path, read_only=True).labels("p0").marks.labelled == {0: (4,)}, timeout=5000
    )
    assert "Slice 4 counts" in bench.train_dock.session.status
    assert workspace.opened.marks.has(0, 4)
    bench.shut_down()
    assert not [key for key in plain(viewer).keymap if str(key) == module.MARK_KEY]


def test_a_second_project_asks_first(bench, viewer, qtbot, path, tmp_path, monkeypatch):
    opened(bench, qtbot, path)
    with Project.create(tmp_path / "other.ctxseg", classes={"a": 3}) as other:
        other.add_array(Image(np.zeros((8, 9)), "yx", (1.0, 1.0), plain_affine((1.0, 1.0))), "small")
    asked = []

    def answer(button):
        monkeypatch.setattr(QMessageBox, "question", lambda *args: asked.append(args[2]) or button)

    answer(QMessageBox.StandardButton.No)
    bench.project_dock.open_path(tmp_path / "other.ctxseg")
    assert "heart" in asked[0]
    assert bench.project_dock.workspace.project.path == path
    answer(QMessageBox.StandardButton.Yes)
    workspace = bench.project_dock.workspace
    bench.project_dock.open_path(tmp_path / "other.ctxseg")
    qtbot.waitUntil(lambda: workspace.opened is not None and workspace.opened.name == "small", timeout=10_000)
    assert [layer.name for layer in viewer.layers] == ["small", "small labels"]
    assert [row.name for row in bench.train_dock.session.classes] == ["a"]
    Project.open(path).close()


def test_read_only_is_said_and_nothing_can_be_changed(bench, viewer, qtbot, path):
    with Project.open(path):
        bench.project_dock.open_path(path)
        workspace = bench.project_dock.workspace
        qtbot.waitUntil(lambda: workspace.opened is not None, timeout=10_000)
        qtbot.waitUntil(lambda: "READ ONLY" in bench.saved.text())
        assert not workspace.opened.labels.editable
        qtbot.waitUntil(lambda: not bench.project_dock.image_panel.mark.isEnabled())


def test_rounds_are_plotted_with_the_verdict(bench, viewer, qtbot, path):
    from datetime import UTC, datetime

    for number, dice in enumerate((0.61, 0.72, 0.725)):
        made = Round(
            id=new_id(), number=number + 1, started=datetime(2026, 11, 1, 13, number, tzinfo=UTC), minutes=10,
            after=Scores(classes={"LV": dice}, mean=dice), truth="same",
        )  # fmt: skip
        save_round(path, made)
    opened(bench, qtbot, path)
    panel = bench.project_dock.rounds_panel
    qtbot.waitUntil(lambda: len(panel.plot.points) == 3, timeout=10_000)
    assert panel.plot.points == [(10, 0.61), (20, 0.72), (30, 0.725)]
    assert "gained little" in panel.verdict.text()


def test_the_lens_begins_when_it_is_looked_at_and_follows_the_tab_train(bench, viewer, qtbot, path):
    opened(bench, qtbot, path)
    assert [bench.tabs.tabText(n) for n in range(bench.tabs.count())] == [tab.title for tab in TABS]
    assert len(bench._made) == 2
    bench.tabs.setCurrentIndex(2)
    lens = bench.tabs.currentWidget()
    qtbot.waitUntil(lambda: lens.lens.choices is bench.train_dock.session, timeout=5000)


def test_at_1280_by_800_nothing_is_cut_off(bench, viewer, qtbot, path):
    opened(bench, qtbot, path)
    viewer.window.resize(1280, 800)
    for index in range(bench.tabs.count()):
        bench.tabs.setCurrentIndex(index)
        qtbot.wait(200)
        area = bench.tabs.currentWidget().scroll_area
        inner = area.widget()
        assert inner.minimumSizeHint().width() <= area.viewport().width()
    assert bench.width() < 560, "the image keeps more than half of the window"
    assert bench.height() <= 800


@pytest.mark.parametrize("phase", ["empty", "opening", "painted", "training", "predicting"])
def test_close_in_every_phase(bench, viewer, qtbot, path, phase):
    session, workspace = bench.train_dock.session, bench.project_dock.workspace
    if phase == "opening":
        bench.project_dock.open_path(path)
    elif phase != "empty":
        opened(bench, qtbot, path)
        viewer.dims.set_current_step(0, 3)
        workspace.opened.labels.paint((3, 20, 20), 1)
    if phase in ("training", "predicting"):
        qtbot.waitUntil(lambda: session.train_problem() == "", timeout=10_000)
        session.train()
        qtbot.waitUntil(lambda: session.phase == "training", timeout=10_000)
        workspace.opened.labels.paint((3, 30, 30), 1)
    if phase == "predicting":
        run = session._job.out
        run.mkdir(parents=True)
        (run / "config.yaml").write_text("{}")
        (run / "events.jsonl").write_text(json.dumps({"type": "RunFinished", "best_step": 1}) + "\n")
        session.engine.said = [
            StepEnd(1, 1, 0.5, 1e-3, 0.1),
            RunFinished("r", 1, 1, False, 1, None, 0, 1.0),
            JobDone(),
        ]
        qtbot.waitUntil(lambda: session.phase == "predicting", timeout=10_000)
    painted = None if workspace.opened is None else workspace.opened.labels.data.copy()
    viewer.window.remove_dock_widget(bench.parent())
    assert session.closed
    qtbot.waitUntil(lambda: not Project.open(path).read_only and not workspace.doing, timeout=10_000)
    if painted is not None:
        np.testing.assert_array_equal(stored(path, "p0"), painted)


def test_preferences_are_read_from_naparis_settings(plugin_settings, npe2pm):
    from napari.settings import get_plugin_settings

    from napari_ctxseg.gui.preferences import Preferences, preferences

    assert preferences() == Preferences()
    manifest = Path(__file__).parents[2] / "src" / "napari_ctxseg" / "napari.yaml"
    with npe2pm.tmp_plugin(manifest=str(manifest)):
        assert preferences() == Preferences("auto", None, 0.25)
        found = get_plugin_settings("napari-ctxseg")
        found.engine.threads = 3
        found.engine.device = "cpu"
        assert preferences() == Preferences("cpu", 3, 0.25)


def test_what_is_slow_to_import_is_not_imported_on_the_gui_thread():
    code = (
        "import sys, napari_ctxseg.gui.workbench\n"
        "print([name for name in ('matplotlib', 'scipy.stats', 'torch') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_tabs_that_are_slow_to_import_come_when_they_are_there(bench, viewer, qtbot):
    bench._load = workbench._Loading(bench._loaded)
    bench._load.done = False
    index = [tab.title for tab in TABS].index("Compare")
    bench.tabs.setCurrentIndex(index)
    assert bench.tabs.currentWidget().text() == "Loading ..."
    qtbot.waitUntil(lambda: hasattr(bench.tabs.currentWidget(), "comparing"), timeout=60_000)
    assert bench.tabs.currentIndex() == index
