"""Overlapping regions as people write them: ``WT=1+2+3, ET=3``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from napari_ctxseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def parse_regions(text: str) -> dict[str, tuple[int, ...]]:
    """Region -> label values.

    Parameters
    ----------
    text : str
        ``NAME=VALUE+VALUE``, several with commas between; empty for none.

    Raises
    ------
    InputError
        If it is not of that form, or a name stands twice.
    """
    found: dict[str, tuple[int, ...]] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        match = re.fullmatch(r"([^=]+?)\s*=\s*(\d+(?:\s*\+\s*\d+)*)", part)
        if match is None:
            raise InputError(f"regions {part}", "is not of the form NAME=VALUE+VALUE", "Write WT=1+2+3, ET=3")
        if match[1] in found:
            raise InputError(f"regions {text}", f"name {match[1]} twice", "Give each region one name")
        found[match[1]] = tuple(int(value) for value in match[2].split("+"))
    return found


def regions_text(regions: Mapping[str, Sequence[int]]) -> str:
    """What `parse_regions` reads."""
    return ", ".join(f"{name}={'+'.join(map(str, values))}" for name, values in regions.items())
