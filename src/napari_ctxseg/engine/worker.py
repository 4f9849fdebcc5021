"""The engine process: ``python -m napari_ctxseg.engine.worker``, started by `EngineClient`.

It reads jobs from one pipe, runs the core's generators, and writes their events to another. Standard output
and error go to a log file. When the viewer dies, by whatever means, the job saves a checkpoint and the process
ends.
"""

from __future__ import annotations

import argparse
import os
import queue
import select
import shutil
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_ctxseg.config import DeviceConfig, PredictConfig, parse_config
from napari_ctxseg.config.combinations import Facts
from napari_ctxseg.engine.maps_lane import MapsLane
from napari_ctxseg.engine.protocol import (
    Lines,
    ProtocolError,
    Scratch,
    decode,
    encode,
    event_message,
    read_case,
)
from napari_ctxseg.engine.requests import read_maps
from napari_ctxseg.errors import CtxsegError
from napari_ctxseg.events import Described, Event, JobDone, JobFailed, StepEnd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Seconds between the viewer's death and ours, at most: enough for the running step and a checkpoint.
GRACE = 20.0
#: Steps are shown at most this often; a small network makes a hundred a second.
STEP_INTERVAL = 0.05
#: Below the screen's priority; maps are short and waited for, so they go before a training.
NICE = {"job": 10, "maps": 5, "figures": 5}
MOST_LOG_BYTES = 16 * 2**20

Message = dict[str, Any]


class Inbox:
    """State that the viewer's messages set: the jobs to do, the wish to stop, the slice in sight.

    A daemon thread fills it, because a job's own loop must be able to ask at any moment, at no cost.
    """

    def __init__(self, fd: int, scratch: Path, grace: float = GRACE) -> None:
        self.jobs: queue.Queue[Message | None] = queue.Queue()
        self.orphaned = threading.Event()
        self._fd, self._scratch, self._grace = fd, scratch, grace
        self._parent = os.getppid()
        self._stopped_job = 0
        self._visible: tuple[str, int] | None = None

    def start(self) -> None:
        """Listen in the background."""
        threading.Thread(target=self._listen, name="ctxseg-inbox", daemon=True).start()

    def stopped(self, job: int) -> bool:
        """Whether this job should end after its running step."""
        return self._stopped_job >= job or self.orphaned.is_set()

    def visible(self) -> tuple[str, int] | None:
        """Case and slice that the person looks at."""
        return self._visible

    def newer_maps(self) -> bool:
        """Whether a request for maps waits: only the newest is worth an answer. Also when the viewer is gone."""
        with self.jobs.mutex:
            return any(message is None or message["type"] == "maps" for message in self.jobs.queue)

    def newer_figure(self) -> bool:
        """Whether a later figure is asked for, so that a preview is out of date."""
        with self.jobs.mutex:
            return any(message is None or message["type"] == "figure" for message in self.jobs.queue)

    def waits(self) -> bool:
        """Whether anything else is to be done: then a description, which is soon asked for again, can wait."""
        return not self.jobs.empty()

    def _listen(self) -> None:
        lines = Lines()
        try:
            while os.getppid() == self._parent:
                # The timeout is for a pipe that another child of the viewer still holds open after its death.
                if os.name == "posix" and not select.select([self._fd], [], [], 1.0)[0]:
                    _bound_log()
                    continue
                data = os.read(self._fd, 65536)
                if not data:
                    break
                for line in lines.feed(data):
                    self._take(line)
        except (OSError, ProtocolError):
            traceback.print_exc()
        self.abandon()

    def _take(self, line: bytes) -> None:
        try:
            message = decode(line)
            kind = message["type"]
            if kind in ("train", "predict", "compare", "maps", "figure", "describe"):
                self.jobs.put(message)
            elif kind == "stop":
                self._stopped_job = max(self._stopped_job, int(message["job"]))
            elif kind == "visible":
                self._visible = (str(message["case"]), int(message["index"]))
            else:
                raise ProtocolError(f"unknown request {kind!r}")
        except (KeyError, TypeError, ValueError) as error:
            self.jobs.put({"type": "bad", "error": f"{type(error).__name__}: {error}"})
        except ProtocolError as error:
            self.jobs.put({"type": "bad", "error": str(error)})

    def abandon(self) -> None:
        """The viewer is gone: end the job with its checkpoint, and the process soon after in any case."""
        if self.orphaned.is_set():
            return
        self.orphaned.set()
        self.jobs.put(None)
        threading.Thread(target=self._deadline, name="ctxseg-deadline", daemon=True).start()

    def _deadline(self) -> None:
        time.sleep(self._grace)
        shutil.rmtree(self._scratch, ignore_errors=True)
        os._exit(3)


class Outbox:
    """Sends messages to the viewer; once it is gone, sends nothing and does not complain."""

    def __init__(self, fd: int, inbox: Inbox) -> None:
        self._fd, self._inbox = fd, inbox

    def send(self, message: Message) -> None:
        """Write one message, waiting while the viewer is behind."""
        data = memoryview(encode(message))
        try:
            while data and not self._inbox.orphaned.is_set():
                data = data[os.write(self._fd, data) :]
        except OSError:
            self._inbox.abandon()


class Worker:
    """Runs one job after the other."""

    def __init__(self, inbox: Inbox, outbox: Outbox, scratch: Path, threads: int = 1) -> None:
        self.inbox, self.outbox, self._threads = inbox, outbox, threads
        self.scratch = Scratch(scratch, "e")
        self._maps = MapsLane()

    def serve(self) -> None:
        """Take jobs until the viewer is gone."""
        while (message := self.inbox.jobs.get()) is not None:
            if message["type"] == "bad":
                self.outbox.send({"type": "error", "error": message["error"]})
            elif message["type"] == "describe":
                self._describe(message)
            else:
                self._run(message)

    def _run(self, message: Message) -> None:
        job = int(message.get("job", 0))
        self.scratch.generation = job
        try:
            for event in _sparse_steps(self._events(message, job)):
                self._send(event, job)
        except CtxsegError as error:
            self._send(
                JobFailed(f"{error.subject}: {error.reason}.", f"{error.remedy}." if error.remedy else ""),
                job,
            )
        except MemoryError:
            traceback.print_exc()
            self._send(_out_of_memory(), job)
        except Exception as error:  # noqa: BLE001 - whatever a job raises, the engine lives on and says so
            traceback.print_exc()
            self._send(_failure(error), job)
        self._send(JobDone(), job)

    def _describe(self, message: Message) -> None:
        """Answer what a training would need; an error is an answer too."""
        if self.inbox.waits():
            return
        request = int(message["request"])
        try:
            from napari_ctxseg.training.describe import describe

            facts = message["facts"]
            known = Facts(**(facts | {"shape": tuple(facts["shape"])}))
            answer = describe(parse_config(message["config"]), known, request)
        except CtxsegError as error:
            answer = Described(request, problem=str(error))
        except Exception as error:  # noqa: BLE001 - an estimate that fails must not end the engine
            traceback.print_exc()
            answer = Described(
                request, problem=f"The needs of this model cannot be told ({type(error).__name__}: {error})."
            )
        self._send(answer, 0)

    def _events(self, message: Message, job: int) -> Iterator[Event]:
        """The core's generator for a request."""
        scratch = Scratch(self.scratch.folder, "v")

        def stop() -> bool:
            return self.inbox.stopped(job)

        if message["type"] == "maps":
            request = read_maps(message, scratch)
            self._maps.adopt(request)
            if not self.inbox.newer_maps():
                yield from self._maps.answer(request, job, self.inbox.newer_maps)
            return
        if message["type"] == "predict":
            from napari_ctxseg.inference import predict

            device = DeviceConfig.model_validate(message["device"])
            options = PredictConfig.model_validate(message.get("options") or {})
            case, first = read_case(message["case"], scratch), int(message.get("first") or 0)
            yield from predict(
                Path(message["run"]), case, device=device, options=options, stop=stop, first=first
            )
            return
        if message["type"] == "figure":
            from napari_ctxseg.engine.figure_lane import draw_figure

            if message.get("out") or not self.inbox.newer_figure():
                yield from draw_figure(message, self._threads)
            return
        if message["type"] == "compare":
            yield from _compare(message, stop)
            return
        from napari_ctxseg.training import fit

        config = parse_config(message["config"])
        cases = [read_case(values, scratch) for values in message["cases"]]
        yield from fit(
            config,
            cases,
            Path(message["out"]),
            stop=stop,
            visible=self.inbox.visible,
            resume=bool(message.get("resume", False)),
        )

    def _send(self, event: Event, job: int) -> None:
        if not self.inbox.orphaned.is_set():
            self.outbox.send(event_message(event, job, self.scratch))


def _compare(message: Message, stop: Callable[[], bool]) -> Iterator[Event]:
    """A comparison in a folder: a new one of the message's plan, or the folder's own, where it stood."""
    from napari_ctxseg.compare.plan import parse_plan
    from napari_ctxseg.compare.queue import CompareFolder
    from napari_ctxseg.training.comparison import run_comparison

    folder, given = CompareFolder(Path(message["folder"])), message.get("plan")
    plan = folder.plan() if given is None else parse_plan(given)
    device = plan.run.device
    device = device.model_copy(update={"threads": device.threads or int(message["threads"])})
    plan = plan.model_copy(update={"run": plan.run.model_copy(update={"device": device})})
    yield from run_comparison(
        plan, folder, resume=given is None, retry_failed=bool(message.get("retry_failed")), stop=stop
    )


def _sparse_steps(events: Iterator[Event]) -> Iterator[Event]:
    """Leave out steps that come too fast to be seen, but never the last one before another event."""
    held: Event | None = None
    last = 0.0
    for event in events:
        if isinstance(event, StepEnd) and time.monotonic() - last < STEP_INTERVAL:
            held = event
            continue
        if not isinstance(event, StepEnd) and held is not None:
            yield held
        held, last = None, time.monotonic() if isinstance(event, StepEnd) else last
        yield event
    if held is not None:
        yield held


def _out_of_memory() -> JobFailed:
    return JobFailed(
        "The computer ran out of memory.",
        "Choose a smaller patch or batch, or a 2-D model, and close other programs.",
        _log_path(),
    )


def _failure(error: Exception) -> JobFailed:
    text = str(error)
    if "out of memory" in text.lower() or "DefaultCPUAllocator" in text:
        return _out_of_memory()
    first = text.strip().splitlines()[0] if text.strip() else "no message"
    return JobFailed(f"{type(error).__name__}: {first}", "The log file says where. Try again.", _log_path())


def _log_path() -> str:
    return os.environ.get("CTXSEG_ENGINE_LOG", "")


def _bound_log() -> None:
    """Start the log over when something has filled it."""
    if sys.stderr is None or not _log_path():
        return
    try:
        fd = sys.stderr.fileno()
        if os.fstat(fd).st_size > MOST_LOG_BYTES:
            os.ftruncate(fd, 0)
            os.write(fd, b"(the log had grown too long and starts over)\n")
    except OSError:
        return


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--read-fd", type=int, required=True)
    parser.add_argument("--write-fd", type=int, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--lane", choices=["job", "maps", "figures"], required=True)
    args = parser.parse_args()
    read_fd, write_fd = _open_fd(args.read_fd, os.O_RDONLY), _open_fd(args.write_fd, os.O_WRONLY)
    if hasattr(os, "nice"):
        os.nice(NICE[args.lane])

    inbox = Inbox(read_fd, args.scratch)
    inbox.start()  # before the slow imports: a viewer that dies now must not leave us behind
    outbox = Outbox(write_fd, inbox)

    outbox.send({"type": "ready", "device": _load(args.lane, args.threads)})
    Worker(inbox, outbox, args.scratch, args.threads).serve()
    shutil.rmtree(args.scratch, ignore_errors=True)  # the viewer is gone: nobody else will


def _load(lane: str, threads: int) -> str:
    """Import what the lane needs, so that its first job starts at once; says what it computes on."""
    if lane == "figures":  # torch comes later, and only if a recipe needs it
        import napari_ctxseg.engine.figure_lane

        return "CPU"
    import torch

    torch.set_num_threads(threads)
    if lane == "maps":  # the network's half comes later, and only if a network is looked at
        import napari_ctxseg.losses.anatomy

        return "CPU"
    import napari_ctxseg.inference
    import napari_ctxseg.training  # noqa: F401
    from napari_ctxseg.training.plan import device_text, resolve_device

    return device_text(resolve_device(DeviceConfig(threads=threads)))


def _open_fd(number: int, flags: int) -> int:
    """File descriptor of an inherited one; on Windows it comes as a handle (not tested there)."""
    if sys.platform == "win32":
        import msvcrt

        return msvcrt.open_osfhandle(number, flags)
    return number


if __name__ == "__main__":
    main()
