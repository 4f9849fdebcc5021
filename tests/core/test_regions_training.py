"""Overlapping regions from labels to files: training, its methods, resuming, prediction, limits, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import torch
from torch import nn
from typer.testing import CliRunner

from napari_ctxseg.cases import Case
from napari_ctxseg.cli import app
from napari_ctxseg.composition import compose_regions
from napari_ctxseg.config import from_yaml, parse_config
from napari_ctxseg.errors import CtxsegError, InputError
from napari_ctxseg.events import EpochEnd, Note, PredictionBlock, Preview, RunStarted, StepEnd
from napari_ctxseg.image import IGNORE, image_from_array
from napari_ctxseg.inference import load_model, predict
from napari_ctxseg.inference.blocks import Tiles, dice_of_regions, logit_blocks
from napari_ctxseg.networks import make_network
from napari_ctxseg.networks.adversarial import hide_unlabelled, mask_of
from napari_ctxseg.training import fit, refine
from napari_ctxseg.training.methods import make_trainer
from napari_ctxseg.training.plan import make_plan, resolve_device
from napari_ctxseg.training.supervised import Trainer

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

    from napari_ctxseg.config import RunConfig
    from napari_ctxseg.training.plan import Plan

REGIONS = {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}
SMALL = {"kind": "unet", "features": (4, 8, 8)}


def nested(name: str, shape: tuple[int, ...] = (36, 40), seed: int = 0, group: str = "") -> Case:
    """Three balls one in the other, each brighter than the one around it: values 2, 1 and 4."""
    rng = np.random.default_rng(seed)
    centre = [rng.uniform(0.4 * n, 0.6 * n) for n in shape]
    distance = np.sqrt(sum((g - c) ** 2 for g, c in zip(np.indices(shape), centre, strict=True)))
    labels = np.zeros(shape, np.uint8)
    for value, share in ((2, 0.38), (1, 0.28), (4, 0.17)):
        labels[distance <= share * min(shape)] = value
    brightness = np.array([0, 80, 40, 0, 130])[labels]
    image = (rng.normal(100, 8, shape) + brightness).astype(np.float32)
    return Case(name, image_from_array(image, "zyx"[-len(shape) :]), labels, group or name)


def build(dims: int = 2, data: dict[str, Any] | None = None, **sections: Any) -> RunConfig:
    values: dict[str, Any] = {
        "data": {"regions": REGIONS, **(data or {})},
        "network": SMALL | {"dims": dims},
        "loss": "dice_ce",
        "patch": {"size": (32,) * dims if dims == 2 else (16,) * 3, "batch": 2},
        "budget": {"steps": 4, "val_every": 4},
        "device": {"accelerator": "cpu", "precision": "32-true", "threads": 1},
    }
    return parse_config({**values, **sections})


def plan_of(config: RunConfig, cases: list[Case]) -> Plan:
    return make_plan(config.updated(device=resolve_device(config.device)), cases)


@pytest.fixture
def cases() -> list[Case]:
    return [nested(f"n{i}", seed=i) for i in range(5)]


def wanted(labels: Any) -> np.ndarray:
    """Masks of the regions, by hand."""
    return np.stack([np.isin(labels, values) for values in REGIONS.values()])


# ---------------------------------------------------------------- it learns


@pytest.mark.parametrize(
    "loss",
    [
        "dice_ce",
        {"kind": "dilated_balanced_ce", "radius": 5, "unit": "px"},
        "contour_weighted_ce_dice",
        {"kind": "context_ce", "roi": {"kind": "dynamic", "margin": 4}},
    ],
    ids=lambda c: c if isinstance(c, str) else c["kind"],
)
def test_it_learns_every_region(loss: Any, cases: list[Case], tmp_path: Path) -> None:
    config = build(loss=loss, budget={"steps": 90, "val_every": 15}, optim={"lr": 8e-3})
    events = list(fit(config, cases, tmp_path / "r"))
    curve = [event for event in events if isinstance(event, EpochEnd)]
    assert list(curve[0].dice) == list(REGIONS)
    assert curve[-1].mean is not None
    assert curve[0].mean is not None
    assert curve[-1].mean > max(0.6, curve[0].mean + 0.1)
    assert next(e for e in events if isinstance(e, RunStarted)).classes == tuple(REGIONS)
    (block,) = [e for e in predict(tmp_path / "r", cases[0]) if isinstance(e, PredictionBlock)]
    assert block.regions == tuple(REGIONS)
    assert block.labels.dtype == np.uint8
    assert block.labels.shape == (3, 36, 40)
    truth = wanted(cases[0].labels)
    sizes = (block.labels + truth).sum(axis=(1, 2))
    dice = 2 * (block.labels * truth).sum(axis=(1, 2)) / sizes
    assert (dice > 0.4).all()


def test_volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_ctxseg.training.preview.EVERY", 0.0)
    volumes = [nested(f"v{i}", (20, 22, 24), seed=i) for i in range(3)]
    config = build(3, budget={"steps": 40, "val_every": 10}, optim={"lr": 8e-3})
    events = list(fit(config, volumes, tmp_path / "r", visible=lambda: ("v0", 9)))
    dice = [e.mean for e in events if isinstance(e, EpochEnd)]
    assert dice[-1] is not None
    assert dice[0] is not None
    assert dice[-1] > dice[0] + 0.1
    preview = [e for e in events if isinstance(e, Preview)][-1]
    assert preview.labels.shape == (3, 22, 24)
    assert preview.regions == tuple(REGIONS)
    blocks = [e for e in predict(tmp_path / "r", volumes[0]) if isinstance(e, PredictionBlock)]
    assert np.concatenate([b.labels for b in blocks], axis=1).shape == (3, 20, 22, 24)
    assert [b.start for b in blocks] == [0, 8, 16]


def test_slices_of_partly_labelled_volumes(tmp_path: Path) -> None:
    """2-D slices: what is unlabelled plays no part in the curve, and planes are averaged region by region."""
    volumes = [nested(f"v{i}", (16, 18, 20), seed=i) for i in range(3)]
    volumes = [replace(v, labelled={0: (6, 8)}) for v in volumes]
    config = build(
        data={"annotation": "masks", "planes": ["z", "y", "x"]}, patch={"size": (16, 16), "batch": 2}
    )
    list(fit(config, volumes, tmp_path / "r"))
    model = load_model(tmp_path / "r")
    assert model.tiles.planes == (0, 1, 2)
    blocks = [e for e in predict(model, volumes[0]) if isinstance(e, PredictionBlock)]
    assert sum(b.labels.shape[1] for b in blocks) == 16


def test_planes_average_probabilities_of_each_region() -> None:
    image = torch.randn(1, 5, 6, 7)

    def pointwise(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, -x, 2 * x], dim=1)

    tiles = Tiles(2, (8, 8), (0, 1, 2), regions=True)
    *_, (_, logits, _) = logit_blocks(pointwise, image, tiles)
    assert logits is not None
    torch.testing.assert_close(logits, pointwise(image[None])[0], rtol=1e-4, atol=1e-4)


def test_dice_of_regions_leaves_out_what_is_nowhere_or_unlabelled() -> None:
    target = torch.tensor([[1, 1, 0, -1], [3, 0, 0, -1]])
    members = torch.tensor([[0, 1, 0, 1], [0, 0, 0, 1], [0, 0, 1, 0]]).bool()
    guess = torch.tensor([[[1, 0, 0, 1], [1, 0, 0, 1]], [[0, 0, 0, 1], [0, 1, 0, 1]], [[0] * 4, [0] * 4]])
    truth = mask_of(target[None], 4, members)[0]
    assert dice_of_regions(guess, truth, target >= 0) == [pytest.approx(0.8), 0.0, None]


# ---------------------------------------------------------------- methods


@pytest.mark.parametrize("kind", ["gan", "seg_glgan", "cgan"])
def test_adversarial_methods_move_every_tensor(kind: str) -> None:
    cases = [nested(f"n{i}", (48, 50), seed=i) for i in range(5)]
    method = {"kind": kind} | ({"l1_weight": 1.0} if kind == "cgan" else {})
    config = build(method=method, patch={"size": (44, 44), "batch": 2}, optim={"weight_decay": 0.0})
    trainer: Any = make_trainer(plan_of(config, cases))
    modules = {"network": trainer._plain, "discriminator": trainer._judge}
    before = {k: {n: p.clone() for n, p in m.named_parameters()} for k, m in modules.items()}
    for step in range(3):
        done = trainer.step(step, 3)
        assert done.loss is not None
        assert np.isfinite(list(done.parts.values())).all()
    for name, module in modules.items():
        assert not [n for n, p in module.named_parameters() if torch.equal(p, before[name][n])], name


def test_a_discriminator_is_shown_regions() -> None:
    target = torch.tensor([[[0, 1], [3, IGNORE]]])
    members = torch.tensor([[0, 1, 0, 1], [0, 0, 0, 1]]).bool()
    expected = torch.tensor([[[[0.0, 1.0], [1.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]]]])
    assert torch.equal(mask_of(target, 4, members), expected)
    assert torch.equal(
        hide_unlabelled(torch.ones_like(expected), target)[0, 0], torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    )


CR_GAN = {"kind": "cr_gan", "adversarial_weight": 0.1, "refine": {"folds": 2, "network": SMALL, "joint": 2}}


def refined(tmp_path: Path) -> tuple[Path, list[Case], list[Any], RunConfig]:
    cases = [nested(f"n{i}", (24, 26), seed=i, group=f"p{i // 2}") for i in range(12)]
    config = build(method=CR_GAN, patch={"size": (16, 16), "batch": 2}, budget={"steps": 18})
    return tmp_path / "r", cases, list(fit(config, cases, tmp_path / "r")), config


def test_cr_gan(tmp_path: Path) -> None:
    out, cases, events, config = refined(tmp_path)
    assert [e.step for e in events if isinstance(e, StepEnd)] == list(range(1, 19))
    assert any("Thresholds fitted" in e.text for e in events if isinstance(e, Note))
    model = load_model(out)
    assert model.regions == REGIONS
    second: Any = model.network.second
    assert second.regions
    (block,) = [e for e in predict(model, cases[0]) if isinstance(e, PredictionBlock)]
    assert block.probabilities is not None
    assert block.probabilities.shape == (3, 24, 26)
    assert block.thresholds == model.thresholds
    composed = compose_regions(block.probabilities > 0.5, block.fn, block.fp, *(block.thresholds or ()))
    assert (block.labels == composed).mean() > 0.99
    # Every tensor of the second stage learns, from out-of-fold probabilities that do not exclude each other.
    plan = plan_of(config, cases)
    folds = json.loads((out / "folds.json").read_text())
    generator = refine.out_of_fold(plan, {0: out / "fold1", 1: out / "fold2"}, folds, lambda: False)
    samples = None
    while samples is None:
        try:
            next(generator)
        except StopIteration as end:
            samples = end.value
    torch.testing.assert_close(
        samples[0].image[1:],
        refine.probabilities(load_model(out / f"fold{folds[samples[0].group] + 1}"), samples[0].image[:1]),
    )
    trainer = refine.RefineTrainer(refine.refine_plan(plan, samples, config.budget), out / "first")
    before = {n: p.clone() for n, p in trainer._plain.named_parameters()}
    for step in range(3):
        assert trainer.step(step, 3).loss is not None
    assert not [n for n, p in trainer._plain.named_parameters() if torch.equal(p, before[n])]
    maps = trainer.maps(samples[0].image)
    assert torch.equal(
        trainer.segment(samples[0].image),
        compose_regions(maps[0] > 0.5, maps[1], maps[2], *refine.THRESHOLDS),
    )


def test_thresholds_are_fitted_on_masks_of_regions(tmp_path: Path) -> None:
    out, cases, _, config = refined(tmp_path)
    plan = plan_of(config, cases)
    model = load_model(out)
    (first, *_) = refine._validation(model, plan)
    sample = plan.watched[0]
    case = next(c for c in cases if c.name == sample.name)
    assert first[0].dtype == bool
    np.testing.assert_array_equal(first[3] == 1, wanted(case.labels))


# ---------------------------------------------------------------- resuming


@pytest.mark.parametrize("method", ["supervised", "cgan"])
def test_a_resumed_run_equals_the_uninterrupted_one(method: str, cases: list[Case], tmp_path: Path) -> None:
    config = build(method=method, budget={"steps": 5, "val_every": 3})
    list(fit(config, cases, tmp_path / "whole"))
    asked = iter([False] * 2)
    list(fit(config, cases, tmp_path / "cut", stop=lambda: next(asked, True)))
    list(fit(config, cases, tmp_path / "cut", resume=True))
    for name in ("model.safetensors", "state/00000005.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()
    assert from_yaml(tmp_path / "cut/config.yaml").data.regions == REGIONS


# ---------------------------------------------------------------- symmetry and limits


class TwoClasses(nn.Module):
    """A network of one channel as one of two classes, outside and inside."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.inner(x)
        return torch.cat([torch.zeros_like(z), z], dim=1)


class TwoClassTrainer(Trainer):
    def _build(self) -> nn.Module:
        config = self._plan.config.network.model_copy(update={"out_channels": 1})
        return TwoClasses(make_network(config))


@pytest.mark.parametrize("loss", ["dice_ce", "contour_weighted_ce", "balanced_ce"])
def test_one_region_of_all_values_trains_as_foreground(loss: str) -> None:
    """The same weights after the same steps as one class of two, outside and inside."""
    cases = [nested(f"n{i}", seed=i) for i in range(4)]
    flat = [replace(c, labels=(np.asarray(c.labels) > 0).astype(np.uint8)) for c in cases]
    one = Trainer(plan_of(build(data={"regions": {"all": [1]}}, loss=loss), flat))
    two = TwoClassTrainer(plan_of(build(data={"regions": {}, "foreground": True}, loss=loss), flat))
    assert sum(p.numel() for p in one._plain.parameters()) == sum(p.numel() for p in two._plain.parameters())
    for step in range(4):
        a, b = one.step(step, 4), two.step(step, 4)
        assert a.loss == pytest.approx(b.loss, rel=1e-5)
    for p, q in zip(one._plain.parameters(), two._plain.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)
    image = one._plan.train[0].image
    assert torch.equal(one.segment(image)[0].long(), two.segment(image).long())
    # And with the values kept apart the target is the same.
    many = plan_of(build(data={"regions": {"all": [1, 2, 4]}}), cases)
    assert many.members is not None
    masks = mask_of(many.train[0].target[None], 4, many.members)[0, 0]
    assert torch.equal(masks, (many.train[0].target > 0).float())


def test_permuted_regions_permute_outputs(cases: list[Case]) -> None:
    order = [2, 0, 1]
    moved = {list(REGIONS)[k]: list(REGIONS.values())[k] for k in order}
    network = {"kind": "unet", "block": "plain", "features": (4, 8)}
    a = Trainer(plan_of(build(network=network), cases))
    b = Trainer(plan_of(build(network=network, data={"regions": moved}), cases))
    for p, q in zip(a._plain.parameters(), b._plain.parameters(), strict=True):
        q.data.copy_(p.data[order] if p.shape[0] == 3 else p.data)
    assert any(p.shape[0] == 3 for p in a._plain.parameters())
    for step in range(3):
        first, second = a.step(step, 3), b.step(step, 3)
        assert first.loss == pytest.approx(second.loss, rel=1e-5)
    image = a._plan.train[0].image[None]
    with torch.no_grad():
        torch.testing.assert_close(b.network(image), a.network(image)[:, order], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("what", ["classes", "regions"])
def test_order_survives_the_file(what: str, cases: list[Case], tmp_path: Path) -> None:
    """Channels go by order, and files must not sort what names them."""
    table = {"myo": 4, "LV": 1, "RV": 2} if what == "classes" else {"myo": [4], "LV": [1], "RV": [2]}
    list(fit(build(data={"regions": {}, what: table}), cases, tmp_path / "r"))
    assert list(getattr(load_model(tmp_path / "r"), what)) == ["myo", "LV", "RV"]
    assert list(getattr(from_yaml(tmp_path / "r/config.yaml").data, what)) == ["myo", "LV", "RV"]


# ---------------------------------------------------------------- files


def ctxseg(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("files")
    for name in ("images", "labels"):
        (root / name).mkdir()
    for i in range(4):
        case = nested(f"P{i}", seed=i)
        tifffile.imwrite(root / "images" / f"P{i}.tif", case.image.array)
        tifffile.imwrite(root / "labels" / f"P{i}.tif", np.asarray(case.labels))
    done = ctxseg(
        "train", "--images", root / "images", "--labels", root / "labels", "--out", root / "run",
        "--steps", 60, "--threads", 1, "--set", "network.features=[4,8,8]", "--set", "patch.size=[32,32]",
        "--set", "optim.lr=0.008", "--set", "data.regions={WT: [1, 2, 4], TC: [1, 4], ET: [4]}",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    return root


def test_predict_and_evaluate_files(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "p"
    done = ctxseg("predict", files / "run", files / "images", "--out", out, "--threads", 1)
    assert done.exit_code == 0, done.stderr
    assert {p.name for p in out.glob("*.tif")} == {f"P{i}_{name}.tif" for i in range(4) for name in REGIONS}
    record = json.loads((out / "predictions.json").read_text())
    assert record["regions"] == {name: list(values) for name, values in REGIONS.items()}
    assert list(record["regions"]) == list(REGIONS)
    model, case = load_model(files / "run"), nested("P1", seed=1)
    (block,) = [e for e in predict(model, case) if isinstance(e, PredictionBlock)]
    for k, name in enumerate(REGIONS):
        np.testing.assert_array_equal(tifffile.imread(out / f"P1_{name}.tif"), block.labels[k])
    values = json.loads(ctxseg("evaluate", "--pred", out, "--ref", files / "labels", "--json").stdout)
    assert list(values["classes"]) == list(REGIONS)
    assert len(values["cases"]) == 4
    truth = wanted(case.labels)[1]
    dice = 2 * (block.labels[1] * truth).sum() / (block.labels[1].sum() + truth.sum())
    scored = {c["name"]: c["classes"]["TC"]["dice"] for c in values["cases"]}
    assert scored["P1"] == pytest.approx(dice)
    drawn = tmp_path / "drawn"
    drawn.mkdir()
    for i in range(4):
        for k, name in enumerate(REGIONS):
            mask = wanted(nested("", seed=i).labels)[k]
            tifffile.imwrite(drawn / f"P{i}_{name}.tif", 255 * mask.astype(np.uint8))
    masks = json.loads(ctxseg("evaluate", "--pred", out, "--ref", drawn, "--json").stdout)
    assert masks["mean"] == values["mean"]
    (out / "P2_TC.tif").unlink()
    lacking = ctxseg("evaluate", "--pred", out, "--ref", files / "labels")
    assert lacking.exit_code == 1
    assert "no predicted file of TC" in lacking.stderr
    (drawn / "P0_WT.tif").rename(out / "P0_other.tif")
    assert "none of the regions" in ctxseg("evaluate", "--pred", out, "--ref", files / "labels").stderr


def test_names_that_meet_are_refused(files: Path, tmp_path: Path) -> None:
    (tmp_path / "i").mkdir()
    image = tifffile.imread(files / "images" / "P0.tif")
    list(
        fit(
            build(data={"regions": {"b": [1], "b_b": [2]}}),
            [nested(f"n{i}", seed=i) for i in range(3)],
            tmp_path / "r",
        )
    )
    for name in ("a", "a_b"):
        tifffile.imwrite(tmp_path / "i" / f"{name}.tif", image)
    done = ctxseg("predict", tmp_path / "r", tmp_path / "i", "--out", tmp_path / "p", "--threads", 1)
    assert done.exit_code == 1
    assert "written for two images" in done.stderr


# ---------------------------------------------------------------- before the first step


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"regions": {"A": []}}, "needs values of 1 or more"),
        ({"regions": {"A": [0, 1]}}, "needs values of 1 or more"),
        ({"regions": {"A": [1, 1]}}, "each once"),
        ({"regions": {"A": [1], "B": [2]}, "foreground": True}, "no `regions` beside it"),
        ({"regions": {"A": [1, 2], "B": [2, 1]}}, "A and B have the same values"),
        ({"regions": {"A": [1], "a": [2]}}, "A and a would have the same files"),
        ({"regions": {"A/B": [1]}}, "letters, digits"),
        ({"regions": {"A": [1, 3]}, "annotation": "scribbles", "background": 3}, "painted background"),
        ({"regions": {"A": [1, 2]}, "classes": {"one": 1}}, "only name the regions' values [1, 2], not [1]"),
    ],
)
def test_regions_that_cannot_be(data: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_config({"data": data})
    assert text in str(caught.value)


def test_classes_may_name_the_values(cases: list[Case]) -> None:
    names = {"edema": 2, "core": 1, "enhancing": 4}
    plan = plan_of(build(data={"classes": names}), cases)
    assert plan.classes == names
    assert plan.members is not None
    assert plan.members.tolist() == [
        [False, True, True, True],
        [False, False, True, True],
        [False, False, False, True],
    ]
    assert plan.config.network.out_channels == 3


def test_values_in_no_region_are_background(cases: list[Case]) -> None:
    plan = plan_of(build(data={"regions": {"ET": [4]}}), cases)
    labels = np.asarray(next(c for c in cases if c.name == plan.train[0].name).labels)
    np.testing.assert_array_equal(plan.train[0].target.numpy() > 0, labels == 4)


def test_what_is_nowhere_is_said(cases: list[Case]) -> None:
    plan = plan_of(build(data={"regions": {"A": [1, 7], "B": [9], "C": [2, 4]}}), cases)
    assert "Region 'A' names values that are nowhere in the labels: [7]" in plan.notes
    assert "Region 'B' is nowhere in the labels: none of its values [9] is" in plan.notes
    assert not [note for note in plan.notes if "'C'" in note]
    painted = [
        replace(c, labels=np.where(np.asarray(c.labels) > 2, 4, np.asarray(c.labels) & 1)) for c in cases
    ]
    scribbles = {"annotation": "scribbles", "regions": {"A": [1, 4], "B": [4]}}
    notes = plan_of(build(data=scribbles), painted).notes
    assert [note for note in notes if "Region 'A' is everywhere" in note]
    assert not [note for note in notes if "'B'" in note]


def test_class_weights_are_two(cases: list[Case]) -> None:
    with pytest.raises(InputError, match="holds 4 numbers for 2 classes, outside and inside a region"):
        plan_of(build(loss={"kind": "weighted_ce", "weights": (1, 2, 3, 4)}), cases)
    nested_sum = {
        "kind": "sum",
        "terms": [{"loss": {"kind": "balanced_ce", "scope": "dataset", "frequencies": (1, 1, 1)}}],
    }
    with pytest.raises(InputError, match="holds 3 numbers for 2 classes"):
        plan_of(build(loss=nested_sum), cases)
    plan = plan_of(build(loss={"kind": "balanced_ce", "scope": "dataset"}), cases)
    loss: Any = plan.config.loss
    labels = np.stack([np.asarray(c.labels) for c in cases if c.name in {s.name for s in plan.train}])
    inside = np.mean([np.isin(labels, values).mean() for values in REGIONS.values()])
    assert loss.frequencies == pytest.approx((1 - inside, inside))
    trainer = make_trainer(plan)
    assert trainer.step(0, 4).loss is not None


def test_other_regions_than_before(cases: list[Case], tmp_path: Path) -> None:
    """Weights go on with a word about it; a refinement needs the same ones in the same order."""
    cases = [replace(c, group=f"p{i}") for i, c in enumerate(cases)]
    list(fit(build(), cases, tmp_path / "base"))
    moved = {"TC": (1, 4), "WT": (1, 2, 4), "ET": (4,)}
    events = list(fit(build(data={"regions": moved}, init=str(tmp_path / "base")), cases, tmp_path / "next"))
    assert [e for e in events if isinstance(e, Note) and "other names or values before" in e.text]
    method = {"kind": "cr_gan", "refine": {"folds": 2, "network": SMALL, "base": str(tmp_path / "base")}}
    with pytest.raises(CtxsegError, match="has other classes"):
        list(fit(build(method=method, data={"regions": moved}), cases, tmp_path / "r"))
