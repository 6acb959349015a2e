"""mailq: what is in the queue; another name of qmail-qread, which sendmail's users know (docs/sendmail.md)."""

from __future__ import annotations

from collections.abc import Sequence

from ekiden.programs import qmail_qread


def main(argv: Sequence[str], home: str) -> int:
    """Arguments are not looked at: sendmail's ``mailq`` takes ``-v`` and others that make no difference."""
    return qmail_qread.main([], home)
