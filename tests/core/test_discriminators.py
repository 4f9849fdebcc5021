"""Discriminators: sizes as published, crops of any size in a batch, what each can see, and the losses of both sides."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from napari_ctxseg.config import (
    ContextDiscriminatorConfig,
    DynamicRoi,
    MaskRoi,
    RoiConfig,
    StaticRoi,
    check_discriminator,
    discriminator_kinds,
)
from napari_ctxseg.errors import InputError
from napari_ctxseg.image import IGNORE
from napari_ctxseg.networks import DISCRIMINATORS, make_discriminator
from napari_ctxseg.networks.adversarial import (
    adversarial_loss,
    discriminator_loss,
    hide_unlabelled,
    labelled_share,
    mask_of,
)
from napari_ctxseg.networks.discriminators import ContextDiscriminator, PlainDiscriminator
from napari_ctxseg.networks.patients import patients_of
from napari_ctxseg.networks.precision import SafeConv3d
from napari_ctxseg.networks.regions import Regions, crops_of, grown_box, pooled, regions_of, windows

CONDITIONAL = [kind for kind in discriminator_kinds() if kind not in ("plain", "context")]
SIZE = {2: (44, 46), 3: (40, 41, 43)}


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def blocks(dims: int) -> Tensor:
    """Two samples with structures of unlike size, one without, unlabelled pixels at the end."""
    target = torch.zeros(3, *SIZE[dims], dtype=torch.int64)
    target[(0, *[slice(5, 30)] * (dims - 1), slice(3, 28))] = 1
    target[(0, *[slice(9, 12)] * dims)] = 2
    target[(1, *[slice(30, 34)] * (dims - 1), slice(35, 38))] = 2
    target[..., -3:] = IGNORE
    return target


def probabilities(dims: int) -> Tensor:
    generator = torch.Generator().manual_seed(dims)
    return torch.randn(3, 3, *SIZE[dims], generator=generator).softmax(1)


def context(dims: int, roi: RoiConfig) -> ContextDiscriminator:
    torch.manual_seed(0)
    made = make_discriminator("context", dims, 3, 0, SIZE[dims], roi)
    assert isinstance(made, ContextDiscriminator)
    return made


# ---------------------------------------------------------------- as published


def test_parameters_as_published() -> None:
    static = make_discriminator("context", 2, 4, 1, (160, 160), StaticRoi(size=60))
    dynamic = make_discriminator("context", 2, 4, 1, (160, 160), DynamicRoi())
    assert count(static) == 9_078_593
    assert count(dynamic) == 8_750_337
    assert count(make_discriminator("context", 2, 4, 1, (160, 160), MaskRoi())) == 8_750_337
    # A verdict from 64 instead of 128, and no local branch.
    local = 4 * 32 * 81 + 32 + 32 * 64 * 25 + 64 + 64 * 64 * 25 + 64
    assert count(make_discriminator("plain", 2, 4, 1, (160, 160))) == 8_750_337 - local - 64


@pytest.mark.parametrize(("side", "flattened"), [(128, 9216), (160, 16384), (50, 256), (60, 576), (40, 64)])
def test_flattened_sizes_as_published(side: int, flattened: int) -> None:
    made = make_discriminator("plain", 2, 4, 0, (side, side))
    assert isinstance(made, PlainDiscriminator)
    assert made.whole.flattened == flattened
    assert made.whole.convolutions(torch.zeros(1, 4, side, side)).numel() == flattened


def test_layers_as_published() -> None:
    made = make_discriminator("plain", 2, 4, 0, (64, 64))
    convolutions = [m for m in made.modules() if isinstance(m, nn.Conv2d)]
    assert [(m.out_channels, m.kernel_size, m.stride, m.padding) for m in convolutions] == [
        (32, (9, 9), (1, 1), (0, 0)),
        (64, (5, 5), (1, 1), (0, 0)),
        (64, (5, 5), (1, 1), (0, 0)),
    ]
    assert {m.negative_slope for m in made.modules() if isinstance(m, nn.LeakyReLU)} == {0.2}
    assert len([m for m in made.modules() if isinstance(m, nn.AvgPool2d)]) == 3
    assert [m.out_features for m in made.modules() if isinstance(m, nn.Linear)] == [512, 64, 1]


def test_published_shape_in_3d() -> None:
    made = make_discriminator("context", 3, 2, 0, (41, 42, 48), StaticRoi(size=45))
    mask = torch.rand(2, 2, 41, 42, 48)
    target = torch.ones(2, 41, 42, 48, dtype=torch.int64)
    assert made(mask, None, made.regions(target)).shape == (2, 1)
    assert all(type(m) is SafeConv3d for m in made.modules() if isinstance(m, nn.Conv3d))


# ---------------------------------------------------------------- regions


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(
    "roi", [DynamicRoi(), DynamicRoi(margin=3), MaskRoi(radius=2.5), StaticRoi(size=40)], ids=lambda r: r.kind
)
def test_a_batch_is_its_samples_one_by_one(dims: int, roi: RoiConfig) -> None:
    made, target, mask = context(dims, roi), blocks(dims), probabilities(dims)
    together = made(mask, None, made.regions(target))
    for n in range(3):
        alone = made(mask[n : n + 1], None, made.regions(target[n : n + 1]))
        torch.testing.assert_close(alone, together[n : n + 1], atol=1e-6, rtol=0)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("roi", [DynamicRoi(), MaskRoi(radius=2.5)], ids=lambda r: r.kind)
def test_pooling_is_that_of_the_crop_alone(dims: int, roi: RoiConfig) -> None:
    """Against an average over positions found without any of the crop's code."""
    made = context(dims, roi).double()
    target, mask = blocks(dims), probabilities(dims).double()
    if dims == 3:  # whole images take a minute
        target, mask = target[1:, 20:, 21:, 22:], mask[1:, :, 20:, 21:, 22:]
        target[1, 1:20, 0:19, 3:6] = 1
    regions = made.regions(target)
    crops = crops_of(mask, regions)
    assert len({int(inside.sum()) for inside in crops.inside}) > 1
    got = pooled(made.local(crops.values), crops, len(mask))
    for n, (box,) in enumerate(regions.boxes):
        place = tuple(slice(a, b) for a, b in box)
        if regions.mask is None:
            expected = made.local(mask[n][(slice(None), *place)][None]).flatten(2).mean(2)
        else:
            # The whole image, with a rim: the mask's pixels are the centres.
            seen = nn.functional.pad((mask[n] * regions.mask[n])[None], [8] * 2 * dims)
            expected = made.local(seen)[0][:, regions.mask[n]].mean(1)[None]
        torch.testing.assert_close(got[n : n + 1], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("roi", [DynamicRoi(), MaskRoi(radius=2.5), StaticRoi(size=40)], ids=lambda r: r.kind)
def test_nothing_outside_the_region_is_seen(roi: RoiConfig) -> None:
    made, target, mask = context(2, roi), blocks(2), probabilities(2)
    regions = made.regions(target)
    seen = torch.zeros_like(target, dtype=torch.bool)
    for n, boxes in enumerate(regions.boxes):
        for (a, b), (c, d) in boxes:
            seen[n, a:b, c:d] = True
    if regions.mask is not None:
        seen = regions.mask
    free = mask.requires_grad_()
    if roi.kind == "static":
        made.local(windows(free, regions)).sum().backward()
    else:
        crops = crops_of(free, regions)
        pooled(made.local(crops.values), crops, 3).sum().backward()
    assert free.grad is not None
    felt = (free.grad != 0).any(dim=1)
    assert not (felt & ~seen).any()
    assert (felt & seen).sum() > 0.95 * seen.sum()


def test_small_boxes_are_grown_inside_the_image() -> None:
    regions = regions_of(blocks(2), DynamicRoi())
    # 25 wide stays, 4 x 3 grows and is shifted in from the far edge, no foreground gives the centre.
    assert regions.boxes[0] == (((5, 30), (3, 28)),)
    assert regions.boxes[1] == (((24, 41), (28, 45)),)
    assert regions.boxes[2] == (((14, 31), (15, 32)),)
    assert grown_box([(0, 2)], 17, (20,)) == ((0, 17),)
    assert grown_box([(18, 20)], 17, (20,)) == ((3, 20),)
    assert grown_box([(3, 4)], 17, (9,)) == ((0, 9),)


def test_static_windows_have_one_size() -> None:
    regions = regions_of(blocks(2), StaticRoi(size=40))
    assert windows(probabilities(2), regions).shape == (3, 3, 40, 40)
    assert regions.boxes[2] == (((2, 42), (3, 43)),)


def test_every_pixel_of_a_mask_counts() -> None:
    target = torch.zeros(2, 44, 46, dtype=torch.int64)
    target[0, 40, :] = 1  # thinner than any box could be
    regions = regions_of(target, MaskRoi(radius=0))
    crops = crops_of(mask_of(target, 2), regions)
    assert crops.inside.flatten(1).sum(1).tolist() == [46, 17 * 17]
    assert regions_of(target, MaskRoi(radius=1), (1.0, 1.0)).mask is not None
    wide = regions_of(target, MaskRoi(radius=1), [(1.0, 1.0), (2.0, 2.0)]).mask
    thin = regions_of(target, MaskRoi(radius=1), [(2.0, 2.0), (1.0, 1.0)]).mask
    assert wide is not None
    assert thin is not None
    assert (int(wide[0].sum()), int(thin[0].sum())) == (3 * 46, 46)


def test_several_boxes_of_a_sample_are_averaged() -> None:
    made, target, mask = context(2, DynamicRoi(per="class")), blocks(2), probabilities(2)
    regions = made.regions(target)
    assert [len(boxes) for boxes in regions.boxes] == [2, 1, 1]
    crops = crops_of(mask, regions)
    got = pooled(made.local(crops.values), crops, 3)
    each = []
    for box in regions.boxes[0]:
        one = crops_of(mask[:1], Regions(((box,),)))
        each.append(pooled(made.local(one.values), one, 1))
    torch.testing.assert_close(got[:1], (each[0] + each[1]) / 2, atol=1e-6, rtol=0)


# ---------------------------------------------------------------- all kinds

CASES: list[tuple[dict[str, Any], int]] = [
    ({"kind": kind, **extra, **({"width": 8} if kind != "pixel" else {})}, dims)
    for kind in CONDITIONAL
    for dims in (2, 3)
    for extra in ({}, {"recurrent": True}, {"norm": "patient"}, {"norm": "none"})
] + [({"kind": kind}, dims) for kind in ("plain", "context") for dims in (2, 3)]


@pytest.mark.parametrize(("config", "dims"), CASES, ids=str)
def test_every_discriminator_learns_and_teaches(config: dict[str, Any], dims: int) -> None:
    torch.manual_seed(0)
    size = (40,) * dims if config["kind"] in ("plain", "context") else (24, 25, 26)[:dims]
    made = make_discriminator(config, dims, 3, 2, size, DynamicRoi())
    image, target = torch.randn(3, 2, *size), torch.randint(-1, 1, (3, *size))
    target[(slice(None), *[slice(4, 22)] * dims)] = 1
    target[:, 5:9, 5:9] = 2
    logits = torch.randn(3, 3, *size, requires_grad=True)
    regions = made.regions(target)
    with patients_of(made, [0, 0, 1]):
        real = made(mask_of(target, 3), image, regions)
        fake = made(hide_unlabelled(logits.softmax(1), target), image, regions)
    assert real.shape[:2] == (3, 1)
    if config["kind"] == "pixel":
        assert real.shape[2:] == size
    elif config["kind"] != "patch":
        assert real.ndim == 2
    (discriminator_loss(real, fake, target) + adversarial_loss(fake, target)).backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert logits.grad is not None
    assert (logits.grad.flatten(1).abs().sum(1) > 0).all()
    assert not logits.grad.movedim(1, -1)[target == IGNORE].any()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("config", [cls() for cls in DISCRIMINATORS], ids=lambda c: c.kind)
def test_the_smallest_size_is_the_smallest(config: Any, dims: int) -> None:
    small = config.model_copy(update={"width": 4}) if hasattr(config, "width") else config
    size = (config.smallest,) * dims
    made = make_discriminator(small, dims, 2, 1, size, DynamicRoi()).eval()
    target = torch.ones(1, *size, dtype=torch.int64)
    assert made(mask_of(target, 2), torch.zeros(1, 1, *size), made.regions(target)).isfinite().all()
    if config.smallest > 1:
        with pytest.raises(InputError, match=f"Take {config.smallest} or more"):
            check_discriminator(config, (*size[1:], config.smallest - 1), DynamicRoi())


def test_regions_that_are_too_small_are_refused() -> None:
    check_discriminator(ContextDiscriminatorConfig(), (64, 64), StaticRoi(size=40))
    with pytest.raises(InputError, match="Take 40 or more, or 17 is enough for a dynamic region"):
        check_discriminator(ContextDiscriminatorConfig(), (64, 64), StaticRoi(size=39))
    with pytest.raises(InputError, match="Take 40 or more, or take a dynamic region"):
        make_discriminator("context", 2, 2, 0, (64, 64), StaticRoi(size=16))
    with pytest.raises(InputError, match="no region"):
        make_discriminator("context", 2, 2, 0, (64, 64))
    with pytest.raises(ValueError, match="2 sides"):
        make_discriminator("plain", 2, 2, 0, (64, 64, 64))


def test_what_is_missing_is_named() -> None:
    mask = torch.zeros(1, 2, 40, 40)
    with pytest.raises(ValueError, match="needs the regions"):
        make_discriminator("context", 2, 2, 0, (40, 40), DynamicRoi())(mask)
    with pytest.raises(ValueError, match="needs the image"):
        make_discriminator("pixel", 2, 2, 1, (40, 40))(mask)
    with pytest.raises(ValueError, match="built for"):
        make_discriminator("plain", 2, 2, 0, (41, 40))(mask)


# ---------------------------------------------------------------- what each verdict sees


def seen_by(made: nn.Module, place: tuple[int, ...], batch: int, size: tuple[int, ...]) -> Tensor:
    """Pixels of mask and image on which one verdict depends, shape ``(B, *S)``."""
    mask = torch.rand(batch, 2, *size, requires_grad=True)
    image = torch.rand(batch, 1, *size, requires_grad=True)
    with patients_of(made, [0] * batch):
        made(mask, image)[place].backward()
    assert mask.grad is not None
    assert image.grad is not None
    assert torch.equal((mask.grad != 0).any(1), (image.grad != 0).any(1))
    return (mask.grad != 0).any(1)


def test_a_pixel_sees_itself_and_its_neighbours_in_other_slices() -> None:
    alone = seen_by(
        make_discriminator({"kind": "pixel", "norm": "none"}, 2, 2, 1, (9, 9)), (1, 0, 4, 5), 3, (9, 9)
    )
    assert alone.nonzero().tolist() == [[1, 4, 5]]
    recurrent = make_discriminator({"kind": "pixel", "norm": "none", "recurrent": True}, 2, 2, 1, (9, 9))
    assert seen_by(recurrent, (1, 0, 4, 5), 3, (9, 9)).nonzero().tolist() == [[n, 4, 5] for n in range(3)]
    volume = make_discriminator({"kind": "pixel", "norm": "none", "recurrent": True}, 3, 2, 1, (4, 9, 9))
    assert seen_by(volume, (0, 0, 2, 4, 5), 1, (4, 9, 9)).nonzero().tolist() == [
        [0, n, 4, 5] for n in range(4)
    ]


def test_a_patch_is_70_wide() -> None:
    made = make_discriminator({"kind": "patch", "norm": "none"}, 2, 2, 1, (160, 160))
    seen = seen_by(made, (0, 0, 9, 9), 1, (160, 160))[0]
    assert (int(seen.any(0).sum()), int(seen.any(1).sum())) == (70, 70)


def test_an_image_verdict_sees_all() -> None:
    made = make_discriminator({"kind": "image", "norm": "none", "width": 8}, 2, 2, 1, (32, 32))
    assert seen_by(made, (0, 0), 1, (32, 32)).float().mean() > 0.95


# ---------------------------------------------------------------- losses of both sides


def test_masks_are_one_hot_and_empty_where_unlabelled() -> None:
    target = torch.tensor([[[0, 2], [IGNORE, 1]]])
    mask = mask_of(target, 3)
    assert mask.dtype == torch.float32
    assert mask[0].sum(0).tolist() == [[1, 1], [0, 1]]
    assert mask[0, :, 0, 1].tolist() == [0, 0, 1]


@pytest.mark.parametrize("shape", [(4, 1), (4, 1, 5, 6), (4, 1, 2, 5, 6)])
def test_losses_of_both_sides(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    real, fake = torch.randn(shape), torch.randn(shape)
    bce = nn.functional.binary_cross_entropy_with_logits
    one, zero = torch.ones(shape), torch.zeros(shape)
    target = torch.zeros(4, *shape[2:] or (8, 8), dtype=torch.int64)
    for labels in (None, target):
        torch.testing.assert_close(
            discriminator_loss(real, fake, labels), 0.5 * (bce(real, one) + bce(fake, zero))
        )
        torch.testing.assert_close(adversarial_loss(fake, labels), bce(fake, one))
    assert adversarial_loss(fake.bfloat16()).dtype == torch.float32
    assert adversarial_loss(fake.double()).dtype == torch.float64


def test_only_labelled_verdicts_count() -> None:
    target = torch.zeros(2, 8, 8, dtype=torch.int64)
    target[0, :4], target[1] = IGNORE, IGNORE
    share = labelled_share(target, (4, 4))
    assert share[0, 0].mean(1).tolist() == [0, 0, 1, 1]
    assert not share[1].any()
    fake = torch.randn(2, 1, 8, 8, requires_grad=True)
    loss = adversarial_loss(fake, target)
    torch.testing.assert_close(loss, nn.functional.softplus(-fake[0, 0, 4:]).mean())
    loss.backward()
    assert fake.grad is not None
    assert not fake.grad[1].any()
    images = torch.tensor([[1.0], [50.0]])
    assert float(adversarial_loss(images, target)) == pytest.approx(math.log1p(math.exp(-1)), rel=1e-6)
    nothing = adversarial_loss(fake, torch.full_like(target, IGNORE))
    assert float(nothing.detach()) == 0
    assert nothing.requires_grad


def test_extreme_verdicts_stay_finite() -> None:
    far = torch.tensor([[1e4], [-1e4]], requires_grad=True)
    loss = discriminator_loss(far, far)
    loss.backward()
    assert loss.isfinite()
    assert far.grad is not None
    assert far.grad.isfinite().all()


@pytest.mark.parametrize("kind", discriminator_kinds())
def test_mixed_precision_agrees(kind: str) -> None:
    torch.manual_seed(0)
    width = {} if kind in ("plain", "context") else {"width": 16}
    made = make_discriminator({"kind": kind, **width}, 2, 3, 1, (44, 46), DynamicRoi())
    mask, image, regions = probabilities(2), torch.randn(3, 1, 44, 46), made.regions(blocks(2))
    exact = made(mask, image, regions)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = made(mask, image, regions)
    torch.testing.assert_close(mixed.float(), exact, atol=0.03, rtol=0.03)
