"""Losses against formulas, printed numbers and identities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

from napari_ctxseg.image import IGNORE
from napari_ctxseg.losses import SpatialLoss, make_loss
from napari_ctxseg.losses.base import ce_map
from tests.oracles import losses as oracle

KINDS = [
    {"kind": "ce"},
    {"kind": "dice_ce"},
    {"kind": "context_ce", "roi": {"kind": "static", "size": 4}},
    {"kind": "context_ce", "roi": {"kind": "dynamic", "margin": 1}, "weight": 0.7},
    {"kind": "dilated_balanced_ce", "radius": 2},
    {"kind": "dilated_balanced_ce", "radius": 0.2, "unit": "fraction"},
]
IDS = [f"{k['kind']}-{i}" for i, k in enumerate(KINDS)]
SPATIAL = [k for k in KINDS if k["kind"] != "dice_ce"]


def toy(dims: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    logits, labels = oracle.toy2d() if dims == 2 else oracle.toy3d()
    return torch.from_numpy(logits), torch.from_numpy(labels)


def with_holes(labels: torch.Tensor) -> torch.Tensor:
    """A third of the labels taken away."""
    holes = torch.rand(labels.shape, generator=torch.Generator().manual_seed(3)) < 1 / 3
    return labels.masked_fill(holes, IGNORE)


# ---------------------------------------------------------------- printed numbers


def test_mean_ce_and_context_have_the_printed_values() -> None:
    logits, labels = toy()
    assert make_loss("ce")(logits, labels).item() == pytest.approx(1.868724965790505, rel=1e-6)
    dynamic = make_loss({"kind": "context_ce", "roi": "dynamic"})
    assert dynamic(logits, labels).item() == pytest.approx(3.719143574070266, rel=1e-6)


@pytest.mark.parametrize(
    ("radius", "samples", "mean"),
    [
        (0, (6.06349826, 3.04739326), 4.55544576),
        (1, (4.41539835, 3.54316675), 3.97928255),
        (2, (3.42802692, 3.25556726), 3.34179709),
        (3, (2.79042664, 2.81657547), 2.80350105),
        (20, (1.85967132, 1.82027938), 1.83997535),
    ],
)
def test_dilated_balanced_ce_has_the_printed_values(
    radius: float, samples: tuple[float, ...], mean: float
) -> None:
    logits, labels = toy()
    loss = make_loss({"kind": "dilated_balanced_ce", "radius": radius})
    assert loss(logits, labels).item() == pytest.approx(mean, rel=1e-6)
    for n, value in enumerate(samples):
        assert loss(logits[n : n + 1], labels[n : n + 1]).item() == pytest.approx(value, rel=1e-6)


# ---------------------------------------------------------------- formulas


@settings(deadline=None, max_examples=40)
@given(
    labels=hnp.arrays(
        np.int64,
        hnp.array_shapes(min_dims=3, max_dims=4, min_side=1, max_side=7),
        elements=st.integers(-1, 3),
    ),
    radius=st.sampled_from([0.0, 0.5, 1.0, 1.5, 3.0, 40.0]),
    spacing=st.sampled_from([(1.0, 1.0, 1.0), (5.0, 1.0, 1.0), (0.3, 0.5, 2.0)]),
)
def test_dilated_weights_follow_the_equations(
    labels: np.ndarray, radius: float, spacing: tuple[float, ...]
) -> None:
    steps = spacing[-(labels.ndim - 1) :]
    loss = make_loss({"kind": "dilated_balanced_ce", "radius": radius, "unit": "world"})
    assert isinstance(loss, SpatialLoss)
    ours = loss.weight_map(torch.from_numpy(labels), steps, classes=4).numpy()
    theirs = np.stack([oracle.dilated_weights(one, 4, radius, steps) for one in labels]) / len(labels)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(
    labels=hnp.arrays(np.int64, (2, 6, 7), elements=st.integers(-1, 2)),
    margin=st.integers(0, 3),
)
def test_context_weights_are_two_means(labels: np.ndarray, margin: int) -> None:
    loss = make_loss({"kind": "context_ce", "roi": {"kind": "dynamic", "margin": margin}, "weight": 0.5})
    assert isinstance(loss, SpatialLoss)
    valid = labels >= 0
    expected = valid / max(1, valid.sum())
    for n, one in enumerate(labels):
        roi = oracle.roi_dynamic(one, margin) & valid[n]
        expected[n] = expected[n] + 0.5 * roi / max(1, roi.sum()) / 2
    np.testing.assert_allclose(loss.weight_map(torch.from_numpy(labels)).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("dims", [2, 3])
def test_dice_ce_is_dice_plus_ce(dims: int) -> None:
    logits, labels = toy(dims)
    labels = with_holes(labels)
    expected = oracle.dice_loss(logits.numpy(), labels.numpy())
    plain = oracle.ce(logits.numpy(), labels.numpy()).sum() / (labels >= 0).sum().item()
    ours = make_loss({"kind": "dice_ce", "dice_weight": 2.0, "ce_weight": 0.5})(logits, labels).item()
    assert ours == pytest.approx(2 * expected + 0.5 * plain, rel=1e-6)


# ---------------------------------------------------------------- identities


@pytest.mark.parametrize("config", SPATIAL, ids=str)
@pytest.mark.parametrize("dims", [2, 3])
def test_loss_is_weight_map_times_ce_map(config: dict[str, object], dims: int) -> None:
    logits, labels = toy(dims)
    labels = with_holes(labels)
    loss = make_loss(config)
    assert isinstance(loss, SpatialLoss)
    weights = loss.weight_map(labels, classes=3)
    total = (weights * ce_map(logits, labels)).sum()
    assert loss(logits, labels).item() == pytest.approx(total.item(), rel=1e-6)
    assert weights.shape == labels.shape
    assert not weights[labels == IGNORE].any()


def test_radius_zero_is_sample_balanced_ce() -> None:
    logits, labels = toy()
    labels = with_holes(labels)
    per_pixel = oracle.ce(logits.numpy(), labels.numpy())
    expected = 0.0
    for n in range(2):
        for c in range(3):
            mask = labels[n].numpy() == c
            expected += per_pixel[n][mask].sum() / (1 + mask.sum())
    assert make_loss({"kind": "dilated_balanced_ce", "radius": 0})(logits, labels).item() == pytest.approx(
        expected / 2, rel=1e-6
    )


def test_infinite_radius_is_mean_ce() -> None:
    logits, labels = toy()
    labels = with_holes(labels)
    per_pixel = oracle.ce(logits.numpy(), labels.numpy())
    sizes = [(labels[n] >= 0).sum().item() for n in range(2)]
    expected = np.mean([per_pixel[n].sum() / (sizes[n] + 1) for n in range(2)])
    loss = make_loss({"kind": "dilated_balanced_ce", "radius": 1e6})
    assert loss(logits, labels).item() == pytest.approx(expected, rel=1e-6)


def test_roi_of_the_whole_image_doubles_ce() -> None:
    logits, labels = toy()
    whole = make_loss({"kind": "context_ce", "roi": {"kind": "static", "size": 8}})
    assert whole(logits, labels).item() == pytest.approx(2 * make_loss("ce")(logits, labels).item(), rel=1e-6)
    none = make_loss({"kind": "context_ce", "roi": "dynamic", "weight": 0})
    assert none(logits, labels).item() == pytest.approx(make_loss("ce")(logits, labels).item(), rel=1e-6)


@pytest.mark.parametrize("config", KINDS, ids=IDS)
def test_unlabelled_pixels_change_nothing(config: dict[str, object]) -> None:
    logits, labels = toy()
    labels = with_holes(labels)
    loss = make_loss(config)
    before = loss(logits, labels)
    moved = logits + 7.0 * torch.randn(logits.shape, dtype=logits.dtype) * (labels == IGNORE)[:, None]
    assert loss(moved, labels).item() == pytest.approx(before.item(), rel=1e-9)
    free = logits.clone().requires_grad_()
    loss(free, labels).backward()
    assert free.grad is not None
    assert not free.grad.permute(0, 2, 3, 1)[labels == IGNORE].any()
    assert free.grad.permute(0, 2, 3, 1)[labels != IGNORE].any()


@pytest.mark.parametrize("config", KINDS, ids=IDS)
def test_order_of_the_batch_does_not_matter(config: dict[str, object]) -> None:
    logits, labels = toy()
    loss = make_loss(config)
    assert loss(logits.flip(0), labels.flip(0)).item() == pytest.approx(loss(logits, labels).item(), rel=1e-9)
    if isinstance(loss, SpatialLoss):
        torch.testing.assert_close(
            loss.weight_map(labels.flip(0), classes=3), loss.weight_map(labels, classes=3).flip(0)
        )


@pytest.mark.parametrize("config", KINDS, ids=IDS)
def test_one_slice_in_3d_equals_2d(config: dict[str, object]) -> None:
    logits, labels = toy()
    loss = make_loss(config)
    flat = loss(logits, labels, (1.0, 1.0))
    deep = loss(logits[:, :, None], labels[:, None], (5.0, 1.0, 1.0))
    assert deep.item() == pytest.approx(flat.item(), rel=1e-9)


@pytest.mark.parametrize("config", KINDS, ids=IDS)
def test_gradients_are_right(config: dict[str, object]) -> None:
    logits, labels = toy()
    labels = with_holes(labels)[:, :4, :5].contiguous()
    free = logits[:, :, :4, :5].contiguous().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: make_loss(config)(x, labels), (free,))


@pytest.mark.parametrize("config", KINDS, ids=IDS)
def test_nothing_labelled_gives_zero_with_a_graph(config: dict[str, object]) -> None:
    logits = torch.randn(2, 3, 6, 6, requires_grad=True)
    value = make_loss(config)(logits, torch.full((2, 6, 6), IGNORE))
    assert value.item() == 0.0
    value.backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("config", KINDS, ids=IDS)
def test_heads_of_deep_supervision_are_added(config: dict[str, object]) -> None:
    logits, labels = toy()
    loss = make_loss(config)
    both = loss((logits, logits * 0.5), labels)
    assert both.item() == pytest.approx(
        loss(logits, labels).item() + loss(logits * 0.5, labels).item(), rel=1e-6
    )


@pytest.mark.parametrize("config", KINDS, ids=IDS)
def test_half_precision_logits_are_computed_in_float32(config: dict[str, object]) -> None:
    logits, labels = toy()
    value = make_loss(config)(logits.bfloat16(), labels)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(
        make_loss(config)(logits.bfloat16().double(), labels).item(), rel=1e-5
    )


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("logits", "target", "text"),
    [
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 5, dtype=torch.long), "shape"),
        (torch.zeros(1, 3, 4, 4), torch.full((1, 4, 4), 3), "3 classes"),
        (torch.zeros(1, 3, 4, 4), torch.full((1, 4, 4), -2), "-2"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4), "integer"),
    ],
)
def test_wrong_input_is_refused(logits: torch.Tensor, target: torch.Tensor, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make_loss("ce")(logits, target)


@pytest.mark.parametrize(
    "spacing", [(0.0, 1.0), (-1.0, 1.0), (1.0,), (float("nan"), 1.0), (float("inf"), 1.0)]
)
def test_impossible_spacing_is_refused(spacing: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="spacing"):
        make_loss("dilated_balanced_ce")(
            torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long), spacing
        )


def test_unknown_kinds_and_parameters_are_refused() -> None:
    for config in ("dise_ce", {"kind": "ce", "radius": 3}, {"kind": "dilated_balanced_ce", "radius": -1}):
        with pytest.raises(ValidationError):
            make_loss(config)  # type: ignore[arg-type]
