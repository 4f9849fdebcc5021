"""What was decided in the Review, kept beside the labels."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_ctxseg.errors import FileError
from napari_ctxseg.evaluation.suspects import Suspect
from napari_ctxseg.image import Image, plain_affine
from napari_ctxseg.project import Project, merge
from napari_ctxseg.project.verdicts import load_verdicts, save_verdicts, verdicts_of

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (4, 30, 40)


def piece(row: int = 3, mask: np.ndarray | None = None, value: int = 1) -> Suspect:
    mask = np.ones((4, 5), bool) if mask is None else mask
    return Suspect(
        value, "island", (slice(row, row + mask.shape[0]), slice(7, 7 + mask.shape[1])), mask, 0.25
    )


def told(pieces: dict[int, list[Suspect]]) -> list[tuple[object, ...]]:
    return [
        (index, one.value, one.reason, one.box, one.mask.tolist(), one.score)
        for index, found in sorted(pieces.items())
        for one in found
    ]


@settings(max_examples=30, deadline=None)
@given(mask=arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))), index=st.integers(0, 3))
def test_every_piece_comes_back(
    tmp_path_factory: pytest.TempPathFactory, mask: np.ndarray, index: int
) -> None:
    mask[0, 0] = True
    file = tmp_path_factory.mktemp("verdicts") / "v.verdicts.json"
    pieces = {index: [piece(mask=mask), piece(12)]}
    save_verdicts(file, SHAPE, pieces)
    assert told(load_verdicts(file, SHAPE)) == told(pieces)


def test_no_file_is_nothing_decided(tmp_path: Path) -> None:
    assert load_verdicts(tmp_path / "none.json", SHAPE) == {}
    assert verdicts_of(tmp_path / "heart.zarr") == tmp_path / "heart.verdicts.json"


def wrong(record: dict[str, object], **changes: object) -> bytes:
    return json.dumps({"version": 1, "shape": list(SHAPE), "pieces": [record | changes]}).encode()


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    file = tmp_path / "v.verdicts.json"
    save_verdicts(file, SHAPE, {1: [piece()]})
    good = file.read_bytes()
    record = json.loads(good)["pieces"][0]
    for content, reason in (
        (good[:-20], "damaged"),
        (b"[]", "damaged"),
        (wrong(record, slice=4), "outside the image"),
        (wrong(record, box=[[3, 31], [7, 12]]), "outside the image"),
        (wrong(record, box=[[3, 8], [7, 12]]), "does not fit its box"),
        (wrong(record, mask="AAAA"), "a piece is none"),
        (wrong(record, mask="?"), "damaged"),
        (wrong(record, reason="whim"), "a piece is none"),
    ):
        file.write_bytes(content)
        with pytest.raises(FileError, match=reason):
            load_verdicts(file, SHAPE)
    file.write_bytes(good)
    with pytest.raises(FileError, match="another shape"):
        load_verdicts(file, (5, 30, 40))
    file.write_text(json.dumps({"version": 2}))
    with pytest.raises(FileError, match="newer version"):
        load_verdicts(file, SHAPE)


def two_copies(tmp_path: Path) -> tuple[Project, Project]:
    first = Project.create(tmp_path / "a.ctxseg", classes={"one": 1})
    array = np.zeros(SHAPE, np.float32)
    first.add_array(Image(array, "zyx", (1.0, 1.0, 1.0), plain_affine((1.0, 1.0, 1.0)), unit="mm"), "v")
    first.labels("v")
    first.close()
    shutil.copytree(first.path, tmp_path / "b.ctxseg")
    return Project.open(first.path), Project.open(tmp_path / "b.ctxseg")


def test_merging_keeps_what_either_has_decided(tmp_path: Path) -> None:
    first, second = two_copies(tmp_path)
    with first, second:
        mine, theirs = (verdicts_of(project.labels_path("v")) for project in (first, second))
        save_verdicts(mine, SHAPE, {0: [piece()]})
        save_verdicts(theirs, SHAPE, {0: [piece(), piece(20)], 3: [piece(9)]})
        assert "v: 2 pieces decided in the Review taken over" in merge(first, second)
        assert len(told(load_verdicts(mine, SHAPE))) == 3
        assert merge(first, second) == []
        before = mine.read_bytes()
        theirs.write_text("{")
        (note,) = merge(first, second)
        assert "not merged" in note
        assert str(theirs) in note
        assert mine.read_bytes() == before
