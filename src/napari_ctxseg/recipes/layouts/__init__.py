"""The papers' data sets in their own folders: what is where, and how to read it. Nothing is downloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ctxseg.errors import InputError
from napari_ctxseg.recipes.layouts import medical, pictures
from napari_ctxseg.recipes.layouts.base import Entry, Layout, read_entry

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LAYOUTS", "Entry", "Layout", "find_entries", "read_entry"]

LAYOUTS: dict[str, Layout] = medical.LAYOUTS | pictures.LAYOUTS


def find_entries(name: str, root: Path) -> list[Entry]:
    """All labelled cases of a set below a folder, in the order of their names.

    Parameters
    ----------
    name : str
        One of `LAYOUTS`.
    root : Path
        Where the set was unpacked.

    Raises
    ------
    InputError
        If the folder is not there or holds none of the set's files, saying what is expected and where the set can be had;
        if a file of a case is missing.
    """
    layout = LAYOUTS[name]
    if not root.is_dir():
        raise InputError(
            root,
            "is no folder",
            f"Get {layout.title} from {layout.source} ({layout.terms}), and unpack it there",
        )
    entries = layout.find(root)
    if not entries:
        raise InputError(
            root,
            f"holds nothing of {layout.title}; expected: {layout.expected}",
            f"It can be had from {layout.source} ({layout.terms})",
        )
    names = [entry.name for entry in entries]
    twice = (
        next((each for each in names if names.count(each) > 1), None)
        if len(set(names)) < len(names)
        else None
    )
    if twice is not None:
        places = [str(entry.images[0]) for entry in entries if entry.name == twice]
        raise InputError(twice, f"is there more than once: {', '.join(places)}", "Keep one of them")
    return sorted(entries, key=lambda entry: entry.name)
