"""Seconds and memory of a training step of every network: `uv run python benchmarks/networks.py [--save]`.

2-D patches of 256 x 256 and 3-D patches of 64^3, batch 2, one input channel, four classes, cross-entropy, AdamW, float32.
Every network runs in a process of its own: memory is the growth of its peak (``ru_maxrss``) from before the network is
built until after the last step. Beside it stands the estimate of `napari_ctxseg.networks.summary`. The machine's other
work makes seconds longer, so seconds of the processor are given too. ``--only NAME`` measures one.
With ``--save`` cells that are stored already are skipped, unless named.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "networks.json"
PATCH = {2: (256, 256), 3: (64, 64, 64)}
BATCH = 2
NETWORKS: dict[str, dict] = {
    "unet": {"kind": "unet"},
    "unet, nnunet": {"kind": "unet", "preset": "nnunet"},
    "unet, context": {"kind": "unet", "preset": "context"},
    "unet, context_gan": {"kind": "unet", "preset": "context_gan"},
    "unet, contour": {"kind": "unet", "preset": "contour"},
    "resnet34_unet": {"kind": "resnet34_unet"},
    "vnet": {"kind": "vnet"},
    "unetr": {"kind": "unetr"},
    "unetr, paper": {"kind": "unetr", "preset": "paper"},
    "deeplabv3": {"kind": "deeplabv3"},
    "deeplabv3, paper": {"kind": "deeplabv3", "preset": "paper"},
    "recurrent_unet": {"kind": "recurrent_unet"},
}
#: The papers' networks are measured in the dimensions they were made for.
ONLY = {
    "unet, context": 2,
    "unet, context_gan": 2,
    "deeplabv3, paper": 2,
    "unet, contour": 3,
    "unetr, paper": 3,
}


def measure(name: str, dims: int, steps: int, threads: int) -> dict[str, object]:
    """In a process of its own: build, train a few steps, report."""
    import torch
    from torch.nn import functional

    from napari_ctxseg.networks import make_network, patients_of
    from napari_ctxseg.networks.summary import summarise

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    config = NETWORKS[name] | {"dims": dims, "in_channels": 1, "out_channels": 4}
    estimate = summarise(config, PATCH[dims], BATCH)
    functional.cross_entropy(torch.randn(1, 4, 8, requires_grad=True), torch.zeros(1, 8).long()).backward()
    image = torch.randn(BATCH, 1, *PATCH[dims])
    target = torch.randint(0, 4, (BATCH, *PATCH[dims]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    network = make_network(_for(config, dims)).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    wall, processor = [], []
    for _ in range(steps + 1):
        began, began_processor = time.perf_counter(), time.process_time()
        optimiser.zero_grad()
        with patients_of(network, [0] * BATCH if dims == 2 else None):
            out = network(image)
        heads = out if isinstance(out, tuple) else (out,)
        sum(functional.cross_entropy(head, target) for head in heads).backward()
        optimiser.step()
        wall.append(time.perf_counter() - began)
        processor.append(time.process_time() - began_processor)
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    return {
        "network": name,
        "dims": dims,
        "parameters": estimate.parameters,
        "seconds": statistics.median(wall[1:]),
        "processor_seconds": statistics.median(processor[1:]),
        "peak_mb": round(peak / 1e6),
        "estimate_mb": round(estimate.bytes_training / 1e6),
        "estimate_of_peak": round(estimate.bytes_training / peak, 2),
        "load": round(os.getloadavg()[0], 1),
    }


def _for(config: dict, dims: int) -> object:
    from napari_ctxseg.config import parse_network

    return parse_network(config).for_patch(PATCH[dims])


def save(rows: list[dict[str, object]], threads: int) -> None:
    """Write what is known so far."""
    machine = {"cpu": platform.processor(), "threads": threads, "torch": metadata.version("torch")}
    about = {"patch": {str(d): p for d, p in PATCH.items()}, "batch": BATCH, "dtype": "float32"}
    RESULTS.write_text(json.dumps(machine | about | {"rows": rows}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--only", default="", choices=["", *NETWORKS])
    parser.add_argument("--dims", type=int, choices=[2, 3])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--here", action="store_true", help="in this process, as JSON")
    args = parser.parse_args()
    if args.here:
        print(json.dumps(measure(args.only, args.dims, args.steps, args.threads)))
        return
    # A run that was interrupted goes on: cells that are stored are kept, and measured anew only by name.
    rows = json.loads(RESULTS.read_text())["rows"] if args.save and RESULTS.exists() else []
    for dims in [args.dims] if args.dims else (2, 3):
        for name in [args.only] if args.only else NETWORKS:
            if not args.only and ONLY.get(name, dims) != dims:
                continue
            same = [r for r in rows if (r["network"], r["dims"]) == (name, dims)]
            if same and not args.only:
                continue
            rows = [r for r in rows if r not in same]
            words = ["--here", "--only", name, "--dims", str(dims)]
            words += ["--steps", str(args.steps), "--threads", str(args.threads)]
            done = subprocess.run(
                [sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True, check=True
            )
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(json.dumps(rows[-1]), flush=True)
            if args.save:
                save(rows, args.threads)


if __name__ == "__main__":
    main()
