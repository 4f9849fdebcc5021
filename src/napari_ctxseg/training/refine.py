"""The second stage of CR-GAN: samples that no model had seen, its trainer, and the model of both stages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from napari_ctxseg.composition import compose_classes, error_targets
from napari_ctxseg.config import CrGanConfig
from napari_ctxseg.errors import CtxsegError
from napari_ctxseg.events import Note
from napari_ctxseg.inference.blocks import Tiles, logit_blocks
from napari_ctxseg.inference.predictor import load_model
from napari_ctxseg.networks.discriminators import mask_of
from napari_ctxseg.networks.refined import Refined, beside
from napari_ctxseg.networks.refinement import error_loss
from napari_ctxseg.training import checkpoint
from napari_ctxseg.training.supervised import Step, Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from napari_ctxseg.config import BudgetConfig
    from napari_ctxseg.inference.predictor import Model
    from napari_ctxseg.training.data import Sample
    from napari_ctxseg.training.patches import Batch
    from napari_ctxseg.training.plan import Plan

#: Thresholds of false negatives and false positives before any are fitted.
THRESHOLDS = (0.5, 0.5)


def probabilities(model: Model, image: Tensor) -> Tensor:
    """First-stage probabilities of a whole image, ``(C, *S)`` -> ``(K, *S)``, on the CPU."""
    with torch.inference_mode():
        blocks = [
            torch.softmax(logits, dim=0).cpu()
            for _, logits, _ in logit_blocks(model, image.to(model.device), model.tiles, model.network)
            if logits is not None
        ]
    return torch.cat(blocks, dim=1) if len(blocks) > 1 else blocks[0]


def out_of_fold(
    plan: Plan, models: Mapping[int, Path], folds: Mapping[str, int], stop: Callable[[], bool]
) -> Generator[Note, None, list[Sample] | None]:
    """Training samples with the predictions of a model that has not seen their patient as further channels.

    Raises
    ------
    CtxsegError
        If a model has seen a patient that it should predict.
    """
    found: dict[int, Sample] = {}
    for fold, run in models.items():
        model = load_model(run, plan.config.device)
        seen = set(trained_on(run))
        for number, sample in enumerate(plan.train):
            if folds[sample.group] != fold:
                continue
            if sample.group in seen:
                raise CtxsegError(
                    str(run),
                    f"has seen the patient {sample.group!r}, whose errors it should show",
                    "Remove the run folder and train again",
                )
            p = probabilities(model, sample.image)
            found[number] = replace(sample, image=torch.cat([sample.image, p]))
            if stop():
                return None
    yield Note(f"{len(found)} images predicted by models that had not seen their patients")
    return [found[number] for number in sorted(found)]


def trained_on(run: Path) -> list[str]:
    """Patients that a run was trained on, as its weights' file says."""
    _, record = checkpoint.load_tensors(run / checkpoint.MODEL)
    return [str(group) for group in record.get("groups", [])]


def refine_plan(plan: Plan, samples: Sequence[Sample], budget: BudgetConfig) -> Plan:
    """Plan of the second stage."""
    method, classes = plan.config.method, len(plan.classes) + 1
    assert isinstance(method, CrGanConfig)
    assert plan.config.network.in_channels is not None
    assert plan.config.patch.size is not None
    network = method.refine.network.model_copy(update={"dims": plan.config.network.dims})
    network = network.filled(plan.config.network.in_channels + 2 * classes, 2 * classes)
    network = network.for_patch(plan.config.patch.size)
    config = plan.config.updated(network=network, budget=budget, init=None)
    return replace(plan, config=config, train=list(samples))


class RefineTrainer(Trainer):
    """Trains the second stage; the first one stays as it is.

    Parameters
    ----------
    plan : Plan
        Of the second stage: training samples hold the first stage's probabilities as their last channels.
    first : Path
        Run of the first stage.
    """

    def __init__(self, plan: Plan, first: Path) -> None:
        self._geometry_only = len(plan.classes) + 1
        super().__init__(plan)
        self.first = load_model(first, plan.config.device)
        self._both = Refined(self.first.network, self._plain).eval()
        assert plan.config.patch.size is not None
        # Windows of the first stage: its errors are what it makes of them.
        self.tiles = Tiles(self.tiles.dims, self.tiles.size, self.tiles.planes)
        method = plan.config.method
        assert isinstance(method, CrGanConfig)
        self._error_loss = error_loss(method.refine.loss)

    def _learn(self, batch: Batch, lr: float, progress: float) -> Step:
        image, target = batch.image.to(self.device), batch.target.to(self.device)
        image, p = image[:, : -self._classes], image[:, -self._classes :]
        hard = mask_of(p.max(dim=1).indices, self._classes)
        missed, made_up = error_targets(mask_of(target, self._classes), hard)
        heads = self._heads(beside(image, p), batch)
        loss = heads[0].sum() * 0.0
        for head in heads:
            loss = loss + self._error_loss(head, torch.cat([missed, made_up], dim=1), target >= 0)
        self._optimiser.zero_grad()
        self._fabric.backward(loss)
        return Step(self._apply(loss), lr)

    def segment(self, image: Tensor) -> Tensor:
        """Class indices of both stages together."""
        self.network.eval()
        _, p, fn, fp = self.maps(image[: self._plan.config.data and self._channels])
        return compose_classes(p, fn, fp, *THRESHOLDS)

    def maps(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """First-stage labels, probabilities, false negatives and false positives of a whole image."""
        raise NotImplementedError
