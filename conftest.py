"""Where Qt or a screen is missing, tests of the viewer say so and skip, and all others run.

pytest-qt ends the whole session when Qt's system libraries are missing (a bare server lacks libEGL), so it is
kept from loading by itself (`-p no:pytest-qt` in pyproject.toml) and loaded here when Qt works.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from pathlib import Path

import pytest

GUI = Path(__file__).parent / "tests" / "gui"
#: Set by `.ci/run`: a test that would skip for want of a screen fails instead.
REQUIRED = os.environ.get("CTXSEG_REQUIRE_DISPLAY") == "1"


def _qt_problem() -> str:
    try:
        importlib.import_module("qtpy.QtWidgets")
    except Exception as error:  # qtpy has errors of its own for a binding that cannot be loaded
        return f"Qt cannot be loaded ({error}); see .ci/run for the system packages"
    return ""


def _screen_problem() -> str:
    if sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return ""
    if shutil.which("Xvfb"):  # pytest-xvfb starts it
        return ""
    return "there is no display and no Xvfb; see .ci/run for the system packages"


NO_QT = _qt_problem()
NO_VIEWER = NO_QT or _screen_problem()

pytest_plugins = [] if NO_QT else ["pytestqt.plugin"]


def pytest_report_header() -> list[str]:
    return [f"viewer tests: {'fail' if REQUIRED else 'skip'}: {NO_VIEWER}"] if NO_VIEWER else []


def _give_up(reason: str) -> None:
    if REQUIRED:
        pytest.fail(f"{reason} (CTXSEG_REQUIRE_DISPLAY=1)", pytrace=False)
    pytest.skip(reason, allow_module_level=True)


class _Unavailable(pytest.Module):
    """A test file that cannot even be imported."""

    def collect(self) -> list[pytest.Item]:
        _give_up(NO_VIEWER)
        return []


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    if NO_VIEWER and GUI in module_path.parents:
        return _Unavailable.from_parent(parent, path=module_path)
    return None


def pytest_runtest_setup(item: pytest.Item) -> None:
    if NO_VIEWER and item.get_closest_marker("viewer"):
        _give_up(NO_VIEWER)
    if NO_QT and item.get_closest_marker("qt"):
        _give_up(NO_QT)
