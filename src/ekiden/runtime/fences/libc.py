"""The C library, for what Python has no name for."""

from __future__ import annotations

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NAME, PR_SET_NO_NEW_PRIVS = 1, 4, 8, 15, 38
"""What prctl(2) can be asked for."""


def checked(result: int) -> int:
    """What a function of ``libc`` has returned; OSError if that is negative, for the reason that errno tells."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
