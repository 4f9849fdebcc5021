"""Every printed number of methods.md section 7 that belongs to a loss, formulas, and limit cases of the options."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.losses import DiceLoss as MonaiDice
from monai.losses import FocalLoss as MonaiFocal
from torch.nn import functional

from napari_ctxseg.image import IGNORE
from napari_ctxseg.losses import SpatialLoss, make_loss
from tests.core.test_losses import toy, with_holes
from tests.oracles import losses as oracle
from tests.oracles import maps as shapes

REL = 1e-6
RELEASED = {"iterations": 1, "border": "contour", "side": "both"}


def value(config: Any, dims: int = 2, labels: torch.Tensor | None = None) -> float:
    logits, target = toy(dims)
    return float(make_loss(config)(logits, target if labels is None else labels))


def weights(config: Any, labels: np.ndarray, spacing: Any = None, classes: int | None = None) -> np.ndarray:
    loss = make_loss(config)
    assert isinstance(loss, SpatialLoss)
    return loss.weight_map(torch.from_numpy(labels), spacing, classes=classes).numpy()


def approx(number: float, rel: float = REL) -> Any:
    return pytest.approx(number, rel=rel)


# ---------------------------------------------------------------- printed numbers, 2-D


def test_numbers_of_the_plain_losses() -> None:
    assert value("ce") == approx(1.868724965790505)
    assert value({"kind": "weighted_ce", "weights": (0.1, 0.5, 0.4)}) == approx(1.907767060298619)
    assert value("log_jaccard") == approx(8.98351874)
    assert value({"kind": "focal", "alpha": 4, "gamma": 2}) == approx(6.16613327)
    assert value({"kind": "focal", "preset": "released"}) == approx(6.16612699)


def test_numbers_of_context_ce() -> None:
    logits, labels = toy()
    ce = oracle.ce(logits.numpy(), labels.numpy())
    means = [ce[n][oracle.roi_dynamic(labels[n].numpy(), 0)].mean() for n in range(2)]
    assert means == [approx(2.321522151894269), approx(1.3793150646652528)]
    local = {"kind": "context_ce", "roi": "dynamic", "weight": 1.0}
    assert value(local) == approx(3.719143574070266)
    assert value(local) - value("ce") == approx(1.850418608279761)


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
def test_numbers_of_dilated_balanced_ce(radius: float, samples: tuple[float, ...], mean: float) -> None:
    logits, labels = toy()
    loss = make_loss({"kind": "dilated_balanced_ce", "radius": radius})
    assert loss(logits, labels).item() == approx(mean)
    for n, one in enumerate(samples):
        assert loss(logits[n : n + 1], labels[n : n + 1]).item() == approx(one)


# ---------------------------------------------------------------- printed numbers, 3-D


def test_numbers_of_the_released_contour_loss() -> None:
    ce = {"kind": "contour_weighted_ce", "preset": "released"}
    assert value(ce, 3) == approx(3.5855282583853505)
    assert 2 * value(ce, 3) == approx(7.171056516770701)
    separable = {"kind": "separable_dice", "preset": "released"}
    on, off = value(separable | {"balance": 1.0}, 3), value(separable | {"balance": 0.0}, 3)
    assert on == approx(0.38670630377436543)
    assert off == approx(0.9164589573432118)
    both = {"kind": "contour_weighted_ce_dice", "preset": "released"}
    assert value(both, 3) == approx(8.474221777888278)
    halved = both | {"ce_weight": 1.0, "dice_weight": 1.0, "balance": 0.5}
    assert value(halved, 3) == approx(4.237110888944139)


def test_numbers_of_the_separable_dice_per_class() -> None:
    macro = {"kind": "separable_dice", "contour": RELEASED, "smooth": 1e-3}
    assert value(macro, 3) == approx(0.7624654916575015)
    _, labels = toy(3)
    logits, _ = toy(3)
    for index, on, off in ((1, 0.2902522873, 0.8272095077), (2, 0.9324083862, 0.9999917854)):
        # One class at a time: the other's voxels count as background, whose contour plays no part.
        alone = torch.where(labels == index, labels, 0)
        for balance, wanted in ((1.0, on), (0.0, off)):
            got = make_loss(macro | {"balance": balance})(logits, alone).item()
            assert got == approx(wanted)
    assert value("separable_dice", 3) == approx(0.762206, rel=1e-6)


def test_numbers_of_the_inner_contour() -> None:
    inner = {"kind": "contour_weighted_ce", "contour": {"side": "inner"}}
    assert value(inner, 3) == approx(2.1110896040611253)


def test_numbers_of_the_released_dice_losses() -> None:
    assert value({"kind": "dice", "preset": "released"}, 3) == approx(0.7337947018361964)
    generalized = {"kind": "generalized_dice", "preset": "released"}
    assert value(generalized, 3) == approx(0.9600665839677238)
    logits, labels = toy(3)
    without = torch.where(labels == 2, 0, labels)
    assert value(generalized, 3, without) == approx(1.0, rel=1e-4)  # the absent class drowns the other
    assert value("generalized_dice", 3, without) < 0.7
    nothing, sure = torch.zeros_like(labels), torch.zeros_like(logits)
    sure[:, 0] = 50
    for config, wanted in (
        ({"kind": "dice", "preset": "released"}, 0.0),
        ({"kind": "separable_dice", "preset": "released"}, 0.0),
        (generalized, -1.0),
        ("generalized_dice", 0.0),
    ):
        assert float(make_loss(config)(sure, nothing)) == pytest.approx(wanted, abs=1e-6)


def test_released_dice_ce_is_ce_plus_pooled_dice() -> None:
    expected = value("ce", 3) + 0.7337947018361964
    assert value({"kind": "dice_ce", "preset": "released"}, 3) == approx(expected)


# ---------------------------------------------------------------- formulas


@settings(deadline=None, max_examples=40)
@given(
    labels=hnp.arrays(
        np.int64,
        hnp.array_shapes(min_dims=3, max_dims=4, min_side=1, max_side=7),
        elements=st.integers(-1, 3),
    ),
    radius=st.sampled_from([0.0, 0.5, 1.0, 1.5, 3.0, 40.0]),
    spacing=st.sampled_from([(1.0, 1.0, 1.0), (5.0, 1.0, 1.0), (1.0, 1.0, 5.0), (0.3, 0.5, 2.0)]),
    per=st.sampled_from(["class", "component"]),
)
def test_dilated_weights_follow_the_equations(
    labels: np.ndarray, radius: float, spacing: tuple[float, ...], per: str
) -> None:
    steps = spacing[-(labels.ndim - 1) :]
    config = {"kind": "dilated_balanced_ce", "radius": radius, "unit": "world", "per": per}
    ours = weights(config, labels, steps, classes=4)
    theirs = np.stack([dilated(one, radius, steps, per) for one in labels]) / len(labels)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-12)


def dilated(labels: np.ndarray, radius: float, spacing: tuple[float, ...], per: str) -> np.ndarray:
    if per == "class":
        return oracle.dilated_weights(labels, 4, radius, spacing)
    # Pieces are classes of their own; background stays one class.
    pieces = np.where(labels < 0, -1, 0)
    count = 0
    for c in np.unique(labels[labels > 0]):
        found, n = shapes.ndimage.label(labels == c, np.ones((3,) * labels.ndim, bool))
        pieces[found > 0] = found[found > 0] + count
        count += n
    return oracle.dilated_weights(pieces, count + 1, radius, spacing)


@settings(deadline=None, max_examples=40)
@given(
    labels=hnp.arrays(np.int64, (2, 6, 7), elements=st.integers(-1, 2)),
    margin=st.integers(0, 3),
    per=st.sampled_from(["union", "class", "component"]),
    reduction=st.sampled_from(["mean", "sum"]),
)
def test_context_weights_are_two_means_or_two_sums(
    labels: np.ndarray, margin: int, per: str, reduction: str
) -> None:
    roi = {"kind": "dynamic", "margin": margin, "per": per}
    config = {"kind": "context_ce", "roi": roi, "weight": 0.5, "reduction": reduction}
    valid = labels >= 0
    mean = reduction == "mean"
    expected = valid / (max(1, valid.sum()) if mean else 2)
    for n, one in enumerate(labels):
        if per == "union":
            boxes = [oracle.roi_dynamic(one, margin) & valid[n]] if (one > 0).any() else []
        else:
            boxes = shapes.boxes_per_piece(one, margin, by_class=per == "class")
        for box in boxes:
            expected[n] = expected[n] + 0.5 * box / (box.sum() * len(boxes) if mean else 1) / 2
    np.testing.assert_allclose(weights(config, labels), expected, rtol=1e-6)


@settings(deadline=None, max_examples=30)
@given(labels=hnp.arrays(np.int64, (2, 6, 7), elements=st.integers(-1, 2)))
def test_class_weights_follow_their_formulas(labels: np.ndarray) -> None:
    sizes = np.stack([[(one == c).sum() for c in range(3)] for one in labels])
    valid = labels >= 0
    sample, classic, own = np.zeros(labels.shape), np.zeros(labels.shape), np.zeros(labels.shape)
    shares = np.array([0.7, 0.2, 0.1])
    table = 1 / shares / np.mean(1 / shares)
    for n, one in enumerate(labels):
        for c in range(3):
            sample[n][one == c] = 1 / max(1, sizes[n, c]) / 2
            classic[n][one == c] = table[c] / max(1, valid[n].sum()) / 2
            own[n][one == c] = 1 / max(1, sizes[:, c].sum())
    np.testing.assert_allclose(weights("balanced_ce", labels, classes=3), sample, rtol=1e-6)
    config = {"kind": "balanced_ce", "scope": "dataset", "frequencies": tuple(shares)}
    np.testing.assert_allclose(weights(config, labels, classes=3), classic, rtol=1e-6)
    present = max(1, (sizes.sum(axis=0) > 0).sum())
    np.testing.assert_allclose(weights("weighted_ce", labels, classes=3), own / present, rtol=1e-6)


def test_dataset_balance_gives_an_absent_class_no_weight() -> None:
    _, labels = toy()
    config = {"kind": "balanced_ce", "scope": "dataset", "frequencies": (0.8, 0.2, 0.0)}
    got = weights(config, labels.numpy(), classes=3) * labels[0].numel() * 2
    table = np.array([1 / 0.8, 1 / 0.2]) / np.mean([1 / 0.8, 1 / 0.2])
    np.testing.assert_allclose(np.unique(got[labels < 2]), table, rtol=1e-6)
    assert not got[labels == 2].any()


@settings(deadline=None, max_examples=25)
@given(
    labels=hnp.arrays(np.int64, (2, 7, 8), elements=st.integers(-1, 2)),
    iterations=st.integers(0, 2),
    side=st.sampled_from(["inner", "outer", "both"]),
)
def test_contour_weights_follow_the_equation(labels: np.ndarray, iterations: int, side: str) -> None:
    config = {
        "kind": "contour_weighted_ce",
        "contour": {"iterations": iterations, "side": side},
        "alpha": 1.5,
    }
    valid = labels >= 0
    bands = np.stack([shapes.band(one, 3, iterations, side) for one in labels])
    expected = (1 + 1.5 * bands) * valid / max(1, valid.sum())
    np.testing.assert_allclose(weights(config, labels), expected, rtol=1e-6)


@settings(deadline=None, max_examples=25)
@given(
    labels=hnp.arrays(np.int64, (2, 7, 8), elements=st.integers(-1, 2)),
    iterations=st.integers(0, 2),
    balance=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_separable_dice_follows_its_definition(labels: np.ndarray, iterations: int, balance: float) -> None:
    logits = np.random.default_rng(0).normal(size=(2, 3, 7, 8))
    config = {"kind": "separable_dice", "contour": {"iterations": iterations}, "balance": balance}
    ours = float(make_loss(config)(torch.from_numpy(logits), torch.from_numpy(labels)))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert ours == pytest.approx(shapes.separable_dice(p, labels, iterations, balance), rel=1e-6, abs=1e-9)


@settings(deadline=None, max_examples=20)
@given(labels=hnp.arrays(np.int64, (1, 6, 7), elements=st.integers(-1, 2)))
def test_distance_weights_follow_the_equation(labels: np.ndarray) -> None:
    one, valid = labels[0], labels[0] >= 0
    present = [c for c in range(3) if (one == c).any()]
    classes = np.zeros(one.shape)
    for c in present:
        classes[one == c] = valid.sum() / (len(present) * (one == c).sum())
    gap = 10 * shapes.gap(one, 2.0, (1.0, 1.0))
    for name, base in (("inverse", classes), ("none", valid)):
        config = {"kind": "distance_weighted_ce", "sigma": 2.0, "class_weights": name}
        expected = (base + gap) * valid / max(1, valid.sum())
        np.testing.assert_allclose(weights(config, labels, classes=3)[0], expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("dims", [2, 3])
def test_dice_and_dice_ce_follow_their_formulas(dims: int) -> None:
    logits, labels = toy(dims)
    labels = with_holes(labels)
    expected = oracle.dice_loss(logits.numpy(), labels.numpy())
    assert make_loss("dice")(logits, labels).item() == approx(expected)
    plain = oracle.ce(logits.numpy(), labels.numpy()).sum() / (labels >= 0).sum().item()
    ours = make_loss({"kind": "dice_ce", "dice_weight": 2.0, "ce_weight": 0.5})(logits, labels).item()
    assert ours == approx(2 * expected + 0.5 * plain)


def test_dice_and_focal_equal_monai() -> None:
    logits, labels = toy()
    labels = labels.clone()
    labels[1, 6, 6] = 2  # every class in every sample: MONAI counts absent ones too
    truth = functional.one_hot(labels, 3).movedim(-1, 1)
    monai = MonaiDice(include_background=False, softmax=True, smooth_nr=1e-5, smooth_dr=1e-5)
    assert make_loss("dice")(logits, labels).item() == approx(monai(logits, truth).item())
    focal = MonaiFocal(gamma=2.0, use_softmax=True, reduction="none")
    expected = focal(logits, truth.double()).sum().item() / labels.numel()
    assert make_loss("focal")(logits, labels).item() == approx(expected)


def test_weighted_ce_equals_torch() -> None:
    logits, labels = toy()
    labels = with_holes(labels)
    table = torch.tensor([0.1, 0.5, 0.4], dtype=logits.dtype)
    expected = functional.cross_entropy(logits, labels, table, ignore_index=IGNORE).item()
    ours = make_loss({"kind": "weighted_ce", "weights": table.tolist()})(logits, labels).item()
    assert ours == approx(expected)


# ---------------------------------------------------------------- limits and identities


def test_radius_zero_is_balanced_ce_but_for_one() -> None:
    logits, labels = toy()
    labels = with_holes(labels)
    per_pixel = oracle.ce(logits.numpy(), labels.numpy())
    dilated_zero = balanced = 0.0
    for n in range(2):
        for c in range(3):
            mask = labels[n].numpy() == c
            dilated_zero += per_pixel[n][mask].sum() / (1 + mask.sum())
            balanced += per_pixel[n][mask].sum() / max(1, mask.sum())
    zero = make_loss({"kind": "dilated_balanced_ce", "radius": 0})(logits, labels).item()
    assert zero == approx(dilated_zero / 2)
    assert make_loss("balanced_ce")(logits, labels).item() == approx(balanced / 2)


def test_infinite_radius_is_mean_ce() -> None:
    logits, labels = toy()
    labels = with_holes(labels)
    per_pixel = oracle.ce(logits.numpy(), labels.numpy())
    sizes = [(labels[n] >= 0).sum().item() for n in range(2)]
    expected = np.mean([per_pixel[n].sum() / (sizes[n] + 1) for n in range(2)])
    for per in ("class", "component"):
        loss = make_loss({"kind": "dilated_balanced_ce", "radius": 1e6, "per": per})
        assert loss(logits, labels).item() == approx(expected)
    really = make_loss({"kind": "dilated_balanced_ce", "radius": float("inf")})
    assert really(logits, labels).item() == approx(expected)
    normal = make_loss({"kind": "dilated_balanced_ce", "radius": 1e6, "normalise": True})
    expected = np.mean([per_pixel[n].sum() / sizes[n] for n in range(2)])
    assert normal(logits, labels).item() == approx(expected)


def test_one_piece_per_class_is_balanced_as_a_class() -> None:
    for dims in (2, 3):
        for radius in (0, 1, 2.5):
            whole = {"kind": "dilated_balanced_ce", "radius": radius}
            assert value(whole | {"per": "component"}, dims) == approx(value(whole, dims))


def test_pieces_do_not_dilute_each_other() -> None:
    one = np.zeros((1, 30, 30), np.int64)
    one[0, 4:6, 4:6] = 1
    many = one.copy()
    many[0, 14:16, 4:6] = many[0, 24:26, 4:6] = many[0, 14:16, 20:22] = 1
    config = {"kind": "dilated_balanced_ce", "radius": 2}
    at = (0, 4, 4)
    assert weights(config, many)[at] < 0.3 * weights(config, one)[at]
    pieces = config | {"per": "component"}
    assert weights(pieces, many)[at] == approx(float(weights(pieces, one)[at]))


def test_normalised_weights_sum_to_one_in_each_image() -> None:
    _, labels = toy()
    for config in ({"radius": 2}, {"radius": 1, "per": "component"}):
        got = weights({"kind": "dilated_balanced_ce", "normalise": True} | config, labels.numpy())
        np.testing.assert_allclose(got.sum(axis=(1, 2)), 0.5, rtol=1e-6)


def test_the_radius_shrinks_on_a_straight_line() -> None:
    config = {"kind": "dilated_balanced_ce", "radius": 2, "start_radius": 10, "anneal": 0.5}
    loss = make_loss(config)
    logits, labels = toy()
    for progress, radius in ((0.0, 10), (0.25, 6), (0.5, 2), (1.0, 2)):
        loss.progress = progress
        plain = {"kind": "dilated_balanced_ce", "radius": radius}
        assert loss(logits, labels).item() == approx(value(plain))
    far = make_loss(config | {"start_radius": 1e9})
    assert far(logits, labels).item() == approx(value({"kind": "dilated_balanced_ce", "radius": 1e6}))
    still = make_loss(config | {"anneal": 0})
    assert still(logits, labels).item() == approx(value({"kind": "dilated_balanced_ce", "radius": 2}))
    outer = make_loss({"kind": "sum", "terms": [{"loss": config}]})
    outer.progress = 0.25
    assert outer(logits, labels).item() == approx(value({"kind": "dilated_balanced_ce", "radius": 6}))


def test_units_of_the_radius() -> None:
    _, labels = toy()
    spacing = (0.5, 0.5)
    pixels = weights({"kind": "dilated_balanced_ce", "radius": 2, "unit": "px"}, labels.numpy(), spacing)
    for radius, unit in ((1.0, "world"), (0.25, "fraction")):
        same = weights(
            {"kind": "dilated_balanced_ce", "radius": radius, "unit": unit}, labels.numpy(), spacing
        )
        np.testing.assert_array_equal(same, pixels)
    default = weights({"kind": "dilated_balanced_ce", "radius": 2}, labels.numpy())
    np.testing.assert_array_equal(default, pixels)  # world without a spacing: voxels


def test_roi_of_the_whole_image_doubles_ce() -> None:
    for roi in ({"kind": "static", "size": 8}, {"kind": "mask", "radius": 99}):
        assert value({"kind": "context_ce", "roi": roi}) == approx(2 * value("ce"))
    assert value({"kind": "context_ce", "roi": "dynamic", "weight": 0}) == approx(value("ce"))


def test_context_as_printed_weighs_the_region_far_less() -> None:
    # 128 x 128 with a window of 50 x 50, as in the paper: 7.55 times the background by means, 2 by sums.
    labels = np.zeros((1, 128, 128), np.int64)
    labels[0, 60:70, 60:70] = 1
    config = {"kind": "context_ce", "roi": {"kind": "static", "size": 50}}
    for reduction, wanted in (("mean", 1 + 128**2 / 50**2), ("sum", 2.0)):
        got = weights(config | {"reduction": reduction}, labels)
        assert got.max() / got.min() == approx(wanted, rel=1e-5)
    assert pytest.approx(7.55, abs=0.01) == 1 + 128**2 / 50**2


def test_alpha_zero_and_no_contour_are_mean_ce() -> None:
    for dims in (2, 3):
        for config in (
            {"alpha": 0},
            {"contour": {"iterations": 0}},
            {"contour": {"side": "both"}, "alpha": 0},
        ):
            assert value({"kind": "contour_weighted_ce"} | config, dims) == approx(value("ce", dims))


def test_separable_dice_without_contour_and_balance_zero_is_dice() -> None:
    for dims in (2, 3):
        plain = {"kind": "separable_dice", "balance": 0, "contour": {"iterations": 0}}
        assert value(plain, dims) == approx(value("dice", dims))


def test_the_side_shapes_only_the_cross_entropy() -> None:
    sides = [value({"kind": "separable_dice", "contour": {"side": s}}, 3) for s in ("inner", "outer", "both")]
    assert sides[0] == sides[1] == sides[2]
    shaped = {value({"kind": "contour_weighted_ce", "contour": {"side": s}}, 3) for s in ("inner", "outer")}
    assert len(shaped) == 2


def test_the_contour_loss_is_the_sum_of_its_two_parts() -> None:
    contour = {"iterations": 2, "side": "inner"}
    ce = value({"kind": "contour_weighted_ce", "contour": contour, "alpha": 2}, 3)
    dice = value({"kind": "separable_dice", "contour": contour, "balance": 0.3}, 3)
    both = {"kind": "contour_weighted_ce_dice", "contour": contour, "alpha": 2, "balance": 0.3}
    assert value(both, 3) == approx(ce + dice)
    assert value(both | {"ce_weight": 3, "dice_weight": 0.5}, 3) == approx(3 * ce + 0.5 * dice)


def test_focal_without_gamma_is_mean_ce() -> None:
    assert value({"kind": "focal", "gamma": 0}) == approx(value("ce"))
    assert value({"kind": "focal", "gamma": 0, "alpha": 3}) == approx(3 * value("ce"))


def test_no_gap_weight_and_no_class_weights_are_mean_ce() -> None:
    plain = {"kind": "distance_weighted_ce", "w0": 0, "class_weights": "none"}
    assert value(plain) == approx(value("ce"))
    logits, labels = toy()
    for n in range(
        2
    ):  # over one sample, class weights of mean 1 are balanced CE over the number of classes present
        one = {"kind": "distance_weighted_ce", "w0": 0}
        present = len(labels[n].unique())
        got = make_loss(one)(logits[n : n + 1], labels[n : n + 1]).item()
        assert got == approx(make_loss("balanced_ce")(logits[n : n + 1], labels[n : n + 1]).item() / present)


def test_equal_weights_are_mean_ce() -> None:
    assert value({"kind": "weighted_ce", "weights": (2, 2, 2)}) == approx(value("ce"))
    equal = {"kind": "balanced_ce", "scope": "dataset", "frequencies": (0.1, 0.1, 0.1)}
    assert value(equal) == approx(value("ce"))


def test_a_perfect_and_a_hopeless_prediction() -> None:
    _, labels = toy(3)
    perfect = 60.0 * functional.one_hot(labels, 3).movedim(-1, 1).double()
    for kind in (
        "dice",
        "generalized_dice",
        "log_jaccard",
        "separable_dice",
        "focal",
        "contour_weighted_ce_dice",
    ):
        assert float(make_loss(kind)(perfect, labels)) == pytest.approx(0.0, abs=1e-4)
        assert float(make_loss(kind)(-perfect, labels)) > 0.5
