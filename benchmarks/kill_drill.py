"""Kill the shipped command at a random moment, resume it, and compare the weights with the uninterrupted run's.

    uv run python benchmarks/kill_drill.py --times 5

Prints one line a drill and fails when a hash differs. SIGKILL: the process has no chance to tidy up.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("CTXSEG_DATA", ROOT / ".." / "shared" / "data")).resolve() / "sunnybrook_lv"


def command(out: Path, steps: int) -> list[str]:
    """A short training on real slices."""
    return [
        *(sys.executable, "-m", "napari_ctxseg.cli", "train", "--out", str(out)),
        *(
            "--images",
            str(DATA / "images" / "SC-HF-I-1_*.tif"),
            "--labels",
            str(DATA / "labels" / "SC-HF-I-1_*.tif"),
        ),
        *("--classes", "LV=1", "--steps", str(steps), "--seed", "0", "--set", "patch.size=[64,64]"),
    ]


def resume(out: Path) -> list[str]:
    """Go on with what is there."""
    return [sys.executable, "-m", "napari_ctxseg.cli", "train", "--out", str(out), "--resume"]


def sha256(run: Path) -> str:
    """Hash of the weights' file."""
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


def steps_logged(run: Path) -> int:
    """Last step in the run's log."""
    log = run / "events.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    return sum('"StepEnd"' in line for line in lines)


def drill(folder: Path, steps: int, rng: random.Random) -> dict[str, object]:
    """Start, kill at a random step, resume until done (being killed now and then), hash."""
    run, kills = folder / f"killed-{rng.random()}", []
    words = command(run, steps)
    while True:
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        begin, target = steps_logged(run), rng.randint(1, steps)
        while process.poll() is None and (len(kills) >= 2 or steps_logged(run) < min(steps, begin + target)):
            time.sleep(0.01)
        if process.poll() is None:
            time.sleep(rng.random() * 0.3)
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills.append(steps_logged(run))
        elif process.returncode == 0:
            break
        elif len(kills) > 2:
            raise SystemExit(f"resume failed with exit code {process.returncode}")
        if any((run / "state").glob("*.safetensors")):
            words = resume(run)
        else:  # killed before the first state was saved: nothing to go on with
            run = folder / f"killed-{rng.random()}"
            words = command(run, steps)
    return {"killed_at": kills, "sha256": sha256(run)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as temp:
        folder = Path(temp)
        subprocess.run(command(folder / "whole", args.steps), check=True, stderr=subprocess.DEVNULL)
        expected = sha256(folder / "whole")
        print(json.dumps({"uninterrupted": expected, "steps": args.steps}), flush=True)
        results = []
        for _ in range(args.times):
            results.append(drill(folder, args.steps, rng))
            print(json.dumps(results[-1] | {"equal": results[-1]["sha256"] == expected}), flush=True)
    if any(result["sha256"] != expected for result in results):
        raise SystemExit("a resumed run differs from the uninterrupted one")


if __name__ == "__main__":
    main()
