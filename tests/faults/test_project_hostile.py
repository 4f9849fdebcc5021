"""Projects that are killed, truncated, from a newer version, hostile, locked, or on a full disk."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
import yaml

from napari_ctxseg.errors import CtxsegError, FileError, InputError
from napari_ctxseg.project import (
    LabelStore,
    LockedError,
    NewImage,
    Project,
    find_predictions,
    from_dataset_json,
    lock_run,
    restore,
    write_prediction,
)
from napari_ctxseg.project.locks import STALE, acquire

if TYPE_CHECKING:
    from pathlib import Path

WINDOWS = sys.platform == "win32"


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: tmp_path / "settings")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: tmp_path / "cache")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "p.ctxseg"
    with Project.create(folder, classes={"a": 1}) as made:
        for i in range(3):
            tifffile.imwrite(tmp_path / f"i{i}.tif", np.full((8, 9), i, np.uint8))
            made.add_images([NewImage((tmp_path / f"i{i}.tif",))])
    return folder


# ---------------------------------------------------------------- killed

PAINTER = """
import sys, numpy as np
from pathlib import Path
from napari_ctxseg.project import LabelStore, SliceMarks
store = LabelStore.open(Path(sys.argv[1]))
rng, stroke = np.random.default_rng(), int(sys.argv[2])
while True:  # each stroke writes its own number over a whole slice, so that a torn one would be two numbers
    stroke += 1
    labels = np.broadcast_to(np.uint32(stroke), store.shape)
    index = stroke % store.shape[0]
    if stroke % 40 == 0:
        store.checkpoint(f"at {stroke}")
    store.save(labels, [index], SliceMarks.of({0: [index]}), now=30.0 * stroke)
    print(stroke, flush=True)
"""


@pytest.mark.skipif(WINDOWS, reason="there is no SIGKILL on Windows")
def test_killed_at_any_moment_no_saved_stroke_is_lost(tmp_path: Path) -> None:
    """Seven kills, at moments of chance; strokes grow past 255 and 65535, so growing is killed too."""
    path, rng = tmp_path / "a.zarr", random.Random(time.time_ns())
    LabelStore.create(path, (3, 64, 64))
    said = jumped = 0
    for start in (0, 240, 0, 65530, 0, 0, 0):
        jumped = start if start > said else jumped  # strokes up to here were left out
        said = max(said, start)
        process = subprocess.Popen(
            [sys.executable, "-c", PAINTER, str(path), str(said)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        said = int(process.stdout.readline())  # it works
        time.sleep(rng.uniform(0, 0.25))
        process.send_signal(signal.SIGKILL)
        said = int((process.stdout.read().splitlines() or [said])[-1])
        process.wait()
        process.stdout.close()
        store = LabelStore.open(path)
        labels = store.read()
        assert all(len(np.unique(piece)) == 1 for piece in labels), "a slice is torn"
        found = labels[:, 0, 0]
        for stroke in range(said, max(said - 3, jumped), -1):  # the last ones that were reported saved
            assert found[stroke % 3] >= stroke
        assert found.max() <= said + 1
        for generation in store.generations():
            for index in range(3):
                assert len(np.unique(store.read_generation(generation.number, index))) == 1
    assert not list(tmp_path.rglob("*.tmp*"))


ADDER = """
import sys
from pathlib import Path
from napari_ctxseg.project import NewImage, Project
project = Project.open(Path(sys.argv[1]))
assert not project.read_only, project.notice
print("ready", flush=True)
number = 0
while True:
    number += 1
    project.add_images([NewImage((Path(sys.argv[2]),), name=f"{sys.argv[3]}-{number}")])
    print(number, flush=True)
"""


@pytest.mark.skipif(WINDOWS, reason="there is no SIGKILL on Windows")
def test_killed_while_images_are_added_the_project_opens(project: Path, tmp_path: Path) -> None:
    for attempt in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", ADDER, str(project), str(tmp_path / "i0.tif"), f"n{attempt}"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(random.Random(time.time_ns()).uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        said = [int(line) for line in process.stdout.read().split()]
        process.wait()
        process.stdout.close()
        with Project.open(project) as again:  # the dead process holds no lock
            assert not again.read_only
            assert {f"n{attempt}-{number}" for number in said} <= set(again.names)
            assert all(again.image(name).array.shape == (8, 9) for name in again.names)


# ---------------------------------------------------------------- truncated, newer, hostile


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_project_offers_its_last_good_state(project: Path, share: float) -> None:
    file = project / "project.yaml"
    text = file.read_bytes()
    with Project.open(project) as whole:
        spec = whole.spec
    cut = text[: int(share * len(text))].rstrip() + (b": [" if share else b"")
    file.write_bytes(cut)
    with pytest.raises(InputError, match="ctxseg project restore"):
        Project.open(project)
    assert file.read_bytes() == cut
    restore(project)
    with Project.open(project) as again:
        assert again.spec == spec
    assert (project / "project.yaml.damaged").read_bytes() == cut
    with pytest.raises(FileError, match="nothing to restore"):
        restore(project)


def test_the_last_good_state_is_the_newest_whole_one(project: Path) -> None:
    states = sorted((project / ".history").iterdir(), key=lambda p: int(p.name.split(".")[1]))
    assert len(states) == 4
    for path in (project / "project.yaml", *states[2:]):
        path.write_bytes(path.read_bytes()[:50])
    restore(project)
    with Project.open(project) as again:
        assert again.names == ["i0"]


def test_a_newer_version_is_left_alone(project: Path) -> None:
    file = project / "project.yaml"
    values = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**values, "version": 2, "made_by": "9.0", "more": 1}))
    text = file.read_bytes()
    for attempt in (Project.open, restore):
        with pytest.raises(InputError, match=r"newer version of napari-ctxseg \(9\.0"):
            attempt(project)
    assert file.read_bytes() == text


@pytest.mark.parametrize("path", ["../i0.tif", "/etc/passwd", "images/../../i0.tif", "C:/x.tif", "a\\b.tif"])
def test_paths_that_lead_out_are_refused(project: Path, path: str) -> None:
    file = project / "project.yaml"
    values = yaml.safe_load(file.read_text())
    values["images"][0]["files"][0]["path"] = path
    file.write_text(yaml.safe_dump(values, explicit_end=True))
    with pytest.raises(InputError, match=r"images\.0\.files\.0\.path"):
        Project.open(project)


@pytest.mark.parametrize("name", ["../up", "a/b", "con", ".hidden", "x" * 300, ""])
def test_names_that_are_no_file_names_are_refused(project: Path, name: str) -> None:
    file = project / "project.yaml"
    values = yaml.safe_load(file.read_text())
    values["images"][0]["name"] = name
    file.write_text(yaml.safe_dump(values, explicit_end=True))
    with pytest.raises(InputError, match=r"images\.0\.name"):
        Project.open(project)


@pytest.mark.skipif(WINDOWS, reason="links need rights there")
def test_a_link_out_of_the_project_is_not_followed(project: Path, tmp_path: Path) -> None:
    copied = next((project / "images").rglob("i0.tif"))
    copied.unlink()
    copied.symlink_to(tmp_path / "i0.tif")
    with Project.open(project) as opened, pytest.raises(InputError, match="leads out of the project"):
        opened.image("i0")


@pytest.mark.parametrize(
    "text",
    ["a: &a [x, *a]\nversion: 1", "[" * 100_000, "version: 1\nimages: 3", "version: .nan", "version: true",
     "a: &a [1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b]\nversion: 1", "!!python/object/apply:os.system [ls]"],
)  # fmt: skip
def test_hostile_yaml_is_refused_quickly(project: Path, text: str) -> None:
    (project / "project.yaml").write_text(text)
    begun = time.monotonic()
    with pytest.raises(InputError, match=r"project\.yaml"):
        Project.open(project)
    assert time.monotonic() - begun < 5


def test_a_source_that_changed_is_not_trained_on(project: Path, tmp_path: Path) -> None:
    with Project.open(project) as opened:
        opened.add_images([NewImage((tmp_path / "i1.tif",), name="ref")], copy=False)
        opened.import_labels("ref", np.ones((8, 9), np.uint8))
        tifffile.imwrite(tmp_path / "i1.tif", np.full((8, 9), 77, np.uint8))
        with pytest.raises(InputError, match=r"i1\.tif: has changed since"):
            opened.cases()
        (tmp_path / "i1.tif").unlink()
        with pytest.raises(FileError, match="is not there"):
            opened.image("ref")


def test_labels_of_another_shape_are_refused(project: Path) -> None:
    with Project.open(project) as opened:
        LabelStore.create(project / "labels" / "i0.zarr", (3, 3))
        with pytest.raises(InputError, match=r"shape \(3, 3\), but the image has \(8, 9\)"):
            opened.labels("i0")
        with pytest.raises(InputError, match="shape"):
            opened.import_labels("i1", np.ones((9, 8), np.uint8))


# ---------------------------------------------------------------- two writers


def test_a_second_opener_reads_only_and_is_told_who_writes(project: Path) -> None:
    with Project.open(project) as first:
        first.labels("i0").save(np.ones((8, 9), np.uint8), [0])
        second = Project.open(project)
        assert second.read_only
        assert f"process {os.getpid()} on {socket.gethostname()}" in second.notice
        assert second.labels("i0").read().all()
        for action in (
            lambda: second.set_classes({"b": 2}),
            lambda: second.add_images([]),
            lambda: second.labels("i0").save(np.zeros((8, 9), np.uint8), [0]),
            lambda: second.import_labels("i0", np.zeros((8, 9), np.uint8)),
        ):
            with pytest.raises(InputError, match=r"reading only|being changed"):
                action()
        run = project / "runs" / "0001-x-aaaaaa"  # a training has a lock of its own
        with lock_run(run), pytest.raises(LockedError, match="run 0001-x-aaaaaa"):
            lock_run(run)
    with Project.open(project) as third:
        assert not third.read_only


def test_another_process_holds_the_lock_until_it_dies(project: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from napari_ctxseg.project import Project\n"
        "p = Project.open(Path(sys.argv[1])); print(p.read_only, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(project)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "False\n"
    with Project.open(project) as second:
        assert second.read_only
        assert str(process.pid) in second.notice
    process.kill()
    process.wait()
    process.stdout.close()
    with Project.open(project) as third:
        assert not third.read_only


@pytest.mark.parametrize(
    ("host", "age", "free"),
    [("elsewhere", 0, False), ("elsewhere", STALE + 60, True), (socket.gethostname(), 0, True)],
)
def test_a_note_from_another_machine_counts_while_it_is_fresh(
    project: Path, host: str, age: float, free: bool
) -> None:
    """Locks of network shares do not reach other machines; on this one the system's own lock is what counts."""
    note = {"host": host, "pid": 2**22 + 5, "time": time.time() - age, "born": 1.0}
    (project / "labels" / ".lock").write_text(json.dumps(note))
    with Project.open(project) as opened:
        assert opened.read_only is not free
        assert free or "on elsewhere" in opened.notice


def test_without_locks_of_the_system_a_living_process_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_ctxseg.project.locks._try_lock", lambda handle: None)
    first = acquire(tmp_path / "lock", "it")
    with pytest.raises(LockedError, match=str(os.getpid())):
        acquire(tmp_path / "lock", "it")
    note = json.loads((tmp_path / "lock").read_text())
    (tmp_path / "lock").write_text(
        json.dumps({**note, "born": note["born"] - 100})
    )  # the number was given anew
    acquire(tmp_path / "lock", "it").release()
    first.release()


def test_what_another_program_wrote_is_not_overwritten(project: Path) -> None:
    with Project.open(project) as opened:
        values = yaml.safe_load((project / "project.yaml").read_text())
        (project / "project.yaml").write_text(yaml.safe_dump({**values, "name": "theirs"}, explicit_end=True))
        with pytest.raises(InputError, match="changed by another program"):
            opened.update(name="mine")
    with Project.open(project) as again:
        assert again.spec.name == "theirs"


# ---------------------------------------------------------------- full disk, vanished drive


@pytest.mark.skipif(WINDOWS, reason="there are no such limits on Windows")
def test_a_full_disk_leaves_the_last_good_project(project: Path, tmp_path: Path) -> None:
    with Project.open(project) as opened:
        before, listed = opened.spec, (project / "project.yaml").read_bytes()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
        try:
            for action in (
                lambda: opened.update(name="x" * 150),
                lambda: opened.import_labels("i0", np.random.default_rng(0).integers(0, 255, (8, 9)) * 2**23),
                lambda: write_prediction(
                    project,
                    "0001-a-aaaaaa",
                    "i0",
                    {"labels": np.random.default_rng(0).integers(0, 99, (80, 90))},
                ),
                lambda: opened.save_as(tmp_path / "copy"),
            ):
                with pytest.raises(FileError, match=r"full|No space|large"):
                    action()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert opened.spec == before
        assert (project / "project.yaml").read_bytes() == listed
        assert find_predictions(project, "0001-a-aaaaaa") == {}
        assert not (tmp_path / "copy").exists()
        opened.update(name="after")
    with Project.open(project) as again:
        assert again.spec.name == "after"


def test_too_little_room_is_seen_before_copying(project: Path, tmp_path: Path, monkeypatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr("napari_ctxseg.project.sources.shutil.disk_usage", lambda _: usage)
    with Project.open(project) as opened, pytest.raises(FileError, match="refer to the images instead"):
        opened.add_image([tmp_path / "i0.tif"], name="more")


def test_a_disk_that_fails_at_the_last_step_keeps_the_old(project: Path, monkeypatch) -> None:
    def fails(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Project.open(project) as opened:
        store = opened.labels("i0")
        store.save(np.ones((8, 9), np.uint8), [0])
        monkeypatch.setattr(os, "fsync", fails)
        for action in (
            lambda: opened.update(name="new"),
            lambda: store.save(np.zeros((8, 9), np.uint8), [0]),
            lambda: store.checkpoint("x"),
        ):
            with pytest.raises(FileError, match="full"):
                action()
        monkeypatch.undo()
        assert LabelStore.open(store.path).read().all()


def test_a_drive_that_vanished_is_named(project: Path) -> None:
    with Project.open(project) as opened:
        shutil.rmtree(project)
        with pytest.raises(CtxsegError, match=r"not there|cannot be written"):
            opened.update(name="x")
        with pytest.raises(CtxsegError, match="not there"):
            write_prediction(project, "0001-a-aaaaaa", "i0", {"labels": np.zeros((8, 9), np.uint8)})
        assert not project.exists()
    with pytest.raises(InputError, match="Check the drive"):
        Project.open(project)


@pytest.mark.skipif(WINDOWS or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only_opens_for_reading(project: Path) -> None:
    (project / "labels").chmod(0o500)
    try:
        with Project.open(project) as opened:
            assert opened.read_only
            assert "cannot be written to" in opened.notice
    finally:
        (project / "labels").chmod(0o700)


# ---------------------------------------------------------------- data sets


@pytest.mark.parametrize(
    "listed", ["../secret.nii.gz", "/etc/passwd", "./imagesTr/../../x.nii.gz", "imagesTr\\x.nii.gz"]
)
def test_a_dataset_json_cannot_name_files_elsewhere(tmp_path: Path, listed: str) -> None:
    values = {"labels": {"0": "background", "1": "a"}, "training": [{"image": listed, "label": listed}]}
    (tmp_path / "dataset.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match="elsewhere"):
        from_dataset_json(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", "[" * 100_000, '{"training": []}', '{"training": [1], "labels": {}}',
     '{"file_ending": 3, "channel_names": {}, "labels": 4}', '{"channel_names": {"0": "x"}, "labels": {"a": "b"}}',
     '{"labels": {"1": "a"}, "training": [{"image": "x.nii.gz"}]}', '{"labels": {"1": NaN}, "training": []}'],
)  # fmt: skip
def test_a_damaged_dataset_json_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(InputError, match=r"dataset\.json"):
        from_dataset_json(tmp_path)
