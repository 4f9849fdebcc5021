"""The real worker program with a core of its own, steered by `config.seed`. Run, never imported."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

import napari_ctxseg.inference
import napari_ctxseg.training
from napari_ctxseg.engine import worker
from napari_ctxseg.errors import InputError
from napari_ctxseg.events import (
    CheckpointSaved,
    PredictionBlock,
    PredictionFinished,
    Preview,
    RunFinished,
    StepEnd,
)


def fit(config, cases, out, *, stop, visible=None, resume=False):
    out.mkdir(parents=True, exist_ok=True)
    kind = config.seed
    if kind == 1:
        raise InputError("labels", "hold nothing", "Paint something")
    if kind == 2:
        raise RuntimeError("boom")
    if kind == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    if kind == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == 5:
        for _ in range(30):
            sys.stdout.write("x" * 2**20 + "\n")
    if kind == 6:
        os.write(int(sys.argv[sys.argv.index("--write-fd") + 1]), b"garbage\n")
    if kind == 7:
        time.sleep(1000)
    (out / "threads").write_text(str(config.device.threads))
    step = 0
    while not stop() and step < (config.budget.steps or 10**9):
        step += 1
        time.sleep(0.01)
        yield StepEnd(step, 0, 1 / step, 1e-3, 0.01)
        look = visible() if visible else None
        if look:
            yield Preview(step, look[0], look[1], cases[0].labels[look[1]])
    (out / "checkpoint").write_text(str(step))
    yield CheckpointSaved(step, str(out / "checkpoint"))
    yield RunFinished(str(out), step, step, stop(), step, None, 0, 0.0)


def predict(run, case, *, device, options, stop, first):
    for start in range(len(case.labels) if case.labels is not None else 3):
        labels = (case.image.array[start : start + 1] > 0).astype(np.uint8)
        yield PredictionBlock(case.name, start, labels, (start + 1) / len(case.image.array))
    yield PredictionFinished(case.name, 0.0)


napari_ctxseg.training.fit = fit
napari_ctxseg.inference.predict = predict
worker.GRACE = 3.0
worker.Inbox.__init__.__defaults__ = (3.0,)
Path(sys.argv[sys.argv.index("--scratch") + 1], "started").touch()
worker.main()
