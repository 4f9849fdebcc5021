"""What a weighted loss adds to a training step over plain cross-entropy: `uv run python benchmarks/step.py [--save]`.

Real steps (forward, loss, backward, optimiser) of our U-Net on batches of patches: 2-D 4 x 256 x 256 and 3-D 96^3, four
classes. The steps of all losses take turns, and every step of a loss is compared with the plain one just before it. The
time of the weight map alone is given too. Threads: all cores, or `--threads`. Beside other work wall time says little:
`--cpu` takes the processor time of one thread instead, and saves nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from napari_ctxseg.losses import make_loss
from napari_ctxseg.networks import make_network

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = Path(__file__).parent / "results" / "step.json"
BOUND = 0.10
CONTOUR = {"kind": "contour_weighted_ce"}
LOSSES: dict[str, dict] = {
    "weighted_ce": {"kind": "weighted_ce"},
    "balanced_ce": {"kind": "balanced_ce"},
    "focal": {"kind": "focal"},
    "context_ce, static": {"kind": "context_ce", "roi": "static"},
    "context_ce, dynamic": {"kind": "context_ce", "roi": "dynamic"},
    "context_ce, per component": {"kind": "context_ce", "roi": {"kind": "dynamic", "per": "component"}},
    "context_ce, mask": {"kind": "context_ce", "roi": "mask"},
    "dilated_balanced_ce, 5 px": {"kind": "dilated_balanced_ce", "radius": 5},
    "dilated_balanced_ce, 20 px": {"kind": "dilated_balanced_ce", "radius": 20},
    "dilated_balanced_ce, 20 px, per component": {
        "kind": "dilated_balanced_ce", "radius": 20, "per": "component",
    },
    "contour_weighted_ce": CONTOUR,
    "contour_weighted_ce, 6 iterations": CONTOUR | {"contour": {"iterations": 6}},
    "contour_weighted_ce, adapted": CONTOUR | {"contour": {"iterations": 6, "adapt": 0.3}},
    "contour_weighted_ce, soft": CONTOUR | {"contour": {"softness": 2.0}},
    "contour_weighted_ce_dice": {"kind": "contour_weighted_ce_dice"},
    "dice_ce": {"kind": "dice_ce"},
    "distance_weighted_ce": {"kind": "distance_weighted_ce"},
}  # fmt: skip


def batch(dims: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise, and three kinds of structure: a large one, a thin wall around it, small scattered ones."""
    shape, count = ((256, 256), 4) if dims == 2 else ((96, 96, 96), 1)
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(count, 1, *shape, generator=generator)
    target = torch.zeros(count, *shape, dtype=torch.int64)
    grid = torch.meshgrid(*(torch.arange(n) / n for n in shape), indexing="ij")
    for n in range(count):
        centre = 0.4 + 0.2 * torch.rand(dims, generator=generator)
        distance = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)).sqrt()
        target[n][distance < 0.22] = 2
        target[n][distance < 0.2] = 1
        for _ in range(8):
            centre = torch.rand(dims, generator=generator)
            distance = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)).sqrt()
            target[n][(distance < 0.03) & (target[n] == 0)] = 3
    return image, target


def measure(
    dims: int, rounds: int, only: str, clock: Callable[[], float], device: str = "cpu"
) -> dict[str, dict]:
    """Steps and losses by a clock, which must wait for the device."""
    torch.manual_seed(0)
    network = make_network(
        {"kind": "unet", "dims": dims, "in_channels": 1, "out_channels": 4,
         "features": (16, 32, 64, 128, 256)[: 5 if dims == 2 else 4]}
    ).to(device)  # fmt: skip
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    image, target = (part.to(device) for part in batch(dims))
    losses = {name: make_loss(config) for name, config in LOSSES.items() if only in name}
    plain = make_loss("ce")

    def step(loss: torch.nn.Module) -> float:
        began = clock()
        optimiser.zero_grad()
        loss(network(image), target).backward()
        optimiser.step()
        return clock() - began

    def alone(loss: torch.nn.Module) -> float:
        logits = torch.randn(len(target), 4, *target.shape[1:], requires_grad=True, device=device)
        began = clock()
        loss(logits, target).backward()
        return clock() - began

    for loss in (plain, *losses.values()):
        step(loss)
    plain_alone = min(alone(plain) for _ in range(3))
    results: dict[str, dict] = {}
    steps: dict[str, list[tuple[float, float]]] = {name: [] for name in losses}
    for _ in range(rounds):
        for name, loss in losses.items():
            steps[name].append((step(plain), step(loss)))
    base = statistics.median(a for pairs in steps.values() for a, _ in pairs)
    for name, loss in losses.items():
        paired = statistics.median(b - a for a, b in steps[name]) / base
        extra = (min(alone(loss) for _ in range(3)) - plain_alone) / base
        results[name] = {"overhead_of_steps": paired, "overhead_of_loss_alone": extra, "met": extra <= BOUND}
        print(f"{dims}-D {name:45} steps {paired:+7.1%}  loss alone {extra:+7.1%}", flush=True)
    return {"plain_step_seconds": base, "losses": results}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="")
    parser.add_argument("--cpu", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1 if args.cpu else args.threads)
    clock = time.process_time if args.cpu else time.perf_counter
    found = {f"{dims}-D": measure(dims, args.rounds, args.only, clock) for dims in (2, 3)}
    if args.save and not args.cpu:
        machine = {"cpu": platform.processor(), "threads": args.threads, "load_after": os.getloadavg()}
        RESULTS.write_text(json.dumps(machine | {"bound": BOUND, "results": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
