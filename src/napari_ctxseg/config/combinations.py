"""Which models, methods and data go together: known before anything is started, on screen and on the command line.

No torch, no arrays: `Facts` is all that must be known of the data. Whatever is refused here is refused by
`training.plan.make_plan` or by CR-GAN's dealing of folds too, which look at the data themselves; a test compares them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from napari_ctxseg.config.discriminators import check_discriminator
from napari_ctxseg.config.methods import CrGanConfig, SupervisedConfig
from napari_ctxseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ctxseg.config.networks import NetworkBase
    from napari_ctxseg.config.run import RunConfig

#: Voxels of an automatic patch.
MOST_VOXELS = {2: 128 * 128, 3: 96_000}
#: Longest side of an automatic patch.
LONGEST = {2: 128, 3: 96}
#: Patches in a batch.
BATCH = {2: 8, 3: 4}

#: Where several patients come from.
ELSEWHERE = (
    "label images of several patients in a project (Patients... in the tab Project says whose each is); or train on a "
    "folder of patients with `ctxseg train --group`"
)
#: Images below which data are small in the sense of the CR-GAN paper.
MANY = 1000

Section = Literal["dims", "network", "discriminator", "method", "planes"]


@dataclass(frozen=True)
class Facts:
    """What is known of the data.

    Parameters
    ----------
    shape : tuple of int
        Spatial shape of a typical labelled image.
    channels, classes : int
        `classes` without background.
    patients : int
        With labels.
    training : int or None
        Those of them that train, where that is settled already, as in a project; None: the share decides.
    """

    shape: tuple[int, ...]
    channels: int = 1
    classes: int = 1
    patients: int = 1
    training: int | None = None

    def trained_on(self, val: float) -> int:
        """Patients that are left for training when a share is kept apart for validation; see `cases.split_groups`."""
        if self.training is not None:
            return self.training
        if self.patients < 3 or val == 0:
            return self.patients
        return self.patients - min(max(1, round(val * self.patients)), self.patients - 2)


@dataclass(frozen=True)
class Refusal:
    """Why a configuration cannot be trained, and what to do; `section` is the choice that is in the way."""

    section: Section
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.reason}. {self.remedy}."


def shortest_side(config: RunConfig) -> int:
    """Shortest side of a patch that the method's discriminator can judge; 1 without any."""
    method = config.method
    if isinstance(method, SupervisedConfig) or method.adversarial_weight == 0:
        return 1
    return int(method.discriminator.smallest)


def least_patch(network: NetworkBase, shortest: int = 1) -> tuple[int, ...]:
    """Smallest patch that makes sense for a network, no side of it below `shortest`."""
    sides = zip(network.smallest, network.stride, strict=True)
    return tuple(max(least, math.ceil(shortest / stride) * stride) for least, stride in sides)


def automatic_patch(shape: Sequence[float], network: NetworkBase, shortest: int = 1) -> tuple[int, ...]:
    """Patch that covers a typical image as far as memory and time allow, in multiples of the network's stride.

    Parameters
    ----------
    shape : sequence of float
        Sides of the typical image, as many as the network has dimensions.
    network : NetworkBase
    shortest : int
        No side is shorter, see `shortest_side`.
    """
    dims, stride, least = network.dims, network.stride, least_patch(network, shortest)
    size = [
        int(max(least[axis], min(LONGEST[dims], math.ceil(n / stride[axis]) * stride[axis])))
        for axis, n in enumerate(shape)
    ]
    while math.prod(size) > MOST_VOXELS[dims]:
        can = [axis for axis in range(dims) if size[axis] - stride[axis] >= least[axis]]
        if not can:
            break
        longest = max(can, key=lambda axis: size[axis])
        size[longest] -= stride[longest]
    return tuple(size)


def patch_of(config: RunConfig, facts: Facts) -> tuple[int, ...]:
    """The patch that will be trained on: the one asked for, or the automatic one."""
    if config.patch.size is not None:
        return config.patch.size
    shape = facts.shape[-config.network.dims :]
    return automatic_patch(shape, config.network, shortest_side(config))


def filled_network(config: RunConfig, facts: Facts) -> NetworkBase:
    """The network with all that the data decide."""
    network = config.network.filled(facts.channels, facts.classes + 1)
    return network.for_patch(patch_of(config, facts))


def refusals(config: RunConfig, facts: Facts) -> list[Refusal]:
    """Everything that stands in the way of a training, the most general first; empty if nothing does."""
    if config.network.dims == 3 and len(facts.shape) == 2:
        return [Refusal("dims", "A 3-D model needs a volume, and this is a single 2-D image", "Choose 2-D")]
    # A discriminator is asked about a patch only if there can be such a patch.
    found = _patch(config, facts) or _discriminator(config, facts)
    return found + _patients(config, facts) + _planes(config, facts)


def _patch(config: RunConfig, facts: Facts) -> list[Refusal]:
    network, size = config.network, patch_of(config, facts)
    if len(size) != network.dims:
        text = f"The patch {_sides(size)} does not fit a {network.dims}-D network"
        return [Refusal("network", text, "Give one number per axis")]
    nearest = network.nearest(size)
    if nearest == tuple(size):
        return []
    return [
        Refusal(
            "network",
            f"The patch {_sides(size)} is too small for a network whose lowest level is {_sides(network.stride)} "
            "times smaller",
            f"The nearest that fits is {_sides(nearest)}; or choose a network with fewer levels",
        )
    ]


def _discriminator(config: RunConfig, facts: Facts) -> list[Refusal]:
    method = config.method
    if isinstance(method, SupervisedConfig) or shortest_side(config) == 1:
        return []
    try:
        check_discriminator(method.discriminator, patch_of(config, facts), getattr(method, "roi", None))
    except InputError as error:
        return [Refusal("discriminator", f"The {error.subject} {error.reason}", error.remedy)]
    return []


def _patients(config: RunConfig, facts: Facts) -> list[Refusal]:
    count, method, found = facts.trained_on(config.data.val), config.method, []
    if config.network.patient_wise and count < 2:
        found.append(
            Refusal(
                "network",
                "Patient-wise normalisation compares patients, and there is only one to train on",
                f"Choose instance normalisation, or {ELSEWHERE}",
            )
        )
    if not isinstance(method, CrGanConfig):
        return found
    if count < 2:
        found.append(
            Refusal(
                "method",
                "CR-GAN's second stage learns from errors on patients that the first stage has not seen, and there is "
                "only one patient",
                f"Choose cgan; or {ELSEWHERE}, and take that run to predict with",
            )
        )
    elif count < method.refine.folds:
        text = f"{method.refine.folds} folds need as many patients, but {count} are trained on"
        found.append(Refusal("method", text, f"Set the folds to {count}"))
    return found


def _planes(config: RunConfig, facts: Facts) -> list[Refusal]:
    if config.data.planes == ("z",):
        return []
    text = f"The planes {', '.join(config.data.planes)}"
    if config.network.dims == 3:
        return [
            Refusal("planes", f"{text} are for 2-D models: a 3-D model sees all planes at once", "Choose 2-D")
        ]
    if len(facts.shape) == 2:
        return [Refusal("planes", f"{text} need a volume, and this is a 2-D image", "Leave the planes at z")]
    return []


def warnings(config: RunConfig, facts: Facts) -> list[str]:
    """What can be trained, but is likely to disappoint."""
    found = []
    noise = getattr(config.method, "noise", 0.0)
    if noise > 0 and facts.patients < MANY:
        many = f"{facts.patients} image{'s' if facts.patients > 1 else ''}"
        found.append(
            f"A noise channel on {many}: the CR-GAN paper found it harmful on small data, and of no use on large. 0 leaves "
            "it out."
        )
    sides = facts.shape[-config.network.dims :]
    least = least_patch(config.network, shortest_side(config))
    if any(2 * n <= m for n, m in zip(sides, least, strict=False)):
        found.append(
            f"The image ({_sides(sides)}) is much smaller than the smallest patch of this model and method "
            f"({_sides(least)}): most of what they see will be padding. Choose a network with fewer levels, or another "
            "discriminator."
        )
    return found


def stages(method: Any) -> str:
    """What a training consists of, for methods of several stages; else empty."""
    if not isinstance(method, CrGanConfig):
        return ""
    refine = method.refine
    first = "the first stage, " if refine.base is None else ""
    last = ", then both together" if refine.joint else ""
    return f"Trains {first}the first stage again for each of {refine.folds} folds, and the refinement{last}."


def _sides(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))
