"""Refuse a training that this machine's memory cannot hold: the system would end the process, and with it a whole queue."""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import TYPE_CHECKING

import psutil

from napari_ctxseg.errors import InputError
from napari_ctxseg.networks.summary import COPIES, summarise

if TYPE_CHECKING:
    from napari_ctxseg.config import RunConfig

#: Voxels of a batch up to which no network of ours comes near any machine's memory: not looked at.
FEW = 1 << 17
#: A step holds at least this share of its estimate, see `benchmarks/results/networks.json` and ``gpu.json``.
LEAST = 0.8


def check_memory(config: RunConfig) -> None:
    """Look at the network's own needs on the CPU before anything is built; a GPU says itself what does not fit.

    Raises
    ------
    InputError
        If all memory of the machine, swap included, is less than a step takes at the least.
    """
    size, batch = config.patch.size, config.patch.batch
    if config.device.accelerator != "cpu" or size is None or batch is None or math.prod(size) * batch <= FEW:
        return
    there = psutil.virtual_memory().total + psutil.swap_memory().total
    needed = least_bytes(config, batch)
    if needed <= there:
        return
    fits = bisect_right(range(1, batch), there, key=lambda n: least_bytes(config, n))
    raise InputError(
        f"patch.size {list(size)} with patch.batch {batch}",
        f"takes {needed / 1e9:.0f} GB of memory or more in training, and this machine has {there / 1e9:.0f} GB",
        f"The largest batch that may fit is {fits}" if fits else "Choose a smaller patch or network",
    )


def least_bytes(config: RunConfig, batch: int) -> int:
    """Memory that a step takes at the least; activations take half in mixed precision."""
    found = summarise(config.network, config.patch.size or (), batch)
    activations = found.bytes_kept + found.bytes_passing
    half = config.device.precision == "bf16-mixed"
    return int(LEAST * (4 * COPIES * found.parameters + (activations // 2 if half else activations)))
