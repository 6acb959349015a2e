"""Room on the device that is kept for recording results when there is no other left."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from ekiden.queue.damage import FILE

_LOG_SHARE = 16
"""The write-ahead log takes at most about this part of the device before it is written back."""
_RESERVE_OCTETS = 4 * 1024 * 1024
_PROBE = 65_536
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Reserve:
    """A file that takes up room on the device, to be given up when there is no other left."""

    def __init__(self, directory: Path, log_size: int) -> None:
        statistics = os.statvfs(directory)
        device_size = statistics.f_blocks * statistics.f_frsize
        self.log_size = min(log_size, device_size // _LOG_SHARE)
        self._directory = directory
        self._path = directory / "reserve"
        self.size = min(_RESERVE_OCTETS, device_size // 8)
        self._whole = self._path.exists() and self._path.stat().st_blocks * 512 >= self.size
        self.restore()

    def restore(self) -> bool:
        """Make the file whole; False if there is no room for it."""
        if not self._whole and self.room_for_log() > self.size + self.log_size:
            try:
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                # There is room but no inode for it, or a quota is used up, of which statvfs says nothing.
                if error.errno in _FULL:
                    return False
                raise
            try:
                os.posix_fallocate(descriptor, 0, self.size)
                self._whole = True
            except OSError:
                # Some file systems need room even for that; then the next try goes on with what is there.
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, 0)
            finally:
                os.close(descriptor)
        return self._whole

    def room_for_log(self) -> int:
        """Octets that the write-ahead log can use: what it has, and what is free on the device."""
        statistics = os.statvfs(self._directory)
        log = self._directory / f"{FILE}-wal"
        return statistics.f_bavail * statistics.f_frsize + (log.stat().st_size if log.exists() else 0)

    def quota_is_used_up(self) -> bool:
        """Whether nothing more can be written here for want of room."""
        path = self._directory / "probe"
        try:
            with path.open("wb", buffering=0) as probe:
                probe.write(bytes(_PROBE))
        except OSError as error:
            return error.errno in _FULL
        finally:
            with contextlib.suppress(OSError):
                path.unlink()
        return False

    def release(self) -> bool:
        """Give up the room; False if it was given up already."""
        released, self._whole = self._whole, False
        self._path.unlink(missing_ok=True)
        return released
