from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from napari_ctxseg.cases import Case
from napari_ctxseg.engine.client import EngineClient
from napari_ctxseg.image import image_from_array

FAKE = str(Path(__file__).with_name("fake_worker.py"))


def until(client, wanted, seconds=60.0):
    """Events up to and including the first that `wanted` accepts."""
    events, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        for event in client.poll():
            events.append(event)
            if wanted(event):
                return events
        time.sleep(0.01)
    raise AssertionError(
        f"nothing came in {seconds} s but {events[-5:]}; log:\n{client.log.read_text()[-2000:]}"
    )


def ready(client, seconds=120.0):
    end = time.monotonic() + seconds
    while client.state != "ready":
        assert time.monotonic() < end, client.state
        assert client.state != "dead", client.log.read_text()
        client.poll()
        time.sleep(0.01)
    return client


@pytest.fixture
def engine():
    client = EngineClient(threads=1, program=(FAKE,))
    client.start()
    yield client
    process = client._process
    client.close()
    if process is not None:
        assert process.wait(10) == 0


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    labels = np.zeros((3, 8, 10), np.uint8)
    labels[1, 2:4, 2:4] = 5
    return Case(
        "heart", image_from_array(rng.normal(size=(3, 8, 10)), "zyx", spacing=(8, 1, 1), unit="mm"), labels
    )
