"""Layers that must not run in bfloat16, made to run in float32 under autocast."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

_NORMS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm)


class SafeConv3d(nn.Conv3d):
    """A 3-D convolution that leaves bfloat16 where torch's CPU kernel is wrong.

    With padding, the weight gradient is garbage, or memory is overwritten, where the first spatial axis is shorter than the
    kernel: at size 2 with kernel 3 (torch 2.13 and 2.15), at 2 to 4 with kernel 5 and at 3 to 5 with kernel 7 and stride 2
    (torch 2.15). 2-D and longer axes were right. All sizes up to the kernel's run in float32: they are at the bottom of a
    network and cost nothing.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (torch's own name)
        """Convolution, in float32 where the first axis is short."""
        if (
            input.device.type != "cpu"
            or input.shape[2] > self.kernel_size[0]
            or not torch.is_autocast_enabled("cpu")
        ):
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float())


class FloatNorm(nn.Module):
    """A normalisation layer in float32 whose output returns to the precision it was called in."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """Normalise."""
        if x.dtype in (torch.float32, torch.float64):
            y: Tensor = self.norm(x)
            return y
        with torch.autocast(x.device.type, enabled=False):
            return self.norm(x.float()).to(x.dtype)  # type: ignore[no-any-return]


def make_safe(network: nn.Module) -> nn.Module:
    """Replace a network's 3-D convolutions and normalisations by their safe forms, in place; returns the network."""
    for parent in list(network.modules()):
        if isinstance(parent, FloatNorm):
            continue
        for name, child in list(parent.named_children()):
            if type(child) is nn.Conv3d:
                # Same parameters, same names: only the forward pass differs.
                child.__class__ = SafeConv3d
            elif isinstance(child, _NORMS):
                setattr(parent, name, FloatNorm(child))
    return network
