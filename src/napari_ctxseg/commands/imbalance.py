"""``ctxseg imbalance``: how unbalanced label files are, and which losses that speaks for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from napari_ctxseg.cases import class_indices, class_table
from napari_ctxseg.commands import report
from napari_ctxseg.commands.labels import label_cases
from napari_ctxseg.evaluation.imbalance import Sample, measure, percent
from napari_ctxseg.evaluation.suggest import suggest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ctxseg.config import DataConfig
    from napari_ctxseg.evaluation.imbalance import Dims, Imbalance
    from napari_ctxseg.evaluation.suggest import Suggestion


def imbalance(
    places: Sequence[str], data: DataConfig, *, dims: Dims
) -> tuple[Imbalance, list[Suggestion], str]:
    """Measure label files together.

    Returns
    -------
    tuple
        Numbers, suggestions, and the power that the unit of sizes is raised to.

    Raises
    ------
    CtxsegError
        If a file cannot be read, or its values do not fit the options.
    """
    cases = label_cases(places)
    table = class_table(cases, data)
    samples = (
        Sample(class_indices(case, table, data), case.image.spacing, case.image.unit) for case in cases
    )
    found = measure(samples, list(table), dims)
    return found, suggest(found), "2" if found.dims == 2 or found.flat else "3"


def show(found: Imbalance, offered: Sequence[Suggestion], power: str, *, as_json: bool) -> None:
    """Print numbers and suggestions."""
    if as_json:
        suggestions = [
            {"loss": one.loss.model_dump(mode="json"), "title": one.title, "reason": one.reason}
            for one in offered
        ]
        report.print_json({"sentence": found.sentence(), **found.to_json(), "suggestions": suggestions})
        return
    report.print_line(found.sentence())
    unit = found.unit if found.unit == "px" else f"{found.unit}^{power}"
    for one in found.foreground:
        report.print_line(
            f"  {one.name}: {percent(one.share)}, {one.components} pieces ({one.per_image:.3g} in an image that has "
            f"any), smallest {one.smallest} px ({one.smallest_size:.3g} {unit}), radius {one.radius:.3g} px, "
            f"{percent(one.boundary)} of it boundary"
        )
    for suggestion in offered:
        report.print_line(f"{suggestion.title}. {suggestion.reason}")
        report.print_line(f"  loss: {json.dumps(_settings(suggestion))}")
    if offered:
        report.print_line("These follow from rules, not from a measurement on your data.")


def _settings(one: Suggestion) -> dict[str, Any]:
    """What to write into a configuration: the kind, and what differs from its defaults."""
    changed: dict[str, Any] = one.loss.model_dump(mode="json", exclude_defaults=True)
    values = {"kind": getattr(one.loss, "kind", ""), **changed}
    roi = getattr(one.loss, "roi", None)
    if roi is not None:
        values["roi"] = {"kind": roi.kind, **roi.model_dump(mode="json", exclude_defaults=True)}
    return values
