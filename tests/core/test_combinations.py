"""The rules that grey choices on screen say the same as the plan that refuses a training."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from napari_ctxseg.cases import Case
from napari_ctxseg.config import RunConfig, network_kinds
from napari_ctxseg.config.combinations import Facts, patch_of, refusals, stages, warnings
from napari_ctxseg.errors import InputError
from napari_ctxseg.image import image_from_array
from napari_ctxseg.training.cr_gan import deal
from napari_ctxseg.training.plan import make_plan

SHAPES = [(20, 24), (200, 150), (6, 20, 24), (6, 64, 64), (48, 64, 64), (1, 50, 50)]
METHODS = [
    "supervised",
    "gan",
    {"kind": "gan", "discriminator": "patch"},
    {"kind": "gan", "adversarial_weight": 0},
    "seg_glgan",
    {"kind": "seg_glgan", "roi": {"kind": "static", "size": 20}},
    {"kind": "seg_glgan", "roi": {"kind": "static", "size": 12}},
    {"kind": "seg_glgan", "roi": {"kind": "dynamic"}},
    "cgan",
    {"kind": "cgan", "discriminator": "image"},
    {"kind": "cgan", "discriminator": {"kind": "patch", "norm": "patient"}},
    "cr_gan",
    {"kind": "cr_gan", "refine": {"folds": 5}},
]
NETWORKS = [
    *({"kind": kind, "dims": dims} for kind in network_kinds() for dims in (2, 3)),
    {"kind": "unet", "norm": "patient"},
    {"kind": "unet", "features": [4, 4, 4, 4, 4, 4, 4]},
]


def cases_of(shape, patients):
    rng = np.random.default_rng(0)
    axes = "zyx"[-len(shape) :]
    labels = np.zeros(shape, np.uint8)
    labels[..., 5:15, 5:15] = 1
    for number in range(patients):
        image = image_from_array(rng.normal(size=shape).astype(np.float32), axes)
        yield Case(f"p{number}", image, labels)


def planned(config, cases):
    """What the engine says: the plan, or the error that it ends with before the first step."""
    try:
        plan = make_plan(config, cases)
        if config.method.kind == "cr_gan":
            deal([s.group for s in plan.train], config.method.refine.folds)
    except InputError as error:
        return error
    return plan


def check(config, shape, patients=1):
    cases = list(cases_of(shape, patients))
    facts = Facts(shape, 1, 1, patients)
    said, found = refusals(config, facts), planned(config, cases)
    where = f"{config.network.kind} {config.network.dims}-D, {config.method}, {shape}, {patients}: {said}, {found}"
    assert bool(said) == isinstance(found, InputError), where
    if not said:
        assert patch_of(config, facts) == found.config.patch.size, where
        assert [note for note in found.notes if note in warnings(config, facts)] == warnings(config, facts), (
            where
        )
    return said


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_network_and_method_on_one_image(shape):
    for network, method in itertools.product(NETWORKS, METHODS):
        check(RunConfig(network=network, method=method), shape)


@pytest.mark.parametrize("patients", [1, 2, 3, 4, 6, 7])
def test_patients(patients):
    for method, norm in itertools.product(("supervised", *METHODS[-2:]), ("instance", "patient")):
        config = RunConfig(network={"kind": "unet", "norm": norm}, method=method)
        check(config, (64, 64), patients)
        check(config.updated(data={"val": 0.0}), (64, 64), patients)
        check(config.updated(data={"val": 0.7}), (64, 64), patients)


@pytest.mark.parametrize("shape", [(64, 64), (6, 64, 64)])
@pytest.mark.parametrize("dims", [2, 3])
def test_planes(shape, dims):
    config = RunConfig(network={"kind": "unet", "dims": dims}, data={"planes": ["z", "x"]})
    said = check(config, shape)
    assert bool(said) == (dims == 3 or len(shape) == 2)


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (16, 64), (8, 8), (64,), (4, 32, 32), (8, 32, 32)])
@pytest.mark.parametrize("dims", [2, 3])
def test_patches_that_were_asked_for(size, dims):
    for kind, method in itertools.product(network_kinds(), ("supervised", "gan", "cgan")):
        config = RunConfig(network={"kind": kind, "dims": dims}, patch={"size": size}, method=method)
        check(config, (24, 64, 64))


def test_what_is_said():
    image = Facts((64, 64))
    (one,) = refusals(RunConfig(network={"kind": "unet", "dims": 3}), image)
    assert str(one) == "A 3-D model needs a volume, and this is a single 2-D image. Choose 2-D."
    (one,) = refusals(RunConfig(method="gan", patch={"size": (32, 32)}), Facts((20, 24)))
    assert (one.section, one.remedy) == ("discriminator", "Take 40 or more on every side")
    (one,) = refusals(RunConfig(method="cr_gan"), image)
    assert one.section == "method"
    assert "folder of patients" in one.remedy
    (one,) = refusals(RunConfig(method="cr_gan"), Facts((64, 64), patients=2))
    assert one.remedy == "Set the folds to 2"


def test_noise_and_padding_are_warned_of():
    noisy = RunConfig(method={"kind": "cgan", "noise": 0.1})
    assert "harmful" in warnings(noisy, Facts((64, 64)))[0]
    assert warnings(RunConfig(method="cgan"), Facts((64, 64))) == []
    deep = RunConfig(network={"kind": "unet", "features": [8] * 7})
    assert "padding" in warnings(deep, Facts((6, 64, 64)))[0]
    assert warnings(RunConfig(network={"kind": "unet", "dims": 3}), Facts((6, 64, 64))) == []
    assert "padding" in warnings(RunConfig(method="gan"), Facts((20, 24)))[0]


def test_stages_are_named():
    assert stages(RunConfig().method) == ""
    text = stages(RunConfig(method={"kind": "cr_gan", "refine": {"folds": 4, "joint": 10}}).method)
    assert text == (
        "Trains the first stage, the first stage again for each of 4 folds, and the refinement, then both together."
    )
    assert "Trains the first stage again" in stages(
        RunConfig(method={"kind": "cr_gan", "refine": {"base": "x"}}).method
    )
