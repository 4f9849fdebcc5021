"""The second stage of CR-GAN: a network that predicts what the first one missed and what it made up (arXiv 1810.03871).

Channels come in pairs, class by class: ``(fn_0, fp_0, fn_1, fp_1, ...)``, as in the released code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.nn import functional

from napari_ctxseg.composition import error_targets
from napari_ctxseg.config import NetworkConfig
from napari_ctxseg.networks import make_network

if TYPE_CHECKING:
    from napari_ctxseg.config import Config

Head = Literal["sigmoid", "tanh"]
#: Where no refinement network is chosen.
DEFAULT = {"kind": "unet", "features": (16, 32, 64, 128)}


def soft_masks(logits: Tensor, *, regions: bool = False, dim: int = 1) -> Tensor:
    """Probabilities along `dim`: of classes, which sum to 1, or of each region for itself."""
    return torch.sigmoid(logits) if regions else torch.softmax(logits, dim=dim)


def hard_masks(probabilities: Tensor, *, regions: bool = False) -> Tensor:
    """Decisions of the first stage: the one-hot of the highest class, or each region above a half.

    Parameters
    ----------
    probabilities : Tensor, shape ``(B, K, *S)``
    regions : bool
        Whether the channels are overlapping regions.

    Returns
    -------
    Tensor of the same type and shape, 0 or 1
    """
    if regions:
        return (probabilities > 0.5).to(probabilities.dtype)
    chosen = functional.one_hot(probabilities.argmax(dim=1), probabilities.shape[1])
    return chosen.movedim(-1, 1).to(probabilities.dtype)


def join_errors(fn: Tensor, fp: Tensor) -> Tensor:
    """Two times ``(B, K, *S)`` to ``(B, 2 K, *S)``, in the order of the network's channels."""
    return torch.stack([fn, fp], dim=2).flatten(1, 2)


def split_errors(errors: Tensor) -> tuple[Tensor, Tensor]:
    """``(B, 2 K, *S)`` to false negatives and false positives, each ``(B, K, *S)``."""
    return errors[:, 0::2], errors[:, 1::2]


def error_channels(truth: Tensor, stage1: Tensor) -> Tensor:
    """Targets of the refinement network (equations 5 and 6).

    Parameters
    ----------
    truth, stage1 : Tensor, shape ``(B, K, *S)``
        One-hot masks, or the regions' masks; `stage1` those of `hard_masks`.

    Returns
    -------
    Tensor, shape ``(B, 2 K, *S)``
        0 or 1.
    """
    return join_errors(*error_targets(truth, stage1))


class RefinementNetwork(nn.Module):
    """Image, first stage's probabilities and its hard masks in; two error masks per class out.

    Parameters
    ----------
    network : nn.Module
        ``image + 2 K`` channels in, ``2 K`` channels out.
    regions : bool
        Whether the channels are overlapping regions.
    head : {"sigmoid", "tanh"}
        What makes errors of the network's output; ``tanh`` is the released form, trained with ``mse``.
    """

    def __init__(self, network: nn.Module, *, regions: bool = False, head: Head = "sigmoid") -> None:
        super().__init__()
        self.network, self.regions, self.head = network, regions, head

    def forward(self, image: Tensor, probabilities: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Logits of the error masks.

        Parameters
        ----------
        image : Tensor, shape ``(B, M, *S)``
        probabilities : Tensor, shape ``(B, K, *S)``
            Of the first stage, made by a model that has not seen these patients. A graph in them is kept.

        Returns
        -------
        Tensor, shape ``(B, 2 K, *S)``, or a tuple of them under deep supervision
        """
        soft = probabilities.to(image.dtype)
        hard = hard_masks(soft.detach(), regions=self.regions)
        out: Tensor | tuple[Tensor, ...] = self.network(torch.cat([image, soft, hard], dim=1))
        return out

    def errors(self, logits: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """False negatives and false positives between 0 and 1, each ``(B, K, *S)`` and at least float32.

        Parameters
        ----------
        logits : Tensor or tuple of Tensor
            What `forward` returned; of several heads the first counts.
        """
        first = logits if isinstance(logits, Tensor) else logits[0]
        exact = first.to(torch.promote_types(first.dtype, torch.float32))
        # The tanh of the released form, mapped from -1..1.
        return split_errors(exact.sigmoid() if self.head == "sigmoid" else (exact.tanh() + 1) / 2)


def make_refinement(
    config: Config | dict[str, Any] | str | None,
    *,
    dims: int,
    image_channels: int,
    classes: int,
    regions: bool = False,
    head: Head = "sigmoid",
    pretrained: bool = True,
) -> RefinementNetwork:
    """Build a refinement network from any of the segmentation networks.

    Parameters
    ----------
    config : configuration, dict, str or None
        Of the network; its dimensions and channels are set here. None: a small U-Net.
    dims : {2, 3}
        Spatial axes.
    image_channels : int
        Channels of the image.
    classes : int
        K: the first stage's channels, background included if they are classes.
    regions : bool
        Whether the channels are overlapping regions.
    head : {"sigmoid", "tanh"}
        See `RefinementNetwork`.
    pretrained : bool
        As in `make_network`.

    Raises
    ------
    pydantic.ValidationError
        If the kind is unknown or a parameter is out of range.
    """
    checked: Any = TypeAdapter(NetworkConfig).validate_python(DEFAULT if config is None else config)
    fitted = checked.model_copy(
        update={"dims": dims, "in_channels": image_channels + 2 * classes, "out_channels": 2 * classes}
    )
    return RefinementNetwork(make_network(fitted, pretrained=pretrained), regions=regions, head=head)
