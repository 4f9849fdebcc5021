"""Every training method takes a few steps on real data, and every tensor that can be trained moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from napari_ctxseg import dataset
from napari_ctxseg.config import DataConfig, method_kinds, parse_config
from napari_ctxseg.events import PredictionBlock, StepEnd
from napari_ctxseg.inference import predict
from napari_ctxseg.training import adversarial, fit, refine, supervised

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from napari_ctxseg.cases import Case

pytestmark = pytest.mark.data

UNET = {"kind": "unet", "features": (4, 8, 8)}
METHODS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "supervised": ({"kind": "supervised"}, UNET),
    "gan": ({"kind": "gan"}, UNET),
    "seg_glgan, static": ({"kind": "seg_glgan", "roi": {"kind": "static", "size": 40}}, UNET),
    "seg_glgan, dynamic": ({"kind": "seg_glgan", "roi": "dynamic"}, UNET),
    "seg_glgan, mask": ({"kind": "seg_glgan", "roi": "mask"}, UNET),
    "cgan": ({"kind": "cgan"}, UNET),
    "cgan, patient-wise": (
        {"kind": "cgan", "discriminator": {"kind": "pixel", "norm": "patient", "width": 8}},
        {**UNET, "block": "plain", "norm": "patient"},
    ),
    "cgan, recurrent": (
        {"kind": "cgan", "discriminator": {"kind": "pixel", "recurrent": True, "width": 8}},
        {"kind": "recurrent_unet", "features": (4, 8, 8)},
    ),
    "cr_gan": ({"kind": "cr_gan", "refine": {"folds": 2, "network": UNET}}, UNET),
}  # fmt: skip


def cases_of(root: Path, dims: int) -> tuple[list[Case], DataConfig]:
    """Some slices of each of three patients, or some volumes."""
    if dims == 2:
        folder = root / "sunnybrook_lv"
        names = [f"SC-HF-I-{patient}_*" for patient in (1, 2, 4)]
        images = [f for name in names for f in sorted((folder / "images").glob(name))[:4]]
        group = r"SC-HF-I-\d+"
    else:
        folder, group = root / "msd_hippocampus", None
        images = sorted((folder / "images").glob("*.nii.gz"))[:4]
    labels = [str(folder / "labels" / f.name) for f in images]
    config = DataConfig(images=[str(f) for f in images], labels=labels, group=group, foreground=True, val=0)
    return dataset.training_cases(config), config


def test_every_method_is_here() -> None:
    assert {method["kind"] for method, _ in METHODS.values()} == set(method_kinds())


@pytest.mark.parametrize(
    ("name", "dims"),
    # In 3-D one of each kind: a 9 x 9 x 9 convolution takes its time.
    [
        *((name, 2) for name in METHODS),
        *((name, 3) for name in ("seg_glgan, mask", "cgan, recurrent", "cr_gan")),
    ],
)
def test_every_trainable_tensor_moves(
    name: str, dims: int, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, network = METHODS[name]
    cases, data = cases_of(data_dir, dims)
    built: list[tuple[nn.Module, dict[str, torch.Tensor]]] = []

    def watched(module: nn.Module) -> nn.Module:
        built.append((module, {n: p.detach().clone() for n, p in module.named_parameters()}))
        return module

    for trainer in (supervised.Trainer, refine.RefineTrainer):
        if "_build" in vars(trainer):
            build = trainer._build
            monkeypatch.setattr(trainer, "_build", lambda self, build=build: watched(build(self)))
    make = adversarial.make_discriminator
    monkeypatch.setattr(adversarial, "make_discriminator", lambda *a, **k: watched(make(*a, **k)))
    config = parse_config(
        {
            "data": data.model_dump(),
            "network": network | {"dims": dims},
            "loss": "ce",
            "method": method,
            "patch": {"size": (64, 64) if dims == 2 else (40, 40, 40), "batch": 4 if dims == 2 else 1},
            "budget": {"steps": 12 if name == "cr_gan" else 3, "val_every": 12},
            "optim": {"weight_decay": 0.0},
            "device": {"accelerator": "cpu", "precision": "32-true", "threads": 1},
        }
    )
    events = list(fit(config, cases, tmp_path / "r"))
    assert all(event.loss is not None for event in events if isinstance(event, StepEnd))
    # First stage and discriminator, two folds of both, second stage; otherwise a network and perhaps a discriminator.
    assert len(built) == {"supervised": 1, "cr_gan": 7}.get(str(method["kind"]), 2)
    for module, before in built:
        assert before
        still = [n for n, p in module.named_parameters() if torch.equal(p.detach().cpu(), before[n])]
        assert not still, type(module).__name__
    blocks = [event for event in predict(tmp_path / "r", cases[0]) if isinstance(event, PredictionBlock)]
    assert sum(block.labels.size for block in blocks) == cases[0].image.array.size
