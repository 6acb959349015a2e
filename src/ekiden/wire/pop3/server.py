"""POP3 server engine: octets in, events and octets out; no socket, no clock, no file.

RFC 1939 with CAPA (2449), STLS (2595), AUTH (5034), AUTH-RESP-CODE (3206), UTF8 and LANG (6856).

The shell's contract:

1. Call ``greet`` (or ``farewell``) and send ``output()``; or ``open`` a session whose user is known already.
2. Give octets to ``receive``, take events from ``next_event`` until it gives None, answer each question (events.py)
   with ``answer`` or ``refuse``, now or later. Nothing further is parsed until then.
3. Send ``output()``: the answers to everything that was pipelined, joined. Before the pieces of a long answer the
   shell sends what is there, then the pieces, and then calls ``answer`` with the rest.
4. After a login ``open`` says how many messages there are. A shell that hands the connection to another process takes
   ``unread`` along instead, and is done.
5. While ``choked``, read nothing more. After ``Ended``, send the output and close.

Which messages are marked deleted is known here; none is removed unless the shell is asked to by ``Update``.
"""

from __future__ import annotations

from collections.abc import Mapping

from ekiden.wire.dialogue import ANSWERED
from ekiden.wire.pop3.authorization import Authorization
from ekiden.wire.pop3.events import Event, Listing, Retrieve, Stat, Update
from ekiden.wire.pop3.session import OK, SYNTAX
from ekiden.wire.pop3.states import Commands, State

_HIGHEST = 10
"""Digits of a number; no mailbox and no body has more messages or lines."""


class Server(Authorization):
    """A POP3 session with its verbs."""

    # Set by ``open``.
    count: int
    deleted: set[int]
    _last: int

    def open(self, count: int, words: bytes = OK) -> None:
        """The user is known and the mailbox has ``count`` messages: TRANSACTION begins."""
        self._asked = None
        self.count = count
        self.deleted = set()
        self._last = 0
        self._out.append(words)
        self._enter(State.TRANSACTION)

    def _leave(self, _argument: bytes) -> Event:
        self._out.append(OK)
        self._end("quit")
        return ANSWERED

    # In both states

    def _capa(self, argument: bytes) -> Event:
        """RFC 2449 section 5. What is not true before or after TLS or login is left out there."""
        if argument:
            return self._no(SYNTAX)
        profile = self.profile
        lines = [b"TOP", b"UIDL", b"RESP-CODES", b"AUTH-RESP-CODE", b"PIPELINING", b"EXPIRE NEVER", b"LANG"]
        if profile.login_delay:
            lines.append(b"LOGIN-DELAY %d" % profile.login_delay)
        lines.append(b"UTF8 USER")
        if self._state is not State.TRANSACTION:
            lines += [b"USER"] if self._may_say_password else []
            offered = self._offered()
            lines += [b"SASL " + b" ".join(offered)] if offered else []
            lines += [b"STLS"] if profile.starttls and not self.tls else []
        lines.append(b"IMPLEMENTATION " + profile.implementation.encode())
        return self._say(b"+OK capabilities follow\r\n%b\r\n.\r\n" % b"\r\n".join(lines))

    def _lang(self, argument: bytes) -> Event:
        """RFC 6856 section 3: all our texts are English."""
        wanted = argument.lower()
        if not wanted:
            return self._say(b"+OK languages follow\r\nen English\r\n.\r\n")
        if wanted in (b"*", b"en", b"i-default") or wanted.startswith(b"en-"):
            return self._say(b"+OK en English it is\r\n")
        return self._no("no such language")

    def _noop(self, _argument: bytes) -> Event:
        return self._say(OK)

    # TRANSACTION

    def _message(self, text: bytes) -> int | str:
        """The number of a message that is there, or why it is none."""
        if not text.isdigit() or len(text) > _HIGHEST:
            return SYNTAX
        number = int(text)
        if not number:
            return "messages are counted from 1"
        if number > self.count:
            return "no such message"
        return "message is deleted" if number in self.deleted else number

    def _stat(self, argument: bytes) -> Event:
        return self._no(SYNTAX) if argument else self._ask(Stat())

    def _listing(self, argument: bytes, unique: bool) -> Event:
        if not argument:
            return self._ask(Listing(unique, 0))
        number = self._message(argument)
        return self._no(number) if isinstance(number, str) else self._ask(Listing(unique, number))

    def _list(self, argument: bytes) -> Event:
        return self._listing(argument, False)

    def _uidl(self, argument: bytes) -> Event:
        return self._listing(argument, True)

    def _retr(self, argument: bytes) -> Event:
        number = self._message(argument)
        if isinstance(number, str):
            return self._no(number)
        self._last = max(self._last, number)
        return self._ask(Retrieve(number, -1))

    def _top(self, argument: bytes) -> Event:
        text, _space, lines = argument.partition(b" ")
        number = self._message(text)
        if isinstance(number, str):
            return self._no(number)
        if not lines.isdigit() or len(lines) > _HIGHEST:
            return self._no(SYNTAX)
        return self._ask(Retrieve(number, int(lines)))

    def _dele(self, argument: bytes) -> Event:
        number = self._message(argument)
        if isinstance(number, str):
            return self._no(number)
        self.deleted.add(number)
        self._last = max(self._last, number)
        return self._say(OK)

    def _rset(self, argument: bytes) -> Event:
        if argument:
            return self._no(SYNTAX)
        self.deleted.clear()
        self._last = 0
        return self._say(OK)

    def _last_accessed(self, _argument: bytes) -> Event:
        """RFC 1460; qmail-pop3d has it, and old clients ask for it."""
        return self._say(b"+OK %d\r\n" % self._last)

    def _quit(self, argument: bytes) -> Event:
        if argument:
            return self._no(SYNTAX)
        self._reason = "quit"
        return self._ask(Update(frozenset(self.deleted)))


_EVERYWHERE: Commands = {b"CAPA": Server._capa, b"LANG": Server._lang, b"NOOP": Server._noop}

_LOG_IN = "log in first"
_LOGGED_IN = "you are logged in already"

_AUTHORIZATION: Commands = {
    **_EVERYWHERE,
    b"USER": Server._user,
    b"PASS": "USER first",
    b"APOP": Server._apop,
    b"AUTH": Server._auth,
    b"STLS": Server._stls,
    b"UTF8": Server._utf8,
    b"QUIT": Server._leave,
    **dict.fromkeys((b"STAT", b"LIST", b"UIDL", b"RETR", b"TOP", b"DELE", b"RSET", b"LAST"), _LOG_IN),
}

COMMANDS: Mapping[State, Commands] = {
    State.AUTHORIZATION: _AUTHORIZATION,
    State.PASSWORD: {**_AUTHORIZATION, b"PASS": Server._pass},
    State.TRANSACTION: {
        **_EVERYWHERE,
        b"STAT": Server._stat,
        b"LIST": Server._list,
        b"UIDL": Server._uidl,
        b"RETR": Server._retr,
        b"TOP": Server._top,
        b"DELE": Server._dele,
        b"RSET": Server._rset,
        b"LAST": Server._last_accessed,
        b"QUIT": Server._quit,
        **dict.fromkeys((b"USER", b"PASS", b"APOP", b"AUTH", b"STLS", b"UTF8"), _LOGGED_IN),
    },
}
"""What may be said in which state: the verb's handler, or the words that refuse it."""

Server.commands = COMMANDS
