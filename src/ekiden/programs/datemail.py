"""datemail [ARG ...]: sendmail, with a Date field in the local zone put in front of the message (datemail(1))."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ekiden.programs import predate


def main(argv: Sequence[str], home: Path) -> int:
    """``argv`` is sendmail's."""
    return predate.main([str(home / "bin" / "sendmail"), *argv], home)
