"""What the second stage of CR-GAN does to the first, on patients neither has seen.

    uv run python benchmarks/refinement.py sunnybrook --seeds 0 1 2 [--steps 3000] [--first ce|cgan]
    uv run python benchmarks/refinement.py hippocampus --seeds 0

Trains `cr_gan` (steps cover the first stage, folds and the second stage), predicts the test patients, and compares refined
labels with the first stage's own: Dice, and shares of false negatives (of the true foreground) and false positives (of the
predicted foreground), means over the classes. `sunnybrook_lv` has three patients to learn from: none is kept to fit the
thresholds, which stay at one half. Of the 40 of `msd_hippocampus` a fifth is. One cell a seed is appended to
``results/refinement.json``.
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


#: Set -> data, patch and further settings of a run.
SETS: dict[str, dict[str, Any]] = {
    "sunnybrook": {
        "data": {"group": r"SC-HF-I-\d+", "classes": {"LV": 1}, "val": 0.0},
        "patch": {"size": (128, 128), "batch": 4},
        "network": {"kind": "unet", "dims": 2},
    },
    "hippocampus": {
        "data": {"classes": {"anterior": 1, "posterior": 2}, "val": 0.2},
        "network": {"kind": "unet", "dims": 3},
    },
}


def cases_of(name: str, files: list[Path]) -> tuple[list[Any], DataConfig]:
    """Images and labels of some files."""
    data = DataConfig(
        images=[str(f) for f in files],
        labels=[str(f.parent.parent / "labels" / f.name) for f in files],
        **SETS[name]["data"],
    )
    return dataset.training_cases(data), data


def rates(found: list[np.ndarray], truth: list[np.ndarray], classes: int) -> dict[str, float]:
    """Dice, false negatives and false positives of all test pixels together, means over the classes."""
    rows = []
    for value in range(1, classes + 1):
        both = sum(int(((a == value) & (b == value)).sum()) for a, b in zip(found, truth, strict=True))
        predicted = sum(int((a == value).sum()) for a in found)
        true = sum(int((b == value).sum()) for b in truth)
        rows.append(
            (2 * both / max(1, predicted + true), 1 - both / max(1, true), 1 - both / max(1, predicted))
        )
    return dict(zip(("dice", "fn", "fp"), map(float, np.mean(rows, axis=0)), strict=True))


def one(name: str, seed: int, steps: int, first: str) -> dict[str, Any]:
    """Train once and compare the stages on the test patients."""
    train, test = split(name)
    cases, data = cases_of(name, train)
    method = {"kind": "cr_gan"} | ({"adversarial_weight": 0.0} if first == "ce" else {})
    config = parse_config(
        SETS[name]
        | {
            "data": data.model_dump(), "loss": "ce", "method": method, "seed": seed, "budget": {"steps": steps},
            # As `methods.py`: cells may be made side by side, and `auto` is bfloat16 on some processors.
            "device": {"threads": 1, "precision": "32-true"},
        }
    )  # fmt: skip
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temp:
        run = Path(temp) / "run"
        notes = [e.text for e in fit(config, cases, run) if isinstance(e, Note)]
        seconds = time.monotonic() - began
        model = load_model(run, config.device)
        unseen, _ = cases_of(name, test)
        before, after, truth = [], [], []
        for case in unseen:
            blocks = sorted(
                (e for e in predict(model, case) if isinstance(e, PredictionBlock)), key=lambda e: e.start
            )
            stage = [
                block.probabilities.argmax(axis=0) for block in blocks if block.probabilities is not None
            ]
            before.append(np.concatenate(stage))
            after.append(np.concatenate([block.labels for block in blocks]))
            truth.append(np.asarray(case.labels))
    classes = len(data.classes or {})
    by_case = {
        key: mean(rates([a], [t], classes)["dice"] for a, t in zip(masks, truth, strict=True))
        for key, masks in (("before", before), ("after", after))
    }
    return {
        "set": name, "seed": seed, "steps": steps, "first": first, "seconds": round(seconds, 1), "cpu": processor(),
        "thresholds": model.thresholds,
        "before": rates(before, truth, classes), "after": rates(after, truth, classes),
        "mean_case_dice": by_case, "cases": len(truth), "notes": notes,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--first", choices=["ce", "cgan"], default="ce")
    args = parser.parse_args()
    for seed in args.seeds:
        known = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
        key = (args.set, seed, args.steps, args.first)
        if key in {(c["set"], c["seed"], c["steps"], c["first"]) for c in known}:
            continue
        cell = one(*key)
        known = json.loads(RESULTS.read_text()) if RESULTS.exists() else []  # others may have added theirs
        RESULTS.write_text(json.dumps([*known, cell], indent=1) + "\n")
        print(
            json.dumps({k: cell[k] for k in ("set", "seed", "before", "after", "mean_case_dice", "seconds")}),
            flush=True,
        )


if __name__ == "__main__":
    main()
