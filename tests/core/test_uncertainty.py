"""How sure a prediction is: formulas against numpy, and what must be zero."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
import torch
from pydantic import ValidationError
from typer.testing import CliRunner

from napari_ctxseg.cases import Case
from napari_ctxseg.cli import app
from napari_ctxseg.config import PredictConfig
from napari_ctxseg.errors import InputError
from napari_ctxseg.events import PredictionBlock, PredictionFinished
from napari_ctxseg.image import image_from_array
from napari_ctxseg.inference import load_model, predict
from napari_ctxseg.inference.blocks import Tiles
from napari_ctxseg.inference.predictor import Model
from napari_ctxseg.inference.uncertainty import Spread, entropy, probabilities
from napari_ctxseg.networks import make_network
from tests.core import test_inference

if TYPE_CHECKING:
    from pathlib import Path

SHAPES = [(2, (24, 20)), (2, (11, 13, 17)), (3, (9, 18, 16))]


def write_run(folder, **fields):
    folder.mkdir()
    return test_inference.write_run(folder, **fields)


def softmax(logits):
    shifted = np.exp(logits - logits.max(axis=0))
    return shifted / shifted.sum(axis=0)


def entropy_oracle(p):
    """Term by term, with 0 log 0 = 0."""
    found = np.zeros(p.shape[1:])
    for share in p:
        inside = share > 0
        found[inside] -= share[inside] * np.log(share[inside])
    return found / np.log(len(p))


def case_of(shape, seed=0):
    image = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return Case("a", image_from_array(image, "zyx"[-len(shape) :]))


class Conv(torch.nn.Module):
    """A convolution of one layer; mirror-symmetric where its kernel is."""

    def __init__(self, dims, outputs=3, *, symmetric, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        layer = torch.nn.Conv2d if dims == 2 else torch.nn.Conv3d
        self.layer = layer(1, outputs, 3, padding=1, padding_mode="replicate")
        if symmetric:
            with torch.no_grad():
                kernel = self.layer.weight
                kernel.copy_((kernel + kernel.flip(-1) + kernel.flip(-2) + kernel.flip(-1, -2)) / 4)

    def forward(self, x):
        return 4 * self.layer(x)


def model_of(network, dims, window, **fields):
    """A model whose window holds the whole plane: then a mirrored image is cut into mirrored windows."""
    classes = {} if fields.get("regions") else {"a": 5, "b": 300}
    tiles = Tiles(dims, window, regions=bool(fields.get("regions")))
    return Model(network.eval(), classes, 1, tiles, torch.device("cpu"), "32-true", **fields)


def joined(events, shape):
    """Labels and uncertainty of all blocks, which cover the image once."""
    found: dict[str, np.ndarray] = {}
    count = np.zeros(shape[0] if len(shape) == 3 else 1, int)
    for event in events:
        if isinstance(event, PredictionBlock):
            rows = (
                slice(event.start, event.start + event.labels.shape[-3]) if len(shape) == 3 else slice(None)
            )
            front = event.labels.shape[: event.labels.ndim - len(shape)]
            labels = found.setdefault("labels", np.zeros((*front, *shape), event.labels.dtype))
            labels[(..., rows, slice(None), slice(None)) if len(shape) == 3 else ...] = event.labels
            count[rows] += 1
            if event.uncertainty is not None:
                found.setdefault("uncertainty", np.zeros(shape))[rows] = event.uncertainty
    assert isinstance(event, PredictionFinished)
    assert (count == 1).all()
    return found


# ---------------------------------------------------------------- formulas


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_entropy_is_that_of_the_formula(classes):
    logits = 3 * torch.randn(classes, 5, 6)
    logits[0, 0, 0] = 200.0  # exactly 1 and 0 after the softmax: 0 log 0
    found = entropy(probabilities(logits))
    np.testing.assert_allclose(found, entropy_oracle(softmax(logits.double().numpy())), atol=1e-6)
    assert found[0, 0] == 0
    even = entropy(torch.full((classes, 2, 2), 1 / classes))
    np.testing.assert_allclose(even, 1, atol=1e-6)
    assert even.max() <= 1


def test_entropy_of_regions_is_the_mean_of_binary_ones():
    logits = torch.randn(3, 4, 5)
    p = 1 / (1 + np.exp(-logits.double().numpy()))
    expected = np.mean([entropy_oracle(np.stack([each, 1 - each])) for each in p], axis=0)
    found = entropy(probabilities(logits, regions=True), regions=True)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_probabilities_of_two_stages():
    logits = torch.randn(9, 4, 5)
    parts = logits.double().numpy()
    p, fn, fp = softmax(parts[:3]), *(1 / (1 + np.exp(-part)) for part in (parts[3:6], parts[6:]))
    score = np.clip(p + fn - fp, 1e-6, 1)
    np.testing.assert_allclose(probabilities(logits, refined=True), score / score.sum(axis=0), atol=1e-5)
    p = 1 / (1 + np.exp(-parts[:3]))
    np.testing.assert_allclose(
        probabilities(logits, refined=True, regions=True), np.clip(p + fn - fp, 0, 1), atol=1e-6
    )


@pytest.mark.parametrize("regions", [0, 2])
@pytest.mark.parametrize("shape", [(6, 7), (5, 6, 7)])
def test_spread_is_twice_the_standard_deviation(shape, regions):
    rng = np.random.default_rng(0)
    outputs = regions or 3
    answers = rng.dirichlet(np.ones(outputs), size=(4, *shape)).transpose(0, -1, *range(1, len(shape) + 1))
    chosen = rng.integers(0, 3, shape)
    spread = Spread(shape, regions)
    parts = [slice(0, 2), slice(2, shape[0])]  # as blocks come
    for number, answer in enumerate(answers):
        for part in parts:
            p = torch.as_tensor(np.ascontiguousarray(answer[:, part]))
            spread.add(part.start, p) if number else spread.begin(part.start, p, chosen[part])
        if number:
            spread.count()
    picked = answers if regions else np.take_along_axis(answers, chosen[None, None], axis=1)
    np.testing.assert_allclose(spread.result(), 2 * picked.std(axis=0).mean(axis=0), atol=1e-6)


def test_spread_ends_at_one():
    spread = Spread((1, 2))
    spread.begin(0, torch.tensor([[[1.0, 0.5]], [[0.0, 0.5]]]), np.array([[0, 1]]))
    assert (spread.result() == 0).all(), "a single answer cannot disagree"
    spread.add(0, torch.tensor([[[0.0, 0.5]], [[1.0, 0.5]]]))
    spread.count()
    np.testing.assert_array_equal(spread.result(), [[1, 0]])


# ---------------------------------------------------------------- whole images


@pytest.mark.parametrize(("dims", "shape"), SHAPES)
def test_entropy_beside_the_same_labels(dims, shape):
    network = Conv(dims, symmetric=False)
    model, case = model_of(network, dims, shape[-dims:]), case_of(shape)
    plain = joined(predict(model, case), shape)
    found = joined(predict(model, case, options=PredictConfig(uncertainty="entropy")), shape)
    np.testing.assert_array_equal(found["labels"], plain["labels"])
    assert "uncertainty" not in plain
    from napari_ctxseg.training.data import normalise

    image = normalise(case.image.channel_array, "")
    with torch.no_grad():
        logits = (
            network(image[None])[0]
            if image.ndim == dims + 1
            else network(image.transpose(0, 1)).transpose(0, 1)
        )
    np.testing.assert_allclose(
        found["uncertainty"], entropy_oracle(softmax(logits.double().numpy())), atol=2e-3
    )


@pytest.mark.parametrize(("dims", "shape"), SHAPES)
def test_a_mirror_symmetric_network_does_not_change_its_mind(dims, shape):
    options, case = PredictConfig(uncertainty="tta"), case_of(shape)
    model = model_of(Conv(dims, symmetric=True), dims, shape[-dims:])
    found = joined(predict(model, case, options=options), shape)
    assert found["uncertainty"].max() < 1e-4
    other = model_of(Conv(dims, symmetric=False), dims, shape[-dims:])
    assert joined(predict(other, case, options=options), shape)["uncertainty"].max() > 0.1


@pytest.mark.parametrize("passes", [2, 3, 4])
def test_mirrored_answers_against_numpy(passes):
    network, case = Conv(2, symmetric=False), case_of((24, 20))
    found = joined(
        predict(
            model_of(network, 2, (24, 20)), case, options=PredictConfig(uncertainty="tta", passes=passes)
        ),
        (24, 20),
    )
    from napari_ctxseg.training.data import normalise

    image = normalise(case.image.channel_array, "").numpy()
    answers = []
    for flip in [(), (2,), (1,), (1, 2)][:passes]:
        seen = torch.as_tensor(np.flip(image, flip).copy())
        with torch.no_grad():
            answers.append(np.flip(softmax(network(seen[None])[0].double().numpy()), flip))
    chosen = answers[0].argmax(axis=0)
    picked = np.take_along_axis(np.stack(answers), chosen[None, None], axis=1)[:, 0]
    np.testing.assert_allclose(found["uncertainty"], 2 * picked.std(axis=0), atol=2e-3)
    np.testing.assert_array_equal(found["labels"], np.array([0, 5, 300])[chosen])


def test_regions_have_an_uncertainty_too():
    model = model_of(
        Conv(2, symmetric=False), 2, (12, 10), regions={"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}
    )
    for kind in ("entropy", "tta"):
        found = joined(
            predict(model, case_of((5, 12, 10)), options=PredictConfig(uncertainty=kind)), (5, 12, 10)
        )
        assert found["labels"].shape == (3, 5, 12, 10)
        assert 0 < found["uncertainty"].max() <= 1


def test_a_second_stage_has_an_uncertainty_too():
    model = model_of(Conv(2, 9, symmetric=False), 2, (12, 10), thresholds=(0.5, 0.5))
    for kind in ("entropy", "tta"):
        events = list(predict(model, case_of((5, 12, 10)), options=PredictConfig(uncertainty=kind)))
        assert all(e.fn is not None for e in events if isinstance(e, PredictionBlock))
        assert 0 < joined(events, (5, 12, 10))["uncertainty"].max() <= 1


# ---------------------------------------------------------------- ensembles


def test_members_that_agree_and_members_that_do_not():
    shape = (9, 18, 16)
    one, other = (model_of(Conv(2, symmetric=False, seed=seed), 2, (18, 16)) for seed in (0, 1))
    volume = model_of(Conv(3, symmetric=False, seed=2), 3, shape)
    options = PredictConfig(uncertainty="ensemble", runs=("x",))
    case = case_of(shape)
    same = joined(predict(one, case, options=options, members=[one, one]), shape)
    assert same["uncertainty"].max() == 0
    found = joined(predict(one, case, options=options, members=[other, volume]), shape)
    np.testing.assert_array_equal(found["labels"], joined(predict(one, case), shape)["labels"])
    assert found["uncertainty"].max() > 0.2


def test_members_must_fit(tmp_path: Path):
    first = write_run(tmp_path / "one")
    other = write_run(tmp_path / "two", channels=2)
    options = PredictConfig(uncertainty="ensemble", runs=(str(other),))
    with pytest.raises(InputError, match="different channels"):
        list(predict(first, case_of((12, 12)), options=options))
    with pytest.raises(ValidationError, match="other `runs`"):
        PredictConfig(uncertainty="ensemble")


def test_stop_ends_between_passes():
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 3

    events = list(
        predict(
            model_of(Conv(2, symmetric=False), 2, (12, 12)), case_of((40, 12, 12)),
            options=PredictConfig(uncertainty="tta"), stop=stop,
        )
    )  # fmt: skip
    assert not any(isinstance(event, PredictionBlock | PredictionFinished) for event in events)


# ---------------------------------------------------------------- the command


def ctxseg(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


def test_predict_writes_uncertainty(tmp_path: Path):
    image = np.random.default_rng(0).normal(size=(5, 20, 24)).astype(np.float32)
    tifffile.imwrite(tmp_path / "P1.tif", image, photometric="minisblack")
    run, other = write_run(tmp_path / "run"), write_run(tmp_path / "other")
    words = ("predict", run, tmp_path / "P1.tif", "--threads", 1, "--out")
    done = ctxseg(*words, tmp_path / "e", "--uncertainty", "entropy")
    assert done.exit_code == 0, done.stderr
    assert [p.name for p in (tmp_path / "e/maps").iterdir()] == ["P1_uncertainty.tif"]
    written = tifffile.imread(tmp_path / "e/maps/P1_uncertainty.tif")
    assert written.dtype == np.float32
    model = load_model(run)
    case = Case("P1", image_from_array(image, "zyx"))
    expected = joined(predict(model, case, options=PredictConfig(uncertainty="entropy")), image.shape)
    np.testing.assert_allclose(written, expected["uncertainty"], atol=1e-6)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "e/P1.tif"), expected["labels"])
    # The weights of both runs are the same: they agree everywhere.
    done = ctxseg(
        *words, tmp_path / "s", "--uncertainty", "ensemble", "--ensemble", other, "--maps", "--json"
    )
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[0])["labels"].endswith("P1.tif")
    assert tifffile.imread(tmp_path / "s/maps/P1_uncertainty.tif").max() == 0
    plain = ctxseg(*words, tmp_path / "n")
    assert plain.exit_code == 0
    assert not (tmp_path / "n/maps").exists()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--uncertainty", "guess"), "Choose from none, entropy, tta, ensemble"),
        (("--uncertainty", "ensemble"), "--ensemble RUN"),
        (("--ensemble", "x"), "--ensemble RUN"),
        (("--maps",), "no second stage"),
    ],
)
def test_predict_refuses(tmp_path: Path, words, text):
    tifffile.imwrite(tmp_path / "P1.tif", np.zeros((8, 8), np.float32))
    done = ctxseg(
        "predict", write_run(tmp_path / "run"), tmp_path / "P1.tif", "--out", tmp_path / "o", *words
    )
    assert done.exit_code == 1
    assert text in done.stderr


def test_the_network_of_the_house_is_not_symmetric():
    # Otherwise the tests above would say nothing of a real network.
    network = make_network(
        {"kind": "unet", "dims": 2, "in_channels": 1, "out_channels": 3, "features": (4, 8, 8)}
    )
    model = model_of(network, 2, (16, 16))
    found = joined(predict(model, case_of((16, 16)), options=PredictConfig(uncertainty="tta")), (16, 16))
    assert found["uncertainty"].max() > 1e-3
