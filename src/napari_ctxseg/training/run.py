"""A run's folder: configuration, metrics, events, exact state. Everything another machine needs to go on."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import platform
from importlib import metadata
from typing import TYPE_CHECKING, Any

import torch

from napari_ctxseg import __version__
from napari_ctxseg.atomic import sweep_stale, write_bytes_atomic
from napari_ctxseg.config import RunConfig, from_yaml, to_yaml
from napari_ctxseg.errors import CheckpointError, InputError
from napari_ctxseg.events import Event, Preview, StepEnd, fields_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_ctxseg.training.data import Sample

CONFIG, EVENTS, METRICS, STATE = "config.yaml", "events.jsonl", "metrics.csv", "state"
_COLUMNS = ("step", "loss", "lr", "seconds", "curve", "dice")


class RunFolder:
    """Files of one run.

    Parameters
    ----------
    path : Path
        Created when it does not exist.
    resume : bool
        Whether to go on in a folder that already holds a run.

    Raises
    ------
    InputError
        If the folder holds something else, or cannot be written to.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        self.path = path
        if resume and not (path / CONFIG).is_file():
            raise CheckpointError(path, "holds no run to go on with", "Train without --resume")
        if not resume and path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(
                path, "is there already and not empty", "Name a new folder, or use --resume to go on"
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
            probe = path / f".probe-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise InputError(
                path, f"cannot be written to ({error.strerror or error})", "Choose another output folder"
            ) from error
        sweep_stale(path)
        self.state = path / STATE
        if self.state.is_dir():
            sweep_stale(self.state)

    def save_config(self, config: RunConfig) -> None:
        """Write the configuration as it stands."""
        write_bytes_atomic(self.path / CONFIG, to_yaml(config).encode())

    def load_config(self) -> RunConfig:
        """Configuration of the run that is in the folder."""
        return from_yaml(self.path / CONFIG)

    def save_environment(self, device: str) -> None:
        """Versions and machine, for the person who wants to know later."""
        packages = ("torch", "monai", "lightning-fabric", "numpy", "napari")
        known = {name: metadata.version(name) for name in packages}
        record = {
            "napari-ctxseg": __version__,
            **known,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "device": device,
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        }
        write_bytes_atomic(self.path / "environment.json", json.dumps(record, indent=2).encode())

    def log(self, event: Event) -> None:
        """Append an event, and a row of metrics where it has one."""
        if isinstance(event, Preview):
            return
        record = {"type": type(event).__name__, **fields_of(event)}
        with open(self.path / EVENTS, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        if isinstance(event, StepEnd):
            self._row(step=event.step, loss=event.loss, lr=event.lr, seconds=round(event.seconds, 4))
        elif record["type"] == "EpochEnd":
            self._row(step=record["step"], curve=record["curve"], dice=record["mean"])

    def _row(self, **values: Any) -> None:
        new = not (self.path / METRICS).exists()
        with open(self.path / METRICS, "a", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, _COLUMNS)
            if new:
                writer.writeheader()
            writer.writerow(values)

    def rewind(self, step: int) -> None:
        """Drop what was logged after a step that the run goes back to."""
        log, table = self.path / EVENTS, self.path / METRICS
        if log.exists():
            lines = [line for line in log.read_text(encoding="utf-8").splitlines() if _step_of(line) <= step]
            write_bytes_atomic(log, "".join(line + "\n" for line in lines).encode())
        if table.exists():
            kept = io.StringIO(newline="")
            writer = csv.DictWriter(kept, _COLUMNS)
            writer.writeheader()
            with open(table, encoding="utf-8", newline="") as file:
                writer.writerows(
                    row for row in csv.DictReader(file) if row["step"] and int(row["step"]) <= step
                )
            write_bytes_atomic(table, kept.getvalue().encode())


def _step_of(line: str) -> float:
    """Step of a logged event; lines without one stay, a torn last line goes."""
    try:
        return float(json.loads(line).get("step", 0))
    except (ValueError, AttributeError):
        return float("inf")


def data_hash(samples: Sequence[Sample]) -> str:
    """Fingerprint of what is trained on: names, groups, images and labels."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(f"{sample.name}|{sample.group}|{tuple(sample.image.shape)}|{sample.spacing}".encode())
        digest.update(sample.target.contiguous().numpy().data)
        digest.update(sample.image.contiguous().numpy().data)
    return digest.hexdigest()
