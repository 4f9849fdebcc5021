"""The refinement network, its targets, and the losses of error masks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_ctxseg.composition import compose_classes, compose_soft
from napari_ctxseg.image import IGNORE
from napari_ctxseg.losses import make_loss
from napari_ctxseg.losses.error_maps import ERROR_LOSSES, make_error_loss
from napari_ctxseg.networks.adversarial import hide_unlabelled, mask_of
from napari_ctxseg.networks.precision import FloatNorm
from napari_ctxseg.networks.refinement import (
    RefinementNetwork,
    error_channels,
    hard_masks,
    join_errors,
    make_refinement,
    split_errors,
)

NAMES = [*ERROR_LOSSES, "mse"]
SMALL = {"kind": "unet", "features": (4, 8, 8)}


def errors_and_logits(dims: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(dims)
    shape = (2, 4, *(6, 7, 8)[:dims])
    errors = (torch.rand(shape, generator=generator) > 0.8).float()
    errors[0, 1] = 0  # a channel without any error
    labelled = torch.rand(shape[0], *shape[2:], generator=generator) > 0.2
    return errors, torch.randn(shape, generator=generator, dtype=torch.float64), labelled


# ---------------------------------------------------------------- channels


def test_channels_come_class_by_class_negatives_first() -> None:
    truth = torch.tensor([[[0, 1, 2, 2]]])
    stage1 = torch.tensor([[[0, 2, 2, IGNORE]]])
    errors = error_channels(mask_of(truth, 3), mask_of(stage1, 3))[0, :, 0]
    #                         fn_0, fp_0, fn_1, fp_1, fn_2, fp_2
    assert errors[:, 0].tolist() == [0, 0, 0, 0, 0, 0]
    assert errors[:, 1].tolist() == [0, 0, 1, 0, 0, 1]
    assert errors[:, 3].tolist() == [0, 0, 0, 0, 1, 0]
    fn, fp = split_errors(errors[None])
    assert torch.equal(join_errors(fn, fp), errors[None])
    assert fn[0, :, 1].tolist() == [0, 1, 0]


def test_hard_masks() -> None:
    p = torch.tensor([[[0.2, 0.5], [0.3, 0.4], [0.5, 0.1]]])
    assert hard_masks(p)[0].tolist() == [[0, 1], [0, 0], [1, 0]]
    assert hard_masks(p, regions=True)[0].tolist() == [[0, 0], [0, 0], [0, 0]]
    assert hard_masks(p + 0.1, regions=True)[0].tolist() == [[0, 1], [0, 0], [1, 0]]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("head", ["sigmoid", "tanh"])
def test_network_takes_all_it_should_know(dims: int, head: str) -> None:
    network = make_refinement(SMALL, dims=dims, image_channels=2, classes=3, head=head)  # type: ignore[arg-type]
    shape = (9, 10, 11)[:dims]
    seen: list[Tensor] = []
    network.network.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    image, p = torch.randn(2, 2, *shape), torch.randn(2, 3, *shape).softmax(1)
    logits = network(image, p)
    assert torch.equal(seen[0], torch.cat([image, p, hard_masks(p)], dim=1))
    assert logits.shape == (2, 6, *shape)
    fn, fp = network.errors(logits)
    assert fn.shape == fp.shape == (2, 3, *shape)
    assert 0 <= min(fn.min(), fp.min()) <= max(fn.max(), fp.max()) <= 1
    assert torch.equal((fn > 0.5), logits[:, 0::2] > 0)
    assert torch.equal(network.errors((logits, logits * 2))[0], fn)


def test_default_network_is_small_and_safe() -> None:
    network = make_refinement(None, dims=2, image_channels=1, classes=2)
    assert sum(p.numel() for p in network.parameters()) < 1_000_000
    norms = [m for m in network.modules() if isinstance(m, nn.InstanceNorm2d)]
    assert len(norms) == len([m for m in network.modules() if isinstance(m, FloatNorm)]) > 0


def test_joint_training_reaches_both_stages() -> None:
    network = make_refinement(SMALL, dims=2, image_channels=1, classes=2)
    stage1 = torch.randn(2, 2, 16, 16, requires_grad=True)
    image, target = torch.randn(2, 1, 16, 16), torch.randint(0, 2, (2, 16, 16))
    p = stage1.softmax(1)
    refined = compose_soft(p, *network.errors(network(image, p)))
    (refined - mask_of(target, 2)).square().mean().backward()
    assert stage1.grad is not None
    assert stage1.grad.abs().sum() > 0
    assert all(q.grad is not None and q.grad.isfinite().all() for q in network.parameters())
    only_input = torch.randn(1, 2, 16, 16, requires_grad=True)
    logits = network(image[:1], only_input)
    assert isinstance(logits, Tensor)
    logits.sum().backward()
    assert only_input.grad is not None
    assert only_input.grad.abs().sum() > 0


# ---------------------------------------------------------------- losses


@pytest.mark.parametrize("dims", [2, 3])
def test_bce_and_dice_against_their_formulas(dims: int) -> None:
    errors, z, labelled = errors_and_logits(dims)
    loss = make_error_loss("bce_dice")
    known = labelled.unsqueeze(1).expand(errors.shape)
    bce = functional.binary_cross_entropy_with_logits(z[known], errors[known].double())
    p, e = z.sigmoid() * known, errors * known
    over = (1 - (2 * (p * e).flatten(2).sum(2) + 1e-5) / ((p + e).flatten(2).sum(2) + 1e-5)).double()
    dice = (over * (e.flatten(2).sum(2) > 0)).mean()
    torch.testing.assert_close(loss(z, errors, labelled), bce + dice, check_dtype=False, atol=1e-6, rtol=1e-6)
    alone = make_error_loss("bce")(z, errors, labelled)
    torch.testing.assert_close(alone, bce, check_dtype=False, atol=1e-6, rtol=1e-6)


def test_focal_against_its_formula() -> None:
    errors, z, labelled = errors_and_logits()
    known = labelled.unsqueeze(1).expand(errors.shape)
    p = torch.where(errors > 0, z.sigmoid(), 1 - z.sigmoid())[known]
    torch.testing.assert_close(
        make_error_loss("focal")(z, errors, labelled), ((1 - p) ** 2 * -p.log()).mean(), check_dtype=False
    )


def test_dilated_is_balanced_channel_by_channel() -> None:
    errors, z, labelled = errors_and_logits()
    channel = make_loss(ERROR_LOSSES["dilated"])
    each = []
    for n in range(2):
        for k in range(4):
            target = torch.where(labelled[n], errors[n, k].long(), IGNORE)[None]
            each.append(channel(torch.stack([torch.zeros_like(z[n, k]), z[n, k]])[None], target))
    torch.testing.assert_close(make_error_loss("dilated")(z, errors, labelled), torch.stack(each).mean())


def test_mse_is_as_released() -> None:
    errors, z, labelled = errors_and_logits()
    known = labelled.unsqueeze(1).expand(errors.shape)
    expected = functional.mse_loss(z.tanh()[known], (2 * errors - 1).double()[known])
    torch.testing.assert_close(make_error_loss("mse")(z, errors, labelled), expected)


@pytest.mark.parametrize("name", NAMES)
def test_losses_keep_to_what_is_labelled(name: str) -> None:
    errors, z, labelled = errors_and_logits()
    loss = make_error_loss(name)
    free = z.clone().requires_grad_()
    value = loss(free, errors, labelled)
    value.backward()
    assert free.grad is not None
    assert not free.grad.movedim(1, -1)[~labelled].any()
    other = torch.where(labelled.unsqueeze(1), errors, 1 - errors)
    torch.testing.assert_close(loss(z, other, labelled), value.detach())
    torch.testing.assert_close(loss(z, errors, labelled.unsqueeze(1).expand(errors.shape)), value.detach())
    torch.testing.assert_close(loss((z, z), errors, labelled), 2 * value.detach())
    nothing = loss(free, errors, torch.zeros_like(labelled))
    assert nothing.requires_grad
    assert float(nothing.detach()) == 0
    assert loss(z.bfloat16(), errors).dtype == torch.float32


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="one of bce, bce_dice, focal, dilated, mse"):
        make_error_loss("dice")
    errors, z, _ = errors_and_logits()
    with pytest.raises(ValueError, match="differ in shape"):
        make_error_loss()(z[:, :2], errors)


# ---------------------------------------------------------------- it learns


@pytest.mark.parametrize("name", NAMES)
def test_refinement_corrects_a_first_stage_that_errs_in_one_way(name: str) -> None:
    """The first stage misses the right half of a square and makes up a corner: both can be seen in the image."""
    torch.manual_seed(0)
    target = torch.zeros(2, 24, 24, dtype=torch.int64)
    target[:, 6:16, 6:18] = 1
    target[:, :2] = IGNORE
    guess = target.clamp(min=0).clone()
    guess[:, :, 12:] = 0
    guess[:, 20:, :5] = 1
    p = 0.8 * mask_of(guess, 2) + 0.1
    image = (target == 1).float().unsqueeze(1) + 0.1 * torch.randn(2, 1, 24, 24)
    head = "tanh" if name == "mse" else "sigmoid"
    network: RefinementNetwork = make_refinement(SMALL, dims=2, image_channels=1, classes=2, head=head)  # type: ignore[arg-type]
    errors = error_channels(mask_of(target, 2), hide_unlabelled(hard_masks(p), target))
    loss, labelled = make_error_loss(name), target != IGNORE
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(80):
        optimiser.zero_grad()
        loss(network(image, p), errors, labelled).backward()
        optimiser.step()
    with torch.no_grad():
        refined = compose_classes(p, *network.errors(network(image, p)), axis=1)
    before = (guess != target)[labelled].float().mean()
    after = (refined != target)[labelled].float().mean()
    assert before > 0.1
    assert after < 0.3 * before
