"""The dock in a real napari window."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from napari_ctxseg.events import EpochEnd, JobDone, Preview, RunFinished, StepEnd
from napari_ctxseg.gui.timing import costs
from napari_ctxseg.gui.train_dock import TrainDock

from .conftest import FakeEngine

pytestmark = pytest.mark.viewer


@pytest.fixture
def viewer(make_napari_viewer_proxy):
    return make_napari_viewer_proxy(show=True)


@pytest.fixture
def dock(viewer, tmp_path, qtbot):
    made = TrainDock(viewer, FakeEngine(), tmp_path / "runs")
    viewer.window.add_dock_widget(made, name="Train and predict")
    yield made
    made.shut_down()


def add_image(viewer, shape=(6, 40, 50), **options):
    rng = np.random.default_rng(0)
    return viewer.add_image(rng.normal(size=shape).astype(np.float32), name="mr", **options)


def test_empty_viewer_says_what_to_do(dock, qtbot):
    qtbot.waitUntil(lambda: dock.train_button.toolTip() != "")
    assert not dock.train_button.isEnabled()
    assert dock.train_button.toolTip() == "Choose an image layer."
    assert dock.status.text() == "Choose an image layer."
    assert not dock.stop_button.isEnabled()
    assert not dock.predict_button.isEnabled()


def test_layers_appear_are_chosen_renamed_and_removed(dock, viewer, qtbot):
    image = add_image(viewer, scale=(8, 1, 1))
    panel = dock.layer_panel
    qtbot.waitUntil(lambda: panel.images.count() == 1)
    assert [layer.name for layer in dock.session.images] == ["mr"], "the only image is taken without asking"
    qtbot.waitUntil(panel.new.isEnabled)
    panel.new.click()
    qtbot.waitUntil(lambda: panel.labels.currentText() == "mr labels")
    assert viewer.layers.selection.active.name == "mr labels"
    image.name = "t1"
    qtbot.waitUntil(lambda: panel.images.item(0).text() == "t1")
    viewer.layers.remove("mr labels")
    qtbot.waitUntil(lambda: panel.labels.currentText() == "(none)")
    viewer.layers.remove("t1")
    qtbot.waitUntil(lambda: panel.images.count() == 0)
    qtbot.waitUntil(lambda: dock.train_button.toolTip() == "Choose an image layer.")


def test_two_channels_by_ticks(dock, viewer, qtbot):
    add_image(viewer)
    viewer.add_image(np.ones((6, 40, 50)), name="t2")
    panel = dock.layer_panel
    qtbot.waitUntil(lambda: panel.images.count() == 2)
    from qtpy.QtCore import Qt

    panel.images.item(1).setCheckState(Qt.CheckState.Checked)
    assert [layer.name for layer in dock.session.images] == ["mr", "t2"]


def test_train_stop_predict_buttons(dock, viewer, qtbot):
    add_image(viewer)
    qtbot.waitUntil(lambda: dock.layer_panel.images.count() == 1)
    qtbot.waitUntil(dock.layer_panel.new.isEnabled, timeout=20_000)
    dock.layer_panel.new.click()
    qtbot.waitUntil(lambda: "Paint in" in dock.train_button.toolTip())
    dock.session.labels.paint((3, 20, 20), 1)
    qtbot.waitUntil(dock.train_button.isEnabled)
    dock.train_button.click()
    qtbot.waitUntil(lambda: dock.session.phase == "training")
    qtbot.waitUntil(dock.stop_button.isEnabled)
    assert dock.train_button.toolTip() == "The engine is training."
    labels = np.zeros((40, 50), np.uint8)
    labels[5:9, 5:9] = 1
    dock.session.engine.said = [
        StepEnd(1, 10, 0.9, 1e-3, 0.1),
        StepEnd(5, 10, 0.5, 1e-3, 0.1),
        EpochEnd(5, {"class 1": 0.4}, 0.4, False, "training Dice"),
        Preview(5, "mr", 3, labels),
    ]
    drawn = dock.curve.drawn
    qtbot.waitUntil(lambda: dock.curve.drawn > drawn)
    assert dock.progress.value() == 500
    assert "Step 5 of 10" in dock.status.text()
    np.testing.assert_array_equal(viewer.layers["mr prediction"].data[3], labels)
    dock.stop_button.click()
    qtbot.waitUntil(lambda: dock.stop_button.text() == "End now")
    dock.session.engine.said = [RunFinished("r", 6, 10, True, 6, None, 0, 1.0), JobDone()]
    qtbot.waitUntil(lambda: dock.train_button.text() == "Train on")
    qtbot.waitUntil(dock.predict_button.isEnabled)
    dock.model_panel.scratch.setChecked(True)
    qtbot.waitUntil(lambda: dock.train_button.text() == "Train")
    dock.predict_button.click()
    qtbot.waitUntil(lambda: dock.session.phase == "predicting")
    dock.session.engine.said = [JobDone()]
    qtbot.waitUntil(dock.train_button.isEnabled)
    assert "TrainDock._tick" in costs.ours, "timed, for benchmarks/callbacks.py"


def test_classes_table(dock, viewer, qtbot):
    add_image(viewer)
    qtbot.waitUntil(lambda: dock.layer_panel.images.count() == 1)
    qtbot.waitUntil(dock.layer_panel.new.isEnabled, timeout=20_000)
    dock.layer_panel.new.click()
    panel = dock.class_panel
    panel.table.item(0, 0).setText("ventricle")
    panel.table.item(0, 1).setText("4")
    assert [(row.name, row.value) for row in dock.session.classes] == [("ventricle", 4)]
    panel.table.item(0, 1).setText("0")
    assert panel.table.item(0, 1).text() == "4", "0 is never a class"
    panel.add.click()
    assert [row.value for row in dock.session.classes] == [4, 1]
    panel.table.item(1, 0).setText("ventricle")
    assert panel.table.item(1, 0).text() == "class 1", "names are unique"
    panel.table.setCurrentCell(1, 0)
    panel.remove.click()
    assert [row.value for row in dock.session.classes] == [4]
    panel.policy.setCurrentIndex(1)
    assert panel.background.isVisibleTo(panel)
    assert "strokes" in panel.explanation.text()


def test_settings_reach_the_configuration(dock, viewer, qtbot):
    add_image(viewer)
    qtbot.waitUntil(lambda: dock.layer_panel.images.count() == 1)
    panel = dock.model_panel
    panel.dims.setCurrentIndex(1)
    panel.unit.setCurrentText("steps")
    panel.amount.setValue(300)
    panel.loss._editors["dice_weight"].value = 2
    config = dock.session.config
    found = (config.network.dims, config.budget.steps, config.budget.minutes, config.loss.dice_weight)
    assert found == (3, 300, None, 2)


def test_open_button_reads_nifti_through_our_reader(dock, viewer, qtbot, tmp_path, monkeypatch):
    nibabel = pytest.importorskip("nibabel")
    path = tmp_path / "head.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((5, 6, 7), np.int16), np.diag([-2, -3, 4, 1.0])), path)
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(path.read_bytes()[:60])
    monkeypatch.setattr("qtpy.QtWidgets.QFileDialog.getOpenFileNames", lambda *_: ([str(path)], ""))
    dock.layer_panel.open.click()
    assert tuple(viewer.layers["head"].scale) == (4, 3, 2)
    monkeypatch.setattr("qtpy.QtWidgets.QFileDialog.getOpenFileNames", lambda *_: ([str(broken)], ""))
    told = []
    dock.session.failed.connect(told.append)
    dock.session.failed.disconnect(dock._notify)
    dock.layer_panel.open.click()
    assert "broken.nii.gz" in told[0]


def test_fits_a_small_screen(dock, viewer, qtbot):
    dock.resize(340, 640)
    assert dock.minimumSizeHint().width() <= 400
    assert dock.minimumSizeHint().height() <= 640
    for widget in (dock.train_button, dock.stop_button, dock.predict_button):
        assert widget.sizeHint().width() <= 130


def test_opened_twice_both_work(dock, viewer, qtbot, tmp_path):
    second = TrainDock(viewer, FakeEngine(), tmp_path / "other")
    viewer.window.add_dock_widget(second, name="second")
    add_image(viewer)
    for each in (dock, second):
        qtbot.waitUntil(lambda each=each: each.layer_panel.images.count() == 1)
    second.shut_down()
    viewer.layers.clear()
    qtbot.waitUntil(lambda: dock.layer_panel.images.count() == 0)


def test_closing_the_dock_ends_the_engine(viewer, tmp_path, qtbot):
    engine = FakeEngine()
    dock = TrainDock(viewer, engine, tmp_path)
    viewer.window.add_dock_widget(dock, name="x")
    viewer.window.remove_dock_widget(dock)  # what the cross in its title bar does
    qtbot.waitUntil(lambda: engine.state == "dead")


# ---------------------------------------------------------------- in a process of its own

NO_TORCH = """
import sys
import napari
viewer = napari.Viewer()
_, dock = viewer.window.add_plugin_dock_widget("napari-ctxseg", "Train and predict")
heavy = {"torch", "monai", "lightning", "lightning_fabric", "triton"} & set(sys.modules)
core = ("napari_ctxseg.training", "napari_ctxseg.losses", "napari_ctxseg.inference")
ours = {m for m in sys.modules if m.startswith(core)}
print("loaded:", sorted(heavy | ours), flush=True)
viewer.close()
"""

CLOSING = """
import sys, time
from pathlib import Path
import numpy as np
import napari
from qtpy.QtCore import QTimer

runs = Path(sys.argv[1])
viewer = napari.Viewer()
rng = np.random.default_rng(0)
viewer.add_image(rng.normal(size=(4, 64, 64)).astype("float32"), name="mr")
labels = viewer.add_labels(np.zeros((4, 64, 64), np.uint8))
_, dock = viewer.window.add_plugin_dock_widget("napari-ctxseg", "Train and predict")
dock.session.runs = runs
print(dock.session.engine.pid, flush=True)
state = {"painted": False, "pressed": False}

def drive():
    session = dock.session
    if not state["painted"]:
        labels.brush_size = 20
        labels.paint((1, 30, 30), 1)
        state["painted"] = True
    if dock.train_button.isEnabled() and not state["pressed"]:
        state["pressed"] = True
        dock.train_button.click()
    if len(session.history.loss) > 3:
        timer.stop()
        print("closing", flush=True)
        viewer.close()

timer = QTimer()
timer.timeout.connect(drive)
timer.start(50)
QTimer.singleShot(150_000, viewer.close)
napari.run()
print("left", flush=True)
"""


def test_dock_loads_no_torch():
    done = subprocess.run(
        [sys.executable, "-c", NO_TORCH], capture_output=True, text=True, timeout=200, check=False
    )
    assert "loaded: []" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


@pytest.mark.slow
def test_window_closed_during_training(tmp_path):
    script = tmp_path / "closing.py"
    script.write_text(CLOSING)
    runs = tmp_path / "runs"
    done = subprocess.run(
        [sys.executable, str(script), str(runs)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pid, *rest = done.stdout.split()
    assert rest == ["closing", "left"], done.stdout + done.stderr
    end = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        time.sleep(0.1)
    if sys.platform == "linux":
        assert not Path(f"/proc/{pid}").exists(), "the engine outlived the viewer"
    assert os.listdir(runs) == ["0001-dice_ce"]
    assert (runs / "0001-dice_ce" / "model.safetensors").exists(), "the checkpoint is saved"
