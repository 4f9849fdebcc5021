"""A training that no memory can hold is refused before anything is built."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from napari_ctxseg.config import parse_config
from napari_ctxseg.errors import InputError
from napari_ctxseg.training import fit
from napari_ctxseg.training.memory import check_memory, least_bytes
from tests.core.conftest import blob_case

if TYPE_CHECKING:
    from pathlib import Path

    from napari_ctxseg.config import RunConfig

GB = 10**9


def config(size: tuple[int, ...], batch: int, device: str = "cpu", **more: Any) -> RunConfig:
    return parse_config(
        {
            "network": {"kind": "unet", "dims": len(size), "in_channels": 1, "out_channels": 2},
            "patch": {"size": size, "batch": batch},
            "device": {"accelerator": device, "precision": "32-true"},
            **more,
        }
    )


@pytest.fixture
def four_gb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=3 * GB))
    monkeypatch.setattr(psutil, "swap_memory", lambda: SimpleNamespace(total=GB))


@pytest.mark.usefixtures("four_gb")
def test_the_largest_batch_that_fits_is_named() -> None:
    with pytest.raises(InputError) as caught:
        check_memory(config((1024, 1024), 64))
    most = int(str(caught.value).rsplit(" ", 1)[1].rstrip("."))
    assert (
        least_bytes(config((1024, 1024), most), most)
        <= 4 * GB
        < least_bytes(config((1024, 1024), 1), most + 1)
    )
    check_memory(config((1024, 1024), most))
    assert "this machine has 4 GB" in str(caught.value)


@pytest.mark.usefixtures("four_gb")
def test_one_patch_alone_is_too_much() -> None:
    with pytest.raises(InputError, match="smaller patch or network"):
        check_memory(config((512, 512, 512), 1))


@pytest.mark.usefixtures("four_gb")
def test_a_gpu_speaks_for_itself_and_small_ones_pass() -> None:
    check_memory(config((1024, 1024), 64, device="cuda"))
    check_memory(config((128, 128), 8))


@pytest.mark.usefixtures("four_gb")
@pytest.mark.parametrize("method", ["supervised", "cr_gan"])
def test_nothing_is_written_and_nothing_built(method: str, tmp_path: Path) -> None:
    asked = config((4096, 4096), 8, budget={"steps": 1}, method=method)
    with pytest.raises(InputError, match="GB of memory or more"):
        list(fit(asked, [blob_case(f"c{i}", seed=i) for i in range(3)], tmp_path / "run"))
    assert not (tmp_path / "run").exists()
