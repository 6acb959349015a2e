"""What is wrong with the tcp rules of a home, for ``ekiden check``."""

from __future__ import annotations

from pathlib import Path

from ekiden.policy.tcprules import FILES, problems
from ekiden.runtime.privilege import identities
from ekiden.settings.problem import Problem


def rules_problems(home: Path) -> list[Problem]:
    """What is wrong in the rules in use, and warnings of those that the role which reads them cannot read."""
    who = identities(home).roles
    found: list[Problem] = []
    for name in FILES:
        text = home / "control" / name
        if text.exists():
            found += problems(text)
        path = text if text.exists() else text.with_name(f"{name}.cdb")
        reader = who["pop3d" if name == "tcp.pop3" else "smtpd"]
        if path.exists() and reader is not None and not reader.may_read(path.stat()):
            found.append(
                Problem(
                    file=f"control/{path.name}",
                    message=f"cannot be read by user {reader.uid}, so that every client is denied",
                    remedy=f"chmod 644 {path}",
                    fatal=False,
                )
            )
    return found
