"""The same on a CUDA GPU: ``pytest -m gpu`` on a machine that has one. Elsewhere these tests say so and skip."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from napari_ctxseg.config import DeviceConfig, parse_config
from napari_ctxseg.engine.client import EngineClient
from napari_ctxseg.events import JobDone, PredictionBlock, RunFinished, RunStarted, StepEnd
from napari_ctxseg.inference import load_model, predict
from napari_ctxseg.losses import make_loss
from napari_ctxseg.maps import dilate_classes
from napari_ctxseg.training import fit
from tests.core.conftest import blob_case, fit_until
from tests.core.test_adversarial import METHODS
from tests.core.test_losses import KINDS, toy, with_holes

if TYPE_CHECKING:
    from pathlib import Path

    from napari_ctxseg.config import RunConfig

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU on this machine"),
]


def config(steps: int, **sections: object) -> RunConfig:
    return parse_config(
        {
            "network": {"kind": "unet", "dims": 2, "features": (8, 16, 16)},
            "patch": {"size": (32, 32), "batch": 4},
            "budget": {"steps": steps, "val_every": steps},
            "device": {"accelerator": "cuda"},
            **sections,
        }
    )


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_losses_equal_the_cpu(kind: dict[str, object], dims: int) -> None:
    logits, labels = toy(dims)
    labels = with_holes(labels)
    loss = make_loss(kind)
    assert loss(logits.cuda(), labels.cuda()).item() == pytest.approx(loss(logits, labels).item(), rel=1e-6)


@pytest.mark.parametrize("radius", [0, 3, 20])
def test_maps_equal_the_cpu(radius: float) -> None:
    labels = torch.randint(-1, 4, (2, 9, 30, 31), generator=torch.Generator().manual_seed(0))
    spacing = (5.0, 1.0, 1.0)
    on_gpu = dilate_classes(labels.cuda(), 4, radius, spacing)
    assert on_gpu.is_cuda
    assert torch.equal(on_gpu.cpu(), dilate_classes(labels, 4, radius, spacing))


@pytest.mark.parametrize("name", [*METHODS, "cr_gan"])
def test_methods_train(name: str, tmp_path: Path) -> None:
    cases = [replace(blob_case(f"c{i}", (48, 52), seed=i), group=f"p{i // 2}") for i in range(8)]
    refine = {"folds": 2, "network": {"kind": "unet", "features": (4, 8, 8)}}
    method = METHODS.get(name, {"kind": "cr_gan", "refine": refine})
    events = list(fit(config(8, method=method, patch={"size": (44, 44), "batch": 2}), cases, tmp_path / "r"))
    assert all(event.loss is not None for event in events if isinstance(event, StepEnd))
    (block,) = [event for event in predict(tmp_path / "r", cases[0]) if isinstance(event, PredictionBlock)]
    assert block.labels.shape == (48, 52)


def test_fine_tuning_and_stop(tmp_path: Path) -> None:
    cases = [blob_case(f"c{i}", seed=i) for i in range(4)]
    first = list(fit(config(60), cases, tmp_path / "first"))
    assert first[0].device.startswith("CUDA:")  # type: ignore[attr-defined]
    assert next(e for e in first if isinstance(e, RunStarted)).precision in ("bf16-mixed", "32-true")
    tuned = fit_until(8, config(60, init=str(tmp_path / "first")), cases, tmp_path / "tuned")
    (finished,) = [event for event in tuned if isinstance(event, RunFinished)]
    assert (finished.stopped, finished.step, finished.skipped) == (True, 8, 0)
    assert load_model(tmp_path / "tuned", DeviceConfig(accelerator="cuda")).device.type == "cuda"


def test_a_killed_engine_gives_its_memory_back(tmp_path: Path) -> None:
    cases = [blob_case(f"c{i}", (200, 200), seed=i) for i in range(4)]
    torch.cuda.empty_cache()
    before, _ = torch.cuda.mem_get_info()
    engine = EngineClient()
    engine.start()
    try:
        deadline = time.monotonic() + 120
        while engine.state != "ready" and time.monotonic() < deadline:
            engine.poll()
            time.sleep(0.05)
        patch = {"size": (128, 128), "batch": 32}
        engine.train(config(100_000, patch=patch), cases, tmp_path / "run")
        while not any(isinstance(event, StepEnd) for event in engine.poll()) and time.monotonic() < deadline:
            time.sleep(0.05)
        during, _ = torch.cuda.mem_get_info()
        assert before - during > 200e6
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        while time.monotonic() < deadline:
            if (
                any(isinstance(event, JobDone) for event in engine.poll())
                or torch.cuda.mem_get_info()[0] > before - 50e6
            ):
                break
            time.sleep(0.1)
    finally:
        engine.kill()
        engine.close()
    while torch.cuda.mem_get_info()[0] < before - 50e6 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert torch.cuda.mem_get_info()[0] > before - 50e6
