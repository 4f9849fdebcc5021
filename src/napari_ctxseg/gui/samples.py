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
    first, second = make_phantom(subjects=2)
    return [
        _image(first, 0),
        _labels(first, 0, f"{first.name} labels", visible=True),
        _image(second, 1),
        _labels(second, 1, f"{second.name} truth", visible=False),
    ]


def unlabelled_sample() -> list[LayerTuple]:
    """One subject without labels, to paint on.

    Returns
    -------
    list of tuple
        One image layer.
    """
    return [_image(make_phantom(subjects=1)[0], 0)]


def _image(case: Case, place: int) -> LayerTuple:
    return case.image.array, {"name": case.name, **_metadata(case, place)}, "image"


def _labels(case: Case, place: int, name: str, *, visible: bool) -> LayerTuple:
    return case.labels, {"name": name, "visible": visible, **_metadata(case, place)}, "labels"


def _metadata(case: Case, place: int) -> dict[str, Any]:
    """Keyword arguments of a layer, a fresh dictionary each: napari keeps the one it is given."""
    image = case.image
    width = image.spatial_shape[-1] * image.spacing[-1] + GAP
    return {
        "scale": image.spacing,
        "translate": (0.0, 0.0, place * width),
        "units": (image.unit,) * 3,
        "axis_labels": tuple(image.axes),
        "metadata": {"ctxseg": {"affine": image.affine, "path": "", "image": image}},
    }
