"""sendmail: qmail-inject under the name and with the options that mail programs expect (docs/sendmail.md).

Exit codes are qmail-inject's: 0, 100 for wrong use or what is refused here, 111 for trouble that may pass.
"""

from __future__ import annotations

import os
import re
import sys

from ekiden.programs import find
from ekiden.programs.qmail_inject import Request, run
from ekiden.runtime.classic.options import BadOption, options
from ekiden.runtime.classic.pieces import standard_input
from ekiden.runtime.classic.sendmail_modes import flush, verify
from ekiden.runtime.classic.submission import is_foreign

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    _Mode = Callable[[Sequence[tuple[str, str]], Sequence[str], str], int]

_KNOWN = "A:B:b:C:D:d;E;e:F:f:Gh:IiJ;L:M:mN:nO:o:p:Q;q;R:r:tUV:vX:x"
_REFUSED = {
    "C": "there is no other configuration file; --home and EKIDEN_HOME name another home",
    "D": "there is no debugging log here",
    "Q": "there is no quarantine; see: ekiden queue hold",
    "X": "there is no log of sessions here",
}
_NOTIFY = {"NEVER": 1, "SUCCESS": 2, "FAILURE": 4, "DELAY": 8}
"""base.envelope.Notify, which would load msgspec."""

_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+")
_USAGE = "usage: sendmail [ -t ] [ -fsender ] [ -Fname ] [ -bp ] [ -bs ] [ arg ... ]"
_CONNECTION = {
    "RELAYCLIENT": "",
    "DATABYTES": "0",
    "PROTO": "TCP",
    "TCPLOCALIP": "127.0.0.1",
    "TCPLOCALHOST": "localhost",
    "TCPREMOTEIP": "127.0.0.1",
    "TCPREMOTEHOST": "localhost",
    "TCPREMOTEINFO": "sendmail-bs",
}


class _Wrong(Exception):
    """The command line cannot be meant, or asks for what is not done; the text says why."""


def main(argv: Sequence[str], home: str) -> int:
    """``argv`` is options and recipients."""
    called = os.path.basename(sys.argv[0])
    if called in ("mailq", "newaliases"):
        return _other("qmail-qread" if called == "mailq" else called, home)
    try:
        found, recipients = options(argv, _KNOWN)
        return _mode(found)(found, recipients, home)
    except (BadOption, _Wrong) as error:
        print(f"sendmail: {error}\nsendmail: {_USAGE}", file=sys.stderr)
        return 100


def _mode(found: Sequence[tuple[str, str]]) -> _Mode:
    """What is to be done, from -b, -I and -q."""
    wanted = "m"
    for letter, value in found:
        if letter in _REFUSED:
            raise _Wrong(f"option -{letter} is refused: {_REFUSED[letter]}")
        if letter == "b":
            wanted = value[:1]
        elif letter == "I":
            wanted = "i"
        elif letter == "q" and wanted == "m":
            wanted = "d" if value[:1].isdigit() else "q"
    modes: dict[str, _Mode] = {
        "m": _send,
        "p": lambda _found, _rest, home: _other("qmail-qread", home),
        "s": _smtp,
        "i": lambda _found, _rest, home: _other("newaliases", home),
        "v": lambda _found, rest, home: verify(rest, home),
        "q": lambda _found, _rest, home: flush(home),
    }
    if wanted in ("d", "D"):
        raise _Wrong("sendmail does not become a daemon here; start the daemon with: ekiden start")
    if wanted not in modes:
        raise _Wrong(f"option -b{wanted} is refused: there is no such mode here")
    return modes[wanted]


def _other(name: str, home: str) -> int:
    program = find(name, classic=True)
    if program is None:
        print(f"sendmail: fatal: there is no {name} in this installation", file=sys.stderr)
        return 111
    return program([], home)


def _smtp(found: Sequence[tuple[str, str]], rest: Sequence[str], home: str) -> int:
    """SMTP on descriptors 0 and 1; whoever can start this may relay."""
    if "PROTO" not in os.environ:
        os.environ.update(_CONNECTION)
    return _other("qmail-smtpd", home)


def _send(found: Sequence[tuple[str, str]], recipients: Sequence[str], home: str) -> int:
    given = dict(found)
    if not recipients and "t" not in given:
        raise _Wrong("no recipients; -t takes them from the header")
    request = Request([os.fsencode(each) for each in recipients])
    request.use_header = "t" in given
    request.dsn = _dsn(given)
    for letter, value in found:
        if letter in "fr":
            request.sender = _become(value)
    if "F" in given:
        os.environ["QMAILNAME"] = given["F"]
    if is_foreign(home, "qmail-inject"):
        return _run_program(request, home)
    return run(request, home, standard_input(plain_newlines=True))


def _run_program(request: Request, home: str) -> int:
    """Become the program that stands in qmail-inject's place; it is called as qmail's own sendmail calls it."""
    program = os.path.join(home, "bin", "qmail-inject")
    sender = [] if request.sender is None else [b"-f", request.sender]
    strategy = b"-H" if request.use_header else b"-a"
    try:
        os.execv(program, [b"qmail-inject", strategy, *sender, b"--", *request.recipients])
    except OSError as error:
        print(f"sendmail: fatal: unable to run {program}: {error.strerror}", file=sys.stderr)
        return 111


def _become(sender: str) -> bytes:
    """Let the sender also be who writes, if From is missing; the empty sender (``<>``) writes nothing."""
    if sender.startswith("<") and sender.endswith(">"):
        sender = sender[1:-1]
    if sender:
        for name in ("QMAILNAME", "MAILNAME", "NAME", "QMAILHOST", "MAILHOST"):
            os.environ.pop(name, None)
        user, at, host = sender.rpartition("@")
        os.environ["QMAILUSER"] = user if at else sender
        if at:
            os.environ["QMAILHOST"] = host
    return os.fsencode(sender)


def _dsn(given: dict[str, str]) -> tuple[int, bytes, bytes]:
    """What -N, -R and -V say about notices (RFC 3461)."""
    notify = 0
    wishes = given["N"].upper().split(",") if "N" in given else []
    for wish in wishes:
        if wish not in _NOTIFY or (wish == "NEVER" and len(wishes) > 1):
            raise _Wrong(f"-N {given['N']}: neither never nor a list of success, failure, delay")
        notify |= _NOTIFY[wish]
    ret = given.get("R", "").upper()
    if ret not in ("", "FULL", "HDRS"):
        raise _Wrong(f"-R {given['R']}: neither full nor hdrs")
    envid = given.get("V", "")
    if envid and not _XTEXT.fullmatch(envid):
        raise _Wrong(f"-V {envid}: no xtext (RFC 3461 section 4)")
    return notify, ret.encode(), envid.encode()
