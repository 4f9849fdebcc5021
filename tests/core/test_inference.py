"""Sliding windows and prediction: every size comes back as it went in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_ctxseg.cases import Case
from napari_ctxseg.errors import CheckpointError, InputError
from napari_ctxseg.events import PredictionBlock, PredictionFinished
from napari_ctxseg.image import image_from_array
from napari_ctxseg.inference import load_model, predict
from napari_ctxseg.inference.blocks import Tiles, dice_of, logit_blocks, mean_dice, segment
from napari_ctxseg.inference.tiling import predict_logits
from napari_ctxseg.networks import make_network
from napari_ctxseg.training import checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def pointwise(x: torch.Tensor) -> torch.Tensor:
    """A network without context: blending must give back exactly what it says of each pixel."""
    return torch.cat([x, -x, 2 * x], dim=1)


@pytest.mark.parametrize("size", [*range(1, 24), 31, 47, 64, 70])
def test_blending_is_exact_for_every_2d_size(size: int) -> None:
    image = torch.randn(2, 1, size, 37)
    torch.testing.assert_close(
        predict_logits(pointwise, image, (16, 12)), pointwise(image), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 13, 16, 23, 40])
def test_blending_is_exact_for_every_3d_size(size: int) -> None:
    image = torch.randn(1, 1, size, 9, 17)
    torch.testing.assert_close(
        predict_logits(pointwise, image, (8, 8, 8)), pointwise(image), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 13, 11), (9, 30, 5)])
@pytest.mark.parametrize("dims", [2, 3])
def test_blocks_cover_a_volume(shape: tuple[int, ...], dims: int) -> None:
    image = torch.randn(1, *shape)
    tiles = Tiles(dims, (8,) * dims)
    expected = pointwise(image[None])[0].max(dim=0).indices
    assert torch.equal(segment(pointwise, image, tiles), expected)
    done = [progress for _, _, progress in logit_blocks(pointwise, image, tiles)]
    assert done == sorted(done)
    assert done[-1] == 1.0


@pytest.mark.parametrize(
    ("first", "order"), [(0, [0, 8, 16]), (21, [16, 8, 0]), (11, [8, 0, 16]), (99, [16, 8, 0])]
)
def test_the_slice_in_sight_comes_first(first: int, order: list[int]) -> None:
    image = torch.randn(1, 23, 10, 9)
    blocks = [
        (start, logits)
        for start, logits, _ in logit_blocks(pointwise, image, Tiles(2, (8, 8)), first=first)
        if logits is not None
    ]
    assert [start for start, _ in blocks] == order
    joined = torch.cat([logits for _, logits in sorted(blocks, key=lambda block: block[0])], dim=1)
    torch.testing.assert_close(joined, pointwise(image[None])[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("side", [1, 5, 8, 17])
def test_networks_take_any_size(dims: int, side: int) -> None:
    config = {"kind": "unet", "dims": dims, "in_channels": 2, "out_channels": 3, "features": (4, 8, 8)}
    network = make_network(config).eval()
    shape = (side, *[9] * (dims - 1))
    assert network(torch.randn(1, 2, *shape)).shape == (1, 3, *shape)


def test_dice_leaves_out_what_is_nowhere() -> None:
    target = torch.tensor([[0, 1, 1, -1], [2, 0, 0, -1]])
    guess = torch.tensor([[0, 1, 0, 3], [0, 0, 0, 3]])
    assert dice_of(guess, target, 4) == [pytest.approx(2 / 3), 0.0, None]
    names = ("a", "b", "c")
    assert mean_dice([[1.0, None, None], [0.5, 0.0, None]], names) == (
        {"a": 0.75, "b": 0.0, "c": None},
        0.375,
    )


# ---------------------------------------------------------------- runs


def write_run(folder: Path, dims: int = 2, channels: int = 1) -> Path:
    torch.manual_seed(0)
    config = {"kind": "unet", "dims": dims, "in_channels": channels, "out_channels": 3, "features": [4, 8, 8]}
    meta = {"step": 1, "classes": {"a": 5, "b": 300}, "network": config, "patch": [16] * dims}
    checkpoint.save_tensors(folder / "model.safetensors", make_network(config).state_dict(), meta)
    return folder


def joined(events: Iterable[object], shape: tuple[int, ...]) -> np.ndarray:
    out = np.full(shape, 9999, np.uint16)
    finished = False
    for event in events:
        if isinstance(event, PredictionBlock):
            block = out if out.ndim == 2 else out[event.start : event.start + len(event.labels)]
            assert (block == 9999).all()
            block[:] = event.labels
        finished |= isinstance(event, PredictionFinished)
    assert finished
    return out


@pytest.mark.parametrize(
    ("dims", "shape"), [(2, (23, 31)), (2, (5, 19, 23)), (2, (1, 7, 3)), (3, (19, 17, 23)), (3, (2, 50, 3))]
)
def test_predictions_have_the_image_shape_and_class_values(
    tmp_path: Path, dims: int, shape: tuple[int, ...]
) -> None:
    image = np.random.default_rng(0).normal(size=shape)
    case = Case("a", image_from_array(image, "zyx"[-len(shape) :]))
    labels = joined(predict(write_run(tmp_path, dims), case), shape)
    assert set(np.unique(labels)) <= {0, 5, 300}


def test_stop_ends_a_prediction(tmp_path: Path) -> None:
    case = Case("a", image_from_array(np.random.default_rng(0).normal(size=(40, 32, 32)), "zyx"))
    events = list(predict(write_run(tmp_path), case, stop=lambda: True))
    assert not any(isinstance(event, PredictionFinished) for event in events)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    flat = Case("flat", image_from_array(np.zeros((9, 9)), "yx"))
    with pytest.raises(InputError, match="2-D image"):
        list(predict(write_run(tmp_path, dims=3), flat))
    with pytest.raises(InputError, match="1 channels"):
        list(predict(write_run(tmp_path, channels=2), flat))


def test_damaged_and_foreign_weights_are_refused(tmp_path: Path) -> None:
    path = write_run(tmp_path) / "model.safetensors"
    good = path.read_bytes()
    with pytest.raises(CheckpointError, match="not there"):
        load_model(tmp_path / "nowhere")
    flipped = bytearray(good)
    flipped[-5] ^= 1
    for data, text in (
        (bytes(flipped), "does not match its hash"),
        (good[:-9], "cannot be read"),
        (b"", "cannot be read"),
    ):
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match=text):
            load_model(tmp_path)
    path.write_bytes(good.replace(b'schema\\": 1', b'schema\\": 9'))
    with pytest.raises(CheckpointError, match="newer version"):
        load_model(tmp_path)


@pytest.mark.parametrize("dims", [2, 3])
def test_class_maps_are_not_normalised(dims: int) -> None:
    """An image without the structure must be able to give small logits everywhere: scaling the last maps scales them."""
    config = {"kind": "unet", "dims": dims, "in_channels": 1, "out_channels": 2, "features": (4, 8, 8)}
    network = make_network(config).eval()
    last = [
        m for m in network.modules() if isinstance(m, torch.nn.ConvTranspose2d | torch.nn.ConvTranspose3d)
    ][-1]
    image = torch.randn(1, 1, *[16] * dims)
    with torch.no_grad():
        zero = network(image)
        assert last.bias is not None
        last.weight *= 3
        last.bias *= 3
        scaled = network(image)
    assert float((scaled - scaled.mean()).std()) > 2 * float((zero - zero.mean()).std())
