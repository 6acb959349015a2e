"""qmail-inject: complete the header of the message on descriptor 0 and queue it (qmail-inject(8), qmail-header(5)).

Exit code 0 when it is queued or printed, 100 for wrong use or a header that cannot be read, 111 for trouble that may
pass. A message that nobody is to receive is no trouble; a warning is printed.
"""

from __future__ import annotations

import os
import sys
import time
from itertools import chain

from ekiden.base.header_body import HeaderBody
from ekiden.base.mailbox import Malformed, quote
from ekiden.routing.inject import Defaults, Sender
from ekiden.routing.inject_header import Header, InvalidField
from ekiden.runtime.classic.options import BadOption, options
from ekiden.runtime.classic.submission import submit
from ekiden.runtime.injection.door import Letter, NotQueued
from ekiden.settings.lines import control_line, control_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import IO

_READ = 262_144


class Request:
    """What is to be done, beside the message. ``dsn`` is NOTIFY, RET and ENVID, as in ``injection.door.Letter``."""

    def __init__(self, recipients: Sequence[bytes] = (), sender: bytes | None = None) -> None:
        self.recipients = recipients
        self.sender = sender
        self.use_header = True
        self.send = True
        self.dsn: tuple[int, bytes, bytes] = (0, b"", b"")


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is options and recipients."""
    try:
        request = _request(argv)
    except BadOption as error:
        print(f"qmail-inject: {error}", file=sys.stderr)
        return 100
    with open(0, "rb", buffering=_READ, closefd=False) as message:
        return run(request, home, message)


def _request(argv: Sequence[str]) -> Request:
    found, recipients = options(argv, "aAhHnNf:")
    strategy, send, sender = "A", True, None
    for letter, value in found:
        if letter == "f":
            sender = os.fsencode(value)
        elif letter in "nN":
            send = letter == "N"
        else:
            strategy = letter
    if strategy == "A":
        strategy = "a" if recipients else "h"
    request = Request([os.fsencode(each) for each in recipients] if strategy != "h" else [], sender)
    request.use_header = strategy != "a"
    request.send = send
    return request


def run(request: Request, home: str, message: IO[bytes]) -> int:
    """Complete and queue, or print; the exit code. Says on standard error what went wrong."""
    try:
        letter, content = _complete(request, home, message)
        if not request.send:
            _print(letter, content)
        else:
            if not letter.recipients:
                print("qmail-inject: warning: no recipients; nobody gets this message", file=sys.stderr)
            submit(home, letter, content)
    except Malformed as error:
        return _fail(100, f"unable to parse address: {error}")
    except InvalidField as error:
        return _fail(100, f"unable to parse this line:\n{os.fsdecode(error.field)}".rstrip("\n"))
    except NotQueued as error:
        return _fail(100 if error.permanent else 111, str(error))
    except OSError as error:
        return _fail(111, f"read error: {error.strerror}")
    except MemoryError:
        return _fail(111, "out of memory")
    return 0


def _fail(code: int, text: str) -> int:
    print(f"qmail-inject: fatal: {text}", file=sys.stderr)
    return code


def _complete(request: Request, home: str, message: IO[bytes]) -> tuple[Letter, Iterator[bytes]]:
    """The envelope and the whole message, of which the header is read already."""
    followup = _mailing_lists()
    defaults = _defaults(home)
    sender = None if request.sender is None else _address(defaults, request.sender)
    recipients = [_address(defaults, each) for each in request.recipients]
    header = Header(defaults, Sender(os.environb), time.time(), os.getpid(), sender, followup)
    read = HeaderBody(message)
    for field in read.fields():
        header.field(field)
    new = header.finish()
    if request.use_header:
        recipients += header.recipients
    return Letter(_until_nul(header.sender), _known(recipients), *request.dsn), chain((new,), read.body())


def _known(recipients: Iterable[bytes]) -> list[bytes]:
    """Without the empty ones, which are nobody's."""
    return [each for each in map(_until_nul, recipients) if each]


def _until_nul(address: bytes) -> bytes:
    """NUL ends an address in envelopes (qmail-queue(8)); what follows it would be read as another part."""
    return address.partition(b"\0")[0]


def _address(defaults: Defaults, address: bytes) -> bytes:
    try:
        return defaults.complete_address(address)
    except Malformed:
        raise Malformed(os.fsdecode(address)) from None


def _print(letter: Letter, content: Iterable[bytes]) -> None:
    out = sys.stdout.buffer
    out.write(b"Return-Path: <" + quote(letter.sender) + b">\n")
    for piece in content:
        out.write(piece)


def _defaults(home: str) -> Defaults:
    """From the environment, else control/, else control/me, else words that show what is missing."""
    me = control_line(home, "me")

    def value(name: str) -> bytes:
        variable = os.environb.get(b"QMAIL" + name.upper().encode())
        if variable is not None:
            return variable
        found = control_line(home, name)
        return found if found is not None else me if me is not None else name.encode()

    return Defaults(*map(value, ("defaulthost", "defaultdomain", "plusdomain", "idhost")))


def _mailing_lists() -> frozenset[bytes]:
    """The addresses in QMAILMFTFILE, lower-case."""
    path = os.environ.get("QMAILMFTFILE")
    return frozenset(line.lower() for line in (path and control_lines(path)) or ())
