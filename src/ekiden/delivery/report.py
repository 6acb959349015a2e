"""What a local delivery says when it ends: plain values, so that qmail-local starts without msgspec.

The verdicts are base.outcome.Verdict's numbers. A text is what a person reads and what the log shows; it carries its
enhanced status code (RFC 3463) in qmail's form ``(#4.2.1)`` before the end of the line.
"""

from __future__ import annotations

import errno
import os

DELIVERED = 0
DEFERRED = 1
FAILED = 2
ELSEWHERE = 3
"""Nothing was done: this process has given up what the delivery takes, and another one has to carry it out."""

DAMAGED = "This message is not what came in; see ekiden audit. (#4.3.0)\n"
"""Why a content of which the checksum is another one is not delivered."""

REPORT_OCTETS = 3000
"""Longest report; a program may print anything."""

_CUT = b"\nThe rest of this report was cut off.\n"

_TEMPORARY = frozenset(
    {
        errno.EINTR,
        errno.ENOMEM,
        errno.ETXTBSY,
        errno.EIO,
        errno.ETIMEDOUT,
        errno.EAGAIN,
        errno.EDEADLK,
        errno.EBUSY,
        errno.ENFILE,
        errno.EMFILE,
        errno.EFBIG,
        errno.ENOSPC,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENETRESET,
        errno.ECONNABORTED,
        errno.ECONNRESET,
        errno.ENOBUFS,
        errno.ETOOMANYREFS,
        errno.ECONNREFUSED,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EUSERS,
        errno.EDQUOT,
        errno.ESTALE,
        errno.ENOLCK,
    }
)

_FULL = {errno.ENOSPC: "4.3.1", errno.EDQUOT: "4.2.2"}


class Trouble(Exception):
    """A delivery stops here, with a verdict and one line of text (no newline; empty: a program has said it all)."""

    def __init__(self, verdict: int, text: str) -> None:
        super().__init__(text)
        self.verdict = verdict
        self.text = text


class Report:
    """How one recipient's delivery ended; ``text`` is lines, each ended by a newline, or empty."""

    __slots__ = ("text", "verdict")

    def __init__(self, verdict: int, text: str) -> None:
        self.verdict = verdict
        self.text = text

    def __repr__(self) -> str:
        return f"Report({self.verdict}, {self.text!r})"


def deferred(text: str) -> Trouble:
    """Try again later."""
    return Trouble(DEFERRED, text)


def failed(text: str) -> Trouble:
    """Trying again is of no use."""
    return Trouble(FAILED, text)


def unable(what: str, error: OSError, status: str = "4.3.0", also: str = "") -> Trouble:
    """A deferral because of a failed system call; a full disk or quota has its own enhanced status code.

    ``also`` goes on with the sentence.
    """
    code = error.errno or 0
    return deferred(f"Unable to {what}: {os.strerror(code)}{also}. (#{_FULL.get(code, status)})")


def is_temporary(error: OSError) -> bool:
    """Whether the error may go away by itself, as qmail's error_temp(3) has it."""
    return error.errno in _TEMPORARY


def readable(octets: bytes) -> str:
    """Octets for a report: UTF-8 as it is, anything else as escapes."""
    return octets.decode("utf-8", "backslashreplace")


def cut(output: bytes) -> bytes:
    """A program's output as it goes into a report: no longer than REPORT_OCTETS, ended at the first NUL."""
    output = output.partition(b"\0")[0]
    return output if len(output) <= REPORT_OCTETS else output[: REPORT_OCTETS - len(_CUT)] + _CUT
