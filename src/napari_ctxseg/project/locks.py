"""Locks against two writers: the system's own file lock, and a note that says who holds it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

from napari_ctxseg.atomic import file_error
from napari_ctxseg.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

#: A holder on another machine that has not refreshed its lock for this long, in seconds, is taken to be gone.
STALE = 180.0
#: Windows locks bytes for readers too; this one lies far behind the note, so that the note can be read.
_FAR = 1 << 30
_HELD = {errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK, errno.EDEADLK}


class LockedError(InputError):
    """Somebody else writes here."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lock; `time` is when it was last refreshed, `born` when its process began (seconds since 1970)."""

    host: str
    pid: int
    time: float
    born: float = 0.0

    def __str__(self) -> str:
        at = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.time))
        return f"process {self.pid} on {self.host} (last seen {at})"


class Lock:
    """A lock that is held until `release`, the end of a ``with`` block, or the end of the process.

    Make one with `acquire`.

    Parameters
    ----------
    path : Path
        The lock file. It stays when the lock is released.
    handle : int
        Open file descriptor that holds the system's lock.
    """

    def __init__(self, path: Path, handle: int) -> None:
        self.path, self._handle = path, handle
        self.refresh()

    @property
    def held(self) -> bool:
        """Whether it has not been released."""
        return self._handle >= 0

    def refresh(self) -> None:
        """Say that the holder is alive. On a network share do so at least once a minute.

        Raises
        ------
        FileError
            If the disk is full or the folder gone.
        """
        me = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "time": time.time(),
            "born": _born(os.getpid()),
        }
        self._note(json.dumps(me).encode())

    def release(self) -> None:
        """Let others write. Does nothing a second time."""
        if self._handle < 0:
            return
        handle, self._handle = self._handle, -1
        with contextlib.suppress(OSError):
            os.ftruncate(handle, 0)
        with contextlib.suppress(OSError):
            _unlock(handle)
        with contextlib.suppress(OSError):
            os.close(handle)

    def _note(self, data: bytes) -> None:
        try:
            os.lseek(self._handle, 0, os.SEEK_SET)
            os.write(self._handle, data)
            os.ftruncate(self._handle, len(data))
        except OSError as error:
            raise file_error(self.path, error) from error

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def acquire(path: Path, what: str) -> Lock:
    """Take a lock, over from a process that is dead if need be.

    Parameters
    ----------
    path : Path
        The lock file; its folder must exist.
    what : str
        What is locked, for messages: ``"the labels of this project"``.

    Raises
    ------
    LockedError
        If somebody else holds it; the message says who.
    FileError
        If the folder cannot be written to.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    except OSError as error:
        raise file_error(path, error) from error
    try:
        local = _try_lock(handle)
        other = holder(path)
        if local is False or (other is not None and _alive(other, local)):
            raise LockedError(
                path.parent,
                f"{what} are being changed by {other or 'another program'}",
                "Close it there first; until then it opens for reading only",
            )
        return Lock(path, handle)
    except BaseException:
        os.close(handle)
        raise


def holder(path: Path) -> Holder | None:
    """Who holds a lock, or None if nobody says so."""
    try:
        values: Any = json.loads(path.read_bytes()[:4096])
        return Holder(
            str(values["host"]), int(values["pid"]), float(values["time"]), float(values.get("born", 0))
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _alive(other: Holder, local: bool | None) -> bool:
    """Whether a note is of a living process; `local` True: this machine's own lock was free."""
    if other.host == socket.gethostname():
        if local or not psutil.pid_exists(other.pid):
            return False
        return abs(_born(other.pid) - other.born) < 2  # else the number has been given to another process
    # Locks of network shares often do not reach other machines: only the note's age tells.
    return abs(time.time() - other.time) < STALE


def _born(pid: int) -> float:
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return 0.0


def _try_lock(handle: int) -> bool | None:
    """True: locked. False: somebody else has it. None: this file system has no locks."""
    try:
        if os.name == "nt":
            import msvcrt

            os.lseek(handle, _FAR, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in _HELD else None
    return True


def _unlock(handle: int) -> None:
    if os.name == "nt":
        import msvcrt

        os.lseek(handle, _FAR, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_UN)
