"""Both stages of CR-GAN as one network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from napari_ctxseg.composition import compose_soft
from napari_ctxseg.networks.refinement import soft_masks, split_errors

if TYPE_CHECKING:
    from napari_ctxseg.networks.refinement import RefinementNetwork


class Refined(nn.Module):
    """A first stage, and a network that predicts its errors (Rezaei et al. 2018, section 2.2.3).

    Parameters
    ----------
    first : nn.Module
        ``(B, C, *S)`` -> logits ``(B, K, *S)``.
    second : RefinementNetwork
        Of K classes.
    """

    def __init__(self, first: nn.Module, second: RefinementNetwork) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the K classes or regions, of their false negatives and of their false positives, ``(B, 3 K, *S)``."""
        logits = _only(self.first(image))
        errors = _only(self.second(image, soft_masks(logits.float(), regions=self.second.regions)))
        # (tanh z + 1) / 2 is the sigmoid of 2 z.
        scale = 2.0 if self.second.head == "tanh" else 1.0
        return torch.cat([logits, *(part * scale for part in split_errors(errors))], dim=1)


class Composed(nn.Module):
    """Both stages as one network of classes or regions, which can be trained through."""

    def __init__(self, both: Refined) -> None:
        super().__init__()
        self.both = both

    def forward(self, image: Tensor) -> Tensor:
        """Logits whose probabilities are ``clip(p + fn - fp, 0, 1)``, normalised over classes: ``(B, C, *S)`` ->
        ``(B, K, *S)``.
        """
        regions = self.both.second.regions
        p, fn, fp = error_maps(self.both(image), axis=1, regions=regions)
        score = compose_soft(p, fn, fp).clamp(min=1e-4)
        result: Tensor = (
            score.clamp(max=1 - 1e-4).logit() if regions else (score / score.sum(1, keepdim=True)).log()
        )
        return result


def error_maps(out: Tensor, axis: int = 0, *, regions: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities, false negatives and false positives from what `Refined` gives, each ``(K, *S)`` of ``(3 K, *S)``."""
    logits, missed, made_up = out.float().chunk(3, dim=axis)
    p = soft_masks(logits, regions=regions, dim=axis)
    return p, torch.sigmoid(missed), torch.sigmoid(made_up)


def _only(out: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The head that predicts."""
    return out if isinstance(out, Tensor) else out[0]
