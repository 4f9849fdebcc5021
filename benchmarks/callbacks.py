"""Longest callback of ours on the GUI thread: `uv run python benchmarks/callbacks.py [--save] [-k EXPRESSION]`.

Runs the tests of the viewer (``tests/gui``) and reads, after each, the thread time that `napari_ctxseg.gui.timing` has
booked for every callback: what napari does on our behalf, such as building a new layer, is listed apart. Ends with 1 when
a callback of ours took 50 ms. The figures are of this machine and this load: that is why they are asked for here and not
in the tests.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "callbacks.json"
LIMIT_MS = 50.0


class Longest:
    """Collects the longest time per callback, and the test that it was seen in."""

    def __init__(self) -> None:
        self.ours: dict[str, tuple[float, str]] = {}
        self.napari: dict[str, tuple[float, str]] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> None:
        """After a test's own code, before its fixtures clean up."""
        from napari_ctxseg.gui.timing import costs

        for seen, kept in ((costs.ours, self.ours), (costs.napari, self.napari)):
            for name, spent in seen.items():
                kept[name] = max(kept.get(name, (0.0, "")), (round(1000 * spent, 1), item.name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-k", default="", help="only these tests, as pytest takes it")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    args = parser.parse_args()
    os.chdir(ROOT)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    longest = Longest()
    words = ["-q", "tests/gui", *(["-k", args.k] if args.k else [])]
    code = pytest.main(words, plugins=[longest])
    result = {
        "limit_ms": LIMIT_MS,
        "load_before": None if load is None else round(load, 1),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "tests_exit": int(code),
        "ours_ms": dict(sorted(longest.ours.items(), key=lambda item: -item[1][0])),
        "napari_ms": dict(sorted(longest.napari.items(), key=lambda item: -item[1][0])),
    }
    print(json.dumps(result, indent=2))
    if args.save:
        RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    over = {name: cost for name, cost in longest.ours.items() if cost[0] >= LIMIT_MS}
    for name, (spent, test) in over.items():
        print(f"{name} took {spent} ms in {test}", file=sys.stderr)
    sys.exit(1 if over or code or not longest.ours else 0)


if __name__ == "__main__":
    main()
