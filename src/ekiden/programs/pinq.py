"""pinq [ARG ...]: move new mail from MAILDIR to MAIL with maildir2mbox(1), then read it with pine.

Arguments are pine's. maildir2mbox's exit code if that fails; 111 if pine cannot be run.
"""

from __future__ import annotations

from ekiden.runtime.classic.mail_reader import read_mail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str], home: str) -> int:
    """Becomes pine."""
    return read_mail("pinq", "pine", argv, home)
