"""The system's users and their passwords: passwd(5) and shadow(5)."""

from __future__ import annotations

import os
import pwd
import time

from ekiden.runtime.passwords.secret import Account, Entry, Unavailable

SHADOW = "/etc/shadow"
DATABASES = ("/etc", "/run/systemd/userdb", "/usr/lib/userdb", "/var/lib/sss", "/var/lib/extrausers", "/var/lib/misc")
"""Where the C library's modules look for users; the daemons behind some of them are asked through unix sockets."""
_DAY = 86_400


def find(name: bytes) -> Entry | None:
    """The system's user of that name; None if there is none, or it may not log in at all. Raises Unavailable."""
    try:
        known = pwd.getpwnam(os.fsdecode(name))
    except (KeyError, ValueError):
        return None
    secret = os.fsencode(known.pw_passwd)
    if secret == b"x":
        shadowed = _shadow(name)
        if shadowed is None:
            return None
        secret = shadowed
    home, shell = os.fsencode(known.pw_dir), os.fsencode(known.pw_shell)
    return Entry(Account(os.fsencode(known.pw_name), known.pw_uid, known.pw_gid, home, shell), secret)


def _shadow(name: bytes) -> bytes | None:
    """The secret in shadow(5); None without one, or if the account has expired."""
    try:
        with open(SHADOW, "rb") as file:
            for line in file:
                fields = line.rstrip(b"\n").split(b":")
                if fields[0] == name and len(fields) >= 8:
                    expired = fields[7].isdigit() and int(fields[7]) * _DAY <= time.time()
                    return None if expired else fields[1]
    except OSError as error:
        raise Unavailable(f"{SHADOW} cannot be read: {error.strerror}") from None
    return None
