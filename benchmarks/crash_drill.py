"""Kill the viewer and the engine at random moments while strokes are made; see what is left on disk.

    uv run python benchmarks/crash_drill.py --kills 200 --window 20

A session opens the project as a process of its own (`crash_drill_child.py`), paints about 25 strokes a second and trains.
Its engine is killed with SIGKILL up to three times, then the viewer. After each kill of the engine the strokes must still
arrive; after each kill of the viewer the project is opened for writing and compared with the log of strokes. A stroke may be
missing only if it was made within the last second before the kill. Results are appended to
``results/crash_drill.json`` after each session, so that the drill goes on where it was; SIGKILL is no power cut.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from crash_drill_child import CELL, MOST, SHAPE, place

from napari_ctxseg.project import LabelStore, Project, all_runs, find_predictions, load_rounds

RESULTS = Path(__file__).parent / "results" / "crash_drill.json"
CHILD = Path(__file__).with_name("crash_drill_child.py")
#: Seconds of strokes that may be lost, and seconds after which the script gives up on a session.
ALLOWED, HANG = 1.0, 240.0


class Log:
    """What the session has written down so far."""

    def __init__(self, path: Path) -> None:
        self.path, self.at = path, 0
        self.strokes: list[tuple[int, float]] = []
        self.engines: list[int] = []
        self.failed: list[str] = []
        self.phase = ""

    def read(self) -> None:
        data = self.path.read_bytes()[self.at :] if self.path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        self.at += len(whole)
        for line in whole.decode().splitlines():
            word, value, *more = line.split(" ", 2)
            if word == "stroke":
                self.strokes.append((int(value), float(more[0])))
            elif word == "engine":
                self.engines.append(int(value))
            elif word == "phase":
                self.phase = value
            else:
                self.failed.append(line)


def new_project(path: Path) -> None:
    from napari_ctxseg.image import Image, plain_affine

    spacing = (3.0, 1.0, 1.0)
    array = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    with Project.create(path, classes={"one": 1, "two": 2}) as project:
        project.add_array(Image(array, "zyx", spacing, plain_affine(spacing), unit="mm"), "noise")
        project.labels("noise")


def missing(labels: np.ndarray, strokes: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Strokes of which a pixel is not there; of several at one place the last counts."""
    step, lost = np.arange(CELL - 1), []
    last = {number % MOST: (number, at) for number, at in strokes}
    for number, at in last.values():
        z, y, x, value = place(number)
        if not (labels[z, y + step, x + step] == value).all():
            lost.append((number, at))
    return lost


def oldest(lost: list[tuple[int, float]], now: float) -> float:
    """Age of the oldest lost stroke."""
    return round(max((now - at for _, at in lost), default=0.0), 3)


def look_again(path: Path) -> tuple[np.ndarray, dict[str, int]]:
    """Open the project as the next viewer would and read all of it; whatever cannot be read raises."""
    from safetensors.numpy import load_file

    deadline = time.monotonic() + 30
    while True:  # the lock of the dead process is taken over; its engine may still be saving
        project = Project.open(path)
        if not project.read_only:
            break
        notice = project.notice
        project.close()
        assert time.monotonic() < deadline, f"opens for reading only: {notice}"
        time.sleep(0.5)
    with project:
        project.image("noise")
        store = LabelStore.open(project.labels_path("noise"), read_only=True)
        assert not store.damaged(), store.damaged()
        labels = store.read()
        assert set(np.unique(labels)) <= {0, 1, 2}
        counted = set(store.counted().get(0, ()))
        drawn = {z for z in range(len(labels)) if labels[z].any()}
        runs, (rounds, notes) = all_runs(path), load_rounds(path)
        assert not notes, notes
        for run in runs:
            if run.has_model:
                load_file(run.path / "model.safetensors")
            for prediction in find_predictions(path, run.name).values():
                prediction.read()
    return labels, {"runs": len(runs), "rounds": len(rounds), "slices_without_mark": len(drawn - counted)}


def until(wish, log: Log, process: subprocess.Popen, what: str) -> None:
    end = time.monotonic() + HANG
    while not wish():
        assert process.poll() is None, f"the session ended by itself: {process.returncode}"
        assert time.monotonic() < end, f"gave up waiting for {what}; {log.failed}"
        time.sleep(0.01)
        log.read()


def session(folder: Path, kind: str, rng: random.Random, known: list[tuple[int, float]]) -> dict[str, object]:
    """One life of a viewer: the engine is killed now and then, at last the viewer."""
    path, log = folder / "drill.ctxseg", Log(folder / "strokes.log")
    log.path.unlink(missing_ok=True)
    start = known[-1][0] + 1 if known else 0
    with (folder / "child.log").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, str(CHILD), kind, str(path), str(log.path), str(start)],
            stdout=output,
            stderr=output,
        )
    kills = []
    try:
        until(lambda: len(log.strokes) > 5, log, process, "the first strokes")
        for _ in range(rng.randint(0, 3)):
            until(lambda: log.engines and _alive(log.engines[-1]), log, process, "the engine")
            if rng.random() < 0.6:  # at work, not only while it starts
                until(lambda: log.phase in ("training", "predicting"), log, process, "a training")
            time.sleep(rng.random() * 2.0)
            log.read()
            phase = log.phase
            if not _kill(log.engines[-1]):
                continue
            killed = time.time()
            time.sleep(ALLOWED + 0.5)
            now = time.time()
            found = LabelStore.open(path / "labels" / "noise.zarr", read_only=True).read()
            log.read()
            lost = missing(found, [s for s in log.strokes if s[1] < now - ALLOWED])
            after = sum(at > killed for _, at in log.strokes)
            kills.append({"of": "engine", "phase": phase, "too_late": len(lost), "strokes_after": after})
        if rng.random() < 0.6:
            until(lambda: log.phase in ("training", "predicting"), log, process, "a training")
        time.sleep(rng.random() * 1.5)
        log.read()
        phase = log.phase
    finally:
        process.kill()
        now = time.time()
        process.wait()
    log.read()
    labels, state = look_again(path)
    strokes = [*known, *log.strokes]
    lost = missing(labels, strokes)
    kills.append({"of": "viewer", "phase": phase, "lost": len(lost), "lost_s": oldest(lost, now)} | state)
    known[:] = [s for s in strokes if s not in lost]
    _wait_for_engines(log.engines)
    return {"kind": kind, "strokes": len(log.strokes), "kills": kills, "failed": log.failed}


def _alive(pid: int) -> bool:
    """Running, and not merely waiting for its parent to take note of its end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _wait_for_engines(pids: list[int]) -> None:
    """They die with their viewer, after a checkpoint; one that does not is ended here."""
    end = time.monotonic() + 20
    for pid in pids:
        while _alive(pid) and time.monotonic() < end:
            time.sleep(0.05)
        if _alive(pid):
            _kill(pid)


def summary(sessions: list[dict]) -> dict[str, object]:
    found = {}
    for kind in ("lean", "window"):
        kills = [kill for each in sessions if each["kind"] == kind for kill in each["kills"]]
        viewer = [kill for kill in kills if kill["of"] == "viewer"]
        engine = [kill for kill in kills if kill["of"] == "engine"]
        found[kind] = {
            "kills_of_viewer": len(viewer),
            "kills_of_engine": len(engine),
            "strokes": sum(each["strokes"] for each in sessions if each["kind"] == kind),
            "longest_lost_s": max((kill["lost_s"] for kill in viewer), default=0.0),
            "lost_more_than_a_second": sum(kill["lost_s"] > ALLOWED for kill in viewer),
            "late_after_engine": sum(kill["too_late"] for kill in engine),
            "unreadable": 0,  # one would have ended the drill
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--window", type=int, default=20, help="how many of them in the full napari window")
    parser.add_argument("--each", type=int, default=6, help="sessions before a fresh project is made")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    if sys.platform == "linux" and args.window and not os.environ.get("DISPLAY"):
        os.execvp("xvfb-run", ["xvfb-run", "-a", "-s", "-screen 0 1280x800x24", sys.executable, *sys.argv])
    done = json.loads(args.out.read_text())["sessions"] if args.out.exists() else []
    rng = random.Random(1000 + len(done))
    folder, known, used = Path(tempfile.mkdtemp(prefix="crash-drill-")), [], args.each
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    while (count := _count(done, "lean") + _count(done, "window")) < args.kills:
        if used >= args.each:
            shutil.rmtree(folder / "drill.ctxseg", ignore_errors=True)
            new_project(folder / "drill.ctxseg")
            known, used = [], 0
        kind = "window" if _count(done, "window") * args.kills < args.window * count else "lean"
        done.append(session(folder, kind, rng, known))
        used += 1
        args.out.write_text(json.dumps({"summary": summary(done), "sessions": done}, indent=1) + "\n")
        print(json.dumps(done[-1]), flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    found = summary(done)
    print(json.dumps(found, indent=1))
    sys.exit(any(each["lost_more_than_a_second"] or each["late_after_engine"] for each in found.values()))


def _count(sessions: list[dict], kind: str) -> int:
    return sum(len(each["kills"]) for each in sessions if each["kind"] == kind)


if __name__ == "__main__":
    main()
