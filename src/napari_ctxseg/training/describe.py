"""What a training will need, before it is started: weights counted, memory estimated, nothing allocated."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from napari_ctxseg.config import (
    ContextDiscriminatorConfig,
    CrGanConfig,
    PlainDiscriminatorConfig,
    SupervisedConfig,
)
from napari_ctxseg.config.combinations import BATCH, filled_network, patch_of, refusals
from napari_ctxseg.events import Described
from napari_ctxseg.networks.discriminators import make_discriminator
from napari_ctxseg.networks.summary import COPIES, kept_bytes, summarise
from napari_ctxseg.training.plan import resolve_device

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ctxseg.config import NetworkBase, RunConfig
    from napari_ctxseg.config.combinations import Facts


def describe(config: RunConfig, facts: Facts, request: int = 0) -> Described:
    """Weights, patch, batch and memory of a training on such data.

    Parameters
    ----------
    config : RunConfig
    facts : Facts
        What is known of the data.
    request : int
        Number that the answer carries.

    Returns
    -------
    Described
        With `problem` set, and nothing else, where the combination cannot be trained.
    """
    if refused := refusals(config, facts):
        return Described(request, problem=str(refused[0]))
    size, batch = patch_of(config, facts), config.patch.batch or BATCH[config.network.dims]
    device = resolve_device(config.device)
    half = device.precision == "bf16-mixed"
    method, network = config.method, filled_network(config, facts)
    noise = getattr(method, "noise", 0.0)
    first = _of_network(network, size, batch, noise)
    judge = _of_discriminator(config, facts, size, batch)
    parts = [first.bytes(half) + judge.bytes(half)]
    parameters = first.parameters
    if isinstance(method, CrGanConfig):
        outputs = facts.classes + 1
        second = method.refine.network.model_copy(update={"dims": network.dims})
        second = second.filled(facts.channels + 2 * outputs, 2 * outputs).for_patch(size)
        refined = _of_network(second, size, batch)
        parameters += refined.parameters
        parts.append(
            refined.bytes(half) + 4 * first.parameters
        )  # the first stage stays loaded, without gradients
    return Described(
        request,
        parameters=parameters,
        discriminator=judge.parameters,
        memory=max(parts),
        free=free_memory(str(device.accelerator)),
        patch=tuple(size),
        batch=batch,
    )


def free_memory(accelerator: str) -> int | None:
    """Bytes that are free on the device, None where nobody can say."""
    if accelerator == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    try:  # what Linux can give at once, its caches included
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, ValueError, StopIteration):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


@dataclass(frozen=True)
class Needs:
    """Weights of a network, and the bytes that its activations take in a training step in float32."""

    parameters: int = 0
    activations: int = 0

    def bytes(self, half: bool) -> int:
        """Memory of a training step; activations take half of it in mixed precision."""
        return 4 * COPIES * self.parameters + (self.activations // 2 if half else self.activations)


def _of_network(network: NetworkBase, size: Sequence[int], batch: int, noise: float = 0.0) -> Needs:
    more = network.model_copy(update={"in_channels": (network.in_channels or 0) + (noise > 0)})
    found = summarise(more, size, batch)
    return Needs(found.parameters, found.bytes_kept + found.bytes_passing)


def _of_discriminator(config: RunConfig, facts: Facts, size: Sequence[int], batch: int) -> Needs:
    method = config.method
    if isinstance(method, SupervisedConfig) or method.adversarial_weight == 0:
        return Needs()
    judge: Any = method.discriminator
    roi = getattr(method, "roi", None)
    masks = facts.classes + 1
    with torch.device("meta"):
        module = make_discriminator(judge, config.network.dims, masks, facts.channels, size, roi)
        mask, image = torch.empty(batch, masks, *size), torch.empty(batch, facts.channels, *size)
        plain = module
        if isinstance(
            judge, ContextDiscriminatorConfig
        ):  # its regions come from labels, of which there are none here
            plain = make_discriminator(
                PlainDiscriminatorConfig(), config.network.dims, masks, facts.channels, size
            )
    _, kept = kept_bytes(plain, lambda: plain(mask, image))
    # It judges labels and predictions in one step; a local branch keeps no more than the one that sees all.
    times = 4 if plain is not module else 2
    return Needs(sum(p.numel() for p in module.parameters()), times * kept)
