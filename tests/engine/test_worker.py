"""The real worker program in its own process; only the core's generators are replaced (fake_worker.py)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from napari_ctxseg.config import BudgetConfig, DeviceConfig, RunConfig
from napari_ctxseg.engine.client import EngineClient, EngineError
from napari_ctxseg.engine.protocol import why_ended
from napari_ctxseg.events import JobDone, JobFailed, Note, PredictionBlock, Preview, RunFinished, StepEnd

from .conftest import FAKE, ready, until

HERE = Path(__file__).parent


def config(seed=0, steps=None):
    return RunConfig(seed=seed, budget=BudgetConfig(steps=steps or 10**6))


def is_a(cls):
    return lambda event: isinstance(event, cls)


def gone(pid, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_train_preview_stop_train_again(engine, case, tmp_path):
    assert engine.state == "starting"
    ready(engine)
    assert engine.device.startswith(("CPU", "CUDA"))
    engine.train(config(), [case], tmp_path / "run")
    assert engine.state == "busy"
    with pytest.raises(EngineError, match="busy"):
        engine.train(config(), [case], tmp_path / "other")
    engine.set_visible("heart", 1)
    *_, preview = until(engine, is_a(Preview))
    assert preview.labels.max() == 5
    start = time.monotonic()
    engine.stop()
    events = until(engine, is_a(JobDone))
    assert time.monotonic() - start < 2
    assert next(e for e in events if isinstance(e, RunFinished)).stopped
    assert engine.state == "ready"
    assert (tmp_path / "run" / "threads").read_text() == "1"

    engine.train(config(steps=30), [case], tmp_path / "run")  # the earlier stop must not end this one
    events = until(engine, is_a(JobDone))
    assert not next(e for e in events if isinstance(e, RunFinished)).stopped
    assert max(e.step for e in events if isinstance(e, StepEnd)) == 30, "the last step is always told"
    assert not list(engine._scratch.folder.glob("*.npy"))


def test_predict(engine, case, tmp_path):
    ready(engine).predict(tmp_path, case, DeviceConfig())
    blocks = [e for e in until(engine, is_a(JobDone)) if isinstance(e, PredictionBlock)]
    assert [b.start for b in blocks] == [0, 1, 2]
    assert blocks[-1].done == 1


def test_errors_of_a_job(engine, case, tmp_path):
    ready(engine).train(config(1), [case], tmp_path / "a")
    failed = next(e for e in until(engine, is_a(JobDone)) if isinstance(e, JobFailed))
    assert (failed.error, failed.remedy, failed.log) == ("labels: hold nothing.", "Paint something.", "")
    engine.train(config(2), [case], tmp_path / "b")
    failed = next(e for e in until(engine, is_a(JobDone)) if isinstance(e, JobFailed))
    assert failed.error == "RuntimeError: boom"
    assert "Traceback" in Path(failed.log).read_text()
    assert engine.state == "ready"


@pytest.mark.parametrize(("seed", "text"), [(3, "SIGSEGV"), (4, "out of memory"), (6, "not JSON")])
def test_dead_engine_is_told_and_replaced(engine, case, tmp_path, seed, text):
    first = ready(engine).pid
    engine.train(config(seed), [case], tmp_path / "run")
    failed = next(e for e in until(engine, is_a(JobDone)) if isinstance(e, JobFailed))
    assert text in failed.error
    assert Path(failed.log).exists()
    assert engine.state == "starting"
    assert ready(engine).pid != first
    assert gone(first, 5)


def test_kill(engine, case, tmp_path):
    first = ready(engine).pid
    engine.train(config(7), [case], tmp_path / "run")
    engine.kill()
    events = until(engine, is_a(JobDone))
    assert [type(e) for e in events] == [Note, JobDone]
    assert gone(first, 5)
    ready(engine)


def test_flood_of_output_is_bounded(engine, case, tmp_path):
    ready(engine).train(config(5, steps=5), [case], tmp_path / "run")
    until(engine, is_a(RunFinished))
    end = time.monotonic() + 5
    while engine.log.stat().st_size > 17 * 2**20 and time.monotonic() < end:
        time.sleep(0.1)
    assert engine.log.stat().st_size < 17 * 2**20


def test_bad_request_is_answered(engine):
    ready(engine)
    for message in [{"type": "strange"}, {"type": "stop", "job": "x"}, {"type": "visible"}]:
        engine._send(message)
        (note,) = until(engine, is_a(Note))
        assert note.level == "warning"
    engine._send({"type": "train", "job": 0, "config": {"nope": 1}, "cases": []})
    failed = next(e for e in until(engine, is_a(JobDone)) if isinstance(e, JobFailed))
    assert "nope" in failed.error


def test_engine_that_cannot_start_says_so_once(tmp_path):
    client = EngineClient(program=("-c", "raise SystemExit(7)"))
    client.start()
    (failed,) = until(client, is_a(JobFailed))
    assert "exit code 7" in failed.error
    assert client.state == "dead"
    assert client.poll() == []
    client.close()


def test_engine_killed_while_it_starts_is_started_once_more():
    client = EngineClient(program=("-c", "import time; time.sleep(600)"))
    client.start()
    first = client.pid
    client._process.kill()
    (failed,) = until(client, is_a(JobFailed))
    assert "A fresh engine is starting" in failed.remedy
    assert client.state == "starting"
    assert client.pid != first
    client._process.kill()
    (failed,) = until(client, is_a(JobFailed))
    assert "Free some memory" in failed.remedy
    assert client.state == "dead"
    client.close()


def test_close_during_training_saves_and_ends(case, tmp_path):
    client = EngineClient(program=(FAKE,))
    client.start()
    ready(client).train(config(), [case], tmp_path / "run")
    until(client, is_a(StepEnd))
    process, folder = client._process, client._scratch.folder
    client.close()
    assert process.wait(5) == 0
    assert (tmp_path / "run" / "checkpoint").exists()
    assert not folder.exists()
    client.close()


PARENT = """
import sys, time
sys.path.insert(0, {here!r})
from pathlib import Path
import numpy as np
from napari_ctxseg.cases import Case
from napari_ctxseg.config import BudgetConfig, RunConfig
from napari_ctxseg.engine.client import EngineClient
from napari_ctxseg.image import image_from_array
import os
client = EngineClient(threads=1, program=({fake!r},))
client.start()
if {hold}:
    if os.fork() == 0:  # a sister that holds our pipes open: the end of the file never comes
        time.sleep(30)
        os._exit(0)
print(client.pid, client._scratch.folder, flush=True)
if {early}:
    time.sleep(60)
while client.state != "ready":
    client.poll()
    time.sleep(0.01)
case = Case("a", image_from_array(np.zeros((4, 4)), "yx"), np.ones((4, 4), np.uint8))
client.train(RunConfig(seed={seed}, budget=BudgetConfig(steps=10**6)), [case], Path({out!r}))
while not (Path({out!r}) / "threads").exists() and {seed} != 7:
    client.poll()
    time.sleep(0.01)
print("training", flush=True)
while True:
    client.poll()
    time.sleep(0.01)
"""


@pytest.mark.parametrize(
    ("case_name", "seed", "hold", "early"),
    [
        ("training", 0, False, False),
        ("pipe held", 0, True, False),
        ("hung step", 7, False, False),
        ("starting", 0, False, True),
    ],
)
def test_killed_parent_leaves_no_orphan(tmp_path, case_name, seed, hold, early):
    out = tmp_path / "run"
    code = PARENT.format(here=str(HERE), fake=FAKE, out=str(out), seed=seed, hold=hold, early=early)
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pid, folder = parent.stdout.readline().split()
    if not early:
        assert parent.stdout.readline() == "training\n"
    os.kill(parent.pid, signal.SIGKILL)
    parent.stdout.close()
    parent.wait()
    assert gone(int(pid), 25)
    assert not Path(folder).exists()
    if case_name in ("training", "pipe held"):
        assert int((out / "checkpoint").read_text()) > 0


def test_exit_status_in_words():
    assert "out of memory" in why_ended(-9)
    assert "SIGSEGV" in why_ended(-11)
    assert "exit code 1" in why_ended(1)
    assert "signal 99" in why_ended(-99)
