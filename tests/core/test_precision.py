"""Mixed precision: every layer's gradients in bfloat16 against float32, at every depth of every network."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from napari_ctxseg.networks import NETWORKS, make_network
from napari_ctxseg.networks.precision import FloatNorm, SafeConv3d
from tests.core.small_networks import small

KINDS = sorted(config.model_fields["kind"].default for config in NETWORKS)
#: Voxels at the bottom of a network along its first axis.
BOTTOM = (1, 2, 3, 4)
#: bfloat16 keeps 8 bits: single products are off by up to 0.4 %, sums in which terms cancel by a few times that. The wrong
#: kernel is off by 100 % and more.
TOLERANCE = 0.03

Call = tuple[str, nn.Module, torch.Tensor, torch.Tensor]


def recorded_calls(network: nn.Module, shape: tuple[int, ...]) -> list[Call]:
    """Input and output gradient of every layer with weights, from one float32 pass."""
    inputs: dict[str, torch.Tensor] = {}
    calls: list[Call] = []

    def before(name: str) -> object:
        return lambda module, args: inputs.__setitem__(name, args[0].detach().clone())

    def after(name: str) -> object:
        # A hook of the tensor, not of the module: some activations work in place on what they are given.
        def keep(module: nn.Module, _: object, out: torch.Tensor) -> None:
            out.register_hook(lambda grad: calls.append((name, module, inputs[name], grad.detach().clone())))

        return keep

    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d | FloatNorm):
            module.register_forward_pre_hook(before(name))  # type: ignore[arg-type]
            module.register_forward_hook(after(name))  # type: ignore[arg-type]
    x = torch.randn(2, 2, *shape)
    out = network(x)
    logits = out if isinstance(out, torch.Tensor) else out[0]
    target = torch.randint(0, 3, (2, *shape))
    nn.functional.cross_entropy(logits, target).backward()
    return calls


def gradients(module: nn.Module, x: torch.Tensor, grad: torch.Tensor, mixed: bool) -> list[torch.Tensor]:
    module.zero_grad()
    for hooks in (module._forward_pre_hooks, module._forward_hooks):
        hooks.clear()
    free = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        out = module(free)
    out.backward(grad.to(out.dtype))
    assert free.grad is not None
    return [free.grad.float(), *(p.grad.float().clone() for p in module.parameters() if p.grad is not None)]


def worst_error(exact: list[torch.Tensor], mixed: list[torch.Tensor], grad: torch.Tensor) -> float:
    """Largest error relative to the gradient; of biases and other sums, relative to the size of their terms.

    A bias before a normalisation has a true gradient of 0: what is left of it is rounding in either precision.
    """
    terms = float(grad.abs().sum(dim=(0, *range(2, grad.ndim))).norm())
    return max(
        float((a - b).norm()) / (terms if a.ndim == 1 else float(a.norm()))
        for a, b in zip(exact, mixed, strict=True)
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dims", "bottom"), [(dims, n) for dims in (2, 3) for n in BOTTOM])
def test_every_layer_agrees_with_float32(kind: str, dims: int, bottom: int) -> None:
    torch.manual_seed(0)
    # Two channels: a convolution of one, normalised, has a true gradient of 0 in its single weight per map.
    config = small(kind, dims, in_channels=2, out_channels=3)
    # The other axes stay long enough that no level normalises a single voxel.
    shape = (bottom * config.stride[0], *config.smallest[1:])
    network = make_network(config.for_patch(shape))
    calls = recorded_calls(network, shape)
    assert len(calls) > 10
    for name, module, x, grad in calls:
        exact, mixed = gradients(module, x, grad, False), gradients(module, x, grad, True)
        error = worst_error(exact, mixed, grad)
        assert error < TOLERANCE, f"{name} ({type(module).__name__}) of input {tuple(x.shape)}: {error:.3f}"


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5, 6, 7, 8])
def test_short_axes_leave_bfloat16(depth: int, kernel: int) -> None:
    conv = SafeConv3d(4, 4, kernel, padding=kernel // 2)
    with torch.autocast("cpu", torch.bfloat16):
        out = conv(torch.randn(1, 4, depth, 6, 6))
    assert out.dtype == (torch.float32 if depth <= kernel else torch.bfloat16)


def test_networks_hold_only_safe_layers() -> None:
    for kind in KINDS:
        network = make_network(small(kind, 3))
        assert not [m for m in network.modules() if type(m) is nn.Conv3d]
        norms = [
            m
            for m in network.modules()
            if isinstance(m, _BatchNorm | _InstanceNorm | nn.GroupNorm | nn.LayerNorm)
        ]
        wrapped = [m.norm for m in network.modules() if isinstance(m, FloatNorm)]
        assert norms
        assert {id(m) for m in norms} == {id(m) for m in wrapped}


def test_normalisation_runs_in_float32() -> None:
    seen: list[torch.dtype] = []
    norm = nn.InstanceNorm2d(3)
    norm.register_forward_pre_hook(lambda module, args: seen.append(args[0].dtype))
    out = FloatNorm(norm)(torch.randn(1, 3, 4, 4).bfloat16())
    assert seen == [torch.float32]
    assert out.dtype == torch.bfloat16
