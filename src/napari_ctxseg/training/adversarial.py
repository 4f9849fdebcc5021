"""Adversarial training: gan and seg_glgan (Murugesan et al. 2020), cgan (Rezaei et al. 2018).

One step: the network predicts; the discriminator learns to tell its masks from the labels; the network learns from its
loss and from fooling the discriminator. The masks are *not* detached in the last part: the released Seg-GLGAN does, and
its discriminator therefore never taught the network anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from napari_ctxseg.config import CGanConfig, GanConfig, SegGlGanConfig
from napari_ctxseg.networks.adversarial import adversarial_loss, discriminator_loss, hide_unlabelled, mask_of
from napari_ctxseg.networks.discriminators import make_discriminator
from napari_ctxseg.networks.patients import patients_of
from napari_ctxseg.networks.refinement import soft_masks
from napari_ctxseg.training import checkpoint
from napari_ctxseg.training.supervised import CLIP, Step, Trainer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_ctxseg.config.methods import AdversaryOptim
    from napari_ctxseg.networks.regions import Regions
    from napari_ctxseg.training.patches import Batch
    from napari_ctxseg.training.plan import Plan

#: Steps in a row after which a discriminator that always or never finds out is spoken of.
PATIENCE = 50
#: Answers nearer to 0 or 1 than this are sure.
SURE = 0.02


class AdversarialTrainer(Trainer):
    """Network and discriminator of a run.

    Parameters
    ----------
    plan : Plan
        With everything resolved.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        method, config = plan.config.method, plan.config
        assert isinstance(method, GanConfig | SegGlGanConfig | CGanConfig)
        assert config.patch.size is not None
        assert config.network.in_channels is not None
        self._method = method
        with torch.random.fork_rng():
            torch.manual_seed(config.seed + 1)
            judge = make_discriminator(
                method.discriminator,
                dims=config.network.dims,
                channels_mask=self._outputs,
                channels_image=config.network.in_channels,
                size=config.patch.size,
                roi=method.roi if isinstance(method, SegGlGanConfig) else None,
            )
        self._judge = judge
        self.discriminator, self._judge_optimiser = self._fabric.setup(judge, _optimiser(judge, method.optim))
        self._watch = Watch()

    def _learn(self, batch: Batch, lr: float, progress: float) -> Step:
        image, target = batch.image.to(self.device), batch.target.to(self.device)
        heads = self._heads(image, batch)
        # Both terms are computed from copies of the logits that end the graph: so each one's gradient there is known apart.
        logits = [head.detach().requires_grad_() for head in heads]
        seen = Seen(image, target, self._judge.regions(target, batch.spacing), batch.sequences)
        real = mask_of(target, self._classes, self._members)
        masks = soft_masks(logits[0].float(), regions=self._members is not None)
        parts, notes = self._teach_judge(seen, real, masks.detach())

        loss = self._loss_of(logits, target, batch) * self._method.loss_weight
        if isinstance(self._method, CGanConfig) and self._method.l1_weight:
            loss = loss + self._method.l1_weight * _l1(masks, real, target)
        weight = self._method.adversarial_weight * self._ramp(progress)
        self._judge.requires_grad_(False)
        fooled = adversarial_loss(self._ask(hide_unlabelled(masks, target), seen), target)
        self._judge.requires_grad_(True)
        total = loss + weight * fooled
        self._optimiser.zero_grad()
        norms = self._backward(heads, logits, loss, weight * fooled)
        parts = {"loss": float(loss.detach()), "adversarial": float(fooled.detach()), **parts, **norms}
        return Step(self._apply(total), lr, parts, notes)

    def _teach_judge(
        self, seen: Seen, real: Tensor, masks: Tensor
    ) -> tuple[dict[str, float], tuple[str, ...]]:
        """One step of the discriminator; the network's masks come without a graph."""
        truth = self._ask(real, seen)
        guess = self._ask(hide_unlabelled(masks, seen.target), seen)
        loss = discriminator_loss(truth, guess, seen.target)
        self._judge_optimiser.zero_grad()
        self._fabric.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self._judge.parameters(), CLIP)
        finite = bool(torch.isfinite(loss.detach()) & torch.isfinite(norm))
        if finite:
            self._judge_optimiser.step()
        else:
            self._judge_optimiser.zero_grad()
        answers = {
            "real": float(torch.sigmoid(truth.detach().float()).mean()),
            "fake": float(torch.sigmoid(guess.detach().float()).mean()),
        }
        parts = {"discriminator": float(loss.detach()), **answers, "grad_discriminator": float(norm)}
        return parts, self._watch.look(answers["real"], answers["fake"], finite)

    def _ask(self, mask: Tensor, seen: Seen) -> Tensor:
        """Logits of the discriminator: one per sample, or per place."""
        with patients_of(self._judge, seen.sequences):
            answer: Tensor = self.discriminator(mask, seen.image, seen.regions)
        return answer

    def _backward(
        self, heads: list[Tensor], logits: list[Tensor], loss: Tensor, fooled: Tensor
    ) -> dict[str, float]:
        """Gradients of both terms at the network's output, then one pass back through the network for their sum.

        With Fabric's own `backward`: in mixed precision it refuses any other way through a network that it has set up.
        """
        self._fabric.backward(loss, retain_graph=True)  # both terms share the masks
        own = [torch.zeros_like(each) if each.grad is None else each.grad for each in logits]
        for each in logits:
            each.grad = None
        self._fabric.backward(fooled)
        adversarial = logits[0].grad
        assert adversarial is not None
        norms = {
            "grad_loss": math.sqrt(sum(float(grad.double().pow(2).sum()) for grad in own)),
            "grad_adversarial": float(adversarial.double().norm()),
        }
        own[0] = own[0] + adversarial
        self._fabric.backward(_carrier(heads, own))
        return norms

    def _ramp(self, progress: float) -> float:
        return min(1.0, progress / self._method.warm_up) if self._method.warm_up else 1.0

    # ---- saving and restoring

    def state(self) -> dict[str, Tensor]:
        """Also the discriminator and its optimiser."""
        return (
            super().state()
            | checkpoint.prefixed(self._judge.state_dict(), "discriminator")
            | checkpoint.optimiser_tensors(self._judge_optimiser.optimizer, "discriminator_optim")
        )

    def restore(self, tensors: Mapping[str, Tensor], where: object) -> None:
        """Take over the exact state."""
        super().restore(tensors, where)
        checkpoint.load_weights(self._judge, checkpoint.without_prefix(tensors, "discriminator"), where)
        checkpoint.restore_optimiser(self._judge_optimiser.optimizer, tensors, "discriminator_optim")


@dataclass(frozen=True)
class Seen:
    """What a discriminator may look at beside a mask: the same for labels and predictions."""

    image: Tensor
    target: Tensor
    regions: Regions | None
    sequences: tuple[int, ...]


class Watch:
    """Notices a discriminator that has stopped to teach: it knows at once, or answers everything alike."""

    def __init__(self) -> None:
        self._won = self._blind = 0
        self._said: set[str] = set()

    def look(self, real: float, fake: float, finite: bool) -> tuple[str, ...]:
        """Mean answers of a step; returns what should be said, each sentence once."""
        self._won = self._won + 1 if real > 1 - SURE and fake < SURE else 0
        same = (real > 1 - SURE and fake > 1 - SURE) or (real < SURE and fake < SURE)
        self._blind = self._blind + 1 if same else 0
        found = []
        if not finite:
            found.append(
                "The discriminator's loss was not finite; it was left alone for that step. "
                "If that goes on, lower method.optim.lr"
            )
        if self._won >= PATIENCE:
            found.append(
                f"The discriminator has told labels from predictions without a doubt for {PATIENCE} steps: "
                "there is little to learn from it. Lower method.optim.lr, or choose a larger region"
            )
        if self._blind >= PATIENCE:
            found.append(
                f"The discriminator has answered the same to labels and predictions for {PATIENCE} steps: "
                "it has broken down. Lower method.optim.lr and train again"
            )
        new = tuple(text for text in found if text not in self._said)
        self._said.update(new)
        return new


def _optimiser(judge: nn.Module, optim: AdversaryOptim) -> torch.optim.Optimizer:
    if optim.name == "sgd":
        return torch.optim.SGD(judge.parameters(), lr=optim.lr)
    if optim.name == "rmsprop":
        return torch.optim.RMSprop(judge.parameters(), lr=optim.lr)
    return torch.optim.Adam(judge.parameters(), lr=optim.lr)


def _l1(masks: Tensor, real: Tensor, target: Tensor) -> Tensor:
    """Mean distance of probabilities and labels where there are labels."""
    valid = (target >= 0).unsqueeze(1)
    return ((masks - real).abs() * valid).sum() / (valid.sum() * masks.shape[1]).clamp(min=1)


def _carrier(heads: list[Tensor], grads: list[Tensor]) -> Tensor:
    """A scalar whose gradient with respect to each head is the one given."""
    return torch.stack([(head * grad.detach()).sum() for head, grad in zip(heads, grads, strict=True)]).sum()
