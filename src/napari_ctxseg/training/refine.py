"""The second stage of CR-GAN: samples that no model had seen, its trainer, and the model of both stages."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from napari_ctxseg.composition import RELEASED, compose, fit_thresholds
from napari_ctxseg.config import CrGanConfig
from napari_ctxseg.errors import CtxsegError
from napari_ctxseg.events import Note
from napari_ctxseg.image import IGNORE
from napari_ctxseg.inference.blocks import HaltError, Tiles, logit_blocks
from napari_ctxseg.inference.predictor import load_model
from napari_ctxseg.losses.error_maps import make_error_loss
from napari_ctxseg.maps.members import region_masks
from napari_ctxseg.networks.adversarial import mask_of
from napari_ctxseg.networks.patients import patients_of
from napari_ctxseg.networks.refined import Composed, Refined, error_maps
from napari_ctxseg.networks.refinement import (
    RefinementNetwork,
    error_channels,
    hard_masks,
    make_refinement,
    soft_masks,
)
from napari_ctxseg.training import checkpoint
from napari_ctxseg.training.supervised import Step, Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from pathlib import Path

    from napari_ctxseg.composition import Case as Maps
    from napari_ctxseg.composition import Thresholds
    from napari_ctxseg.config import BudgetConfig, NetworkBase
    from napari_ctxseg.inference.predictor import Model
    from napari_ctxseg.networks.refinement import Head
    from napari_ctxseg.training.data import Sample
    from napari_ctxseg.training.patches import Batch
    from napari_ctxseg.training.plan import Plan

#: What the model of both stages takes over from the first one's metadata.
SHARED = ("classes", "regions", "network", "patch", "planes", "noise", "groups")


def probabilities(model: Model, image: Tensor) -> Tensor:
    """First-stage probabilities of a whole image, ``(C, *S)`` -> ``(K, *S)``, on the CPU."""
    with torch.inference_mode():
        blocks = [
            soft_masks(logits, regions=model.tiles.regions, dim=0).cpu()
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


def refinement_of(plan: Plan) -> NetworkBase:
    """The second stage's network with everything filled in."""
    method, outputs = plan.config.method, plan.outputs
    assert isinstance(method, CrGanConfig)
    assert plan.config.network.in_channels is not None
    assert plan.config.patch.size is not None
    network = method.refine.network.model_copy(update={"dims": plan.config.network.dims})
    filled = network.filled(plan.config.network.in_channels + 2 * outputs, 2 * outputs)
    return filled.for_patch(plan.config.patch.size)


def refine_plan(plan: Plan, samples: Sequence[Sample], budget: BudgetConfig) -> Plan:
    """Plan of the second stage."""
    config = plan.config.updated(network=refinement_of(plan), budget=budget, init=None)
    return replace(plan, config=config, train=list(samples))


class RefineTrainer(Trainer):
    """Trains the second stage; the first one stays as it is.

    Parameters
    ----------
    plan : Plan
        Of the second stage: training samples hold the first stage's probabilities as their last channels.
    first : Path
        Run of the first stage, which validation and previews go through.
    """

    def __init__(self, plan: Plan, first: Path) -> None:
        self.geometry_only = plan.outputs
        method = plan.config.method
        assert isinstance(method, CrGanConfig)
        self._refine = method.refine
        self._channels = (plan.config.network.in_channels or 0) - 2 * self.geometry_only
        super().__init__(plan)
        assert isinstance(self._plain, RefinementNetwork)
        self._both = Refined(load_model(first, plan.config.device).network, self._plain)
        self.tiles = replace(self.tiles, apart=2 * self._outputs)
        self._error_loss = make_error_loss(self._refine.loss)

    def _build(self) -> nn.Module:
        network = self._plan.config.network
        return make_refinement(
            network,
            dims=network.dims,
            image_channels=self._channels,
            classes=self.geometry_only,
            regions=bool(self._plan.regions),
            head=head_of(self._refine.loss),
        )

    def _learn(self, batch: Batch, lr: float, progress: float) -> Step:
        image, target = batch.image.to(self.device), batch.target.to(self.device)
        image, p = image[:, : -self._outputs], image[:, -self._outputs :]
        truth = mask_of(target, self._classes, self._members)
        errors = error_channels(truth, hard_masks(p, regions=self.tiles.regions))
        with patients_of(self._plain, batch.sequences):
            logits = self.network(image, p)
        loss = self._error_loss(logits, errors, target >= 0)
        self._optimiser.zero_grad()
        self._fabric.backward(loss)
        return Step(self._apply(loss), lr)

    def maps(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Probabilities of the first stage, false negatives and false positives, each ``(K, *S)``, on the CPU."""
        # A training image brings the first stage's probabilities along; here they are made anew.
        own = image[: len(image) - self.geometry_only] if len(image) > self._channels else image
        return whole_maps(self._both.eval(), own.to(self.device), self.tiles, self._run)

    def segment(self, image: Tensor, stop: Callable[[], bool] = lambda: False) -> Tensor:
        """Class indices of both stages together, or masks of the regions."""
        if stop():
            raise HaltError
        result: Tensor = compose(*self.maps(image), *RELEASED, regions=self.tiles.regions)
        return result

    def _run(self, windows: Tensor) -> Tensor:
        with self._fabric.autocast():
            out: Tensor = self._both(windows)
        return out


def head_of(loss: str) -> Head:
    """What makes errors of the second stage's output: the released form ends in a tanh."""
    return "tanh" if loss == "mse" else "sigmoid"


def whole_maps(
    network: nn.Module, image: Tensor, tiles: Tiles, run: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """What `Refined` says of a whole image, ``(C, *S)`` -> three of ``(K, *S)``, on the CPU."""
    with torch.no_grad():
        blocks = [
            logits.cpu() for _, logits, _ in logit_blocks(run, image, tiles, network) if logits is not None
        ]
    out = torch.cat(blocks, dim=1) if len(blocks) > 1 else blocks[0]
    return error_maps(out, regions=tiles.regions)


class JointTrainer(Trainer):
    """Trains both stages together through ``clip(p + fn - fp, 0, 1)``, from where each of them had come to.

    Parameters
    ----------
    plan : Plan
        Of the first stage's data.
    first, second : Path
        Their runs.
    """

    def __init__(self, plan: Plan, first: Path, second: Path) -> None:
        self._runs = first, second
        super().__init__(plan)

    def _build(self) -> nn.Module:
        first, second = self._runs
        config, method = self._plan.config, self._plan.config.method
        assert isinstance(method, CrGanConfig)
        tensors, record = checkpoint.load_tensors(second / checkpoint.MODEL)
        refinement = make_refinement(
            record["network"],
            dims=config.network.dims,
            image_channels=config.network.in_channels or 0,
            classes=self._plan.outputs,
            regions=bool(self._plan.regions),
            head=head_of(method.refine.loss),
        )
        refinement.load_state_dict(tensors)
        return Composed(Refined(load_model(first, config.device).network.cpu(), refinement)).train()


def save_refined(
    plan: Plan, first: Path, second: Path, joint: Path | None, out: Path, step: int
) -> Thresholds | None:
    """Write both stages as one model, with thresholds fitted on the validation cases.

    Returns
    -------
    Thresholds or None
        None where no cases are kept apart; the thresholds are then the released ones.
    """
    method = plan.config.method
    assert isinstance(method, CrGanConfig)
    one, record = checkpoint.load_tensors(first / checkpoint.MODEL)
    two, other = checkpoint.load_tensors(second / checkpoint.MODEL)
    tensors = checkpoint.prefixed(one, "first") | checkpoint.prefixed(two, "second")
    if joint is not None:
        both, _ = checkpoint.load_tensors(joint / checkpoint.MODEL)
        tensors = checkpoint.without_prefix(both, "both")
    meta = {
        **{name: record[name] for name in SHARED},
        "step": step,
        "second": other["network"],
        "head": head_of(method.refine.loss),
    }
    path = out / checkpoint.MODEL
    checkpoint.save_tensors(path, tensors, meta | {"thresholds": RELEASED})
    if not plan.val:
        return None
    model = load_model(out, plan.config.device)
    found = fit_thresholds(_validation(model, plan), regions=bool(plan.regions))
    checkpoint.save_tensors(path, tensors, meta | {"thresholds": (found.fn, found.fp)})
    return found


def _validation(model: Model, plan: Plan) -> Iterator[Maps]:
    for sample in plan.watched:
        p, fn, fp = whole_maps(model.network, sample.image.to(model.device), model.tiles, model)
        if plan.members is None:
            yield p.numpy(), fn.numpy(), fp.numpy(), sample.target.numpy()
        else:
            truth = region_masks(sample.target[None], plan.members)[0].short()
            truth[:, sample.target < 0] = IGNORE
            yield (p > 0.5).numpy(), fn.numpy(), fp.numpy(), truth.numpy()
