"""Tables of settings, made from the configuration classes whenever the pages are built.

A line ``{{ settings: ClassName }}`` in a page becomes the table of that class, and ``{{ presets: kind }}`` the table of the
presets of a loss, network or method, so that pages never disagree with the code; ``{{ measured: networks }}`` that of a
benchmark; ``{{ recipes: dbce }}`` that of a paper's rows, ``{{ recipes: sets }}`` and ``{{ recipes: steps }}`` those of the
data sets and of their preparation; ``{{ recipe: name }}`` the recipe of a figure of the gallery.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from napari_ctxseg import config
from napari_ctxseg.evaluation.tables import markdown_table
from napari_ctxseg.recipes.layouts import LAYOUTS
from napari_ctxseg.recipes.results import table_rows
from napari_ctxseg.recipes.schema import Recipe
from napari_ctxseg.recipes.steps import STEPS
from napari_ctxseg.recipes.store import load_row, row_names

_LINE = re.compile(r"^\{\{ (settings|presets|measured|recipes|recipe): ([\w-]+) \}\}$", re.MULTILINE)
_RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs for each page."""
    made = {
        "settings": table, "presets": presets, "measured": measured, "recipes": recipes, "recipe": recipe,
    }  # fmt: skip
    return _LINE.sub(lambda match: made[match[1]](match[2]), markdown)


def presets(kind: str) -> str:
    """Markdown table of the presets of a loss, network or method: name, fields that differ from the defaults, why."""
    names = config.presets_of(kind)
    if not names:
        return "No presets."
    families = (
        (config.network_kinds, config.parse_network),
        (config.method_kinds, config.parse_method),
        (config.loss_kinds, config.parse_loss),
    )
    parse = next(parse for kinds, parse in families if kind in kinds())
    plain = _flat(parse(kind).model_dump())
    rows = []
    for name in names:
        fields = _flat(parse({"kind": kind, "preset": name}).model_dump())
        changed = ", ".join(f"`{k}: {v}`" for k, v in fields.items() if plain.get(k) != v) or "the defaults"
        rows.append(f"| `{name}` | {changed} | {config.preset_note(kind, name)} |")
    return "\n".join(["| Preset | Differs in | Note |", "|---|---|---|", *rows])


def measured(name: str) -> str:
    """Markdown table of what ``benchmarks/networks.py`` stored."""
    stored = json.loads((_RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    lines = ["| Network | Patch | Weights | Seconds | Peak | Estimate / peak |", "|---|---|---|---|---|---|"]
    for row in stored["rows"]:
        kind, _, preset = row["network"].partition(", ")
        called = f"`{kind}`" + (f", preset `{preset}`" if preset else "")
        size = " x ".join(map(str, stored["patch"][str(row["dims"])]))
        lines.append(
            f"| {called} | {size} | {row['parameters'] / 1e6:.1f} M | {row['processor_seconds']:.2f} | "
            f"{row['peak_mb']} MB | {row['estimate_of_peak']:.2f} |"
        )
    return "\n".join(lines)


def recipes(what: str) -> str:
    """Markdown table of a paper's rows, of the data sets, or of the steps of preparation."""
    if what == "sets":
        rows = [
            [f"`{name}`", each.title, each.expected, each.source, each.terms]
            for name, each in LAYOUTS.items()
        ]
        return markdown_table(("Set", "Of", "Expected in `--data`", "Where", "Terms"), rows)
    if what == "steps":
        rows = []
        for step in STEPS:
            fields = [f"`{n}`" for n in step.model_fields if n != "kind"]
            rows.append(
                [
                    f"`{step.model_fields['kind'].default}`",
                    " ".join((step.__doc__ or "").split()),
                    ", ".join(fields),
                ]
            )
        return markdown_table(("Step", "What it does", "Settings"), rows)
    lines = []
    for name in row_names(what):
        row = load_row(name)
        for line in table_rows(name, row, None):
            text = row.row if isinstance(row, Recipe) else f"{row.row} (cited)"
            unit = next(
                (p.unit or ("%" if p.percent else "") for p in row.printed if p.measure == line[4]), ""
            )
            lines.append([f"`{name}`", line[1], line[2], text, line[4], line[5], f"{line[6]} {unit}".strip()])
    return markdown_table(("Recipe", "Set", "Table", "Row", "Measure", "Of", "Paper"), lines)


def recipe(name: str) -> str:
    """The recipe of a figure of the gallery, as a block of code."""
    text = (Path(__file__).parent / "gallery" / f"{name}.yaml").read_text(encoding="utf-8")
    return f"```yaml\n{text.rstrip()}\n```"


def _flat(values: dict[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{before}{key}.") if isinstance(value, dict) else {before + key: value}
    return flat


def table(name: str) -> str:
    """Markdown table of a configuration class; an unknown name stops the build."""
    cls = getattr(config, name)
    rows = [
        f"| `{field}` | {_default(info.default)} | {info.description or ''} |"
        for field, info in cls.model_fields.items()
        if field != "kind"
    ]
    if not rows:
        return "No settings."
    return "\n".join(["| Setting | Default | Meaning |", "|---|---|---|", *rows])


def _default(value: Any) -> str:
    if isinstance(value, config.Config):
        return f"`{value.kind}`" if hasattr(value, "kind") else ""
    return "" if value is None or repr(value) == "PydanticUndefined" else f"`{value}`"
