"""A project in a `ViewerModel`: opened, painted on, switched, closed, moved. Work "in the background" is done at once."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_ctxseg import io
from napari_ctxseg.errors import FileError, InputError
from napari_ctxseg.evaluation.suspects import Suspect
from napari_ctxseg.gui.choices import Choices, ClassRow
from napari_ctxseg.gui.contributions import image_layers
from napari_ctxseg.gui.effort import Effort
from napari_ctxseg.gui.session import run_now
from napari_ctxseg.gui.workspace import Workspace
from napari_ctxseg.image import Image, plain_affine
from napari_ctxseg.project import NewImage, Project, unnamed_projects
from napari_ctxseg.project.verdicts import load_verdicts, save_verdicts, verdicts_of


@pytest.fixture(autouse=True)
def own_settings(tmp_path, monkeypatch):
    """Neither the person's unnamed projects nor their settings."""
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: tmp_path / "settings")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: tmp_path / "cache")


def volume(seed=0, shape=(6, 20, 24)):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


class Screen:
    """A viewer with a workspace; `told` holds what failed."""

    def __init__(self):
        self.viewer = ViewerModel()
        self.choices = Choices(self.viewer)
        self.workspace = Workspace(self.choices, run_now, interval=0.0)
        self.told: list[str] = []
        self.workspace.failed.connect(self.told.append)

    def add(self, seed=0, name="mr", **options):
        place = {"scale": (8, 1.5, 1.5), "translate": (4, 0, -2), "units": ("mm",) * 3, "axis_labels": "zyx"}
        layer = self.viewer.add_image(volume(seed), name=name, **(place | options))
        self.choices.choose([layer], None)
        return layer

    def paint(self, z=2, value=1, y=10):
        labels = self.workspace.opened.labels if self.workspace.opened else self.choices.labels
        labels.brush_size = 4
        self.viewer.dims.set_current_step(0, z)
        labels.paint((z, y, 10), value)
        self.settle()

    def settle(self):
        """As many ticks of the timer as it takes, but not many."""
        for _ in range(4):
            self.workspace.tick()

    @property
    def labels(self):
        return self.workspace.opened.labels


@pytest.fixture
def screen():
    made = Screen()
    yield made
    made.workspace.shut_down()


@pytest.fixture
def project(tmp_path):
    """A closed project of three images."""
    path = tmp_path / "heart.ctxseg"
    with Project.create(path, classes={"LV": 1, "myo": 5}) as made:
        for number in range(3):
            image = Image(volume(number), "zyx", (8.0, 1.5, 1.5), plain_affine((8.0, 1.5, 1.5)), unit="mm")
            made.add_array(image, f"p{number}")
    return path


def stored(path, name):
    with Project.open(path, read_only=True) as found:
        return found.labels(name).read()


# ---------------------------------------------------------------- made from what is on screen


def test_a_project_of_the_layers_on_screen(screen):
    screen.add()
    screen.choices.set_classes([ClassRow("cavity", 3, "#00ff00")])
    screen.choices.new_labels()
    screen.paint(z=2, value=3)
    screen.workspace.new()
    screen.settle()
    project = screen.workspace.project
    assert project.is_unnamed
    assert [path.name for path in unnamed_projects()] == [project.path.name]
    assert [(c.name, c.value, c.colour) for c in project.spec.classes] == [("cavity", 3, "#00ff00")]
    image = project.image("mr")
    np.testing.assert_array_equal(image.array, volume())
    assert (image.spacing, image.unit) == ((8.0, 1.5, 1.5), "mm")
    np.testing.assert_array_equal(image.affine[:3, 3], (4, 0, -2))
    np.testing.assert_array_equal(project.labels("mr").read(), screen.labels.data)
    assert project.labels("mr").marks.labelled == {0: (2,)}
    screen.paint(z=4, value=3)
    np.testing.assert_array_equal(project.labels("mr").read(), screen.labels.data)
    assert project.labels("mr").marks.labelled == {0: (2, 4)}
    assert screen.workspace.saving == ("saved", "saved")


def test_a_file_is_taken_as_the_file_it_is(screen, tmp_path):
    path = tmp_path / "brain.nii.gz"
    import nibabel as nib

    affine = np.array([[0.0, 1.2, 0, 5], [-0.9, 0, 0, 6], [0, 0, 3, 7], [0, 0, 0, 1]])
    nib.Nifti1Image(volume().T, affine).to_filename(path)
    data, options, _ = image_layers(io.read(path), "brain")[0]
    screen.choices.choose([screen.viewer.add_image(data, **options)], None)
    screen.workspace.new(tmp_path / "b.ctxseg")
    (ref,) = screen.workspace.project.spec.entry("brain").files
    assert ref.path.endswith("brain.nii.gz")
    np.testing.assert_allclose(screen.workspace.project.image("brain").affine, io.read(path).affine)
    # Changed since: then what is on screen counts.
    other = Screen()
    image = io.read(path)
    data, options, _ = image_layers(image, "brain")[0]
    other.choices.choose([other.viewer.add_image(2 * data, **options)], None)
    other.workspace.new(tmp_path / "c.ctxseg")
    np.testing.assert_array_equal(other.workspace.project.image("brain").array, 2 * data)
    other.workspace.shut_down()


def test_rgb_images_come_back_as_three_channels(screen, tmp_path):
    rgb = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    screen.choices.choose([screen.viewer.add_image(rgb, rgb=True, name="he")], None)
    screen.workspace.new(tmp_path / "he.ctxseg")
    np.testing.assert_array_equal(screen.workspace.project.image("he").array, np.moveaxis(rgb, -1, 0))


def test_a_folder_that_is_not_empty_is_refused(screen, tmp_path):
    screen.add()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    screen.workspace.new(tmp_path / "full")
    assert "not empty" in screen.told[0]
    assert screen.workspace.project is None
    assert (tmp_path / "full" / "mine.txt").read_text() == "keep"


# ---------------------------------------------------------------- opened


def test_open_paint_close_and_open_again(screen, project):
    screen.workspace.open(project)
    assert [layer.name for layer in screen.viewer.layers] == ["p0", "p0 labels"]
    assert screen.choices.labels is screen.labels
    assert [(row.name, row.value) for row in screen.choices.classes] == [("LV", 1), ("myo", 5)]
    screen.paint(z=1, value=5)
    screen.viewer.dims.order = (1, 0, 2)
    screen.paint(z=3, value=1)
    painted = screen.labels.data.copy()
    planes = dict(screen.choices.marks.planes)
    assert screen.workspace.close()
    assert np.array_equal(stored(project, "p0"), painted)
    again = Screen()
    again.workspace.open(project)
    np.testing.assert_array_equal(again.labels.data, painted)
    assert again.choices.marks.planes == planes
    assert tuple(again.labels.scale) == (8.0, 1.5, 1.5)
    again.workspace.shut_down()


def test_another_image_replaces_the_one_before_and_nothing_else(screen, project):
    screen.workspace.open(project)
    mine = screen.viewer.add_points(np.zeros((1, 3)), name="mine")
    screen.paint(z=1)
    before = screen.labels.data.copy()
    screen.workspace.open_image("p2")
    assert [layer.name for layer in screen.viewer.layers] == ["mine", "p2", "p2 labels"]
    assert mine in screen.viewer.layers
    assert np.array_equal(stored(project, "p0"), before)
    screen.paint(z=3, value=5)
    screen.workspace.open_image("p0")
    np.testing.assert_array_equal(screen.labels.data, before)
    assert screen.choices.marks.planes == {0: {1}}


def test_layers_renamed_reordered_and_deleted(screen, project):
    screen.workspace.open(project)
    screen.labels.name = "anything"
    screen.viewer.layers.move(0, 2)
    screen.paint(z=1)
    assert np.array_equal(stored(project, "p0"), screen.labels.data)
    screen.viewer.layers.remove("p0")
    screen.choices.forget_missing_layers()
    screen.paint(z=2)
    painted = screen.labels.data.copy()
    screen.viewer.layers.remove("anything")
    screen.choices.forget_missing_layers()
    screen.workspace.tick()
    assert screen.workspace.opened is None
    assert np.array_equal(stored(project, "p0"), painted)
    screen.workspace.open_image("p0")
    np.testing.assert_array_equal(screen.labels.data, painted)


def test_an_image_whose_labels_were_deleted_is_opened_once(screen, project):
    screen.workspace.open(project)
    mine = screen.viewer.add_points(np.zeros((1, 3)), name="mine")
    before = {layer.name for layer in screen.viewer.layers}
    screen.viewer.layers.remove("p0 labels")
    screen.choices.forget_missing_layers()
    screen.workspace.tick()
    assert {layer.name for layer in screen.viewer.layers} == {"p0", "mine"}, "the image stays to be looked at"
    screen.workspace.open_image("p0")
    assert {layer.name for layer in screen.viewer.layers} == before, "and is not there twice"
    assert mine in screen.viewer.layers


def test_strokes_count_while_other_labels_are_chosen(screen, project):
    screen.workspace.open(project)
    ours = screen.labels
    other = screen.viewer.add_labels(np.zeros((6, 20, 24), np.uint8), name="scratch")
    screen.choices.choose(screen.choices.images, other)
    assert screen.choices.marks.planes == {}
    screen.viewer.dims.set_current_step(0, 3)
    ours.paint((3, 5, 5), 1)
    screen.workspace.tick()
    screen.choices.choose(screen.choices.images, ours)
    assert screen.choices.marks.planes == {0: {3}}
    assert np.array_equal(stored(project, "p0"), ours.data)


def test_a_second_viewer_only_reads(screen, project):
    screen.workspace.open(project)
    screen.paint()
    second = Screen()
    second.workspace.open(project)
    state, sentence = second.workspace.saving
    assert state == "failed"
    assert "READ ONLY" in sentence
    assert "being changed by" in sentence
    assert not second.labels.editable
    np.testing.assert_array_equal(second.labels.data, screen.labels.data)
    second.labels.paint((5, 5, 5), 1)
    second.workspace.tick()
    assert np.array_equal(stored(project, "p0"), screen.labels.data)
    with pytest.raises(InputError):
        second.workspace.toggle_mark()
    second.workspace.open_image("p1")  # without labels yet
    assert not second.labels.data.any()
    second.workspace.shut_down()


def test_two_projects_in_one_viewer_are_refused(screen, project, tmp_path):
    screen.workspace.open(project)
    with pytest.raises(InputError, match="Close it first"):
        screen.workspace.open(tmp_path / "other")
    with pytest.raises(InputError, match="Close it first"):
        screen.workspace.new()
    assert screen.workspace.close()
    screen.choices.choose([], None)
    screen.workspace.new(tmp_path / "other")
    assert screen.workspace.project.names == []


def test_save_as_takes_everything_along(screen, tmp_path):
    screen.add()
    screen.workspace.new()
    screen.paint(z=1)
    old = screen.workspace.project.path
    screen.workspace.save_as(tmp_path / "kept.ctxseg")
    assert screen.workspace.project.path == tmp_path / "kept.ctxseg"
    assert not old.exists(), "unnamed projects leave the cache when they are saved"
    screen.paint(z=4)
    assert np.array_equal(stored(tmp_path / "kept.ctxseg", "mr"), screen.labels.data)
    (tmp_path / "busy").mkdir()
    (tmp_path / "busy" / "x").touch()
    screen.workspace.save_as(tmp_path / "busy")
    assert "not empty" in screen.told[-1]
    screen.paint(z=5)
    assert np.array_equal(stored(tmp_path / "kept.ctxseg", "mr"), screen.labels.data)


def test_add_another_image(screen, project, tmp_path):
    import tifffile

    screen.workspace.open(project)
    with pytest.raises(InputError, match="already"):
        screen.workspace.add_chosen()
    before = screen.labels
    layer = screen.add(seed=9, name="new one", translate=before.translate)
    screen.choices.choose([layer], before)
    screen.workspace.add_chosen()
    assert screen.labels is not before, "the labels of one image are not given to another"
    assert screen.workspace.project.names == ["p0", "p1", "p2", "new_one"]
    screen.paint(z=2)
    assert stored(project, "new_one").any()
    tifffile.imwrite(tmp_path / "a.tif", volume(4))
    screen.workspace.add_files([NewImage((tmp_path / "a.tif",))])
    assert screen.workspace.project.names[-1] == "a"
    screen.workspace.add_files([NewImage((tmp_path / "none.tif",))])
    assert "none.tif" in screen.told[-1]


# ---------------------------------------------------------------- classes, marks, earlier states


def test_classes_follow_the_table_but_values_never_change(screen, project):
    screen.workspace.open(project)
    screen.choices.set_classes([ClassRow("ventricle", 1, "#123456"), ClassRow("myo", 5), ClassRow("scar", 7)])
    screen.workspace.tick()
    spec = screen.workspace.project.spec
    assert [(c.name, c.value) for c in spec.classes] == [("ventricle", 1), ("myo", 5), ("scar", 7)]
    assert spec.classes[0].colour == "#123456"
    screen.choices.set_classes([ClassRow("ventricle", 2), ClassRow("myo", 5), ClassRow("scar", 7)])
    screen.workspace.tick()
    assert "value 1" in screen.told[-1]
    assert next((row.name, row.value) for row in screen.choices.classes) == ("ventricle", 1)
    assert Project.open(project, read_only=True).spec.classes == spec.classes


def test_the_policy_stays_once_something_is_labelled(screen, project):
    screen.workspace.open(project)
    screen.choices.policy = "scribbles"
    screen.workspace.tick()
    assert screen.workspace.project.spec.policy == "scribbles"
    assert screen.workspace.project.spec.background == 2
    screen.choices.policy = "masks"
    screen.workspace.tick()
    screen.paint()
    screen.choices.policy = "scribbles"
    screen.workspace.tick()
    assert "labelled" in screen.told[-1]
    assert screen.choices.policy == "masks"


def test_marks_by_hand(screen, project):
    screen.workspace.open(project)
    screen.viewer.dims.set_current_step(0, 4)
    assert "Slice 4 counts" in screen.workspace.toggle_mark()
    screen.settle()
    found = Project.open(project, read_only=True).labels("p0")
    assert found.marks.labelled == {0: (4,)}
    assert found.counted() == {0: (4,)}, "an empty slice can be complete"
    assert "no longer" in screen.workspace.toggle_mark()
    screen.settle()
    assert Project.open(project, read_only=True).labels("p0").marks.labelled == {}


def test_an_earlier_state_comes_back_and_can_be_taken_back(screen, project):
    screen.workspace.open(project)
    screen.paint(z=1)
    screen.workspace.opened.autosave.ask(
        lambda: screen.workspace.project.labels("p0").checkpoint("before the mistake")
    )
    good = screen.labels.data.copy()
    screen.labels.data = np.full(good.shape, 5, np.uint8)
    screen.workspace.tick()
    assert (stored(project, "p0") == 5).all()
    state = next(g for g in screen.workspace.generations() if g.label == "before the mistake")
    screen.workspace.restore(state.number)
    np.testing.assert_array_equal(screen.labels.data, good)
    assert screen.choices.marks.planes == {0: {1}}
    screen.paint(z=2)
    assert np.array_equal(stored(project, "p0"), screen.labels.data)
    state = next(g for g in screen.workspace.generations() if g.label == "before the mistake")
    screen.workspace.restore(999)
    assert "no generation 999" in screen.told[-1]
    screen.paint(z=3)
    assert np.array_equal(stored(project, "p0"), screen.labels.data), "and it is followed as before"
    undo = next(g for g in screen.workspace.generations() if "restored" in g.label)
    screen.workspace.restore(undo.number)
    assert (screen.labels.data == 5).all()


# ---------------------------------------------------------------- bad input


def test_damaged_projects_are_told(screen, project, tmp_path):
    copy = tmp_path / "copy.ctxseg"
    shutil.copytree(project, copy)
    text = (copy / "project.yaml").read_text()
    (copy / "project.yaml").write_text(text[: len(text) // 2])
    screen.workspace.open(copy)
    assert "last good state" in screen.told[-1]
    assert screen.workspace.project is None
    (copy / "project.yaml").write_text(text.replace("version: 1", "version: 99", 1))
    screen.workspace.open(copy)
    assert "newer version" in screen.told[-1]
    screen.workspace.open(tmp_path / "nowhere")
    assert "not there" in screen.told[-1]


def test_an_image_that_changed_is_not_opened(screen, project):
    file = next((project / "images" / "p1").iterdir())
    file.write_bytes(file.read_bytes()[:-1] + bytes([file.read_bytes()[-1] ^ 1]))
    screen.workspace.open(project, "p1")
    assert "has changed since" in screen.told[-1]
    assert screen.workspace.opened is None
    screen.workspace.open_image("p0")
    assert screen.labels.data.shape == (6, 20, 24)


def test_damaged_labels_are_told_and_left_alone(screen, project):
    screen.workspace.open(project)
    screen.paint(z=1)
    screen.workspace.close()
    chunk = project / "labels" / "p0.zarr" / "c.1.0.0"
    data = bytearray(chunk.read_bytes())
    data[-1] ^= 1
    chunk.write_bytes(bytes(data))
    screen.workspace.open(project, "p0")
    assert "slice 1 is damaged" in screen.told[-1]
    assert chunk.read_bytes() == bytes(data)


def test_a_vanished_drive_does_not_hold_up_the_closing(screen, project):
    screen.workspace.open(project)
    screen.paint(z=1)
    away = project.with_name("away")
    project.rename(away)
    screen.labels.paint((3, 5, 5), 1)
    screen.workspace.tick()
    assert screen.workspace.saving[0] == "failed"
    with pytest.raises(InputError, match="cannot be saved"):
        screen.workspace.open_image("p1")
    assert screen.workspace.opened.present, "what is not on disk stays on screen"
    assert not screen.workspace.close()


def test_minutes_count_while_strokes_follow_each_other(tmp_path):
    effort = Effort()
    effort.begin("a1b2")
    for at in (0, 30, 60, 200, 230):
        effort.note(at)
    assert effort.seconds == 90
    effort.save()
    again = Effort()
    again.begin("a1b2")
    assert again.minutes == 1.5
    again.take(1.0)
    assert again.minutes == 0.5


# ---------------------------------------------------------------- what was decided in the Review


def piece(row=3):
    return Suspect(1, "island", (slice(row, row + 4), slice(5, 9)), np.ones((4, 4), bool), 0.5)


def decided(path, name="p0"):
    with Project.open(path, read_only=True) as found:
        return load_verdicts(verdicts_of(found.labels_path(name)), (6, 20, 24))


def test_decisions_are_saved_with_the_image_and_come_back(screen, project):
    screen.workspace.open(project, "p0")
    verdicts = screen.choices.verdicts
    assert not verdicts
    first, second = piece(), piece(12)
    verdicts.add(2, first)
    verdicts.add(2, second)
    screen.settle()
    assert len(decided(project)[2]) == 2
    verdicts.remove(2, first)  # undone
    screen.settle()
    assert [one.box for one in decided(project)[2]] == [second.box]
    screen.workspace.open_image("p1")
    assert not screen.choices.verdicts
    screen.choices.verdicts.add(0, first)
    screen.workspace.open_image("p0")  # without a tick in between
    assert [one.box for one in screen.choices.verdicts.of(2)] == [second.box]
    assert list(decided(project, "p1")) == [0]
    screen.choices.verdicts.clear()
    screen.workspace.close()
    assert decided(project) == {}
    assert screen.told == []


def test_decisions_go_on_in_a_copy_under_another_name(screen, project, tmp_path):
    screen.workspace.open(project, "p0")
    screen.choices.verdicts.add(2, piece())
    screen.workspace.save_as(tmp_path / "other.ctxseg")
    screen.choices.verdicts.add(4, piece())
    screen.settle()
    assert list(decided(project)) == [2]
    assert list(decided(tmp_path / "other.ctxseg")) == [2, 4]


def test_decisions_that_cannot_be_read_are_told_and_left_alone(screen, project):
    file = project / "labels" / "p0.verdicts.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text("{")
    screen.workspace.open(project, "p0")
    (told,) = screen.told
    assert str(file) in told
    screen.choices.verdicts.add(2, piece())
    screen.settle()
    screen.workspace.close()
    assert file.read_text() == "{"


def test_decisions_that_cannot_be_saved_are_told_once_and_tried_again(screen, project, monkeypatch):
    screen.workspace.open(project, "p0")
    verdicts, real = screen.choices.verdicts, save_verdicts

    def full(file, *_):
        raise FileError(file, "cannot be written: the disk is full", "Make room")

    monkeypatch.setattr("napari_ctxseg.gui.verdicts.save_verdicts", full)
    verdicts.add(2, piece())
    for now in (0.0, 1.0, 20.0):
        verdicts.tick(run_now, screen.told.append, now)
    assert len(screen.told) == 1
    assert "disk is full" in screen.told[0]
    assert not screen.workspace.close_image()  # nothing is let go
    assert screen.workspace.opened is not None
    monkeypatch.setattr("napari_ctxseg.gui.verdicts.save_verdicts", real)
    verdicts.tick(run_now, screen.told.append, 40.0)
    assert list(decided(project)) == [2]


def test_decisions_of_a_project_for_reading_only_last_for_the_session(screen, project):
    with Project.open(project):
        screen.workspace.open(project, "p0")
        screen.choices.verdicts.add(2, piece())
        screen.settle()
    assert not (project / "labels" / "p0.verdicts.json").exists()


def test_what_waits_in_the_background_does_not_replace_newer_decisions(screen, project):
    screen.workspace.open(project, "p0")
    verdicts, waiting = screen.choices.verdicts, []
    verdicts.add(2, piece())
    verdicts.tick(lambda work, done, failed: waiting.append(work), screen.told.append)
    verdicts.add(4, piece())
    assert verdicts.flush()
    waiting[0]()
    assert list(decided(project)) == [2, 4]
