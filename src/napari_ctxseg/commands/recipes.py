"""``ctxseg recipes``: the rows of the papers' tables, run on a data set that was downloaded, and ours beside the paper's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_ctxseg.atomic import write_bytes_atomic
from napari_ctxseg.commands import report
from napari_ctxseg.commands.compare import carry_out
from napari_ctxseg.commands.wide import print_table
from napari_ctxseg.compare.plan import ComparePlan, MeasureSettings, Variant
from napari_ctxseg.compare.queue import PLAN, CompareFolder
from napari_ctxseg.config import parse_config, set_fields
from napari_ctxseg.errors import CtxsegError, InputError
from napari_ctxseg.recipes.layouts import LAYOUTS, find_entries
from napari_ctxseg.recipes.prepare import Prepared, prepare
from napari_ctxseg.recipes.results import HEADER, RESULT, make_result, read_result, table_rows, table_text
from napari_ctxseg.recipes.schema import PAPERS, Recipe
from napari_ctxseg.recipes.store import load_row, row_names, row_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_ctxseg.recipes.schema import CitedRow


def listed(*, paper: str | None, set_: str | None, data: Path | None, as_json: bool) -> None:
    """Print the rows, and with a folder which of their sets lie in it.

    Raises
    ------
    InputError
        If a paper or set is not known.
    """
    rows = _rows(paper, set_)
    there = {each: _there(each, data) for each in {row.set_ for row in rows.values()}} if data else {}
    records = [
        {"name": name, "set": row.set_, "source": row.source, "runs": isinstance(row, Recipe),
         **({"there": there[row.set_]} if data else {})}
        for name, row in rows.items()
    ]  # fmt: skip
    if as_json:
        report.print_json(records)
        return
    lines = []
    for record in records:
        row = rows[str(record["name"])]
        text = row.row if record["runs"] else f"{row.row} (cited, cannot be run)"
        there_ = [str(record["there"])] if data else []
        lines.append([str(record["name"]), row.set_, f"{row.paper} {row.table}", text, *there_])
    print_table(["recipe", "set", "table", "row", *(["data"] if data else [])], lines, numbers=False)


def _rows(paper: str | None, set_: str | None) -> dict[str, Recipe | CitedRow]:
    for what, value, known in (("--paper", paper, PAPERS), ("--set", set_, LAYOUTS)):
        if value is not None and value not in known:
            raise InputError(f"{what} {value}", "is not known", f"There are: {', '.join(known)}")
    rows = {name: load_row(name) for name in row_names(paper)}
    return {name: row for name, row in rows.items() if set_ in (None, row.set_)}


def _there(name: str, data: Path) -> str:
    """How many cases of a set are in a folder, or what is wrong."""
    try:
        return f"{len(find_entries(name, data))} cases"
    except CtxsegError as error:
        missing = "holds nothing of" in error.reason or "is no folder" in error.reason
        return "not there" if missing else str(error)


def show(name: str, *, as_json: bool) -> None:
    """Print a row: its source, where the set can be had, printed values, settings, what is not known.

    Raises
    ------
    InputError
        If there is no such row.
    """
    row = load_row(name)
    layout = LAYOUTS[row.set_]
    if as_json:
        report.print_json(row.model_dump(mode="json", by_alias=True))
        return
    lines = [
        f"# {row.source}",
        f"# {layout.title}: {layout.source}. Terms: {layout.terms}.",
        f"# Expected in --data: {layout.expected}.",
    ]
    if isinstance(row, Recipe):
        lines.append(f"# {row.steps} steps.")
    report.print_text("\n".join(lines) + f"\n{row_text(name)}")


def run(
    name: str,
    data: Path,
    out: Path,
    *,
    steps: int | None,
    minutes: float | None,
    folds: int | None,
    seeds: Sequence[int],
    patients: int | None,
    assignments: Sequence[str],
    device: Mapping[str, Any],
    as_json: bool,
) -> None:
    """Prepare, train, predict, measure; go on where an earlier call was interrupted; print ours beside the paper's.

    Raises
    ------
    CtxsegError
        If the row cannot be run, files are missing, or every run failed.
    KeyboardInterrupt
        After a stop by signal; the state is saved.
    """
    row = load_row(name)
    stem = Path(name).stem if name.endswith((".yaml", ".yml")) else name
    if not isinstance(row, Recipe):
        raise InputError(
            f"recipe {stem}",
            "is a result of others that the paper cites, without settings",
            "Choose another row",
        )
    prepared = _prepared(row, stem, data, out, patients, as_json=as_json)
    plan = plan_of(
        row, stem, prepared,
        steps=steps, minutes=minutes, folds=folds, seeds=seeds, assignments=assignments, device=device,
    )  # fmt: skip
    folder = CompareFolder(out / stem, runs=out)
    resume = (folder.path / PLAN).is_file()
    cells, stopped = carry_out(plan, folder, resume=resume, retry_failed=True, as_json=as_json)
    records = [record for cell in cells if (record := folder.record(cell)) is not None]
    if stopped or not records:
        raise KeyboardInterrupt
    result = make_result(row, stem, plan.run, prepared, records, folds)
    write_bytes_atomic(folder.path / RESULT, (json.dumps(result, indent=1) + "\n").encode())
    if result["failed"] and not result["runs"]:
        raise InputError(f"recipe {stem}", f"failed: {result['failed'][0]}", "Mend that, and run it again")
    if as_json:
        report.print_json({"type": "Result", **result})
    else:
        print_table(HEADER, table_rows(stem, row, result, whole=True), numbers=False)
        _reservations(row)


def _reservations(recipe: Recipe) -> None:
    """Print what keeps ours from being the paper's whatever the run."""
    parts = (
        ("Otherwise than in the paper:", recipe.differs),
        (
            "Not stated there, and chosen here:",
            [f"{each.setting}: {each.chosen} ({each.why})" for each in recipe.unknown],
        ),
    )
    for title, lines in parts:
        if lines:
            report.print_text("".join(f"{line}\n" for line in (title, *(f"- {line}" for line in lines))))


def plan_of(
    recipe: Recipe,
    name: str,
    prepared: Prepared,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    folds: int | None = None,
    seeds: Sequence[int] = (0,),
    assignments: Sequence[str] = (),
    device: Mapping[str, Any] | None = None,
) -> ComparePlan:
    """The recipe as a comparison of one variant: on its own split, or on folds of all patients.

    Raises
    ------
    InputError
        If options contradict each other, or an assignment is wrong.
    """
    if steps is not None and minutes is not None:
        raise InputError("--minutes and --steps", "are two budgets", "Give one of them")
    config = recipe.config(f"@{prepared.images}", f"@{prepared.labels}")
    values = config.model_dump(mode="json")
    if steps is not None or minutes is not None:
        values["budget"] = {"steps": steps, "minutes": minutes}
    values["device"] |= {key: value for key, value in (device or {}).items() if value is not None}
    config = parse_config(set_fields(values, list(assignments)), name)
    tested = tuple(group for group, part in prepared.parts.items() if part == "test")
    return ComparePlan(
        run=config,
        variants=(Variant(name=name),),
        folds=folds,
        test=() if folds else tested,
        seeds=tuple(seeds),
        measures=MeasureSettings(names=recipe.measures, instances=recipe.instances),
        primary=recipe.measures[0],
    )


def _prepared(
    recipe: Recipe, name: str, data: Path, out: Path, patients: int | None, *, as_json: bool
) -> Prepared:
    events = prepare(recipe, name, data, out, patients=patients)
    with report.progress("preparing", 1, as_json=as_json) as show_progress:
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                found: Prepared = end.value
                return found
            show_progress(event.number / event.total)
            if as_json:
                report.print_json(report.event_record(event))


def table(
    *,
    runs: Path | None,
    data: Path | None,
    paper: str | None,
    set_: str | None,
    whole: bool,
    form: str | None,
    as_json: bool,
) -> None:
    """Print all rows with the paper's values, and ours where they were run.

    Raises
    ------
    CtxsegError
        If there is no such folder, a paper or set is not known, or a stored result is damaged.
    """
    if runs is not None and not runs.is_dir():
        raise InputError(runs, "is no folder", "Name the --out folder of `ctxseg recipes run`")
    if form not in (None, "markdown", "csv"):
        raise InputError(f"--format {form}", "is no format", "There are: markdown, csv")
    rows = _rows(paper, set_)
    results = {name: read_result(runs / name) if runs else None for name in rows}
    there = {each: _there(each, data) for each in {row.set_ for row in rows.values()}} if data else {}
    lines: list[list[str]] = []
    for name, row in rows.items():
        found = table_rows(name, row, results[name], whole=whole)
        if there and results[name] is None:
            found = [[*line[:-1], f"data: {there[row.set_]}. {line[-1]}".rstrip(". ")] for line in found]
        lines += found
    if as_json:
        report.print_json([dict(zip(HEADER, line, strict=True)) for line in lines])
    elif form is not None:
        report.print_text(table_text(lines, form))
    else:
        print_table(HEADER, lines, numbers=False)
