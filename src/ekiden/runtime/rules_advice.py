"""What is wrong with the tcp rules of a home, for ``ekiden check``."""

from __future__ import annotations

from pathlib import Path

from ekiden.policy.tcprules import in_use, problems
from ekiden.runtime.privilege import identities
from ekiden.settings.problem import Problem


def rules_problems(home: Path) -> list[Problem]:
    """What is wrong in the rules in use, and warnings of those that the role which reads them cannot read."""
    who = identities(home).roles
    found: list[Problem] = []
    for path in in_use(home / "control"):
        found += problems(path)
        reader = who["pop3d" if path.name.startswith("tcp.pop3") else "smtpd"]
        if reader is not None and not reader.may_read(path.stat()):
            found.append(
                Problem(
                    file=f"control/{path.name}",
                    message=f"cannot be read by user {reader.uid}, so that every client is denied",
                    remedy=f"chmod 644 {path}",
                    fatal=False,
                )
            )
    return found
