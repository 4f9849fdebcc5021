"""Train on the made heart, predict a subject that was not seen, and look at what a loss looks at. No viewer needed.

uv run python examples/without_a_screen.py --steps 100
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from napari_ctxseg.cases import class_indices
from napari_ctxseg.config import DataConfig, parse_config
from napari_ctxseg.evaluation.metrics import evaluate_case
from napari_ctxseg.events import EpochEnd, PredictionBlock
from napari_ctxseg.inference import predict
from napari_ctxseg.losses import SpatialLoss, make_loss
from napari_ctxseg.phantom import CLASSES, make_phantom
from napari_ctxseg.training import fit


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=100)
    steps = parser.parse_args().steps
    *training, unseen = make_phantom(subjects=4, seed=0)

    # What a loss sees: the weight of every pixel of one slice, before anything is trained.
    indices = class_indices(training[0], CLASSES, DataConfig(classes=CLASSES))
    loss = make_loss({"kind": "dilated_balanced_ce", "radius": 10, "unit": "px"})
    assert isinstance(loss, SpatialLoss)
    weights = loss.weight_map(torch.from_numpy(indices[:1]).long(), training[0].image.spacing[1:])
    print(
        f"a pixel of the heart counts up to {float(weights.max() / weights.min()):.0f} x one of the far background"
    )

    config = parse_config({"data": {"classes": CLASSES}, "budget": {"steps": steps}})
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        for event in fit(config, training, run):
            if isinstance(event, EpochEnd):
                print(f"step {event.step}: {event.curve} {event.mean}")
        labels = np.zeros(unseen.image.spatial_shape, np.uint8)
        for event in predict(run, unseen):
            if isinstance(event, PredictionBlock):
                labels[event.start : event.start + len(event.labels)] = event.labels
    assert unseen.labels is not None
    for name, scores in evaluate_case(
        labels, unseen.labels, CLASSES, unseen.image.spacing, unseen.image.unit
    ).items():
        print(f"{name}: Dice {scores.dice}")


if __name__ == "__main__":
    main()
