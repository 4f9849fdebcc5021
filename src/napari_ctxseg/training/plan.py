"""Everything that is decided before the first step: classes, split, patch size, device. All complaints come from here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_ctxseg.cases import Case, class_table, membership, split_groups
from napari_ctxseg.config import DeviceConfig, NetworkBase, RunConfig, SupervisedConfig
from napari_ctxseg.config.combinations import BATCH, Facts, automatic_patch, shortest_side, warnings
from napari_ctxseg.config.discriminators import check_discriminator
from napari_ctxseg.errors import InputError
from napari_ctxseg.networks.pretrained import notes_on_weights
from napari_ctxseg.training.data import Sample, check_trainable, in_planes, planes_of, prepare
from napari_ctxseg.training.shares import ONE_REGION, class_shares, needs_shares, region_shares, with_shares

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_ctxseg.config import LossConfig

#: Volumes hold more samples a patch and bear larger steps (benchmarks/results/defaults.md).
LEARNING_RATE = {2: 1e-3, 3: 2e-3}
#: Training cases whose Dice stands in for a validation when there are too few groups.
FEW = 4
#: Cases a validation looks at, evenly taken from all that were kept apart: its Dice is stable enough, and its cost bounded.
MOST_WATCHED = 64


@dataclass(frozen=True)
class Plan:
    """A run made definite.

    Parameters
    ----------
    config : RunConfig
        With patch, channels and classes filled in.
    classes : dict of str to int
        Name -> value, in the order of the indices 1, 2, ...
    train, val : list of Sample
        `val` is empty below three groups.
    notes : list of str
        What the person should know before the first step.
    """

    config: RunConfig
    classes: dict[str, int]
    train: list[Sample]
    val: list[Sample]
    notes: list[str]

    @property
    def curve(self) -> str:
        """Name of the Dice curve: honest about what it is measured on."""
        return "validation Dice" if self.val else "training Dice"

    @property
    def regions(self) -> dict[str, tuple[int, ...]]:
        """Overlapping regions, name -> values; empty where classes exclude each other."""
        return self.config.data.regions

    @property
    def names(self) -> list[str]:
        """What is predicted: the regions, or the classes without background."""
        return list(self.regions or self.classes)

    @property
    def outputs(self) -> int:
        """Channels that the network gives: one for each region, or for each class and the background."""
        return len(self.regions) or len(self.classes) + 1

    @property
    def members(self) -> Tensor | None:
        """Which classes belong to which region, see `napari_ctxseg.cases.membership`."""
        return torch.from_numpy(membership(self.regions, self.classes)) if self.regions else None

    @property
    def watched(self) -> list[Sample]:
        """Cases the curve is measured on."""
        return self.val[:: -(-len(self.val) // MOST_WATCHED)] if self.val else self.train[:FEW]


def make_plan(config: RunConfig, cases: Sequence[Case]) -> Plan:
    """Check the data and fill in what was left open.

    Raises
    ------
    InputError
        If the data cannot be trained on; the message says what to change.
    """
    _check_cases(cases, config)
    classes = class_table(cases, config.data)
    notes = [f"{case.name}: {note}" for case in cases for note in case.image.notes]
    samples = [s for s in (prepare(case, classes, config.data) for case in cases) if s.positions]
    left_out = len(cases) - len(samples)
    if left_out and samples:
        notes.append(f"{left_out} of {len(cases)} images hold no label and are left out")
    notes += check_trainable(samples, classes, config.data.regions)
    apart = set(config.data.validation) or split_groups([s.group for s in samples], config.data.val)
    train = [s for s in samples if s.group not in apart]
    val = [s for s in samples if s.group in apart]
    if not any(index > 0 for s in train for index in s.positions):
        # All foreground fell into the few groups kept apart: better to learn from it than to measure on it.
        train, val = samples, []
        notes.append("Too few labelled images to keep some apart: the curve is measured on training images")
    outputs = len(config.data.regions) or len(classes) + 1
    network = config.network.filled(samples[0].image.shape[0], outputs)
    size = config.patch.size or patch_size(train, network, shortest_side(config))
    _check_patch(size, network)
    network = network.for_patch(size)
    notes += notes_on_weights(network)
    batch = config.patch.batch or BATCH[network.dims]
    sequence = config.patch.sequence or _sequence(config, network, batch)
    patch = config.patch.model_copy(update={"size": size, "batch": batch, "sequence": sequence})
    _check_method(config, network, size, train)
    typical = tuple(int(n) for n in np.median([s.target.shape[-network.dims :] for s in train], axis=0))
    notes += warnings(config, Facts(typical, samples[0].image.shape[0], outputs - 1, len(train)))
    optim = config.optim.model_copy(update={"lr": config.optim.lr or LEARNING_RATE[network.dims]})
    loss = _loss(config, classes, train)
    data = config.data if config.data.foreground else config.data.model_copy(update={"classes": classes})
    filled = config.updated(network=network, patch=patch, data=data, optim=optim, loss=loss)
    if network.dims == 2:
        train = in_planes(train, planes_of(config.data))
    return Plan(filled, classes, train, val, notes)


def _loss(config: RunConfig, classes: dict[str, int], train: Sequence[Sample]) -> LossConfig:
    """The loss, with class weights counted in the training set where they were left open."""
    if not needs_shares(config.loss):
        return config.loss
    shares = class_shares(train, len(classes) + 1)
    if config.data.regions:
        return with_shares(
            config.loss, region_shares(shares, membership(config.data.regions, classes)), ONE_REGION
        )
    return with_shares(config.loss, shares)


def _sequence(config: RunConfig, network: NetworkBase, batch: int) -> int:
    """Consecutive slices in a row: half the batch, at least two, where something compares a patient's slices."""
    judge = getattr(config.method, "discriminator", None)
    compared = getattr(judge, "recurrent", False) or getattr(judge, "norm", "") == "patient"
    if network.dims == 3 or not (network.in_sequence or compared):
        return 1
    return min(batch, max(2, batch // 2))


def _check_method(
    config: RunConfig, network: NetworkBase, size: Sequence[int], train: Sequence[Sample]
) -> None:
    """Refuse what a method cannot do with this network and these patients."""
    method = config.method
    if not isinstance(method, SupervisedConfig) and method.adversarial_weight > 0:
        check_discriminator(method.discriminator, size, getattr(method, "roi", None))
    if network.patient_wise and len({s.group for s in train}) < 2:
        raise InputError(
            "patient-wise normalisation",
            f"compares patients, but all training images belong to {train[0].group!r}",
            "Name the patients with a patient pattern (--group), or choose instance normalisation",
        )
    if len(config.data.planes) > 1 or config.data.planes != ("z",):
        if network.dims == 3:
            raise InputError(
                f"data.planes {list(config.data.planes)}",
                "are for 2-D models: a 3-D model sees all planes at once",
                "Choose dims 2, or leave data.planes at [z]",
            )
        if all(s.target.ndim == 2 for s in train):
            raise InputError(
                f"data.planes {list(config.data.planes)}",
                "need volumes, but all images are 2-D",
                "Leave data.planes at [z]",
            )


def _check_patch(size: tuple[int, ...], network: NetworkBase) -> None:
    if len(size) != network.dims:
        raise InputError(
            f"patch.size {size}", f"does not fit a {network.dims}-D network", "Give one number per axis"
        )
    nearest = network.nearest(size)
    if nearest != size:
        raise InputError(
            f"patch.size {size}",
            f"is too small for this {getattr(network, 'kind', 'network')}, whose lowest level is "
            f"{' x '.join(map(str, network.stride))} times smaller",
            f"The nearest that fits is {list(nearest)}; or choose a network with fewer levels",
        )


def _check_cases(cases: Sequence[Case], config: RunConfig) -> None:
    if not cases:
        raise InputError("images", "there are none", "Choose at least one image with labels")
    if all(case.labels is None for case in cases):
        raise InputError("labels", "no image has any", "Paint some labels, or name a folder of label files")
    names = [case.name for case in cases]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise InputError(twice[0], "is the name of two images", "Give every image a name of its own")
    channels = {case.image.channel_array.shape[0] for case in cases}
    if len(channels) > 1:
        raise InputError(
            "images",
            f"have different numbers of channels: {sorted(channels)}",
            "Use images with the same channels",
        )
    for case in cases:
        if 0 in case.image.array.shape:
            raise InputError(case.name, f"is empty: shape {case.image.array.shape}", "Leave it out")
        if config.network.dims == 3 and len(case.image.spatial_shape) == 2:
            raise InputError(case.name, "is a single 2-D image, but the model is 3-D", "Choose dims 2")


def patch_size(samples: Sequence[Sample], network: NetworkBase, shortest: int = 1) -> tuple[int, ...]:
    """Patch that covers a typical image as far as memory and time allow; no side below `shortest`."""
    shapes = np.array([s.target.shape[-network.dims :] for s in samples])
    return automatic_patch(np.median(shapes, axis=0).tolist(), network, shortest)


def resolve_device(config: DeviceConfig) -> DeviceConfig:
    """Accelerator and precision made definite.

    Raises
    ------
    InputError
        If a device is asked for that is not there.
    """
    accelerator = config.accelerator
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if accelerator == "auto":
        accelerator = "cuda" if there["cuda"] else "mps" if there["mps"] else "cpu"
    if not there[accelerator]:
        raise InputError(
            f"device {accelerator}",
            "is not there, or torch cannot use it",
            "Choose auto or cpu; see `ctxseg doctor`",
        )
    precision = config.precision
    if precision == "auto":
        precision = "bf16-mixed" if computes_bfloat16(accelerator) else "32-true"
    threads = config.threads or usable_cores()
    return DeviceConfig(accelerator=accelerator, precision=precision, threads=threads)


def usable_cores() -> int:
    """Cores that this process may use: in a container or under ``taskset`` fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def computes_bfloat16(accelerator: str) -> bool:
    """Whether the device has arithmetic for bfloat16; where it only emulates it, float32 is faster."""
    if accelerator == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if accelerator == "cpu":
        # Torch names these checks as private, and there is no public way to ask.
        checks = [
            getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        ]
        return any(bool(check()) for check in checks if check is not None)
    return False


def device_text(device: DeviceConfig) -> str:
    """What the person reads: ``CUDA: NVIDIA ..., 11.2 GB free`` or ``CPU (2 threads)``."""
    if device.accelerator == "cuda":
        free, _ = torch.cuda.mem_get_info()
        return f"CUDA: {torch.cuda.get_device_name()}, {free / 1e9:.1f} GB free"
    if device.accelerator == "mps":
        return "Apple GPU (MPS)"
    return f"CPU ({device.threads} thread{'s' if device.threads != 1 else ''})"
