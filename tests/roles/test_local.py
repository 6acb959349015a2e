"""The local role with the test as its queue: users, crashes, full disks, large content, forwards."""

from __future__ import annotations

import asyncio
import calendar
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ekiden.base.envelope import Envelope, Recipient
from ekiden.base.outcome import Outcome, Verdict
from ekiden.programs import qmail_newu
from ekiden.roles import local
from ekiden.roles.local import outcome_of
from ekiden.runtime.binding import unix_socket
from ekiden.runtime.fences import accounts as fenced_accounts
from ekiden.runtime.fences import seccomp
from ekiden.runtime.frames import Accepted, Attempt, DeliveryAnswer, Draining, Inject, IntakeRequest, Report
from ekiden.runtime.link import Link
from ekiden.runtime.log import Log
from ekiden.runtime.privilege import Identity
from ekiden.runtime.role import Context
from ekiden.settings.schema import Settings

ROOT = os.geteuid() == 0
UID = 4242 if ROOT else os.getuid()
NOBODY = 65534
"""Who looks for users where there is no qmailp."""
CONTENT = b"Subject: x\r\n\r\nbody\r\n"

needs_root = pytest.mark.skipif(not ROOT, reason="needs root")


class Queue:
    """A home whose queue role the test plays: attempts go out, reports and injections come in."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.injected: list[Inject] = []
        self.draining = False
        for name in ("alias", "run", "users"):
            (home / name).mkdir()
        self._sockets = {name: unix_socket(home / "run" / name) for name in ("local", "inject")}
        (home / "run" / "inject").chmod(0o666)
        for bound in self._sockets.values():
            bound.listen()
        own(home / "alias")
        # One loop for all deliveries: the role keeps its connections to inject.
        self._loop = asyncio.new_event_loop()
        self._sockets["inject"].setblocking(False)
        self._loop.add_reader(self._sockets["inject"], self._accept, self._loop)

    def user(self, name: str, uid: int = UID) -> Path:
        """A user with a Maildir, in users/assign."""
        place = self.home / name
        for part in ("tmp", "new", "cur"):
            (place / "Maildir" / part).mkdir(parents=True)
        (place / ".qmail").write_text("./Maildir/\n")
        own(place, uid)
        assign = self.home / "users" / "assign"
        lines = assign.read_text().splitlines()[:-1] if assign.exists() else []
        lines += [f"={name}:{name}:{uid}:{uid}:{place}:::", f"+{name}-:{name}:{uid}:{uid}:{place}:-::", "."]
        assign.write_text("".join(f"{line}\n" for line in lines))
        umask = os.umask(0o022)
        assert qmail_newu.main([], str(self.home)) == 0
        os.umask(umask)
        return place

    def start(self, programseconds: int = 3600) -> None:
        self.pid = os.fork()
        if not self.pid:
            try:
                settings = Settings(me=b"x.org", inlinebytes=100_000, programseconds=programseconds)
                context = Context(self.home, settings, Log("local", 2), run=os.open(self.home / "run", os.O_PATH))
                local.serve(context, Identity(NOBODY, NOBODY) if ROOT else None)
                os._exit(0)
            finally:
                os._exit(1)
        self.connection, _address = self._sockets["local"].accept()

    def stop(self) -> None:
        self.connection.close()
        if self.pid:
            os.waitpid(self.pid, 0)
        self._loop.close()
        for bound in self._sockets.values():
            bound.close()

    def deliver(self, *recipients: bytes, content: bytes = CONTENT, file: bool = False) -> list[Outcome]:
        """One attempt per recipient, all at once."""
        return self._loop.run_until_complete(self._deliver(recipients, content, file))

    async def _deliver(self, recipients: tuple[bytes, ...], content: bytes, file: bool) -> list[Outcome]:
        loop = asyncio.get_running_loop()
        reports: dict[int, Report] = {}
        ended = loop.create_future()

        def take(frame: Report | Draining, _descriptor: int | None) -> None:
            if isinstance(frame, Draining):
                self.draining = True
                return
            reports[frame.job] = frame
            if len(reports) == len(recipients):
                ended.set_result(None)

        decoder = msgspec.msgpack.Decoder(DeliveryAnswer)
        link = Link(loop, self.connection.dup(), decoder, take, lambda reason: ended.cancel())
        for job, recipient in enumerate(recipients):
            envelope = Envelope(b"a@b.org", [Recipient(recipient)])
            descriptor = None
            if file:
                descriptor = os.memfd_create("spool")
                os.write(descriptor, content)
            inline = b"" if file else content
            link.send(Attempt(job, 1, b"local", envelope, inline, len(content), 0.0, file), descriptor)
        await asyncio.wait_for(ended, 100)
        link.close()
        return [reports[job].outcomes[0] for job in range(len(recipients))]

    def _accept(self, loop: asyncio.AbstractEventLoop) -> None:
        connection, _address = self._sockets["inject"].accept()

        def take(frame: IntakeRequest, _descriptor: int | None) -> None:
            assert isinstance(frame, Inject)
            self.injected.append(frame)
            link.send(Accepted(frame.token, 5))

        link = Link(loop, connection, msgspec.msgpack.Decoder(IntakeRequest), take, lambda reason: None)

    @property
    def fork_server(self) -> int:
        return children_of(self.pid)[0]

    def child(self) -> int:
        """The first process of a user's."""
        return children_of(self.fork_server)[0]


def children_of(pid: int) -> list[int]:
    listed = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout
    return [int(child) for child in listed.split()]


def own(path: Path, uid: int = UID) -> None:
    if ROOT:
        subprocess.run(["chown", "-R", f"{uid}:{uid}", path], check=True)


def who(pid: int) -> int:
    """The user that a process is."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("Uid:")).split()[2])


def stored(place: Path) -> list[bytes]:
    return [path.read_bytes() for path in (place / "Maildir" / "new").iterdir()]


@pytest.fixture
def queue(place: Path) -> Iterator[Queue]:
    queue = Queue(place)
    queue.start()
    yield queue
    queue.stop()


DONE = Outcome(Verdict.DELIVERED, "2.0.0", "did 1+0+0\n")


def test_a_delivery(queue: Queue) -> None:
    joe = queue.user("joe")
    assert queue.deliver(b"Joe@x.org") == [DONE]
    assert stored(joe) == [b"Return-Path: <a@b.org>\nDelivered-To: Joe@x.org\nSubject: x\n\nbody\n"]
    (file,) = (joe / "Maildir" / "new").iterdir()
    assert (file.stat().st_uid, file.stat().st_mode & 0o777) == (UID, 0o600)


def test_many_deliveries(queue: Queue) -> None:
    joe = queue.user("joe")
    assert queue.deliver(*[b"joe@x.org"] * 200) == [DONE] * 200
    assert len(stored(joe)) == 200


def test_what_may_not_run_yet_waits_and_one_address_leaves_places_to_others(queue: Queue) -> None:
    joe, jim = queue.user("joe"), queue.user("jim")
    (joe / ".qmail-slow").write_text("|echo >>started; while [ ! -e go ]; do sleep 0.01; done\n")
    runs = joe / "started"

    def let_go_when_jim_has_his() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (stored(jim) and runs.exists() and runs.stat().st_size >= 8):
            time.sleep(0.01)
        time.sleep(0.2)
        (joe / "seen").write_text(f"{len(stored(jim))} {runs.stat().st_size}")
        (joe / "go").touch()

    watcher = os.fork()
    if not watcher:
        try:
            let_go_when_jim_has_his()
        finally:
            os._exit(0)
    # Of ten places one address has at most three times as many as stay free.
    outcomes = queue.deliver(*[b"joe-slow@x.org"] * 20, b"jim@x.org")
    os.waitpid(watcher, 0)
    assert (joe / "seen").read_text() == "1 8"
    assert [outcome.text for outcome in outcomes] == ["did 0+0+1\n"] * 20 + ["did 1+0+0\n"]
    assert runs.stat().st_size == 20


def test_content_in_a_file(queue: Queue) -> None:
    joe = queue.user("joe")
    content = b"Subject: x\r\n\r\n" + b"line\r\n" * 300_000
    assert queue.deliver(b"joe@x.org", b"joe@x.org", content=content, file=True) == [DONE] * 2
    assert {text.partition(b"\nSubject")[2] for text in stored(joe)} == {b": x\n\n" + b"line\n" * 300_000}


@needs_root
def test_every_user_works_for_himself(queue: Queue) -> None:
    ann = queue.user("ann", UID + 1)
    joe = queue.user("joe")
    ann.chmod(0o700)
    (joe / ".qmail").write_text(f"|id -u; id -g; id -G; umask\n|ls {ann} && exit 100; exit 0\n")
    outcomes = queue.deliver(b"joe@x.org", b"ann@x.org")
    assert outcomes[1] == DONE
    assert outcomes[0].verdict == Verdict.DELIVERED
    assert outcomes[0].text.startswith(f"{UID}\n{UID}\n{UID}\n0077\n")
    assert "Permission denied" in outcomes[0].text
    (file,) = (ann / "Maildir" / "new").iterdir()
    assert file.stat().st_uid == UID + 1


@needs_root
def test_the_users_own_programs_cannot_look_into_his_delivery_process(queue: Queue) -> None:
    joe = queue.user("joe")
    (joe / ".qmail").write_text(
        "|cat /proc/$PPID/environ > /dev/null && exit 100; ls /proc/$PPID/fd && exit 100; exit 0\n"
    )
    assert queue.deliver(b"joe@x.org")[0].verdict == Verdict.DELIVERED


def test_unknown_addresses(queue: Queue) -> None:
    outcomes = queue.deliver(b"nobody@x.org", b"nohost", b"@x.org", b"a\0b@x.org")
    assert [(outcome.verdict, outcome.status, outcome.text) for outcome in outcomes] == [
        (Verdict.FAILED, "5.1.1", "Sorry, no mailbox here by that name. (#5.1.1)\n"),
        (Verdict.FAILED, "5.1.3", "Sorry, address must include host name. (#5.1.3)\n"),
        (Verdict.DELIVERED, "2.0.0", ""),
        (Verdict.FAILED, "5.1.1", "Sorry, no mailbox here by that name. (#5.1.1)\n"),
    ]


def test_alias_forwards(queue: Queue) -> None:
    (queue.home / "alias" / ".qmail-root").write_text("&jiro@nix.co.jj\n&ann@x.org\n")
    (outcome,) = queue.deliver(b"root@x.org")
    assert (outcome.verdict, outcome.action) == (Verdict.DELIVERED, "expanded")
    (frame,) = queue.injected
    assert outcome.text == f"did 0+2+0\nqp {frame.origin.pid}\n"
    assert frame.origin.uid == UID
    assert frame.envelope == Envelope(b"a@b.org", [Recipient(b"jiro@nix.co.jj"), Recipient(b"ann@x.org")])
    received, delivered, rest = frame.content.split(b"\r\n", 2)
    assert received.startswith(b"Received: (qmail %d invoked by alias); " % frame.origin.pid)
    assert (delivered, rest) == (b"Delivered-To: root@x.org", CONTENT)


def test_who_gets_the_only_forward_tells_of_success(queue: Queue) -> None:
    joe = queue.user("joe")
    (joe / ".qmail").write_text("&jiro@nix.co.jj\n")
    (joe / ".qmail-gone").write_text("|exit 99\n&jiro@nix.co.jj\n")
    forwarded, dropped = queue.deliver(b"joe@x.org", b"joe-gone@x.org")
    assert (forwarded.verdict, forwarded.relayed_dsn) == (Verdict.DELIVERED, True)
    assert (dropped.verdict, dropped.relayed_dsn) == (Verdict.DELIVERED, False)


def test_a_broken_database_defers(queue: Queue) -> None:
    (queue.home / "users" / "cdb").write_bytes(b"nonsense")
    (outcome,) = queue.deliver(b"joe@x.org")
    assert (outcome.verdict, outcome.status) == (Verdict.DEFERRED, "4.3.5")


def test_a_killed_process_defers_and_the_next_one_delivers(queue: Queue) -> None:
    joe = queue.user("joe")
    (joe / ".qmail-stop").write_text("|kill -STOP $PPID; sleep 1; exit 0\n")
    (joe / ".qmail-kill").write_text("|kill -KILL $PPID; sleep 1; exit 0\n")
    (outcome,) = queue.deliver(b"joe-kill@x.org")
    assert outcome == Outcome(Verdict.DEFERRED, "4.3.0", "The delivery's process crashed. (#4.3.0)\n")
    assert queue.deliver(b"joe@x.org") == [DONE]


def test_a_killed_process_takes_only_its_users_mail_along(queue: Queue) -> None:
    if not ROOT:
        pytest.skip("needs root")
    queue.user("ann", UID + 1)
    joe = queue.user("joe")
    (joe / ".qmail-kill").write_text("|kill -KILL $PPID; sleep 1; exit 0\n")
    outcomes = queue.deliver(b"joe-kill@x.org", *[b"ann@x.org"] * 20)
    assert [outcome.verdict for outcome in outcomes] == [Verdict.DEFERRED] + [Verdict.DELIVERED] * 20


@needs_root
@pytest.mark.parametrize("instruction", ["./small/Maildir/", "./small/Mailbox"])
def test_a_full_disk_defers_and_leaves_nothing(queue: Queue, instruction: str) -> None:
    joe = queue.user("joe")
    small = joe / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", small], capture_output=True).returncode:
        pytest.skip("cannot mount")
    try:
        for part in ("tmp", "new", "cur"):
            (small / "Maildir" / part).mkdir(parents=True)
        (small / "Mailbox").write_text("From old\n\n")
        own(joe)
        (joe / ".qmail").write_text(f"{instruction}\n")
        outcomes = queue.deliver(b"joe@x.org", b"joe@x.org", content=CONTENT + b"x" * 99_000)
        assert {(outcome.verdict, outcome.status) for outcome in outcomes} == {(Verdict.DEFERRED, "4.3.1")}
        assert (small / "Mailbox").read_text() == "From old\n\n"
        assert list((small / "Maildir" / "new").iterdir()) == list((small / "Maildir" / "tmp").iterdir()) == []
        assert queue.deliver(b"joe@x.org") == [DONE]
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def fences(pid: int) -> tuple[bool, bool]:
    """Whether a process has a filter, and whether it can gain no privileges."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return "Seccomp:\t2" in status, "NoNewPrivs:\t1" in status


can_be_fenced = pytest.mark.skipif(bool(seccomp.available()), reason="this kernel has no filters")
PROGRAM = "|grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status\n"
UNFENCED = "NoNewPrivs:\t0\nSeccomp:\t0\ndid 0+0+1\n"


@can_be_fenced
@pytest.mark.parametrize(
    "instruction", ["./Maildir/", "./Mailbox", "/dev/null", "&ann@x.org", "./Maildir/\n&ann@x.org", "#"]
)
def test_mail_that_runs_no_program_is_delivered_behind_a_fence(queue: Queue, instruction: str) -> None:
    joe = queue.user("joe")
    (joe / ".qmail").write_text(f"{instruction}\n")
    for _ in range(2):
        (outcome,) = queue.deliver(b"joe@x.org")
        assert outcome.verdict == Verdict.DELIVERED, outcome.text
    assert fences(queue.child()) == (True, True)
    assert len(queue.injected) == 2 * ("&" in instruction)


def test_a_program_runs_as_it_would_without_fences(queue: Queue) -> None:
    joe = queue.user("joe")
    (joe / ".qmail").write_text(PROGRAM)
    for _ in range(2):
        assert queue.deliver(b"joe@x.org")[0].text == UNFENCED
    assert fences(queue.child()) == (False, False)


@pytest.mark.parametrize("file", [False, True])
def test_what_the_fence_has_no_room_for_another_process_delivers(queue: Queue, file: bool) -> None:
    joe = queue.user("joe")
    for part in ("tmp", "new", "cur"):
        (joe / "Other" / part).mkdir(parents=True)
    own(joe)
    (joe / ".qmail-run").write_text(PROGRAM)
    (joe / ".qmail-other").write_text("./Other/\n")
    (joe / ".qmail-away").write_text("&ann@x.org\n./Maildir/\n")
    assert queue.deliver(b"joe@x.org", file=file) == [DONE]
    first = queue.child()
    outcomes = queue.deliver(*[b"joe@x.org", b"joe-run@x.org", b"joe-other@x.org", b"joe-away@x.org"] * 25, file=file)
    assert {outcome.text.partition("\nqp")[0].strip() for outcome in outcomes[3::4]} == {"did 1+1+0"}
    assert [outcome.text for outcome in outcomes[1::4]] == [UNFENCED] * 25
    assert outcomes[0::4] == outcomes[2::4] == [DONE] * 25
    assert len(stored(joe)) == 51 and len(queue.injected) == 25 and len(os.listdir(joe / "Other" / "new")) == 25
    assert queue.child() != first, "the first one has gone"


def test_what_is_put_in_the_place_of_what_was_there_is_found(queue: Queue) -> None:
    joe = queue.user("joe")
    (joe / ".qmail").unlink()
    (joe / ".qmail-default").write_text("./Maildir/\n")
    (joe / ".qmail").write_text("./Maildir/\n")
    assert queue.deliver(b"joe@x.org") == [DONE]
    (joe / "Maildir").rename(joe / "old")
    (outcome,) = queue.deliver(b"joe@x.org")
    assert (outcome.verdict, outcome.status) == (Verdict.DEFERRED, "4.2.1")
    for part in ("tmp", "new", "cur"):
        (joe / "Maildir" / part).mkdir(parents=True)
    own(joe)
    assert queue.deliver(b"joe@x.org") == [DONE]


@can_be_fenced
def test_an_edited_file_is_read(queue: Queue) -> None:
    joe = queue.user("joe")
    assert queue.deliver(b"joe@x.org") == [DONE]
    # As an editor does it: another file by the same name.
    (joe / "new").write_text("./Mailbox\n")
    own(joe)
    (joe / "new").rename(joe / ".qmail")
    assert queue.deliver(b"joe@x.org") == [DONE]
    assert (joe / "Mailbox").exists()


@pytest.mark.skipif(not Path("/usr/share/zoneinfo/Asia/Tokyo").exists(), reason="needs the zone's file")
def test_behind_a_fence_the_time_is_the_hosts(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    queue = Queue(place)
    queue.start()
    joe = queue.user("joe")
    (joe / ".qmail").write_text("./Mailbox\n")
    try:
        assert queue.deliver(b"joe@x.org") == [DONE]
    finally:
        queue.stop()
    stamp = (joe / "Mailbox").read_text().partition("\n")[0].removeprefix("From a@b.org ")
    assert abs(calendar.timegm(time.strptime(stamp)) - time.time() - 9 * 3600) < 60


@can_be_fenced
def test_strangers_cannot_have_the_fence_opened(queue: Queue) -> None:
    queue.user("joe")
    assert queue.deliver(b"joe-none@x.org")[0].status == "5.1.1"
    assert queue.deliver(b"joe@x.org") == [DONE]
    first = queue.child()
    assert queue.deliver(b"joe-none@x.org")[0].status == "5.1.1"
    assert queue.deliver(b"joe@x.org") == [DONE]
    assert queue.child() == first and fences(first) == (True, True)


def test_killed_at_any_moment_nothing_is_torn(queue: Queue) -> None:
    joe = queue.user("joe")
    content = b"Subject: x\r\n\r\n" + b"line\r\n" * 10_000
    delivered = 0
    for round_ in range(5):
        # The role may not know yet that the process was killed when it had nothing left to do.
        assert DONE in (queue.deliver(b"joe@x.org")[0] for _ in range(5))
        delivered += 1
        worker = queue.child()
        killer = os.fork()
        if not killer:
            time.sleep(0.002 * round_)
            os.kill(worker, signal.SIGKILL)
            os._exit(0)
        outcomes = queue.deliver(*[b"joe@x.org"] * 20, content=content)
        os.waitpid(killer, 0)
        assert {outcome.verdict for outcome in outcomes} <= {Verdict.DELIVERED, Verdict.DEFERRED}
        delivered += sum(outcome.verdict == Verdict.DELIVERED for outcome in outcomes)
    texts = {text.partition(b"\nSubject")[2] for text in stored(joe)}
    assert texts <= {b": x\n\n" + b"line\n" * 10_000, b": x\n\nbody\n"}
    assert len(stored(joe)) >= delivered


@needs_root
def test_who_looks_for_users_is_not_root(queue: Queue) -> None:
    joe = queue.user("joe")
    assert queue.deliver(b"joe@x.org") == [DONE]
    assert who(queue.pid) == NOBODY and fences(queue.pid) == (True, True)
    assert who(queue.fork_server) == 0 and fences(queue.fork_server) == (False, False)
    assert who(queue.child()) == UID
    # What root alone may read it reads, too.
    ann = queue.user("ann")
    (queue.home / "users").chmod(0o700)
    (queue.home / "users" / "cdb").chmod(0o600)
    assert queue.deliver(b"ann@x.org") == [DONE]
    assert (len(stored(joe)), len(stored(ann))) == (1, 1)


def test_without_its_fork_server_it_ends_what_is_in_hand_and_then_itself(queue: Queue) -> None:
    joe = queue.user("joe")
    ann = queue.user("ann", UID + 1 if ROOT else UID)
    (joe / ".qmail-slow").write_text("|touch started; sleep 1\n")
    assert queue.deliver(b"joe@x.org") == [DONE]
    server = queue.fork_server
    killer = os.fork()
    if not killer:
        while not (joe / "started").exists():
            time.sleep(0.01)
        os.kill(server, signal.SIGKILL)
        os._exit(0)
    assert queue.deliver(b"joe-slow@x.org")[0].text == "did 0+0+1\n"
    os.waitpid(killer, 0)
    assert queue.draining, "it wants nothing more"
    if ROOT:
        (outcome,) = queue.deliver(b"ann@x.org")
        assert (outcome.verdict, outcome.status) == (Verdict.DEFERRED, "4.3.0")
        assert outcome.text.startswith("Unable to start a delivery: ")
        assert stored(ann) == []
    # The queue has nothing more in hand.
    queue.connection.shutdown(socket.SHUT_RDWR)
    assert os.waitstatus_to_exitcode(os.waitpid(queue.pid, 0)[1]) != 0
    queue.pid = 0


@needs_root
def test_where_users_are_looked_up_otherwise_than_at_the_start_it_ends(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch = place / "nsswitch.conf"
    switch.write_text("passwd: files\n")
    monkeypatch.setattr(fenced_accounts, "SWITCH", switch)
    queue = Queue(place)
    joe = queue.user("joe")
    queue.start()
    assert queue.deliver(b"nobodys-name@x.org")[0].status == "5.1.1"
    switch.write_text("passwd: files sss\n")
    # Answers are used for a second.
    (outcome,) = queue.deliver(b"another-name@x.org")
    assert (outcome.verdict, outcome.text) == (Verdict.DEFERRED, f"{switch} has changed. (#4.3.0)\n")
    assert queue.draining
    # Whom the assignments name is not looked up anywhere else.
    assert queue.deliver(b"joe@x.org") == [DONE]
    assert len(stored(joe)) == 1
    queue.stop()


@needs_root
def test_users_that_a_fence_might_hide_are_looked_up_without(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    switch = place / "nsswitch.conf"
    switch.write_text("passwd: files ldap\n")
    monkeypatch.setattr(fenced_accounts, "SWITCH", switch)
    queue = Queue(place)
    queue.user("joe")
    queue.start()
    assert queue.deliver(b"joe@x.org") == [DONE]
    assert fences(queue.pid) == (False, False)
    queue.stop()


def test_told_to_stop_it_finishes_what_is_in_hand(queue: Queue) -> None:
    joe = queue.user("joe")
    (joe / ".qmail-slow").write_text("|touch started; sleep 0.5\n")

    def stop_when_started() -> None:
        while not (joe / "started").exists():
            time.sleep(0.01)
        os.kill(queue.pid, signal.SIGTERM)
        os._exit(0)

    killer = os.fork()
    if not killer:
        stop_when_started()
    assert queue.deliver(b"joe-slow@x.org")[0].text == "did 0+0+1\n"
    os.waitpid(killer, 0)
    queue.connection.settimeout(60)


@pytest.mark.parametrize(
    ("verdict", "text", "status"),
    [
        (Verdict.DELIVERED, "did 1+0+0\n", "2.0.0"),
        (Verdict.FAILED, "no (#5.1.1)\n", "5.1.1"),
        (Verdict.FAILED, "the other side said (#4.4.1)\n", "5.0.0"),
        (Verdict.DEFERRED, "one (#4.1.1)\ntwo (#4.2.2)\n", "4.2.2"),
        (Verdict.DEFERRED, "", "4.0.0"),
    ],
)
def test_status_codes(verdict: int, text: str, status: str) -> None:
    assert outcome_of(verdict, text) == Outcome(verdict, status, text)
