"""Every loss and method of the papers on the same data, network, patches and budget, several seeds.

    uv run python benchmarks/methods.py sunnybrook --seeds 0 1 2            # all rows, 600 generator steps
    uv run python benchmarks/methods.py sunnybrook --seeds 0 --steps 2400 --rows main
    uv run python benchmarks/methods.py hippocampus --seeds 0 --rows main
    uv run python benchmarks/methods.py --table                             # writes results/methods.md

Patients are apart: training sees three of `sunnybrook_lv` (40 cases of `msd_hippocampus`), the others are only predicted.
Each cell is appended to ``results/methods.json`` as soon as it ends; one that is there is skipped, so the table grows over
several calls. The steps of a row with refinement cover all its stages: the first one, its folds and the second one.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from quality import DATA, ctxseg, listing, processor, split

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "methods.json"
STEPS = 600

#: A roi for 128 x 128 patches of a heart of about 40 px, and for the hippocampus (patches of about 40).
STATIC, DYNAMIC = "{kind: static, size: 64}", "{kind: dynamic, margin: 4}"
MASK = "{kind: mask, radius: 10, unit: px}"
CONTEXT = ["--loss", "context_ce", "--set"]
#: Row -> options of `ctxseg train`.
ROWS: dict[str, list[str]] = {
    "U-Net, CE": ["--loss", "ce"],
    "weighted CE": ["--loss", "weighted_ce"],
    "Dice": ["--loss", "dice"],
    "focal": ["--loss", "focal"],
    "context CE, static": [*CONTEXT, f"loss.roi={STATIC}"],
    "context CE, dynamic": [*CONTEXT, f"loss.roi={DYNAMIC}"],
    "context CE, mask": [*CONTEXT, f"loss.roi={MASK}"],
    "GAN": ["--loss", "ce", "--method", "gan"],
    "Seg-GLGAN, static": ["--loss", "ce", "--method", "seg_glgan", "--set", f"method.roi={STATIC}"],
    "Seg-GLGAN, dynamic": ["--loss", "ce", "--method", "seg_glgan", "--set", f"method.roi={DYNAMIC}"],
    "Seg-GLGAN, dynamic, context CE": [
        *CONTEXT, f"loss.roi={DYNAMIC}", "--method", "seg_glgan", "--set", f"method.roi={DYNAMIC}",
    ],
    "cGAN": ["--loss", "ce", "--method", "cgan"],
    "recurrent cGAN": ["--loss", "ce", "--method", "cgan", "--model", "recurrent_unet"],
    "CE + refinement": ["--loss", "ce", "--method", "cr_gan", "--set", "method.adversarial_weight=0"],
    "CR-GAN (cGAN + refinement)": ["--loss", "ce", "--method", "cr_gan"],
    "balanced CE": ["--loss", "balanced_ce"],
    "Dice + CE": ["--loss", "dice_ce"],
    "dilated balanced CE": ["--loss", "dilated_balanced_ce", "--set", "loss.radius=8", "--set", "loss.unit=px"],
    "generalized Dice": ["--loss", "generalized_dice"],
    "distance-weighted CE": ["--loss", "distance_weighted_ce"],
    "contour-weighted CE": ["--loss", "contour_weighted_ce"],
    "separable Dice": ["--loss", "separable_dice"],
    "contour-weighted CE + separable Dice": ["--loss", "contour_weighted_ce_dice"],
}  # fmt: skip
#: One of each paper, and what they are measured against.
MAIN = (
    "U-Net, CE", "Dice + CE", "Seg-GLGAN, dynamic, context CE", "CR-GAN (cGAN + refinement)",
    "dilated balanced CE", "contour-weighted CE + separable Dice",
)  # fmt: skip
SETS = {
    "sunnybrook": ["--dims", "2", "--classes", "LV=1", "--set", "patch.size=[128,128]", "--set", "patch.batch=4"],
    "hippocampus": ["--dims", "3", "--classes", "anterior=1,posterior=2"],
}  # fmt: skip
MEASURES = ("dice", "hd95", "precision", "recall")


def one(name: str, row: str, seed: int, steps: int) -> dict[str, Any]:
    """Train, predict and evaluate once, through the shipped command line."""
    train, test = split(name)
    options = [*SETS[name], *ROWS[row], "--steps", str(steps), "--seed", str(seed)]
    if name == "sunnybrook":
        options += ["--group", r"SC-HF-I-\d+"]
    with tempfile.TemporaryDirectory() as temp:
        folder = Path(temp)
        images = listing(folder / "train.txt", train, "images")
        labels = listing(folder / "train-labels.txt", train, "labels")
        # No images are kept from training: every row has the same steps and keeps its last weights.
        # One thread, so that cells may be made side by side: two threads each would wait for one another most of the time.
        # Full precision, because `auto` is bfloat16 on some processors: cells of several machines stand in one table.
        fixed = ["--set", "data.val=0", "--set", f"budget.val_every={steps}"]
        fixed += ["--set", "device.threads=1", "--set", "device.precision=32-true"]
        began = time.monotonic()
        words = [
            "train",
            "--images",
            images,
            "--labels",
            labels,
            *options,
            *fixed,
            "--out",
            str(folder / "run"),
        ]
        events = [json.loads(line) for line in ctxseg(*words, "--json").splitlines()]
        seconds = time.monotonic() - began
        unseen = listing(folder / "test.txt", test, "images")
        ctxseg("predict", str(folder / "run"), unseen, "--out", str(folder / "pred"), "--threads", "1")
        reference = listing(folder / "test-labels.txt", test, "labels")
        scores = json.loads(ctxseg("evaluate", "--pred", str(folder / "pred"), "--ref", reference, "--json"))
    finished = next(event for event in events if event["type"] == "RunFinished")
    started = next(event for event in events if event["type"] == "RunStarted")
    return {
        "set": name, "row": row, "seed": seed, "steps": steps,
        "command": " ".join(["ctxseg train --images @LIST --labels @LIST", *options, *fixed]),
        **{measure: scores["mean"][measure] for measure in MEASURES},
        "classes": scores["classes"],
        "cases": len(scores["cases"]),
        "train_seconds": round(seconds, 1),
        "steps_done": finished["step"], "skipped": finished["skipped"],
        "notes": [event["text"] for event in events if event["type"] == "Note" and event["level"] == "warning"],
        "device": started["device"], "cpu": processor(), "cores": len(os.sched_getaffinity(0)), "torch": torch.__version__,
    }  # fmt: skip


def stored(results: Path) -> list[dict[str, Any]]:
    """Cells so far."""
    cells: list[dict[str, Any]] = json.loads(results.read_text()) if results.exists() else []
    return cells


def add(cell: dict[str, Any], results: Path) -> None:
    """Append a cell; other processes may be adding theirs."""
    with results.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fresh = results.with_suffix(".new")
        fresh.write_text(json.dumps([*stored(results), cell], indent=1) + "\n")
        fresh.replace(results)


def spread(values: list[float], digits: int = 3) -> str:
    """Mean, and the spread where there are several."""
    known = [v for v in values if v is not None]
    if not known:
        return "n/a"
    text = f"{mean(known):.{digits}f}"
    return text + (f" ± {stdev(known):.{digits}f}" if len(known) > 1 else "")


def table(cells: list[dict[str, Any]]) -> str:
    """All cells as Markdown, a table for each data set and budget."""
    text = ["# Losses and methods on the same footing", ""]
    text += [
        "Made by `uv run python benchmarks/methods.py --table`; cells by the commands in `methods.py`.",
        "",
    ]
    kinds = sorted({(c["set"], c["steps"]) for c in cells}, key=lambda k: (k[0] != "sunnybrook", k[1]))
    for name, steps in kinds:
        text += [
            f"## {name}, {steps} steps",
            "",
            "| row | seeds | Dice | HD95 | precision | recall | seconds |",
        ]
        text.append("|---|---|---|---|---|---|---|")
        for row in ROWS:
            own = [c for c in cells if (c["set"], c["steps"], c["row"]) == (name, steps, row)]
            if own:
                columns = [spread([c[m] for c in own], 1 if m == "hd95" else 3) for m in MEASURES]
                seconds = f"{mean(c['train_seconds'] for c in own):.0f}"
                text.append(f"| {row} | {len(own)} | {' | '.join(columns)} | {seconds} |")
        text.append("")
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("set", choices=sorted(SETS), nargs="?")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--rows", default="all", help="all, main, a row, or part of several rows' names")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="file of the cells; a GPU's have their own"
    )
    parser.add_argument("--table", action="store_true", help="write the table and end")
    args = parser.parse_args()
    if args.table or args.set is None:
        args.results.with_suffix(".md").write_text(table(stored(args.results)))
        print(args.results.with_suffix(".md").read_text())
        return
    if not DATA.is_dir():
        sys.exit(f"no data at {DATA}: set CTXSEG_DATA")
    rows = [r for r in ROWS if args.rows == "all" or args.rows in r]
    if args.rows == "main":
        rows = list(MAIN)
    elif args.rows in ROWS:
        rows = [args.rows]
    for seed in args.seeds:
        for row in rows:
            key = (args.set, row, seed, args.steps)
            if key in {(c["set"], c["row"], c["seed"], c["steps"]) for c in stored(args.results)}:
                continue
            try:
                cell = one(*key)
            except subprocess.CalledProcessError as error:
                print(f"{args.set} {row}, seed {seed}: {error}", flush=True)
                continue
            add(cell, args.results)
            print(
                f"{args.set} {row}, seed {seed}: Dice {cell['dice']:.3f}, {cell['train_seconds']} s",
                flush=True,
            )
    args.results.with_suffix(".md").write_text(table(stored(args.results)))


if __name__ == "__main__":
    main()
