"""Overlapping regions from labels to files: training, its methods, resuming, prediction, limits, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from napari_ctxseg.composition import compose_regions
from napari_ctxseg.config import from_yaml
from napari_ctxseg.events import EpochEnd, Note, PredictionBlock, Preview, RunStarted, StepEnd
from napari_ctxseg.image import IGNORE
from napari_ctxseg.inference import load_model, predict
from napari_ctxseg.inference.blocks import Tiles, dice_of_regions, logit_blocks
from napari_ctxseg.networks import make_network
from napari_ctxseg.networks.adversarial import hide_unlabelled, mask_of
from napari_ctxseg.networks.refined import Composed, Refined, error_maps
from napari_ctxseg.networks.refinement import make_refinement
from napari_ctxseg.training import fit, refine
from napari_ctxseg.training.methods import make_trainer
from napari_ctxseg.training.supervised import Trainer
from tests.core.conftest import fit_until
from tests.core.nested_regions import REGIONS, SMALL, build, nested, plan_of, wanted

if TYPE_CHECKING:
    from pathlib import Path

    from napari_ctxseg.cases import Case
    from napari_ctxseg.config import RunConfig


@pytest.fixture
def cases() -> list[Case]:
    return [nested(f"n{i}", seed=i) for i in range(5)]


# ---------------------------------------------------------------- it learns


@pytest.mark.parametrize(
    "loss",
    [
        "dice_ce",
        {"kind": "dilated_balanced_ce", "radius": 5, "unit": "px"},
        "contour_weighted_ce_dice",
        {"kind": "context_ce", "roi": {"kind": "dynamic", "margin": 4}},
    ],
    ids=lambda c: c if isinstance(c, str) else c["kind"],
)
def test_it_learns_every_region(loss: Any, cases: list[Case], tmp_path: Path) -> None:
    config = build(loss=loss, budget={"steps": 90, "val_every": 15}, optim={"lr": 8e-3})
    events = list(fit(config, cases, tmp_path / "r"))
    curve = [event for event in events if isinstance(event, EpochEnd)]
    assert list(curve[0].dice) == list(REGIONS)
    assert curve[-1].mean is not None
    assert curve[0].mean is not None
    assert curve[-1].mean > max(0.6, curve[0].mean + 0.1)
    assert next(e for e in events if isinstance(e, RunStarted)).classes == tuple(REGIONS)
    (block,) = [e for e in predict(tmp_path / "r", cases[0]) if isinstance(e, PredictionBlock)]
    assert block.regions == tuple(REGIONS)
    assert block.labels.dtype == np.uint8
    assert block.labels.shape == (3, 36, 40)
    truth = wanted(cases[0].labels)
    sizes = (block.labels + truth).sum(axis=(1, 2))
    dice = 2 * (block.labels * truth).sum(axis=(1, 2)) / sizes
    assert (dice > 0.4).all()


def test_volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_ctxseg.training.preview.EVERY", 0.0)
    volumes = [nested(f"v{i}", (20, 22, 24), seed=i) for i in range(3)]
    config = build(3, budget={"steps": 40, "val_every": 10}, optim={"lr": 8e-3})
    events = list(fit(config, volumes, tmp_path / "r", visible=lambda: ("v0", 9)))
    dice = [e.mean for e in events if isinstance(e, EpochEnd)]
    assert dice[-1] is not None
    assert dice[0] is not None
    assert dice[-1] > dice[0] + 0.1
    preview = [e for e in events if isinstance(e, Preview)][-1]
    assert preview.labels.shape == (3, 22, 24)
    assert preview.regions == tuple(REGIONS)
    blocks = [e for e in predict(tmp_path / "r", volumes[0]) if isinstance(e, PredictionBlock)]
    assert np.concatenate([b.labels for b in blocks], axis=1).shape == (3, 20, 22, 24)
    assert [b.start for b in blocks] == [0, 8, 16]


def test_slices_of_partly_labelled_volumes(tmp_path: Path) -> None:
    """2-D slices: what is unlabelled plays no part in the curve, and planes are averaged region by region."""
    volumes = [nested(f"v{i}", (16, 18, 20), seed=i) for i in range(3)]
    volumes = [replace(v, labelled={0: (6, 8)}) for v in volumes]
    config = build(
        data={"annotation": "masks", "planes": ["z", "y", "x"]}, patch={"size": (16, 16), "batch": 2}
    )
    list(fit(config, volumes, tmp_path / "r"))
    model = load_model(tmp_path / "r")
    assert model.tiles.planes == (0, 1, 2)
    blocks = [e for e in predict(model, volumes[0]) if isinstance(e, PredictionBlock)]
    assert sum(b.labels.shape[1] for b in blocks) == 16


def test_planes_average_probabilities_of_each_region() -> None:
    image = torch.randn(1, 5, 6, 7)

    def pointwise(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, -x, 2 * x], dim=1)

    tiles = Tiles(2, (8, 8), (0, 1, 2), regions=True)
    *_, (_, logits, _) = logit_blocks(pointwise, image, tiles)
    assert logits is not None
    torch.testing.assert_close(logits, pointwise(image[None])[0], rtol=1e-4, atol=1e-4)


def test_dice_of_regions_leaves_out_what_is_nowhere_or_unlabelled() -> None:
    target = torch.tensor([[1, 1, 0, -1], [3, 0, 0, -1]])
    members = torch.tensor([[0, 1, 0, 1], [0, 0, 0, 1], [0, 0, 1, 0]]).bool()
    guess = torch.tensor([[[1, 0, 0, 1], [1, 0, 0, 1]], [[0, 0, 0, 1], [0, 1, 0, 1]], [[0] * 4, [0] * 4]])
    truth = mask_of(target[None], 4, members)[0]
    assert dice_of_regions(guess, truth, target >= 0) == [pytest.approx(0.8), 0.0, None]


# ---------------------------------------------------------------- methods


@pytest.mark.parametrize("kind", ["gan", "seg_glgan", "cgan"])
def test_adversarial_methods_move_every_tensor(kind: str) -> None:
    cases = [nested(f"n{i}", (48, 50), seed=i) for i in range(5)]
    method = {"kind": kind} | ({"l1_weight": 1.0} if kind == "cgan" else {})
    config = build(method=method, patch={"size": (44, 44), "batch": 2}, optim={"weight_decay": 0.0})
    trainer: Any = make_trainer(plan_of(config, cases))
    modules = {"network": trainer._plain, "discriminator": trainer._judge}
    before = {k: {n: p.clone() for n, p in m.named_parameters()} for k, m in modules.items()}
    for step in range(3):
        done = trainer.step(step, 3)
        assert done.loss is not None
        assert np.isfinite(list(done.parts.values())).all()
    for name, module in modules.items():
        assert not [n for n, p in module.named_parameters() if torch.equal(p, before[name][n])], name


def test_a_discriminator_is_shown_regions() -> None:
    target = torch.tensor([[[0, 1], [3, IGNORE]]])
    members = torch.tensor([[0, 1, 0, 1], [0, 0, 0, 1]]).bool()
    expected = torch.tensor([[[[0.0, 1.0], [1.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]]]])
    assert torch.equal(mask_of(target, 4, members), expected)
    assert torch.equal(
        hide_unlabelled(torch.ones_like(expected), target)[0, 0], torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    )


CR_GAN = {"kind": "cr_gan", "adversarial_weight": 0.1, "refine": {"folds": 2, "network": SMALL, "joint": 2}}


def refined(tmp_path: Path) -> tuple[Path, list[Case], list[Any], RunConfig]:
    cases = [nested(f"n{i}", (24, 26), seed=i, group=f"p{i // 2}") for i in range(12)]
    config = build(method=CR_GAN, patch={"size": (16, 16), "batch": 2}, budget={"steps": 18})
    return tmp_path / "r", cases, list(fit(config, cases, tmp_path / "r")), config


def test_cr_gan(tmp_path: Path) -> None:
    out, cases, events, config = refined(tmp_path)
    assert [e.step for e in events if isinstance(e, StepEnd)] == list(range(1, 19))
    assert any("Thresholds fitted" in e.text for e in events if isinstance(e, Note))
    model = load_model(out)
    assert model.regions == REGIONS
    second: Any = model.network.second
    assert second.regions
    (block,) = [e for e in predict(model, cases[0]) if isinstance(e, PredictionBlock)]
    assert block.probabilities is not None
    assert block.probabilities.shape == (3, 24, 26)
    assert block.thresholds == model.thresholds
    composed = compose_regions(block.probabilities > 0.5, block.fn, block.fp, *(block.thresholds or ()))
    assert (block.labels == composed).mean() > 0.99
    # Every tensor of the second stage learns, from out-of-fold probabilities that do not exclude each other.
    plan = plan_of(config, cases)
    folds = json.loads((out / "folds.json").read_text())
    generator = refine.out_of_fold(plan, {0: out / "fold1", 1: out / "fold2"}, folds, lambda: False)
    samples = None
    while samples is None:
        try:
            next(generator)
        except StopIteration as end:
            samples = end.value
    torch.testing.assert_close(
        samples[0].image[1:],
        refine.probabilities(
            load_model(out / f"fold{folds[samples[0].group] + 1}", config.device), samples[0].image[:1]
        ),
    )
    trainer = refine.RefineTrainer(refine.refine_plan(plan, samples, config.budget), out / "first")
    before = {n: p.clone() for n, p in trainer._plain.named_parameters()}
    for step in range(3):
        assert trainer.step(step, 3).loss is not None
    assert not [n for n, p in trainer._plain.named_parameters() if torch.equal(p, before[n])]
    maps = trainer.maps(samples[0].image)
    assert torch.equal(
        trainer.segment(samples[0].image),
        compose_regions(maps[0] > 0.5, maps[1], maps[2], *refine.RELEASED),
    )


def test_thresholds_are_fitted_on_masks_of_regions(tmp_path: Path) -> None:
    out, cases, _, config = refined(tmp_path)
    plan = plan_of(config, cases)
    model = load_model(out)
    (first, *_) = refine._validation(model, plan)
    sample = plan.watched[0]
    case = next(c for c in cases if c.name == sample.name)
    assert first[0].dtype == bool
    np.testing.assert_array_equal(first[3] == 1, wanted(case.labels))


# ---------------------------------------------------------------- resuming


@pytest.mark.parametrize("method", ["supervised", "cgan"])
def test_a_resumed_run_equals_the_uninterrupted_one(method: str, cases: list[Case], tmp_path: Path) -> None:
    config = build(method=method, budget={"steps": 5, "val_every": 3})
    list(fit(config, cases, tmp_path / "whole"))
    fit_until(2, config, cases, tmp_path / "cut")
    list(fit(config, cases, tmp_path / "cut", resume=True))
    for name in ("model.safetensors", "state/00000005.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()
    assert from_yaml(tmp_path / "cut/config.yaml").data.regions == REGIONS


# ---------------------------------------------------------------- symmetry and limits


class TwoClasses(nn.Module):
    """A network of one channel as one of two classes, outside and inside."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.inner(x)
        return torch.cat([torch.zeros_like(z), z], dim=1)


class TwoClassTrainer(Trainer):
    def _build(self) -> nn.Module:
        config = self._plan.config.network.model_copy(update={"out_channels": 1})
        return TwoClasses(make_network(config))


@pytest.mark.parametrize("loss", ["dice_ce", "contour_weighted_ce", "balanced_ce"])
def test_one_region_of_all_values_trains_as_foreground(loss: str) -> None:
    """The same weights after the same steps as one class of two, outside and inside."""
    cases = [nested(f"n{i}", seed=i) for i in range(4)]
    flat = [replace(c, labels=(np.asarray(c.labels) > 0).astype(np.uint8)) for c in cases]
    one = Trainer(plan_of(build(data={"regions": {"all": [1]}}, loss=loss), flat))
    two = TwoClassTrainer(plan_of(build(data={"regions": {}, "foreground": True}, loss=loss), flat))
    assert sum(p.numel() for p in one._plain.parameters()) == sum(p.numel() for p in two._plain.parameters())
    for step in range(4):
        a, b = one.step(step, 4), two.step(step, 4)
        assert a.loss == pytest.approx(b.loss, rel=1e-5)
    for p, q in zip(one._plain.parameters(), two._plain.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)
    image = one._plan.train[0].image
    assert torch.equal(one.segment(image)[0].long(), two.segment(image).long())
    # And with the values kept apart the target is the same.
    many = plan_of(build(data={"regions": {"all": [1, 2, 4]}}), cases)
    assert many.members is not None
    masks = mask_of(many.train[0].target[None], 4, many.members)[0, 0]
    assert torch.equal(masks, (many.train[0].target > 0).float())


def test_permuted_regions_permute_outputs(cases: list[Case]) -> None:
    order = [2, 0, 1]
    moved = {list(REGIONS)[k]: list(REGIONS.values())[k] for k in order}
    network = {"kind": "unet", "block": "plain", "features": (4, 8)}
    a = Trainer(plan_of(build(network=network), cases))
    b = Trainer(plan_of(build(network=network, data={"regions": moved}), cases))
    for p, q in zip(a._plain.parameters(), b._plain.parameters(), strict=True):
        q.data.copy_(p.data[order] if p.shape[0] == 3 else p.data)
    assert any(p.shape[0] == 3 for p in a._plain.parameters())
    for step in range(3):
        first, second = a.step(step, 3), b.step(step, 3)
        assert first.loss == pytest.approx(second.loss, rel=1e-5)
    image = a._plan.train[0].image[None]
    with torch.no_grad():
        torch.testing.assert_close(b.network(image), a.network(image)[:, order], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("what", ["classes", "regions"])
def test_order_survives_the_file(what: str, cases: list[Case], tmp_path: Path) -> None:
    """Channels go by order, and files must not sort what names them."""
    table = {"myo": 4, "LV": 1, "RV": 2} if what == "classes" else {"myo": [4], "LV": [1], "RV": [2]}
    list(fit(build(data={"regions": {}, what: table}), cases, tmp_path / "r"))
    assert list(getattr(load_model(tmp_path / "r"), what)) == ["myo", "LV", "RV"]
    assert list(getattr(from_yaml(tmp_path / "r/config.yaml").data, what)) == ["myo", "LV", "RV"]


# ---------------------------------------------------------------- sigmoids, not softmax, everywhere


def test_the_discriminator_sees_sigmoids(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [nested(f"n{i}", (48, 50), seed=i) for i in range(4)]
    trainer: Any = make_trainer(plan_of(build(method="gan", patch={"size": (44, 44), "batch": 2}), cases))
    seen: dict[str, torch.Tensor] = {}

    def keep(self: Any, batch_seen: Any, real: torch.Tensor, masks: torch.Tensor) -> Any:
        seen.update(real=real, masks=masks, target=batch_seen.target, image=batch_seen.image)
        return {}, ()

    monkeypatch.setattr(type(trainer), "_teach_judge", keep)
    trainer.network.train()
    before = {name: tensor.clone() for name, tensor in trainer._plain.state_dict().items()}
    trainer.step(0, 4)
    trainer._plain.load_state_dict(before)
    with torch.no_grad():
        torch.testing.assert_close(seen["masks"], torch.sigmoid(trainer.network(seen["image"])))
    values = np.array([0, 1, 2, 4, 0])[seen["target"].numpy()]  # the last for -1
    np.testing.assert_array_equal(seen["real"].numpy() > 0, np.stack([wanted(one) for one in values]))


def test_the_second_stage_learns_errors_of_each_region(tmp_path: Path) -> None:
    """Regions above a half, however many: two of them here where a class would win alone."""
    cases = [nested(f"n{i}", (24, 26), seed=i) for i in range(4)]
    list(fit(build(patch={"size": (16, 16), "batch": 2}), cases, tmp_path / "first"))
    config = build(method=CR_GAN, patch={"size": (16, 16), "batch": 2}, augment={"preset": "none"})
    plan = plan_of(config, cases)
    p = torch.tensor([0.9, 0.6, 0.2])
    samples = [
        replace(s, image=torch.cat([s.image, p.view(3, 1, 1).expand(3, *s.target.shape)])) for s in plan.train
    ]
    trainer: Any = refine.RefineTrainer(refine.refine_plan(plan, samples, config.budget), tmp_path / "first")
    caught: list[torch.Tensor] = []
    error_loss = trainer._error_loss

    def keep(logits: Any, errors: torch.Tensor, labelled: torch.Tensor) -> Any:
        caught.append(errors)
        return error_loss(logits, errors, labelled)

    trainer._error_loss = keep
    trainer.step(0, 4)
    (errors,) = caught
    fn, fp = errors[:, 0::2], errors[:, 1::2]
    assert not fn[:, :2].any()
    assert not fp[:, 2].any()
    assert fp[:, :2].any()
    assert fn[:, 2].any()


def test_both_stages_as_one_network_of_regions() -> None:
    first = make_network(SMALL | {"dims": 2, "in_channels": 1, "out_channels": 3})
    second = make_refinement(SMALL, dims=2, image_channels=1, classes=3, regions=True)
    both = Refined(first, second).eval()
    image = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        p = torch.sigmoid(first(image))
        fn, fp = second.errors(second(image, p))
        out = both(image)
        for given, expected in zip(error_maps(out, axis=1, regions=True), (p, fn, fp), strict=True):
            torch.testing.assert_close(given, expected)
        composed = torch.sigmoid(Composed(both)(image))
    torch.testing.assert_close(composed, (p + fn - fp).clamp(1e-4, 1 - 1e-4), rtol=1e-3, atol=1e-5)
