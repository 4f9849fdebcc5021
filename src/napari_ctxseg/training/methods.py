"""What each training method is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ctxseg.config import CGanConfig, Config, CrGanConfig, GanConfig, SegGlGanConfig, SupervisedConfig
from napari_ctxseg.training.adversarial import AdversarialTrainer
from napari_ctxseg.training.supervised import Trainer

if TYPE_CHECKING:
    from napari_ctxseg.training.plan import Plan

#: Configuration class -> trainer of its network; that of CR-GAN is its first stage's.
METHODS: dict[type[Config], type[Trainer]] = {
    SupervisedConfig: Trainer,
    GanConfig: AdversarialTrainer,
    SegGlGanConfig: AdversarialTrainer,
    CGanConfig: AdversarialTrainer,
    CrGanConfig: AdversarialTrainer,
}


def make_trainer(plan: Plan) -> Trainer:
    """The trainer of a plan's method; without an adversarial weight there is no discriminator."""
    method = plan.config.method
    if getattr(method, "adversarial_weight", 1.0) == 0:
        return Trainer(plan)
    return METHODS[type(method)](plan)
