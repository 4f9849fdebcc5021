"""From the click on Train to the first better picture of the slice in sight; a part of `annotator.py`."""

from __future__ import annotations

import os
import platform
import time

import numpy as np
from annotator import Desk, wait
from annotator_data import load
from annotator_person import Effort, dice, label_slice

#: Labelled slices of 256 x 256, and seconds that the first better picture may take on two cores.
SLICES, LIMIT_S = 10, 10.0
#: Seconds of training before a later round, and seconds for which the previews are watched.
EARLIER_S, WATCHED_S = 60.0, 20.0


def one(seed: int, threads: int, *, later: bool = False) -> dict[str, object]:
    """Label, look at another slice, press Train, and watch the prediction layer until it is better than before.

    Network, patch, loss and budget are what the dock starts with. Before the first click there is no prediction: Dice 0.
    With `later` a round of `EARLIER_S` seconds goes before, with all but two of the slices; the second click is timed.
    """
    pool, _ = load("sunnybrook_lv")
    rng, effort = np.random.default_rng(seed), Effort()
    desk = Desk(pool, defaults=True, threads=threads)
    drawable = [i for i, each in enumerate(pool.truth) if each.sum() >= 200]
    *chosen, seen = (int(i) for i in rng.choice(drawable, SLICES + 1, replace=False))
    session, truth, before = desk.session, pool.truth[seen] > 0, 0.0

    def label(indices: list[int]) -> None:
        for index in indices:
            desk.go(index)
            label_slice(desk.labels, index, pool.truth[index], effort)
        desk.go(seen)
        wait(lambda: not session.train_problem() and desk.workspace.saving[0] == "saved", "Train")

    label(chosen[:-2] if later else chosen)
    if later:
        earlier_round(desk)
        before = dice(desk.predicted(seen) > 0, truth) or 0.0
        label(chosen[-2:])
    found: list[dict[str, float]] = []

    def look(event: object) -> None:
        name = type(event).__name__
        now = round(time.perf_counter() - began, 2)
        if name in ("RunStarted", "StepEnd") and name not in times:
            times[name] = now
        if name == "Preview" and event.index == seen:  # type: ignore[attr-defined]
            shown = dice(desk.predicted(seen) > 0, truth) or 0.0
            found.append({"s": now, "step": event.step, "dice": round(shown, 3)})  # type: ignore[attr-defined]

    times: dict[str, float] = {}
    session.told.connect(look)
    began = time.perf_counter()
    desk.bench.train_dock.train_button.click()
    wait(lambda: session.phase == "training", "the training")
    wait(lambda: time.perf_counter() - began > WATCHED_S, "the curve")
    good = next((each for each in found if each["dice"] > round(before, 3)), None)
    desk.session.stop()
    wait(lambda: session.phase == "idle", "the end")
    desk.close()
    half = next((each["s"] for each in found if each["dice"] >= 0.5), None)
    return {
        "first_step_s": times.get("StepEnd"),
        "first_preview_s": found[0]["s"],
        "dice_before": round(before, 3),
        "improved_s": good["s"] if good else None,
        "half_s": half,
        "previews": found,
    }


def earlier_round(desk: Desk) -> None:
    """Train for a while, stop, and wait until all slices are predicted."""
    session = desk.session
    desk.finished.clear()
    desk.bench.train_dock.train_button.click()
    wait(lambda: session.phase == "training", "the first training")
    began = time.perf_counter()
    wait(lambda: time.perf_counter() - began > EARLIER_S, "the first round")
    session.stop()
    wait(lambda: "pool" in desk.finished and session.phase == "idle", "the prediction")


def median(values: list[object]) -> float | None:
    """None counts as later than all, and is the median where half of the runs or more never came there."""
    found = float(np.median([float("inf") if v is None else float(v) for v in values]))  # type: ignore[arg-type]
    return round(found, 2) if np.isfinite(found) else None


def measure(count: int, threads: int) -> dict[str, object]:
    """Several times, with other slices each, in the first round and in a later one."""
    runs = [one(seed, threads) for seed in range(count)]
    later = [one(seed, threads, later=True) for seed in range(count)]
    return {
        "median_improved_s": median([each["improved_s"] for each in runs]),
        "median_improved_later_s": median([each["improved_s"] for each in later]),
        "limit_s": LIMIT_S,
        "median_dice_half_s": median([each["half_s"] for each in runs]),
        "runs": runs,
        "later": later,
        "threads": threads,
        "load": round(os.getloadavg()[0], 1),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
    }
