"""Sample data for File > Open Sample. Nothing here needs a screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_ctxseg.phantom import make_phantom

if TYPE_CHECKING:
    from napari_ctxseg.cases import Case

    LayerTuple = tuple[Any, dict[str, Any], str]

#: Gap between two subjects in the viewer, mm.
GAP = 10.0


def sample_data() -> list[LayerTuple]:
    """Two subjects of the cardiac phantom side by side: one to learn from, one to predict.

    Returns
    -------
    list of tuple
        Image and labels of the first subject, image of the second, and its labels hidden, as the truth to
        compare a prediction with.
    """
    layers: list[LayerTuple] = []
    shift = 0.0
    for number, case in enumerate(make_phantom(subjects=2)):
        layers += _layers(case, shift, known=number == 0)
        shift += case.image.spatial_shape[-1] * case.image.spacing[-1] + GAP
    return layers


def _layers(case: Case, shift: float, *, known: bool) -> list[LayerTuple]:
    image = case.image
    place = {
        "scale": image.spacing,
        "translate": (0.0, 0.0, shift),
        "units": (image.unit,) * 3,
        "axis_labels": tuple(image.axes),
    }
    # Each layer gets a dictionary of its own: napari keeps the one it is given.
    meta = [{"ctxseg": {"affine": image.affine, "path": "", "image": image}} for _ in range(2)]
    name = f"{case.name} labels" if known else f"{case.name} truth"
    return [
        (image.array, {"name": case.name, **place, "metadata": meta[0]}, "image"),
        (case.labels, {"name": name, **place, "visible": known, "metadata": meta[1]}, "labels"),
    ]
