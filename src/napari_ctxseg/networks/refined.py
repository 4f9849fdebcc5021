"""Both stages of CR-GAN as one network."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_ctxseg.composition import compose_soft


class Refined(nn.Module):
    """A first stage, and a network that predicts its errors (Rezaei et al. 2018, section 2.2.3).

    Parameters
    ----------
    first : nn.Module
        ``(B, C_in, *S)`` -> logits ``(B, K, *S)``.
    second : nn.Module
        ``(B, C_in + 2 K, *S)`` -> logits ``(B, 2 K, *S)``: false negatives of the K classes, then false positives.
    """

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the first stage and of its errors, ``(B, C_in, *S)`` -> ``(B, 3 K, *S)``."""
        logits = only(self.first(image))
        return torch.cat([logits, self.errors(image, torch.softmax(logits.float(), dim=1))], dim=1)

    def errors(self, image: Tensor, probabilities: Tensor) -> Tensor:
        """Logits of the errors, ``(B, C_in, *S)`` and ``(B, K, *S)`` -> ``(B, 2 K, *S)``."""
        return only(self.second(beside(image, probabilities)))


def only(out: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The head that predicts."""
    return out if isinstance(out, Tensor) else out[0]


def beside(image: Tensor, probabilities: Tensor) -> Tensor:
    """What the second stage sees: the image, the first stage's probabilities and its decision."""
    hard = functional.one_hot(probabilities.max(dim=1).indices, probabilities.shape[1])
    return torch.cat([image, probabilities, hard.movedim(-1, 1).to(image.dtype)], dim=1)


def error_maps(out: Tensor, axis: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities, false negatives and false positives from what `Refined` gives, each ``(K, *S)`` of ``(3 K, *S)``."""
    logits, missed, made_up = out.float().chunk(3, dim=axis)
    return torch.softmax(logits, dim=axis), torch.sigmoid(missed), torch.sigmoid(made_up)


def composed_logits(logits: Tensor, errors: Tensor) -> Tensor:
    """Both stages' answer as logits that can be trained on: the logarithm of ``clip(p + fn - fp, 0, 1)``, normalised."""
    p = torch.softmax(logits.float(), dim=1)
    fn, fp = torch.sigmoid(errors.float()).chunk(2, dim=1)
    score = compose_soft(p, fn, fp).clamp(min=1e-4)
    result: Tensor = (score / score.sum(dim=1, keepdim=True)).log()
    return result
