"""Adversarial methods: they teach the network, say what they do, and resume; each test has seen its fault."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_ctxseg.config import parse_config
from napari_ctxseg.errors import InputError
from napari_ctxseg.events import Note, StepEnd
from napari_ctxseg.training import adversarial, checkpoint, fit
from napari_ctxseg.training.adversarial import AdversarialTrainer, Watch
from napari_ctxseg.training.methods import make_trainer
from napari_ctxseg.training.plan import make_plan, resolve_device
from napari_ctxseg.training.supervised import Trainer
from tests.core.conftest import blob_case, fit_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_ctxseg.cases import Case
    from napari_ctxseg.config import RunConfig

METHODS: dict[str, dict[str, Any]] = {
    "gan": {"kind": "gan"},
    "seg_glgan, static": {"kind": "seg_glgan", "roi": {"kind": "static", "size": 40}},
    "seg_glgan, dynamic": {"kind": "seg_glgan", "roi": {"kind": "dynamic", "margin": 2}},
    "seg_glgan, mask": {"kind": "seg_glgan", "roi": {"kind": "mask", "radius": 3, "unit": "px"}},
    "cgan": {"kind": "cgan", "l1_weight": 1.0},
    "cgan, patch": {"kind": "cgan", "discriminator": {"kind": "patch", "width": 8}, "noise": 0.1},
    "cgan, image, recurrent": {
        "kind": "cgan",
        "discriminator": {"kind": "image", "width": 4, "recurrent": True},
        "optim": {"name": "rmsprop"},
    },
}  # fmt: skip


@pytest.fixture
def cases() -> list[Case]:
    return [replace(blob_case(f"blob{i}", (48, 52), seed=i), group=f"p{i // 2}") for i in range(6)]


@pytest.fixture
def volumes() -> list[Case]:
    return [blob_case(f"ball{i}", (44, 44, 44), seed=i) for i in range(3)]


def build(method: dict[str, Any] | str, dims: int = 2, **sections: Any) -> RunConfig:
    values: dict[str, Any] = {
        "network": {"kind": "unet", "dims": dims, "features": (4, 8, 8)},
        "loss": "ce",
        "method": method,
        "patch": {"size": (44,) * dims, "batch": 2},
        "budget": {"steps": 4, "val_every": 4},
        "optim": {"weight_decay": 0.0},
        "device": {"accelerator": "cpu", "precision": "32-true", "threads": 1},
    }
    return parse_config({**values, **sections})


def trainer_of(config: RunConfig, cases: list[Case]) -> AdversarialTrainer:
    made = make_trainer(make_plan(config.updated(device=resolve_device(config.device)), cases))
    assert isinstance(made, AdversarialTrainer)
    return made


def gradients(trainer: AdversarialTrainer, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Gradients of every tensor of the network in a step whose loss is the adversarial term alone."""
    kept: list[torch.Tensor] = []

    def keep(self: Trainer, loss: torch.Tensor) -> float:
        kept.extend(p.grad.clone() for p in self._plain.parameters() if p.grad is not None)
        return 0.0

    monkeypatch.setattr(Trainer, "_apply", keep)
    trainer.step(3, 4)
    assert len(kept) == sum(1 for _ in trainer._plain.parameters())
    return kept


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dims", [2, 3])
def test_mixed_precision(
    name: str, dims: int, cases: list[Case], volumes: list[Case], tmp_path: Path
) -> None:
    """What `auto` means on most GPUs, and on some processors."""
    device = {"accelerator": "cpu", "precision": "bf16-mixed", "threads": 1}
    method = METHODS[name] | {"warm_up": 0.0}
    config = build(method, dims, device=device, budget={"steps": 2, "val_every": 2})
    steps = [
        e for e in fit(config, cases if dims == 2 else volumes, tmp_path / "r") if isinstance(e, StepEnd)
    ]
    assert len(steps) == 2
    for step in steps:
        assert all(np.isfinite(value) for value in step.parts.values()), step.parts
        assert step.parts["grad_adversarial"] > 0


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dims", [2, 3])
def test_the_adversarial_term_reaches_every_tensor_of_the_network(
    name: str, dims: int, cases: list[Case], volumes: list[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oracle of methods.md section 7; in the released code these gradients are all zero."""
    method = METHODS[name] | {"loss_weight": 0.0, "adversarial_weight": 1.0, "l1_weight": 0.0, "warm_up": 0.0}
    if method["kind"] != "cgan":
        method.pop("l1_weight")
    trainer = trainer_of(build(method, dims), cases if dims == 2 else volumes)
    for grad in gradients(trainer, monkeypatch):
        assert bool(grad.abs().sum() > 0)


def test_a_detached_mask_would_be_seen(cases: list[Case], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same check on the released code's mistake: it must fail there."""
    monkeypatch.setattr(
        adversarial,
        "hide_unlabelled",
        lambda masks, target: masks.detach() * (target >= 0).unsqueeze(1) + 0 * masks,
    )
    method = METHODS["gan"] | {"loss_weight": 0.0, "adversarial_weight": 1.0, "warm_up": 0.0}
    grads = gradients(trainer_of(build(method), cases), monkeypatch)
    assert all(not bool(grad.any()) for grad in grads)


@pytest.mark.parametrize("name", METHODS)
def test_every_trainable_tensor_moves(name: str, cases: list[Case]) -> None:
    trainer = trainer_of(build(METHODS[name]), cases)
    modules = {"network": trainer._plain, "discriminator": trainer._judge}
    before = {k: {n: p.clone() for n, p in m.named_parameters()} for k, m in modules.items()}
    for step in range(3):
        done = trainer.step(step, 3)
        assert done.loss is not None
        assert np.isfinite(list(done.parts.values())).all()
    for kind, module in modules.items():
        still = [n for n, p in module.named_parameters() if torch.equal(p, before[kind][n])]
        assert not still, kind


def test_the_network_alone_does_not_move_the_discriminator(
    cases: list[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(build(METHODS["gan"]), cases)
    monkeypatch.setattr(AdversarialTrainer, "_teach_judge", lambda *args: ({}, ()))
    before = {n: p.clone() for n, p in trainer._judge.named_parameters()}
    trainer.step(2, 4)
    assert all(torch.equal(p, before[n]) for n, p in trainer._judge.named_parameters())
    assert all(p.grad is None for p in trainer._judge.parameters())


def test_norms_are_those_of_the_two_terms(cases: list[Case], monkeypatch: pytest.MonkeyPatch) -> None:
    """At the network's output: the weighted terms' gradients apart, and their sum is what reaches the network."""
    found: dict[str, Any] = {}

    def watch(self: AdversarialTrainer, heads: Any, logits: Any, loss: Any, fooled: Any) -> dict[str, float]:
        assert torch.equal(heads[0], logits[0])
        a = torch.autograd.grad(loss, logits[0], retain_graph=True)[0]
        b = torch.autograd.grad(fooled, logits[0], retain_graph=True)[0]
        weights = list(self._plain.parameters())
        expected = torch.autograd.grad(heads[0], weights, a + b, retain_graph=True)
        norms = original(self, heads, logits, loss, fooled)
        found.update(a=float(a.norm()), b=float(b.norm()), **norms)
        for p, e in zip(self._plain.parameters(), expected, strict=True):
            torch.testing.assert_close(p.grad, e, rtol=1e-5, atol=1e-9)
        return norms

    original = AdversarialTrainer._backward
    monkeypatch.setattr(AdversarialTrainer, "_backward", watch)
    trainer_of(build(METHODS["seg_glgan, dynamic"]), cases).step(3, 4)
    assert found["grad_loss"] == pytest.approx(found["a"], rel=1e-5)
    assert found["grad_adversarial"] == pytest.approx(found["b"], rel=1e-5)


def test_warm_up(cases: list[Case]) -> None:
    trainer = trainer_of(build({"kind": "gan", "warm_up": 0.5, "adversarial_weight": 1.0}), cases)
    norms = [trainer.step(step, 8).parts["grad_adversarial"] for step in (0, 2, 4)]
    assert norms[0] == 0
    assert 0 < norms[1] < norms[2]


def test_without_weight_there_is_no_discriminator(cases: list[Case], tmp_path: Path) -> None:
    config = build({"kind": "gan", "adversarial_weight": 0.0})
    plan = make_plan(config.updated(device=resolve_device(config.device)), cases)
    assert type(make_trainer(plan)) is Trainer


@pytest.mark.parametrize("name", ["seg_glgan, dynamic", "cgan, patch"])
def test_a_resumed_run_equals_the_uninterrupted_one(name: str, cases: list[Case], tmp_path: Path) -> None:
    config = build(METHODS[name], budget={"steps": 5, "val_every": 5})
    list(fit(config, cases, tmp_path / "whole"))
    fit_until(2, config, cases, tmp_path / "cut")
    list(fit(config, cases, tmp_path / "cut", resume=True))
    a, _ = checkpoint.load_tensors(tmp_path / "whole/state/00000005.safetensors")
    b, _ = checkpoint.load_tensors(tmp_path / "cut/state/00000005.safetensors")
    assert a.keys() == b.keys()
    assert any(name.startswith("discriminator.") for name in a)
    assert any(name.startswith("discriminator_optim.") for name in a)
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_unlabelled_places_teach_neither_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the network says where nothing is drawn changes no verdict."""
    shown: list[torch.Tensor] = []
    cases = []
    for i in range(3):
        case = blob_case(f"b{i}", (48, 52), seed=i)
        case.labels[:, :20] = 0  # type: ignore[index]
        case.labels[:, 20:][case.labels[:, 20:] == 0] = 9  # type: ignore[index]
        cases.append(case)
    config = build("gan", data={"annotation": "scribbles", "background": 9}, augment={"preset": "none"})
    trainer = trainer_of(config, cases)
    ask = AdversarialTrainer._ask

    def watch(self: AdversarialTrainer, mask: torch.Tensor, seen: Any) -> torch.Tensor:
        shown.append(mask.detach()[(seen.target < 0).unsqueeze(1).expand_as(mask)])
        return ask(self, mask, seen)

    monkeypatch.setattr(AdversarialTrainer, "_ask", watch)
    trainer.step(0, 2)
    assert len(shown) == 3
    assert all(part.numel() and not bool(part.any()) for part in shown)


def test_the_parts_are_logged(cases: list[Case], tmp_path: Path) -> None:
    events = list(fit(build("cgan"), cases, tmp_path / "r"))
    steps = [event for event in events if isinstance(event, StepEnd)]
    wanted = {"loss", "adversarial", "discriminator", "real", "fake"}
    wanted |= {"grad_loss", "grad_adversarial", "grad_discriminator"}
    assert all(set(step.parts) == wanted for step in steps)


# ---------------------------------------------------------------- divergence


def test_a_discriminator_that_wins_is_spoken_of_once() -> None:
    watch = Watch()
    said = [watch.look(0.999, 0.001, True) for _ in range(adversarial.PATIENCE + 5)]
    assert [len(s) for s in said].count(1) == 1
    assert "without a doubt" in next(s for s in said if s)[0]


def test_one_that_answers_all_alike() -> None:
    for answer in (0.999, 0.001):
        watch = Watch()
        said = [text for _ in range(adversarial.PATIENCE) for text in watch.look(answer, answer, True)]
        assert len(said) == 1
        assert "broken down" in said[0]


def test_a_healthy_one_is_left_alone() -> None:
    watch = Watch()
    for step in range(4 * adversarial.PATIENCE):
        sure = step % adversarial.PATIENCE < adversarial.PATIENCE - 1
        assert watch.look(0.999 if sure else 0.7, 0.001, True) == ()


def test_a_nonfinite_discriminator_is_left_alone_and_said(
    cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        adversarial, "discriminator_loss", lambda real, fake, target: real.sum() * float("nan")
    )
    trainer = trainer_of(build("gan"), cases)
    before = {n: p.clone() for n, p in trainer._judge.named_parameters()}
    done = trainer.step(0, 4)
    assert done.loss is not None
    assert "not finite" in done.notes[0]
    assert all(torch.equal(p, before[n]) for n, p in trainer._judge.named_parameters())
    events = list(fit(build("gan"), cases, tmp_path / "r"))
    assert [e for e in events if isinstance(e, Note) and "not finite" in e.text and e.level == "warning"]


# ---------------------------------------------------------------- what cannot work is refused before the first step


@pytest.mark.parametrize(
    ("method", "patch", "match"),
    [
        ({"kind": "seg_glgan", "roi": {"kind": "static", "size": 16}}, 44, "40 or more"),
        ({"kind": "gan"}, 32, "Take 40 or more"),
        ({"kind": "cgan", "discriminator": "patch"}, 16, "Take 24 or more"),
    ],
)
def test_too_small(method: dict[str, Any], patch: int, match: str, cases: list[Case], tmp_path: Path) -> None:
    config = build(method, patch={"size": (patch, patch), "batch": 2})
    with pytest.raises(InputError, match=match):
        list(fit(config, cases, tmp_path / "r"))
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("method", "match"),
    [
        ({"kind": "gan", "discriminator": "context"}, "seg_glgan"),
        ({"kind": "cgan", "discriminator": "plain"}, "pixel, patch or image"),
        ({"kind": "seg_glgan", "discriminator": "pixel"}, "context"),
        ({"kind": "gan", "adversarial_weight": -1}, "adversarial_weight"),
    ],
)
def test_combinations_that_do_not_exist(method: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        build(method)


def test_any_pixel_loss_goes_with_any_discriminator(cases: list[Case], tmp_path: Path) -> None:
    config = build(
        METHODS["seg_glgan, dynamic"], loss={"kind": "context_ce", "roi": {"kind": "dynamic", "margin": 2}}
    )
    steps = [e for e in fit(config, cases, tmp_path / "r") if isinstance(e, StepEnd)]
    assert all(step.loss is not None for step in steps)


def test_noise_is_the_same_in_every_prediction(
    cases: list[Case], tmp_path: Path, small_config: Callable[..., RunConfig]
) -> None:
    from napari_ctxseg.inference import load_model

    events = list(fit(build(METHODS["cgan, patch"]), cases, tmp_path / "r"))
    assert any("found it harmful" in e.text for e in events if isinstance(e, Note))
    model = load_model(tmp_path / "r")
    x = torch.randn(2, 1, 48, 48)
    with torch.no_grad():
        assert torch.equal(model(x), model(x))
        assert model.channels == 1
