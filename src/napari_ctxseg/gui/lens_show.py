"""Maps of a loss turned into layers and words. No Qt here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg.gui import layers as lay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_ctxseg.events import LossMaps
    from napari_ctxseg.gui.lens import Lens
    from napari_ctxseg.gui.lens_target import Asked


def show_kind(lens: Lens, kind: str) -> None:
    """Bring one layer of the Lens in step with the last answer; out of sight where there is none."""
    maps, asked = lens.maps, lens.shown
    if maps is None or asked is None or not lens.wanted[kind] or lens.missing(kind):
        lens.layers.hide(kind)
    elif kind == "roi":
        lens.layers.show_boxes(maps.boxes, asked.grid, asked.index)
    else:
        _show_pixels(lens, kind, maps, asked)


def _show_pixels(lens: Lens, kind: str, maps: LossMaps, asked: Asked) -> None:
    limits: tuple[float, float] | None = None
    colors: dict[int, Any] | None = None
    plane: NDArray[Any] | None
    if kind == "crop":
        plane, limits = _crop(maps, asked)
    elif kind in ("interior", "dilated"):
        plane = _as_values(getattr(maps, kind), asked.values)
        colors = _colors(lens, asked)
    else:
        plane = getattr(maps, kind)
        limits = (0.0, 1.0) if kind == "contour" else _range(plane)
    if plane is None:
        lens.layers.hide(kind)
    else:
        lens.layers.show(kind, plane, asked.grid, asked.index, limits, colors)


def _colors(lens: Lens, asked: Asked) -> dict[int, Any]:
    """Colour of every class value."""
    if not lens.alone:
        return lens.choices.colors()
    labels = lens.choices.labels
    return {} if labels is None else {value: tuple(labels.get_color(value)) for value in asked.values}


def _range(plane: NDArray[Any] | None) -> tuple[float, float]:
    high = 0.0 if plane is None or not plane.size else float(plane.max())
    return 0.0, high if np.isfinite(high) and high > 0 else 1.0


def _as_values(indices: NDArray[Any] | None, values: tuple[int, ...]) -> NDArray[Any] | None:
    """Class indices as the person's own values, unlabelled as 0."""
    if indices is None:
        return None
    table = np.array([0, *values], lay.dtype_for(values))
    found: NDArray[Any] = table[np.clip(indices, 0, None)]
    return found


def _crop(maps: LossMaps, asked: Asked) -> tuple[NDArray[np.float32] | None, tuple[float, float]]:
    """The image where the region is, the darkest value elsewhere; None if it got another shape meanwhile."""
    layer = asked.image
    if layer is None or maps.roi is None or lay.spatial_shape(layer) != asked.grid.shape:
        return None, (0.0, 1.0)
    data = lay.base_data(layer)
    plane = np.asarray(data[asked.index] if len(asked.grid.shape) == 3 else data, np.float32)
    if getattr(layer, "rgb", False):
        plane = plane[..., :3].mean(axis=-1)
        limits = (0.0, 255.0 if np.asarray(data[:0]).dtype == np.uint8 else 1.0)
    else:
        low, high = map(float, layer.contrast_limits)
        limits = low, high
    return np.where(maps.roi, plane, np.float32(limits[0])), limits


def summary(maps: LossMaps, asked: Asked) -> str:
    """An answer in one line."""
    if asked.target is not None and (asked.target < 0).all():
        return "This slice is not labelled: nothing in it counts."
    loss = "" if maps.loss is None else f", loss {maps.loss:.4g}"
    where = "" if len(asked.grid.shape) == 2 else f"slice {asked.index}, "
    return f"{where}{1000 * maps.seconds:.0f} ms{loss}"


def weigh(lens: Lens, position: Sequence[float]) -> str:
    """What the pixel under the cursor weighs, in words; empty outside the shown slice."""
    maps, asked = lens.maps, lens.shown
    layer = lens.layers.get("weight") or (asked.grid.above if asked is not None else None)
    if maps is None or asked is None or layer is None:
        return ""
    n = len(asked.grid.shape)
    scale, translate = (np.asarray(asked.grid.look[key], float)[-n:] for key in ("scale", "translate"))
    place = np.round((np.asarray(position, float)[-n:] - translate) / scale).astype(int)
    if np.any(place < 0) or np.any(place >= asked.grid.shape) or (n == 3 and place[0] != asked.index):
        return ""
    if maps.weight is None:
        return "This loss has no weight per pixel."
    y, x = place[-2:]
    weight = float(maps.weight[y, x])
    if asked.target is not None and asked.target[y, x] < 0:
        return "unlabelled: counts nothing"
    if maps.far:
        return f"this pixel counts {weight / maps.far:.3g} x a far background pixel"
    counted = maps.weight[maps.weight > 0]
    if not counted.size:
        return "nothing counts in this slice"
    why = "no background here" if maps.far is None else "far background counts nothing"
    return f"this pixel counts {weight / counted.mean():.3g} x the mean pixel ({why})"
