"""Tables of settings, made from the configuration classes whenever the pages are built.

A line ``{{ settings: ClassName }}`` in a page becomes the table of that class, so that pages never disagree
with the code about a default.
"""

from __future__ import annotations

import re
from typing import Any

from napari_ctxseg import config

_LINE = re.compile(r"^\{\{ settings: (\w+) \}\}$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs for each page."""
    return _LINE.sub(lambda match: table(match[1]), markdown)


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
