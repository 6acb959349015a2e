"""What is wrong with the tcp rules of a home, for ``ekiden check``."""

from __future__ import annotations

from pathlib import Path

from ekiden.policy.tcprules import problems
from ekiden.runtime.privilege import identities
from ekiden.settings.problem import Problem


def rules_problems(home: Path) -> list[Problem]:
    """Every problem in the texts control/tcp.*, and of who reads them."""
    who = identities(home).roles
    found: list[Problem] = []
    for path in sorted((home / "control").glob("tcp.*")):
        shown = f"control/{path.name}"
        if path.suffix != ".cdb":
            found += problems(path, shown)
        reader = who["pop3d" if path.name.startswith("tcp.pop3") else "smtpd"]
        if reader is not None and path.exists() and not reader.may_read(path.stat()):
            message = f"cannot be read by user {reader.uid}, so that every client is denied"
            found.append(Problem(file=shown, message=message, remedy=f"chmod 644 {path}", fatal=False))
    return found
