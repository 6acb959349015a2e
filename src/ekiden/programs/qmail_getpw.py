"""qmail-getpw: which user controls a local address by the system's accounts (qmail-getpw.8).

Prints six fields, each ended by NUL; or nothing, with an exit code that says why: 100 usage, 115 a home cannot be
looked at now, 116 there is no alias user.
"""

from __future__ import annotations

import os

from ekiden.routing.users import UsersUnavailable, account_user, system_account

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

ALIAS = b"alias"
UNREACHABLE, NO_ALIAS = 115, 116


def main(argv: Sequence[str], home: str) -> int:
    """Takes the local part."""
    if not argv:
        return 100
    local = os.fsencode(argv[0])
    try:
        user = account_user(local)
    except UsersUnavailable:
        return UNREACHABLE
    if user is not None:
        fields = (user.name, b"%d" % user.uid, b"%d" % user.gid, user.home, user.dash, user.ext)
    else:
        alias = system_account(ALIAS)
        if alias is None:
            return NO_ALIAS
        fields = (alias.name, b"%d" % alias.uid, b"%d" % alias.gid, alias.home, b"-", local)
    os.write(1, b"".join(field + b"\0" for field in fields))
    return 0
