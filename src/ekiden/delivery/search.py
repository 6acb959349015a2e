"""Which .qmail file controls an address, and whether its owner lets it be used now (dot-qmail(5), qmail-local(8)).

Runs as the recipient's user. Errors that may pass, and files that must not be trusted, raise ``Trouble``.
"""

from __future__ import annotations

import errno
import os
import stat

from ekiden.delivery.report import deferred, is_temporary, readable, unable

FORBIDDEN_MODE = 0o002
"""Mode bits that a home directory and a .qmail file must not have (notqmail's conf-patrn)."""

_ABSENT = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ENAMETOOLONG,
        errno.ELOOP,
        errno.ENXIO,
        errno.ENODEV,
        errno.EISDIR,
        errno.EINVAL,
    }
)
"""Errors that say that there is no such file; mail is not delivered by other rules because of any other."""


class ControlFile:
    """A .qmail file that was found at ``path``.

    ``default``: what ``default`` in its name stands for, None if it has none.
    """

    __slots__ = ("default", "forward_only", "path", "text")

    def __init__(self, text: bytes, forward_only: bool, default: bytes | None, path: bytes = b"") -> None:
        self.text = text
        self.path = path
        self.forward_only = forward_only
        self.default = default


def check_home(home: bytes, delivering: bool = True) -> bool:
    """Refuse a home that others may write to, or whose owner is editing; whether it is sticky.

    A sticky home only defers if ``delivering``.
    """
    try:
        mode = os.stat(home).st_mode
    except OSError as error:
        raise unable(f"use home directory {readable(home)}", error) from None
    if not stat.S_ISDIR(mode):
        raise unable(f"use home directory {readable(home)}", NotADirectoryError(errno.ENOTDIR, "")) from None
    if mode & FORBIDDEN_MODE:
        raise deferred("The home directory is writable by others. (#4.7.0)")
    sticky = bool(mode & stat.S_ISVTX)
    if sticky and delivering:
        raise deferred("The home directory is sticky: its owner is editing .qmail. (#4.2.1)")
    return sticky


def safe_extension(ext: bytes) -> bytes:
    """The extension as it stands in file names: lower-case, dots as colons, so that it cannot climb."""
    return ext.lower().replace(b".", b":")


def find(home: bytes, dash: bytes, ext: bytes) -> ControlFile | None:
    """The file for this extension: the exact one, else the most specific ``default``; None if there is none."""
    safe = safe_extension(ext)
    stem = os.path.join(home, b".qmail" + dash)
    exact = _read(stem + safe)
    if exact is not None:
        text, forward_only = exact
        return ControlFile(text, forward_only, ext[-7:] if safe.endswith(b"default") else None, stem + safe)
    for end in range(len(safe), -1, -1):
        if end and safe[end - 1 : end] != b"-":
            continue
        path = stem + safe[:end] + b"default"
        found = _read(path)
        if found is not None:
            text, forward_only = found
            return ControlFile(text, forward_only, ext[end:], path)
    return None


def exists(home: bytes, dash: bytes, ext: bytes, suffix: bytes) -> bool:
    """Whether ``.qmail`` + dash + ext + suffix exists, whatever it is (``-owner``, ``-owner-default``)."""
    path = os.path.join(home, b".qmail" + dash) + safe_extension(ext) + suffix
    try:
        os.stat(path)
    except OSError as error:
        if is_temporary(error):
            raise unable(f"look for {readable(path)}", error) from None
        return False
    return True


def _read(path: bytes) -> tuple[bytes, bool] | None:
    """Text and execute bit of a .qmail file; None if there is no such file, or something else by that name."""
    try:
        # Without blocking, for there may be a FIFO by that name.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise unable(f"open {readable(path)}", error) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None
        if status.st_mode & FORBIDDEN_MODE:
            raise deferred("The .qmail file is writable by others. (#4.7.0)")
        return _read_all(descriptor, status.st_size), bool(status.st_mode & stat.S_IXUSR)
    except OSError as error:
        raise unable(f"read {readable(path)}", error) from None
    finally:
        os.close(descriptor)


def _read_all(descriptor: int, size: int) -> bytes:
    pieces = []
    while piece := os.read(descriptor, max(size, 4096) + 1):
        pieces.append(piece)
        if len(piece) <= size:
            # A short read of a regular file is its end; one system call saved per delivery.
            break
    return b"".join(pieces)
