"""2-D U-Net with a memory over the slices of a patient."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from monai.networks.blocks.convolutions import Convolution
from torch import Tensor, nn

from napari_ctxseg.networks.conv_lstm import BiConvLSTM
from napari_ctxseg.networks.parts import channels_of, two_convs, with_norm
from napari_ctxseg.networks.patients import patients_of
from napari_ctxseg.networks.sizes import AnySize

if TYPE_CHECKING:
    from napari_ctxseg.config import RecurrentUNetConfig


class RecurrentUNet(nn.Module):
    """Slices down to the lowest level, a bidirectional ConvLSTM over them there, and up again one by one.

    What the ConvLSTM finds is added to the lowest maps, so that a slice without neighbours is a plain U-Net's.

    Parameters
    ----------
    config : RecurrentUNetConfig
        With channels and classes. With ``dims: 2`` the batch is the sequence: consecutive samples that
        `napari_ctxseg.networks.patients.patients_of` gives the same number belong together, by default none do. With
        ``dims: 3`` every volume is a sequence along its first axis.
    """

    def __init__(self, config: RecurrentUNetConfig) -> None:
        super().__init__()
        in_channels, out_channels = channels_of(config)
        widths, norm = config.features, config.norm
        self.by_patient = norm == "patient"
        self.encoder = nn.ModuleList([two_convs(2, in_channels, widths[0], norm=norm)])
        for above, width in itertools.pairwise(widths):
            self.encoder.append(two_convs(2, above, width, norm=norm, stride=2))
        self.memory = BiConvLSTM(widths[-1], widths[-1])
        self.ups, self.decoder = nn.ModuleList(), nn.ModuleList()
        for below, width in zip(widths[:0:-1], widths[-2::-1], strict=True):
            conv = Convolution(2, below, width, kernel_size=3, act="relu", norm="batch")
            self.ups.append(nn.Sequential(nn.Upsample(scale_factor=2), with_norm(conv, norm, 2)))
            self.decoder.append(two_convs(2, 2 * width, width, norm=norm))
        self.head = nn.Conv2d(widths[0], out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, ``(B, C, y, x)`` or ``(B, C, z, y, x)`` -> the same with K channels."""
        if x.ndim == 4:
            return self._slices(x, None)
        batch, _, depth, *plane = x.shape
        slices = x.transpose(1, 2).flatten(0, 1)
        if self.by_patient:
            numbers = [number for number in self.memory.patient_numbers(batch) for _ in range(depth)]
            with patients_of(self, numbers):
                y = self._slices(slices, (batch, depth))
        else:
            y = self._slices(slices, (batch, depth))
        return y.view(batch, depth, -1, *plane).transpose(1, 2)

    def _slices(self, x: Tensor, volumes: tuple[int, int] | None) -> Tensor:
        kept = []
        for level in self.encoder:
            x = level(x)
            kept.append(x)
        kept.pop()
        x = x + self._remembered(x, volumes)
        for up, level in zip(self.ups, self.decoder, strict=True):
            x = level(torch.cat([kept.pop(), up(x)], dim=1))
        y: Tensor = self.head(x)
        return y

    def _remembered(self, x: Tensor, volumes: tuple[int, int] | None) -> Tensor:
        if volumes is None:
            y: Tensor = self.memory(x)
            return y
        stacked = self.memory(x.view(*volumes, *x.shape[1:]).transpose(1, 2))
        flat: Tensor = stacked.transpose(1, 2).flatten(0, 1)
        return flat


def build_recurrent_unet(config: RecurrentUNetConfig) -> nn.Module:
    """Recurrent U-Net after the generator of CR-GAN (arXiv 1810.03871).

    Raises
    ------
    ValueError
        If the channels are not set.
    """
    return AnySize(RecurrentUNet(config), config.stride, config.smallest)
