"""Who each role runs as, and how it becomes that user for good (design: processes that do not trust each other)."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

USERS = {"queue": "qmailq", "smtpd": "qmaild", "remote": "qmailr", "log": "qmaill", "pop3d": "nobody"}
"""qmail's user for each role but those of ``PRIVILEGED``.

Of ``pop3d`` it is the part that talks with clients; the part that becomes the user who has logged in stays root.
"""

PRIVILEGED = ("local", "keeper")
"""Those that begin as root, and become FINDER when they need it no more: ``local``, whose fork server makes a process
for each recipient, and ``keeper``, unless it runs programs.
"""

FINDER = "qmailp"
"""Who looks users up, as whom qmail runs qmail-getpw(8): ``local`` beside its fork server, and ``keeper``."""

READER = "qmails"
"""Who may look at the queue without being root, as qmail-qread(8) has it. No process of ours runs as this user."""

FALLBACK = "nobody"


@dataclass(frozen=True)
class Identity:
    """A user and its group by number."""

    uid: int
    gid: int

    def may_read(self, status: os.stat_result) -> bool:
        """Whether the mode of a file lets this user, who is not root, read it."""
        if status.st_uid == self.uid:
            return bool(status.st_mode & stat.S_IRUSR)
        return bool(status.st_mode & (stat.S_IRGRP if status.st_gid == self.gid else stat.S_IROTH))


@dataclass(frozen=True)
class Identities:
    """The identity of each role, None where privileges are kept, and the qmail users that do not exist.

    ``reader`` is READER's, None where it is nobody's; ``finder`` FINDER's, None where there is one user alone.
    """

    roles: dict[str, Identity | None]
    missing: tuple[str, ...] = ()
    reader: Identity | None = None
    finder: Identity | None = None


def identities(home: Path) -> Identities:
    """Who the roles are to be.

    Not root: everyone is the one user. Root with a home owned by somebody else: everyone is that user. Root with
    its own home: qmail's users; those that do not exist are reported and replaced by ``nobody``.
    """
    if os.geteuid() != 0:
        return Identities(dict.fromkeys((*USERS, *PRIVILEGED)))
    owner = home.stat()
    if owner.st_uid != 0:
        everyone = Identity(owner.st_uid, owner.st_gid)
        return Identities(dict.fromkeys((*USERS, *PRIVILEGED), everyone))
    missing: list[str] = []
    roles: dict[str, Identity | None] = dict.fromkeys(PRIVILEGED)
    roles |= {role: _lookup_or_nobody(user, missing) for role, user in USERS.items()}
    finder = _lookup_or_nobody(FINDER, missing)
    return Identities(roles, tuple(missing), _lookup(READER), finder)


def _lookup_or_nobody(user: str, missing: list[str]) -> Identity:
    identity = _lookup(user)
    if identity is None:
        missing.append(user)
    return identity or _lookup(FALLBACK) or Identity(65534, 65534)


def _lookup(user: str) -> Identity | None:
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return None
    return Identity(entry.pw_uid, entry.pw_gid)


def become(identity: Identity | None, root: Path | None = None) -> None:
    """Change the root directory if asked to (root only), and give up everything but this identity, for good."""
    if identity is None:
        return
    if root is not None:
        os.chroot(root)
        os.chdir("/")
    os.setgroups([])
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)


def act_as_owner(home: Path) -> Path:
    """As root in a home of somebody else's: be its owner from now on, but for what ``as_root`` is used for.

    The home, by a path that its owner can follow: through a descriptor if it lies in a directory, as /root may be,
    that only root can search.
    """
    owner = home.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return home
    way = os.open(home, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.setgroups([])
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    if os.access(home, os.F_OK, effective_ids=True):
        os.close(way)
        return home
    return Path(f"/proc/self/fd/{way}")


def be_root_again() -> None:
    """Undo ``act_as_owner``."""
    if os.getuid() == 0 and os.geteuid() != 0:
        os.seteuid(0)
        os.setegid(0)


@contextmanager
def as_root() -> Iterator[None]:
    """Be root for as long as this lasts, if we act as a home's owner."""
    uid, gid = os.geteuid(), os.getegid()
    be_root_again()
    try:
        yield
    finally:
        os.setegid(gid)
        os.seteuid(uid)


def own(path: Path, identity: Identity | None, mode: int | None = None) -> None:
    """Give a file or directory to a role, as root; only the mode otherwise."""
    if identity is not None and os.geteuid() == 0:
        os.chown(path, identity.uid, identity.gid, follow_symlinks=False)
    if mode is not None:
        path.chmod(mode)


def own_tree(directory: Path, identity: Identity | None) -> None:
    """Give a directory and what is in it to a role, as root, where it does not own it yet."""
    if identity is None or os.geteuid() != 0:
        return
    for path in (directory, *directory.rglob("*")):
        if path.lstat().st_uid != identity.uid:
            own(path, identity)
