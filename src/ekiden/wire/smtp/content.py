"""The content of one message on its way in: measured, checked, and refused as a whole if it is at fault.

The fault is told only where the content ends, so that the session stays in step; until then octets are thrown away.
"""

from __future__ import annotations

from ekiden.base.reply import Reply
from ekiden.wire.lines import LineGauge, is_whole, mend_newlines, pair_split
from ekiden.wire.smtp.profile import Profile

TOO_LARGE = Reply(552, "5.3.4", "message size exceeds the limit of this host")
_BARE_NEWLINE = Reply(550, "5.6.11", "lines must end with CRLF: bare CR or LF in the message")
_LONG_LINE = Reply(554, "5.6.0", "a line of the message is too long")


class ContentGate:
    """Passes or drops blocks of content. ``fault`` is the reply to give at the end, if the message may not pass.

    ``binary``: BODY=BINARYMIME, whose octets are not lines (RFC 3030 section 3).
    """

    __slots__ = ("_binary", "_held", "_line_limit", "_lines", "_normalise", "_size_limit", "fault", "size")

    def __init__(self, profile: Profile, binary: bool = False) -> None:
        self._binary = binary
        self._normalise = profile.normalise
        self._size_limit = profile.size_limit
        self._line_limit = profile.line_octets
        self._lines = LineGauge()
        self._held = b""
        self.fault: Reply | None = None
        self.size = 0

    def admit(self, block: bytes) -> bytes:
        """The block as it may be kept; empty once there is a fault. CR and LF of one CRLF must not be divided."""
        if self.fault is not None:
            return b""
        self.size += len(block)
        if self._size_limit and self.size > self._size_limit:
            self.fault = TOO_LARGE
            return b""
        if self._binary:
            return block
        if not is_whole(block):
            if not self._normalise:
                self.fault = _BARE_NEWLINE
                return b""
            block = mend_newlines(block)
        if self._line_limit and self._lines.measure(block) > self._line_limit:
            self.fault = _LONG_LINE
            return b""
        return block

    def admit_part(self, block: bytes, last: bool) -> bytes:
        """As ``admit``, for blocks of BDAT, which are cut anywhere; the last one gets the CRLF that it may lack."""
        if self._binary:
            return self.admit(block)
        block = self._held + block
        if last:
            self._held = b""
            if (block or self.size) and not block.endswith(b"\n"):
                block += b"\r\n"
            return self.admit(block)
        waiting = pair_split(block)
        self._held = block[len(block) - waiting :]
        return self.admit(block[:-1] if waiting else block)
