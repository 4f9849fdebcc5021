"""Consecutive slices, planes, and the statistics of a patient: in training batches and in prediction."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_ctxseg.cases import Case
from napari_ctxseg.config import AugmentConfig, DataConfig, parse_config
from napari_ctxseg.errors import InputError
from napari_ctxseg.image import image_from_array
from napari_ctxseg.inference.blocks import Tiles, logit_blocks
from napari_ctxseg.networks.patients import PatientBatchNorm, PatientModule
from napari_ctxseg.training.data import along, in_planes, prepare
from napari_ctxseg.training.patches import PatchSampler, natural
from napari_ctxseg.training.plan import make_plan
from tests.core.conftest import blob_case

if TYPE_CHECKING:
    from napari_ctxseg.config import RunConfig
    from napari_ctxseg.training.data import Sample

NONE = AugmentConfig(preset="none")


def numbered(name: str, group: str, number: float, shape: tuple[int, ...] = (20, 22)) -> Sample:
    """An image that says its number in every pixel; its labels are all background but for one."""
    image = image_from_array(np.zeros(shape, np.float32), "zyx"[-len(shape) :])
    labels = np.zeros(shape, np.uint8)
    labels[..., 10, 11] = 1
    sample = prepare(Case(name, image, labels, group), {"a": 1}, DataConfig())
    values = (
        torch.full(shape, number) if len(shape) == 2 else torch.arange(shape[0]).view(-1, 1, 1).expand(shape)
    )
    return replace(sample, image=values.float()[None] + (number if len(shape) == 3 else 0))


def sampler(samples: list[Sample], **options: Any) -> PatchSampler:
    values = {"size": (16, 16), "batch": 6, "foreground": 0.5, "augmentation": NONE, "seed": 0, "sequence": 3}
    return PatchSampler(samples, **(values | options))


# ---------------------------------------------------------------- batches


def test_slices_of_a_stack_follow_each_other() -> None:
    stacks = [numbered("a", "a", 0, (9, 20, 22)), numbered("b", "b", 100, (5, 20, 22))]
    draw = sampler(stacks)
    starts = set()
    for step in range(20):
        batch = draw.batch(step)
        assert batch.sequences == (0, 0, 0, 1, 1, 1)
        slices = batch.image.mean(dim=(1, 2, 3)).round().tolist()
        for first in (0, 3):
            a, b, c = slices[first : first + 3]
            assert (b - a, c - b) == (1, 1)
            starts.add(a)
    assert {0, 6, 100, 102} <= starts
    assert max(starts) == 102


def test_images_of_a_patient_follow_each_other_by_name() -> None:
    samples = [numbered(f"p{g}_{i}", f"p{g}", 100 * g + i) for g in (1, 2) for i in (10, 9, 2, 11)]
    batch = sampler(samples, sequence=4, batch=8).batch(0)
    values = batch.image.mean(dim=(1, 2, 3)).round().tolist()
    assert [v % 100 for v in values] == [2, 9, 10, 11, 2, 9, 10, 11]
    assert len({v // 100 for v in values[:4]}) == 1


def test_short_patients_leave_room_for_others() -> None:
    samples = [numbered("a1", "a", 1), numbered("b1", "b", 2), numbered("b2", "b", 3)]
    for step in range(5):
        batch = sampler(samples, sequence=3, batch=5).batch(step)
        assert len(batch.image) == 5
        lengths = [batch.sequences.count(n) for n in sorted(set(batch.sequences))]
        assert max(lengths) <= 2
        assert sum(lengths) == 5


def test_a_sequence_is_cut_and_turned_alike() -> None:
    case = blob_case("v", (8, 40, 44))
    case.image.array[:] = case.image.array[4]
    case.labels[:] = case.labels[4]  # type: ignore[index]
    sample = prepare(case, {"a": 1}, DataConfig())
    draw = sampler([sample], augmentation=AugmentConfig(), batch=3, size=(24, 24))
    for step in range(10):
        batch = draw.batch(step)
        assert torch.equal(batch.target[0], batch.target[1])
        assert torch.equal(batch.target[0], batch.target[2])


def test_single_patches_are_as_before() -> None:
    samples = [prepare(blob_case(f"b{i}", seed=i), {"a": 1}, DataConfig()) for i in range(3)]
    batch = sampler(samples, sequence=1, augmentation=AugmentConfig()).batch(3)
    assert batch.sequences == (0, 1, 2, 3, 4, 5)


def test_channels_of_predictions_are_only_moved() -> None:
    sample = prepare(blob_case("b", (40, 44)), {"a": 1}, DataConfig())
    p = (sample.target == 1).float()[None]
    beside = replace(sample, image=torch.cat([sample.image, 1 - p, p]))
    draw = sampler([beside], sequence=1, augmentation=AugmentConfig(), geometry_only=2, size=(24, 24))
    for step in range(20):
        batch = draw.batch(step)
        inside = batch.target >= 0
        assert float(batch.image[:, 1:].min()) >= 0
        assert float(batch.image[:, 1:].max()) <= 1
        torch.testing.assert_close(batch.image[:, 1:].sum(dim=1), torch.ones_like(batch.image[:, 0]))
        agree = (batch.image[:, 2] > 0.5) == (batch.target == 1)
        assert agree[inside].float().mean() > 0.97


def test_natural_order() -> None:
    assert sorted(["s10", "s9", "s1_b", "a"], key=natural) == ["a", "s1_b", "s9", "s10"]


# ---------------------------------------------------------------- planes


def test_a_plane_is_the_volume_turned() -> None:
    case = blob_case("v", (6, 20, 30))
    sample = prepare(
        replace(case, image=image_from_array(case.image.array, "zyx", spacing=(5, 2, 1))),
        {"a": 1},
        DataConfig(),
    )
    for axis, shape, spacing in ((1, (20, 6, 30), (2, 5, 1)), (2, (30, 6, 20), (1, 5, 2))):
        turned = along(sample, axis)
        assert tuple(turned.target.shape) == shape
        assert turned.spacing == spacing
        for index, places in turned.positions.items():
            assert (turned.target[tuple(torch.from_numpy(places.astype(int)).T)] == index).all()
        assert torch.equal(turned.image[0].movedim(0, axis), sample.image[0])
    flat = prepare(blob_case("f"), {"a": 1}, DataConfig())
    assert len(in_planes([sample, flat], (0, 1, 2))) == 4


def config(**sections: Any) -> RunConfig:
    values: dict[str, Any] = {
        "network": {"kind": "unet", "features": (4, 8)},
        "patch": {"size": (16, 16), "batch": 4},
        "device": {"accelerator": "cpu", "precision": "32-true", "threads": 1},
    }
    return parse_config({**values, **sections})


def test_planes_are_planned_for_training_only() -> None:
    volumes = [blob_case(f"v{i}", (18, 20, 22), seed=i) for i in range(4)]
    plan = make_plan(config(data={"planes": ["z", "x"]}), volumes)
    assert len(plan.train) == 2 * 3
    assert len(plan.val) == 1


@pytest.mark.parametrize(
    ("dims", "shape", "match"), [(3, (18, 20, 22), "for 2-D models"), (2, (20, 22), "need volumes")]
)
def test_planes_that_make_no_sense(dims: int, shape: tuple[int, ...], match: str) -> None:
    cases = [blob_case(f"v{i}", shape, seed=i) for i in range(4)]
    network = {"kind": "unet", "features": (4, 8), "dims": dims}
    with pytest.raises(InputError, match=match):
        make_plan(config(data={"planes": ["z", "y"]}, network=network, patch={"size": (16,) * dims}), cases)


def test_predictions_of_planes_are_averaged() -> None:
    torch.manual_seed(0)
    image = torch.randn(1, 10, 12, 14)
    network = nn.Conv2d(1, 3, 3, padding=1).eval()
    with torch.no_grad():
        *_, (_, logits, done) = logit_blocks(network, image, Tiles(2, (16, 16), (0, 1, 2)))
        assert done == 1
        assert logits is not None
        expected = torch.zeros(3, 10, 12, 14)
        for axis in range(3):
            slices = image.movedim(axis + 1, 1).transpose(0, 1)
            padded = nn.functional.pad(slices, _pads(slices.shape[2:], 16), mode="replicate")
            p = torch.softmax(network(padded), dim=1)
            top, left = (16 - slices.shape[2]) // 2, (16 - slices.shape[3]) // 2
            p = p[:, :, top : top + slices.shape[2], left : left + slices.shape[3]]
            expected += p.transpose(0, 1).movedim(1, axis + 1) / 3
    torch.testing.assert_close(torch.softmax(logits, dim=0), expected, rtol=1e-4, atol=1e-5)


def _pads(shape: torch.Size, size: int) -> list[int]:
    return [p for n in reversed(shape) for p in ((size - n) // 2, size - n - (size - n) // 2)]


# ---------------------------------------------------------------- patients


class Sees(PatientModule):
    """Says whom it is told of."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...] | None] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(self.patients)
        return torch.cat([x, -x], dim=1)


def test_slices_of_a_volume_are_one_sequence_and_windows_are_not() -> None:
    network = Sees()
    list(logit_blocks(network, torch.randn(1, 11, 16, 40), Tiles(2, (16, 16))))
    assert {s for s in network.seen if s is not None} == {(0,) * 8, (0,) * 3}
    assert None not in network.seen
    network.seen.clear()
    list(logit_blocks(network, torch.randn(1, 16, 40), Tiles(2, (16, 16))))
    assert set(network.seen) == {None}


def test_a_volume_is_normalised_by_its_own_statistics() -> None:
    """Every slice, whatever its block: mean 0 and variance 1 over the whole volume."""
    torch.manual_seed(0)
    norm = PatientBatchNorm(1, dims=2).eval()
    network = nn.Sequential(norm)
    image = torch.randn(1, 20, 16, 16) * torch.linspace(1, 5, 20).view(1, -1, 1, 1) + 7
    with torch.no_grad():
        blocks = [b for _, b, _ in logit_blocks(network, image, Tiles(2, (16, 16))) if b is not None]
    result = torch.cat(blocks, dim=1)
    expected = (image - image.mean()) / image.std(unbiased=False)
    torch.testing.assert_close(result, expected, rtol=1e-3, atol=1e-4)
    assert norm.frozen is None, "the next patient starts anew"


def test_sequences_by_default_where_slices_are_compared() -> None:
    cases = [blob_case(f"b{i}", seed=i) for i in range(4)]
    assert make_plan(config(), cases).config.patch.sequence == 1
    network = {"kind": "unet", "block": "plain", "features": (4, 8), "norm": "patient"}
    assert make_plan(config(network=network), cases).config.patch.sequence == 2
    method = {"kind": "cgan", "discriminator": {"kind": "pixel", "recurrent": True}}
    assert make_plan(config(method=method), cases).config.patch.sequence == 2


def test_patient_wise_statistics_need_patients() -> None:
    cases = [replace(blob_case(f"b{i}", seed=i), group="p") for i in range(4)]
    network = {"kind": "unet", "block": "plain", "features": (4, 8), "norm": "patient"}
    with pytest.raises(InputError, match="--group"):
        make_plan(config(network=network), cases)
