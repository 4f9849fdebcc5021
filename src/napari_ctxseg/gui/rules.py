"""Which choices of the model panel are greyed, and why. No Qt: `config.combinations` knows the rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_ctxseg.config import Config, MethodConfig, NetworkConfig, RunConfig
from napari_ctxseg.config.combinations import Facts, Section, refusals
from napari_ctxseg.gui.fields import kinds_of, left_out, start_of

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Form -> ``"KIND"`` or ``"FIELD.VALUE"`` -> reason.
Greyed = dict[str, dict[str, str]]


def greyed(config: RunConfig, facts: Facts | None) -> Greyed:
    """What could not be trained if it were chosen in place of what is, by form.

    Parameters
    ----------
    config : RunConfig
        As it stands in the panel.
    facts : Facts or None
        None while there is no usable image: then everything can be chosen.
    """
    found: Greyed = {"dims": {}, "network": {}, "method": {}, "discriminator": {}}
    if facts is None:
        return found
    for dims in (2, 3):
        changed = config.network.model_copy(update={"dims": dims})
        if reason := _reason(_with(config, network=changed), facts, ("dims",)):
            found["dims"][str(dims)] = reason
    for cls in kinds_of(NetworkConfig):
        made = start_of(cls).model_copy(update={"dims": config.network.dims})
        if reason := _reason(_with(config, network=made), facts, ("network",)):
            found["network"][_kind(cls)] = reason
    if "norm" in type(config.network).model_fields:
        changed = config.network.model_copy(update={"norm": "patient"})
        if reason := _reason(_with(config, network=changed), facts, ("network",)):
            found["network"]["norm.patient"] = reason
    for cls in kinds_of(MethodConfig):
        if reason := _method_reason(config, facts, cls):
            found["method"][_kind(cls)] = reason
    for judge in _judges(type(config.method)):
        method = config.method.model_copy(update={"discriminator": judge})
        if reason := _reason(_with(config, method=method), facts, ("discriminator",)):
            found["discriminator"][_kind(type(judge))] = reason
    return found


def _method_reason(config: RunConfig, facts: Facts, cls: type[Config]) -> str:
    """Why a method cannot be trained, whichever of its discriminators is taken."""
    made = start_of(cls)
    each = [made.model_copy(update={"discriminator": judge}) for judge in _judges(cls)] or [made]
    reasons = [_reason(_with(config, method=one), facts, ("method", "discriminator")) for one in each]
    return reasons[0] if all(reasons) else ""


def _judges(cls: type[Config]) -> list[Config]:
    """The discriminators that a method offers."""
    info = cls.model_fields.get("discriminator")
    if info is None:
        return []
    return [start_of(one) for one in kinds_of(info.annotation) if one not in left_out(info)]


def _with(config: RunConfig, **sections: Any) -> RunConfig:
    # Not validated again: these are valid parts, and the panel asks for dozens of such combinations at each change.
    return config.model_copy(update=sections)


def _reason(config: RunConfig, facts: Facts, sections: Iterable[Section]) -> str:
    return next((str(one) for one in refusals(config, facts) if one.section in sections), "")


def _kind(cls: type[Config]) -> str:
    return str(cls.model_fields["kind"].default)
