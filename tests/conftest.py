"""Fixtures for all tests."""

import os
from pathlib import Path

import pytest

# As `ctxseg` does, and before torch is loaded: two threads beside other work would wait for one another.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the development data (CTXSEG_DATA). Missing: skip, or fail if CTXSEG_REQUIRE_DATA=1."""
    folder = Path(os.environ.get("CTXSEG_DATA", ROOT / ".." / "shared" / "data"))
    if not (folder / "README.md").is_file():
        message = f"no development data in {folder} (set CTXSEG_DATA)"
        if os.environ.get("CTXSEG_REQUIRE_DATA") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return folder
