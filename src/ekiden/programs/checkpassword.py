"""checkpassword: check a name and a password, become that user and run a program (cr.yp.to/checkpwd/interface.html).

Descriptor 3 has up to 512 octets: name, password and timestamp, each with a NUL behind it. Names are looked for in
control/pop3users, then among the system's users; with the former's plain secrets the password may be an APOP digest.
Exit codes: 1 wrong, 2 misused, 111 temporary trouble; else the program's.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from ekiden.routing.users import Users
from ekiden.runtime.passwords import system as password_system
from ekiden.runtime.passwords.file import PasswordFile
from ekiden.runtime.passwords.secret import Account, Unavailable, check_apop, check_password

_LONGEST = 512
_WRONG, _MISUSED, _TEMPORARY = 1, 2, 111
_DIGEST = re.compile(rb"[0-9a-f]{32}")


def main(argv: Sequence[str], home: str) -> int:
    """Arguments: the program and its arguments. Returns only what went wrong."""
    credentials = read(3)
    if credentials is None or not argv:
        return _MISUSED
    try:
        account = check(Path(home), *credentials)
        if account is None:
            return _WRONG
        _become(account)
        os.execvpe(argv[0], list(argv), _environment(account))
    except Unavailable as error:
        print(f"checkpassword: {error}", file=sys.stderr)
    except OSError as error:
        print(f"checkpassword: {error.strerror}", file=sys.stderr)
    return _TEMPORARY


def check(home: Path, name: bytes, password: bytes, timestamp: bytes) -> Account | None:
    """The account if the password, or the digest of it and the timestamp, is right. Raises Unavailable."""
    entry = PasswordFile(home / "control" / "pop3users", Users(home)).find(name) or password_system.find(name)
    if entry is None or not entry.account.uid:
        return None
    right = check_password(entry.secret, password) or (
        bool(_DIGEST.fullmatch(password)) and check_apop(entry.secret, timestamp, password)
    )
    return entry.account if right else None


def read(descriptor: int) -> tuple[bytes, bytes, bytes] | None:
    """Name, password and timestamp from a descriptor, which is closed; None for what is no such thing."""
    data = b""
    try:
        while len(data) <= _LONGEST and (piece := os.read(descriptor, _LONGEST + 1 - len(data))):
            data += piece
        os.close(descriptor)
    except OSError:
        return None
    fields = data.split(b"\0")
    if len(data) > _LONGEST or len(fields) < 3 or not fields[0]:
        return None
    return fields[0], fields[1], fields[2]


def _become(account: Account) -> None:
    """Raises OSError."""
    if os.geteuid() == 0:
        os.initgroups(os.fsdecode(account.name), account.gid)
        os.setresgid(account.gid, account.gid, account.gid)
        os.setresuid(account.uid, account.uid, account.uid)
    elif os.geteuid() != account.uid:
        raise PermissionError(1, f"unable to become uid {account.uid}: not started as root")
    os.chdir(account.home)


def _environment(account: Account) -> dict[bytes, bytes]:
    return {**os.environb, b"USER": account.name, b"HOME": account.home, b"SHELL": account.shell}
