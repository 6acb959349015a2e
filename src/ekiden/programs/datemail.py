"""datemail [ARG ...]: sendmail, with a Date field in the local zone put in front of the message (datemail(1))."""

from __future__ import annotations

import os

from ekiden.programs import predate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is sendmail's."""
    return predate.main([os.path.join(home, "bin", "sendmail"), *argv], home)
