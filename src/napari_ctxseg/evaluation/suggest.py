"""Losses that an imbalance speaks for: rules drawn from the limits that the papers name, not a measured optimum.

`docs/imbalance.md` lists the rules with their sources.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_ctxseg.config import (
    BalancedCE,
    ContextCE,
    ContourConfig,
    ContourWeightedCEDice,
    DiceCE,
    DilatedBalancedCE,
    DynamicRoi,
    MaskRoi,
)
from napari_ctxseg.evaluation.imbalance import percent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_ctxseg.config import Config
    from napari_ctxseg.evaluation.imbalance import ClassBalance, Imbalance

#: More of the labelled slices' pixels unlabelled than this: the labels are strokes, not areas.
STROKES = 0.5
#: A class with less of the labelled pixels than this is very small.
TINY = 0.01
#: A box with less foreground in it than this says nothing of where the structure is (context paper's limit).
SPARSE = 0.10
#: More pieces of one class in an image than this are many, and scattered.
MANY = 5
#: Foreground up to this share of the labelled pixels can be scattered; more fills the image.
SCATTERED = 0.10
#: A box of at most this share of the image is a region worth looking at.
COMPACT = 0.25
#: A class of which more than this is boundary has no interior left in a thick contour (contour paper's limit).
THIN = 0.5
#: Pixels less deep than this share of a disk's are those of a wall or a vessel; small disks are boundary too, not thin.
SLENDER = 0.6
#: The rarest class of balanced labels has at least this share.
BALANCED = 0.10
#: Dilation: radius of the objects times this, between these bounds; the upper one is the paper's 20 px at 320 px.
REACH, SHORTEST, FURTHEST = 2.0, 4, 20 / 320
#: Pixels of background that a box should hold on each side.
MARGIN = 4
#: Share of a piece's depth that a contour may take.
ADAPT = 0.3
MOST = 3


@dataclass(frozen=True)
class Suggestion:
    """A loss, what to call it, and why."""

    loss: Config
    title: str
    reason: str


def suggest(found: Imbalance) -> list[Suggestion]:
    """Losses that the numbers speak for, best first; none where nothing can be said.

    Parameters
    ----------
    found : Imbalance
        From `measure`.

    Returns
    -------
    list of Suggestion
        Up to three. They follow from rules; which loss is best on the data at hand, only a comparison tells.
    """
    if found.problem:
        return []
    if found.unlabelled > STROKES:
        return [_strokes(found)]
    return list(_areas(found))[:MOST]


def _areas(found: Imbalance) -> Iterator[Suggestion]:
    rarest = min(found.foreground, key=lambda one: one.share)
    front = sum(one.share for one in found.foreground)
    pieces = max(one.per_image for one in found.foreground)
    density, box = found.box_density or 0.0, found.box_share or 0.0
    thin = [one for one in found.foreground if one.boundary > THIN and one.slenderness < SLENDER]
    sparse = front < SCATTERED and (density < SPARSE or pieces > MANY)
    if rarest.share < TINY:
        yield _dilated(found, rarest)
    if sparse:
        yield _mask(found, density, pieces)
    if thin:
        yield _contour(max(thin, key=lambda one: one.boundary))
    if not sparse and box <= COMPACT:
        yield Suggestion(
            ContextCE(roi=DynamicRoi(margin=MARGIN)),
            f"Context CE, box with {MARGIN} px margin",
            f"The box around the foreground covers {percent(box)} of the image and is {percent(density)} "
            "foreground: a region worth a second look.",
        )
    if rarest.share >= BALANCED:
        yield Suggestion(
            DiceCE(),
            "Dice + CE",
            f"The rarest class, {rarest.name}, is {percent(rarest.share)} of the labelled pixels: no class is lost.",
        )
    elif rarest.share >= TINY and not (sparse or thin or box <= COMPACT):
        yield Suggestion(
            DiceCE(),
            "Dice + CE",
            f"{rarest.name} is {percent(rarest.share)} of the labelled pixels, in a box over {percent(box)} of the "
            "image: nothing that calls for a special loss.",
        )


def _dilated(found: Imbalance, rarest: ClassBalance) -> Suggestion:
    furthest = max(SHORTEST, round(FURTHEST * found.side))
    radius = min(max(SHORTEST, round(REACH * rarest.radius)), furthest)
    many = rarest.per_image > MANY
    loss = DilatedBalancedCE(radius=radius, unit="px", per="component" if many else "class")
    each = "each piece, so that many do not dilute each other" if many else "it"
    return Suggestion(
        loss,
        f"Dilated balanced CE, radius {radius} px" + (", per component" if many else ""),
        f"{rarest.name} is {percent(rarest.share)} of the labelled pixels in {_pieces(rarest.components)} of about "
        f"{rarest.radius:.2g} px radius; weight reaches {radius} px around {each}.",
    )


def _mask(found: Imbalance, density: float, pieces: float) -> Suggestion:
    deepest = max(one.depth for one in found.foreground)
    radius = min(max(SHORTEST, round(2 * deepest)), max(SHORTEST, round(FURTHEST * found.side)))
    lead = f"There are about {pieces:.0f} pieces in an image; a" if pieces > MANY else "A"
    return Suggestion(
        ContextCE(roi=MaskRoi(radius=radius, unit="px")),
        f"Context CE, mask ROI of {radius} px",
        f"{lead} box around the foreground would be {percent(1 - density)} background; a mask region stays within "
        f"{radius} px of it.",
    )


def _contour(thin: ClassBalance) -> Suggestion:
    return Suggestion(
        ContourWeightedCEDice(contour=ContourConfig(iterations=1, adapt=ADAPT)),
        "Contour CE + Dice, thickness 1 px, adapted to size",
        f"{percent(thin.boundary)} of {thin.name} lies at its boundary (half thickness about {thin.depth:.2g} px): a "
        "thick contour would leave no interior.",
    )


def _strokes(found: Imbalance) -> Suggestion:
    return Suggestion(
        BalancedCE(),
        "Balanced CE",
        f"{percent(found.unlabelled)} of the labelled slices is unlabelled. Strokes have no area, so Dice and boxes "
        "would measure the brush; here each class counts the same, however much of it was painted.",
    )


def _pieces(count: int) -> str:
    return "1 piece" if count == 1 else f"{count} pieces"
