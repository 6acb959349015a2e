"""Targets that hear other programs of the mail system, which may be qmail's own or anybody's: spawners, qmail-clean
and what they are told, qmail-remote's reports, programs that check passwords or stand for qmail-queue, QMQP servers.
"""

from __future__ import annotations

import asyncio
import os
import re
import select
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from tests.fuzz.files import place
from tests.fuzz.target import Target
from tests.wire.netstrings import octets

from ekiden.base.outcome import Verdict
from ekiden.base.reply import Reply
from ekiden.delivery.queue_program import own_words
from ekiden.delivery.report import FAILED
from ekiden.programs import checkpassword, qmail_clean, qmail_lspawn, qmail_rspawn, qmail_send
from ekiden.programs.qmail_qmqpc import verdict
from ekiden.routing.users import Users
from ekiden.runtime.classic.delivery_pipe import REPORT, DeliveryPipe
from ekiden.runtime.classic.deposit_blocking import rejected
from ekiden.runtime.classic.message_files import SPLIT
from ekiden.runtime.classic.spawner import COMMAND_OCTETS, DELIVERIES, Refused, Spawner
from ekiden.runtime.injection.door import PERMANENT, REFUSED, NotQueued
from ekiden.runtime.passwords import program as password_program
from ekiden.runtime.passwords.file import PasswordFile
from ekiden.runtime.passwords.secret import Unavailable

_REPLY = re.compile(rb"[45][0-9]{2} [245]\.[0-9]{1,3}\.[0-9]{1,3} [ -~\x80-\xff]*\r\n")
_STATUS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")


class _NoWork(Spawner):
    """A spawner that refuses every delivery which it would begin."""

    def __init__(self) -> None:
        super().__init__(str(place()))
        self.said = b""
        self.begun: list[bytes] = []

    def look_up(self, local: bytes) -> None:
        self.begun.append(local)
        raise Refused("Znot here (#4.3.0)\n")

    def hear(self, pieces: Iterable[bytes]) -> bytes:
        """Commands; what is left of the last one."""
        rest = b""
        for piece in pieces:
            if len(rest) > COMMAND_OCTETS:
                break
            rest = self._commands(rest + piece, select.poll())
        return rest

    def _write(self, data: bytes) -> None:
        self.said += data


def _spawner_commands(data: bytes) -> None:
    """What qmail-lspawn and qmail-rspawn are told: each command gets one report, in any pieces."""
    whole, single = _NoWork(), _NoWork()
    rest = whole.hear([data])
    assert rest == single.hear(octets(data)) and data.endswith(rest)
    assert (whole.said, whole.begun) == (single.said, single.begun)
    reports = whole.said
    while reports:
        text, _nul, reports = reports[1:].partition(b"\0")
        assert text[:1] in (b"Z", b"D") and text.endswith(b"\n"), "a report that nobody made"
    assert all(b"\0" not in local for local in whole.begun)


class _NoLoop:
    """As much of an event loop as the pipes need."""

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_arguments: None


@cache
def _descriptors() -> tuple[int, int]:
    """To write commands to, and to read nothing from."""
    return os.open(os.devnull, os.O_WRONLY), os.open(os.devnull, os.O_RDONLY)


class _Told:
    """Deliveries 0 to 9, ``most`` at a time, with a spawner that says anything."""

    def __init__(self, most: int = 10) -> None:
        self.reports: list[tuple[int, bytes]] = []
        self.strange = 0
        loop: asyncio.AbstractEventLoop = _NoLoop()  # type: ignore[assignment]
        self.pipe: DeliveryPipe[int] = DeliveryPipe(
            loop, *_descriptors(), most, lambda *report: self.reports.append(report), self._strange, self._end
        )
        for key in range(10):
            self.pipe.start(key, b"7/7", b"s@t", b"r@d")

    def _strange(self) -> None:
        self.strange += 1

    def _end(self, keys: list[int]) -> None:
        assert sorted([*keys, *(key for key, _text in self.reports)]) == list(range(10)), "lost, or told twice"

    def hear(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            self.pipe._taken(piece)

    def end(self) -> None:
        self.pipe._gone()


def _spawner_reports(data: bytes) -> None:
    """What qmail-send is told: each delivery has ended once or is tried again, and nothing is taken for a yes."""
    whole, single, few = _Told(), _Told(), _Told(most=2)
    whole.hear([data])
    single.hear(octets(data))
    # Not the same for few at a time: a report may come before the delivery that it is taken to be about.
    few.hear(octets(data))
    assert (whole.reports, whole.strange) == (single.reports, single.strange)
    whole.end()
    few.end()
    for _key, text in whole.reports:
        assert len(text) <= REPORT and b"\0" not in text
        for channel in ("local", "remote"):
            outcome = qmail_send.reported_outcome(channel, text)
            assert (outcome.verdict == Verdict.DELIVERED) == text.startswith(b"K")
            assert (outcome.verdict == Verdict.FAILED) == text.startswith(b"D")
            assert _STATUS.fullmatch(outcome.status) and outcome.status[0] == "245"[outcome.verdict]


def _spawner_reports_alone(data: bytes) -> None:
    _Told().hear([data])


@cache
def _spawners() -> tuple[qmail_lspawn.LocalSpawner, qmail_rspawn.RemoteSpawner]:
    return qmail_lspawn.LocalSpawner("./Mailbox", str(place())), qmail_rspawn.RemoteSpawner(str(place()), None)


def _delivery_reports(data: bytes) -> None:
    """What qmail-local and qmail-remote leave behind: the first octet is the exit code."""
    code, output = (data[0], data[1:]) if data else (0, b"")
    local, remote = _spawners()
    for spawner in (local, remote):
        assert spawner.report(code, output)[:1] in (b"K", b"Z", b"D")
        assert spawner.report(-9, output)[:1] == b"Z"
    assert (local.report(code, output)[:1] == b"K") == (code == 0)
    report = remote.report(code, output)
    parts = output.split(b"\0")[:-1]
    if report[:1] == b"K":
        # The message was taken, and the recipient was not refused.
        assert not code and any(part[:1] == b"K" for part in parts) and parts[0][:1] not in (b"s", b"h")
    assert report[:1] != b"D" or code or b"D" in output or parts[0][:1] == b"h"


@cache
def _queue() -> Path:
    directory = place() / "cleaned"
    for name in ("mess", "intd", "todo", "pid"):
        (directory / name).mkdir(parents=True)
    for part in range(SPLIT):
        (directory / "mess" / str(part)).mkdir()
    return directory


def _clean_commands(data: bytes) -> None:
    """What qmail-clean is told: one answer each, and nothing goes but the files of the message that was named."""
    queue = _queue()
    kept = [queue / "mess" / "7" / "7x", queue / "kept", queue.parent / "kept"]
    files = [queue / "intd" / "30", queue / "todo" / "30", queue / "mess" / "7" / "30"]
    for path in (*kept, *files):
        path.touch()
    answers = _cleaned(queue, data)
    assert len(answers) == data.count(b"\0") and not answers.translate(None, b"+!x")
    assert all(path.exists() for path in kept), "a file that is nobody's is gone"
    number = re.search(rb"(?:foop|todo)/0*30\0", data)
    assert number or all(path.exists() for path in files), "another message's files are gone"


def _cleaned(queue: Path, data: bytes) -> bytes:
    said, answers = _file(data), os.memfd_create("answers")
    before = os.open(".", os.O_PATH)
    os.chdir(queue)
    try:
        assert qmail_clean.serve(said, answers) == 0
        return os.pread(answers, len(data) + 1, 0)
    finally:
        os.fchdir(before)
        for descriptor in (said, answers, before):
            os.close(descriptor)


def _file(data: bytes) -> int:
    descriptor = os.memfd_create("said")
    os.write(descriptor, data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


@cache
def _home() -> Path:
    home = place() / "logins"
    for name in ("control", "alias"):
        (home / name).mkdir(parents=True)
    (home / "control" / "pop3users").write_bytes(b"jiro:{PLAIN}secret word:1000:100:/h\nroot:{PLAIN}x\n")
    return home


def _checkpassword(data: bytes) -> None:
    """Descriptor 3; and what a program that checks passwords says of the account."""
    read = checkpassword.read(_file(data))
    if read is not None:
        assert data.startswith(b"\0".join(read)) and len(data) <= 512 and read[0]
        try:
            account = checkpassword.check(_home(), *read)
        except Unavailable:
            account = None
        assert account is None or (account.uid and read[:2] == (b"jiro", b"secret word")), "somebody got in"
    name, password, stamp = (data + b"\0\0").split(b"\0")[:3]
    sent = b"%b\0%b\0%b\0" % (name, password, stamp)
    assert checkpassword.read(_file(sent)) == ((name, password, stamp) if name and len(sent) <= 512 else None)
    try:
        told = password_program.account(data)
    except Unavailable:
        return
    assert 0 <= told.uid < 10**10 and b"\0" not in told.name + told.home + told.shell


def _checkpassword_alone(data: bytes) -> None:
    checkpassword.read(_file(data))
    PasswordFile(_home() / "control" / "pop3users", Users(_home())).find(data)
    try:
        password_program.account(data)
    except Unavailable:
        return


_LETTERS = {b"K": 0, b"Z": 71, b"D": 31}


def _qmqp_answer(data: bytes) -> None:
    """What qmail-qmqpc hears: only a netstring's first letter is a yes, and it is one in any pieces."""
    code = verdict(data)
    found = re.match(rb"[0-9]{1,10}:(.)", data, re.DOTALL)
    assert code == (_LETTERS.get(found[1], 74) if found else None) or (code == 74 and not found)
    codes = [verdict(data[:end]) for end in range(min(len(data), 200) + 1)]
    assert next((each for each in codes if each is not None), None) == code or len(data) > 200


def _queue_words(data: bytes) -> None:
    """What a program in qmail-queue's place says on descriptor 6 is one reply to the client."""
    trouble = own_words(data)
    assert trouble.text.isprintable()
    assert (trouble.verdict == FAILED) == data.startswith(b"D")
    answer = rejected(NotQueued(PERMANENT if trouble.verdict == FAILED else REFUSED, trouble.text))
    reply = Reply(answer.code, answer.status, answer.text).encode()
    assert _REPLY.fullmatch(reply) and reply[:1] == reply[4:5], "something else is said to a client"


_COMMANDS = (
    *(b"\0", b"\1", b"7/30\0s@t\0r@d\0", b"7/30\0\0r@d\0", b"7/30\0s@t\0r\0", b"../7\0s\0r@d\0", b"/7\0\0@\0"),
    *(b"\0\0\0", b"x", b"@", bytes((DELIVERIES,)), b"\xff", b"7/30"),
)
_REPORTS = (
    *(b"\0K\0", b"\1Kok (#2.1.5)\n\0", b"\0Zlater (#4.2.1)\n\0", b"\1Dno (#5.1.1)\n\0", b"did 0+1+0\n", b"\xff"),
    *(b"\0", b"\1", b"\2K\0", b"(#5.1.1)", b"(#2.0.0)", b"K", b"Z", b"D", b"x" * 40, b"\0\0\0"),
)
_OUTPUTS = (
    *(b"\0r\0Kaccepted\0", b"\0h550 no\0DGiving up\0", b"\0s450\0Z\0", b"r\0", b"K", b"Z", b"D", b"h", b"s", b"\0"),
    *(b"\x6f", b"\x64", b"r250\0", b"\n", b"x" * 40),
)
_CLEANED = (
    *(b"foop/30\0", b"todo/30\0", b"foop/030\0", b"foop/../kept\0", b"foop/7x\0", b"foop/", b"todo/", b"\0", b"/"),
    *(b".", b"9" * 99, b"30", b"-1", b"\n", b"foop/30\n\0", b"\xb2"),
)
_LOGINS = (
    *(b"jiro\0secret word\0<1@x>\0", b"jiro\0x\0\0", b"root\0x\0t\0", b"\0", b"jiro", b"0" * 32, b"\xff", b"x" * 60),
    *(b"1000\0100\0/h\0u\0/bin/sh\0/h\0", b"9" * 60, b"1\0", b"-1\0", b"/h\0", b"\n"),
)
_ANSWERS = (b"9:Kok queued,", b"3:Zno,", b"3:Dno,", b":", b"K", b"Z", b"D", b"9", b",", b"220 KDZ\r\n", b"\xb2", b" ")
_WORDS = (
    b"D",
    b"Z",
    b"no (#5.7.1)",
    b"later (#4.7.1)\n",
    b" (#",
    b")",
    b"\r\n",
    b"250 ok\r\n",
    b"\0",
    b"\xe9",
    b"\x85",
)

TARGETS = (
    Target(
        "spawner-commands",
        _spawner_commands,
        (),
        _COMMANDS,
        (b"", b"\0", b"\x007/30\0"),
        lambda d: _NoWork().hear([d]),
    ),
    Target("spawner-reports", _spawner_reports, (), _REPORTS, (b"", b"\0K"), _spawner_reports_alone),
    Target("delivery-reports", _delivery_reports, (), _OUTPUTS, (b"\0", b"\0r\0")),
    Target("clean-commands", _clean_commands, (), _CLEANED, (b"", b"foop/")),
    Target("checkpassword", _checkpassword, (), _LOGINS, (b"", b"1000\x00100\0"), _checkpassword_alone),
    Target("qmqp-answer", _qmqp_answer, (), _ANSWERS, (b"", b"1")),
    Target("queue-words", _queue_words, (), _WORDS, (b"", b"Dno (#")),
)
