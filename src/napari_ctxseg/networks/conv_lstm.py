"""Bidirectional convolutional LSTM over the slices of a patient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from napari_ctxseg.networks.patients import PatientModule

if TYPE_CHECKING:
    from collections.abc import Sequence


class BiConvLSTM(PatientModule):
    """Convolutional LSTM (Shi et al. 2015, equation 3, without peepholes) run in both directions, results added.

    With ``*`` a zero-padded convolution and ``.`` the product of elements, slice by slice from a state of zeros::

        i = sigmoid(Wxi * x + Whi * h + bi)        f = sigmoid(Wxf * x + Whf * h + bf)
        o = sigmoid(Wxo * x + Who * h + bo)        g = tanh(Wxg * x + Whg * h + bg)
        c' = f . c + i . g                         h' = o . tanh(c')

    The peephole weights of the paper are one per pixel, which would tie the layer to one image size. Gates are stacked in
    the order i, f, o, g; ``input`` holds ``Wx`` and b of the forward, then of the backward direction. The forget gate's
    bias starts at 1, so that a state lasts.

    Parameters
    ----------
    channels : int
        Channels of the input.
    hidden : int
        Channels of the state.
    kernel : int
        Side of the convolutions, odd.
    merge : {"sum", "concat"}
        How the two directions are joined: `hidden` channels or twice as many.

    Raises
    ------
    ValueError
        If `kernel` is even or `merge` unknown.
    """

    def __init__(
        self, channels: int, hidden: int, kernel: int = 3, merge: Literal["sum", "concat"] = "sum"
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"the kernel's side must be odd, got {kernel}")
        if merge not in ("sum", "concat"):
            raise ValueError(f"merge must be 'sum' or 'concat', got {merge!r}")
        self.channels, self.hidden, self.merge = channels, hidden, merge
        self.out_channels = hidden if merge == "sum" else 2 * hidden
        self.input = nn.Conv2d(channels, 8 * hidden, kernel, padding=kernel // 2)
        self.onward = nn.Conv2d(hidden, 4 * hidden, kernel, padding=kernel // 2, bias=False)
        self.returning = nn.Conv2d(hidden, 4 * hidden, kernel, padding=kernel // 2, bias=False)
        assert self.input.bias is not None
        with torch.no_grad():
            for first in (hidden, 5 * hidden):
                self.input.bias[first : first + hidden] = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """State after each slice, from both sides.

        Parameters
        ----------
        x : Tensor, shape ``(N, C, h, w)`` or ``(B, C, d, h, w)``
            Slices: consecutive ones with equal numbers of `patients_of` are a sequence, of any length; without numbers
            each slice is a sequence of one. Volumes: each is a sequence along its first spatial axis.

        Returns
        -------
        Tensor, shape ``(N, K, h, w)`` or ``(B, K, d, h, w)``
            K is `hidden`, or twice that for ``merge="concat"``.

        Raises
        ------
        ValueError
            If the number of axes does not fit, or that of the patients.
        """
        if x.ndim == 5:
            batch, depth = x.shape[0], x.shape[2]
            y = self._run(x.transpose(1, 2).flatten(0, 1), [depth] * batch)
            return y.view(batch, depth, *y.shape[1:]).transpose(1, 2)
        if x.ndim != 4:
            raise ValueError(f"needs (N, C, h, w) or (B, C, d, h, w), got {tuple(x.shape)}")
        return self._run(x, run_lengths(self.patient_numbers(len(x))))

    def _run(self, x: Tensor, lengths: list[int]) -> Tensor:
        onward, back = self.input(x).chunk(2, dim=1)
        a = _direction(onward, self.onward, steps_of(lengths))
        b = _direction(back, self.returning, steps_of(lengths, reverse=True))
        return a + b if self.merge == "sum" else torch.cat([a, b], dim=1)


def _direction(gates: Tensor, recurrent: nn.Module, steps: list[list[int]]) -> Tensor:
    """States of all slices; `gates` is the input's part, shape ``(N, 4 K, h, w)``.

    The state is kept in at least float32: under autocast hundreds of slices would round it away.
    """
    exact = torch.promote_types(gates.dtype, torch.float32)
    states: list[Tensor] = []
    h, c = gates.new_zeros(0, dtype=exact), gates.new_zeros(0, dtype=exact)
    for step in steps:
        z = gates[step].to(exact)
        if states:
            # Longest first: those that go on are the first ones.
            h, c = h[: len(step)], c[: len(step)]
            z = z + recurrent(h.to(gates.dtype)).to(exact)
        i, f, o, g = z.chunk(4, dim=1)
        new = i.sigmoid() * g.tanh()
        c = f.sigmoid() * c + new if states else new
        h = o.sigmoid() * c.tanh()
        states.append(h)
    place = [slice_ for step in steps for slice_ in step]
    back = sorted(range(len(place)), key=lambda k: place[k])
    return torch.cat(states)[back].to(gates.dtype) if states else gates.chunk(4, dim=1)[0]


def run_lengths(numbers: Sequence[int]) -> list[int]:
    """Lengths of the runs of equal numbers.

    Examples
    --------
    >>> run_lengths([7, 7, 7, 2, 7])
    [3, 1, 1]
    """
    lengths: list[int] = []
    for place, number in enumerate(numbers):
        if place and number == numbers[place - 1]:
            lengths[-1] += 1
        else:
            lengths.append(1)
    return lengths


def steps_of(lengths: Sequence[int], *, reverse: bool = False) -> list[list[int]]:
    """Slices to be taken at each time step, of all sequences that last so long; longest sequences first.

    Examples
    --------
    >>> steps_of([1, 3])
    [[1, 0], [2], [3]]
    >>> steps_of([1, 3], reverse=True)
    [[3, 0], [2], [1]]
    """
    starts = [sum(lengths[:k]) for k in range(len(lengths))]
    longest_first = sorted(range(len(lengths)), key=lambda k: -lengths[k])
    return [
        [starts[k] + (lengths[k] - 1 - t if reverse else t) for k in longest_first if t < lengths[k]]
        for t in range(max(lengths, default=0))
    ]
