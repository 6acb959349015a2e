"""The algorithm of qmail-local, driven in both ways: one step after another, and as the local role does it."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import gc
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.peers.processes import is_alive, wait_until

from ekiden.delivery import carrier, mailboxes
from ekiden.delivery.carrier import Carrier
from ekiden.delivery.content import WireContent
from ekiden.delivery.direct import carry_out
from ekiden.delivery.letter import Letter
from ekiden.delivery.local import LOOPING, NO_MAILBOX, Forward
from ekiden.delivery.local_limits import NO_LIMITS, LocalLimits
from ekiden.delivery.report import DEFERRED, DELIVERED, FAILED, Report, Trouble, deferred

ENVIRONMENT = {b"PATH": b"/bin:/usr/bin"}


class Post:
    """A home, and what was injected from it."""

    def __init__(self, home: Path, carry: Callable[[Post, list[Letter]], list[Report]]) -> None:
        self.home = home
        self.forwards: list[tuple[bytes, list[bytes]]] = []
        self.refusal: Trouble | None = None
        self.limits = NO_LIMITS
        self._carry = carry

    def qmail(self, text: str, name: str = "", mode: int = 0o644) -> None:
        path = self.home / f".qmail{name}"
        path.write_text(text)
        path.chmod(mode)

    def maildir(self, name: str = "Maildir") -> Path:
        for part in ("tmp", "new", "cur"):
            (self.home / name / part).mkdir(parents=True)
        return self.home / name

    def letter(self, content: bytes = b"Subject: x\n\nbody\n", **changes: bytes) -> Letter:
        values = {
            "user": b"joe",
            "home": os.fsencode(self.home),
            "local": b"joe",
            "dash": b"",
            "ext": b"",
            "domain": b"x.org",
            "sender": b"a@b.org",
            "default": b"./Mailbox",
        }
        return Letter(**(values | changes), content=WireContent(content.replace(b"\n", b"\r\n")), when=0.0)

    def deliver(self, content: bytes = b"Subject: x\n\nbody\n", **changes: bytes) -> Report:
        return self._carry(self, [self.letter(content, **changes)])[0]

    def deliver_all(self, letters: list[Letter]) -> list[Report]:
        return self._carry(self, letters)

    def inject(self, step: Forward, letter: Letter) -> int:
        if self.refusal is not None:
            raise self.refusal
        self.forwards.append((step.sender, list(step.recipients)))
        return 77


def directly(post: Post, letters: list[Letter]) -> list[Report]:
    return [carry_out(letter, post.inject, ENVIRONMENT, post.limits) for letter in letters]


def together(post: Post, letters: list[Letter]) -> list[Report]:
    loop = asyncio.SelectorEventLoop()
    reports: dict[int, Report] = {}

    def inject(step: Forward, letter: Letter, answer: Callable[[int | Trouble], None]) -> None:
        try:
            loop.call_soon(answer, post.inject(step, letter))
        except Trouble as trouble:
            answer(trouble)

    def done(number: int, report: Report) -> None:
        assert number not in reports
        reports[number] = report
        if len(reports) == len(letters):
            loop.stop()

    carrier = Carrier(loop, inject, ENVIRONMENT, post.limits)
    for number, letter in enumerate(letters):
        carrier.take(letter, lambda report, number=number: done(number, report))
    carrier.turn()
    if len(reports) < len(letters):
        loop.run_forever()
    loop.close()
    assert carrier.busy == 0
    return [reports[number] for number in range(len(letters))]


@pytest.fixture(params=[directly, together])
def post(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Post]:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(tmp_path)
    gc.collect()  # What tests before this one left open.
    before = len(os.listdir("/proc/self/fd"))
    yield Post(home, request.param)
    assert len(os.listdir("/proc/self/fd")) == before


def outcome(report: Report) -> tuple[int, str]:
    return report.verdict, report.text


# Mailboxes


def test_default_delivery(post: Post) -> None:
    assert outcome(post.deliver()) == (DELIVERED, "did 1+0+0\n")
    stored = (post.home / "Mailbox").read_text().splitlines(keepends=True)
    assert stored[0].startswith("From a@b.org ")
    assert "".join(stored[1:]) == ("Return-Path: <a@b.org>\nDelivered-To: joe@x.org\nSubject: x\n\nbody\n\n")


@pytest.mark.parametrize("mode", [0o644, 0o744])
def test_an_empty_file_means_the_default_delivery(post: Post, mode: int) -> None:
    post.qmail("", mode=mode)
    assert outcome(post.deliver()) == (DELIVERED, "did 1+0+0\n")
    assert (post.home / "Mailbox").exists()


def test_a_comment_throws_away(post: Post) -> None:
    post.qmail("#\n")
    assert outcome(post.deliver()) == (DELIVERED, "did 0+0+0\n")
    assert not (post.home / "Mailbox").exists()


def test_maildir(post: Post) -> None:
    box = post.maildir()
    post.qmail("./Maildir/\n")
    assert outcome(post.deliver()) == (DELIVERED, "did 1+0+0\n")
    (file,) = (box / "new").iterdir()
    assert file.read_text() == "Return-Path: <a@b.org>\nDelivered-To: joe@x.org\nSubject: x\n\nbody\n"


def test_many_letters_at_once(post: Post) -> None:
    box = post.maildir()
    post.qmail("./Maildir/\n./Mailbox\n")
    letters = [post.letter(b"Subject: %d\n\n" % number) for number in range(30)]
    assert {outcome(report) for report in post.deliver_all(letters)} == {(DELIVERED, "did 2+0+0\n")}
    assert len(list((box / "new").iterdir())) == 30
    assert (post.home / "Mailbox").read_text().count("\nSubject: ") == 30


def test_a_missing_maildir_defers(post: Post) -> None:
    post.qmail("./Maildir/\n")
    report = post.deliver()
    assert report.verdict == DEFERRED
    assert report.text.endswith("/Maildir/: No such file or directory. (#4.2.1)\n")


def test_an_unusable_mbox_defers(post: Post) -> None:
    post.qmail("./Maildir\n")
    post.maildir()
    report = post.deliver()
    assert report.verdict == DEFERRED
    assert report.text.endswith("/Maildir: Is a directory. (#4.2.1)\n")


def test_one_broken_mailbox_does_not_hold_up_the_others(post: Post) -> None:
    post.maildir()
    post.qmail("./Maildir/\n", "-good")
    post.qmail("./nowhere/\n", "-bad")
    names = [b"good", b"bad", b"good"]
    reports = post.deliver_all([post.letter(dash=b"-", ext=name) for name in names])
    assert [report.verdict for report in reports] == [DELIVERED, DEFERRED, DELIVERED]


def test_a_locked_mbox_is_waited_for(post: Post) -> None:
    with open(post.home / "Mailbox", "wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        timer = threading.Timer(0.3, fcntl.flock, (other.fileno(), fcntl.LOCK_UN))
        timer.start()
        assert outcome(post.deliver()) == (DELIVERED, "did 1+0+0\n")
        timer.join()


def test_a_mbox_that_stays_locked_defers(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ekiden.delivery.direct.LOCK_SECONDS", 0.2)
    monkeypatch.setattr(carrier, "LOCK_SECONDS", 0.2)
    with open(post.home / "Mailbox", "wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        report = post.deliver()
    assert report.verdict == DEFERRED
    assert "stayed locked" in report.text
    assert (post.home / "Mailbox").read_bytes() == b""


def test_a_full_disk_defers_and_leaves_nothing(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    post.qmail("/dev/full\n")
    report = post.deliver()
    assert outcome(report) == (DEFERRED, "Unable to write /dev/full: No space left on device. (#4.3.1)\n")


def test_what_stays_in_an_mbox_is_reported(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    post.qmail("./Mailbox\n")

    def refuse(*_arguments: int) -> None:
        raise OSError(errno.EDQUOT, "")

    monkeypatch.setattr(os, "fsync", refuse)
    monkeypatch.setattr(os, "ftruncate", refuse)
    text = "Disk quota exceeded, and what was written of it could not be taken back. (#4.2.2)"
    verdict, said = outcome(post.deliver())
    assert verdict == DEFERRED
    assert said.startswith("Unable to write ") and said.endswith(f"Mailbox: {text}\n")


# Which file


def test_no_mailbox(post: Post) -> None:
    assert outcome(post.deliver(dash=b"-", ext=b"nobody")) == (FAILED, NO_MAILBOX + "\n")


def test_default_file(post: Post) -> None:
    post.qmail("|echo $DEFAULT $EXT > names\n", "-list-default")
    assert outcome(post.deliver(dash=b"-", ext=b"List-Some.One")) == (DELIVERED, "did 0+0+1\n")
    assert (post.home / "names").read_text() == "Some.One List-Some.One\n"


@pytest.mark.parametrize("mode", [0o1755, 0o757])
def test_a_home_being_edited_or_open_defers(post: Post, mode: int) -> None:
    post.home.chmod(mode)
    assert post.deliver().verdict == DEFERRED
    assert not (post.home / "Mailbox").exists()


# Loops


def test_a_loop_is_a_failure(post: Post) -> None:
    content = b"Received: x\nDelivered-To: joe@x.org\n\n"
    assert outcome(post.deliver(content)) == (FAILED, LOOPING + "\n")


def test_the_same_line_in_the_body_is_no_loop(post: Post) -> None:
    assert post.deliver(b"Subject: x\n\nDelivered-To: joe@x.org\n").verdict == DELIVERED


# Programs


def test_a_program(post: Post) -> None:
    post.qmail("|cat > got; pwd > where\n")
    assert outcome(post.deliver()) == (DELIVERED, "did 0+0+1\n")
    assert (post.home / "got").read_text() == "Subject: x\n\nbody\n"
    assert (post.home / "where").read_text() == f"{post.home}\n"


def test_what_a_program_prints_is_reported(tmp_path: Path) -> None:
    post = Post(tmp_path, together)
    post.qmail("|echo one\n|echo two >&2; exit 100\n")
    assert outcome(post.deliver()) == (FAILED, "one\ntwo\n")


def test_every_program_reads_from_the_beginning(post: Post) -> None:
    post.qmail("|head -c 3 > one\n|cat > two\n|cat > three\n")
    assert outcome(post.deliver()) == (DELIVERED, "did 0+0+3\n")
    assert (post.home / "one").read_text() == "Sub"
    assert (post.home / "two").read_text() == (post.home / "three").read_text() == "Subject: x\n\nbody\n"


def test_exit_99_ends_the_file_but_not_earlier_forwards(post: Post) -> None:
    post.qmail("early@x\n|exit 99\nlate@x\n./Mailbox\n")
    assert outcome(post.deliver()) == (DELIVERED, "did 0+1+1\nqp 77\n")
    assert post.forwards == [(b"a@b.org", [b"early@x"])]
    assert not (post.home / "Mailbox").exists()


@pytest.mark.parametrize(("code", "verdict"), [(100, FAILED), (111, DEFERRED), (1, DEFERRED), (77, FAILED)])
def test_a_program_that_fails_stops_everything(post: Post, code: int, verdict: int) -> None:
    post.qmail(f"early@x\n|exit {code}\n./Mailbox\n")
    assert post.deliver().verdict == verdict
    assert post.forwards == []
    assert not (post.home / "Mailbox").exists()


def test_a_program_over_the_limit_is_killed_with_what_it_started(post: Post) -> None:
    post.qmail("early@x\n|sleep 1000 & echo $! > child; wait\n./Mailbox\n")
    post.limits = LocalLimits(program_seconds=5)
    report = post.deliver()
    assert outcome(report) == (DEFERRED, "A program took too long and was ended. (#4.3.0)\n")
    assert post.forwards == []
    assert not (post.home / "Mailbox").exists()
    child = int((post.home / "child").read_text())
    wait_until(lambda: not is_alive(child), "the program's child to end")


def test_a_program_within_the_limit(post: Post) -> None:
    post.qmail("|sleep 0.1; exit 99\n")
    post.limits = LocalLimits(program_seconds=60)
    assert outcome(post.deliver()) == (DELIVERED, "did 0+0+1\n")


def test_a_full_maildir(post: Post) -> None:
    box = post.maildir()
    post.qmail("early@x\n./Maildir/\n")
    post.limits = LocalLimits(quota=b"1C")
    assert outcome(post.deliver()) == (DELIVERED, "did 1+1+0\nqp 77\n")
    assert outcome(post.deliver()) == (FAILED, f"The Maildir {post.home}/./Maildir/ is over its quota. (#5.2.2)\n")
    assert len(list((box / "new").iterdir())) == len(post.forwards) == 1


# Forwards


def test_forwards_go_out_together_at_the_end(post: Post) -> None:
    post.qmail("&one@x\n./Mailbox\ntwo@x\n")
    assert outcome(post.deliver()) == (DELIVERED, "did 1+2+0\nqp 77\n")
    assert post.forwards == [(b"a@b.org", [b"one@x", b"two@x"])]


def test_a_refused_forward(post: Post) -> None:
    post.refusal = deferred("Unable to forward message: full (#4.3.1).")
    post.qmail("&one@x\n")
    assert outcome(post.deliver()) == (DEFERRED, "Unable to forward message: full (#4.3.1).\n")


OWNERS = [
    # files, sender, sender of the forward
    ([], b"a@b.org", b"a@b.org"),
    (["-owner"], b"a@b.org", b"joe-List-owner@x.org"),
    (["-owner", "-owner-default"], b"a@b.org", b"joe-List-owner-@x.org-@[]"),
    (["-owner-default"], b"a@b.org", b"a@b.org"),
    (["-owner", "-owner-default"], b"", b""),
    (["-owner", "-owner-default"], b"#@[]", b"#@[]"),
]


@pytest.mark.parametrize(("files", "sender", "expected"), OWNERS)
def test_owner(post: Post, files: list[str], sender: bytes, expected: bytes) -> None:
    post.qmail("one@x\n|echo $NEWSENDER > new\n", "-list")
    for name in files:
        post.qmail("", f"-list{name}")
    report = post.deliver(local=b"joe-List", dash=b"-", ext=b"List", sender=sender)
    assert report.verdict == DELIVERED
    assert post.forwards == [(expected, [b"one@x"])]
    assert (post.home / "new").read_bytes() == expected + b"\n"


# What is refused


@pytest.mark.parametrize("text", ["\n./Mailbox\n", "  \n"])
def test_a_blank_first_line_defers(post: Post, text: str) -> None:
    post.qmail(text)
    assert post.deliver().verdict == DEFERRED
    assert not (post.home / "Mailbox").exists()


def test_a_file_that_may_only_forward(post: Post) -> None:
    post.qmail("one@x\n./Mailbox\n", mode=0o744)
    report = post.deliver()
    assert report.verdict == DEFERRED
    assert report.text.endswith("(#4.7.0)\n")
    assert post.forwards == []


def test_what_will_be_refused_is_not_stored_with_every_attempt(post: Post) -> None:
    post.qmail("./Mailbox\n+list\n./Other\n")
    assert post.deliver().verdict == DEFERRED
    assert not (post.home / "Mailbox").exists()


def test_a_program_may_end_the_file_before_what_is_refused(post: Post) -> None:
    post.qmail("|exit 99\n+list\n./Other\n")
    assert outcome(post.deliver()) == (DELIVERED, "did 0+0+1\n")


def test_a_fault_of_ours_is_a_deferral(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(home: bytes) -> bool:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("ekiden.delivery.local.check_home", fault)
    assert outcome(post.deliver()) == (DEFERRED, "Unable to deliver: ZeroDivisionError: oops. (#4.3.0)\n")


def test_an_error_that_does_not_say_that_a_file_is_absent_defers(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by errors at every call: the mail went by the default rule."""
    post.qmail("./Maildir/\n")
    real = os.open

    def refuse(path: Any, *others: Any, **named: Any) -> int:
        if isinstance(path, bytes) and path.endswith(b".qmail"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(path, *others, **named)

    monkeypatch.setattr(os, "open", refuse)
    assert post.deliver().verdict == DEFERRED
    assert not (post.home / "Mailbox").exists()


def test_letters_share_one_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    post = Post(tmp_path, together)
    post.maildir()
    post.qmail("./Maildir/\n")
    batches: list[int] = []
    real = mailboxes.settle
    monkeypatch.setattr(mailboxes, "settle", lambda drafts: (batches.append(len(drafts)), real(drafts)))
    post.deliver_all([post.letter() for _ in range(8)])
    assert batches == [8]
