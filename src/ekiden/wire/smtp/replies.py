"""What the SMTP server says by itself. Codes: RFC 5321 section 4.2.3; enhanced status: RFC 3463, RFC 2034."""

from __future__ import annotations

from collections.abc import Mapping

from ekiden.base.reply import Reply
from ekiden.wire.smtp.events import DataBegins, EndOfMessage, Event, Login, Mail, Proven, Rcpt, StartTls

ACCEPT: Mapping[type[Event], bytes] = {
    Mail: b"250 2.1.0 ok\r\n",
    Rcpt: b"250 2.1.5 ok\r\n",
    DataBegins: b"354 go ahead\r\n",
    EndOfMessage: b"250 2.0.0 ok\r\n",
    StartTls: b"220 2.0.0 ready for TLS\r\n",
    Login: b"235 2.7.0 authenticated\r\n",
    Proven: b"235 2.7.0 authenticated\r\n",
}
"""The positive reply to each question but Hello, whose text is the profile's."""

OK = b"250 2.0.0 ok\r\n"
FLUSHED = b"250 2.0.0 flushed\r\n"
CHUNK = b"250 2.0.0 chunk received\r\n"
HELP = b"214 2.0.0 ekiden: HELO EHLO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT, STARTTLS and AUTH if offered\r\n"
VRFY = b"252 2.1.5 cannot verify, but will take mail for it and try\r\n"

HELLO_SYNTAX = Reply(501, "5.5.4", "syntax: HELO name")
VRFY_SYNTAX = Reply(501, "5.5.4", "syntax: VRFY address")
NO_ARGUMENT = Reply(501, "5.5.4", "this command takes no argument")
BDAT_SYNTAX = Reply(501, "5.5.4", "syntax: BDAT count [LAST]; closing, because the end of the chunk is unknown")
LINE_TOO_LONG = Reply(500, "5.5.2", "command line too long")
BARE_LF = Reply(500, "5.5.2", "command lines must end with CRLF")
UNKNOWN = Reply(500, "5.5.2", "unknown command")
NOT_IMPLEMENTED = Reply(502, "5.5.1", "unimplemented")

MAIL_FIRST = Reply(503, "5.5.1", "MAIL first")
RCPT_FIRST = Reply(503, "5.5.1", "RCPT first")
NESTED_MAIL = Reply(503, "5.5.1", "there is a sender already")
NOT_IN_TRANSACTION = Reply(503, "5.5.1", "not during a mail transaction")
CHUNKS_BEGAN = Reply(503, "5.5.1", "BDAT has begun")
MAIL_OR_RCPT_FIRST = Reply(503, "5.5.1", "MAIL and RCPT first")
BINARY_NEEDS_BDAT = Reply(503, "5.5.1", "BODY=BINARYMIME needs BDAT")
TLS_ALREADY = Reply(503, "5.5.1", "TLS is active already")

TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "too many recipients")
TOO_MANY_ERRORS = Reply(421, "4.7.0", "too many errors")
PLAINTEXT = Reply(421, "4.7.0", "nothing may follow STARTTLS before the handshake")

AUTH_SYNTAX = Reply(501, "5.5.4", "syntax: AUTH mechanism")
AUTH_ALREADY = Reply(503, "5.5.1", "authenticated already")
AUTH_UNKNOWN = Reply(504, "5.5.4", "mechanism is not offered")
AUTH_IN_CLEAR = Reply(538, "5.7.11", "begin TLS first: passwords are not taken in clear")
AUTH_CANCELLED = Reply(501, "5.7.0", "authentication cancelled")
AUTH_MALFORMED = Reply(501, "5.5.2", "authentication message has a syntax error")
AUTH_FIRST = Reply(530, "5.7.0", "authentication required")
