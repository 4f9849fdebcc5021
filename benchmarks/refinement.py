"""What the second stage of CR-GAN does to the first, on patients neither has seen.

    uv run python benchmarks/refinement.py sunnybrook --seeds 0 1 2 [--steps 3000] [--first ce|cgan]
    uv run python benchmarks/refinement.py hippocampus --seeds 0 [--loss mse]

Trains `cr_gan` (steps cover the first stage, folds and the second stage), predicts the test patients, and compares refined
labels with the first stage's own: Dice, and shares of false negatives (of the true foreground) and false positives (of the
predicted foreground), means over the classes. `sunnybrook_lv` has three patients to learn from: none is kept to fit the
thresholds, which stay at the released ones. Of the 40 of `msd_hippocampus` a fifth is. ``by_threshold`` says what other
thresholds would have given on the test patients: nothing to choose by, but it shows whether any would have helped. One cell
a seed is appended to ``results/refinement.json``.
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
from napari_ctxseg.composition import compose_classes
from napari_ctxseg.config import DataConfig, parse_config
from napari_ctxseg.events import Note, PredictionBlock, RunStarted
from napari_ctxseg.inference import load_model, predict
from napari_ctxseg.training import fit

RESULTS = Path(__file__).resolve().parent / "results" / "refinement.json"
#: Thresholds of false negatives and false positives: the middle, the three of the released code, and shyer ones.
PAIRS = ((0.5, 0.5), (0.75, 0.75), (0.65, 0.9), (0.9, 0.65), (0.9, 0.9), (0.98, 0.98))

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


def stages(model: Any, cases: list[Any]) -> tuple[list[np.ndarray], list[np.ndarray], list[list[np.ndarray]]]:
    """Labels of the first stage, of both, and of both with each of `PAIRS`."""
    before, after, others = [], [], [[] for _ in PAIRS]
    for case in cases:
        blocks = sorted(
            (e for e in predict(model, case) if isinstance(e, PredictionBlock)), key=lambda e: e.start
        )
        p, fn, fp = (
            np.concatenate([getattr(block, part) for block in blocks], axis=1).astype(np.float32)
            for part in ("probabilities", "fn", "fp")
        )
        before.append(p.argmax(axis=0))
        after.append(np.concatenate([block.labels for block in blocks]))
        for found, pair in zip(others, PAIRS, strict=True):
            found.append(compose_classes(p, fn, fp, *pair))
    return before, after, others


def one(name: str, seed: int, steps: int, first: str, loss: str) -> dict[str, Any]:
    """Train once and compare the stages on the test patients."""
    train, test = split(name)
    cases, data = cases_of(name, train)
    method = {"kind": "cr_gan"} | ({"adversarial_weight": 0.0} if first == "ce" else {})
    method["refine"] = {"loss": loss}
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
        events = [e for e in fit(config, cases, run) if isinstance(e, Note | RunStarted)]
        notes = [e.text for e in events if isinstance(e, Note)]
        seconds = time.monotonic() - began
        model = load_model(run, config.device)
        unseen, _ = cases_of(name, test)
        before, after, others = stages(model, unseen)
        truth = [np.asarray(case.labels) for case in unseen]
    classes = len(data.classes or {})
    by_case = {
        key: mean(rates([a], [t], classes)["dice"] for a, t in zip(masks, truth, strict=True))
        for key, masks in (("before", before), ("after", after))
    }
    return {
        "set": name, "seed": seed, "steps": steps, "first": first, "loss": loss,
        "device": next(e.device for e in events if isinstance(e, RunStarted)), "cpu": processor(),
        "seconds": round(seconds, 1),
        "thresholds": model.thresholds,
        "before": rates(before, truth, classes), "after": rates(after, truth, classes),
        "by_threshold": {
            f"{fn}, {fp}": rates(masks, truth, classes) for (fn, fp), masks in zip(PAIRS, others, strict=True)
        },
        "mean_case_dice": by_case, "cases": len(truth), "notes": notes,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--loss", choices=["bce", "bce_dice", "focal", "dilated", "mse"], default="bce")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--first", choices=["ce", "cgan"], default="ce")
    args = parser.parse_args()
    for seed in args.seeds:
        known = json.loads(args.results.read_text()) if args.results.exists() else []
        key = (args.set, seed, args.steps, args.first, args.loss)
        if key in {(c["set"], c["seed"], c["steps"], c["first"], c["loss"]) for c in known}:
            continue
        cell = one(*key)
        known = json.loads(args.results.read_text()) if args.results.exists() else []  # others may have added
        args.results.write_text(json.dumps([*known, cell], indent=1) + "\n")
        print(
            json.dumps(
                {k: cell[k] for k in ("set", "seed", "loss", "before", "after", "by_threshold", "seconds")}
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
