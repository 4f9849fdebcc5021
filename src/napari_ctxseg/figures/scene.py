"""What all figures of images share: the image, the slice, the classes, and panels with their zoomed parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg.errors import InputError
from napari_ctxseg.figures import marks
from napari_ctxseg.figures.palette import palette_of
from napari_ctxseg.figures.planes import aspect_of, choose_plane, zoom_box
from napari_ctxseg.figures.sheet import Drawing, Panel, columns_of, lay_out

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from numpy.typing import NDArray

    from napari_ctxseg.config import FigureStyle, ViewConfig
    from napari_ctxseg.figures.palette import Palette
    from napari_ctxseg.figures.planes import Box, Plane
    from napari_ctxseg.image import Image

#: More values than this in a label file are ids, not classes.
MOST_CLASSES = 16
#: Part of a panel's width and height that an inset may take.
INSET = 0.42
#: An inset that is not this many times as large as the panel is of little use.
MAGNIFIED = 1.3
COLOURS = ("red", "green", "blue")


@dataclass(frozen=True)
class Part:
    """A panel before it is placed: a title, what is drawn, the name of its colour bar."""

    title: str
    paint: Callable[[Axes], ScalarMappable | None]
    bar: str | None = None


@dataclass(frozen=True)
class Scene:
    """An image and the part of it that is shown.

    Attributes
    ----------
    image : Image
    plane : Plane
    zoom : tuple of int or None
        Part that is drawn larger.
    view, style : configuration
    channel : int or None
        Of the image.
    notes : list of str
        What the person should know.
    """

    image: Image
    plane: Plane
    zoom: Box | None
    view: ViewConfig
    style: FigureStyle
    channel: int | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def palette(self) -> Palette:
        """Colours of the style."""
        return palette_of(self.style)

    def grey(self, axes: Axes) -> None:
        """Draw the image."""
        marks.show_image(axes, self._channel(), self.plane, self.view.window)

    def _channel(self) -> NDArray[Any]:
        channels = self.image.channel_array
        if self.image.channels == COLOURS and self.channel is None:
            return self.plane.cut(channels)
        return self.plane.cut(channels[self.channel or 0])

    def drawing(self, parts: Sequence[Part], handles: Sequence[Artist] = ()) -> Drawing:
        """Place parts, each with its zoomed one, on a sheet."""
        columns = columns_of(len(parts), self.style)
        beside = self.zoom is not None and self.view.zoom is not None and self.view.zoom.place == "beside"
        rows: list[list[Panel]] = []
        lengths: list[float] = []
        for start in range(0, len(parts), columns):
            some = parts[start : start + columns]
            whole = [
                self._panel(p, first=start + i == 0, lengths=lengths, bar=not beside or len(parts) == 1)
                for i, p in enumerate(some)
            ]
            if beside and len(parts) == 1:
                rows.append([*whole, self._zoomed(some[0], first=True, lengths=lengths, bar=False)])
                continue
            rows.append(whole)
            if beside:
                rows.append(
                    [
                        self._zoomed(p, first=start + i == 0, lengths=lengths, bar=True)
                        for i, p in enumerate(some)
                    ]
                )
        figure = lay_out(rows, self.style, handles)
        chosen: dict[str, Any] = {"crop": list(self.plane.box)}
        if not self.plane.flat:
            chosen |= {"axis": self.image.spatial_axes[self.plane.axis], "index": self.plane.index}
        if self.zoom is not None:
            chosen["zoom"] = list(self.zoom)
        if any(lengths):
            chosen |= {"scale_bars": [float(length) for length in lengths if length], "unit": self.plane.unit}
        return Drawing(figure, chosen, list(self.notes))

    def _panel(self, part: Part, *, first: bool, lengths: list[float], bar: bool) -> Panel:
        def draw(axes: Axes) -> ScalarMappable | None:
            shown = part.paint(axes)
            marks.frame_to(axes, self.plane.box, upward=self.plane.upward)
            if first:
                lengths.append(marks.scale_bar(axes, self.plane.box, self.plane, self.style))
                marks.orientation(axes, self.plane, self.style)
            if self.zoom is not None:
                marks.frame(axes, self.zoom)
                if self.view.zoom is not None and self.view.zoom.place == "inset":
                    self._inset(axes, part)
            return shown

        return Panel(draw, self.plane.aspect, part.title, part.bar if bar else None)

    def _zoomed(self, part: Part, *, first: bool, lengths: list[float], bar: bool) -> Panel:
        box = self.zoom
        assert box is not None

        def draw(axes: Axes) -> ScalarMappable | None:
            shown = part.paint(axes)
            marks.frame_to(axes, box, upward=self.plane.upward)
            if first:
                lengths.append(marks.scale_bar(axes, box, self.plane, self.style))
            return shown

        return Panel(draw, aspect_of(box, self.plane.spacing), "", part.bar if bar else None, letter=False)

    def _inset(self, axes: Axes, part: Part) -> None:
        """Draw the zoomed part in the corner where it covers least of itself."""
        box = self.zoom
        assert box is not None
        ratio = aspect_of(box, self.plane.spacing) / self.plane.aspect
        width = min(INSET, INSET / ratio)
        height = width * ratio
        corners = ((1 - width, 1 - height), (0.0, 1 - height), (0.0, 0.0))  # the scale bar has the fourth
        larger = width / (box[3] / self.plane.box[3])
        if larger < MAGNIFIED:
            self.notes.append(
                f"the inset is only {larger:.1f} times as large as what it shows: choose a smaller box"
            )
        spot = min(corners, key=lambda corner: _overlap(corner, (width, height), self._share(box)))
        inset = axes.inset_axes((*spot, width, height))
        inset.set_gid("inset")
        part.paint(inset)
        marks.frame_to(inset, box, upward=self.plane.upward)
        inset.set_xticks([])
        inset.set_yticks([])
        for spine in inset.spines.values():
            spine.set(color="white", linewidth=0.8)

    def _share(self, box: Box) -> tuple[float, float, float, float]:
        """Left, bottom, width and height of a box as parts of the panel."""
        top, left, height, width = self.plane.box
        low = (box[0] - top) / height if self.plane.upward else 1 - (box[0] + box[2] - top) / height
        return (box[1] - left) / width, low, box[3] / width, box[2] / height


def _overlap(
    corner: tuple[float, float], size: tuple[float, float], other: tuple[float, float, float, float]
) -> float:
    wide = min(corner[0] + size[0], other[0] + other[2]) - max(corner[0], other[0])
    high = min(corner[1] + size[1], other[1] + other[3]) - max(corner[1], other[1])
    return max(wide, 0.0) * max(high, 0.0)


def make_scene(
    image: Image,
    view: ViewConfig,
    style: FigureStyle,
    masks: Sequence[NDArray[np.bool_]],
    channel: int | None = None,
) -> Scene:
    """An image and what a view shows of it; `masks` as in `choose_plane`.

    Raises
    ------
    InputError
        If the image has no such slice, part or channel.
    """
    count = len(image.channel_array)
    if channel is not None and channel >= count:
        raise InputError("channel", f"{channel} is not in the image", f"It has 0 to {count - 1}")
    plane = choose_plane(view, image, masks)
    return Scene(image, plane, zoom_box(view, plane, masks), view, style, channel)


def class_values(
    classes: Mapping[str, int], arrays: Sequence[NDArray[Any]], *, foreground: bool
) -> dict[str, int]:
    """Names and values of the classes: those given, or all that are found.

    With `foreground` the value is 1: use `class_mask`.

    Raises
    ------
    InputError
        If there are so many values that they must be ids.
    """
    if foreground:
        return {"foreground": 1}
    if classes:
        return dict(classes)
    found = sorted({int(v) for array in arrays for v in np.unique(array)} - {0})
    if len(found) > MOST_CLASSES:
        raise InputError(
            "classes",
            f"are not given, and the labels hold {len(found)} values",
            "Name them, or set foreground: true",
        )
    return {f"class {v}": v for v in found}


def class_mask(labels: NDArray[Any], value: int, *, foreground: bool) -> NDArray[np.bool_]:
    """Pixels of a class."""
    mask: NDArray[np.bool_] = labels != 0 if foreground else labels == value
    return mask


def any_class(labels: NDArray[Any], values: Mapping[str, int], *, foreground: bool) -> NDArray[np.bool_]:
    """Pixels of any of the classes."""
    mask: NDArray[np.bool_] = labels != 0 if foreground else np.isin(labels, list(values.values()))
    return mask
