"""Patient-wise normalisation and the recurrence over slices, against references and against running alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from napari_ctxseg.errors import InputError
from napari_ctxseg.networks.conv_lstm import BiConvLSTM
from napari_ctxseg.networks.patients import (
    PatientBatchNorm,
    drop_statistics,
    own_statistics,
    patient_norms,
    patients_of,
)
from napari_ctxseg.networks.summary import summarise
from tests.oracles import networks as oracle

IDS = [[5, 5, 5, 5, 5], [1, 2, 3, 4, 5], [3, 3, 7, 7, 7], [9, 2, 9, 2, 2], [1, 0, 0, 0, 0], None]
SHAPES = {2: (6, 5), 3: (3, 4, 5)}


def sample(dims: int, batch: int = 5, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(dims)
    x = torch.randn(batch, channels, *SHAPES[dims], generator=generator, dtype=torch.float64)
    return x * torch.arange(1, batch + 1).view(-1, *[1] * (dims + 1)) + 3


def norm_of(dims: int, **settings: object) -> PatientBatchNorm:
    norm = PatientBatchNorm(3, dims, **settings).double()  # type: ignore[arg-type]
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 1.0, -2.0]))
        norm.bias.copy_(torch.tensor([0.1, -3.0, 0.0]))
    return norm


@pytest.mark.parametrize("dims", [2, 3])
def test_memory_is_estimated(dims: int) -> None:
    # On torch's meta device, which knows no autocast: this failed with "unsupported scalarType".
    known = {"kind": "unet", "dims": dims, "in_channels": 1, "out_channels": 2, "features": [4, 8]}
    own, like = (summarise({**known, "norm": norm}, (16,) * dims, 2) for norm in ("patient", "group"))
    assert own.parameters == like.parameters
    assert own.bytes_kept == pytest.approx(like.bytes_kept, rel=0.05)


# ---------------------------------------------------------------- normalisation


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("ids", IDS)
def test_norm_against_the_reference(dims: int, training: bool, ids: list[int] | None) -> None:
    norm, x = norm_of(dims).train(training), sample(dims)
    with patients_of(norm, ids):
        y = norm(x)
    expected = oracle.patient_norm(
        x.numpy(), ids or [0, 1, 2, 3, 4], norm.weight.detach().numpy(), norm.bias.detach().numpy()
    )
    np.testing.assert_allclose(y.detach().numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("dims", [2, 3])
def test_one_patient_is_batch_norm(dims: int) -> None:
    norm, x = PatientBatchNorm(3, dims).double(), sample(dims)
    plain = (nn.BatchNorm2d if dims == 2 else nn.BatchNorm3d)(3).double()
    with patients_of(norm, [8] * 5):
        torch.testing.assert_close(norm(x), plain(x))
    assert plain.running_mean is not None
    assert plain.running_var is not None
    torch.testing.assert_close(norm.running_mean, plain.running_mean)
    torch.testing.assert_close(norm.running_var, plain.running_var)
    norm.evaluation = "running"
    torch.testing.assert_close(norm.eval()(x), plain.eval()(x))


@pytest.mark.parametrize("dims", [2, 3])
def test_samples_by_themselves_are_instance_norm(dims: int) -> None:
    norm, x = PatientBatchNorm(3, dims).double(), sample(dims)
    kind = nn.InstanceNorm2d if dims == 2 else nn.InstanceNorm3d
    plain = kind(3, affine=True, track_running_stats=True).double()
    torch.testing.assert_close(norm(x), plain(x))
    assert plain.running_mean is not None
    assert plain.running_var is not None
    torch.testing.assert_close(norm.running_mean, plain.running_mean)
    torch.testing.assert_close(norm.running_var, plain.running_var)


@pytest.mark.parametrize("ids", IDS)
def test_norm_gradients(ids: list[int] | None) -> None:
    norm = norm_of(2)
    x = sample(2)[:, :, :2, :3].clone().requires_grad_()

    def run(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        with patients_of(norm, ids):
            return torch.func.functional_call(norm, {"weight": weight, "bias": bias}, (x,))  # type: ignore[no-any-return]

    assert torch.autograd.gradcheck(run, (x, norm.weight, norm.bias))


def test_other_patients_of_the_batch_do_not_matter() -> None:
    norm, x = norm_of(2), sample(2)
    with patients_of(norm, [3, 3, 7, 7, 7]):
        y = norm(x)
    with patients_of(norm, torch.tensor([3, 3])):
        torch.testing.assert_close(norm(x[:2]), y[:2])


def test_own_statistics_stay_until_dropped() -> None:
    network = nn.Sequential(norm_of(2), nn.ReLU(), norm_of(2)).eval()
    x = sample(2)
    with own_statistics(network), patients_of(network, [0, 1, 2, 3, 4]):
        whole = network(x)
    with patients_of(network, [0] * 5):
        drop = network(x)
    torch.testing.assert_close(whole, drop)
    with patients_of(network, [0, 1]):
        torch.testing.assert_close(network(x[3:]), whole[3:])
    drop_statistics(network)
    assert not torch.allclose(network(x[3:]), whole[3:])
    assert len(patient_norms(network)) == 2


def test_own_statistics_of_several_passes_are_pooled() -> None:
    norm, x = norm_of(2).eval(), sample(2)
    with own_statistics(norm):
        norm(x[:2])
        norm(x[2:])
    pooled = norm.frozen
    with own_statistics(norm):
        norm(x)
    assert pooled is not None
    assert norm.frozen is not None
    assert pooled[0] == norm.frozen[0]
    torch.testing.assert_close(pooled[1:], norm.frozen[1:])


def test_own_statistics_end_with_training_and_with_errors() -> None:
    norm, x = norm_of(2), sample(2)
    with pytest.raises(RuntimeError, match="eval"), own_statistics(norm):
        pass
    norm.eval()
    with own_statistics(norm):
        norm(x)
    norm.train()
    assert norm.frozen is None
    norm.eval()
    with pytest.raises(ValueError, match="needs"), own_statistics(norm):
        norm(torch.cat([norm(x), x], dim=1))
    assert norm.frozen is None
    assert not norm.collecting


def test_numbers_come_back_as_they_were() -> None:
    norm = norm_of(2)
    with patients_of(norm, [1, 2]):
        with patients_of(norm, [3]), pytest.raises(ZeroDivisionError), patients_of(norm, None):
            _ = 1 / 0
        assert norm.patients == (1, 2)
    assert norm.patients is None
    with patients_of(norm, [1, 2]), pytest.raises(ValueError, match="2 patient numbers for a batch of 5"):
        norm(sample(2))
    with pytest.raises(ValueError, match="one per sample"), patients_of(norm, torch.zeros(2, 2)):
        pass
    with pytest.raises(ValueError, match="in 2-D"):
        norm(sample(3))


def test_a_single_value_has_no_variance() -> None:
    norm, x = norm_of(2), torch.randn(2, 3, 1, 1, dtype=torch.float64)
    with pytest.raises(InputError, match="single value"):
        norm(x)
    with patients_of(norm, [4, 4]):
        assert norm(x).isfinite().all()
    fresh = norm_of(2).eval()
    expected = x / (1 + fresh.eps) ** 0.5 * fresh.weight.view(-1, 1, 1) + fresh.bias.view(-1, 1, 1)
    torch.testing.assert_close(fresh(x), expected)


def test_norm_runs_in_float32_under_autocast() -> None:
    norm = PatientBatchNorm(3, 2)
    x = (100 + torch.randn(4, 3, 8, 8)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16), patients_of(norm, [1, 1, 2, 2]):
        y = norm(x)
    assert y.dtype == torch.bfloat16
    with patients_of(norm, [1, 1, 2, 2]):
        torch.testing.assert_close(y, norm(x.float()).bfloat16())
    assert norm.running_mean.dtype == torch.float32


def test_empty_batches_pass() -> None:
    assert norm_of(2).eval()(sample(2)[:0]).shape == (0, 3, 6, 5)


# ---------------------------------------------------------------- recurrence


def lstm_of(kernel: int = 3, **settings: object) -> BiConvLSTM:
    torch.manual_seed(0)
    return BiConvLSTM(3, 2, kernel, **settings).double()  # type: ignore[arg-type]


def reference(lstm: BiConvLSTM, x: torch.Tensor) -> np.ndarray:
    """One sequence, both directions added."""
    wx, b = (p.detach().numpy() for p in (lstm.input.weight, lstm.input.bias))
    onward, back = (p.weight.detach().numpy() for p in (lstm.onward, lstm.returning))
    half = len(b) // 2
    forth = oracle.conv_lstm(x.numpy(), wx[:half], onward, b[:half])
    return forth + oracle.conv_lstm(x.numpy()[::-1], wx[half:], back, b[half:])[::-1]


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("ids", IDS)
def test_lstm_against_the_reference(kernel: int, ids: list[int] | None) -> None:
    lstm, x = lstm_of(kernel), sample(2)
    with patients_of(lstm, ids):
        y = lstm(x)
    cuts = [k for k in range(1, 5) if ids is None or ids[k] != ids[k - 1]]
    expected = np.concatenate([reference(lstm, part) for part in torch.tensor_split(x, cuts)])
    np.testing.assert_allclose(y.detach().numpy(), expected, atol=1e-6)


def test_sequences_of_any_length_batch_freely() -> None:
    lstm, x = lstm_of(), sample(2, batch=7)
    ids = [1, 1, 4, 4, 4, 4, 2]
    with patients_of(lstm, ids):
        y = lstm(x)
    for first, last in ((0, 2), (2, 6), (6, 7)):
        with patients_of(lstm, ids[first:last]):
            torch.testing.assert_close(lstm(x[first:last]), y[first:last])


def test_volumes_are_sequences_of_their_slices() -> None:
    lstm, x = lstm_of(), sample(3, batch=2)
    y = lstm(x)
    assert y.shape == (2, 2, *SHAPES[3])
    for volume, out in zip(x, y, strict=True):
        with patients_of(lstm, [0] * volume.shape[1]):
            torch.testing.assert_close(lstm(volume.transpose(0, 1)).transpose(0, 1), out)


def test_directions_can_be_kept_apart() -> None:
    lstm, x = lstm_of(merge="concat"), sample(2)
    with patients_of(lstm, [0] * 5):
        a, b = lstm(x).chunk(2, dim=1)
    lstm.merge = "sum"
    with patients_of(lstm, [0] * 5):
        torch.testing.assert_close(lstm(x), a + b)
    assert lstm_of(merge="concat").out_channels == 4


def test_two_slices_reach_every_parameter() -> None:
    lstm = lstm_of()
    with patients_of(lstm, [0, 0]):
        lstm(sample(2, batch=2)).square().sum().backward()
    for name, parameter in lstm.named_parameters():
        assert parameter.grad is not None, name
        gates = parameter.grad.flatten(1) if parameter.ndim > 1 else parameter.grad[:, None]
        assert (gates.abs().sum(1) > 0).all(), name


def test_lstm_gradients() -> None:
    lstm = lstm_of()
    x = sample(2, batch=3)[:, :, :2, :3].clone().requires_grad_()
    with patients_of(lstm, [0, 0, 1]):
        assert torch.autograd.gradcheck(lstm, (x,))


def test_the_state_is_exact_under_autocast() -> None:
    lstm = BiConvLSTM(3, 2)
    with torch.autocast("cpu", torch.bfloat16), patients_of(lstm, [0] * 5):
        y = lstm(sample(2).float() / 10)
    assert y.dtype == torch.bfloat16
    with patients_of(lstm, [0] * 5):
        torch.testing.assert_close(y.float(), lstm(sample(2).float() / 10), atol=0.02, rtol=0.02)


def test_lstm_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="odd"):
        BiConvLSTM(1, 1, 4)
    with pytest.raises(ValueError, match="merge"):
        BiConvLSTM(1, 1, merge="mean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs"):
        lstm_of()(torch.zeros(3, 4, 4, dtype=torch.float64))
    assert lstm_of()(torch.zeros(0, 3, 4, 4, dtype=torch.float64)).shape == (0, 2, 4, 4)
