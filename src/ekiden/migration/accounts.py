"""Users of the system whose mail sendmail sent elsewhere: by an alias of their name, or by their .forward.

qmail looks for accounts before it looks for aliases (qmail-getpw(8)), so that such a name is given to the user alias
in users/assign; a .forward counts when control/defaultdelivery runs dot-forward.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Iterator
from pathlib import Path

from ekiden.migration.finding import Place, Report
from ekiden.migration.plan import Plan
from ekiden.routing.users import ALIAS, User, Users, UsersUnavailable, account_user
from ekiden.settings.lines import load
from ekiden.settings.schema import default

ASSIGN = "users/assign"
DELIVERY = "control/defaultdelivery"
FORWARD = "|dot-forward .forward"

Account = Callable[[str], bool]
"""Whether mail for a name goes to an account before it goes to aliases."""


def accounts(home: Path) -> Account:
    """Only in root's home has mail to do with the system's accounts (routing.users)."""
    return _is_account if home.stat().st_uid == 0 else lambda _name: False


def _is_account(name: str) -> bool:
    try:
        user = account_user(name.encode("utf-8", "surrogateescape"))
    except UsersUnavailable:
        return False
    return user is not None and user.name != ALIAS and not user.ext


def assign(names: list[str], home: Path, plan: Plan) -> None:
    """Have the user alias control these accounts' addresses; the rest of users/assign stays as it is. OSError."""
    if not names:
        return
    alias = _alias(home)
    known = (load(home / ASSIGN) or b"").decode("utf-8", "surrogateescape").split("\n")
    kept = [line for line in known if line and not line.startswith(".")]
    given = {line.partition(":")[0] for line in kept}
    fields = f"{os.fsdecode(alias.name)}:{alias.uid}:{alias.gid}:{os.fsdecode(alias.home)}:-"
    new = [f"={name}:{fields}:{name}:" for name in names if f"={name}" not in given]
    plan.files[ASSIGN] = [*kept, *new, "."]


def _alias(home: Path) -> User:
    try:
        return Users(home).alias(b"")
    except UsersUnavailable as error:
        raise OSError(0, str(error), str(home / "alias")) from None


def forward_files() -> Iterator[Path]:
    """The .forward files of the accounts that mail is delivered to."""
    for account in pwd.getpwall():
        path = Path(account.pw_dir) / ".forward"
        if account.pw_uid and path.is_file() and path.stat().st_uid == account.pw_uid:
            yield path


def follow_forward_files(files: list[Path], home: Path, plan: Plan, report: Report) -> None:
    """Have control/defaultdelivery run dot-forward, if there are such files."""
    for path in files:
        report.carried(Place(str(path)), f"it is followed: {DELIVERY} runs dot-forward")
    if not files:
        return
    wanted = plan.files.pop(DELIVERY, None)
    if wanted is None:
        there = load(home / DELIVERY)
        standard = default("defaultdelivery")
        assert isinstance(standard, bytes)
        wanted = (standard if there is None else there).decode("utf-8", "surrogateescape").splitlines()
    plan.add(DELIVERY, FORWARD, *wanted)
