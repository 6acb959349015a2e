"""qmail-qmtpd: receive mail by QMTP on descriptors 0 and 1 (qmail-qmtpd(8), tcp-environ(5)).

Exit codes: 0 at the end, 100 for what is no QMTP, 111 for trouble that may pass.
"""

from __future__ import annotations

from collections.abc import Sequence

from ekiden.runtime.classic.netstring_waiting import serve


def main(argv: Sequence[str], home: str) -> int:
    """Takes no arguments."""
    return serve("QMTP", home)
