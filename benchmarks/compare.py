"""Five losses on real data through `ctxseg compare`: hearts, sparse nuclei, retinal vessels; 3 seeds, a minute a run.

    uv run python benchmarks/compare.py                      # all sets, 90 runs of about a minute, one CPU thread each
    uv run python benchmarks/compare.py sunnybrook_lv        # one of them; an interrupted one goes on where it stood
    uv run python benchmarks/compare.py chase_db1 --steps 20 --seeds 0 --work /tmp/smoke --no-keep

The budget is in steps, so that what else the machine does changes no result, and two sets may be run side by side.

The plan of each set is written beside its runs in ``build/compare/SET`` (``--work``) and given to
``ctxseg compare --plan``. Reports, tables and figures are copied to ``benchmarks/results/compare/SET``.
Patients are apart: hearts and vessels are dealt into folds by patient or child, so that everybody is tested once; of the
nuclei every fourth image is tested, as the README of the set says. Those have no patients: there an image is the unit.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("CTXSEG_DATA", ROOT / ".." / "shared" / "data")).resolve()
KEPT = ROOT / "benchmarks" / "results" / "compare"
MEASURES = ["dice", "iou", "precision", "recall", "hd95", "assd", "surface_dice"]
#: Network, patch, batch, threads and precision are those of `benchmarks/methods.py`.
COMMON = {
    "network": {"kind": "unet", "dims": 2},
    "patch": {"size": [128, 128], "batch": 4},
    "device": {"threads": 1, "precision": "32-true"},
}
DILATED = {"loss": {"kind": "dilated_balanced_ce", "radius": 8, "unit": "px"}}
DYNAMIC = {"loss": {"kind": "context_ce", "roi": {"kind": "dynamic", "margin": 4}}}
#: A box around vessels is the whole image; their dilation is not.
MASK = {"loss": {"kind": "context_ce", "roi": {"kind": "mask", "radius": 10, "unit": "px"}}}


def variants(context: dict[str, Any]) -> dict[str, Any]:
    """What is compared, the reference first."""
    return {
        "dice_ce": {"loss": "dice_ce"},
        "balanced_ce": {"loss": "balanced_ce"},
        "context_ce": context,
        "dilated_balanced_ce": DILATED,
        "contour_weighted_ce_dice": {"loss": "contour_weighted_ce_dice"},
    }


def plans() -> dict[str, dict[str, Any]]:
    """Set -> plan without seeds and budget."""
    nuclei = sorted(p.stem for p in (DATA / "dsb2018_sparse" / "images").iterdir())
    return {
        "sunnybrook_lv": {
            "run": {"data": {"classes": {"LV": 1}, "group": r"SC-HF-I-\d+"}},
            "variants": variants(DYNAMIC),
            "folds": 3,
        },
        "dsb2018_sparse": {
            "run": {"data": {"foreground": True}},
            "variants": variants(DYNAMIC),
            "test": nuclei[3::4],
            "measures": {"names": [*MEASURES, "seg", "lesion_f1", "dice_small", "dice_medium", "dice_large"]},
        },
        "chase_db1": {
            "run": {"data": {"foreground": True, "group": r"Image_\d+"}},
            "variants": variants(MASK),
            "folds": 2,
            "measures": {"names": [*MEASURES, "cldice"]},
        },
    }


def write_plan(name: str, path: Path, seeds: list[int], steps: int, losses: list[str]) -> None:
    """The whole plan as a file for `ctxseg compare --plan`."""
    plan = {"measures": {"names": MEASURES}, **plans()[name], "seeds": seeds}
    plan["variants"] = {k: v for k, v in plan["variants"].items() if not losses or k in losses}
    places = {key: [str(DATA / name / key)] for key in ("images", "labels")}
    plan["run"] = {**COMMON, **plan["run"], "budget": {"steps": steps}}
    plan["run"]["data"] = {**plan["run"]["data"], **places}
    path.write_text(yaml.safe_dump(plan, sort_keys=False))


def keep(name: str, out: Path) -> None:
    """Copy what belongs into the repository: reports and vector figures, no weights, no paths of this machine."""
    target = KEPT / name
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(out.iterdir()):
        if re.fullmatch(r"report\.(md|json|csv|tex)|\w+\.svg", path.name):
            shutil.copy(path, target / path.name)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="*", help="all when left out")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=600, help="of each run")
    parser.add_argument("--losses", nargs="*", default=[])
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "compare")
    parser.add_argument("--no-keep", action="store_true", help="do not copy the report")
    args = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"no data at {DATA}: set CTXSEG_DATA")
    for name in args.sets or plans():
        out = args.work / name
        args.work.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "napari_ctxseg.cli", "compare"]
        if (out / "compare.yaml").is_file():
            command += ["--resume", str(out)]
        else:
            write_plan(name, args.work / f"{name}.yaml", args.seeds, args.steps, args.losses)
            command += ["--plan", str(args.work / f"{name}.yaml"), "--out", str(out)]
        print(" ".join(command), flush=True)
        code = subprocess.run(command, check=False).returncode
        if code:
            sys.exit(code)
        if not args.no_keep:
            keep(name, out)


if __name__ == "__main__":
    main()
