"""Masks of overlapping regions from class indices."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def region_masks(target: Tensor, members: Tensor) -> Tensor:
    """Which pixels lie in which region.

    Parameters
    ----------
    target : Tensor of integers, shape ``(B, *S)``
        Class indices; below 0 where unlabelled.
    members : Tensor of bool, shape ``(R, C)``
        Which classes belong to which region, see `napari_ctxseg.cases.membership`.

    Returns
    -------
    Tensor of bool, shape ``(B, R, *S)``
        False where unlabelled.
    """
    inside = members.to(target.device)[:, target.long().clamp(min=0)]
    return inside.movedim(0, 1) & (target >= 0).unsqueeze(1)
