"""What a training would need, asked of the real engine, and of the function behind it."""

from __future__ import annotations

import itertools

import pytest
import torch

from napari_ctxseg.config import RunConfig, method_kinds, network_kinds
from napari_ctxseg.config.combinations import Facts, filled_network
from napari_ctxseg.engine.client import EngineClient, EngineError
from napari_ctxseg.events import Described, RunStarted
from napari_ctxseg.networks import make_discriminator, make_network
from napari_ctxseg.training.describe import describe, free_memory

from .conftest import ready, until


@pytest.fixture(scope="module")
def client():
    made = EngineClient(threads=1)
    made.start()
    yield ready(made)
    made.close()


def is_described(event):
    return isinstance(event, Described)


def test_the_engine_answers_while_idle_and_newest_wins(client):
    client.describe(RunConfig(), Facts((20, 24)))
    config = RunConfig(network={"kind": "unet", "features": [4, 8]}, method="cgan")
    number = client.describe(config, Facts((100, 100), 2, 3))
    (*_, event) = until(client, lambda e: is_described(e) and e.request == number)
    assert event == describe(config, Facts((100, 100), 2, 3), number).__class__(
        **{**vars(describe(config, Facts((100, 100), 2, 3), number)), "free": event.free}
    )
    assert client.state == "ready", "a question is no job"
    assert event.free > 0


def test_reasons_are_answers(client):
    number = client.describe(RunConfig(network={"kind": "unet", "dims": 3}), Facts((20, 24)))
    (*_, event) = until(client, lambda e: is_described(e) and e.request == number)
    assert "needs a volume" in event.problem
    bad = RunConfig(device={"accelerator": "mps"})
    number = client.describe(bad, Facts((20, 24)))
    (*_, event) = until(client, lambda e: is_described(e) and e.request == number)
    assert "is not there" in event.problem


def test_not_while_it_works(client, case, tmp_path):
    config = RunConfig(
        network={"kind": "unet", "features": [2, 4]}, budget={"steps": 3}, data={"classes": {"a": 5}}
    )
    client.describe(config, Facts((3, 8, 10)))
    client.train(config, [case], tmp_path / "run")
    with pytest.raises(EngineError):
        client.describe(config, Facts((3, 8, 10)))
    until(client, lambda e: isinstance(e, RunStarted))
    end = lambda e: type(e).__name__ == "JobDone"  # noqa: E731
    until(client, end)


@pytest.mark.parametrize("dims", [2, 3])
def test_weights_are_those_of_the_networks(dims):
    facts = Facts((48, 64, 64), 2, 2, 4)
    for kind, method in itertools.product(network_kinds(), method_kinds()):
        network = {"kind": kind, "dims": dims} | ({"features": [4, 8, 8]} if kind == "unet" else {})
        config = RunConfig(network=network, method=method)
        found = describe(config, facts)
        if found.problem:
            continue
        built = make_network(filled_network(config, facts))
        count = sum(p.numel() for p in built.parameters())
        if method == "cr_gan":
            assert found.parameters > count
        else:
            assert found.parameters == count
        if method != "supervised":
            judge = make_discriminator(
                config.method.discriminator, dims, 3, 2, found.patch, getattr(config.method, "roi", None)
            )
            assert found.discriminator == sum(p.numel() for p in judge.parameters())
        assert found.memory > 16 * count


def test_memory_is_about_what_a_step_keeps():
    facts = Facts((128, 128))
    config = RunConfig(device={"precision": "32-true"})
    kept = []
    network = make_network(filled_network(config, facts)).train()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        network(torch.zeros(8, 1, 128, 128))
    unique = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept}
    assert describe(config, facts).memory == pytest.approx(
        sum(unique.values()) + 16 * sum(p.numel() for p in network.parameters()), rel=0.2
    )
    twice = describe(config.updated(patch={"batch": 16}), facts).memory
    assert twice > 1.4 * describe(config, facts).memory


def test_free_memory_is_told():
    assert free_memory("cpu") > 1e6
