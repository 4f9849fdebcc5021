"""What the second stage of CR-GAN does to the first, on patients neither has seen.

    uv run python benchmarks/refinement.py --seeds 0 1 2 [--steps 1500] [--first ce|cgan]

Trains `cr_gan` on three patients of `sunnybrook_lv` (steps cover the first stage, folds and the second stage), predicts
the other two, and compares refined labels with the first stage's own: Dice, and shares of false negatives (of the true
foreground) and false positives (of the predicted foreground). One cell a seed is appended to ``results/refinement.json``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from quality import processor, split

from napari_ctxseg import dataset
from napari_ctxseg.config import DataConfig, parse_config
from napari_ctxseg.events import Note, PredictionBlock
from napari_ctxseg.inference import load_model, predict
from napari_ctxseg.training import fit

RESULTS = Path(__file__).resolve().parent / "results" / "refinement.json"


def cases_of(files: list[Path]) -> tuple[list[Any], DataConfig]:
    """Images and labels of some files."""
    data = DataConfig(
        images=[str(f) for f in files],
        labels=[str(f.parent.parent / "labels" / f.name) for f in files],
        group=r"SC-HF-I-\d+",
        classes={"LV": 1},
        # Three patients: all are trained on, and the thresholds stay at one half.
        val=0.0,
    )
    return dataset.training_cases(data), data


def rates(found: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Dice, false negatives and false positives of all test pixels together."""
    both = float((found & truth).sum())
    return {
        "dice": 2 * both / max(1.0, float(found.sum() + truth.sum())),
        "fn": 1 - both / max(1.0, float(truth.sum())),
        "fp": 1 - both / max(1.0, float(found.sum())),
    }


def one(seed: int, steps: int, first: str) -> dict[str, Any]:
    """Train once and compare the stages on the test patients."""
    train, test = split("sunnybrook")
    cases, data = cases_of(train)
    method = {"kind": "cr_gan"} | ({"adversarial_weight": 0.0} if first == "ce" else {})
    config = parse_config(
        {
            "data": data.model_dump(), "loss": "ce", "method": method, "seed": seed,
            "patch": {"size": (128, 128), "batch": 4}, "budget": {"steps": steps},
            # As `methods.py`: cells may be made side by side, and `auto` is bfloat16 on some processors.
            "device": {"threads": 1, "precision": "32-true"},
        }
    )  # fmt: skip
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temp:
        run = Path(temp) / "run"
        notes = [e.text for e in fit(config, cases, run) if isinstance(e, Note)]
        seconds = time.monotonic() - began
        model = load_model(run)
        unseen, _ = cases_of(test)
        before, after, truth = [], [], []
        for case in unseen:
            (block,) = [e for e in predict(model, case) if isinstance(e, PredictionBlock)]
            assert block.probabilities is not None
            before.append(block.probabilities.argmax(axis=0) > 0)
            after.append(block.labels > 0)
            truth.append(np.asarray(case.labels) == 1)
    slices = {
        name: mean(rates(a, t)["dice"] for a, t in zip(masks, truth, strict=True))
        for name, masks in (("before", before), ("after", after))
    }
    return {
        "seed": seed, "steps": steps, "first": first, "seconds": round(seconds, 1), "cpu": processor(),
        "before": rates(np.stack(before), np.stack(truth)), "after": rates(np.stack(after), np.stack(truth)),
        "mean_slice_dice": slices, "slices": len(truth), "notes": notes,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--first", choices=["ce", "cgan"], default="ce")
    args = parser.parse_args()
    for seed in args.seeds:
        known = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
        if any((c["seed"], c["steps"], c["first"]) == (seed, args.steps, args.first) for c in known):
            continue
        cell = one(seed, args.steps, args.first)
        RESULTS.write_text(json.dumps([*known, cell], indent=1) + "\n")
        print(
            json.dumps({k: cell[k] for k in ("seed", "before", "after", "mean_slice_dice", "seconds")}),
            flush=True,
        )


if __name__ == "__main__":
    main()
