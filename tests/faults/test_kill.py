"""SIGKILL at any moment: the run that is resumed ends with the weights of the uninterrupted one."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import tifffile

from tests.core.conftest import blob_case

if TYPE_CHECKING:
    from pathlib import Path

STEPS = 80
#: The command itself, saving its state ten times a second instead of every ten seconds.
PROGRAM = (
    "from napari_ctxseg.training import loop; loop.SAVE_EVERY = 0.1; from napari_ctxseg.cli import app; app()"
)


def start(*words: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", PROGRAM, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def steps_logged(run: Path) -> int:
    log = run / "events.jsonl"
    return log.read_text().count('"StepEnd"') if log.exists() else 0


def sha256(run: Path) -> str:
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for i in range(4):
        case = blob_case(f"c{i}", seed=i)
        assert case.labels is not None
        tifffile.imwrite(tmp_path / "images" / f"c{i}.tif", case.image.array)
        tifffile.imwrite(tmp_path / "labels" / f"c{i}.tif", case.labels)
    words = (
        "train", "--images", tmp_path / "images", "--labels", tmp_path / "labels", "--steps", STEPS, "--threads", 1,
        "--set", "network.features=[8,16,16]", "--set", "patch.size=[48,48]",
    )  # fmt: skip
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert start(*words, "--out", whole).wait(timeout=300) == 0
    rng = random.Random(time.time_ns())
    process, kills = start(*words, "--out", cut), []
    for _ in range(2):
        aim = steps_logged(cut) + rng.randint(5, STEPS // 3)
        deadline = time.monotonic() + 200
        while process.poll() is None and not (
            steps_logged(cut) >= aim and any((cut / "state").glob("*.safetensors"))
        ):
            assert time.monotonic() < deadline
            time.sleep(0.002)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills.append(steps_logged(cut))
            process = start("train", "--out", cut, "--resume")
    assert process.wait(timeout=300) == 0
    assert kills, "the run ended before it could be killed"
    assert sha256(cut) == sha256(whole), f"killed after steps {kills}"
    assert not list(cut.rglob("*.tmp*"))
