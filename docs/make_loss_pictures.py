"""Pictures of what each loss looks at, on real images: `uv run python docs/make_loss_pictures.py [kind ...]`.

Data: CTXSEG_DATA (default ../shared/data). Losses without a map of weights are shown at work instead: with the logits of a
network that has learnt the structures only roughly, made by blurring the labels.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot as plt
from scipy import ndimage

from napari_ctxseg import io
from napari_ctxseg.losses import make_loss
from napari_ctxseg.losses.anatomy import anatomy

OUT = Path(__file__).parent / "images" / "losses"
DATA = Path(os.environ.get("CTXSEG_DATA", Path(__file__).parents[2] / "shared" / "data"))
HEART = ("sunnybrook_lv", "heart: cavity and wall")
NUCLEI = ("dsb2018_sparse", "cell nuclei")
CROWD = ("dsb2018_fluo", "crowded cell nuclei")
VESSELS = ("chase_db1", "retinal vessels")

#: kind: rows of (title, loss, data)
ROWS: dict[str, list[tuple[str, dict, tuple[str, str]]]] = {
    "ce": [("every pixel alike", {}, HEART)],
    "weighted_ce": [("weights (0.1, 0.5, 0.4)", {"weights": (0.1, 0.5, 0.4)}, HEART)],
    "balanced_ce": [("per image", {}, HEART)],
    "focal": [("gamma 2, a rough prediction", {}, HEART)],
    "dice": [("slope of the loss", {}, HEART)],
    "dice_ce": [("slope of the loss", {}, HEART)],
    "log_jaccard": [("slope of the loss", {}, HEART)],
    "generalized_dice": [("slope of the loss", {}, HEART)],
    "distance_weighted_ce": [("gaps alone, sigma 5 px", {"class_weights": "none"}, CROWD)],
    "context_ce": [
        ("dynamic box, margin 4", {"preset": "recommended"}, HEART),
        ("box of each piece", {"roi": {"kind": "dynamic", "margin": 4, "per": "component"}}, NUCLEI),
        ("mask, radius 10 px", {"roi": {"kind": "mask", "radius": 10}}, VESSELS),
    ],
    "dilated_balanced_ce": [
        ("radius 0: balanced", {"radius": 0}, HEART),
        ("radius 20 px", {"radius": 20}, HEART),
        ("radius 8 px, per component", {"radius": 8, "per": "component"}, NUCLEI),
    ],
    "contour_weighted_ce": [
        ("1 iteration, both sides", {}, HEART),
        ("6 iterations, adapted", {"contour": {"iterations": 6, "adapt": 0.3}}, HEART),
        ("soft, 3 px", {"contour": {"softness": 3.0}}, HEART),
    ],
    "separable_dice": [("slope of the loss", {}, HEART)],
    "contour_weighted_ce_dice": [("weights of its cross-entropy", {}, HEART)],
    "sum": [
        (
            "dilated CE + contour CE",
            {
                "terms": [
                    {"loss": {"kind": "dilated_balanced_ce", "radius": 20}},
                    {"loss": "contour_weighted_ce"},
                ]
            },
            HEART,
        )
    ],
}


def picture(name: str) -> tuple[np.ndarray, np.ndarray]:
    """A grey image and its class indices."""
    folder = DATA / name
    if name == "sunnybrook_lv":
        rows = (folder / "index.csv").read_text().splitlines()
        wall = next(r for r in rows[1:] if "LV+myo" in r and "SC-HF-I-1" in r).split(",")[0]
        (path,) = [p for p in (folder / "images").iterdir() if io.stem_of(p) == Path(wall).stem]
    else:
        found = sorted(p for p in (folder / "images").iterdir() if p.is_file())
        path = found[{"dsb2018_sparse": 7, "dsb2018_fluo": 2}.get(name, 0)]
    (mask,) = [p for p in (folder / "labels").iterdir() if io.stem_of(p).startswith(io.stem_of(path))]
    image = io.read(path).channel_array.astype(float).mean(axis=0)
    labels = io.read_labels(mask).array.astype(np.int64)
    if name != "sunnybrook_lv":
        labels = (labels > 0).astype(np.int64)
    return image, labels


def rough_logits(labels: np.ndarray) -> torch.Tensor:
    """What a network would say that has seen the structures only blurred, and a false object far from them."""
    planes = [ndimage.gaussian_filter((labels == c).astype(float), 3) for c in range(int(labels.max()) + 1)]
    y, x = np.indices(labels.shape)
    planes[-1] = planes[-1] + 0.8 * np.exp(-((y - 40) ** 2 + (x - 60) ** 2) / 80)
    return torch.from_numpy(np.log(np.clip(np.stack(planes), 1e-3, None)))


def shown(kind: str, settings: dict, labels: np.ndarray) -> tuple[np.ndarray, str]:
    """What to draw, and in which unit."""
    config = {"kind": kind} | settings
    if kind == "focal":
        seen = anatomy(config, labels, logits=rough_logits(labels))
        return seen.weighted * labels.size, "share of each pixel (1 = mean of CE)"
    seen = anatomy(config, labels)
    if seen.weight is None or kind == "dice_ce":
        logits = rough_logits(labels)[None].requires_grad_()
        make_loss(config)(logits, torch.from_numpy(labels)[None]).backward()
        slope = logits.grad[0].abs().sum(dim=0).numpy()
        return slope / slope.max(), "slope (1 = largest)"
    return seen.weight / seen.far, "times far background"


def draw(kind: str) -> None:
    rows = ROWS[kind]
    figure, axes = plt.subplots(
        len(rows), 2, figsize=(7.6, 3.1 * len(rows)), layout="constrained", squeeze=False
    )
    for (left, right), (title, settings, (name, text)) in zip(axes, rows, strict=True):
        image, labels = picture(name)
        low, high = np.percentile(image, [0.5, 99.5])
        left.imshow(image, cmap="gray", vmin=low, vmax=high)
        for c in range(1, int(labels.max()) + 1):
            left.contour(labels == c, levels=[0.5], colors=["#e69f00", "#56b4e9"][c - 1], linewidths=0.9)
        left.set_title(text, fontsize=10)
        values, unit = shown(kind, settings, labels)
        drawn = right.imshow(values, cmap="inferno", vmin=0, vmax=np.percentile(values, 99.9))
        right.set_title(title, fontsize=10)
        figure.colorbar(drawn, ax=right, label=unit, shrink=0.9)
        for axis in (left, right):
            axis.set_axis_off()
            if name == "sunnybrook_lv":  # the maps are of the whole image; the rest of it is dull
                middle = np.argwhere(labels > 0).mean(axis=0)
                axis.set_xlim(middle[1] - 70, middle[1] + 70)
                axis.set_ylim(middle[0] + 70, middle[0] - 70)
    OUT.mkdir(parents=True, exist_ok=True)
    figure.savefig(OUT / f"{kind}.png", dpi=80, metadata={"Software": None}, pil_kwargs={"optimize": True})
    plt.close(figure)


if __name__ == "__main__":
    plt.switch_backend("agg")
    for kind in sys.argv[1:] or ROWS:
        draw(kind)
        print(OUT / f"{kind}.png")
