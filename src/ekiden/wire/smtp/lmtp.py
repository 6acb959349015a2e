"""LMTP server engine (RFC 2033): SMTP with another hello and a reply for every recipient after the content.

The shell's contract is server.py's. Its answer to ``EndOfMessage`` is said once for each recipient that was accepted.
"""

from __future__ import annotations

from ekiden.base.reply import Reply
from ekiden.wire.smtp.server import COMMANDS, Server

_NO_HELLO = Reply(500, "5.5.1", "this is LMTP: say LHLO")


class LmtpServer(Server):
    """An LMTP session."""

    __slots__ = ()
    protocol = b"LMTP"
    commands = {  # noqa: RUF012  # shared by all sessions, as in Server
        state: {**verbs, b"HELO": _NO_HELLO, b"EHLO": _NO_HELLO, b"LHLO": Server._ehlo}
        for state, verbs in COMMANDS.items()
    }

    def _say_of_message(self, encoded: bytes) -> None:
        self._out.append(encoded * self.recipients)
