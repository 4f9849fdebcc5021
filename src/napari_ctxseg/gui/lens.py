"""The Lens: what the chosen loss sees of the shown slice, kept in step with brush and slider. No Qt here.

One request is with the engine at a time; whatever happens meanwhile makes one more, of the newest state.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_ctxseg.engine.requests import MapsRequest, NetworkRequest
from napari_ctxseg.errors import CtxsegError
from napari_ctxseg.events import Event, JobDone, JobFailed, LossMaps, Note
from napari_ctxseg.gui import layers as lay
from napari_ctxseg.gui.annotation import undone
from napari_ctxseg.gui.jobs import run_now
from napari_ctxseg.gui.lens_layers import KINDS, NO_MODEL, LensLayers
from napari_ctxseg.gui.lens_show import show_kind, summary
from napari_ctxseg.gui.lens_target import Asked, Painted, grid_of, target_alone, target_of
from napari_ctxseg.gui.timing import costs, timed

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_ctxseg.engine.client import EngineClient
    from napari_ctxseg.gui.choices import Choices

#: Seconds without a stroke before a network is asked: it may take longer than a stroke can wait.
QUIET = 0.3
#: Seconds of the GUI thread that writing layers may take in one go, plus the last layer.
MOMENT = 0.008
#: Seconds a tick for counting the values of the layer.
COUNT = 0.003
#: The weight map first: it is what a stroke is about.
DRAWN = ("weight", *(kind for kind in KINDS if kind != "weight"))


class Lens:
    """Follows a labels layer and shows the maps of a loss as layers.

    Parameters
    ----------
    viewer : napari.viewer.Viewer or napari.components.ViewerModel
        Where the layers are.
    engine : EngineClient
        Of the lane ``maps``, started by the caller.
    choices : Choices
        Labels, classes, loss: of the Train dock, or of the Lens's own.
    alone : bool
        The choices are its own: every value above 0 is a class, and there is no network.
    background : callable
        Runs a function off the GUI thread, then one of two callbacks on it.
    """

    changed = Signal()

    def __init__(
        self,
        viewer: Any,
        engine: EngineClient,
        choices: Choices,
        *,
        alone: bool,
        background: Callable[..., None] = run_now,
    ) -> None:
        self.viewer, self.engine, self._background = viewer, engine, background
        self.layers = LensLayers(viewer)
        self.wanted: dict[str, bool] = {kind: kind in ("weight", "roi") for kind in KINDS}
        self.maps: LossMaps | None = None
        self.shown: Asked | None = None
        self.failure = ""
        self._stale = True
        # `Painted.key` of the volume that the lane holds; None: not these labels, or a slice
        self._held: Any = None
        self._undone = self._round = 0
        self._flight: int | None = None  # number of the request that has no answer yet; 0 while it is written
        self._asked: dict[int, Asked] = {}
        self._early: list[LossMaps] = []
        self._last: Asked | None = None  # newest request
        self._touched = 0.0
        self._pid: int | None = None
        self.closed, self.in_sight = False, True
        self._image_key: tuple[int, ...] = ()
        self._token = self._sent_token = 0
        self._watched: Any = None
        self._pending: list[str] = []  # layers that do not show the last answer yet
        self.choices, self.alone = choices, alone
        self.choices.changed.connect(self._on_choices)
        viewer.dims.events.current_step.connect(self._on_dims)
        self._on_choices()

    # ------------------------------------------------------------ following

    def follow(self, choices: Choices, *, alone: bool) -> None:
        """Take other choices from now on."""
        self.choices.changed.disconnect(self._on_choices)
        self.choices, self.alone = choices, alone
        self.choices.changed.connect(self._on_choices)
        self._on_choices()

    @timed
    def _on_choices(self) -> None:
        if self.choices.labels is not self._watched:
            self._watch(self.choices.labels)
        self._touch()
        self.changed.emit()  # a loss, classes, a finished run: the dock shows them even where no map changes

    def _watch(self, labels: Any) -> None:
        for layer, connect in ((self._watched, False), (labels, True)):
            if layer is None:
                continue
            events = layer.events
            for emitter in (events.paint, events.labels_update, events.data, events.set_data):
                change = emitter.connect if connect else emitter.disconnect
                change(self._on_labels)
        self._watched = labels
        self._forget()
        self._on_labels()

    @timed
    def _on_labels(self, event: Any = None) -> None:
        # `set_data` comes with every slice that is shown, but also when an array was edited in place. Of a volume that
        # is too much to look at: there the layer's own events must do. Undo and redo send nothing else, though.
        before, self._undone = self._undone, undone(self._watched)
        if event is None or event.type != "set_data" or not self.volume or self._undone != before:
            self._held = None
        if self.alone and self._undone != before and self.choices.census is not None:
            self.choices.census.recount()
        self._touch()
        # A stroke does not wait for the next tick: the canvas is drawn before that, and the lane can work meanwhile.
        if event is not None and event.type == "labels_update" and self._free():
            self._ask()

    def _free(self) -> bool:
        """Whether somebody looks, and the engine that we know can take a request."""
        ready = self.in_sight and self.engine.state in ("ready", "busy") and self.engine.pid == self._pid
        return ready and self._flight is None

    @timed
    def _on_dims(self, event: Any = None) -> None:
        self._touch()

    def _touch(self) -> None:
        self._stale, self._touched = True, time.monotonic()

    @property
    def volume(self) -> bool:
        """Whether the loss sees the whole volume: with a 3-D model."""
        labels = self.choices.labels
        return (
            not self.alone
            and labels is not None
            and labels.ndim == 3
            and self.choices.config.network.dims == 3
        )

    @property
    def run(self) -> str | None:
        """Folder of the network to look through, if there is one."""
        run = None if self.alone else getattr(self.choices, "last_run", None)
        return None if run is None else str(run)

    @property
    def status(self) -> str:
        """One line for the person."""
        if self.engine.state == "starting":
            return "lens engine starting ..."
        if self.engine.state == "dead":
            return "The lens engine is not running; close this dock and open it again."
        if self.failure:
            return self.failure
        return "Looking ..." if self.maps is None or self.shown is None else summary(self.maps, self.shown)

    # ------------------------------------------------------------ asking

    def tick(self) -> bool:
        """Take the engine's answers, ask for what has changed; True if layers were written. For a timer."""
        before = self.engine.state
        for event in self.engine.poll():
            self.handle(event)
        drew = self.in_sight and bool(self._pending)
        if drew:
            self._draw()
        if self.engine.pid != self._pid:  # a fresh engine knows nothing
            self._pid, self._sent_token, self._flight, self._last = self.engine.pid, 0, None, None
            self._forget()
            self._held = None
            self._touch()
        self._count()
        if self.engine.state != before:
            self.changed.emit()
        if self._free():
            if self._stale:
                self._ask()
            elif self._network_due():
                self._ask(compute=True)
        return drew

    def _count(self) -> None:
        """Go on counting the layer's values: alone they are the classes, and there is no other to do it."""
        census = self.choices.census
        if self.alone and census is not None and census.work(COUNT) and census.complete:
            self._touch()

    def _draw(self) -> None:
        """Write layers, as many as fit into a moment or make napari work once; the rest at the next tick."""
        end, before = time.perf_counter() + MOMENT, costs.deducted
        while self._pending and time.perf_counter() < end and costs.deducted == before:
            show_kind(self, self._pending.pop(0))

    def _network_due(self) -> bool:
        """Whether the network's maps are wanted, not there, and the person has stopped to look."""
        asked = self._last
        return (
            asked is not None
            and asked.run is not None
            and not asked.compute
            and (self.wanted["ce"] or self.wanted["weighted"])
            and self.engine.state == "ready"
            and (self.maps is None or self.maps.ce is None)
            and time.monotonic() - self._touched > QUIET
        )

    def _ask(self, *, compute: bool = False) -> None:
        self._stale = False
        try:
            asked, request = self._request(compute)
        except CtxsegError as error:
            self._refuse(error)
            return
        if request is None or (not compute and asked.same(self._last) and not self.failure):
            return
        self.failure = ""
        if self.volume or (request.network is not None and compute):
            self._send_slowly(asked, request)
        else:
            self._held = None  # the slice takes the volume's place
            try:
                self._sent(asked, self.engine.maps(request), self._round)
            except CtxsegError as error:
                self._refuse(error)

    def _refuse(self, error: CtxsegError) -> None:
        self.failure, self.maps = f"{error.reason}.", None
        self._forget()
        self._pending = list(DRAWN)  # to be hidden
        self.changed.emit()

    def _forget(self) -> None:
        """Let no request made so far be shown, nor what is left to draw of the last answer."""
        self._asked, self._early, self._last, self._pending = {}, [], None, []
        self._round += 1

    def _request(self, compute: bool) -> tuple[Asked, MapsRequest | None]:
        """What to ask now; arrays of volumes are left out, they come off the GUI thread."""
        choices = self.choices
        grid = grid_of(choices)
        index, _ = lay.shown_slice(self.viewer, grid)
        target = None
        if self.alone:
            target, values = target_alone(choices, index)
        else:
            painted = Painted.of(choices)
            values = painted.values
            target = None if self.volume else target_of(painted, index)
        run = self.run if self.wanted["ce"] or self.wanted["weighted"] else None
        loss, image = choices.config.loss, next(iter(choices.images), None)
        asked = Asked(grid, index, loss, values, target, run, self._image_token(), compute, image)
        spacing = grid.spacing if self.volume else grid.spacing[-2:]
        network = None
        if run is not None:
            network = NetworkRequest(run, asked.token, index, compute=compute)
        plain = asked.loss.model_dump(mode="json")
        return asked, MapsRequest(plain, spacing, values, target, index if self.volume else None, network)

    def _image_token(self) -> int:
        """A number that changes with the chosen images."""
        key = tuple(id(lay.base_data(layer)) for layer in self.choices.images)
        if key != self._image_key:
            self._image_key, self._token = key, self._token + 1
        return self._token

    def _send_slowly(self, asked: Asked, request: MapsRequest) -> None:
        """Gather volumes and send them, off the GUI thread."""
        self._flight, number, round_ = 0, [0], self._round
        choices, painted = self.choices, Painted.of(self.choices) if self.volume else None
        key = None if painted is None else painted.key
        whole = key != self._held
        image = request.network is not None and asked.compute and self._sent_token != asked.token
        shot = lay.snapshot(choices.images) if image else None
        self._held = key

        def work() -> None:
            changes: dict[str, Any] = {}
            if whole and painted is not None:
                changes["target"] = target_of(painted, None)
            if shot is not None and request.network is not None:
                array = shot.image().channel_array
                changes["network"] = replace(request.network, image=array)
            number[0] = self.engine.maps(replace(request, **changes))

        def done() -> None:
            if image:
                self._sent_token = asked.token
            self._sent(asked, number[0], round_)

        self._background(work, done, self._not_sent)

    @timed
    def _not_sent(self, error: Exception) -> None:
        self._flight = self._held = None
        self.failure = (
            f"{error.reason}." if isinstance(error, CtxsegError) else f"{type(error).__name__}: {error}"
        )
        self.changed.emit()

    def _sent(self, asked: Asked, number: int, round_: int) -> None:
        # What was sent off the GUI thread may have been answered, or be unwanted, before we hear of it.
        self._flight = None if self.engine.state == "ready" else number
        if round_ == self._round:
            self._asked[number], self._last = asked, asked
        early, self._early = self._early, []
        for maps in early:
            self._on_maps(maps)

    # ------------------------------------------------------------ answers

    @timed
    def handle(self, event: Event) -> None:
        """Take over one message of the engine."""
        match event:
            case LossMaps():
                self._on_maps(event)
            case JobFailed():
                self.failure = " ".join(part for part in (event.error, event.remedy) if part)
                self._flight = None
                self.changed.emit()
            case Note():
                self.failure = event.text
                self.changed.emit()
            case JobDone():
                if self.engine.state == "ready" and self._flight:
                    self._flight = None

    def _on_maps(self, maps: LossMaps) -> None:
        asked = self._asked.get(maps.request)
        if self._flight is not None and 0 < self._flight <= maps.request:
            self._flight = None
        if asked is None:
            if self._flight == 0:
                self._early.append(maps)
            return
        self._asked = {number: each for number, each in self._asked.items() if number >= maps.request}
        self.maps, self.shown = maps, asked
        self._pending = list(DRAWN)
        self.changed.emit()

    def missing(self, kind: str) -> str:
        """Why a layer cannot be shown now; empty if it can, or if nothing is known yet."""
        if self.maps is None:
            return ""
        if kind in ("ce", "weighted"):
            if self.run is None:
                return NO_MODEL
            none = kind == "weighted" and self.maps.ce is not None and self.maps.weighted is None
            return "This loss is no sum over pixels." if none else ""
        if kind == "roi":
            if self.maps.boxes or self.maps.roi is None:
                return "" if self.maps.boxes else KINDS[kind].missing
            return "There is no box: see ROI crop." if self.maps.roi.any() else "There is no foreground here."
        field = {"crop": "roi"}.get(kind, kind)
        return KINDS[kind].missing if getattr(self.maps, field) is None else ""

    def want(self, kind: str, wanted: bool) -> None:
        """Show a layer, or take it out of sight."""
        self.wanted[kind] = wanted
        if kind in ("ce", "weighted") and wanted:
            self._last = None
            self._touch()
        if kind not in self._pending:
            self._pending.append(kind)
        self.changed.emit()

    def see(self, on: bool) -> None:
        """Rest with the layers out of sight while nobody looks at the Lens; go on when somebody does."""
        self.in_sight = on
        self.layers.set_aside(not on)

    def close(self) -> None:
        """Stop following, remove the layers, let go of the engine. May be called twice."""
        if not self.closed:
            self.closed = True
            self.choices.changed.disconnect(self._on_choices)
            self.viewer.dims.events.current_step.disconnect(self._on_dims)
            self._watch(None)
        self.layers.clear()
        self.engine.close()
