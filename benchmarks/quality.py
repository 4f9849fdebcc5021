"""The two quality claims of the main job, from the shipped command line: train, predict, evaluate, several seeds.

    uv run python benchmarks/quality.py sunnybrook --seeds 0 1 2
    uv run python benchmarks/quality.py hippocampus --seeds 0 1 2

Every run is appended to ``benchmarks/results/quality.json`` as soon as it ends; a cell that is there is skipped. The test
patients are only ever predicted. `--leave-out` measures inside the training patients instead: that is how defaults are
chosen (``benchmarks/results/defaults.md``).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("CTXSEG_DATA", ROOT / ".." / "shared" / "data")).resolve()
RESULTS = ROOT / "benchmarks" / "results" / "quality.json"

#: Data set -> minutes, options of `train`.
SETS = {
    "sunnybrook": (6.0, ["--dims", "2", "--classes", "LV=1"]),
    "hippocampus": (10.0, ["--dims", "3", "--classes", "anterior=1,posterior=2"]),
}


def split(name: str) -> tuple[list[Path], list[Path]]:
    """Training and test images as the data's README says."""
    if name == "sunnybrook":
        files = sorted((DATA / "sunnybrook_lv" / "images").glob("*.tif"))
        train = [f for f in files if f.name.split("_")[0] in ("SC-HF-I-1", "SC-HF-I-2", "SC-HF-I-4")]
        return train, [f for f in files if f not in train]
    files = sorted((DATA / "msd_hippocampus" / "images").glob("*.nii.gz"))
    return files[:40], files[40:]


def leave_out(name: str, fold: int) -> tuple[list[Path], list[Path]]:
    """One fold of the training images, patients whole; the test images are not touched."""
    train, _ = split(name)
    if name == "sunnybrook":
        patient = ("SC-HF-I-1", "SC-HF-I-2", "SC-HF-I-4")[fold]
        held = [f for f in train if f.name.startswith(f"{patient}_")]
    else:
        held = train[fold::4]
    return [f for f in train if f not in held], held


def listing(path: Path, files: list[Path], folder: str) -> str:
    """Write an ``@list`` of images or of their labels."""
    path.write_text("".join(f"{file.parent.parent / folder / file.name}\n" for file in files))
    return f"@{path}"


def ctxseg(*words: str) -> str:
    """Run the shipped command and return what it printed."""
    command = [sys.executable, "-m", "napari_ctxseg.cli", *words]
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def one(name: str, seed: int, fold: int | None, minutes: float, extra: list[str]) -> dict[str, object]:
    """Train, predict and evaluate once."""
    train, test = split(name) if fold is None else leave_out(name, fold)
    options = [*SETS[name][1], "--minutes", str(minutes), "--seed", str(seed), *extra]
    with tempfile.TemporaryDirectory() as temp:
        folder = Path(temp)
        images = listing(folder / "train.txt", train, "images")
        labels = listing(folder / "train-labels.txt", train, "labels")
        began = time.monotonic()
        words = [
            "train",
            "--images",
            images,
            "--labels",
            labels,
            *options,
            "--out",
            str(folder / "run"),
            "--json",
        ]
        events = [json.loads(line) for line in ctxseg(*words).splitlines()]
        seconds = time.monotonic() - began
        unseen = listing(folder / "test.txt", test, "images")
        ctxseg("predict", str(folder / "run"), unseen, "--out", str(folder / "pred"))
        reference = listing(folder / "test-labels.txt", test, "labels")
        scores = json.loads(ctxseg("evaluate", "--pred", str(folder / "pred"), "--ref", reference, "--json"))
    values = [
        c["dice"] for case in scores["cases"] for c in case["classes"].values() if c["dice"] is not None
    ]
    mean = sum(values) / len(values)
    finished = next(event for event in events if event["type"] == "RunFinished")
    return {
        "set": name,
        "seed": seed,
        "fold": fold,
        "command": " ".join(["ctxseg train --images @LIST --labels @LIST", *options]),
        "dice": round(scores["mean"]["dice"], 4),
        "classes": {n: round(row["dice"], 4) for n, row in scores["classes"].items()},
        "hd95": scores["mean"]["hd95"],
        "spread_over_cases": round((sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5, 4),
        "cases": len(scores["cases"]),
        "train_seconds": round(seconds, 1),
        "steps": finished["step"],
        "kept_step": finished["best_step"],
        "skipped": finished["skipped"],
        "cpu": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "torch": torch.__version__,
    }


def stored() -> list[dict[str, object]]:
    """Results so far."""
    results: list[dict[str, object]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    return results


def processor() -> str:
    """Name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--leave-out", type=int, nargs="*", metavar="FOLD", help="folds inside the training patients"
    )
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--set", dest="fields", action="append", default=[], metavar="a.b=v")
    args = parser.parse_args()
    minutes = args.minutes or SETS[args.set][0]
    extra = [word for field in args.fields for word in ("--set", field)]
    done = stored()
    for fold in [None] if args.leave_out is None else args.leave_out:
        for seed in args.seeds:
            options = [*SETS[args.set][1], "--minutes", str(minutes), "--seed", str(seed), *extra]
            command = " ".join(["ctxseg train --images @LIST --labels @LIST", *options])
            if any(r["command"] == command and r["fold"] == fold for r in done):
                continue
            result = one(args.set, seed, fold, minutes, extra)
            done = [*stored(), result]  # another lane may have added its own meanwhile
            RESULTS.write_text(json.dumps(done, indent=1) + "\n")
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
