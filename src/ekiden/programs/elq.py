"""elq [ARG ...]: move new mail from MAILDIR to MAIL with maildir2mbox(1), then read it with elm.

Arguments are elm's. maildir2mbox's exit code if that fails; 111 if elm cannot be run.
"""

from __future__ import annotations

from ekiden.runtime.classic.mail_reader import read_mail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str], home: str) -> int:
    """Becomes elm."""
    return read_mail("elq", "elm", argv, home)
