"""What a form makes of the fields of a configuration class: names, kinds, and editors of single values."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from magicgui.widgets import create_widget

from napari_ctxseg.config import Config, preset_values, presets_of
from napari_ctxseg.gui.editors import CountText, NumbersText, NumberText, RunChoice

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from qtpy.QtWidgets import QWidget

ABBREVIATIONS = {
    "ce": "CE",
    "unet": "U-Net",
    "roi": "ROI",
    "dice": "Dice",
    "jaccard": "Jaccard",
    "resnet34": "ResNet-34",
    "vnet": "V-Net",
    "unetr": "UNETR",
    "deeplabv3": "DeepLabV3",
}
#: Names of their own, and shorter ones for those that a dock would cut off where they begin to differ.
SHORT = {
    "contour_weighted_ce": "Contour CE",
    "contour_weighted_ce_dice": "Contour CE + Dice",
    "dice_ce": "Dice + CE",
    "resnet34_unet": "ResNet-34 U-Net",
    "vnet": "V-Net",
    "unetr": "UNETR",
    "deeplabv3": "DeepLabV3",
    "recurrent_unet": "Recurrent U-Net",
    "gan": "GAN",
    "seg_glgan": "Seg-GLGAN",
    "cgan": "cGAN",
    "cr_gan": "CR-GAN",
}


def kinds_of(annotation: Any) -> list[type[Config]]:
    """Configuration classes of a (tagged) union, or of a single class; empty for anything else."""
    if get_origin(annotation) is Annotated:
        return kinds_of(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        found = [kinds_of(member) for member in get_args(annotation)]
        return [cls for classes in found for cls in classes] if all(found) else []
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    return []


def item_of(annotation: Any) -> type[Config] | None:
    """Class of the items of ``tuple[Config, ...]``; None for anything else."""
    found = kinds_of(get_args(annotation)[0]) if get_origin(annotation) is tuple else []
    return found[0] if len(found) == 1 else None


def title_of(cls: type[Config]) -> str:
    """Readable name of a kind: ``dilated_balanced_ce`` becomes "Dilated balanced CE"."""
    kind = str(cls.model_fields["kind"].default)
    if kind in SHORT:
        return SHORT[kind]
    words = kind.split("_")
    text = " ".join(ABBREVIATIONS.get(word, word) for word in words)
    return text[0].upper() + text[1:]


def summary_of(cls: type[Config]) -> str:
    """First line of a class's docstring."""
    return (cls.__doc__ or "").strip().splitlines()[0]


def start_of(cls: type[Config]) -> Config:
    """What a newly chosen kind starts with: its recommended preset, else its defaults with lengths in pixels."""
    kind = cls.model_fields["kind"].default
    if "recommended" in presets_of(kind):
        return cls.model_validate(preset_values(kind, "recommended"))
    return cls.model_validate({"unit": "px"} if "unit" in cls.model_fields else {})


def extra(info: FieldInfo, name: str) -> Any:
    """What a configuration says about a field beside its type; None if it does not."""
    return info.json_schema_extra.get(name) if isinstance(info.json_schema_extra, dict) else None


def is_advanced(info: FieldInfo) -> bool:
    """Whether a field is rarely changed."""
    return bool(extra(info, "advanced"))


def is_off_screen(info: FieldInfo) -> bool:
    """Whether a field has no editor: the data decide it, only files and the command line set it, or nothing is to choose."""
    kinds = kinds_of(info.annotation)
    return bool(extra(info, "off_screen")) or (len(kinds) == 1 and set(kinds[0].model_fields) == {"kind"})


def left_out(info: FieldInfo) -> list[type[Config]]:
    """Kinds of a field that the class refuses in any case: they are not offered."""
    names = extra(info, "without")
    if not names:
        return []
    return [cls for cls in kinds_of(info.annotation) if cls.model_fields["kind"].default in names]


def _limits(info: FieldInfo) -> dict[str, Any]:
    """Bounds of a number as options of a spin box."""
    options: dict[str, Any] = {"min": -1e6, "max": 1e6}
    for rule in info.metadata:
        for name, option in (("ge", "min"), ("gt", "min"), ("le", "max"), ("lt", "max")):
            bound = getattr(rule, name, None)
            if bound is not None:
                options[option] = bound
    return options


def label_width(widget: QWidget) -> int:
    """Width of the labels in front of editors."""
    return widget.fontMetrics().horizontalAdvance("Context weight")


def simple_editor(info: FieldInfo, value: Any, title: str) -> Any:
    """Editor of a field that is no configuration: has `value`, `changed`, `native` and `tooltip`."""
    annotation, limits = info.annotation, _limits(info)
    numbers = [member for member in get_args(annotation) if get_origin(member) is tuple]
    if numbers and get_args(numbers[0])[0] is float:
        return NumbersText(value, title)
    if extra(info, "run"):
        return RunChoice(value, "train the first stage too")
    if set(get_args(annotation)) == {int, type(None)}:
        return CountText(value, title)
    options: dict[str, Any] = {}
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        inside = limits["min"] <= value <= limits["max"]
        if isinstance(value, float) and (0 < abs(info.default) <= 0.01 or limits["max"] <= 0.1 or not inside):
            return NumberText(value, title)
        options = limits
        if isinstance(value, int):
            options = {key: int(bound) for key, bound in options.items()}
        else:
            options["step"] = 0.1 if value < 10 else 1.0
    if get_origin(annotation) is Literal:
        options = {"choices": list(get_args(annotation))}
    return create_widget(value=value, annotation=annotation, options=options)
