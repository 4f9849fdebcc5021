"""Who each sample of a batch belongs to, and the normalisation that depends on it (CR-GAN, arXiv 1810.03871)."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from math import prod
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_ctxseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class PatientModule(nn.Module):
    """Base of the layers that want to know whom the samples belong to.

    Attributes
    ----------
    patients : tuple of int, or None
        One number per sample of the coming batch, set by `patients_of`; None: every sample by itself.
    """

    patients: tuple[int, ...] | None = None

    def patient_numbers(self, batch: int) -> tuple[int, ...]:
        """One number per sample.

        Raises
        ------
        ValueError
            If `patients_of` was given another number of samples.
        """
        if self.patients is None:
            return tuple(range(batch))
        if len(self.patients) != batch:
            raise ValueError(f"{len(self.patients)} patient numbers for a batch of {batch}")
        return self.patients


@contextmanager
def patients_of(network: nn.Module, ids: Sequence[int] | Tensor | None) -> Iterator[None]:
    """Tell the layers of a network whom the samples of the coming batches belong to; what was set before comes back.

    Parameters
    ----------
    network : nn.Module
        Its `PatientModule` layers are told; networks without any are left alone.
    ids : sequence of int or Tensor of shape ``(B,)``, or None
        A number per sample: its patient, or its patient and plane. None: every sample by itself.

    Raises
    ------
    ValueError
        If `ids` has more than one axis.

    Examples
    --------
    >>> import torch
    >>> norm = PatientBatchNorm(3, dims=2)
    >>> with patients_of(norm, [4, 4, 9]):
    ...     norm(torch.rand(3, 3, 8, 8)).shape
    torch.Size([3, 3, 8, 8])
    """
    if isinstance(ids, Tensor) and ids.ndim != 1:
        raise ValueError(f"patient numbers must be one per sample, got shape {tuple(ids.shape)}")
    numbers = (
        None if ids is None else tuple(int(i) for i in (ids.tolist() if isinstance(ids, Tensor) else ids))
    )
    layers = [m for m in network.modules() if isinstance(m, PatientModule)]
    before = [layer.patients for layer in layers]
    for layer in layers:
        layer.patients = numbers
    try:
        yield
    finally:
        for layer, old in zip(layers, before, strict=True):
            layer.patients = old


class PatientBatchNorm(PatientModule):
    """Batch normalisation with the statistics of each patient (CR-GAN, algorithm 1).

    For channel c and patient q, mean and variance run over {samples of q in the batch} x space; gamma and beta are shared.
    One patient in the batch: ordinary batch normalisation. One sample per patient: instance normalisation.

    In evaluation the statistics are, in this order: those frozen by `own_statistics`; the running averages, if `evaluation`
    is ``"running"``; those of the patient's samples in the batch, as in training. The running averages also step in where
    a patient has a single value per channel, which has no variance.

    Parameters
    ----------
    num_features : int
        Channels.
    dims : {2, 3}
        Spatial axes.
    eps : float
        Added to the variance.
    momentum : float
        Share of a batch in the running averages; its patients count the same.
    evaluation : {"own", "running"}
        Statistics in evaluation where none are frozen.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self,
        num_features: int,
        dims: int,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        evaluation: Literal["own", "running"] = "own",
    ) -> None:
        super().__init__()
        self.num_features, self.dims, self.eps, self.momentum = num_features, dims, eps, momentum
        self.evaluation = evaluation
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.collecting = False
        #: Values per channel seen, their mean and their variance.
        self.frozen: tuple[int, Tensor, Tensor] | None = None

    def extra_repr(self) -> str:
        """Settings."""
        return f"{self.num_features}, dims={self.dims}, eps={self.eps}, evaluation={self.evaluation}"

    def train(self, mode: bool = True) -> PatientBatchNorm:
        """Set the mode; going on with training drops frozen statistics, which it makes stale."""
        if mode:
            self.frozen = None
        super().train(mode)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, in at least float32.

        Parameters
        ----------
        x : Tensor, shape ``(B, C, *S)``

        Returns
        -------
        Tensor, shape ``(B, C, *S)``
            In the precision of `x`.

        Raises
        ------
        ValueError
            If the shape or the number of patients does not fit.
        InputError
            In training, if a patient has a single value per channel.
        """
        if x.ndim != self.dims + 2 or x.shape[1] != self.num_features:
            raise ValueError(f"needs (B, {self.num_features}, *S) in {self.dims}-D, got {tuple(x.shape)}")
        # Where memory is only estimated there are no values, and torch knows no precision for that device.
        exact = nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)
        with exact:
            return self._normalise(x.to(torch.promote_types(x.dtype, torch.float32))).to(x.dtype)

    def _normalise(self, x: Tensor) -> Tensor:
        if not len(x):
            return x
        if self.collecting:
            self._collect(x.detach())
        if self.training:
            return self._per_patient(x)
        if self.frozen is not None:
            return self._fixed(x, self.frozen[1], self.frozen[2])
        if self.evaluation == "running":
            return self._fixed(x, self.running_mean, self.running_var)
        return self._per_patient(x)

    def _fixed(self, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        like = x.dtype
        weight, bias = self.weight.to(like), self.bias.to(like)
        return functional.batch_norm(x, mean.to(like), var.to(like), weight, bias, False, 0.0, self.eps)

    def _per_patient(self, x: Tensor) -> Tensor:
        numbers = self.patient_numbers(len(x))
        order = sorted(
            range(len(numbers)), key=lambda i: numbers[i]
        )  # stable: a patient's samples keep their order
        sizes = [numbers.count(q) for q in sorted(set(numbers))]
        if min(sizes) * prod(x.shape[2:]) < 2:
            return self._single(x)
        if max(sizes) == 1:
            return self._instances(x)
        together = order == list(range(len(order)))
        done = [self._one(part) for part in torch.split(x if together else x[order], sizes)]
        self._remember([mean for _, mean, _ in done], [var for _, _, var in done])
        y = torch.cat([part for part, _, _ in done])
        if together:
            return y
        back = sorted(range(len(order)), key=lambda i: order[i])
        return y[back]

    def _one(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One patient's samples, with their mean and unbiased variance."""
        like = x.dtype
        mean, var = x.new_zeros(self.num_features), x.new_ones(self.num_features)
        weight, bias = self.weight.to(like), self.bias.to(like)
        # Momentum 1: the buffers receive this patient's statistics without a second pass.
        return functional.batch_norm(x, mean, var, weight, bias, True, 1.0, self.eps), mean, var

    def _instances(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        if self.training:
            with torch.no_grad():
                var, mean = torch.var_mean(x.detach().flatten(2), dim=2)
                self._remember(list(mean), list(var))
        return functional.instance_norm(x, None, None, weight, bias, True, 0.0, self.eps)

    def _single(self, x: Tensor) -> Tensor:
        if self.training:
            raise InputError(
                "patient-wise normalisation",
                "a patient has a single value per channel here",
                "Take larger patches, fewer levels, or more slices of each patient in a batch",
            )
        return self._fixed(x, self.running_mean, self.running_var)

    @torch.no_grad()
    def _remember(self, means: list[Tensor], variances: list[Tensor]) -> None:
        if not self.training:
            return
        for buffer, values in ((self.running_mean, means), (self.running_var, variances)):
            buffer.lerp_(torch.stack(values).mean(dim=0).to(buffer.dtype), self.momentum)

    @torch.no_grad()
    def _collect(self, x: Tensor) -> None:
        """Pool the values of a pass with those of earlier ones (Chan et al. 1979)."""
        values = x.movedim(1, 0).flatten(1)
        count = values.shape[1]
        var, mean = torch.var_mean(values, dim=1, correction=0)
        if self.frozen is not None:
            before, old_mean, old_var = self.frozen
            total = before + count
            apart = mean - old_mean
            var = (before * old_var + count * var + apart**2 * (before * count / total)) / total
            mean, count = old_mean + apart * (count / total), total
        self.frozen = count, mean, var


def patient_norms(network: nn.Module) -> list[PatientBatchNorm]:
    """Patient-wise normalisations of a network; empty where it has none, and `own_statistics` is not needed."""
    return [m for m in network.modules() if isinstance(m, PatientBatchNorm)]


@contextmanager
def own_statistics(network: nn.Module) -> Iterator[None]:
    """Collect one patient's statistics in every layer; they stay frozen until `drop_statistics`.

    Pass evenly spaced slices (or windows) of the patient through the network inside, best all at once: every layer then
    sees what it will be given later. Several passes are pooled, each normalised by what was seen up to then. All samples
    count as the one patient's, whatever `patients_of` says. An error inside drops what was collected.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode.

    Raises
    ------
    RuntimeError
        If the network is in training mode.

    Examples
    --------
    >>> import torch
    >>> norm = PatientBatchNorm(1, dims=2).eval()
    >>> patient = torch.rand(5, 1, 8, 8)
    >>> with own_statistics(norm):
    ...     whole = norm(patient)
    >>> torch.allclose(norm(patient[:1]), whole[:1], atol=1e-6)  # one slice, the patient's statistics
    True
    >>> drop_statistics(norm)
    """
    layers = patient_norms(network)
    if any(layer.training for layer in layers):
        raise RuntimeError("own statistics are for evaluation: call network.eval() first")
    drop_statistics(network)
    for layer in layers:
        layer.collecting = True
    try:
        yield
    except BaseException:
        drop_statistics(network)
        raise
    finally:
        for layer in layers:
            layer.collecting = False


def drop_statistics(network: nn.Module) -> None:
    """Forget what `own_statistics` collected: before the next patient."""
    for layer in patient_norms(network):
        layer.frozen = None
