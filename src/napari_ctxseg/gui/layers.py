"""napari layers as the core's values, and predictions as layers. Works with `ViewerModel`: no Qt here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_ctxseg.errors import InputError
from napari_ctxseg.gui.timing import napari_works
from napari_ctxseg.image import Image

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

TIME = {"t", "time"}

#: Colours of classes that have not been given one, readable for colour-blind people (Okabe & Ito).
PALETTE = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#d55e00", "#cc79a7", "#0072b2")


def plain(thing: Any) -> Any:
    """The object behind napari's proxy, so that one layer is one object wherever it comes from."""
    return getattr(thing, "__wrapped__", thing)


def layers_of(viewer: Any, kind: str) -> list[Any]:
    """Layers of a viewer by kind, ``"image"`` or ``"labels"``, in the viewer's order; none of ours that explain others."""
    from napari.layers import Image as ImageLayer
    from napari.layers import Labels

    cls = {"image": ImageLayer, "labels": Labels}[kind]
    ours = ("lens", "errors_of", "uncertainty_of", "review")
    found = [layer for layer in map(plain, viewer.layers) if isinstance(layer, cls)]
    return [layer for layer in found if not any(key in layer.metadata.get("ctxseg", {}) for key in ours)]


def is_prediction(layer: Any) -> bool:
    """Whether we made this layer to hold a prediction."""
    return "prediction_of" in layer.metadata.get("ctxseg", {})


def is_lens(layer: Any) -> bool:
    """Whether the Lens made this layer: to be looked at, never to learn from."""
    return "lens" in layer.metadata.get("ctxseg", {})


class OnGrid(Protocol):
    """Anything with the shape and the place of an image."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape."""

    @property
    def look(self) -> Mapping[str, Any]:
        """See `look_of`."""


def base_data(layer: Any) -> Any:
    """The layer's array; the full resolution of a pyramid."""
    return layer.data[0] if layer.multiscale else layer.data


def spatial_shape(layer: Any) -> tuple[int, ...]:
    """Shape without the colour axis of an RGB image."""
    shape = tuple(base_data(layer).shape)
    return shape[:-1] if getattr(layer, "rgb", False) else shape


def unit_of(layer: Any) -> str:
    """Short name of the layer's unit."""
    text = f"{layer.units[-1]:~}" if layer.units else "pixel"
    return {"µm": "um", "μm": "um", "px": "pixel", "": "pixel"}.get(text, text)


@dataclass(frozen=True)
class Snapshot:
    """What is known of the chosen image layers at one moment, for other threads and after they are gone.

    `arrays` are the layers' own arrays, not copies. `look` holds what a layer on the same grid must copy.
    """

    name: str
    arrays: tuple[Any, ...]
    rgb: bool
    axes: str
    spacing: tuple[float, ...]
    affine: NDArray[np.float64]
    channels: tuple[str, ...]
    unit: str
    shape: tuple[int, ...]
    look: Mapping[str, Any]
    meta: Mapping[str, Any]
    layer: Any

    def image(self) -> Image:
        """Gather the channels. Slow for large or lazy arrays: call it off the GUI thread."""
        if self.rgb:
            array = np.moveaxis(np.asarray(self.arrays[0])[..., :3], -1, 0)
        elif len(self.arrays) == 1:
            return Image(np.asarray(self.arrays[0]), self.axes, self.spacing, self.affine, unit=self.unit)
        else:
            array = np.stack([np.asarray(array) for array in self.arrays])
        return Image(array, "c" + self.axes, self.spacing, self.affine, self.channels, self.unit)


def image_problem(layers: Sequence[Any]) -> str:
    """Why these image layers cannot be used together, or an empty string."""
    if not layers:
        return "Choose an image layer."
    first = layers[0]
    if any(layer.rgb for layer in layers) and len(layers) > 1:
        return "An RGB image already has three channels: choose it alone."
    shape = spatial_shape(first)
    if len(shape) not in (2, 3):
        return (
            f"'{first.name}' has {len(shape)} axes; 2 or 3 can be used. "
            "Split it first (right-click on the layer, Split Stack)."
        )
    for layer in layers[1:]:
        if spatial_shape(layer) != shape:
            shapes = [f"the shape {spatial_shape(each)}" for each in (first, layer)]
            return _differ(first, shapes[0], layer, shapes[1], "channels must have one shape")
        if not np.allclose(layer.scale, first.scale, rtol=1e-3):
            scales = [f"the scale {_numbers(each.scale)}" for each in (first, layer)]
            return _differ(first, scales[0], layer, scales[1], "channels must have one scale")
    return ""


def _differ(one: Any, first: Any, other: Any, second: Any, remedy: str) -> str:
    return f"'{one.name}' has {first} but '{other.name}' has {second}: {remedy}."


def labels_problem(layers: Sequence[Any], labels: Any) -> str:
    """Why this labels layer does not fit these image layers, or an empty string."""
    if labels is None:
        return "Choose a labels layer, or make one with New."
    first, shape = layers[0], spatial_shape(layers[0])
    if labels.multiscale:
        return f"'{labels.name}' is a pyramid, which napari cannot edit: convert it to a single resolution."
    remedy = "choose labels made on this image"
    if tuple(labels.data.shape) != shape:
        return _differ(first, f"the shape {shape}", labels, f"the shape {tuple(labels.data.shape)}", remedy)
    smallest = float(np.min(np.abs(first.scale)))
    for what, tolerance in (("scale", 1e-3 * smallest), ("translate", 1e-3 * smallest)):
        one, other = getattr(first, what), getattr(labels, what)
        if not np.allclose(one, other, rtol=1e-6, atol=tolerance):
            return _differ(
                first, f"the {what} {_numbers(one)}", labels, f"the {what} {_numbers(other)}", remedy
            )
    return ""


def _numbers(values: Any) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"


def snapshot(layers: Sequence[Any]) -> Snapshot:
    """Note down everything about the chosen image layers that a job needs.

    Raises
    ------
    InputError
        If they cannot be used together.
    """
    if problem := image_problem(layers):
        raise InputError("image layers", problem)
    first = layers[0]
    shape = spatial_shape(first)
    n = len(shape)
    spacing = tuple(float(abs(step)) for step in first.scale[-n:])
    affine = np.diag([*spacing, 1.0])
    affine[:n, n] = first.translate[-n:]
    known = first.metadata.get("ctxseg", {}).get("affine")
    if known is not None and np.shape(known) == (n + 1, n + 1):
        affine = np.asarray(
            known, float
        )  # the file's full geometry; the layer itself shows only scale and translation
    axes = "yx" if n == 2 else "tyx" if str(first.axis_labels[-3]).lower() in TIME else "zyx"
    return Snapshot(
        name=first.name,
        arrays=tuple(base_data(layer) for layer in layers),
        rgb=bool(first.rgb),
        axes=axes,
        spacing=spacing,
        affine=affine,
        channels=("red", "green", "blue") if first.rgb else tuple(layer.name for layer in layers),
        unit=unit_of(first),
        shape=shape,
        look=look_of(first),
        meta=dict(first.metadata.get("ctxseg", {})),
        layer=first,
    )


def look_of(layer: Any) -> dict[str, Any]:
    """Place of a layer in the world, as keyword arguments for another one on the same grid."""
    names = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
    return {name: getattr(layer, name) for name in names}


def add_labels(
    viewer: Any,
    shot: Snapshot,
    name: str,
    dtype: Any = np.uint8,
    meta: Mapping[str, Any] | None = None,
    **options: Any,
) -> Any:
    """Add an empty labels layer on an image's grid, just above the image, and keep the selection."""
    from napari.layers import Labels

    # The image's own geometry goes along, so that the labels can be saved like it.
    known = {key: shot.meta[key] for key in ("image", "affine", "path") if key in shot.meta}
    with napari_works("make a layer"):
        layer = Labels(
            np.zeros(shot.shape, dtype),
            name=name,
            metadata={"ctxseg": known | dict(meta or {})},
            **shot.look,
            **options,
        )
    insert_above(viewer, layer, [shot.layer])
    return layer


def insert_above(viewer: Any, layer: Any, below: Sequence[Any]) -> None:
    """Add a layer just above the highest of some others, or on top, and keep the selection: the person paints."""
    active = viewer.layers.selection.active
    order = list(map(plain, viewer.layers))
    place = max((order.index(each) + 1 for each in below if each in order), default=len(order))
    with napari_works("insert a layer"):
        viewer.layers.insert(place, layer)
    if active is not None:
        # It swaps the layer controls, a widget of its own for each layer.
        with napari_works("select a layer"):
            viewer.layers.selection.active = active


def class_colormap(colors: Mapping[int, Any]) -> Any:
    """Colormap of class values; values that are no class are grey, so that nothing painted is invisible."""
    from napari.utils.colormaps import DirectLabelColormap

    known: dict[int | None, Any] = {None: "#808080", 0: "transparent"}
    known.update(colors.items())
    return DirectLabelColormap(color_dict=known)


def dtype_for(values: Sequence[int]) -> Any:
    """Smallest unsigned type that holds these class values."""
    return np.min_scalar_type(max(values, default=1))


def write_slices(layer: Any, start: int, labels: NDArray[Any], shown: int | None) -> bool:
    """Put slices into a prediction layer in place; redraw only if one of them is on screen.

    Parameters
    ----------
    layer : Labels
        The prediction layer.
    start : int
        First slice along axis 0; ignored in 2-D.
    labels : ndarray
        Shape ``(n, y, x)``, or ``(y, x)`` for one slice.
    shown : int or None
        Slice on screen, or None when the whole volume is.

    Returns
    -------
    bool
        Whether the layer was redrawn.
    """
    data = layer.data
    if data.ndim == 2:
        data[:] = labels.reshape(data.shape)
        start, count = 0, 1
    else:
        block = labels[None] if labels.ndim == 2 else labels
        count = len(block)
        data[start : start + count] = block
    visible = layer.visible and (data.ndim == 2 or shown is None or start <= shown < start + count)
    if visible:
        layer.refresh(thumbnail=False, extent=False, highlight=False)
    return bool(visible)


def shown_slice(viewer: Any, shot: OnGrid) -> tuple[int, bool]:
    """Slice along the first axis that the viewer stands at, and whether only that slice is on screen.

    Returns
    -------
    index : int
        0 for 2-D images.
    alone : bool
        False when the first axis is displayed, as in the volume view or a side view.
    """
    n = len(shot.shape)
    if n == 2:
        return 0, False
    dims = viewer.dims
    point = np.asarray(dims.point[-n:], float)
    offset = float(shot.look["translate"][-n])
    step = float(shot.look["scale"][-n]) or 1.0
    index = round((float(point[0]) - offset) / step)
    alone = (dims.ndim - n) in dims.not_displayed
    return int(np.clip(index, 0, shot.shape[0] - 1)), alone


def hidden_axis(viewer: Any, ndim: int) -> int:
    """Axis of a layer across the plane on screen: the one that the slider moves along; 0 in the volume view."""
    dims = viewer.dims
    hidden = [axis - (dims.ndim - ndim) for axis in dims.not_displayed]
    return next((axis for axis in hidden if axis >= 0), 0)


def load_units() -> None:
    """Fill the registry of units that every layer asks. On the GUI thread: two threads at once see it half full."""
    import pint

    units: Any = pint  # not fully typed
    with napari_works("units"):
        units.get_application_registry().Unit("pixel")


def warm_up() -> None:
    """Load what the first Labels layer of a process needs, in any thread."""
    from napari.layers import Labels

    Labels(np.zeros((1, 1), np.uint8))
