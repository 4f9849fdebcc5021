"""What the table of images says in words."""

from __future__ import annotations

import pytest

from napari_ctxseg.gui.summary import ImageRow, counts, gap


def row(name: str, role: str, labelled: int) -> ImageRow:
    return ImageRow(name, name, role, labelled, 10)  # type: ignore[arg-type]


def test_counts_name_what_is_kept_apart() -> None:
    rows = [row("a", "train", 3), row("b", "validation", 1), row("c", "test", 2), row("d", "train", 0)]
    assert counts(rows) == "3 of 4 images labelled, 6 of 40 slices (1 for validation, 1 for test)."
    assert gap(rows) == ""


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], ""),
        ([row("a", "train", 0), row("b", "validation", 0)], ""),  # nobody has begun
        ([row("a", "train", 2), row("b", "train", 0)], ""),  # too few patients to keep one apart
        ([row("a", "train", 2), row("b", "validation", 0)], "label a slice of b, or"),
        (
            [row("a", "train", 2), *(row(n, "validation", 0) for n in "bcde")],
            "label a slice of b, c, d ..., or",
        ),
        ([row("a", "train", 2), row("b", "validation", 0), row("c", "validation", 1)], ""),
        ([row("a", "train", 0), row("b", "validation", 4)], "No image that trains is labelled"),
        ([row("a", "train", 0), row("b", "test", 4)], "No image that trains is labelled"),
    ],
)
def test_a_split_that_lacks_labels_is_pointed_out(rows: list[ImageRow], said: str) -> None:
    assert said in gap(rows)
    assert bool(said) == bool(gap(rows))
