"""``ctxseg train PROJECT`` and ``ctxseg predict PROJECT``: its images, labels and split in, a run or predictions back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ctxseg.cases import Case
from napari_ctxseg.commands import report
from napari_ctxseg.commands.train import needs_first, stop_on_signal
from napari_ctxseg.config import DeviceConfig, PredictConfig, RunConfig, from_yaml
from napari_ctxseg.errors import CtxsegError, InputError
from napari_ctxseg.project import (
    Project,
    all_runs,
    begin_round,
    find_run,
    finish_round,
    helped,
    load_rounds,
    lock_run,
    new_id,
    next_run,
    write_prediction,
)
from napari_ctxseg.project.runs import CONFIG

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from napari_ctxseg.project import RunEntry

#: What a project decides, and the command line therefore does not.
FIXED = ("data.images", "data.labels", "data.annotation", "data.group", "data.foreground")
SCRATCH = "scratch"


def train(
    path: Path, config: RunConfig | None, roots: Mapping[str, Path], *, init: str | None, as_json: bool
) -> None:
    """Train on a project as a new run and record the round; without a configuration go on with its last unfinished run.

    The project may be open elsewhere: what is trained on is its state at this moment.

    Raises
    ------
    CtxsegError
        If the project, its images or the settings do not allow it.
    KeyboardInterrupt
        After a stop by signal; the state is saved, and the round recorded when the run is finished later.
    """
    resumed, round_id = _unfinished(path) if config is None else None, new_id()
    with Project.open(path, roots) as project:
        cases = project.cases()
        if not any(project.role(case.name) == "train" for case in cases):
            raise InputError(
                path, "has no labelled image to train on", "Paint some labels, or see `ctxseg project split`"
            )
        begun = begin_round(project, round_id)
        data = project.spec.data_config(project.groups("validation"))
    if resumed is not None:
        chosen, out = from_yaml(resumed.path / CONFIG), resumed.path
        parent = _parent_of(path, chosen)
    else:
        assert config is not None
        parent = _start(path, config, init)
        chosen = config.updated(
            data=data.model_copy(update={"planes": config.data.planes}),
            init=str(path.absolute() / "runs" / parent) if parent else config.init,
        )
        out = next_run(path, chosen.loss.kind)
    from napari_ctxseg.training import fit

    with lock_run(out), stop_on_signal() as stop:
        events = fit(chosen, cases, out, stop=stop, resume=resumed is not None)
        if resumed is None and not as_json:
            report.print_line(f"{out.name}: {'goes on from ' + parent if parent else 'from scratch'}")
            events = needs_first(chosen, cases, events)
        finished = report.follow_training(events, as_json=as_json)
    if finished is None or finished.stopped:
        raise KeyboardInterrupt
    done = finish_round(path, out.name, round_id, begun, parent=parent)
    earlier = [each for each in load_rounds(path)[0] if each.id != done.id and each.started < done.started]
    text = helped(earlier[-1] if earlier else None, done)
    if as_json:
        report.print_json({"type": "Round", **done.model_dump(mode="json"), "helped": text})
    else:
        report.print_line(text)


def _start(path: Path, config: RunConfig, init: str | None) -> str:
    """Name of the run whose weights are the start: the last one of the same network, unless something else is asked for."""
    if config.init is not None:
        return ""
    if init == SCRATCH:
        return ""
    if init is not None:
        return find_run(path, init).name
    for run in reversed(all_runs(path)):
        if run.has_model and _same_network(from_yaml(run.path / CONFIG), config):
            return run.name
    return ""


def _same_network(one: RunConfig, other: RunConfig) -> bool:
    """Whether all that was asked of the network now holds of the earlier one, whose open fields were filled in."""
    asked = other.network.model_dump(exclude_unset=True, exclude_none=True)
    had = one.network.model_dump()
    kinds = (one.network.kind, one.network.dims) == (other.network.kind, other.network.dims)
    return kinds and all(had.get(name) == value for name, value in asked.items())


def _parent_of(path: Path, config: RunConfig) -> str:
    return next((run.name for run in all_runs(path) if config.init and config.init.endswith(run.name)), "")


def _unfinished(path: Path) -> RunEntry:
    runs = [run for run in all_runs(path) if not run.finished]
    if not runs:
        raise InputError(path, "has no unfinished run to go on with", "Train without --resume")
    return runs[-1]


def predict(
    path: Path,
    run: str | None,
    names: Sequence[str],
    roots: Mapping[str, Path],
    *,
    device: str | None,
    threads: int | None,
    as_json: bool,
    options: PredictConfig | None = None,
) -> int:
    """Predict images of a project into ``predictions/RUN/``; a broken one is named and the rest is done.

    Returns
    -------
    int
        How many could not be predicted.

    Raises
    ------
    CtxsegError
        If project or run cannot be loaded.
    """
    chosen, failed = find_run(path, run), 0
    with Project.open(path, roots, read_only=True) as project:
        entries = [project.spec.entry(name) for name in names] or list(project.spec.images)
        from napari_ctxseg.inference import load_members, load_model, predict_case

        place = DeviceConfig.model_validate({"accelerator": device or "auto", "threads": threads})
        options = options or PredictConfig()
        model = load_model(chosen.path, place)
        members = load_members(model, options, place)
        labels = tuple(model.regions) or ("background", *model.classes)
        with report.progress("predicting", len(entries), as_json=as_json) as show:
            for number, entry in enumerate(entries):
                try:
                    case = Case(entry.name, project.image(entry.name), group=entry.group)
                    found = predict_case(
                        model, case, lambda share, n=number: show(n + share), options, members  # type: ignore[misc]
                    )  # fmt: skip
                    write_prediction(
                        path, chosen.name, entry.name, found.arrays,
                        names=labels, regions=found.regions, sha256=entry.sha256,
                    )  # fmt: skip
                except CtxsegError as error:
                    failed += 1
                    _say({"image": entry.name, "error": str(error)}, f"! {error}", as_json)
                else:
                    _say({"image": entry.name, "run": chosen.name}, f"{entry.name}: predicted", as_json)
                show(number + 1)
    return failed


def _say(record: dict[str, str], text: str, as_json: bool) -> None:
    if as_json:
        report.print_json(record)
    else:
        report.print_line(text)


def refuse_beside_project(given: Sequence[str]) -> None:
    """A project says what its images, labels and classes are: complain instead of ignoring options.

    Raises
    ------
    InputError
        If any were given.
    """
    if given:
        raise InputError(
            ", ".join(given), "cannot be chosen here: the project says it", "See `ctxseg project --help`"
        )
