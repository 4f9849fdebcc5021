"""The dock Compare in a real napari window: planned, run by the real engine, paused, killed, gone on with, looked at."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest

from napari_ctxseg import io
from napari_ctxseg.compare.plan import parse_plan
from napari_ctxseg.compare.prepare import stored_comparisons
from napari_ctxseg.config import parse_loss
from napari_ctxseg.engine.client import EngineClient
from napari_ctxseg.errors import InputError
from napari_ctxseg.evaluation.metrics import ALL_MEASURES, MEASURES
from napari_ctxseg.events import CellDone, CellStarted, JobDone, JobFailed, Note, StepEnd
from napari_ctxseg.gui.compare_dock import CompareDock
from napari_ctxseg.gui.compare_folders import comparisons_folder, discard_copies, sweep_orphans
from napari_ctxseg.gui.compare_plan import of_project as plan_of_project
from napari_ctxseg.gui.compare_variants import variant_name
from napari_ctxseg.gui.timing import costs
from napari_ctxseg.gui.workbench import TABS, Workbench
from napari_ctxseg.image import Image, plain_affine
from napari_ctxseg.project import Project

from .conftest import FakeEngine

pytestmark = pytest.mark.viewer

SHAPE = (3, 32, 32)
#: Milliseconds until a test is taken to hang.
HANGS = 240_000
SMALL = {"patch.size": [32, 32], "patch.batch": 2}


class CompareEngine(FakeEngine):
    """Notes what it is asked and says what a test puts into `said`."""

    go_on = ""

    def compare(self, folder, plan=None, *, retry_failed=False):
        self.state = "busy"
        self.asked.append(("compare", folder, plan, retry_failed))


@pytest.fixture(autouse=True)
def own_settings(tmp_path, monkeypatch):
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: tmp_path / "settings")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: tmp_path / "cache")


@pytest.fixture
def viewer(make_napari_viewer_proxy):
    return make_napari_viewer_proxy(show=True)


def subject(seed):
    """A bright ball in noise, and its mask."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(SHAPE, np.uint8)
    y, x = rng.integers(8, 20, 2)
    labels[:, y : y + 8, x : x + 8] = 1
    array = rng.normal(size=SHAPE).astype(np.float32) + 4 * labels
    spacing = (4.0, 1.0, 1.0)
    return Image(array, "zyx", spacing, plain_affine(spacing), unit="mm"), labels


@pytest.fixture
def folders(tmp_path):
    """Three patients as files."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for number in range(3):
        image, labels = subject(number)
        io.write_map(tmp_path / "images" / f"p{number}.nii", image.array, image)
        io.write_labels(tmp_path / "masks" / f"p{number}.nii", labels, image)
    return tmp_path / "images", tmp_path / "masks"


@pytest.fixture
def make_dock(viewer):
    made = []

    def make(make_engine=None):
        dock = CompareDock(viewer, make_engine or (lambda: EngineClient(1)))
        viewer.window.add_dock_widget(dock, name="Compare")
        made.append(dock)
        return dock

    yield make
    for dock in made:
        dock.shut_down()


def fill(dock, folders, steps=6):
    """Two losses, two folds, a few steps on small patches."""
    plan = dock.plan
    plan.source.setCurrentIndex(1)
    plan.images.setText(str(folders[0]))
    plan.labels.setText(str(folders[1]))
    plan.classes.setText("ball=1")
    for loss in ("dice_ce", "ce"):
        plan.variants.put(variant_name(parse_loss(loss)), {"loss": loss, **SMALL})
    plan.folds.setValue(2)
    plan.unit.setCurrentText("steps")
    plan.amount.setValue(steps)


def quiet(dock, qtbot):
    qtbot.waitUntil(lambda: dock.comparing.phase == "idle", timeout=HANGS)


def test_any_measure_with_a_direction_can_be_tested(make_dock, folders):
    dock = make_dock()
    fill(dock, folders)
    offered = [dock.plan.primary.itemText(n) for n in range(dock.plan.primary.count())]
    assert offered[:2] == ["dice", "iou"]
    assert set(offered) == set(ALL_MEASURES) - {"rvd"}
    dock.plan.primary.setCurrentText("cldice")
    plan = parse_plan(dock.plan.values())
    assert (plan.primary, plan.measures.names) == ("cldice", (*MEASURES, "cldice"))


def test_a_comparison_from_start_to_result(make_dock, viewer, qtbot, folders):
    dock = make_dock()
    assert "Add at least two" not in dock.problem()
    fill(dock, folders)
    assert dock.problem() == ""
    dock.start.click()
    quiet(dock, qtbot)
    assert [row.state for row in dock.comparing.rows] == ["done"] * 4, dock.comparing.status
    qtbot.waitUntil(lambda: dock.results.table.isVisible(), timeout=20_000)
    assert dock.results.table.rowCount() == 2
    text = dock.results.sentences.text()
    assert "no test is possible below 6" in text
    qtbot.waitUntil(lambda: dock.results.pictures["boxes"].isVisible(), timeout=20_000)
    folder = dock.comparing.folder
    assert {"report.md", "report.csv", "boxes.svg"} <= {path.name for path in folder.iterdir()}
    assert dock.comparing.engine is None, "the engine ends with its comparison"
    dock.results.worst.cellDoubleClicked.emit(0, 1)
    qtbot.waitUntil(lambda: len(viewer.layers) == 1, timeout=20_000)
    assert viewer.layers[0].name == dock.results.worst.item(0, 1).text()
    spent = {
        name: cost for name, cost in costs.ours.items() if name.startswith(("Compar", "Plan", "Results"))
    }
    assert spent


def test_paused_closed_and_gone_on_with(make_dock, viewer, qtbot, folders):
    dock = make_dock()
    fill(dock, folders, steps=4000)
    dock.start.click()
    qtbot.waitUntil(lambda: dock.comparing._share > 0, timeout=HANGS)
    dock.pause.click()
    quiet(dock, qtbot)
    folder = dock.comparing.folder
    assert dock.comparing.status.startswith("Paused. 0 of 4 runs are done")
    states = list((folder / "runs").glob("*/state/*"))
    assert states, "the exact state of the running step is there"
    viewer.window.remove_dock_widget(dock.parent())
    again = make_dock()
    qtbot.waitUntil(lambda: again.comparing.folder == folder and again.comparing.rows != [], timeout=20_000)
    assert "Resume goes on where it stood" in again.comparing.status
    qtbot.waitUntil(again.resume.isEnabled, timeout=20_000)
    again.resume.click()
    qtbot.waitUntil(lambda: again.comparing._share > 0, timeout=HANGS)
    assert again.comparing.current == 0


def test_ended_on_purpose_is_no_failure(make_dock, viewer, qtbot, folders, monkeypatch):
    """The second click ends the process; a run that ends its process by itself so often counts as failed."""
    dock = make_dock()
    fill(dock, folders, steps=4000)
    dock.start.click()
    qtbot.waitUntil(lambda: dock.comparing._share > 0, timeout=HANGS)
    runs = dock.comparing.folder / "runs"
    assert list(runs.glob("*.begun"))
    monkeypatch.setattr(dock.comparing.engine, "stop", lambda: None)  # as if the step would not end
    dock.pause.click()
    dock.pause.click()
    quiet(dock, qtbot)
    assert not list(runs.glob("*.begun"))


def test_a_killed_engine_loses_no_finished_run(make_dock, viewer, qtbot, folders):
    dock = make_dock()
    fill(dock, folders, steps=60)
    dock.start.click()
    qtbot.waitUntil(lambda: any(row.state == "done" for row in dock.comparing.rows), timeout=HANGS)
    dock.comparing.engine._process.kill()
    quiet(dock, qtbot)
    assert "killed" in dock.comparing.status
    assert "press Resume" in dock.comparing.status
    done = sum(row.state == "done" for row in dock.comparing.rows)
    cells = dock.comparing.folder / "cells"
    before = {path.name: path.stat().st_mtime_ns for path in cells.iterdir()}
    assert len(before) >= done >= 1
    qtbot.waitUntil(dock.resume.isEnabled, timeout=20_000)
    dock.resume.click()
    quiet(dock, qtbot)
    assert [row.state for row in dock.comparing.rows] == ["done"] * 4, dock.comparing.status
    assert before.items() <= {path.name: path.stat().st_mtime_ns for path in cells.iterdir()}.items()


def test_a_failed_run_is_shown_and_can_be_made_again(make_dock, viewer, qtbot, folders):
    engines = []
    dock = make_dock(lambda: engines.append(CompareEngine()) or engines[-1])
    fill(dock, folders)
    dock.begin()
    qtbot.waitUntil(lambda: bool(engines) and bool(engines[-1].asked), timeout=20_000)
    _, _, plan, again = engines[-1].asked[0]
    assert not again
    assert [v.name for v in plan.variants] == ["Dice + CE", "CE"]
    place = ("Dice + CE", 0, 0, 1, 4)
    told = []
    dock.comparing.failed.connect(told.append)
    engines[-1].said = [Note("CE cannot be trained: so and so", level="warning"), Note("Reading")]
    qtbot.waitUntil(lambda: told == ["CE cannot be trained: so and so"], timeout=20_000)
    engines[-1].said = [CellStarted(*place), StepEnd(1, 6, 0.5, 1e-3, 0.1)]
    qtbot.waitUntil(lambda: "training" in dock.status.text(), timeout=20_000)
    engines[-1].said = [CellDone(*place, "loss: is not finite.", False), CellStarted("CE", 0, 0, 2, 4)]
    qtbot.waitUntil(lambda: dock.comparing.failures == 1, timeout=20_000)
    qtbot.waitUntil(lambda: dock.runs.table.item(0, 3).text() == "FAILED", timeout=20_000)
    dock.runs.table.setCurrentCell(0, 0)
    assert "not finite" in dock.runs.reason.text()
    assert dock.retry.isVisible()
    assert dock.runs.table.item(1, 3).text() == "running"


def test_results_are_shown_after_each_run(make_dock, qtbot, folders):
    """The real engine: after the first run there is a table, marked as incomplete; after the last it is whole."""
    dock = make_dock()
    seen = []
    dock.comparing.reported.connect(
        lambda final: seen.append((final, dock.comparing.report["runs"], dock.comparing.phase))
    )
    fill(dock, folders, steps=30)
    dock.start.click()
    qtbot.waitUntil(lambda: bool(seen), timeout=HANGS)
    final, runs, _ = seen[0]
    assert not final
    assert (runs["done"], runs["planned"]) == (1, 4)
    assert dock.pages.currentIndex() != 2, "nobody is taken away from what they look at"
    assert "Incomplete" in dock.results.incomplete.text()
    assert dock.results.table.rowCount() == 2
    assert any("not finished" in text for text in dock.comparing.report["sentences"])
    quiet(dock, qtbot)
    qtbot.waitUntil(lambda: seen[-1][0], timeout=20_000)
    qtbot.waitUntil(lambda: dock.pages.currentIndex() == 2, timeout=20_000)
    assert dock.results.incomplete.text() == ""
    assert not dock.results.incomplete.isVisible()
    qtbot.waitUntil(lambda: not dock.comparing.unfinished)


def test_a_crash_is_said_at_once_and_what_is_done_is_there(make_dock, qtbot, folders):
    engines = []
    dock = make_dock(lambda: engines.append(CompareEngine()) or engines[-1])
    fill(dock, folders)
    dock.begin()
    qtbot.waitUntil(lambda: bool(engines) and bool(engines[-1].asked), timeout=20_000)
    engines[-1].said = [CellStarted("Dice + CE", 0, 0, 1, 4)]
    qtbot.waitUntil(lambda: dock.comparing.current == 0, timeout=20_000)
    engines[-1].said = [JobFailed("The engine was killed.", "Press Resume.", "/x.log"), JobDone()]
    quiet(dock, qtbot)
    assert dock.comparing.status.startswith("The engine was killed. Press Resume.")


def test_a_crash_within_a_run_is_said_in_its_row(make_dock, qtbot, folders):
    dock = make_dock()
    fill(dock, folders, steps=4000)
    dock.start.click()
    qtbot.waitUntil(lambda: dock.comparing._share > 0, timeout=HANGS)
    dock.comparing.engine._process.kill()
    quiet(dock, qtbot)
    assert "killed" in dock.comparing.status
    qtbot.waitUntil(lambda: dock.runs.table.item(0, 3).text() == "interrupted", timeout=20_000)
    assert "killed" in dock.runs.table.item(0, 3).toolTip()
    qtbot.waitUntil(dock.resume.isEnabled, timeout=20_000)


def test_a_report_that_was_not_written_can_be_asked_for(make_dock, qtbot, folders):
    """The engine dies after the last run: nothing is missing but the report."""
    dock = make_dock()
    fill(dock, folders)
    dock.start.click()
    quiet(dock, qtbot)
    folder = dock.comparing.folder
    qtbot.waitUntil(lambda: dock.comparing.report is not None, timeout=20_000)
    (folder / "report.json").unlink()
    dock.comparing.look(folder)
    qtbot.waitUntil(lambda: "Resume writes it" in dock.comparing.status, timeout=20_000)
    qtbot.waitUntil(dock.resume.isEnabled, timeout=20_000)
    dock.resume.click()
    quiet(dock, qtbot)
    assert (folder / "report.json").is_file()


def test_copies_without_a_plan_are_swept(tmp_path):
    orphan, young, mine, whole = (
        tmp_path / name for name in ("20250101-120000", "20250101-120001", "other", "20250101-120002")
    )
    for path in (orphan, young, mine, whole):
        (path / "data" / "images").mkdir(parents=True)
    (whole / "compare.yaml").write_text("")
    now = time.time()
    sweep_orphans(tmp_path, now)
    assert orphan.exists(), "somebody may still be making it"
    for path in (young, young / "data", young / "data" / "images"):
        os.utime(path, (now + 90_000, now + 90_000))
    sweep_orphans(tmp_path, now + 90_000)
    assert not orphan.exists()
    assert young.exists()
    assert mine.exists()
    assert whole.exists()


def test_only_copies_are_discarded(tmp_path):
    for name in ("data", "runs"):
        (tmp_path / "other" / name).mkdir(parents=True)
    (tmp_path / "copies" / "data" / "images").mkdir(parents=True)
    assert not discard_copies(tmp_path / "other"), "the plan may be away, but runs are there"
    assert (tmp_path / "other" / "runs").is_dir()
    assert discard_copies(tmp_path / "copies")
    assert not (tmp_path / "copies").exists()
    assert not discard_copies(tmp_path / "none")


def test_an_error_before_the_first_run_leaves_no_folder(make_dock, viewer, qtbot, folders):
    engines = []
    dock = make_dock(lambda: engines.append(CompareEngine()) or engines[-1])
    fill(dock, folders)
    dock.begin()
    qtbot.waitUntil(lambda: bool(engines) and bool(engines[-1].asked), timeout=20_000)
    engines[-1].said = [JobFailed("labels: hold 99 different values.", "Name the classes."), JobDone()]
    quiet(dock, qtbot)
    assert dock.comparing.status == "labels: hold 99 different values. Name the classes."
    assert stored_comparisons(comparisons_folder()) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda dock: dock.plan.images.setText("/nowhere/at/all"), "/nowhere/at/all"),
        (lambda dock: dock.plan.folds.setValue(9), "cannot be made of 3 patients"),
        (lambda dock: dock.plan.classes.setText("ball"), "NAME=VALUE"),
        (lambda dock: dock.plan.variants.sweep.setText("loss.radius"), "loss.radius=2,5,10"),
        (lambda dock: dock.plan.group.setText("("), "regular expression"),
    ],
)
def test_what_cannot_work_is_said_before_anything_runs(make_dock, viewer, qtbot, folders, change, said):
    dock = make_dock(CompareEngine)
    fill(dock, folders)
    change(dock)
    dock.start.setEnabled(True)
    dock.start.click()
    qtbot.waitUntil(lambda: said in dock.comparing.status, timeout=20_000)
    assert dock.comparing.phase == "idle"
    assert stored_comparisons(comparisons_folder()) == []


def test_one_variant_is_no_comparison_but_a_sweep_is(make_dock, qtbot, folders):
    dock = make_dock(CompareEngine)
    fill(dock, folders)
    dock.plan.variants.list.setCurrentRow(1)
    dock.plan.variants.remove.click()
    assert "at least two variants" in dock.problem()
    dock.plan.variants.sweep.setText("optim.lr=0.001,0.01")
    assert dock.problem() == ""
    assert dock.plan.amount_text() == "4 runs of 6 steps."


# ---------------------------------------------------------------- with a project


@pytest.fixture
def bench(viewer, tmp_path):
    made = Workbench(viewer, FakeEngine(), FakeEngine(), tmp_path / "runs")
    viewer.window.add_dock_widget(made, name="Workbench")
    yield made
    made.shut_down()


def compare_tab(bench, qtbot, path):
    bench.project_dock.open_path(path)
    workspace = bench.project_dock.workspace
    qtbot.waitUntil(lambda: workspace.opened is not None and workspace.saving[0] == "saved", timeout=20_000)
    bench.tabs.setCurrentIndex([tab.title for tab in TABS].index("Compare"))
    qtbot.waitUntil(
        lambda: isinstance(bench.tabs.currentWidget(), CompareDock), timeout=HANGS
    )  # it is imported first
    return bench.tabs.currentWidget()


def project(tmp_path, labelled, policy="masks"):
    with Project.create(tmp_path / "p.ctxseg", classes={"ball": 1}, policy=policy) as made:
        for number in range(3):
            image, labels = subject(number)
            made.add_array(image, f"p{number}")
            if number < labelled:
                part = np.zeros_like(labels)
                part[: 3 if number else 2] = labels[: 3 if number else 2]
                made.import_labels(f"p{number}", part, complete=bool(number))
    return tmp_path / "p.ctxseg"


def test_regions_of_the_project_are_compared(make_dock, tmp_path):
    dock = make_dock()
    dock.plan.variants.put("ce", {"loss": "ce"})
    with Project.open(project(tmp_path, 3)) as made:
        made.set_classes({"ball": 1, "shell": 2, "dust": 3})
        made.update(regions={"all": (1, 2), "core": (1,)})
        plan = plan_of_project(dock.plan.values(), [], None, made, tmp_path / "c", cut=False)
    assert plan.run.data.regions == {"all": (1, 2), "core": (1,)}
    assert plan.run.data.classes == {"ball": 1, "shell": 2}, "dust is in no region"


def test_labelled_images_of_the_project_are_compared_as_they_are(bench, viewer, qtbot, tmp_path):
    path = project(tmp_path, 3)
    dock = compare_tab(bench, qtbot, path)
    engines = []
    dock.comparing._make_engine = lambda: engines.append(CompareEngine()) or engines[-1]
    qtbot.waitUntil(lambda: len(dock.plan.offer.images) == 3, timeout=20_000)
    assert "3 labelled images of 3 patients: below 6" in dock.plan.about.text()
    for loss in ("dice_ce", "ce"):
        dock.plan.variants.put(loss, {"loss": loss})
    opened = bench.project_dock.workspace.opened
    viewer.dims.set_current_step(0, 1)
    opened.labels.paint((1, 2, 2), 1)
    dock.begin()
    qtbot.waitUntil(lambda: bool(engines) and bool(engines[-1].asked), timeout=20_000)
    _, folder, plan, _ = engines[-1].asked[0]
    assert folder.parent == path / "comparisons"
    assert plan.run.data.annotation == "full"
    assert plan.run.init is None
    assert "hd95" not in plan.measures.names, "the slices of p0 do not follow each other"
    assert "labelled slices only" in dock.notes[0]
    stored = io.read_labels(folder / "data" / "labels" / "p0.nii").array
    assert stored.shape[0] == 2
    assert stored[1, 2, 2] == 1, "the last stroke is in it"
    dock.comparing._on_event(JobDone())


def test_closed_while_the_data_are_put_together_nothing_is_left(bench, qtbot, tmp_path, monkeypatch):
    path = project(tmp_path, 3)
    dock = compare_tab(bench, qtbot, path)
    qtbot.waitUntil(lambda: len(dock.plan.offer.images) == 3, timeout=20_000)
    for loss in ("dice_ce", "ce"):
        dock.plan.variants.put(loss, {"loss": loss})
    here, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def slow(cases, *places, **options):
        for place in places:
            place.mkdir(parents=True)
        here.set()
        assert go_on.wait(60)
        assert not options["go_on"](), "the copies are given up"
        ended.set()

    monkeypatch.setattr("napari_ctxseg.gui.comparing.write_cases", slow)
    dock.begin()
    qtbot.waitUntil(here.is_set, timeout=20_000)
    folder = dock.comparing.folder
    assert folder.is_dir()
    dock.shut_down()
    go_on.set()
    qtbot.waitUntil(ended.is_set, timeout=20_000)
    qtbot.waitUntil(lambda: not folder.exists(), timeout=20_000)
    assert dock.comparing.engine is None


def test_closed_before_the_engine_was_asked_nothing_is_left(bench, qtbot, tmp_path):
    dock = compare_tab(bench, qtbot, project(tmp_path, 3))
    engine = CompareEngine()
    engine.state = "starting"
    dock.comparing._make_engine = lambda: engine
    qtbot.waitUntil(lambda: len(dock.plan.offer.images) == 3, timeout=20_000)
    for loss in ("dice_ce", "ce"):
        dock.plan.variants.put(loss, {"loss": loss})
    dock.begin()
    qtbot.waitUntil(lambda: dock.comparing.phase == "running", timeout=20_000)
    folder = dock.comparing.folder
    assert folder.is_dir()
    dock.shut_down()
    assert not folder.exists()


def test_a_project_is_not_copied_while_it_is_compared_on(bench, qtbot, tmp_path, monkeypatch):
    path = project(tmp_path, 3)
    dock = compare_tab(bench, qtbot, path)
    engines = []
    dock.comparing._make_engine = lambda: engines.append(CompareEngine()) or engines[-1]
    qtbot.waitUntil(lambda: len(dock.plan.offer.images) == 3, timeout=20_000)
    for loss in ("dice_ce", "ce"):
        dock.plan.variants.put(loss, {"loss": loss})
    dock.begin()
    told, asked = [], []
    project_dock = bench.project_dock
    monkeypatch.setattr(project_dock, "tell", told.append)
    monkeypatch.setattr("qtpy.QtWidgets.QFileDialog.getSaveFileName", lambda *_: asked.append(1) or ("", ""))
    project_dock.save.click()
    assert "a comparison in it is under way" in told[-1]
    assert asked == [], "said before a folder is asked for"
    qtbot.waitUntil(lambda: bool(engines) and bool(engines[-1].asked), timeout=20_000)
    with pytest.raises(InputError, match="cannot be copied now"):
        project_dock.workspace.save_as(tmp_path / "q.ctxseg")
    dock.comparing._on_event(JobDone())
    qtbot.waitUntil(lambda: dock.comparing.phase == "idle")
    project_dock.workspace.check_movable()
    project_dock.workspace.doing = "copying the project"
    assert "copying the project" in dock.problem()
    project_dock.workspace.doing = ""


@pytest.mark.parametrize(
    ("labelled", "policy", "said"),
    [
        (0, "masks", "Nothing is labelled yet"),
        (1, "masks", "no test is possible"),
        (0, "scribbles", "scribbles"),
    ],
)
def test_a_project_that_cannot_be_compared_on(bench, qtbot, tmp_path, labelled, policy, said):
    dock = compare_tab(bench, qtbot, project(tmp_path, labelled, policy))
    qtbot.waitUntil(lambda: dock.plan.offer.project is not None, timeout=20_000)
    qtbot.waitUntil(lambda: len(dock.plan.offer.images) == labelled, timeout=20_000)
    qtbot.waitUntil(lambda: said in dock.start.toolTip(), timeout=20_000)
    assert not dock.start.isEnabled()
