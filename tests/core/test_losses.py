"""What is true of every loss: identities, gradients, unlabelled pixels, bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from napari_ctxseg import config as config_package
from napari_ctxseg.config import parse_loss, presets_of
from napari_ctxseg.image import IGNORE
from napari_ctxseg.losses import LOSSES, PixelLoss, SpatialLoss, SumLoss, make_loss
from napari_ctxseg.losses.base import ce_map
from napari_ctxseg.losses.contour import SeparableDiceLoss
from tests.oracles import losses as oracle

KINDS: list[dict[str, Any]] = [
    {"kind": "ce"},
    {"kind": "weighted_ce"},
    {"kind": "weighted_ce", "weights": (0.1, 0.5, 0.4)},
    {"kind": "balanced_ce"},
    {"kind": "balanced_ce", "scope": "dataset"},
    {"kind": "balanced_ce", "scope": "dataset", "frequencies": (0.7, 0.2, 0.1)},
    {"kind": "focal"},
    {"kind": "focal", "preset": "released"},
    {"kind": "dice"},
    {"kind": "dice", "preset": "released"},
    {"kind": "dice_ce"},
    {"kind": "log_jaccard"},
    {"kind": "generalized_dice"},
    {"kind": "generalized_dice", "preset": "released"},
    {"kind": "distance_weighted_ce"},
    {"kind": "distance_weighted_ce", "class_weights": "none", "sigma": 2},
    {"kind": "context_ce", "roi": {"kind": "static", "size": 4}},
    {"kind": "context_ce", "roi": {"kind": "dynamic", "margin": 1}, "weight": 0.7},
    {"kind": "context_ce", "roi": {"kind": "dynamic", "per": "class"}},
    {"kind": "context_ce", "roi": {"kind": "dynamic", "per": "component"}, "reduction": "sum"},
    {"kind": "context_ce", "roi": {"kind": "mask", "radius": 1.5}},
    {"kind": "context_ce", "roi": {"kind": "mask", "radius": 99}},
    {"kind": "context_ce", "roi": {"kind": "static", "size": 2}, "reduction": "sum"},
    {"kind": "dilated_balanced_ce", "radius": 1e6},
    {"kind": "contour_weighted_ce", "contour": {"iterations": 50}},
    {"kind": "dilated_balanced_ce", "radius": 2},
    {"kind": "dilated_balanced_ce", "radius": 0.2, "unit": "fraction", "normalise": True},
    {"kind": "dilated_balanced_ce", "radius": 1, "per": "component"},
    {"kind": "dilated_balanced_ce", "radius": 1, "anneal": 0.5, "start_radius": 5},
    {"kind": "contour_weighted_ce"},
    {"kind": "contour_weighted_ce", "preset": "released"},
    {"kind": "contour_weighted_ce", "contour": {"iterations": 3, "adapt": 0.3, "side": "outer"}},
    {"kind": "contour_weighted_ce", "contour": {"softness": 1.5, "side": "inner"}, "alpha": 3},
    {"kind": "separable_dice"},
    {"kind": "separable_dice", "preset": "released"},
    {"kind": "separable_dice", "contour": {"softness": 1.0}, "balance": 0.3},
    {"kind": "contour_weighted_ce_dice"},
    {"kind": "contour_weighted_ce_dice", "preset": "released"},
    {
        "kind": "sum",
        "terms": [
            {"weight": 2.0, "loss": {"kind": "dilated_balanced_ce", "radius": 1}},
            {"weight": 0.5, "loss": "separable_dice"},
            {"loss": "focal"},
        ],
    },
]
IDS = [f"{k['kind']}-{i}" for i, k in enumerate(KINDS)]
SPATIAL = [k for k in KINDS if isinstance(make_loss(k), SpatialLoss)]


def toy(dims: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    logits, labels = oracle.toy2d() if dims == 2 else oracle.toy3d()
    return torch.from_numpy(logits), torch.from_numpy(labels)


def with_holes(labels: torch.Tensor) -> torch.Tensor:
    """A third of the labels taken away."""
    holes = torch.rand(labels.shape, generator=torch.Generator().manual_seed(3)) < 1 / 3
    return labels.masked_fill(holes, IGNORE)


# ---------------------------------------------------------------- identities


@pytest.mark.parametrize("config", SPATIAL, ids=str)
@pytest.mark.parametrize("dims", [2, 3])
def test_loss_is_weight_map_times_ce_map(config: dict[str, Any], dims: int) -> None:
    logits, labels = toy(dims)
    labels = with_holes(labels)
    loss = make_loss(config)
    assert isinstance(loss, SpatialLoss)
    weights = loss.weight_map(labels, classes=3)
    total = (weights * ce_map(logits, labels)).sum()
    assert loss(logits, labels).item() == pytest.approx(total.item(), rel=1e-6)
    assert weights.shape == labels.shape
    assert not weights[labels == IGNORE].any()


@pytest.mark.parametrize("config", SPATIAL, ids=str)
def test_the_map_on_show_is_the_map_that_trains(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, labels = toy()
    loss = make_loss(config)
    honest = loss(logits, labels).item()
    monkeypatch.setattr(loss, "weight_map", lambda target, *_, **__: torch.ones(target.shape))
    fooled = loss(logits, labels).item()
    assert fooled == pytest.approx(ce_map(logits, labels).sum().item(), rel=1e-6)
    assert fooled != pytest.approx(honest, rel=1e-3)


@pytest.mark.parametrize("config", KINDS, ids=IDS)
def test_shares_of_the_pixels_add_up_to_the_loss(config: dict[str, Any]) -> None:
    logits, labels = toy()
    labels = with_holes(labels)
    loss = make_loss(config)
    if isinstance(loss, PixelLoss):
        pixels = loss.pixels(logits, labels, (1.0, 1.0))
        assert pixels.shape == labels.shape
        assert loss(logits, labels).item() == pytest.approx(pixels.sum().item(), rel=1e-6)
        assert not pixels[labels == IGNORE].any()


def test_a_sum_adds_its_terms_and_their_maps() -> None:
    logits, labels = toy()
    parts = [(2.0, "ce"), (0.5, {"kind": "dilated_balanced_ce", "radius": 2}), (3.0, "dice"), (1.5, "focal")]
    loss = make_loss({"kind": "sum", "terms": [{"weight": w, "loss": k} for w, k in parts]})
    assert isinstance(loss, SumLoss)
    single = [(w, make_loss(k)) for w, k in parts]
    expected = sum(w * one(logits, labels).item() for w, one in single)
    assert loss(logits, labels).item() == pytest.approx(expected, rel=1e-6)
    maps = [w * one.weight_map(labels, classes=3) for w, one in single if isinstance(one, SpatialLoss)]
    total = loss.weight_map(labels, classes=3)
    assert total is not None
    torch.testing.assert_close(total, maps[0] + maps[1])
    pixels = loss.pixels(logits, labels, (1.0, 1.0))
    assert pixels is not None
    without_dice = expected - 3.0 * single[2][1](logits, labels).item()
    assert pixels.sum().item() == pytest.approx(without_dice, rel=1e-6)
    regions = make_loss({"kind": "sum", "terms": [{"loss": "dice"}]})
    assert isinstance(regions, SumLoss)
    assert regions.weight_map(labels) is None


@pytest.mark.parametrize("config", KINDS, ids=IDS)
def test_unlabelled_pixels_change_nothing(config: dict[str, Any]) -> None:
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
def test_order_of_the_batch_does_not_matter(config: dict[str, Any]) -> None:
    logits, labels = toy()
    loss = make_loss(config)
    assert loss(logits.flip(0), labels.flip(0)).item() == pytest.approx(loss(logits, labels).item(), rel=1e-9)
    if isinstance(loss, SpatialLoss):
        torch.testing.assert_close(
            loss.weight_map(labels.flip(0), classes=3), loss.weight_map(labels, classes=3).flip(0)
        )


@pytest.mark.parametrize("config", KINDS, ids=IDS)
def test_one_slice_in_3d_equals_2d(config: dict[str, Any]) -> None:
    logits, labels = toy()
    loss = make_loss(config)
    flat = loss(logits, labels, (1.0, 1.0))
    deep = loss(logits[:, :, None], labels[:, None], (5.0, 1.0, 1.0))
    assert deep.item() == pytest.approx(flat.item(), rel=1e-9)


@pytest.mark.parametrize("config", KINDS, ids=IDS)
def test_gradients_are_right(config: dict[str, Any]) -> None:
    logits, labels = toy()
    labels = with_holes(labels)[:, :4, :5].contiguous()
    free = logits[:, :, :4, :5].contiguous().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: make_loss(config)(x, labels), (free,))


@pytest.mark.parametrize("config", KINDS, ids=IDS)
def test_nothing_labelled_gives_zero_with_a_graph(config: dict[str, Any]) -> None:
    logits = torch.randn(2, 3, 6, 6, requires_grad=True)
    value = make_loss(config)(logits, torch.full((2, 6, 6), IGNORE))
    assert value.item() == 0.0
    value.backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("config", KINDS, ids=IDS)
def test_heads_of_deep_supervision_are_added(config: dict[str, Any]) -> None:
    logits, labels = toy()
    loss = make_loss(config)
    both = loss((logits, logits * 0.5), labels)
    assert both.item() == pytest.approx(
        loss(logits, labels).item() + loss(logits * 0.5, labels).item(), rel=1e-6
    )


@pytest.mark.parametrize("config", SPATIAL, ids=str)
def test_deep_supervision_computes_the_map_once(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, labels = toy()
    loss = make_loss({"kind": "sum", "terms": [{"loss": config}]})
    (inner,) = loss.losses if isinstance(loss, SumLoss) else ()
    calls = []
    real = inner.weights
    monkeypatch.setattr(inner, "weights", lambda *given: calls.append(1) or real(*given))
    loss((logits, logits * 0.5, logits * 2), labels)
    assert len(calls) == 1


@pytest.mark.parametrize("kind", ["separable_dice", "contour_weighted_ce_dice"])
def test_deep_supervision_computes_the_contour_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = toy()
    loss = make_loss({"kind": "sum", "terms": [{"loss": kind}]})
    (dice,) = [module for module in loss.modules() if isinstance(module, SeparableDiceLoss)]
    calls = []
    real = dice.band
    monkeypatch.setattr(dice, "band", lambda *given: calls.append(1) or real(*given))
    loss((logits, logits * 0.5, logits * 2), labels)
    assert len(calls) == 1


@pytest.mark.parametrize("config", KINDS, ids=IDS)
def test_half_precision_logits_are_computed_in_float32(config: dict[str, Any]) -> None:
    logits, labels = toy()
    value = make_loss(config)(logits.bfloat16(), labels)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(
        make_loss(config)(logits.bfloat16().double(), labels).item(), rel=1e-5
    )


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("logits", "target", "text"),
    [
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 5, dtype=torch.long), "shape"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long), "shape"),
        (torch.zeros(1, 3, 4), torch.zeros(1, 4, dtype=torch.long), "shape"),
        (torch.zeros(1, 3, 4, 4), torch.full((1, 4, 4), 3), "3 classes"),
        (torch.zeros(1, 3, 4, 4), torch.full((1, 4, 4), -2), "-2"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4), "integer"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool), "integer"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.int64), torch.zeros(1, 4, 4, dtype=torch.long), "floating"),
        ((), torch.zeros(1, 4, 4, dtype=torch.long), "no logits"),
    ],
)
@pytest.mark.parametrize("kind", ["ce", "dice", "focal", "contour_weighted_ce_dice"])
def test_wrong_input_is_refused(kind: str, logits: torch.Tensor, target: torch.Tensor, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make_loss(kind)(logits, target)


@pytest.mark.parametrize(
    "spacing", [(0.0, 1.0), (-1.0, 1.0), (1.0,), (float("nan"), 1.0), (float("inf"), 1.0)]
)
@pytest.mark.parametrize("config", KINDS, ids=IDS)
def test_impossible_spacing_is_refused(config: dict[str, Any], spacing: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="spacing"):
        make_loss(config)(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long), spacing)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_any_integer_type_will_do(dtype: torch.dtype) -> None:
    logits, labels = toy()
    for config in KINDS:
        loss = make_loss(config)
        assert loss(logits, labels.to(dtype)).item() == loss(logits, labels).item()


@pytest.mark.parametrize("config", KINDS, ids=IDS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_make_the_loss_so(config: dict[str, Any], bad: float) -> None:
    # The trainer then skips the step.
    logits, labels = toy()
    logits[0, 1, 3, 3] = bad
    assert not torch.isfinite(make_loss(config)(logits, labels))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("config", KINDS, ids=IDS)
def test_hard_labels_give_finite_losses_and_gradients(config: dict[str, Any], dims: int) -> None:
    shape = (9, 8, 7)[-dims:]
    middle = tuple(n // 2 for n in shape)
    targets = {
        name: torch.zeros(1, *shape, dtype=torch.int64) for name in ("empty", "corner", "tiny", "gone")
    }
    targets["full"] = torch.full((1, *shape), 2)
    targets["corner"][(0, *[0] * dims)] = 1  # on the border, and smaller than any erosion
    targets["tiny"][(0, *middle)] = 2  # class 1 is absent
    targets["gone"][0, 0] = 1
    targets["gone"][0, 1:] = IGNORE  # all background is unlabelled
    targets["far strokes"] = torch.full((1, *shape), IGNORE)  # the window between them holds no label at all
    targets["far strokes"][(0, *[0] * dims)] = targets["far strokes"][(0, *[-1] * dims)] = 1
    targets["far strokes"][(0, *[0] * (dims - 1), 2)] = 0
    targets["one voxel"] = torch.zeros(1, *[1] * dims, dtype=torch.int64)
    loss = make_loss(config)
    for name, target in targets.items():
        logits = torch.randn(1, 3, *target.shape[1:], generator=torch.Generator().manual_seed(1))
        logits = (30 * logits).requires_grad_()
        value = loss(logits, target)
        value.backward()
        assert torch.isfinite(value), name
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all(), name


@pytest.mark.parametrize("config", SPATIAL, ids=str)
def test_a_radius_beyond_the_image_and_a_missing_class_do_no_harm(config: dict[str, Any]) -> None:
    loss = make_loss(config)
    assert isinstance(loss, SpatialLoss)
    _, labels = toy()
    few = loss.weight_map(labels, classes=3)
    if "weights" not in config and "frequencies" not in config:
        assert torch.equal(few, loss.weight_map(labels, classes=5))
    assert torch.isfinite(few).all()
    assert bool((few[labels != IGNORE] >= 0).all())


@pytest.mark.parametrize("config", SPATIAL, ids=str)
@pytest.mark.parametrize("label", [-2, 3])
def test_maps_refuse_labels_that_are_no_class(config: dict[str, Any], label: int) -> None:
    loss = make_loss(config)
    assert isinstance(loss, SpatialLoss)
    target = torch.zeros(1, 4, 4, dtype=torch.int64)
    target[0, 0, 0] = label
    with pytest.raises(ValueError, match="3 classes"):
        loss.weight_map(target, classes=3)


def test_unknown_kinds_and_parameters_are_refused() -> None:
    for config in (
        "dise_ce",
        {"kind": "ce", "radius": 3},
        {"kind": "dilated_balanced_ce", "radius": -1},
        {"kind": "dilated_balanced_ce", "radius": float("nan")},
        {"kind": "contour_weighted_ce", "alpha": float("inf")},
        {"kind": "context_ce", "weight": float("nan")},
        {"kind": "sum", "terms": [{"weight": float("nan"), "loss": "ce"}]},
        {"kind": "sum", "terms": []},
        {"kind": "weighted_ce", "weights": (0, 0)},
        {"kind": "weighted_ce", "weights": (1, -1)},
        {"kind": "balanced_ce", "frequencies": (0, 0)},
        {"kind": "ce", "preset": "paper"},
        {"kind": "../../secrets", "preset": "paper"},
        {"kind": "focal", "preset": "../focal.released"},
    ):
        with pytest.raises(ValidationError):
            make_loss(config)  # type: ignore[arg-type]


def test_weights_of_another_number_of_classes_are_refused() -> None:
    logits, labels = toy()
    for config in (
        {"kind": "weighted_ce", "weights": (0.5, 0.5)},
        {"kind": "balanced_ce", "scope": "dataset", "frequencies": (0.9, 0.1)},
    ):
        with pytest.raises(ValueError, match=r"2 class (weights|shares) for 3 classes"):
            make_loss(config)(logits, labels)


# ---------------------------------------------------------------- presets


def test_presets_expand_to_configurations() -> None:
    found = 0
    for cls in LOSSES:
        kind = str(cls.model_fields["kind"].default)
        for name in presets_of(kind):
            config = parse_loss({"kind": kind, "preset": name})
            assert type(config) is cls
            assert "preset" not in config.model_dump()
            assert parse_loss(config.model_dump(mode="json")) == config
            found += 1
    assert found > 20
    folder = Path(config_package.__file__).parent / "presets"
    assert found == len(list(folder.glob("*.yaml"))), "a file that no kind reaches"
    assert parse_loss({"kind": "focal", "preset": "released", "gamma": 3.0}).model_dump()["gamma"] == 3.0
