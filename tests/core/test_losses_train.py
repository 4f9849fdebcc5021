"""Every loss really trains, and what it needs to know of the training set is written into the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_ctxseg.config import from_yaml, parse_loss
from napari_ctxseg.errors import InputError
from napari_ctxseg.events import StepEnd
from napari_ctxseg.losses import LOSSES
from napari_ctxseg.training import checkpoint, fit
from napari_ctxseg.training.shares import with_shares
from tests.core.conftest import blob_case

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_ctxseg.cases import Case
    from napari_ctxseg.config import RunConfig

KINDS = sorted(str(cls.model_fields["kind"].default) for cls in LOSSES)


def losses_of(config: RunConfig, cases: list[Case], out: Path) -> list[float | None]:
    return [event.loss for event in fit(config, cases, out) if isinstance(event, StepEnd)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_loss_falls_in_2d(
    kind: str, blobs: list[Case], small_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = small_config(loss=kind, budget={"steps": 60, "val_every": 60}, optim={"lr": 5e-3})
    losses = losses_of(config, blobs, tmp_path / "r")
    assert None not in losses
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])


@pytest.mark.parametrize("kind", KINDS)
def test_every_loss_trains_in_3d(kind: str, small_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    cases = [blob_case(f"b{i}", (16, 18, 20), seed=i) for i in range(2)]
    config = small_config(
        loss=kind,
        network={"kind": "unet", "dims": 3, "features": (4, 8)},
        patch={"size": (16, 16, 16), "batch": 2},
        budget={"steps": 3},
    )
    losses = losses_of(config, cases, tmp_path / "r")
    assert all(value is not None and np.isfinite(value) for value in losses)


def test_shares_of_the_training_set_are_counted_and_stored(
    blobs: list[Case], small_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    classic = {"kind": "balanced_ce", "scope": "dataset"}
    loss = {"kind": "sum", "terms": [{"loss": classic}, {"loss": "weighted_ce"}]}
    config = small_config(loss=loss, budget={"steps": 2}, data={"val": 0.0})
    losses_of(config, blobs, tmp_path / "r")
    stored = from_yaml(tmp_path / "r" / "config.yaml").loss.model_dump()
    foreground = sum(int((case.labels > 0).sum()) for case in blobs if case.labels is not None)
    share = foreground / sum(case.labels.size for case in blobs if case.labels is not None)
    first, second = (term["loss"] for term in stored["terms"])
    assert first["frequencies"] == pytest.approx((1 - share, share))
    inverse = np.array([1 / (1 - share), 1 / share])
    assert second["weights"] == pytest.approx(tuple(inverse / inverse.mean()))


def test_weights_for_another_number_of_classes_are_refused_before_anything_is_written(
    blobs: list[Case], small_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    for loss in (
        {"kind": "weighted_ce", "weights": (1, 1, 1)},
        {"kind": "balanced_ce", "scope": "dataset", "frequencies": (1, 1, 1)},
    ):
        with pytest.raises(InputError, match="3 numbers for 2 classes"):
            losses_of(small_config(loss=loss), blobs, tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_weights_that_were_given_stay() -> None:
    given = parse_loss({"kind": "weighted_ce", "weights": (0.25, 0.75)})
    assert with_shares(given, (0.9, 0.1)) == given
    missing = with_shares(parse_loss("weighted_ce"), (0.9, 0.0, 0.1))
    assert missing.model_dump()["weights"][1] == 0.0


def test_an_annealed_run_resumes_exactly(
    blobs: list[Case], small_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    loss: dict[str, Any] = {"kind": "dilated_balanced_ce", "radius": 1, "start_radius": 20, "anneal": 0.8}
    config = small_config(loss=loss, budget={"steps": 8})
    whole = losses_of(config, blobs, tmp_path / "whole")
    still = small_config(loss=loss | {"anneal": 0}, budget={"steps": 8})
    assert losses_of(still, blobs, tmp_path / "still") != whole

    seen: list[float | None] = []
    stop = [False]
    for event in fit(config, blobs, tmp_path / "cut", stop=lambda: stop[0]):
        if isinstance(event, StepEnd):
            seen.append(event.loss)
            stop[0] = len(seen) == 4
    for event in fit(config, blobs, tmp_path / "cut", resume=True):
        if isinstance(event, StepEnd):
            seen.append(event.loss)
    assert seen == whole
    a, b = (checkpoint.load_tensors(tmp_path / n / checkpoint.MODEL)[0] for n in ("whole", "cut"))
    assert all(torch.equal(a[name], b[name]) for name in a)
