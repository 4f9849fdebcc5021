from __future__ import annotations

import os
import shutil
import sys

import numpy as np
import pytest
import torch._dynamo  # noqa: F401
from napari.components import ViewerModel

from napari_ctxseg.events import JobDone
from napari_ctxseg.gui.session import Session
from napari_ctxseg.gui.timing import costs


def pytest_collection_modifyitems(items):
    """Viewer tests need a screen: pytest-xvfb starts one where Xvfb is installed."""
    if os.environ.get("DISPLAY") or shutil.which("Xvfb") or sys.platform != "linux":
        return
    skip = pytest.mark.skip(reason="no display, and Xvfb is not installed")
    for item in items:
        if item.get_closest_marker("viewer"):
            item.add_marker(skip)


# Above, torch._dynamo: triton and software OpenGL crash in one process unless triton's C extension comes first. Only
# tests load torch beside a viewer (other test modules do); the plugin never does.


class FakeEngine:
    """An engine that notes what it is asked and says what a test puts into `said`."""

    def __init__(self):
        self.state, self.device, self.returncode = "ready", "CPU (1 thread)", None
        self.asked, self.said = [], []

    def start(self):
        pass

    def poll(self, seconds=0.02):
        events, self.said = self.said, []
        if any(isinstance(event, JobDone) for event in events):
            self.state = "ready"
        return events

    def train(self, config, cases, out, *, resume=False):
        self.state = "busy"
        self.asked.append(("train", config, cases, out))

    def predict(self, run, case, device, options=None, first=0):
        self.state, self.options, self.first = "busy", options, first
        self.asked.append(("predict", run, case, device))

    def describe(self, config, facts):
        self.asked.append(("describe", config, facts))
        return sum(entry[0] == "describe" for entry in self.asked)

    def set_visible(self, case, index):
        self.asked.append(("visible", case, index))

    def stop(self):
        self.asked.append(("stop",))

    def kill(self):
        self.asked.append(("kill",))

    def close(self):
        self.state = "dead"
        self.asked.append(("close",))


@pytest.fixture(autouse=True)
def fresh_costs():
    costs.clear()


@pytest.fixture
def viewer_model():
    viewer = ViewerModel()
    rng = np.random.default_rng(0)
    viewer.add_image(
        rng.normal(size=(6, 20, 24)).astype(np.float32),
        name="mr",
        scale=(8, 1.5, 1.5),
        translate=(4, 0, -2),
        units=("mm", "mm", "mm"),
        axis_labels=("z", "y", "x"),
    )
    return viewer


@pytest.fixture
def session(viewer_model, tmp_path):
    made = Session(viewer_model, FakeEngine(), tmp_path / "runs")
    made.choose([viewer_model.layers["mr"]], None)
    return made
