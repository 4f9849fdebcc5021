"""Training steps beside other work, by how long a waiting thread spins: `uv run python benchmarks/waiting.py [--save]`.

A step of our U-Net (2-D, 4 x 128 x 128) on two threads, alone and beside one busy process of another session. Each setting
runs in processes of its own, ten seconds each; the median step is told. `ctxseg` sets what `napari_ctxseg.cli.SPINS` says.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "waiting.json"
BUSY = "while True: pass"
#: Name -> environment.
SETTINGS: dict[str, dict[str, str]] = {
    "libgomp's default": {},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
}


def steps(seconds: float) -> float:
    """In a process of its own: the median step."""
    import torch
    from torch.nn import functional

    from napari_ctxseg.networks import make_network

    torch.set_num_threads(2)
    torch.manual_seed(0)
    network = make_network({"kind": "unet", "dims": 2, "in_channels": 1, "out_channels": 2})
    optimiser = torch.optim.AdamW(network.parameters())
    image, target = torch.randn(4, 1, 128, 128), torch.randint(0, 2, (4, 128, 128))
    taken: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(taken) < 3:
        began = time.perf_counter()
        optimiser.zero_grad()
        functional.cross_entropy(network(image), target).backward()
        optimiser.step()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])


def measure(name: str, seconds: float) -> float:
    """Milliseconds of a step with a setting."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    words = [sys.executable, __file__, "--here", str(seconds)]
    done = subprocess.run(words, env=clean | SETTINGS[name], stdout=subprocess.PIPE, text=True, check=True)
    return round(1000 * float(done.stdout), 1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--here", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.here:
        print(steps(args.here))
        return
    rows: dict[str, dict[str, float]] = {name: {} for name in SETTINGS}
    load = round(os.getloadavg()[0], 1)
    for name in SETTINGS:
        rows[name]["alone_ms"] = measure(name, args.seconds)
    busy = subprocess.Popen([sys.executable, "-c", BUSY], start_new_session=True)  # as from another terminal
    try:
        for name in SETTINGS:
            rows[name]["beside_ms"] = measure(name, args.seconds)
    finally:
        busy.kill()
        busy.wait()
    for name, row in rows.items():
        print(f"{name:26} alone {row['alone_ms']:8} ms   beside one busy process {row['beside_ms']:8} ms")
    if args.save:
        machine = f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}"
        RESULTS.write_text(
            json.dumps({"machine": machine, "load_before": load, "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
