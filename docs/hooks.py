"""Tables of settings, made from the configuration classes whenever the pages are built.

A line ``{{ settings: ClassName }}`` in a page becomes the table of that class, and ``{{ presets: kind }}`` the table of the
presets of a loss, network or method, so that pages never disagree with the code; ``{{ measured: networks }}`` that of a
benchmark; ``{{ recipe: name }}`` the recipe of a figure of the gallery.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from napari_ctxseg import config

_LINE = re.compile(r"^\{\{ (settings|presets|measured|recipe): ([\w-]+) \}\}$", re.MULTILINE)
_RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs for each page."""
    made = {"settings": table, "presets": presets, "measured": measured, "recipe": recipe}
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
