"""What a discriminator is shown and how both sides are judged (arXiv 2001.02387, section 2; 1810.03871, equations 1-4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_ctxseg.image import IGNORE
from napari_ctxseg.maps.members import region_masks


def mask_of(target: Tensor, classes: int, members: Tensor | None = None) -> Tensor:
    """The drawn mask as a discriminator sees it: one-hot, or that of each region; 0 in all channels where unlabelled.

    Parameters
    ----------
    target : Tensor of int64, shape ``(B, *S)``
    classes : int
        Background included.
    members : Tensor of bool, shape ``(R, classes)``, optional
        Which classes belong to which region, where the channels are overlapping regions.

    Returns
    -------
    Tensor of float32, shape ``(B, classes, *S)`` or ``(B, R, *S)``
    """
    if members is not None:
        return region_masks(target, members).float()
    one_hot = functional.one_hot(target.clamp(min=0), classes).movedim(-1, 1).float()
    return hide_unlabelled(one_hot, target)


def hide_unlabelled(x: Tensor, target: Tensor) -> Tensor:
    """Set ``(B, C, *S)`` to 0 where unlabelled, so that a predicted mask cannot be told by what nobody drew."""
    return x * (target != IGNORE).unsqueeze(1)


def discriminator_loss(real: Tensor, fake: Tensor, target: Tensor | None = None) -> Tensor:
    """``0.5 (BCE(real, 1) + BCE(fake, 0))``, in at least float32.

    Parameters
    ----------
    real, fake : Tensor, shape ``(B, 1)`` or ``(B, 1, *T)``
        Logits for the drawn masks and for the predicted ones; the latter made without the segmenting network's graph.
    target : Tensor of int64, shape ``(B, *S)``, optional
        Verdicts count by how much is labelled beneath them; those on an image, if anything is.

    Returns
    -------
    Tensor
        A scalar with a graph, 0 where nothing is labelled.
    """
    return 0.5 * (
        _mean(functional.softplus(-_exact(real)), target) + _mean(functional.softplus(_exact(fake)), target)
    )


def adversarial_loss(fake: Tensor, target: Tensor | None = None) -> Tensor:
    """The segmenting network's side, ``BCE(fake, 1)``: non-saturating. Parameters as in `discriminator_loss`.

    `fake` must hold the segmenting network's graph: the released Seg-GLGAN cuts it here, and then nothing is learnt.
    """
    return _mean(functional.softplus(-_exact(fake)), target)


def _exact(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _mean(values: Tensor, target: Tensor | None) -> Tensor:
    if target is None:
        return values.mean()
    weights = labelled_share(target, tuple(values.shape[2:])).to(values.dtype)
    return (values * weights).sum() / weights.sum().clamp(min=torch.finfo(values.dtype).tiny)


def labelled_share(target: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Labelled share of the pixels beneath each verdict.

    Parameters
    ----------
    target : Tensor of int64, shape ``(B, *S)``
    shape : tuple of int
        Of the map of verdicts. Empty: one verdict per image, which counts where anything is labelled.

    Returns
    -------
    Tensor of float32, shape ``(B, 1, *shape)``
    """
    labelled = (target != IGNORE).unsqueeze(1)
    if not shape:
        return labelled.flatten(2).any(dim=2).float()
    if shape == tuple(target.shape[1:]):
        return labelled.float()
    pool = nn.AdaptiveAvgPool2d if len(shape) == 2 else nn.AdaptiveAvgPool3d
    share: Tensor = pool(shape)(labelled.float())
    return share
