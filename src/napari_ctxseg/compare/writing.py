"""The report of a comparison as files beside its runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from napari_ctxseg import dataset
from napari_ctxseg.atomic import write_bytes_atomic
from napari_ctxseg.compare.cells import cells_of, groups_of
from napari_ctxseg.compare.figures import draw_figures, forget_figures
from napari_ctxseg.compare.queue import CompareFolder
from napari_ctxseg.compare.report import latex, long_csv, make_report, markdown
from napari_ctxseg.compare.results import Results

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_ctxseg.compare.cells import Cell

REPORT = "report.json"


def write_report(path: Path, cells: Sequence[Cell] | None = None, *, pictures: bool = True) -> dict[str, Any]:
    """Write ``report.md``, ``.json``, ``.csv``, ``.tex`` and the figures from what is done.

    Parameters
    ----------
    path : Path
        Folder of a comparison.
    cells : sequence of Cell, optional
        Its runs, where they are known already.
    pictures : bool
        False: for a report between two runs. Pictures of fewer runs are then removed, so that all files agree.

    Returns
    -------
    dict
        As `napari_ctxseg.compare.report.make_report` builds it.

    Raises
    ------
    CtxsegError
        If the folder holds no comparison, or a stored run is damaged.
    """
    folder = CompareFolder(path)
    plan = folder.plan()
    if cells is None:
        cells = cells_of(plan, dataset.training_pairs(plan.run.data))
    names = dict.fromkeys(name for cell in cells for name in (*cell.train, *cell.test))
    records = {cell.key: record for cell in cells if (record := folder.record(cell)) is not None}
    results = Results(plan, cells, records, groups_of(list(names), plan.run.data.group))
    report = make_report(results)
    figures = draw_figures(report, path) if pictures else forget_figures(path)
    for name, text in {
        REPORT: json.dumps(report, indent=1, allow_nan=False) + "\n",
        "report.csv": long_csv(results),
        "report.tex": latex(report),
        "report.md": markdown(report, figures),
    }.items():
        write_bytes_atomic(path / name, text.encode())
    return report
