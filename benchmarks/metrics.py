"""All surface measures of one class in a 256^3 volume against MONAI's HD95 alone: `uv run python benchmarks/metrics.py`.

Ours is the whole call of `evaluate_case` from label arrays: masks, bounding box, counts, and Hausdorff, HD95, average and
maximum symmetric surface distance and surface Dice. MONAI's is `compute_hausdorff_distance(percentile=95)` from one-hot
masks that are made before the clock starts. Both take turns in one process on one thread; the ratio of the medians is
printed and has to be at most 1. The two HD95 are compared in the same run. Results go to ``results/metrics.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
import warnings
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results" / "metrics.json"
SIDE = 256


def ball(centre: tuple[int, ...], radius: float) -> np.ndarray:
    """A ball in the volume."""
    axes = np.ogrid[tuple(slice(SIDE) for _ in centre)]
    return (sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) <= radius**2).astype(np.uint8)


def vessels(seed: int, shift: float) -> np.ndarray:
    """A smooth random sheet, 3 % of the volume, with a boundary of a million voxels."""
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=(SIDE,) * 3).astype(np.float32), 6)
    return (np.abs(field / field.std() - shift) < 0.04).astype(np.uint8)


def pairs() -> dict[str, tuple[np.ndarray, np.ndarray, tuple[float, ...]]]:
    """Name -> prediction, reference, spacing."""
    one, two = ball((124, 128, 128), 100), ball((130, 128, 128), 98)
    return {
        "two large balls": (one, two, (1.0, 1.0, 1.0)),
        "two large balls, spacing 3 x 1 x 1": (one, two, (3.0, 1.0, 1.0)),
        "two small balls far apart": (ball((50, 50, 50), 25), ball((200, 200, 200), 25), (1.0, 1.0, 1.0)),
        "a large ball and a distant speck": (one, ball((10, 10, 10), 3), (1.0, 1.0, 1.0)),
        "convoluted sheets": (vessels(0, 0.0), vessels(0, 0.05), (1.0, 1.0, 1.0)),
    }


def measured(repeats: int) -> dict[str, dict[str, float]]:
    import torch
    from monai.metrics import compute_hausdorff_distance

    from napari_ctxseg.evaluation.metrics import GROUPS, evaluate_case

    torch.set_num_threads(1)
    rows = {}
    for name, (a, b, spacing) in pairs().items():
        masks = [torch.from_numpy(m)[None, None] for m in (a, b)]
        seconds: dict[str, list[float]] = {"ours": [], "monai": []}
        for _ in range(repeats):
            began = time.perf_counter()
            ours = evaluate_case(a, b, {"x": 1}, spacing, measures=GROUPS["surface"])["x"].values["hd95"]
            seconds["ours"].append(time.perf_counter() - began)
            began = time.perf_counter()
            theirs = compute_hausdorff_distance(
                *masks, include_background=True, percentile=95, spacing=list(spacing)
            )
            seconds["monai"].append(time.perf_counter() - began)
        if ours is None or abs(ours - float(theirs)) > 1e-4 * float(theirs):
            raise SystemExit(f"{name}: HD95 is {ours}, MONAI's {float(theirs)}")
        medians = {key: statistics.median(times) for key, times in seconds.items()}
        row = {
            "ours_all_surface_measures_s": round(medians["ours"], 3),
            "monai_hd95_s": round(medians["monai"], 3),
            "ratio": round(medians["ours"] / medians["monai"], 3),
            "hd95": round(ours, 4),
        }
        rows[name] = row
        print(f"{name:40} ours {row['ours_all_surface_measures_s']:6.3f} s, MONAI {row['monai_hd95_s']:6.3f} s, "
              f"ratio {row['ratio']:.2f}", flush=True)  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = measured(args.repeats)
    import monai

    record = {
        "command": "uv run python benchmarks/metrics.py",
        "repeats": args.repeats,
        "threads": 1,
        "cases": rows,
        "cpu": platform.processor(),
        "cores": os.cpu_count(),
        "monai": monai.__version__,
        "numpy": np.__version__,
    }
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")
    worst = max(row["ratio"] for row in rows.values())
    print(f"all surface measures of ours / HD95 of MONAI, worst of {len(rows)}: {worst:.2f} (limit 1)")
    raise SystemExit(worst > 1)


if __name__ == "__main__":
    main()
