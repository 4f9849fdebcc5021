"""Replace a file as a whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from napari_ctxseg.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Callable

_TEMP = re.compile(r"^\.ctxseg-(\d+)-[0-9a-f]{12}\.tmp(\.|$)")
_FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC, errno.EFBIG}


def write_atomic(
    path: str | os.PathLike[str],
    writer: Callable[[Path], None],
    *,
    check: Callable[[Path], None] | None = None,
    suffix: str = "",
    sync: bool = True,
) -> None:
    """Write a file next to its final place, check it, then move it there in one step.

    Until the last step a file that is already there stays as it was; afterwards it is the new one as a whole.
    A new file gets the mode of the umask, a replaced one keeps its own. A link is followed, not replaced.

    Parameters
    ----------
    path : path
        The final name. Its folder must exist.
    writer : callable
        Gets the temporary path (an empty file) and fills it.
    check : callable, optional
        Gets the filled temporary path and raises if it is not what it should be.
    suffix : str
        Ending of the temporary name, for writers that go by it.
    sync : bool
        Whether the new name is forced to disk too. Without it call `sync_folder` once after writing many files.

    Raises
    ------
    FileError
        If the disk is full, the folder is missing or not writable, or `path` is not a plain file.
    """
    target = _target(path)
    temp = target.with_name(f".ctxseg-{os.getpid()}-{secrets.token_hex(6)}.tmp{suffix}")
    try:
        os.close(os.open(temp, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        if target.exists():
            os.chmod(temp, stat.S_IMODE(target.stat().st_mode))
        writer(temp)
        _sync(temp)
        if check is not None:
            check(temp)
        os.replace(temp, target)
        if sync:
            sync_folder(target.parent)
    except OSError as error:
        raise file_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temp.unlink(missing_ok=True)


def write_bytes_atomic(path: str | os.PathLike[str], data: bytes, *, sync: bool = True) -> None:
    """Write bytes as `write_atomic` does, and read them back before they take the final name.

    Parameters
    ----------
    path : path
        The final name.
    data : bytes
        The whole content.
    sync : bool
        As for `write_atomic`.

    Raises
    ------
    FileError
        As `write_atomic`, or if the bytes on disk are not the ones written.
    """

    def check(temp: Path) -> None:
        if temp.read_bytes() != data:
            raise FileError(
                path, "what was written does not read back the same", "Check the disk, then try again"
            )

    write_atomic(path, lambda temp: _fill(temp, data), check=check, sync=sync)


def sweep_stale(folder: str | os.PathLike[str]) -> list[Path]:
    """Remove temporary files that a killed process left in a folder.

    Parameters
    ----------
    folder : path
        Only files directly in it are looked at, and only names that `write_atomic` makes.

    Returns
    -------
    list of Path
        What was removed. Files of processes that still run on this machine stay.
    """
    removed = []
    for entry in Path(folder).iterdir():
        match = _TEMP.match(entry.name)
        if match and not _alive(int(match[1])):
            with contextlib.suppress(OSError):
                entry.unlink()
                removed.append(entry)
    return removed


def _target(path: str | os.PathLike[str]) -> Path:
    try:
        target = Path(path).resolve()
        known = target.stat() if target.exists() else None
    except (OSError, ValueError, RuntimeError) as error:  # a loop of links, a NUL in the name
        raise FileError(path, f"is not a usable name ({error})", "Choose another name") from error
    # Renaming over a device or a pipe would replace it for every other program.
    if known is not None and not stat.S_ISREG(known.st_mode):
        raise FileError(path, "is there already and is not a plain file", "Choose another name")
    return target


def _fill(temp: Path, data: bytes) -> None:
    with open(temp, "wb") as file:
        file.write(data)


def _sync(path: Path) -> None:
    with open(path, "r+b") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to disk: a file that was renamed there stays there when the power goes."""
    if os.name == "nt":  # Windows cannot open a folder; NTFS journals the rename itself
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems cannot sync a folder. The file itself is on disk by now.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def file_error(path: str | os.PathLike[str], error: OSError) -> FileError:
    """The system's complaint about writing a file, as a person can use it."""
    if error.errno in _FULL:
        return FileError(
            path, "cannot be written: the disk or the quota is full", "Free some space and try again"
        )
    reason = error.strerror or str(error)
    return FileError(
        path, f"cannot be written: {reason}", "Choose a folder that exists and that you may write to"
    )


def _alive(pid: int) -> bool:
    if pid == os.getpid():
        return True
    if os.name == "nt":  # os.kill would end the process there
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
