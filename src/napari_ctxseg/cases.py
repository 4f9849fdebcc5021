"""`Case`: one image with what is known of its labels; the unit that training and prediction take. No torch here."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg.errors import InputError
from napari_ctxseg.image import IGNORE, Image

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from napari_ctxseg.config import DataConfig

#: More distinct values than this in label files means instance ids, not classes.
MOST_CLASSES = 64


@dataclass(frozen=True)
class Case:
    """One image and its annotation.

    Parameters
    ----------
    name : str
        Unique name, a file's stem or a layer's name.
    image : Image
        The image.
    labels : ndarray of int, shape ``image.spatial_shape``, or None
        Class *values* as painted or as the file holds them; None where there is no annotation.
    group : str
        Patient. Cases of one group are never split between training and validation.
    labelled : mapping of int to tuple of int, or None
        For the policy ``masks``: spatial axis -> indices of slices that count as labelled. None: every slice along the
        first axis that holds any label.
    """

    name: str
    image: Image
    labels: NDArray[Any] | None = None
    group: str = ""
    labelled: Mapping[int, Sequence[int]] | None = field(default=None)


def class_table(cases: Sequence[Case], data: DataConfig) -> dict[str, int]:
    """Class names and values of a training set, in the order of their indices 1, 2, ...; with regions all of their values.

    Raises
    ------
    InputError
        If nothing is labelled, or the values look like instance ids.
    """
    if data.foreground:
        return {"foreground": 1}
    if data.classes:
        return dict(data.classes)
    if data.regions:
        return {f"class {v}": v for v in sorted({v for each in data.regions.values() for v in each})}
    values: set[int] = set()
    for case in cases:
        if case.labels is not None:
            values |= {int(v) for v in np.unique(case.labels)}
    values -= {0, data.background}
    if min(values, default=1) < 0:
        raise InputError("labels", f"hold the negative value {min(values)}", "Use values above 0 for classes")
    if len(values) > MOST_CLASSES:
        raise InputError(
            "labels",
            f"hold {len(values)} different values, which looks like instance ids",
            "Train on all of them as one class with --foreground, or name the classes with --classes",
        )
    return {f"class {v}": v for v in sorted(values)}


def class_indices(case: Case, classes: Mapping[str, int], data: DataConfig) -> NDArray[np.int16]:
    """Class indices of a case under the annotation policy: 0 background, `IGNORE` unlabelled.

    Parameters
    ----------
    case : Case
        Its labels hold class values.
    classes : mapping of str to int
        Name -> value, in the order of the indices 1, 2, ...
    data : DataConfig
        Says what 0 means.

    Returns
    -------
    ndarray of int16, shape ``case.image.spatial_shape``

    Raises
    ------
    InputError
        If labels and image disagree in shape, or a value is not a class where that cannot mean background.
    """
    labels, shape = case.labels, case.image.spatial_shape
    if labels is None:
        return np.full(shape, IGNORE, np.int16)
    if labels.shape != shape:
        raise InputError(
            case.name,
            f"the labels have shape {labels.shape} but the image has {shape}",
            "Choose the labels that were made on this image",
        )
    if not np.issubdtype(labels.dtype, np.integer) and labels.dtype != bool:
        raise InputError(
            case.name, f"labels are {labels.dtype}, not integers", "Convert them to a Labels layer"
        )
    indices = np.zeros(shape, np.int16)
    if data.foreground:
        indices[labels > 0] = 1
    else:
        for index, value in enumerate(classes.values(), start=1):
            indices[labels == value] = index
    if data.annotation == "full":
        return indices
    if data.annotation == "scribbles":
        indices[labels == 0] = IGNORE
        known = {0, data.background, *classes.values()}
        strange = sorted({int(v) for v in np.unique(labels)} - known) if not data.foreground else []
        if strange:
            raise InputError(
                case.name,
                f"holds the painted values {strange}, which are neither a class nor the background value",
                "Name them as classes, or set the background value",
            )
        if data.foreground and data.background is not None:
            indices[labels == data.background] = 0
        return indices
    return np.where(labelled_mask(case), indices, np.int16(IGNORE)).astype(np.int16, copy=False)


def membership(regions: Mapping[str, Sequence[int]], classes: Mapping[str, int]) -> NDArray[np.bool_]:
    """Which class indices belong to which region, shape ``(R, C)``, background included."""
    values = np.array([0, *classes.values()])
    return np.array([np.isin(values, each) for each in regions.values()])


def labelled_mask(case: Case) -> NDArray[np.bool_]:
    """Where 0 means background under the policy ``masks``: the labelled slices, shape ``image.spatial_shape``."""
    shape = case.image.spatial_shape
    mask = np.zeros(shape, bool)
    if case.labels is None:
        return mask
    if len(shape) == 2:
        mask[:] = bool(case.labels.any()) or case.labelled is not None
        return mask
    if case.labelled is None:
        mask[case.labels.reshape(shape[0], -1).any(axis=1)] = True
        return mask
    for axis, slices in case.labelled.items():
        for index in slices:
            mask[(slice(None),) * axis + (index,)] = True
    return mask


def class_values(indices: NDArray[Any], classes: Mapping[str, int]) -> NDArray[Any]:
    """Predicted indices turned back into the person's own values, in the smallest unsigned type that holds them."""
    values = np.array([0, *classes.values()])
    dtype = np.uint8 if values.max() < 256 else np.uint16 if values.max() < 65536 else np.uint32
    result: NDArray[Any] = values.astype(dtype)[indices]
    return result


def group_of(name: str, pattern: str | None) -> str:
    """Patient of a file name: the pattern's first group or whole match; without a pattern the name itself.

    Raises
    ------
    InputError
        If the pattern is no regular expression, or does not match.
    """
    if pattern is None:
        return name
    try:
        match = re.search(pattern, name)
    except re.error as error:
        raise InputError(
            f"--group {pattern}", f"is not a regular expression: {error}", r"Try for instance 'P\d+'"
        ) from error
    if match is None:
        raise InputError(name, f"does not match the patient pattern {pattern}", "Change --group")
    return match.group(1) if match.groups() else match.group(0)


def split_groups(groups: Sequence[str], share: float) -> set[str]:
    """Groups kept for validation, chosen by the hash of their names so that the choice never moves with the order.

    Below three groups nothing is kept apart.
    """
    names = sorted(set(groups), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    if len(names) < 3 or share == 0:
        return set()
    return set(names[: min(max(1, round(share * len(names))), len(names) - 2)])
