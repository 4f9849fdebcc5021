"""The lane `maps` in its own process: real worker, real losses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_ctxseg.cases import Case
from napari_ctxseg.config import BudgetConfig, RunConfig
from napari_ctxseg.engine.client import EngineClient, EngineError
from napari_ctxseg.engine.requests import MapsRequest, NetworkRequest
from napari_ctxseg.events import JobDone, JobFailed, LossMaps
from napari_ctxseg.image import image_from_array
from tests.oracles import losses as oracle

from .conftest import ready, until
from .test_worker import gone, is_a

DILATED = {"kind": "dilated_balanced_ce", "radius": 5, "unit": "px"}


def target(size=64):
    labels = np.zeros((size, size), np.int16)
    labels[20:28, 30:36] = 1
    labels[40:44, 10:13] = 2
    labels[:3] = -1
    return labels


def request(labels, loss=DILATED, **options):
    spacing = options.pop("spacing", (1.0,) * labels.ndim)
    return MapsRequest(loss, spacing, options.pop("values", (1, 2)), labels, **options)


def last(lane, number):
    """The last maps that a request is answered with."""
    events = until(lane, is_a(JobDone))
    while lane.state != "ready":
        events += until(lane, is_a(JobDone))
    return [e for e in events if isinstance(e, LossMaps) and e.request == number][-1]


@pytest.fixture
def lane():
    client = EngineClient(threads=1, lane="maps")
    client.start()
    yield client
    process = client._process
    client.close()
    if process is not None:
        assert process.wait(10) == 0


def trained(out, dims, patch):
    """A network after three steps, and the image it saw."""
    from napari_ctxseg.training import fit

    rng = np.random.default_rng(0)
    labels = np.stack([np.where(target() < 0, 0, target())] * 3).astype(np.uint8)
    image = (rng.normal(size=labels.shape) + labels).astype(np.float32)
    case = Case("a", image_from_array(image, "zyx"), labels, "a")
    config = RunConfig.model_validate(
        {
            "data": {"classes": {"a": 1, "b": 2}},
            "network": {"kind": "unet", "dims": dims},
            "patch": {"size": patch, "batch": 2},
        }
    ).model_copy(update={"budget": BudgetConfig(steps=3)})
    list(fit(config, [case], out))
    return out, image[None]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("run") / "0001", 2, (32, 32))


def logits_of(folder, image):
    """What the run's network answers to the whole image, `(C, z, y, x)`."""
    import torch

    from napari_ctxseg.config import DeviceConfig
    from napari_ctxseg.inference import load_model
    from napari_ctxseg.inference.blocks import logit_blocks
    from napari_ctxseg.training.data import normalise

    # Like the lane, in full precision: `auto` is bfloat16 on some processors.
    model = load_model(folder, DeviceConfig(accelerator="cpu", precision="32-true"))
    with torch.inference_mode():
        found = logit_blocks(model, normalise(image, ""), model.tiles)
        return np.concatenate([logits.numpy() for _, logits, _ in found if logits is not None], axis=1)


def test_request_and_answer(lane):
    assert lane.state == "starting"
    with pytest.raises(EngineError, match="starting"):
        lane.maps(request(target()))
    ready(lane)
    assert lane.device == "CPU"
    maps = last(lane, lane.maps(request(target())))
    expected = oracle.dilated_weights(target(), 3, 5, (1, 1))
    np.testing.assert_allclose(maps.weight, expected, rtol=1e-5, atol=1e-9)
    assert maps.far == pytest.approx(expected[63, 63])
    assert maps.ce is None
    box = last(lane, lane.maps(request(target(), {"kind": "context_ce"})))
    assert box.boxes == (((20, 44), (10, 36)),)
    np.testing.assert_array_equal(box.roi, oracle.roi_dynamic(target(), 0))
    assert not list(lane._scratch.folder.glob("*.npy"))


def test_the_newest_request_wins(lane):
    ready(lane)
    numbers = [lane.maps(request(target(512), DILATED | {"radius": r})) for r in range(12)]
    events = until(lane, lambda _: lane.state == "ready")
    answered = [e.request for e in events if isinstance(e, LossMaps)]
    assert answered[-1] == numbers[-1]
    assert len(answered) < len(numbers)
    maps = [e for e in events if isinstance(e, LossMaps)][-1]
    np.testing.assert_allclose(maps.weight, oracle.dilated_weights(target(512), 3, 11, (1, 1)), rtol=1e-5)
    assert not list(lane._scratch.folder.glob("*.npy")), "arrays of dropped requests are gone too"


def test_a_slice_of_a_volume_without_sending_it_again(lane):
    ready(lane)
    volume = np.zeros((5, 32, 32), np.int16)
    volume[1:3, 8:14, 8:14] = 1
    spacing = (3.0, 1.0, 1.0)
    expected = oracle.dilated_weights(volume, 2, 4, spacing)
    loss = {"kind": "dilated_balanced_ce", "radius": 4}
    first = last(lane, lane.maps(request(volume, loss, spacing=spacing, values=(1,), index=3)))
    np.testing.assert_allclose(first.weight, expected[3], rtol=1e-5)
    other = last(lane, lane.maps(MapsRequest(loss, spacing, (1,), None, index=1)))
    np.testing.assert_allclose(other.weight, expected[1], rtol=1e-5)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (request(target(), {"kind": "nope"}), "nope"),
        (request(target(), DILATED | {"radius": -1}), "radius"),
        (request(target().astype(np.float32)), "integer"),
        (request(target(), {"kind": "weighted_ce", "weights": (1, 2)}), "2 class weights for 3 classes"),
        (MapsRequest(DILATED, (1, 1), (1,), None), "no labels"),
        (request(target(), network=NetworkRequest("/nowhere", 1, 0, np.zeros((1, 64, 64)))), "no model"),
    ],
)
def test_bad_requests_are_told_and_the_lane_lives_on(lane, bad, words):
    ready(lane).maps(bad)
    failed = next(e for e in until(lane, is_a(JobDone)) if isinstance(e, JobFailed))
    assert words in failed.error
    assert last(lane, lane.maps(request(target()))).weight is not None
    lane._send({"type": "maps", "job": 9, "loss": {}})
    assert any(isinstance(e, JobFailed) for e in until(lane, is_a(JobDone)))


def test_cross_entropy_of_a_network(lane, run):
    folder, image = run
    ready(lane)
    network = NetworkRequest(str(folder), 7, 1, image)
    number = lane.maps(request(target(), network=network))
    events = until(lane, is_a(JobDone))
    first, second = [e for e in events if isinstance(e, LossMaps) and e.request == number]
    assert first.ce is None
    assert first.weight is not None, "what needs no network comes first"
    np.testing.assert_allclose(second.weighted, second.weight * second.ce, rtol=1e-5, atol=1e-10)
    assert second.loss == pytest.approx(second.weighted.sum(), rel=1e-4)

    logits = logits_of(folder, image)[:, 1]
    np.testing.assert_allclose(second.ce, oracle.ce(logits[None], target()[None])[0], rtol=1e-3, atol=1e-4)

    # Known by now: another stroke has its cross-entropy without a pass of the network, and without the image.
    painted = target()
    painted[50:60, 50:60] = 1
    known = NetworkRequest(str(folder), 7, 1, compute=False)
    again = last(lane, lane.maps(request(painted, network=known)))
    np.testing.assert_allclose(again.ce, oracle.ce(logits[None], painted[None])[0], rtol=1e-3, atol=1e-4)
    unknown = NetworkRequest(str(folder), 7, 2, compute=False)
    assert last(lane, lane.maps(request(painted, network=unknown))).ce is None
    lane.maps(request(painted, values=(1, 3), network=NetworkRequest(str(folder), 7, 2)))
    failed = next(e for e in until(lane, is_a(JobDone)) if isinstance(e, JobFailed))
    assert "class values [1, 2], not [1, 3]" in failed.error
    lane.maps(request(painted, values=(1, 3), network=NetworkRequest(str(folder), 7, 1)))
    failed = next(e for e in until(lane, is_a(JobDone)) if isinstance(e, JobFailed))
    assert "not [1, 3]" in failed.error, "also of a slice that was looked at before"


def test_cross_entropy_of_a_network_of_volumes(lane, tmp_path):
    folder, image = trained(tmp_path / "0001", 3, (8, 32, 32))
    volume = np.stack([target(), target(), target()])
    volume[2, 20:28, 30:36] = 0
    spacing = (3.0, 1.0, 1.0)
    ready(lane)
    network = NetworkRequest(str(folder), 7, 2, image)
    number = lane.maps(request(volume, spacing=spacing, index=2, network=network))
    events = until(lane, is_a(JobDone))
    second = [e for e in events if isinstance(e, LossMaps) and e.request == number][-1]
    expected = oracle.ce(logits_of(folder, image)[None], volume[None])[0]
    np.testing.assert_allclose(second.ce, expected[2], rtol=1e-3, atol=1e-4)
    weights = oracle.dilated_weights(volume, 3, 5, spacing)
    np.testing.assert_allclose(second.weighted, weights[2] * expected[2], rtol=1e-3, atol=1e-7)
    assert second.loss is None, "the network has looked at one slice: the loss of the volume is not known"


PARENT = """
import time
from napari_ctxseg.engine.client import EngineClient
client = EngineClient(threads=1, lane="maps")
client.start()
while client.state != "ready":
    client.poll()
    time.sleep(0.01)
print(client.pid, client._scratch.folder, flush=True)
time.sleep(60)
"""


def test_dies_with_its_parent():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    pid, folder = parent.stdout.readline().split()
    os.kill(parent.pid, signal.SIGKILL)
    parent.stdout.close()
    parent.wait()
    assert gone(int(pid), 25)
    assert not Path(folder).exists()
