"""Which user controls a local address: users/cdb first, then qmail-getpw's rules (qmail-users(5), qmail-getpw(8)).

The catch-all is the user ``alias`` with HOME/alias, so that two homes on one machine never meet. Started
unprivileged, there is only one user: an assignment in users/assign is followed if it names that user's uid, and every
other address is an extension of alias, whose files are the one user's.
"""

from __future__ import annotations

import os
import time

from ekiden.tables.cdb import Cdb
from ekiden.tables.table import TableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ALIAS = b"alias"
BREAK = b"-"
NAME_OCTETS = 32
"""Account names must be shorter (qmail-getpw(8))."""

REMEMBER_SECONDS = 1.0
"""How long the system's answer about an account is used; asking costs up to a millisecond with some databases."""

_REMEMBERED = 1000


class User:
    """Who controls an address: deliveries run as ``uid`` and ``gid`` by ``home``/.qmail + ``dash`` + ``ext``."""

    __slots__ = ("dash", "ext", "gid", "home", "name", "uid")

    def __init__(self, name: bytes, uid: int, gid: int, home: bytes, dash: bytes, ext: bytes) -> None:
        self.name = name
        self.uid = uid
        self.gid = gid
        self.home = home
        self.dash = dash
        self.ext = ext

    def _fields(self) -> tuple[bytes, int, int, bytes, bytes, bytes]:
        return self.name, self.uid, self.gid, self.home, self.dash, self.ext

    def __eq__(self, other: object) -> bool:
        return isinstance(other, User) and self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash(self._fields())

    def __repr__(self) -> str:
        return "User({!r}, {}, {}, {!r}, {!r}, {!r})".format(*self._fields())


class Account:
    """What the system knows about an account."""

    __slots__ = ("gid", "home", "name", "uid")

    def __init__(self, name: bytes, uid: int, gid: int, home: bytes) -> None:
        self.name = name
        self.uid = uid
        self.gid = gid
        self.home = home


class UsersUnavailable(Exception):
    """The user cannot be found out now; the text says why, with an enhanced status code. Try again later."""


if TYPE_CHECKING:
    Accounts = Callable[[bytes], Account | None]
    Assignments = Callable[[bytes], bytes | None]
    """A key of users/cdb to its value; None if there is none. TableError if the file cannot be read."""


def system_account(name: bytes) -> Account | None:
    """The account of that name in the system's user database."""
    import pwd

    try:
        entry = pwd.getpwnam(os.fsdecode(name))
    except (KeyError, ValueError):
        return None
    return Account(os.fsencode(entry.pw_name), entry.pw_uid, entry.pw_gid, os.fsencode(entry.pw_dir))


def assigned(local: bytes, assignments: Assignments) -> User | None:
    """The user that users/assign gives this address to; the longest wildcard that fits if it is not listed itself.

    Raises UsersUnavailable if the database cannot be understood.
    """
    key = b"!" + local.lower()
    try:
        exact = assignments(key + b"\0")
        if exact is not None:
            return _from_value(exact)
        last_octets = assignments(b"")
        if last_octets is None:
            raise ValueError("the list of wildcards is missing")
        for end in range(len(key), 0, -1):
            # The list says with which octets wildcards end, which spares most look-ups.
            if end == 1 or key[end - 1] in last_octets:
                value = assignments(key[:end])
                if value is not None:
                    return _from_value(value + local[end - 1 :])
    except ValueError as error:
        raise UsersUnavailable(f"Trouble reading users/cdb: {error}. (#4.3.5)") from None
    return None


def _from_value(value: bytes) -> User:
    """``user NUL uid NUL gid NUL home NUL dash NUL ext`` as qmail-newu writes it."""
    parts = value.split(b"\0")
    if len(parts) < 6:
        raise ValueError("an assignment has too few fields")
    name, uid, gid, home, dash, ext = parts[:6]
    if not uid.isdigit() or not gid.isdigit():
        raise ValueError("an assignment's uid or gid is not a number")
    return User(name, int(uid), int(gid), home, dash, ext)


def account_user(local: bytes, accounts: Accounts = system_account) -> User | None:
    """The user whose account name is the address or what comes before one of its dashes, the longest first.

    An account counts if its uid is not zero and it owns its home; names with capital letters never match. Raises
    UsersUnavailable if a home cannot be looked at for a reason that may pass.
    """
    for end in range(len(local), -1, -1):
        if end >= NAME_OCTETS or (end < len(local) and local[end : end + 1] != BREAK):
            continue
        account = accounts(local[:end].lower())
        if account is not None and account.uid and _owns_home(account):
            rest = local[end:]
            return User(account.name, account.uid, account.gid, account.home, rest[:1], rest[1:])
    return None


def _owns_home(account: Account) -> bool:
    try:
        return os.stat(account.home).st_uid == account.uid
    except (FileNotFoundError, NotADirectoryError, PermissionError, ValueError):
        return False
    except OSError as error:
        home = os.fsdecode(account.home)
        raise UsersUnavailable(f"Unable to look at {home}: {error.strerror}. (#4.3.0)") from None


class Users:
    """Finds users for one home. A new users/cdb is used from the next look-up on."""

    def __init__(
        self,
        home: Path,
        accounts: Accounts = system_account,
        uid: int | None = None,
    ) -> None:
        """``uid`` is the process's effective user id, looked up if not given."""
        self._alias_home = os.fsencode(home / "alias")
        self._path = home / "users" / "cdb"
        self._cdb: Cdb | None = None
        self._version: tuple[int, ...] = ()
        self._accounts = accounts
        self._uid = os.geteuid() if uid is None else uid
        self._known: dict[bytes, Account | None] = {}
        self._forget_at = 0.0

    def find(self, local: bytes) -> User:
        """The user in charge of ``local``; raises UsersUnavailable."""
        user = self._assigned(local)
        if user is None and self._uid == 0:
            user = account_user(local, self._account)
        if user is None:
            user = self.alias(local)
        if not user.uid:
            # Without qmail's users the aliases are root's, as everything else in the home is.
            remedy = ": make the user alias with ekiden install --create-users" if user.name == ALIAS else ""
            raise UsersUnavailable(f"Mail is never delivered as root{remedy}. (#4.3.5)")
        if self._uid not in (0, user.uid):
            raise UsersUnavailable(f"Unable to become uid {user.uid}: not started as root. (#4.3.5)")
        if not user.home.startswith(b"/"):
            raise UsersUnavailable("The user's home is not an absolute path. (#4.3.5)")
        return user

    def alias(self, local: bytes) -> User:
        """The catch-all user: the account ``alias``, or whoever owns HOME/alias if there is no such account."""
        if self._uid:
            return User(ALIAS, self._uid, os.getegid(), self._alias_home, BREAK, local)
        account = self._account(ALIAS)
        if account is not None:
            return User(account.name, account.uid, account.gid, account.home, BREAK, local)
        try:
            status = os.stat(self._alias_home)
        except OSError as error:
            raise UsersUnavailable(f"Unable to find the alias user: {error.strerror}. (#4.3.5)") from None
        return User(ALIAS, status.st_uid, status.st_gid, self._alias_home, BREAK, local)

    def _account(self, name: bytes) -> Account | None:
        now = time.monotonic()
        if now >= self._forget_at or len(self._known) >= _REMEMBERED:
            self._known.clear()
            self._forget_at = now + REMEMBER_SECONDS
        if name in self._known:
            return self._known[name]
        account = self._accounts(name)
        if account is not None and name == ALIAS:
            account = Account(account.name, account.uid, account.gid, self._alias_home)
        self._known[name] = account
        return account

    def _assigned(self, local: bytes) -> User | None:
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UsersUnavailable(f"Trouble reading users/cdb: {error.strerror}. (#4.3.5)") from None
        version = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
        try:
            if self._cdb is None or self._version != version:
                self._cdb = Cdb(self._path)
                self._version = version
            return assigned(local, self._cdb.get)
        except TableError as error:
            raise UsersUnavailable(f"Trouble reading users/cdb: {error}. (#4.3.5)") from None
