"""What a network will need, before it is built: weights counted, memory of training estimated, nothing allocated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from napari_ctxseg.config import parse_network
from napari_ctxseg.networks import make_network

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_ctxseg.config import Config

#: Copies of the weights in training: themselves, their gradients, two moments of AdamW.
COPIES = 4


@dataclass(frozen=True)
class Summary:
    """What `summarise` found.

    Attributes
    ----------
    parameters : int
        Trainable weights.
    bytes_training : int
        Estimate of what a training step holds at its peak, in float32.
    bytes_weights, bytes_kept, bytes_passing : int
        Its parts: weights with gradients and moments; activations kept for the gradient; the largest activations of a
        layer, which come and go.
    """

    parameters: int
    bytes_weights: int
    bytes_kept: int
    bytes_passing: int

    @property
    def bytes_training(self) -> int:
        """Sum of the parts."""
        return self.bytes_weights + self.bytes_kept + self.bytes_passing


def summarise(config: Config | dict[str, Any] | str, patch: Sequence[int], batch: int) -> Summary:
    """Count a network's weights and estimate the memory of a training step on torch's meta device.

    Kept are the tensors that the layers save for their gradients, each storage once, and the batch itself. Not counted:
    what a library needs inside a layer (convolutions on a GPU may choose large workspaces), the loss's own maps, and the
    program, some 0.3 to 0.6 GB. In mixed precision the kept part is about half.

    Parameters
    ----------
    config : configuration, dict or str
        Channels and classes must be set; a UNETR's image size is taken from `patch`.
    patch : sequence of int
        Size of a patch, one number per axis.
    batch : int
        Patches in a batch.

    Returns
    -------
    Summary

    Raises
    ------
    pydantic.ValidationError
        If the configuration is wrong.
    ValueError
        If the channels are not set, or the patch does not fit the dimensions.
    """
    checked = parse_network(config).for_patch(patch)
    if len(patch) != checked.dims:
        raise ValueError(
            f"a {checked.dims}-D network needs a patch of {checked.dims} numbers, got {tuple(patch)}"
        )
    with torch.device("meta"):
        network = make_network(checked, pretrained=False).train()
        image = torch.empty(batch, checked.in_channels or 1, *patch)
    parameters = list(network.parameters())
    passing = _watched(network)
    out, kept = kept_bytes(network, lambda: network(image))
    heads = list(out) if isinstance(out, tuple) else [out]
    # A loss keeps the probabilities of each head.
    around = sum(_bytes(t) for t in (image, *heads, *heads))
    return Summary(
        parameters=sum(p.numel() for p in parameters),
        bytes_weights=COPIES * sum(_bytes(p) for p in parameters),
        bytes_kept=around + kept,
        bytes_passing=max(passing),
    )


def kept_bytes(module: nn.Module, call: Callable[[], Any]) -> tuple[Any, int]:
    """What a call of a module returns, and the bytes it keeps for the gradient: each storage once, no weights."""
    own = {_storage(t) for t in (*module.parameters(), *module.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        # Held on to, so that no later storage gets the same address.
        if _storage(tensor) not in own:
            kept.setdefault(_storage(tensor), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = call()
    return out, sum(t.untyped_storage().nbytes() for t in kept.values())


def _watched(network: nn.Module) -> list[int]:
    """A list that every layer of the next forward pass adds its input's and output's bytes to.

    Going back, a layer holds the gradients of both.
    """
    found = [0]

    def after(module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        found.append(sum(_bytes(t) for t in (*args, out) if isinstance(t, Tensor)))

    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(after)
    return found


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _storage(tensor: Tensor) -> int:
    # The address of the storage object: on the meta device all data pointers are 0.
    return int(tensor.untyped_storage()._cdata)
