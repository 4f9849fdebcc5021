"""The viewer's side of an engine. No Qt, no torch: a timer, or a plain loop, calls `EngineClient.poll`."""

from __future__ import annotations

import atexit
import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_ctxseg.engine.protocol import (
    KILLED,
    Lines,
    ProtocolError,
    Scratch,
    array_names,
    case_message,
    decode,
    encode,
    read_event,
    what_helps,
    why_ended,
)
from napari_ctxseg.engine.requests import MapsRequest, compare_message, figure_message, maps_message
from napari_ctxseg.errors import CtxsegError
from napari_ctxseg.events import Described, Event, JobDone, JobFailed, Note

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_ctxseg.cases import Case
    from napari_ctxseg.compare.plan import ComparePlan
    from napari_ctxseg.config import DeviceConfig, PredictConfig, RunConfig
    from napari_ctxseg.config.combinations import Facts

State = Literal["starting", "ready", "busy", "dead"]
Lane = Literal["job", "maps", "figures"]
Message = dict[str, Any]

WORKER = ("-m", "napari_ctxseg.engine.worker")

#: Engines that were told to end and may still be saving a checkpoint. They are waited for at exit, briefly.
_ending: list[subprocess.Popen[bytes]] = []


class EngineError(CtxsegError):
    """The engine process cannot be started or reached."""


def spare_threads() -> int:
    """All cores but one: the last belongs to the screen."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:
        cores = os.cpu_count() or 1
    return max(1, cores - 1)


class EngineClient:
    """Starts an engine process, gives it jobs, and hands on what it says.

    Parameters
    ----------
    threads : int, optional
        CPU threads of the engine; one core is left to the screen when left out.
    program : sequence of str
        What the interpreter runs; tests give a program of their own.
    lane : str
        ``"job"`` trains and predicts, one job at a time. ``"maps"`` computes what a loss sees, on the CPU, and
        ``"figures"`` draws recipes; the newest request wins.
    """

    def __init__(
        self, threads: int | None = None, program: Sequence[str] = WORKER, lane: Lane = "job"
    ) -> None:
        self.threads = threads or spare_threads()
        self.lane: Lane = lane
        self.device = ""
        self.go_on = "; press Train to go on" if lane == "job" else ""  # after it has died
        self.returncode: int | None = None
        self.state: State = "dead"
        self.log = Path()
        self._program = tuple(program)
        self._process: subprocess.Popen[bytes] | None = None
        self._job = self._asked = self._early = 0  # the last: deaths in a row while it was starting
        self._was_ready = self._killed = False
        self._events: list[Message] = []
        self._left: list[Path] = []
        self._pipe = threading.Lock()  # jobs are begun off the GUI thread, the pipe is closed on it

    # ------------------------------------------------------------ life of the process

    @property
    def pid(self) -> int | None:
        """Process id of the running engine."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process and return at once; `poll` says when it is ready.

        Raises
        ------
        EngineError
            If the process cannot be started.
        """
        if self._process is not None:
            return
        folder = Path(tempfile.mkdtemp(prefix="ctxseg-"))
        self.log = folder / "engine.log"
        self._scratch, self._lines, self._events = Scratch(folder, "v"), Lines(), []
        self._was_ready, self._killed, self.returncode, self.device = False, False, None, ""
        child_read, self._write_fd = os.pipe()
        self._read_fd, child_write = os.pipe()
        try:
            self._process = self._spawn(folder, child_read, child_write)
        except OSError as error:
            self._close_pipes()
            shutil.rmtree(folder, ignore_errors=True)
            raise EngineError("engine", f"cannot be started ({error})", "Reinstall napari-ctxseg") from error
        finally:
            os.close(child_read)
            os.close(child_write)
        os.set_blocking(self._read_fd, False)  # on Windows from Python 3.12 on
        self.state = "starting"

    def _spawn(self, folder: Path, child_read: int, child_write: int) -> subprocess.Popen[bytes]:
        threads = str(self.threads)
        environment = os.environ | {
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads take the core that draws the screen
            "CTXSEG_ENGINE_LOG": str(self.log),
        }
        options: dict[str, Any] = {"env": environment, "stdin": subprocess.DEVNULL}
        if sys.platform == "win32":  # not tested there
            import msvcrt

            handles = [msvcrt.get_osfhandle(child_read), msvcrt.get_osfhandle(child_write)]
            for handle in handles:
                os.set_handle_inheritable(handle, True)
            startup = subprocess.STARTUPINFO()
            startup.lpAttributeList = {"handle_list": handles}
            options |= {"startupinfo": startup, "creationflags": subprocess.BELOW_NORMAL_PRIORITY_CLASS}
        else:
            handles = [child_read, child_write]
            # A process group of its own: Ctrl-C in the viewer's terminal must not tear a checkpoint. Not a session
            # of its own: Linux shares the processor between sessions, and `nice` would count for nothing.
            options |= {"pass_fds": handles, "process_group": 0}
        # -P: a file of the person's working folder that is called torch.py must not be imported.
        command = [sys.executable, "-P", "-u", *self._program]
        command += ["--read-fd", str(handles[0]), "--write-fd", str(handles[1])]
        command += ["--scratch", str(folder), "--threads", threads, "--lane", self.lane]
        with self.log.open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, **options)

    def kill(self) -> None:
        """End the process at once. The last checkpoint stays; `poll` then starts a fresh engine."""
        if self._process is not None:
            self._killed = True
            self._process.kill()

    def close(self) -> None:
        """Let go of the engine: it ends its step, saves a checkpoint and exits by itself. Returns at once."""
        process, self._process = self._process, None
        if process is None:
            return
        self._close_pipes()  # the engine reads the end of the pipe and knows
        self.state, self.device = "dead", ""
        for folder in self._left:
            shutil.rmtree(folder, ignore_errors=True)
        _ending[:] = [p for p in _ending if p.poll() is None]
        if process.poll() is None:
            _ending.append(process)
        else:
            shutil.rmtree(self._scratch.folder, ignore_errors=True)

    def _close_pipes(self) -> None:
        with self._pipe:
            os.close(self._write_fd)
            os.close(self._read_fd)
            self._write_fd = self._read_fd = -1

    # ------------------------------------------------------------ jobs

    def train(self, config: RunConfig, cases: Sequence[Case], out: Path, *, resume: bool = False) -> None:
        """Begin a training. Writes the images to disk: slow for large ones, so call it off the GUI thread.

        Raises
        ------
        EngineError
            If the engine is not ready or the arrays cannot be written.
        """
        if config.device.threads is None:
            config = config.updated(device=config.device.model_dump() | {"threads": self.threads})
        self._begin(
            lambda: {
                "type": "train",
                "config": config.model_dump(mode="json"),
                "cases": [case_message(case, self._scratch) for case in cases],
                "out": str(out.absolute()),
                "resume": resume,
            }
        )

    def predict(
        self,
        run: Path,
        case: Case,
        device: DeviceConfig,
        options: PredictConfig | None = None,
        first: int = 0,
    ) -> None:
        """Begin a prediction, with slice `first` where the network sees slices. Writes the image to disk, see `train`."""
        device = device.model_copy(update={"threads": device.threads or self.threads})
        values = {"device": device, "options": options}
        plain = {
            name: None if each is None else each.model_dump(mode="json") for name, each in values.items()
        }
        message = {"type": "predict", "run": str(run.absolute()), "first": int(first), **plain}
        self._begin(lambda: {**message, "case": case_message(case, self._scratch)})

    def compare(self, folder: Path, plan: ComparePlan | None = None, *, retry_failed: bool = False) -> None:
        """Begin a comparison in a folder; without a plan go on with the one in it, where it stood."""
        self._begin(lambda: compare_message(folder, plan, self.threads, retry_failed=retry_failed))

    def describe(self, config: RunConfig, facts: Facts) -> int:
        """Ask a ready engine what a training would need; returns the number that the answer carries."""
        if self.state != "ready":
            raise EngineError("engine", f"is {self.state}", "Wait until it is ready")
        self._asked += 1
        message = {"type": "describe", "request": self._asked, "config": config.model_dump(mode="json")}
        self._send(message | {"facts": dataclasses.asdict(facts)})
        return self._asked

    def maps(self, request: MapsRequest) -> int:
        """Ask what a loss sees; also while an earlier request is computed, which then gives way.

        Writes the arrays to disk, see `train`. Returns the number that the answers carry.

        Raises
        ------
        EngineError
            If the engine is not ready or the arrays cannot be written.
        """
        return self._newest(lambda: maps_message(request, self._scratch))

    def figure(self, recipe: Path, out: Path | None = None, width: int = 800) -> int:
        """Ask for the preview of a recipe, about so many pixels wide, or for its picture; a newer preview replaces it."""
        return self._newest(lambda: figure_message(recipe, out, width))

    def _newest(self, build: Callable[[], Message]) -> int:
        if self.state not in ("ready", "busy"):
            raise EngineError("engine", f"is {self.state}", "Wait until it is ready")
        self._job += 1
        number, self._scratch.generation = self._job, self._job
        try:
            message = build() | {"job": number}
        except OSError as error:
            raise self._unwritable(error) from error
        self.state = "busy"
        self._send(message)
        return number

    def _unwritable(self, error: OSError) -> EngineError:
        return EngineError(self._scratch.folder, f"cannot be written ({error})", "Free some space")

    def _begin(self, build: Callable[[], Message]) -> None:
        if self.state != "ready":
            raise EngineError("engine", f"is {self.state}", "Wait until it is ready")
        self._job += 1
        self.state = "busy"
        self._scratch.generation = self._job
        try:
            self._scratch.sweep(self._job)
            message = build() | {"job": self._job}
        except OSError as error:
            self.state = "ready"
            raise self._unwritable(error) from error
        except BaseException:
            self.state = "ready"
            raise
        self._send(message)

    def stop(self) -> None:
        """Ask the running job to end after its step, with a checkpoint."""
        if self.state == "busy":
            self._send({"type": "stop", "job": self._job})

    def set_visible(self, case: str, index: int) -> None:
        """Say which slice the person looks at: previews are made of it."""
        if self._process is not None:
            self._send({"type": "visible", "case": case, "index": int(index)})

    def _send(self, message: Message) -> None:
        # The engine's own thread empties this pipe at all times, so the write does not wait.
        data = memoryview(encode(message))
        with self._pipe:
            try:
                while data and self._write_fd >= 0:
                    data = data[os.write(self._write_fd, data) :]
            except OSError:
                return  # the engine is dying; `poll` finds out and says so

    # ------------------------------------------------------------ what it says

    def poll(self, seconds: float = 0.02) -> list[Event]:
        """Events since the last call; returns after about `seconds` even when there are more.

        When the engine has died, an event says why, and a fresh one is started (unless it died at its start).
        """
        if self._process is None:
            return []
        deadline = time.monotonic() + seconds
        events: list[Event] = []
        try:
            ended = self._receive()
            while self._events and time.monotonic() < deadline:
                events += self._handle(self._events.pop(0))
        except CtxsegError as error:
            self._process.kill()
            return [*events, *self._died(str(error))]
        if ended and not self._events:
            events += self._died()
        return events

    def _receive(self) -> bool:
        """Read what is in the pipe, at most a little; True when the engine has closed it."""
        for _ in range(8):
            try:
                data = os.read(self._read_fd, 65536)
            except BlockingIOError:
                return False
            if not data:
                return True
            self._events += map(decode, self._lines.feed(data))
        return False

    def _handle(self, message: Message) -> list[Event]:
        kind = message["type"]
        if kind == "ready":
            self.state, self.device, self._was_ready = "ready", str(message.get("device", "")), True
            self._early = 0
            return []
        if kind == "error":
            return [Note(str(message.get("error", "")), "warning")]
        if kind != "event":
            raise ProtocolError(f"unknown message {kind!r}")
        current = message.get("job") == self._job
        if message.get("event") == Described.__name__:  # belongs to no job
            return [read_event(message, self._scratch.take)]
        if not current and self.lane == "job":  # a job that is over; its arrays are of no use
            for name in array_names(message):
                self._scratch.path(name).unlink(missing_ok=True)
            return []
        event = read_event(message, self._scratch.take)
        if isinstance(event, JobDone) and current:
            self.state = "ready"
        return [event]

    def _died(self, reason: str = "") -> list[Event]:
        """Bury the process, tell why it died, start another."""
        process, was_busy = self._process, self.state == "busy"
        if process is None:
            return []
        try:
            self.returncode = process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            process.kill()
            self.returncode = process.wait()
        self._close_pipes()
        self._process, self.state = None, "dead"
        # The log in it stays while the viewer is open: messages name it.
        self._left.append(self._scratch.folder)
        self._scratch.sweep(self._job + 1)
        self._early += not self._was_ready
        again = self._was_ready or self._killed or (self.returncode in KILLED and self._early == 1)
        told: Event = Note("The engine was ended at once; the last checkpoint is kept.")
        if not self._killed:
            remedy = f"A fresh engine is starting{self.go_on}." if again else what_helps(self.returncode)
            told = JobFailed(reason or f"The engine {why_ended(self.returncode)}.", remedy, str(self.log))
        if again:
            self.start()
        return [told, JobDone()] if was_busy else [told]


@atexit.register
def _wait_for_ending() -> None:
    """Give engines that are saving a checkpoint a moment, so that they hardly outlive the viewer."""
    deadline = time.monotonic() + 5
    for process in _ending:
        try:
            process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return
