"""Supervised training: one network, one loss."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning_fabric import Fabric

from napari_ctxseg.events import Note
from napari_ctxseg.inference.blocks import HaltError, Tiles, dice_of, dice_of_regions, mean_dice, segment
from napari_ctxseg.losses import RegionsLoss, make_loss
from napari_ctxseg.maps.members import region_masks
from napari_ctxseg.networks import make_network
from napari_ctxseg.networks.patients import patients_of
from napari_ctxseg.training import checkpoint
from napari_ctxseg.training.data import planes_of
from napari_ctxseg.training.patches import PatchSampler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor, nn

    from napari_ctxseg.training.patches import Batch
    from napari_ctxseg.training.plan import Plan

#: Steps over which the learning rate rises. Fixed, so that it does not depend on a budget still being measured.
WARM_UP = 20
#: Gradients are scaled down to this norm.
CLIP = 12.0


@dataclass(frozen=True)
class Step:
    """What one optimiser step did.

    Parameters
    ----------
    loss : float or None
        None when loss or gradient were not finite and the weights were left alone.
    lr : float
        The learning rate used.
    parts : dict of str to float
        What the loss is made of.
    notes : tuple of str
        What the person should hear of.
    """

    loss: float | None
    lr: float
    parts: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Trainer:
    """Network, optimiser, loss and data of a run.

    Parameters
    ----------
    plan : Plan
        With everything resolved.
    """

    #: Channels at the end of each training image whose values augmentation leaves alone.
    geometry_only: int = 0

    def __init__(self, plan: Plan) -> None:
        config = plan.config
        self._optim, self._plan = config.optim, plan
        accelerator = {"cuda": "cuda", "mps": "mps"}.get(config.device.accelerator, "cpu")
        self._fabric = Fabric(accelerator=accelerator, devices=1, precision=config.device.precision)  # type: ignore[arg-type]
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            network = self._build()
        self._plain = network
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=config.optim.lr or 0.0, weight_decay=config.optim.weight_decay
        )
        self.network, self._optimiser = self._fabric.setup(network, optimiser)
        self._members = plan.members
        loss = make_loss(config.loss)
        self._loss = loss if self._members is None else RegionsLoss(loss, self._members)
        assert config.patch.size is not None
        assert config.patch.batch is not None
        self.tiles = Tiles(
            config.network.dims, config.patch.size, planes_of(config.data), regions=bool(plan.regions)
        )
        self._sampler = PatchSampler(
            plan.train,
            size=config.patch.size,
            batch=config.patch.batch,
            foreground=config.patch.foreground,
            augmentation=config.augment,
            seed=config.seed,
            sequence=config.patch.sequence or 1,
            geometry_only=self.geometry_only,
        )
        self._classes = len(plan.classes) + 1
        self._outputs = plan.outputs
        self.skipped_in_a_row = 0

    def _build(self) -> nn.Module:
        return make_network(self._plan.config.network, self._noise)

    @property
    def _noise(self) -> float:
        return float(getattr(self._plan.config.method, "noise", 0.0))

    @property
    def parameters(self) -> int:
        """Number of trainable weights."""
        return sum(p.numel() for p in self._plain.parameters() if p.requires_grad)

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        return self._fabric.device

    def lr(self, step: int, steps: int) -> float:
        """Learning rate of a step; `steps` is 0 while the budget is being measured."""
        # Weights that have learnt already need no gentle start.
        assert self._optim.lr is not None
        rate = self._optim.lr * (1.0 if self._plan.config.init else min(1.0, (step + 1) / WARM_UP))
        if self._optim.schedule == "poly" and step >= WARM_UP and steps:
            rate *= max(0.0, 1 - step / steps) ** self._optim.power
        return rate

    def step(self, step: int, steps: int) -> Step:
        """One optimiser step; `steps` is 0 while the budget is being measured."""
        lr = self.lr(step, steps)
        for group in self._optimiser.param_groups:
            group["lr"] = lr
        self.network.train()
        batch = self._sampler.batch(step)
        # Networks with dropout draw from torch's own generator; a resumed run must draw the same.
        torch.manual_seed(self._plan.config.seed * 1_000_003 + step)
        self._loss.progress = step / steps if steps else 0.0
        return self._learn(batch, lr, step / steps if steps else 0.0)

    def _learn(self, batch: Batch, lr: float, progress: float) -> Step:
        """Loss, gradients and one step of the weights; `progress` is the share of the training that is done."""
        heads = self._heads(batch.image.to(self.device), batch)
        loss = self._loss_of(heads, batch.target.to(self.device), batch)
        self._optimiser.zero_grad()
        self._fabric.backward(loss)
        return Step(self._apply(loss), lr)

    def _apply(self, loss: Tensor) -> float | None:
        """Step the weights by the gradients that are there, if all is finite; returns the loss, or None."""
        norm = torch.nn.utils.clip_grad_norm_(self._plain.parameters(), CLIP)
        if not bool(torch.isfinite(loss.detach()) & torch.isfinite(norm)):
            self._optimiser.zero_grad()
            self.skipped_in_a_row += 1
            return None
        self._optimiser.step()
        self.skipped_in_a_row = 0
        return float(loss.detach())

    def _heads(self, image: Tensor, batch: Batch) -> list[Tensor]:
        """Logits of a batch: one, or several under deep supervision, the one that predicts first."""
        with patients_of(self._plain, batch.sequences):
            logits = self.network(image)
        return list(logits) if isinstance(logits, tuple | list) else [logits]

    def _loss_of(self, heads: Sequence[Tensor], target: Tensor, batch: Batch) -> Tensor:
        groups = sorted(set(batch.spacing))
        if len(groups) == 1:
            loss: Tensor = self._loss(tuple(heads), target, groups[0])
            return loss
        total: Tensor = heads[0].sum() * 0.0
        for spacing in groups:
            chosen = torch.tensor([s == spacing for s in batch.spacing], device=self.device)
            part = self._loss(tuple(head[chosen] for head in heads), target[chosen], spacing)
            total = total + part * (float(chosen.sum()) / len(batch.spacing))
        return total

    def segment(self, image: Tensor, stop: Callable[[], bool] = lambda: False) -> Tensor:
        """Class indices of a whole image, ``(C, *S)`` -> ``*S``, or masks of the regions, ``(R, *S)``."""
        self.network.eval()
        with torch.no_grad():
            return segment(self.network, image.to(self.device), self.tiles, stop)

    def validate(
        self, stop: Callable[[], bool] = lambda: False
    ) -> tuple[dict[str, float | None], float | None] | None:
        """Dice of each class or region over the watched cases, and their mean; None where `stop` said so on the way."""
        rows = []
        for sample in self._plan.watched:
            image, target = sample.image, sample.target
            if target.ndim > self.tiles.dims and self.tiles.planes == (
                0,
            ):  # slices without any label cannot be judged
                keep = (target >= 0).flatten(1).any(dim=1)
                image, target = image[:, keep], target[keep]
            try:
                guess = self.segment(image, stop)
            except HaltError:
                return None
            if self._members is None:
                rows.append(dice_of(guess, target, self._classes))
            else:
                truth = region_masks(target[None], self._members)[0]
                rows.append(dice_of_regions(guess, truth, target >= 0))
        return mean_dice(rows, self._plan.names)

    # ---- saving and restoring

    def start_from(self, run: str) -> list[Note]:
        """Take over the weights of an earlier run; the head is made anew where the classes differ."""
        tensors, record = checkpoint.load_tensors(Path(run) / checkpoint.MODEL)
        renewed = checkpoint.load_weights(self._plain, tensors, run)
        notes = [Note(f"Starting from the weights of {run}")]
        old = checkpoint.described(record)
        if renewed:
            notes.append(
                Note(
                    f"Layers made anew because classes or channels differ ({old} before): {', '.join(renewed)}",
                    "warning",
                )
            )
        elif list(old.items()) != list((self._plan.regions or self._plan.classes).items()):
            notes.append(Note(f"The classes had other names or values before: {old}", "warning"))
        return notes

    def restore(self, tensors: Mapping[str, Tensor], where: object) -> None:
        """Take over the exact state."""
        checkpoint.load_weights(self._plain, checkpoint.without_prefix(tensors, "model"), where)
        checkpoint.restore_optimiser(self._optimiser.optimizer, tensors)

    def state(self) -> dict[str, Tensor]:
        """Everything that another process needs to go on with the next step."""
        weights = checkpoint.prefixed(self._plain.state_dict(), "model")
        return weights | checkpoint.optimiser_tensors(self._optimiser.optimizer)

    def save_state(self, folder: Path, step: int, meta: Mapping[str, Any]) -> Path:
        """Write the exact state."""
        return checkpoint.save_state(folder, step, self.state(), meta)

    def save_model(self, path: Path, plan: Plan, step: int) -> None:
        """Write the weights to predict with, and all that prediction needs to know."""
        meta = {
            "step": step,
            "classes": plan.classes,
            "regions": plan.regions,
            "network": plan.config.network.model_dump(mode="json"),
            "patch": list(self.tiles.size),
            "planes": list(self.tiles.planes),
            "noise": self._noise,
            "groups": sorted({sample.group for sample in plan.train}),
        }
        checkpoint.save_tensors(path, self._plain.state_dict(), meta)
