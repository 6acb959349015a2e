"""Being somebody else than root, and yet looking into every directory as root does (capabilities(7))."""

from __future__ import annotations

import ctypes
import struct

from ekiden.runtime.fences.libc import PR_SET_KEEPCAPS, checked, libc
from ekiden.runtime.privilege import Identity, become

_HEADER = struct.pack("=Ii", 0x20080522, 0)
"""Version 3, this process (capget(2))."""
_SETS = struct.Struct("=6I")
"""Effective, permitted and inheritable capabilities: the first 32, then the others."""
_READ_SEARCH = 1 << 2
"""CAP_DAC_READ_SEARCH."""


def become_finder(identity: Identity | None) -> None:
    """As root: be this user for good, who can find and read every file still, but change none and be nobody else.

    Without effect where root itself has not that capability, as in some containers. Raises OSError.
    """
    if identity is None or not _permitted() & _READ_SEARCH:
        return
    checked(libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0))
    become(identity)
    checked(libc.capset(_HEADER, _SETS.pack(_READ_SEARCH, _READ_SEARCH, 0, 0, 0, 0)))


def _permitted() -> int:
    """The first 32 capabilities that this process may have."""
    sets = ctypes.create_string_buffer(_SETS.size)
    checked(libc.capget(_HEADER, sets))
    return int(_SETS.unpack(sets.raw)[1])
