"""What a round of annotating changed, and what its training brought; written down when the training has ended."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg import __version__
from napari_ctxseg.project.rounds import Round, Scores, load_rounds, save_round, since
from napari_ctxseg.project.runs import CONFIG, EVENTS, RUNS
from napari_ctxseg.project.snapshot import fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_ctxseg.project.folder import Project

ENVIRONMENT = "environment.json"


def begin_round(project: Project, round_id: str) -> dict[str, Any]:
    """Count what was painted since the last round, and keep the labels as they are now under the new round's name.

    Call it with the snapshot for the training, before strokes go on; hand what it gives to `finish_round`. Open for reading
    only, nothing is kept, and the next round counts from the one before.

    Parameters
    ----------
    project : Project
        Open for writing or reading.
    round_id : str
        From `napari_ctxseg.project.new_id`.

    Returns
    -------
    dict
        ``pixels``, ``slices``, ``images``, ``started``, ``validation``, ``truth``: fields of a `Round`.
    """
    rounds, _ = load_rounds(project.path)
    pixels: dict[str, int] = {}
    names = {0: "unlabelled" if project.spec.policy == "scribbles" else "background"}
    names |= {c.value: c.name for c in project.spec.classes}
    if project.spec.background is not None:
        names[project.spec.background] = "background"
    slices = images = 0
    for name in project.names:
        if not project.has_labels(name):
            continue
        store = project.labels(name)
        marks = {f"round {each.id}" for each in rounds}
        last = next((g for g in reversed(store.generations()) if g.label in marks), None)
        changes = store.changed_since(last.number) if last else store.contents()
        for value, count in changes.pixels.items():
            label = names.get(value, f"value {value}")
            pixels[label] = pixels.get(label, 0) + count
        slices += len(changes.chunks)
        images += bool(changes.chunks)
        if not project.read_only:
            store.checkpoint(f"round {round_id}")
    return {
        "pixels": pixels,
        "slices": slices,
        "images": images,
        "started": datetime.now(UTC),
        "validation": tuple(project.groups("validation")),
        "truth": fingerprint(project, "validation"),
    }


def finish_round(
    project: Path, run: str, round_id: str, begun: dict[str, Any], *, parent: str = "", minutes: float = 0.0
) -> Round:
    """Write down a round whose training has ended, from the run's own files.

    Parameters
    ----------
    project : Path
        Project folder.
    run, parent : str
        Names of the run, and of the one whose weights were its start.
    round_id : str
        As for `begin_round`.
    begun : dict
        What `begin_round` gave.
    minutes : float
        Spent annotating since the last round.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    rounds, _ = load_rounds(project)
    folder = project / RUNS / run
    earlier = since(rounds, parent) if parent else None
    before = earlier.after if earlier and earlier.truth and earlier.truth == begun["truth"] else None
    made = Round(
        id=round_id,
        number=max((each.number for each in rounds), default=0) + 1,
        run=run,
        parent=parent,
        minutes=minutes,
        config=hashlib.sha256(_bytes(folder / CONFIG)).hexdigest(),
        before=before,
        after=validation_scores(folder),
        versions=_versions(folder),
        **begun,
    )
    save_round(project, made)
    return made


def validation_scores(run: Path) -> Scores | None:
    """Dice on the validation images of the weights that a run kept; None without validation images."""
    kept: int | None = None
    scores: dict[int, Scores] = {}
    for event in _events(run / EVENTS):
        if event.get("type") == "EpochEnd" and event.get("curve") == "validation Dice":
            scores[int(event["step"])] = Scores(classes=event["dice"], mean=event["mean"])
        elif event.get("type") == "RunFinished":
            kept = int(event["best_step"])
    if kept in scores:
        return scores[kept]
    best = [each for each in scores.values() if each.mean is not None]
    return max(best, key=lambda each: each.mean or 0.0, default=None)


def _events(log: Path) -> Iterator[dict[str, Any]]:
    for line in _bytes(log).decode("utf-8", "replace").splitlines():
        try:
            event = json.loads(line)
        except ValueError:  # the last line of a run that was killed
            continue
        if isinstance(event, dict):
            yield event


def _versions(run: Path) -> dict[str, str]:
    try:
        values = json.loads(_bytes(run / ENVIRONMENT))
    except ValueError:
        values = {}
    kept = ("napari-ctxseg", "torch", "monai", "numpy", "python", "device")
    found = {name: str(values[name]) for name in kept if name in values}
    return found or {"napari-ctxseg": __version__, "numpy": np.__version__}


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
