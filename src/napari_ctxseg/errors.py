"""The one error class that people see: it names the thing, the reason and the remedy."""

from __future__ import annotations


class CtxsegError(Exception):
    """Something the person can put right.

    Parameters
    ----------
    subject : str
        What it is about: a file, a layer, a setting.
    reason : str
        What is wrong with it.
    remedy : str
        What to do about it.
    """

    def __init__(self, subject: object, reason: str, remedy: str = "") -> None:
        self.subject, self.reason, self.remedy = str(subject), reason.rstrip("."), remedy.rstrip(".")
        text = f"{self.subject}: {self.reason}."
        super().__init__(f"{text} {self.remedy}." if self.remedy else text)

    def __reduce__(self) -> tuple[type[CtxsegError], tuple[str, str, str]]:
        return type(self), (self.subject, self.reason, self.remedy)


class FileError(CtxsegError):
    """A file cannot be read or written, or does not hold what it says."""


class InputError(CtxsegError):
    """Images, labels or settings that do not fit together."""


class CheckpointError(CtxsegError):
    """A run or checkpoint that is damaged, foreign, or from a newer version."""
