"""What a recipe of each kind must name, to begin with."""

from __future__ import annotations

from typing import Any

EXAMPLES: dict[str, dict[str, Any]] = {
    "overlay": {"image": "image.nii.gz", "reference": "labels.nii.gz", "predictions": ["prediction.nii.gz"]},
    "errors": {"image": "image.nii.gz", "reference": "labels.nii.gz", "prediction": "prediction.nii.gz"},
    "probability": {"image": "image.nii.gz", "probability": "maps/image_probabilities_lesion.nii.gz"},
    "loss_anatomy": {
        "image": "image.nii.gz",
        "labels": "labels.nii.gz",
        "run": "run",
        "style": {"width": 170},
    },
    "contour": {"labels": "labels.nii.gz"},
    "refinement": {
        "image": "image.nii.gz",
        "name": "lesion",
        "stage1": "maps/image_probabilities_lesion.nii.gz",
        "fn": "maps/image_fn_lesion.nii.gz",
        "fp": "maps/image_fp_lesion.nii.gz",
        "style": {"width": 170},
    },
    "montage": {"image": "image.nii.gz", "labels": "labels.nii.gz", "style": {"width": 170}},
    "boxplots": {"scores": {"Dice + CE": "dice_ce.json", "context CE": "context_ce.json"}},
    "sweep": {"points": {5.0: "radius5.json", 10.0: "radius10.json"}, "label": "radius (px)"},
    "table": {
        "scores": {"Dice + CE": "dice_ce.json", "context CE": "context_ce.json"},
        "style": {"width": 170},
    },
    "view": {
        "arrays": "view.npz",
        "layers": [{"name": "image", "array": "layer_0"}],
        "field": [0, 0, 256, 256],
    },
}
