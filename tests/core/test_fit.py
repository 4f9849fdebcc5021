"""The training loop: it learns, stops, saves, resumes bit for bit, and refuses what cannot work."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_ctxseg.cases import Case
from napari_ctxseg.config import from_yaml
from napari_ctxseg.errors import CheckpointError, CtxsegError, InputError
from napari_ctxseg.events import (
    BudgetSet,
    CheckpointSaved,
    EpochEnd,
    Note,
    Preview,
    RunFinished,
    RunStarted,
    StepEnd,
)
from napari_ctxseg.image import image_from_array
from napari_ctxseg.training import checkpoint, fit, supervised
from napari_ctxseg.training.run import RunFolder
from tests.core.conftest import blob_case, fit_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from napari_ctxseg.config import RunConfig
    from napari_ctxseg.events import Event


def run(config: RunConfig, cases: Sequence[Case], out: Path, **options: Any) -> list[Event]:
    return list(fit(config, cases, out, **options))


def of(events: Sequence[Event], kind: type) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def test_a_run_learns_and_writes_its_folder(
    blobs: list[Case], small_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = small_config(budget={"steps": 120, "val_every": 40}, optim={"lr": 5e-3})
    events = run(config, blobs, tmp_path / "r")
    losses = [event.loss for event in of(events, StepEnd)]
    assert len(losses) == 120
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
    assert of(events, RunStarted)[0].curve == "validation Dice"
    assert [event.step for event in of(events, EpochEnd)] == [40, 80, 120]
    (finished,) = of(events, RunFinished)
    assert not finished.stopped
    assert finished.dice > 0.7
    folder = tmp_path / "r"
    assert {p.name for p in folder.iterdir()} == {
        "config.yaml", "environment.json", "events.jsonl", "metrics.csv", "model.safetensors", "state",
    }  # fmt: skip
    stored = from_yaml(folder / "config.yaml")
    assert stored.network.in_channels == 1
    assert stored.data.classes == {"class 1": 1}
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert sum(bool(row["loss"]) for row in rows) == 120
    assert sum(bool(row["dice"]) for row in rows) == 3
    assert json.loads((folder / "events.jsonl").read_text().splitlines()[0])["type"] == "RunStarted"


def test_the_best_validation_is_kept(
    blobs: list[Case], small_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.2, 0.9, 0.4])
    monkeypatch.setattr(
        supervised.Trainer, "validate", lambda self, stop: ({"class 1": (s := next(scores))}, s)
    )
    events = run(small_config(budget={"steps": 9, "val_every": 3}), blobs, tmp_path / "r")
    assert of(events, RunFinished)[0].best_step == 6
    assert checkpoint.load_tensors(tmp_path / "r" / "model.safetensors")[1]["step"] == 6


def test_the_end_is_kept_when_an_earlier_validation_was_better_by_noise_only(
    blobs: list[Case], small_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.2, 0.91, 0.9])
    monkeypatch.setattr(
        supervised.Trainer, "validate", lambda self, stop: ({"class 1": (s := next(scores))}, s)
    )
    events = run(small_config(budget={"steps": 9, "val_every": 3}), blobs, tmp_path / "r")
    assert (of(events, RunFinished)[0].best_step, of(events, RunFinished)[0].dice) == (9, 0.9)
    assert checkpoint.load_tensors(tmp_path / "r" / "model.safetensors")[1]["step"] == 9


def test_below_three_groups_the_curve_is_training_dice(
    small_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    events = run(small_config(), [blob_case("a"), blob_case("b", seed=1)], tmp_path / "r")
    assert of(events, RunStarted)[0].curve == "training Dice"
    assert {event.curve for event in of(events, EpochEnd)} == {"training Dice"}
    assert of(events, RunFinished)[0].best_step == 6  # the last weights, not the best of the training set


def test_same_seed_same_weights(
    blobs: list[Case], small_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(small_config(seed=seed), blobs, tmp_path / name)
    files = {name: (tmp_path / name / "model.safetensors").read_bytes() for name in "abc"}
    assert files["a"] == files["b"] != files["c"]


@pytest.mark.parametrize("stop_at", [1, 4, 5])
def test_a_stopped_and_resumed_run_equals_the_uninterrupted_one(
    blobs: list[Case], small_config: Callable[..., RunConfig], tmp_path: Path, stop_at: int
) -> None:
    config = small_config()
    run(config, blobs, tmp_path / "whole")
    events = fit_until(stop_at, config, blobs, tmp_path / "cut")
    (finished,) = of(events, RunFinished)
    assert finished.stopped
    assert finished.step == stop_at
    assert of(events, CheckpointSaved)[-1].step == stop_at
    again = run(config, blobs, tmp_path / "cut", resume=True)
    assert [event.step for event in of(again, StepEnd)] == list(range(stop_at + 1, 7))
    for name in ("model.safetensors", "state/00000006.safetensors"):
        a, _ = checkpoint.load_tensors(tmp_path / "whole" / name)
        b, _ = checkpoint.load_tensors(tmp_path / "cut" / name)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)
    assert (tmp_path / "whole/model.safetensors").read_bytes() == (
        tmp_path / "cut/model.safetensors"
    ).read_bytes()


def test_a_stop_at_a_validation_step_loses_no_validation(
    blobs: list[Case], small_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = small_config(budget={"steps": 6, "val_every": 2})
    whole = run(config, blobs, tmp_path / "whole")
    cut = fit_until(4, config, blobs, tmp_path / "cut")
    assert of(cut, RunFinished)[0].step == 4
    cut += run(config, blobs, tmp_path / "cut", resume=True)
    assert of(cut, EpochEnd) == of(whole, EpochEnd)
    assert (tmp_path / "whole/model.safetensors").read_bytes() == (
        tmp_path / "cut/model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("at", [2, 4, 6])
def test_a_stop_within_a_validation_is_heard_and_the_validation_owed(
    at: int,
    blobs: list[Case],
    small_config: Callable[..., RunConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At step 6, the last one, too: a validation of large volumes takes minutes."""
    config = small_config(budget={"steps": 6, "val_every": 2})
    whole = run(config, blobs, tmp_path / "whole")
    asked: list[int] = []
    real = supervised.segment

    def segment(*arguments: Any) -> Any:
        *rest, stop = arguments
        if step[-1] == at:
            asked.append(1)  # the person presses Stop while an image is looked at
        return real(*rest, stop)

    step = [0]
    monkeypatch.setattr(supervised, "segment", segment)
    cut = []
    for event in fit(config, blobs, tmp_path / "cut", stop=lambda: bool(asked)):
        cut.append(event)
        step.append(event.step if isinstance(event, StepEnd) else step[-1])
    (finished,) = of(cut, RunFinished)
    assert (finished.stopped, finished.step) == (True, at)
    assert len(asked) == 1
    monkeypatch.setattr(supervised, "segment", real)
    cut += run(config, blobs, tmp_path / "cut", resume=True)
    assert of(cut, EpochEnd) == of(whole, EpochEnd)
    assert (tmp_path / "whole/model.safetensors").read_bytes() == (
        tmp_path / "cut/model.safetensors"
    ).read_bytes()


def test_an_abandoned_run_resumes_from_its_last_state(
    blobs: list[Case], small_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill: logged steps beyond the state are dropped, and done again."""
    monkeypatch.setattr("napari_ctxseg.training.loop.SAVE_EVERY", -1.0)
    config = small_config()
    generator = fit(config, blobs, tmp_path / "r")
    for event in generator:
        if isinstance(event, StepEnd) and event.step == 5:
            break
    generator.close()
    with open(tmp_path / "r" / "events.jsonl", "a") as file:
        file.write('{"type": "StepEnd", "st')  # a torn last line
    run(config, blobs, tmp_path / "r", resume=True)
    run(config, blobs, tmp_path / "whole")
    steps = [json.loads(line) for line in (tmp_path / "r" / "events.jsonl").read_text().splitlines()]
    assert [event["step"] for event in steps if event["type"] == "StepEnd"] == [1, 2, 3, 4, 5, 6]
    assert (tmp_path / "whole/model.safetensors").read_bytes() == (
        tmp_path / "r/model.safetensors"
    ).read_bytes()


def test_a_damaged_state_falls_back_to_the_one_before(
    blobs: list[Case], small_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_ctxseg.training.loop.SAVE_EVERY", -1.0)
    fit_until(4, small_config(), blobs, tmp_path / "r")
    states = sorted((tmp_path / "r/state").iterdir())
    assert [p.stem for p in states] == ["00000003", "00000004"]
    states[-1].write_bytes(states[-1].read_bytes()[:-40])
    events = run(small_config(), blobs, tmp_path / "r", resume=True)
    assert "00000004.safetensors" in of(events, Note)[0].text
    assert of(events, StepEnd)[0].step == 4
    for state in (tmp_path / "r/state").iterdir():
        state.write_bytes(b"")
    with pytest.raises(CheckpointError, match="cannot be read"):
        run(small_config(), blobs, tmp_path / "r", resume=True)


def test_resume_refuses_changed_labels(
    blobs: list[Case], small_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    fit_until(0, small_config(), blobs, tmp_path / "r")
    other = [blob_case("blob0", seed=77), *blobs[1:]]
    with pytest.raises(InputError, match="changed since"):
        run(small_config(), other, tmp_path / "r", resume=True)


def test_minutes_become_steps(
    blobs: list[Case], small_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    """The run by minutes equals the run by the steps it was turned into."""
    events = run(small_config(budget={"minutes": 0.05}), blobs, tmp_path / "timed")
    (budget,) = of(events, BudgetSet)
    assert budget.steps >= 20
    assert of(events, RunFinished)[0].step == budget.steps
    stored = from_yaml(tmp_path / "timed" / "config.yaml")
    assert stored.budget.steps == budget.steps
    run(stored, blobs, tmp_path / "counted")
    a, _ = checkpoint.load_state(tmp_path / "timed/state")[:2]
    b, _ = checkpoint.load_state(tmp_path / "counted/state")[:2]
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_a_stop_while_minutes_are_measured_can_be_resumed(
    blobs: list[Case], small_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    events = fit_until(5, small_config(budget={"minutes": 0.03}), blobs, tmp_path / "r")
    (finished,) = of(events, RunFinished)
    assert (finished.stopped, finished.step) == (True, 5)
    again = run(small_config(), blobs, tmp_path / "r", resume=True)
    assert of(again, StepEnd)[0].step == 6
    assert of(again, BudgetSet)[0].steps >= 20
    assert not of(again, RunFinished)[0].stopped


def test_a_run_starts_from_another_and_renews_the_head(
    blobs: list[Case], small_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    run(small_config(), blobs, tmp_path / "first")
    same = run(small_config(init=str(tmp_path / "first"), seed=5), blobs, tmp_path / "same")
    assert not [note for note in of(same, Note) if "made anew" in note.text]
    two = [
        Case(c.name, c.image, np.where(np.indices(c.labels.shape)[0] < 3, 2, c.labels), c.name) for c in blobs
    ]
    events = run(small_config(init=str(tmp_path / "first")), two, tmp_path / "more")
    (said,) = [note.text for note in of(events, Note) if "made anew" in note.text]
    assert "class 1" in said
    config = small_config(
        init=str(tmp_path / "first"), network={"kind": "unet", "dims": 2, "features": (8, 8, 8)}
    )
    with pytest.raises(CheckpointError, match="another network"):
        run(config, blobs, tmp_path / "other")


def test_weights_are_really_taken_over(
    blobs: list[Case], small_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    run(small_config(budget={"steps": 100}, optim={"lr": 5e-3}), blobs, tmp_path / "first")
    tuned = run(small_config(budget={"steps": 1}, init=str(tmp_path / "first")), blobs, tmp_path / "tuned")
    fresh = run(small_config(budget={"steps": 1}), blobs, tmp_path / "fresh")
    assert of(tuned, EpochEnd)[-1].mean > of(fresh, EpochEnd)[-1].mean + 0.3


def test_nonfinite_steps_are_skipped_counted_and_said(
    blobs: list[Case], small_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = supervised.Trainer._loss_of
    calls: list[int] = []

    def spoilt(self: supervised.Trainer, *what: Any) -> torch.Tensor:
        calls.append(1)
        loss = whole(self, *what)
        return loss * float("nan") if len(calls) in (3, 4) else loss

    monkeypatch.setattr(supervised.Trainer, "_loss_of", spoilt)
    events = run(small_config(), blobs, tmp_path / "r")
    assert [event.loss is None for event in of(events, StepEnd)] == [False, False, True, True, False, False]
    assert of(events, RunFinished)[0].skipped == 2
    assert [note.text for note in of(events, Note)] == [
        "Step 3 was not finite and is skipped",
        "2 of 6 steps were not finite and were skipped",
    ]
    tensors, _, _ = checkpoint.load_state(tmp_path / "r/state")
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


def test_training_gives_up_when_nothing_is_finite(
    blobs: list[Case], small_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = supervised.Trainer._loss_of
    monkeypatch.setattr(supervised.Trainer, "_loss_of", lambda self, *what: whole(self, *what) * float("inf"))
    with pytest.raises(CtxsegError, match="25 steps in a row"):
        run(small_config(budget={"steps": 60, "val_every": 60}), blobs, tmp_path / "r")


def test_memory_that_is_too_small_is_named(
    blobs: list[Case], small_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object, *what: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(supervised.Trainer, "_loss_of", fail)
    with pytest.raises(CtxsegError, match=r"2 patches of \(32, 32\)"):
        run(small_config(), blobs, tmp_path / "r")


def test_previews_show_what_is_visible(
    blobs: list[Case], small_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_ctxseg.training.preview.EVERY", 0.0)
    monkeypatch.setattr("napari_ctxseg.training.preview.SHARE", 1e9)
    volume = blob_case("volume", (6, 20, 22))
    unlabelled = Case("bare", volume.image)
    events = run(small_config(), [*blobs, volume, unlabelled], tmp_path / "r", visible=lambda: ("bare", 4))
    previews = of(events, Preview)
    assert len(previews) == 6
    assert all(p.labels.shape == (20, 22) and (p.case, p.index) == ("bare", 4) for p in previews)
    run(small_config(), [*blobs, volume], tmp_path / "plain")
    a, b = (checkpoint.load_tensors(tmp_path / n / "model.safetensors")[0] for n in ("r", "plain"))
    assert all(torch.equal(a[key], b[key]) for key in a)  # looking does not change the run


def test_3d_runs(small_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    cases = [blob_case(f"v{i}", (20, 24, 28), seed=i) for i in range(3)]
    config = small_config(
        network={"kind": "unet", "dims": 3, "features": (4, 8, 8)}, patch={"size": (16, 16, 16), "batch": 2}
    )
    events = run(config, cases, tmp_path / "r", visible=lambda: ("v0", 3))
    assert of(events, RunFinished)[0].step == 6


# ---------------------------------------------------------------- refusals


def test_bad_sets_are_refused_before_anything_is_written(
    blobs: list[Case], small_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    image = blobs[0].image
    bare = Case("bare", image)
    empty = Case("empty", image, np.zeros(image.spatial_shape, np.uint8))
    rgb = Case("rgb", image_from_array(np.zeros((3, 20, 20)), "cyx"), np.ones((20, 20), np.uint8))
    deep = small_config(network={"kind": "unet", "dims": 3})
    for config, cases, text in (
        (small_config(), [], "there are none"),
        (small_config(), [bare], "no image has any"),
        (small_config(), [empty], "are empty|no painted class|no class"),
        (small_config(), [blobs[0], blobs[0]], "name of two images"),
        (small_config(), [blobs[0], rgb], "different numbers of channels"),
        (deep, blobs, "2-D image, but the model is 3-D"),
        (small_config(device={"accelerator": "mps"}), blobs, "is not there"),
        (small_config(patch={"size": (8, 8, 8)}), blobs, "does not fit"),
    ):
        with pytest.raises(InputError, match=text):
            run(config, cases, tmp_path / "r")
        assert not (tmp_path / "r").exists()


def test_folders_that_are_taken_or_unusable_are_refused(
    blobs: list[Case], small_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("x")
    (tmp_path / "file").write_text("x")
    for out, text in (("taken", "not empty"), ("file", "not empty"), ("file/below", "cannot be written to")):
        with pytest.raises(InputError, match=text):
            run(small_config(), blobs, tmp_path / out)
    with pytest.raises(CheckpointError, match="no run"):
        RunFolder(tmp_path / "taken", resume=True)
    assert (tmp_path / "taken" / "thesis.tex").read_text() == "x"
