"""The lane `figures` in its own process: the same pixels as the command line, newest preview first, no torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_ctxseg.config import FigureStyle
from napari_ctxseg.engine.client import EngineClient
from napari_ctxseg.events import FigureDrawn, JobDone, JobFailed
from napari_ctxseg.figures import SeenLayer, Sources, View, make_figure, save_recipe, view_recipe

from .conftest import ready, until


@pytest.fixture
def lane():
    client = EngineClient(threads=1, lane="figures")
    client.start()
    yield ready(client)
    process = client._process
    client.close()
    assert process.wait(20) == 0


@pytest.fixture
def recipe(tmp_path):
    image = np.random.default_rng(0).random((30, 40))
    labels = (image > 0.8).astype(np.uint8)
    layers = [
        SeenLayer("mr", image),
        SeenLayer("lv", labels, "labels", labels={1: "#ff0000"}, names={1: "LV"}),
    ]
    made = view_recipe(View(layers, (-0.5, -0.5, 29.5, 39.5)), tmp_path / "v.npz", FigureStyle(dpi=100))
    save_recipe(tmp_path / "v.recipe.yaml", made, tmp_path, {}, {})
    return made, tmp_path / "v.recipe.yaml"


def test_a_preview_and_the_picture_of_the_command_line(lane, recipe, tmp_path):
    lane.figure(recipe[1], width=300)
    found = [
        event for event in until(lane, lambda e: isinstance(e, JobDone)) if isinstance(event, FigureDrawn)
    ]
    assert found[0].picture.shape[2] == 3
    assert abs(found[0].picture.shape[1] - 300) < 8
    lane.figure(recipe[1], tmp_path / "a.png")
    (made,) = [e for e in until(lane, lambda e: isinstance(e, JobDone)) if isinstance(e, FigureDrawn)]
    assert [Path(name).name for name in made.files] == ["a.png"]
    make_figure(recipe[0], Sources(tmp_path), tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    maps = Path(f"/proc/{lane.pid}/maps")
    if maps.exists():
        assert "libtorch" not in maps.read_text()


def test_an_error_says_file_reason_and_remedy(lane, tmp_path):
    lane.figure(tmp_path / "none.yaml")
    (failed,) = [e for e in until(lane, lambda e: isinstance(e, JobDone)) if isinstance(e, JobFailed)]
    assert "none.yaml" in failed.error
    assert "ctxseg figure --example" in failed.remedy
    assert lane.state == "ready"
