"""Colours: false positives red and false negatives blue; the rest is a habit of the field (reference green)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_ctxseg.config import FigureStyle


@dataclass(frozen=True)
class Palette:
    """Colours of a figure, as ``#rrggbb``.

    Attributes
    ----------
    reference : str
        Contour of the reference.
    predictions, classes, methods : tuple of str
        Contours of predictions, colours of classes, boxes and lines of methods; begun again after the last one.
    fp, fn, wrong : str
        False positives, false negatives, and structures of another class.
    mask : str
        A structure beside its errors.
    """

    reference: str
    predictions: tuple[str, ...]
    classes: tuple[str, ...]
    methods: tuple[str, ...]
    fp: str
    fn: str
    wrong: str
    mask: str


#: Okabe and Ito's colours, which colour-blind people can tell apart.
OKABE_ITO = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442", "#000000")

PALETTES = {
    "papers": Palette(
        reference="#00c000",
        predictions=("#ff0000", "#ffd400", "#00c8ff", "#ff00ff", "#ff8000"),
        classes=("#ff0000", "#00c000", "#1e6bff", "#ffd400", "#00c8ff", "#ff00ff", "#ff8000"),
        methods=("#c00000", "#1f4ec8", "#008000", "#c08000", "#8000a0", "#0090a0", "#606060"),
        fp="#ff0000",
        fn="#0000ff",
        wrong="#a000c0",
        mask="#ffd400",
    ),
    "colour_blind": Palette(
        reference="#009e73",
        predictions=("#e69f00", "#56b4e9", "#f0e442", "#cc79a7", "#d55e00", "#0072b2"),
        classes=("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#0072b2"),
        methods=OKABE_ITO[:6],
        fp="#d55e00",
        fn="#0072b2",
        wrong="#cc79a7",
        mask="#f0e442",
    ),
}


def palette_of(style: FigureStyle) -> Palette:
    """The palette that a style names."""
    return PALETTES[style.palette]


def nth(colours: tuple[str, ...], number: int) -> str:
    """Colour of a number from 0 on, begun again after the last."""
    return colours[number % len(colours)]
