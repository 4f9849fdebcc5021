"""CR-GAN: nothing of the second stage was predicted by a model that knew its patient; stages, resuming, prediction."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_ctxseg.composition import compose_classes
from napari_ctxseg.config import from_yaml, parse_config
from napari_ctxseg.errors import CheckpointError, CtxsegError, InputError
from napari_ctxseg.events import EpochEnd, Note, PredictionBlock, RunFinished, RunStarted, StepEnd
from napari_ctxseg.inference import load_model, predict
from napari_ctxseg.training import checkpoint, cr_gan, fit, refine
from napari_ctxseg.training.plan import make_plan, resolve_device
from napari_ctxseg.training.stages import budgets, deal
from tests.core.conftest import blob_case, fit_until

if TYPE_CHECKING:
    from pathlib import Path

    from napari_ctxseg.cases import Case
    from napari_ctxseg.config import RunConfig

SMALL = {"kind": "unet", "features": (4, 8)}


def build(dims: int = 2, refine: dict[str, Any] | None = None, **sections: Any) -> RunConfig:
    values: dict[str, Any] = {
        "network": SMALL | {"dims": dims},
        "loss": "dice_ce",
        "method": {
            "kind": "cr_gan",
            "adversarial_weight": 0.1,
            "refine": {"folds": 2, "network": SMALL, **(refine or {})},
        },
        "patch": {"size": (16,) * dims, "batch": 2},
        "budget": {"steps": 16},
        "device": {"accelerator": "cpu", "precision": "32-true", "threads": 1},
    }
    return parse_config({**values, **sections})


@pytest.fixture
def cases() -> list[Case]:
    """Six patients with two images each."""
    return [replace(blob_case(f"b{i}", (24, 26), seed=i), group=f"p{i // 2}") for i in range(12)]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Case], list[Any]]:
    """A finished run."""
    cases = [replace(blob_case(f"b{i}", (24, 26), seed=i), group=f"p{i // 2}") for i in range(12)]
    out = tmp_path_factory.mktemp("cr") / "r"
    return out, cases, list(fit(build(), cases, out))


# ---------------------------------------------------------------- folds


def test_no_model_has_seen_whom_it_predicts(done: tuple[Path, list[Case], list[Any]]) -> None:
    out, cases, _ = done
    folds = json.loads((out / "folds.json").read_text())
    plan = make_plan(build(), cases)
    train, val = {s.group for s in plan.train}, {s.group for s in plan.val}
    assert set(folds) == train
    assert sorted(set(folds.values())) == [0, 1]
    for fold in (0, 1):
        seen = set(refine.trained_on(out / f"fold{fold + 1}"))
        assert seen == {name for name, number in folds.items() if number != fold}
        assert not seen & val
        config = from_yaml(out / f"fold{fold + 1}" / "config.yaml")
        assert config.network == from_yaml(out / "first" / "config.yaml").network
        assert config.data.val == 0


def test_swapped_folds_are_refused(done: tuple[Path, list[Case], list[Any]]) -> None:
    out, cases, _ = done
    folds = json.loads((out / "folds.json").read_text())
    config = build()
    plan = make_plan(config.updated(device=resolve_device(config.device)), cases)

    def collect(models: dict[int, Path]) -> Any:
        generator = refine.out_of_fold(plan, models, folds, lambda: False)
        try:
            while True:
                next(generator)
        except StopIteration as end:
            return end.value

    samples = collect({0: out / "fold1", 1: out / "fold2"})
    assert [s.name for s in samples] == [s.name for s in plan.train]
    for sample in samples:
        model = load_model(out / f"fold{folds[sample.group] + 1}", config.device)
        own = refine.probabilities(model, sample.image[:1])
        torch.testing.assert_close(sample.image[1:], own)
        torch.testing.assert_close(own.sum(dim=0), torch.ones(own.shape[1:]))
    with pytest.raises(CtxsegError, match="has seen the patient"):
        collect({0: out / "fold2", 1: out / "fold1"})
    with pytest.raises(CtxsegError, match="has seen the patient"):
        collect({0: out / "first", 1: out / "first"})


def test_folds_are_dealt_evenly_and_stay() -> None:
    names = [f"p{i}" for i in range(11)]
    dealt = deal(names, 3)
    assert sorted(list(dealt.values()).count(k) for k in range(3)) == [3, 4, 4]
    assert dealt == deal(names[::-1] * 2, 3)


@pytest.mark.parametrize(
    ("groups", "folds", "match"),
    [(["a", "a"], 2, "only one patient"), (["a", "b"], 3, "Set it to 2")],
)
def test_too_few_patients(groups: list[str], folds: int, match: str) -> None:
    with pytest.raises(InputError, match=match):
        deal(groups, folds)


def test_one_patient_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    alone = [replace(blob_case(f"b{i}", (24, 26), seed=i), group="p") for i in range(4)]
    with pytest.raises(InputError, match="only one patient"):
        list(fit(build(), alone, tmp_path / "r"))
    assert not (tmp_path / "r").exists()


def test_every_stage_in_mixed_precision(cases: list[Case], tmp_path: Path) -> None:
    device = {"accelerator": "cpu", "precision": "bf16-mixed", "threads": 1}
    list(fit(build(refine={"joint": 2}, device=device), cases, tmp_path / "r"))
    model = load_model(tmp_path / "r")
    assert model.thresholds is not None
    assert all(torch.isfinite(p).all() for p in model.network.parameters())


# ---------------------------------------------------------------- budget and events


def test_the_budget_covers_everything(done: tuple[Path, list[Case], list[Any]]) -> None:
    out, _, events = done
    steps = [e for e in events if isinstance(e, StepEnd)]
    assert [e.step for e in steps] == list(range(1, 17))
    assert {e.steps for e in steps} == {16}
    (started,) = [e for e in events if isinstance(e, RunStarted)]
    tensors, _ = checkpoint.load_tensors(out / "model.safetensors")
    assert started.parameters == sum(t.numel() for t in tensors.values()), "of both stages"
    (finished,) = [e for e in events if isinstance(e, RunFinished)]
    assert (finished.step, finished.stopped) == (16, False)
    assert {e.curve for e in events if isinstance(e, EpochEnd)} == {"validation Dice"}
    texts = [e.text for e in events if isinstance(e, Note)]
    assert any("without p" in text for text in texts)
    assert any("Thresholds fitted" in text for text in texts)


@pytest.mark.parametrize(
    ("budget", "refine_", "first", "second"),
    [
        ({"steps": 600}, {"folds": 3}, 120, 120),
        ({"steps": 600}, {"folds": 2, "steps": 300}, 100, 300),
        ({"steps": 605}, {"folds": 3, "joint": 5}, 120, 120),
        ({"steps": 2}, {"folds": 3}, 1, 1),
    ],
)
def test_steps_are_split(budget: Any, refine_: Any, first: int, second: int) -> None:
    stages = budgets(build(refine=refine_, budget=budget), None)
    assert stages.first is not None
    assert (stages.first.steps, stages.second.steps) == (first, second)
    if budget["steps"] > 10:
        assert stages.total(first, second) == budget["steps"]


def test_minutes_are_shared(cases: list[Case], tmp_path: Path) -> None:
    stages = budgets(build(budget={"minutes": 8}), None)
    assert stages.first is not None
    assert stages.first.minutes == stages.second.minutes == 2
    events = list(fit(build(budget={"minutes": 0.06}), cases, tmp_path / "r"))
    steps = [e for e in events if isinstance(e, StepEnd)]
    assert steps[-1].step == steps[-1].steps == next(e for e in events if isinstance(e, RunFinished)).step


# ---------------------------------------------------------------- resuming


@pytest.mark.parametrize("stop_at", [1, 6, 11, 15])
def test_stopped_in_any_stage_and_resumed(
    stop_at: int, done: tuple[Path, list[Case], list[Any]], tmp_path: Path
) -> None:
    whole, cases, _ = done
    events = fit_until(stop_at, build(), cases, tmp_path / "r")
    (finished,) = [e for e in events if isinstance(e, RunFinished)]
    assert finished.stopped
    assert finished.step <= stop_at
    assert not (tmp_path / "r/model.safetensors").exists()
    list(fit(build(), cases, tmp_path / "r", resume=True))
    a, _ = checkpoint.load_tensors(whole / "model.safetensors")
    b, _ = checkpoint.load_tensors(tmp_path / "r/model.safetensors")
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_a_part_cut_off_before_its_first_state_is_begun_again(
    done: tuple[Path, list[Case], list[Any]], tmp_path: Path
) -> None:
    whole, cases, _ = done
    shutil.copytree(whole, tmp_path / "r")
    shutil.rmtree(tmp_path / "r/fold2/state")
    shutil.rmtree(tmp_path / "r/second")
    list(fit(build(), cases, tmp_path / "r", resume=True))
    a, _ = checkpoint.load_tensors(whole / "model.safetensors")
    b, _ = checkpoint.load_tensors(tmp_path / "r/model.safetensors")
    assert all(torch.equal(a[key], b[key]) for key in a)


# ---------------------------------------------------------------- a finished run as base


def supervised(**sections: Any) -> RunConfig:
    return build(method="supervised", budget={"steps": 4, "val_every": 4}, **sections)


def test_a_finished_run_is_refined(cases: list[Case], tmp_path: Path) -> None:
    list(fit(supervised(loss="ce"), cases, tmp_path / "base"))
    config = build(refine={"base": str(tmp_path / "base")}, budget={"steps": 5})
    events = list(fit(config, cases, tmp_path / "r"))
    assert [e for e in events if isinstance(e, StepEnd)][-1].step == 2 * 4 + 5
    texts = [e.text for e in events if isinstance(e, Note)]
    assert any("The folds take about" in text for text in texts), "the time is told before"
    stored = from_yaml(tmp_path / "r/fold1/config.yaml")
    assert stored.loss.kind == "ce"
    assert stored.method.kind == "supervised"
    assert stored.budget.steps == 4
    base, _ = checkpoint.load_tensors(tmp_path / "base/model.safetensors")
    both, _ = checkpoint.load_tensors(tmp_path / "r/model.safetensors")
    assert all(torch.equal(both[f"first.{name}"], base[name]) for name in base)
    assert (tmp_path / "r/folds.json").is_file()


def test_a_base_of_other_patients_is_refused(cases: list[Case], tmp_path: Path) -> None:
    list(fit(supervised(), cases[:8], tmp_path / "base"))
    with pytest.raises(InputError, match="was trained on the patients"):
        list(fit(build(refine={"base": str(tmp_path / "base")}), cases, tmp_path / "r"))


def test_a_base_that_is_none(
    cases: list[Case], tmp_path: Path, done: tuple[Path, list[Case], list[Any]]
) -> None:
    for base, match in ((tmp_path / "nothing", "no run"), (done[0], "has been refined already")):
        with pytest.raises((CheckpointError, InputError), match=match):
            list(fit(build(refine={"base": str(base)}), cases, tmp_path / "r"))


# ---------------------------------------------------------------- prediction


def test_prediction_gives_labels_probabilities_and_error_masks(
    done: tuple[Path, list[Case], list[Any]],
) -> None:
    out, cases, _ = done
    (block,) = [e for e in predict(out, cases[0]) if isinstance(e, PredictionBlock)]
    assert block.thresholds is not None
    for part in (block.probabilities, block.fn, block.fp):
        assert part is not None
        assert part.shape == (2, 24, 26)
        assert 0 <= part.min() <= part.max() <= 1
    assert block.probabilities is not None
    np.testing.assert_allclose(block.probabilities.astype(float).sum(axis=0), 1, atol=2e-3)
    expected = compose_classes(block.probabilities.astype(np.float32), block.fn, block.fp, *block.thresholds)
    assert (block.labels == expected).mean() > 0.99  # half precision may turn a tie


def test_thresholds_are_those_of_the_validation_cases(done: tuple[Path, list[Case], list[Any]]) -> None:
    out, _, events = done
    _, record = checkpoint.load_tensors(out / "model.safetensors")
    (text,) = [e.text for e in events if isinstance(e, Note) and "Thresholds fitted" in e.text]
    assert f"false negatives {record['thresholds'][0]}, false positives {record['thresholds'][1]}" in text


def test_without_validation_they_are_the_released(tmp_path: Path, cases: list[Case]) -> None:
    events = list(fit(build(data={"val": 0.0}), cases, tmp_path / "r"))
    _, record = checkpoint.load_tensors(tmp_path / "r/model.safetensors")
    assert record["thresholds"] == [0.75, 0.75]
    assert any("both are 0.75" in e.text for e in events if isinstance(e, Note))


# ---------------------------------------------------------------- 3-D, planes, joint


def test_volumes(tmp_path: Path) -> None:
    volumes = [blob_case(f"v{i}", (18, 20, 22), seed=i) for i in range(5)]
    list(fit(build(3, budget={"steps": 8}), volumes, tmp_path / "r"))
    blocks = [e for e in predict(tmp_path / "r", volumes[0]) if isinstance(e, PredictionBlock)]
    assert sum(len(b.labels) for b in blocks) == 18
    assert blocks[0].fn is not None
    assert blocks[0].fn.shape[0] == 2
    assert blocks[0].fn.shape[1:] == blocks[0].labels.shape


def test_three_planes_and_joint_training(tmp_path: Path) -> None:
    volumes = [blob_case(f"v{i}", (18, 20, 22), seed=i) for i in range(4)]
    config = build(data={"planes": ["z", "y", "x"]}, refine={"joint": 2}, budget={"steps": 12})
    events = list(fit(config, volumes, tmp_path / "r"))
    assert [e for e in events if isinstance(e, StepEnd)][-1].step == 2 + 4 * (10 // 4) + 2 - 2
    model = load_model(tmp_path / "r")
    assert model.tiles.planes == (0, 1, 2)
    assert model.tiles.apart == 4
    first, _ = checkpoint.load_tensors(tmp_path / "r/first/model.safetensors")
    both, _ = checkpoint.load_tensors(tmp_path / "r/model.safetensors")
    assert any(not torch.equal(both[f"first.{name}"], first[name]) for name in first), "both stages moved"
    (block, *_) = [e for e in predict(model, volumes[0]) if isinstance(e, PredictionBlock)]
    assert block.probabilities is not None
    np.testing.assert_allclose(block.probabilities.astype(float).sum(axis=0), 1, atol=3e-3)


def test_it_learns_what_the_first_stage_gets_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first stage that always calls the upper half background: the second learns to put it back."""
    cases = [blob_case(f"b{i}", (32, 32), seed=i) for i in range(6)]
    half = cr_gan.out_of_fold

    def spoilt(*args: Any) -> Any:
        samples = yield from half(*args)
        for sample in samples:
            truth = (sample.target == 1).float()
            truth[:16] = 0
            sample.image[1], sample.image[2] = 1 - truth, truth
        return samples

    monkeypatch.setattr(cr_gan, "out_of_fold", spoilt)
    network = {"kind": "unet", "features": (8, 16, 16)}
    config = build(
        refine={"steps": 150, "network": network}, budget={"steps": 153}, optim={"lr": 5e-3},
        patch={"size": (32, 32), "batch": 4}, augment={"preset": "none"},
    )  # fmt: skip
    list(fit(config, cases, tmp_path / "r"))
    model = load_model(tmp_path / "r")
    from napari_ctxseg.networks.refined import Refined
    from napari_ctxseg.training.data import normalise

    assert isinstance(model.network, Refined)
    case = cases[0]
    image = normalise(case.image.channel_array, case.name)[None]
    truth = torch.from_numpy(np.asarray(case.labels)).float()
    p = truth.clone()
    p[:16] = 0
    with torch.no_grad():
        second = model.network.second
        fn, fp = second.errors(second(image, torch.stack([1 - p, p])[None]))
    missed = truth.bool() & ~p.bool()
    assert fn[0, 1][missed].mean() > 0.6
    assert fn[0, 1][~missed].mean() < 0.2
    assert fp[0, 1].mean() < 0.2, "nothing was made up"
