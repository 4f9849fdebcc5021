"""Losses over overlapping regions: formulas, gradients, unlabelled pixels, limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from napari_ctxseg.cases import membership
from napari_ctxseg.config import loss_kinds
from napari_ctxseg.image import IGNORE
from napari_ctxseg.losses import RegionsLoss, SpatialLoss, make_loss
from napari_ctxseg.maps.members import region_masks
from tests.oracles import losses as oracle
from tests.oracles import maps as shapes

CLASSES = {"a": 1, "b": 2, "c": 4}
REGIONS = {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}
#: What each index, 0 to 3, belongs to; written by hand.
INSIDE = {
    "WT": (False, True, True, True),
    "TC": (False, True, False, True),
    "ET": (False, False, False, True),
}
MEMBERS = torch.from_numpy(membership(REGIONS, CLASSES))
FIVE: list[dict[str, Any]] = [
    {"kind": "ce"},
    {"kind": "dice"},
    {"kind": "dilated_balanced_ce", "radius": 2, "unit": "px"},
    {"kind": "contour_weighted_ce_dice", "alpha": 2.0, "balance": 0.3},
    {"kind": "context_ce", "roi": {"kind": "dynamic", "margin": 1}, "weight": 0.7},
]


def toy(dims: int = 2, holes: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of three regions and class indices, a fifth of them unlabelled."""
    draw = np.random.default_rng(dims)
    shape = (9, 10) if dims == 2 else (4, 6, 7)
    target = np.zeros((2, *shape), np.int64)
    target[:, 1:6, 2:9] = 2
    target[:, 2:5, 3:7] = 1
    target[0, 3:5, 4:6] = 3
    if holes:
        target[draw.random(target.shape) < 0.2] = IGNORE
    return torch.from_numpy(draw.normal(size=(2, 3, *shape)) * 2), torch.from_numpy(target)


def masks(target: torch.Tensor) -> torch.Tensor:
    """The regions' own targets, from the table above."""
    made = torch.stack([torch.tensor(INSIDE[name])[target.clamp(min=0)] for name in REGIONS], dim=1).long()
    return torch.where(target.unsqueeze(1) == IGNORE, IGNORE, made)


def formula(config: dict[str, Any], z: torch.Tensor, target: torch.Tensor) -> float:
    """The loss of one region from its definition, nothing of the package."""
    valid, truth = (target >= 0).numpy(), target.numpy()
    bce = functional.binary_cross_entropy_with_logits(
        z, target.clamp(min=0).double(), reduction="none"
    ).numpy()
    p = torch.sigmoid(z).numpy() * valid
    inside = truth == 1
    axes = tuple(range(1, truth.ndim))
    unit = (1.0,) * (truth.ndim - 1)
    if config["kind"] == "ce":
        return float(bce[valid].mean())
    if config["kind"] == "dice":
        dice = (2 * (p * inside).sum(axes) + 1e-5) / (p.sum(axes) + inside.sum(axes) + 1e-5)
        return float(((1 - dice) * inside.any(axes)).mean())
    if config["kind"] == "dilated_balanced_ce":
        weights = np.stack([oracle.dilated_weights(one, 2, config["radius"], unit) for one in truth])
        return float((weights * bce).sum() / len(truth))
    if config["kind"] == "context_ce":
        total = (bce * valid).sum() / valid.sum()
        for n, one in enumerate(truth):
            if (one > 0).any():
                box = oracle.roi_dynamic(one, config["roi"]["margin"]) & valid[n]
                total += config["weight"] * bce[n][box].mean() / len(truth)
        return float(total)
    band = np.stack([shapes.band(one, 2, 1, "both") for one in truth])
    ce = ((1 + config["alpha"] * band) * valid * bce).sum() / valid.sum()
    return float(ce) + shapes.separable_dice(np.stack([1 - p, p], axis=1), truth, 1, config["balance"])


@pytest.mark.parametrize("config", FIVE, ids=lambda c: c["kind"])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_mean_of_each_regions_formula(config: dict[str, Any], dims: int) -> None:
    z, target = toy(dims)
    expected = np.mean([formula(config, z[:, k], masks(target)[:, k]) for k in range(3)])
    assert RegionsLoss(make_loss(config), MEMBERS)(z, target).item() == pytest.approx(expected, rel=1e-6)


def test_masks_of_regions() -> None:
    _, target = toy()
    assert torch.equal(RegionsLoss(make_loss("ce"), MEMBERS).expanded(target), masks(target))
    assert torch.equal(region_masks(target, MEMBERS), masks(target) == 1)


@pytest.mark.parametrize("config", FIVE, ids=lambda c: c["kind"])
def test_gradients(config: dict[str, Any]) -> None:
    z, target = toy()
    z, target = z[:, :, :6, :6].clone().requires_grad_(), target[:, :6, :6]
    loss = RegionsLoss(make_loss(config), MEMBERS)
    assert torch.autograd.gradcheck(lambda x: loss(x, target), (z,))


@pytest.mark.parametrize("kind", [kind for kind in loss_kinds() if isinstance(make_loss(kind), SpatialLoss)])
@pytest.mark.parametrize("dims", [2, 3])
def test_loss_is_weight_map_times_binary_ce(kind: str, dims: int) -> None:
    z, target = toy(dims)
    loss = RegionsLoss(make_loss(kind), MEMBERS)
    weight = loss.weight_map(target)
    assert weight is not None
    assert weight.shape == z.shape
    assert not weight.movedim(1, -1)[target == IGNORE].any()
    truth = masks(target).clamp(min=0).double()
    bce = functional.binary_cross_entropy_with_logits(z, truth, reduction="none")
    assert loss(z, target).item() == pytest.approx((weight * bce).sum().item(), rel=1e-6)


@pytest.mark.parametrize("kind", loss_kinds())
def test_every_kind_serves(kind: str) -> None:
    z, target = toy()
    loss = RegionsLoss(make_loss(kind), MEMBERS)
    free = z.clone().requires_grad_()
    value = loss(free, target)
    value.backward()
    assert free.grad is not None
    assert free.grad.isfinite().all()
    assert not free.grad.movedim(1, -1)[target == IGNORE].any()
    assert free.grad.flatten(2).any(dim=2).any(dim=0).all(), "every region learns"
    order = [2, 0, 1]
    moved = RegionsLoss(make_loss(kind), MEMBERS[order])(z[:, order], target)
    torch.testing.assert_close(moved, value.detach())
    torch.testing.assert_close(loss((z, z), target), 2 * value.detach())
    nothing = loss(free, torch.full_like(target, IGNORE))
    assert nothing.requires_grad
    assert float(nothing.detach()) == 0
    assert loss(z.bfloat16(), target).dtype == torch.float32


@pytest.mark.parametrize("kind", loss_kinds())
def test_one_region_of_all_values_is_foreground(kind: str) -> None:
    z, target = toy()
    one = RegionsLoss(make_loss(kind), torch.tensor([[False, True, True, True]]))
    two = torch.stack([torch.zeros_like(z[:, 0]), z[:, 0]], dim=1)
    expected = make_loss(kind)(two, torch.where(target > 0, 1, target))
    torch.testing.assert_close(one(z[:, :1], target), expected)


def test_bad_input_is_named() -> None:
    z, target = toy()
    loss = RegionsLoss(make_loss("ce"), MEMBERS)
    with pytest.raises(ValueError, match="labels run from -1 to 4"):
        loss(z, torch.where(target == 3, 4, target))
    with pytest.raises(ValueError, match="differ in shape"):
        loss(z[:, :2], target)
    with pytest.raises(ValueError, match="integer"):
        loss(z, target.double())


def test_progress_reaches_the_loss() -> None:
    loss = RegionsLoss(make_loss({"kind": "dilated_balanced_ce", "radius": 1, "anneal": 1.0}), MEMBERS)
    z, target = toy()
    loss.progress = 0.0
    early = loss(z, target)
    loss.progress = 1.0
    assert not torch.isclose(early, loss(z, target))
