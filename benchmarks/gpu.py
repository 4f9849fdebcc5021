"""Networks, losses and maps on a CUDA GPU: `uv run --with cupy-cuda13x python benchmarks/gpu.py [--save]`.

What `networks.py`, `step.py` and `maps.py` measure on a CPU, on the machine's GPU, in one process with nothing beside it:

- a training step of every network, 2-D 256 x 256 and 3-D 64^3, batch 2, in full precision (cuDNN's convolutions take TF32,
  as torch sets it) and in bfloat16: milliseconds, and the growth of torch's peak of GPU memory from before the network is
  built, beside the estimate of `napari_ctxseg.networks.summary`;
- what each loss adds to a step over plain cross-entropy;
- maps against the GPU's own tools on the same labels, compared voxel by voxel: the dilation by a ball against CuPy's exact
  distance transform (whose memory is not counted), the interior of all classes against max pooling of one-hot masks. Where
  there is no CuPy its part is left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import networks
import step
import torch
from torch.nn import functional

from napari_ctxseg.maps import dilation
from napari_ctxseg.maps.contour import interior
from napari_ctxseg.networks import make_network, patients_of
from napari_ctxseg.networks.summary import summarise

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = Path(__file__).parent / "results" / "gpu.json"
CLASSES = 4
#: Shape of the labels, the batch first, and radii of the ball in voxels.
MAPS = (((2, 128, 128, 128), (3, 8, 20)), ((1, 256, 256, 256), (3, 8, 20)), ((8, 512, 512), (3, 20)))


def clock() -> float:
    """Seconds, when the GPU has done all it was given."""
    torch.cuda.synchronize()
    return time.perf_counter()


def network_step(name: str, dims: int, bf16: bool, steps: int) -> dict[str, Any]:
    """One network: build, warm up, train a few steps."""
    torch.manual_seed(0)
    config = networks.NETWORKS[name] | {"dims": dims, "in_channels": 1, "out_channels": 4}
    estimate = summarise(config, networks.PATCH[dims], networks.BATCH)
    image = torch.randn(networks.BATCH, 1, *networks.PATCH[dims], device="cuda")
    target = torch.randint(0, 4, (networks.BATCH, *networks.PATCH[dims]), device="cuda")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    network = make_network(networks._for(config, dims)).train().cuda()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    seconds = []
    for _ in range(steps + 3):
        began = clock()
        optimiser.zero_grad()
        with (
            torch.autocast("cuda", torch.bfloat16, enabled=bf16),
            patients_of(network, [0] * networks.BATCH if dims == 2 else None),
        ):
            out = network(image)
        heads = out if isinstance(out, tuple) else (out,)
        sum(functional.cross_entropy(head.float(), target) for head in heads).backward()
        optimiser.step()
        seconds.append(clock() - began)
    peak = torch.cuda.max_memory_allocated() - before
    return {
        "network": name, "dims": dims, "precision": "bf16-mixed" if bf16 else "32-true",
        "parameters": estimate.parameters, "ms": round(1000 * statistics.median(seconds[3:]), 2),
        "peak_mb": round(peak / 1e6), "estimate_mb": round(estimate.bytes_training / 1e6),
    }  # fmt: skip


def all_networks(steps: int) -> list[dict[str, Any]]:
    """Every network, in the dimensions it is measured in."""
    rows = []
    for dims in (2, 3):
        for name in networks.NETWORKS:
            if networks.ONLY.get(name, dims) == dims:
                for bf16 in (False, True):
                    rows.append(network_step(name, dims, bf16, steps))
                    print(json.dumps(rows[-1]), flush=True)
    return rows


def labels_of(shape: tuple[int, ...]) -> torch.Tensor:
    """Balls of three classes in background, the first one large."""
    target = torch.zeros(shape, dtype=torch.int64, device="cuda")
    generator = torch.Generator().manual_seed(0)
    grid = torch.meshgrid(*(torch.arange(n, device="cuda") / n for n in shape[1:]), indexing="ij")
    for sample in target:
        for number in range(24):
            centre = torch.rand(len(grid), generator=generator).tolist()
            far = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True))
            sample[far < (0.15 if number == 0 else 0.04) ** 2] = 1 + number % (CLASSES - 1)
    return target


def timed(work: Callable[[], torch.Tensor], repeats: int = 5) -> tuple[torch.Tensor, float, int]:
    """Result, median milliseconds and megabytes of GPU memory at the peak, the result with them."""
    result = work()
    del result
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    seconds = []
    for _ in range(repeats):
        began = clock()
        result = work()
        seconds.append(clock() - began)
    return (
        result,
        1000 * statistics.median(seconds),
        round((torch.cuda.max_memory_allocated() - before) / 1e6),
    )


def by_cupy(target: torch.Tensor, radius: int) -> torch.Tensor:
    """Dilation of every class by CuPy's distance transform."""
    import cupy
    from cupyx.scipy import ndimage

    result = torch.empty((len(target), CLASSES, *target.shape[1:]), dtype=torch.bool, device="cuda")
    for number in range(CLASSES):
        for index, sample in enumerate(target == number):
            far = ndimage.distance_transform_edt(cupy.from_dlpack(~sample), float64_distances=False)
            result[index, number] = torch.from_dlpack(far <= radius + 1e-3)
    return result


def by_pooling(target: torch.Tensor) -> torch.Tensor:
    """What is left of every class after erosion by a 3-wide box, from pooled one-hot masks."""
    masks = torch.stack([target != number for number in range(CLASSES)], 1).half()
    pool = functional.max_pool3d if target.ndim == 4 else functional.max_pool2d
    return (pool(masks, 3, 1, 1) == 0).any(1)


def against(ours: Callable[[], torch.Tensor], peer: Callable[[], torch.Tensor] | None) -> dict[str, Any]:
    """Both on the same labels, compared."""
    result, ms, mb = timed(ours)
    row: dict[str, Any] = {"ms": round(ms, 3), "peak_mb": mb}
    if peer is not None:
        other, other_ms, other_mb = timed(peer)
        row |= {
            "peer_ms": round(other_ms, 3),
            "peer_peak_mb": other_mb,
            "times_faster": round(other_ms / ms, 2),
        }
        row["equal"] = bool(torch.equal(result, other))
    return row


def all_maps() -> list[dict[str, Any]]:
    """Dilation by balls and the interior."""
    try:
        metadata.version("cupy-cuda13x")
        with_cupy = True
    except metadata.PackageNotFoundError:
        with_cupy = False
    rows = []
    for shape, radii in MAPS:
        target, spacing = labels_of(shape), (1.0,) * (len(shape) - 1)
        about = {"labels": shape, "classes": CLASSES}
        for radius in radii:
            ours = partial(dilation.dilate_classes, target, CLASSES, radius, spacing)
            peer = partial(by_cupy, target, radius)
            rows.append(about | {"map": f"ball dilation, r = {radius}", "peer": "cupy EDT"})
            rows[-1] |= against(ours, peer if with_cupy else None)
            rows[-1].pop("peer_peak_mb", None)  # CuPy's memory is its own
            print(json.dumps(rows[-1]), flush=True)
        rows.append(about | {"map": "interior", "peer": "max pooling of one-hot masks"})
        rows[-1] |= against(partial(interior, target, 1), partial(by_pooling, target))
        print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--steps", type=int, default=10)
    args = parser.parse_args()
    found: dict[str, Any] = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "batch": networks.BATCH,
        "patch": {str(d): p for d, p in networks.PATCH.items()},
    }
    parts: dict[str, Callable[[], Any]] = {
        "maps": all_maps,
        "networks": lambda: all_networks(args.steps),
        "losses": lambda: {f"{d}-D": step.measure(d, 9, "", clock, "cuda") for d in (2, 3)},
    }
    for name, work in parts.items():
        found[name] = work()
        if args.save:
            args.results.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
