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


def one(seed: int, threads: int) -> dict[str, object]:
    """Label, look at another slice, press Train, and watch the prediction layer until it is better than before.

    Network, patch, loss and budget are what the dock starts with. Before the click there is no prediction: Dice 0.
    """
    pool, _ = load("sunnybrook_lv")
    rng, effort = np.random.default_rng(seed), Effort()
    desk = Desk(pool, defaults=True, threads=threads)
    drawable = [i for i, each in enumerate(pool.truth) if each.sum() >= 200]
    *chosen, seen = (int(i) for i in rng.choice(drawable, SLICES + 1, replace=False))
    for index in chosen:
        desk.go(index)
        label_slice(desk.labels, index, pool.truth[index], effort)
    desk.go(seen)
    session, truth = desk.session, pool.truth[seen] > 0
    wait(lambda: not session.train_problem() and desk.workspace.saving[0] == "saved", "Train")
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
    wait(lambda: any(each["dice"] > 0 for each in found), "a better picture")
    good = next(each for each in found if each["dice"] > 0)
    wait(lambda: time.perf_counter() - began > max(15, good["s"] + 5), "the curve")
    desk.session.stop()
    wait(lambda: session.phase == "idle", "the end")
    desk.close()
    half = next((each["s"] for each in found if each["dice"] >= 0.5), None)
    return {
        "first_step_s": times.get("StepEnd"),
        "first_preview_s": found[0]["s"],
        "improved_s": good["s"],
        "half_s": half,
        "previews": found,
    }


def measure(count: int, threads: int) -> dict[str, object]:
    """Several times, with other slices each."""
    runs = [one(seed, threads) for seed in range(count)]
    improved = [float(each["improved_s"]) for each in runs]  # type: ignore[arg-type]
    halves = [float("inf") if each["half_s"] is None else float(each["half_s"]) for each in runs]  # type: ignore[arg-type]
    half = float(np.median(halves))
    return {
        "median_improved_s": round(float(np.median(improved)), 2),
        "limit_s": LIMIT_S,
        "median_dice_half_s": round(half, 2)
        if np.isfinite(half)
        else None,  # not reached counts as later than all
        "runs": runs,
        "threads": threads,
        "load": round(os.getloadavg()[0], 1),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
    }
