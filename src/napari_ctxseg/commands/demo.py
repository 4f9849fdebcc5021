"""``ctxseg demo``: the main job end to end on made data, in the worker process, with a picture at the end."""

from __future__ import annotations

import json
import os
import shutil
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ctxseg import phantom
from napari_ctxseg.atomic import write_atomic, write_bytes_atomic
from napari_ctxseg.commands import report
from napari_ctxseg.commands.doctor import has_display
from napari_ctxseg.config import DeviceConfig, RunConfig, parse_config
from napari_ctxseg.engine.client import EngineClient
from napari_ctxseg.errors import CtxsegError, InputError
from napari_ctxseg.evaluation.metrics import evaluate_case, summarise
from napari_ctxseg.events import Event, JobDone, JobFailed, PredictionBlock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_ctxseg.cases import Case

#: Training time on any machine; the whole demo stays under three minutes on two cores.
MINUTES = 1.2
SUBJECTS = 5
#: Seconds between looks at the engine's messages.
LOOK = 0.05


def run(out: Path, *, steps: int | None, viewer: bool, as_json: bool) -> None:
    """Train on all made subjects but one, predict and measure that one, draw the overlay.

    Raises
    ------
    CtxsegError
        If the folder cannot be used or the engine fails.
    """
    began = time.monotonic()
    _make_room(out)
    *training, held = phantom.make_phantom(subjects=SUBJECTS, seed=0)
    budget: dict[str, Any] = {"steps": steps} if steps else {"minutes": MINUTES}
    config = parse_config(
        {"data": {"classes": phantom.CLASSES}, "network": {"kind": "unet", "dims": 2}, "budget": budget},
        "demo",
    )
    labels = _train_and_predict(config, training, held, out / "run", as_json)
    assert held.labels is not None
    scores = evaluate_case(labels, held.labels, phantom.CLASSES, held.image.spacing, held.image.unit)
    result = summarise({held.name: scores}).to_json()
    write_bytes_atomic(out / "scores.json", json.dumps(result, indent=2).encode())
    picture = out / "overlay.png"
    write_atomic(picture, lambda path: draw_overlay(held, labels, path), suffix=".png")
    report.scores(result, as_json=as_json)
    opens = viewer and has_display()
    if as_json:
        report.print_json(
            {"overlay": str(picture), "viewer": opens, "seconds": round(time.monotonic() - began, 1)}
        )
    else:
        report.print_line(f"Overlay: {picture} ({time.monotonic() - began:.0f} s in all)")
    if opens:
        _show(held, labels)
    elif viewer and not as_json:
        report.print_line("There is no display here, so napari is not opened.")


def _make_room(out: Path) -> None:
    """The demo's own folder may be used again; anybody else's is left alone."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "demo.json").is_file())):
        raise InputError(
            out, "is there already and was not made by the demo", "Name another folder with --out"
        )
    try:
        if (out / "run").is_dir():
            shutil.rmtree(out / "run")
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            out, f"cannot be written to ({error.strerror})", "Name another folder with --out"
        ) from error
    write_bytes_atomic(out / "demo.json", json.dumps({"made by": "ctxseg demo"}).encode())


def _train_and_predict(
    config: RunConfig, training: list[Case], held: Case, run: Path, as_json: bool
) -> NDArray[Any]:
    engine = EngineClient(threads=os.cpu_count())
    engine.start()
    try:
        _wait_until_ready(engine)
        engine.train(config, training, run)
        finished = report.follow_training(_events(engine), as_json=as_json)
        if finished is None:
            raise CtxsegError("the engine", "ended without a result", f"See {engine.log}")
        engine.predict(run, held, DeviceConfig())
        labels: NDArray[Any] = np.zeros(held.image.spatial_shape, np.uint8)
        for event in _events(engine):
            if isinstance(event, PredictionBlock):
                labels[event.start : event.start + len(event.labels)] = event.labels
        return labels
    finally:
        engine.close()


def _wait_until_ready(engine: EngineClient) -> None:
    while engine.state == "starting":
        _raise_failures(engine.poll())
        time.sleep(LOOK)
    if engine.state != "ready":
        raise CtxsegError("the engine", "did not start", f"See {engine.log}")


def _events(engine: EngineClient) -> Iterator[Event]:
    """Messages of the running job until it ends."""
    while True:
        events = engine.poll()
        _raise_failures(events)
        for event in events:
            yield event
            if isinstance(event, JobDone):
                return
        time.sleep(LOOK)


def _raise_failures(events: list[Event]) -> None:
    for event in events:
        if isinstance(event, JobFailed):
            raise CtxsegError("the engine", event.error, event.remedy or f"See {event.log}")


def draw_overlay(case: Case, labels: NDArray[Any], path: Path) -> None:
    """Image, annotation and prediction of the slice with most foreground, side by side."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    assert case.labels is not None
    index = int(np.argmax((case.labels > 0).reshape(len(case.labels), -1).sum(axis=1)))
    image = np.asarray(case.image.array[index], float)
    low, high = np.percentile(image, [1, 99.5])
    colours = mpl.colormaps["tab10"].colors  # type: ignore[attr-defined]
    figure = Figure(figsize=(9, 3.3), dpi=150, layout="constrained")
    for axes, title, mask in zip(
        figure.subplots(1, 3), ("image", "annotation", "prediction"), (None, case.labels, labels), strict=True
    ):
        axes.imshow(image, cmap="gray", vmin=low, vmax=high)
        axes.set_title(title)
        axes.set_axis_off()
        # Nested structures share a boundary: the inner ones, named first, are drawn on top.
        for number, (name, value) in reversed(list(enumerate(phantom.CLASSES.items()))):
            if mask is not None and (mask[index] == value).any():
                axes.contour(mask[index] == value, [0.5], colors=[colours[number + 1]], linewidths=1.2)
                axes.plot([], [], color=colours[number + 1], label=name)
        if mask is not None:
            axes.legend(loc="lower right", fontsize=7, framealpha=0.6)
    figure.suptitle(f"{case.name}, slice {index}: a subject the network has not seen", fontsize=9)
    figure.savefig(path, format="png")


def _show(case: Case, labels: NDArray[Any]) -> None:
    import napari

    viewer = napari.Viewer(title="ctxseg demo")
    place: dict[str, Any] = {"scale": case.image.spacing, "units": [case.image.unit] * labels.ndim}
    viewer.add_image(case.image.array, name=case.name, **place)
    viewer.add_labels(case.labels, name="annotation", visible=False, **place)
    viewer.add_labels(labels, name="prediction", **place)
    napari.run()
