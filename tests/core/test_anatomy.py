"""What a loss looks at, as arrays: the very numbers that train."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_ctxseg.image import IGNORE
from napari_ctxseg.losses import SpatialLoss, SumLoss, make_loss
from napari_ctxseg.losses.anatomy import anatomy, shares_of_slice
from napari_ctxseg.losses.dilated import DilatedBalancedCELoss
from tests.core.test_losses import IDS, KINDS, toy
from tests.oracles import losses as oracle
from tests.oracles import maps as shapes


@pytest.mark.parametrize("config", KINDS, ids=IDS)
def test_everything_shown_is_what_the_loss_computes(config: dict[str, object]) -> None:
    logits, labels = toy()
    one, head = labels[0].numpy().copy(), logits[0]
    one[0] = IGNORE
    seen = anatomy(config, one, classes=3, logits=head)
    loss, batch = make_loss(config), torch.from_numpy(one)[None]
    loss.progress = 1.0
    assert seen.loss == pytest.approx(float(loss(head[None].float(), batch)), rel=1e-6)
    assert seen.ce is not None
    np.testing.assert_allclose(seen.ce, oracle.ce(head[None].numpy(), one[None])[0], rtol=1e-5, atol=1e-6)
    if isinstance(loss, SpatialLoss):
        assert seen.weight is not None
        assert seen.weighted is not None
        np.testing.assert_array_equal(seen.weight, loss.weight_map(batch, classes=3)[0].numpy())
        np.testing.assert_allclose(seen.weighted, seen.weight * seen.ce, rtol=1e-6)
        assert seen.weighted.sum() == pytest.approx(seen.loss, rel=1e-5)
    elif not isinstance(loss, SumLoss):
        assert seen.weight is None


def test_the_map_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = toy()
    calls = []
    real = DilatedBalancedCELoss.weights
    monkeypatch.setattr(DilatedBalancedCELoss, "weights", lambda *given: calls.append(1) or real(*given))
    seen = anatomy("dilated_balanced_ce", labels[0].numpy(), classes=3, logits=logits[0])
    assert seen.loss is not None
    assert len(calls) == 1


def test_regions_contours_and_dilations_are_the_oracles() -> None:
    labels = oracle.toy2d()[1][0]
    boxed = anatomy({"kind": "context_ce", "roi": {"kind": "dynamic", "margin": 1}}, labels)
    assert boxed.boxes == (((1, 8), (1, 7)),)
    np.testing.assert_array_equal(boxed.roi, oracle.roi_dynamic(labels, 1))
    rim = anatomy({"kind": "contour_weighted_ce_dice", "contour": {"side": "outer"}}, labels)
    np.testing.assert_array_equal(rim.contour, shapes.band(labels, 3, 1, "outer"))
    inner = shapes.band(labels, 3, 1, "inner")
    np.testing.assert_array_equal(rim.interior, np.where(inner, 0, labels))
    grown = anatomy({"kind": "dilated_balanced_ce", "radius": 1}, labels)
    one, two = (oracle.dilate(labels == c, 1, (1.0, 1.0)) for c in (1, 2))
    assert grown.dilated is not None
    np.testing.assert_array_equal(grown.dilated > 0, one | two)
    # The smaller class has the larger weight: it decides where both reach.
    np.testing.assert_array_equal(grown.dilated == 2, two)
    plain = anatomy("dice", labels)
    assert (plain.roi, plain.contour, plain.dilated, plain.boxes, plain.far) == (None, None, None, (), None)


def test_far_background_is_the_farthest_from_all_foreground() -> None:
    labels = np.zeros((9, 20), np.int64)
    labels[4, 2] = 1
    seen = anatomy({"kind": "dilated_balanced_ce", "radius": 3}, labels)
    assert seen.weight is not None
    assert seen.far == seen.weight[0, 19]
    assert seen.far < seen.weight[4, 2]
    labels[:, 15:] = IGNORE
    again = anatomy({"kind": "dilated_balanced_ce", "radius": 3}, labels)
    assert again.weight is not None
    assert again.far == again.weight[0, 14]
    assert anatomy("ce", np.ones((4, 4), np.int64)).far is None
    assert anatomy("ce", np.zeros((4, 4), np.int64)).far == pytest.approx(1 / 16)


def test_stages_of_the_training_can_be_looked_at() -> None:
    labels = oracle.toy2d()[1][0]
    config = {"kind": "dilated_balanced_ce", "radius": 1, "start_radius": 99, "anneal": 1.0}
    first, last = (anatomy(config, labels, progress=p).weight for p in (0.0, 1.0))
    np.testing.assert_allclose(first, 1 / 65, rtol=1e-6)
    wanted = oracle.dilated_weights(labels, 3, 1, (1.0, 1.0))
    np.testing.assert_allclose(last, wanted, rtol=1e-6)


FOCAL = {"kind": "focal", "gamma": 1.5}
DILATED = {"kind": "dilated_balanced_ce", "radius": 2}


@pytest.mark.parametrize(
    "config",
    [
        FOCAL,
        DILATED,
        {"kind": "sum", "terms": [{"weight": 2, "loss": FOCAL}, {"weight": 0.5, "loss": DILATED}]},
        {"kind": "sum", "terms": [{"loss": "dice"}, {"loss": FOCAL}]},
        "dice",
    ],
)
def test_a_slice_of_a_volume_adds_what_it_adds_to_the_whole(config) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 3, (3, 9, 8))
    labels[0, :5] = IGNORE  # slices differ in what is labelled
    logits = torch.from_numpy(rng.normal(size=(3, *labels.shape)).astype(np.float32))
    whole = anatomy(config, labels, classes=3, logits=logits)
    for index in range(3):
        weight = None if whole.weight is None else whole.weight[index]
        found = shares_of_slice(config, labels, index, logits[:, index], weight)
        if whole.weighted is None:
            assert found is None
        else:
            np.testing.assert_allclose(found, whole.weighted[index], rtol=1e-5, atol=1e-9)


def test_volumes_spacing_and_narrow_types() -> None:
    labels = np.zeros((3, 9, 9), np.uint8)
    labels[1, 4, 4] = 1
    seen = anatomy({"kind": "dilated_balanced_ce", "radius": 5, "unit": "px"}, labels, (5.0, 1.0, 1.0))
    assert seen.dilated is not None
    np.testing.assert_array_equal(seen.dilated > 0, oracle.dilate(labels == 1, 5, (5.0, 1.0, 1.0)))


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", ">i2", ">u2", "i8"])
def test_any_integer_array_will_do(dtype: str) -> None:
    labels = oracle.toy2d()[1][0]
    wanted = anatomy("dilated_balanced_ce", labels).weight
    np.testing.assert_array_equal(anatomy("dilated_balanced_ce", labels.astype(dtype)).weight, wanted)


@pytest.mark.parametrize(
    ("labels", "spacing", "text"),
    [
        (np.zeros((4, 4)), None, "integer"),
        (np.zeros(4, np.int64), None, r"\(B, y, x\)"),
        (np.zeros((4, 4), np.int64), (1.0, -1.0), "spacing"),
        (np.zeros((4, 4), np.int64), (1.0, 0.0), "spacing"),
    ],
)
@pytest.mark.parametrize("kind", ["ce", "dice", "contour_weighted_ce_dice"])
def test_bad_input_is_refused(kind: str, labels: np.ndarray, spacing: tuple[float, ...], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        anatomy(kind, labels, spacing)
