"""A channel of noise beside the image: the z of a conditional GAN. Off by default (Rezaei et al. 2018 found it no use)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WithNoise(nn.Module):
    """A network whose last input channel is Gaussian noise.

    Parameters
    ----------
    network : nn.Module
        Takes one channel more than it is given here.
    deviation : float
        Of the noise. In evaluation it is the same noise every time, so that a prediction can be repeated.
    """

    def __init__(self, network: nn.Module, deviation: float) -> None:
        super().__init__()
        self.network, self.deviation = network, deviation

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """What the network makes of image and noise, ``(B, C, *S)`` -> ``(B, K, *S)``."""
        shape = (len(x), 1, *x.shape[2:])
        if self.training:
            noise = torch.randn(shape, device=x.device)
        else:
            generator = torch.Generator().manual_seed(0)
            noise = torch.randn(shape[1:], generator=generator).to(x.device).expand(shape)
        out: Tensor | tuple[Tensor, ...] = self.network(
            torch.cat([x, (noise * self.deviation).to(x.dtype)], dim=1)
        )
        return out
