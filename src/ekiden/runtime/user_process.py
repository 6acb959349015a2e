"""What a process does that was forked to work as a user: let go of all that was open, and become that user."""

from __future__ import annotations

import os


def become(uid: int, gid: int) -> None:
    """As root, change to this user and group for good. Raises OSError, also if this process is another user then."""
    if os.geteuid() == 0:
        # qmail-lspawn(8): no supplementary groups.
        os.setgroups([gid])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    if not uid or os.getresuid() != (uid,) * 3:
        raise PermissionError("did not become the user")


def close_all_but(kept: frozenset[int]) -> None:
    """Put /dev/null in the place of every other descriptor.

    They are not closed, because objects that came along with the fork may still close their numbers later, which
    must not hit files that were opened meanwhile.
    """
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for name in os.listdir("/proc/self/fd"):
        descriptor = int(name)
        if descriptor not in kept and descriptor != null:
            os.dup2(null, descriptor, inheritable=descriptor <= 2)
