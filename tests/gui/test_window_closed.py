"""A window that is closed while everything is open, by its cross and by code: nothing is lost, nothing stays behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_ctxseg.image import Image, plain_affine
from napari_ctxseg.project import Project

pytestmark = pytest.mark.viewer

SCRIPT = Path(__file__).with_name("closing_window.py")


@pytest.fixture
def path(tmp_path):
    folder = tmp_path / "heart.ctxseg"
    with Project.create(folder, classes={"LV": 1}) as made:
        array = np.random.default_rng(0).normal(size=(4, 48, 48)).astype(np.float32)
        made.add_array(Image(array, "zyx", (1.0, 1.0, 1.0), plain_affine((1.0, 1.0, 1.0))), "p0")
    return folder


def closed(project, how, home):
    done = subprocess.run(
        [sys.executable, SCRIPT, str(project), how, str(home)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("how", ["window", "viewer, beside another"])
def test_the_last_stroke_the_minutes_and_the_lock(path, tmp_path, how):
    said = closed(path, how, tmp_path)
    assert said == (["writable", "over"] if "beside" in how else ["over"])
    with Project.open(path) as found:
        assert not found.read_only
        assert found.labels("p0").read()[2, 30, 30] == 1
        (minutes,) = (tmp_path / "cache" / "effort").iterdir()
        assert minutes.stem == found.spec.id
        assert json.loads(minutes.read_text())["seconds"] == 90


def test_an_empty_unnamed_project_is_removed(tmp_path):
    assert closed("-", "window", tmp_path) == ["over"]
    assert not list((tmp_path / "cache").rglob("*.ctxseg"))


def test_closed_before_all_is_loaded(path, tmp_path):
    assert closed(path, "window at once", tmp_path) == ["over"]
