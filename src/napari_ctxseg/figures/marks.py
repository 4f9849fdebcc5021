"""What is drawn on a panel: the image, contours, tints, scale bar, letters of orientation, frames."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke

from napari_ctxseg.errors import InputError
from napari_ctxseg.figures.sheet import small, text_width

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from napari_ctxseg.config import FigureStyle
    from napari_ctxseg.figures.planes import Box, Plane

Dashes = Literal["-", "--", ":", "-."]
LINES: tuple[Dashes, ...] = ("-", "--", ":", "-.")
#: A scale bar is at most this part of the panel's width.
LONGEST_BAR = 0.3
#: Millimetres: distance of marks from the panel's edge, thickness of the scale bar.
EDGE, THICK = 0.9, 0.6
_UNITS = {"um": "µm", "pixel": "px"}
#: Unit -> the one to say instead of numbers from 1000 on, and how many make one of it; the same for numbers below 1.
_LARGER = {"nm": ("um", 1000.0), "um": ("mm", 1000.0)}
_SMALLER = {"mm": ("um", 1000.0), "um": ("nm", 1000.0), "cm": ("mm", 10.0), "m": ("mm", 1000.0)}


def show_image(
    axes: Axes, values: NDArray[Any], plane: Plane, window: tuple[float, float] | None = None
) -> None:
    """Draw a slice in grey, or in colour where it has three channels ``(3, h, w)``."""
    if values.ndim == 3:
        top = 255.0 if values.dtype == np.uint8 else float(values.max()) or 1.0
        shown = np.clip(np.moveaxis(values, 0, -1) / top, 0, 1)
        axes.imshow(shown, interpolation="antialiased", aspect="auto", gid="image")
    else:
        low, high = window or grey_window(values)
        axes.imshow(
            values, cmap="gray", vmin=low, vmax=high, interpolation="antialiased", aspect="auto", gid="image"
        )
    frame_to(axes, plane.box, upward=plane.upward)


def grey_window(values: NDArray[Any]) -> tuple[float, float]:
    """The 0.5 and 99.5 percentiles, apart from each other."""
    low, high = (float(v) for v in np.percentile(values, [0.5, 99.5]))
    return (
        (low, high)
        if high > low
        else (float(values.min()), float(values.min()) + max(1.0, float(np.ptp(values))))
    )


def frame_to(axes: Axes, box: Box, *, upward: bool) -> None:
    """Show a box of pixels and no more."""
    top, left, height, width = box
    rows = (top - 0.5, top + height - 0.5)
    axes.set_xlim(left - 0.5, left + width - 0.5)
    axes.set_ylim(rows if upward else rows[::-1])


def contour(
    axes: Axes,
    mask: NDArray[np.bool_],
    colour: str,
    style: FigureStyle,
    *,
    dashes: Dashes = "-",
    grid: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> bool:
    """Draw the outline of a mask, half way between its pixels and the others; returns whether there is any.

    The slice is framed with a rim of nothing, so that structures at its edge are closed. `grid` has the places of rows and
    columns with that rim; pixels' own when left out.
    """
    if not mask.any():
        return False
    rimmed = np.pad(mask.astype(float), 1)
    y, x = grid or tuple(np.arange(-1.0, n + 1) for n in mask.shape)
    drawn = axes.contour(
        x, y, rimmed, levels=[0.5], colors=[colour], linewidths=style.line, linestyles=dashes
    )
    drawn.set_gid("contour")
    return True


def tint(axes: Axes, mask: NDArray[np.bool_], colour: str, opacity: float | NDArray[Any]) -> None:
    """Colour the pixels of a mask; pixels stay pixels."""
    layer = np.zeros((*mask.shape, 4))
    layer[..., :3] = to_rgba(colour)[:3]
    layer[..., 3] = mask * opacity
    axes.imshow(layer, interpolation="nearest", aspect="auto", gid="tint")


def line_handle(name: str, colour: str, style: FigureStyle, *, dashes: Dashes = "-") -> Artist:
    """A line in the legend."""
    return Line2D([], [], color=colour, linewidth=max(style.line, 1.2), linestyle=dashes, label=name)


def patch_handle(name: str, colour: str) -> Artist:
    """A filled box in the legend."""
    return Patch(facecolor=colour, edgecolor="none", label=name)


def round_length(longest: float) -> float:
    """The largest of 1, 2 or 5 times a power of ten that is not longer."""
    power = 10.0 ** math.floor(math.log10(longest))
    return next(step * power for step in (5, 2, 1) if step * power <= longest * (1 + 1e-9))


def length_text(length: float, unit: str) -> str:
    """``5 mm``, ``500 µm``, ``20 px``."""
    if length >= 1000 and unit in _LARGER:
        unit, factor = _LARGER[unit]
        length /= factor
    elif length < 1 and unit in _SMALLER:
        unit, factor = _SMALLER[unit]
        length *= factor
    return f"{length:g} {unit_text(unit)}"


def unit_text(unit: str) -> str:
    """A unit as people write it."""
    return _UNITS.get(unit, unit)


def scale_bar(axes: Axes, box: Box, plane: Plane, style: FigureStyle) -> float:
    """Draw a scale bar at the lower right; returns its length in the plane's unit, 0 if it is switched off.

    Raises
    ------
    InputError
        If the length that was asked for does not fit.
    """
    if not style.scale_bar:
        return 0.0
    step = plane.spacing[1]
    length = style.scale_length or round_length(LONGEST_BAR * box[3] * step)
    if plane.unit == "pixel" and style.scale_length is None:
        length = max(1.0, length)
    if length > box[3] * step:
        raise InputError(
            "style.scale_length",
            f"{length_text(length, plane.unit)} is longer than the panel",
            f"The panel is {box[3] * step:.4g} {unit_text(plane.unit)} wide",
        )
    panel = axes.get_position().width * style.width  # mm
    high = 1 / (panel * paper_aspect(axes))  # a millimetre, as a part of the panel's height
    right = box[1] - 0.5 + box[3] * (1 - EDGE / panel)
    axes.add_patch(
        Rectangle(
            (right - length / step, EDGE * high), length / step, THICK * high, transform=axes.get_xaxis_transform(),
            facecolor="white", edgecolor="black", linewidth=0.3, gid="scale_bar", zorder=5,
        )
    )  # fmt: skip
    text, bar = length_text(length, plane.unit), length / step
    # Above the middle of the bar, unless it is wider and would leave the panel.
    wider = text_width(text, style, small(style)) > bar / box[3] * panel
    _text(
        axes, right if wider else right - bar / 2, (EDGE + 1.6 * THICK) * high, text, style,
        ha="right" if wider else "center", va="bottom", gid="scale_text", transform=axes.get_xaxis_transform(),
    )  # fmt: skip
    return length


def _text(axes: Axes, x: float, y: float, text: str, style: FigureStyle, **more: Any) -> None:
    """White text with a dark rim: legible on any image."""
    rim = [withStroke(linewidth=1.2, foreground="black")]
    axes.text(x, y, text, color="white", fontsize=small(style), zorder=5, path_effects=rim, **more)


def paper_aspect(axes: Axes) -> float:
    """Height over width of the axes on paper."""
    place, figure = axes.get_position(), axes.get_figure(root=True)
    assert figure is not None
    width, height = figure.get_size_inches()
    return float(place.height * height / (place.width * width))


def orientation(axes: Axes, plane: Plane, style: FigureStyle) -> None:
    """Draw the letters of orientation in the middle of the edges."""
    if not style.orientation or plane.ends is None:
        return
    edge = EDGE / (axes.get_position().width * style.width)
    high = edge / paper_aspect(axes)
    places = ((edge, 0.5, "left", "center"), (1 - edge, 0.5, "right", "center"),
              (0.5, 1 - high, "center", "top"), (0.5, high, "center", "bottom"))  # fmt: skip
    for letters, (x, y, ha, va) in zip(plane.ends, places, strict=True):
        _text(axes, x, y, letters, style, ha=ha, va=va, gid="orientation", transform=axes.transAxes)


def frame(axes: Axes, box: Box, *, colour: str = "white") -> None:
    """Frame the part that is drawn larger."""
    top, left, height, width = box
    for wide, shade in ((1.6, "black"), (0.8, colour)):
        axes.add_patch(
            Rectangle(
                (left - 0.5, top - 0.5), width, height, facecolor="none", edgecolor=shade, linewidth=wide,
                gid="zoom_frame", zorder=4,
            )
        )  # fmt: skip


def rimmed_handle(name: str, colour: str, style: FigureStyle) -> Artist:
    """A light line in the legend, with a dark rim so that it is seen on paper."""
    rim = [withStroke(linewidth=max(style.line, 1.2) + 0.8, foreground="black")]
    return Line2D([], [], color=colour, linewidth=max(style.line, 1.2), label=name, path_effects=rim)
