"""qmail-remote as a program: its descriptors, its reports, what it imports."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

MESSAGE = b"Subject: a\n\n.dot\nb\r\nend\n"
WIRE = b"Subject: a\r\n\r\n..dot\r\nb\r\nend\r\n.\r\n"
ACCEPTED = "127.0.0.1 accepted message.\nRemote host said: 250 2.0.0 queued\n"


class Server(threading.Thread):
    """Answers one connection's commands from a list; ``heard`` is all that the client said."""

    def __init__(self, *answers: bytes) -> None:
        super().__init__(daemon=True)
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.heard = b""
        self.start()

    def run(self) -> None:
        connection, _ = self._listener.accept()
        with connection, self._listener:
            connection.settimeout(60)
            for answer in self._answers:
                connection.sendall(answer)
                data = connection.recv(65536)
                while data and not data.endswith(b"\n"):
                    data += connection.recv(65536)
                self.heard += data


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "control").mkdir()
    (tmp_path / "control/me").write_text("me.example\n")
    return tmp_path


@pytest.fixture
def run(home: Path) -> Iterator[object]:
    def run(*argv: str, message: bytes = MESSAGE, port: int = 0) -> list[str]:
        if port:
            (home / "control/smtproutes").write_text(f"nix.example:[127.0.0.1]:{port}\n")
        command = [sys.executable, "-m", "ekiden.cli", "--home", str(home), "qmail-remote", *argv]
        done = subprocess.run(command, input=message, capture_output=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        *reports, rest = done.stdout.decode().split("\0")
        assert rest == ""
        return reports

    yield run


PLAIN = (b"220 x\r\n", b"250 x\r\n", b"250\r\n")


def test_delivered(run) -> None:  # type: ignore[no-untyped-def]
    server = Server(*PLAIN, b"250\r\n", b"354\r\n", b"250 2.0.0 queued\r\n")
    assert run("nix.example", "a@x.example", "b@nix.example", port=server.port) == ["r", "K" + ACCEPTED]
    server.join(60)
    assert server.heard == (
        b"EHLO me.example\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@nix.example>\r\nDATA\r\n" + WIRE + b"QUIT\r\n"
    )


def test_recipients_one_by_one(run) -> None:  # type: ignore[no-untyped-def]
    server = Server(*PLAIN, b"550 no\r\n", b"250\r\n", b"450 busy\r\n", b"354\r\n", b"250 2.0.0 queued\r\n")
    reports = run("nix.example", "", "b@nix.example", "c@nix.example", "d@nix.example", port=server.port)
    assert reports == [
        "h127.0.0.1 does not like recipient.\nRemote host said: 550 no\n",
        "r",
        "s127.0.0.1 does not like recipient.\nRemote host said: 450 busy\n",
        "K" + ACCEPTED,
    ]
    server.join(60)
    assert b"MAIL FROM:<>\r\n" in server.heard


def test_nobody_left(run) -> None:  # type: ignore[no-untyped-def]
    server = Server(*PLAIN, b"450 busy\r\n")
    assert run("nix.example", "a@x.example", "b@nix.example", port=server.port) == [
        "s127.0.0.1 does not like recipient.\nRemote host said: 450 busy\n",
        "DGiving up on 127.0.0.1.\n",
    ]


class Leaves(Server):
    """Hangs up once it has said all."""

    def run(self) -> None:
        connection, _ = self._listener.accept()
        with connection, self._listener:
            for answer in self._answers:
                connection.sendall(answer)
                if answer is not self._answers[-1]:
                    connection.recv(65536)
            connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(OSError):
                connection.recv(65536)


FULL = "127.0.0.1 failed after I sent the message.\nRemote host said: 452 full\n"
UNKNOWN = "127.0.0.1 failed after I sent the message.\nRemote host said: 550 who\n"
DIED = "Connected to 127.0.0.1 but connection died. Possible duplicate! (#4.4.2)\n"


@pytest.mark.parametrize(
    ("answers", "reports"),
    [
        (b"250 2.0.0 queued\r\n550 who\r\n", ["r", f"h{UNKNOWN}", f"K{ACCEPTED}"]),
        (b"550 who\r\n250 2.0.0 queued\r\n", [f"h{UNKNOWN}", "r", f"K{ACCEPTED}"]),
        (b"550 who\r\n452 full\r\n", [f"h{UNKNOWN}", f"s{FULL}", f"D{FULL}"]),
        (b"250 2.0.0 queued\r\n", ["r", f"s{DIED}", f"K{ACCEPTED}"]),
        (b"550 who\r\n", [f"h{UNKNOWN}", "r", f"Z{DIED}"]),
        (b"", ["r", "r", f"Z{DIED}"]),
    ],
)
def test_a_mail_stores_answer_for_each_recipient(run, home: Path, answers: bytes, reports: list[str]) -> None:  # type: ignore[no-untyped-def]
    server = Leaves(b"220 x\r\n", b"250-x\r\n250 PIPELINING\r\n", b"250\r\n250\r\n250\r\n354\r\n", answers)
    (home / "control/smtproutes").write_text(f"nix.example:lmtp:[127.0.0.1]:{server.port}\n")
    assert run("nix.example", "a@x.example", "b@nix.example", "c@nix.example") == reports


def test_sender_rejected(run) -> None:  # type: ignore[no-untyped-def]
    server = Server(b"220 x\r\n", b"250-x\r\n250 PIPELINING\r\n", b"550 who\r\n503\r\n503\r\n")
    assert run("nix.example", "a@x.example", "b@nix.example", port=server.port) == [
        "DConnected to 127.0.0.1 but sender was rejected.\nRemote host said: 550 who\n"
    ]


def test_lost_after_the_dot(run) -> None:  # type: ignore[no-untyped-def]
    server = Server(*PLAIN, b"250\r\n", b"354\r\n")
    assert run("nix.example", "a@x.example", "b@nix.example", port=server.port) == [
        "r",
        "ZConnected to 127.0.0.1 but connection died. Possible duplicate! (#4.4.2)\n",
    ]


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ((b"554 not here\r\n",), "greeting failed.\nRemote host said: 554 not here"),
        ((b"220 x\r\n", b"450 later\r\n"), "my name was rejected.\nRemote host said: 450 later"),
    ],
)
def test_leave_is_taken_of_a_host_that_refuses(run, answers: tuple[bytes, ...], said: str) -> None:  # type: ignore[no-untyped-def]
    server = Server(*answers)
    assert run("nix.example", "a@x.example", "b@nix.example", port=server.port) == [
        f"ZConnected to 127.0.0.1 but {said}\n"
    ]
    server.join(60)
    assert server.heard.endswith(b"QUIT\r\n")


class Resets(Server):
    """Takes the message and is gone at once, without reading what was said last."""

    def run(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            for answer in self._answers[:-1]:
                connection.sendall(answer)
                connection.recv(65536)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(self._answers[-1])


def test_a_host_that_is_gone_after_it_took_the_message(run) -> None:  # type: ignore[no-untyped-def]
    server = Resets(*PLAIN, b"250\r\n", b"354\r\n", b"250 2.0.0 queued\r\n")
    assert run("nix.example", "a@x.example", "b@nix.example", port=server.port) == ["r", "K" + ACCEPTED]


class Drips(Server):
    """Begins a greeting that never ends."""

    def run(self) -> None:
        connection, _ = self._listener.accept()
        with connection, self._listener, contextlib.suppress(OSError):
            while True:
                connection.sendall(b"220-x\r\n")
                time.sleep(0.2)


def test_a_host_gains_no_time_by_dripping(run, home: Path) -> None:  # type: ignore[no-untyped-def]
    (home / "control/timeoutgreeting").write_text("1\n")
    assert run("nix.example", "a@x.example", "b@nix.example", port=Drips().port) == [
        "ZConnected to 127.0.0.1 but connection died. (#4.4.2)\nNo answer within 1 seconds.\n"
    ]


@pytest.fixture
def table(home: Path) -> Path:
    """queue/tcpto, as qmail-send leaves it to be shared."""
    (home / "queue").mkdir()
    table = home / "queue/tcpto"
    table.touch()
    return table


def test_an_address_that_times_out_is_noted_for_others(run, home: Path, table: Path) -> None:  # type: ignore[no-untyped-def]
    (home / "control/timeoutconnect").write_text("1\n")
    with contextlib.ExitStack() as open_:
        listener = open_.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):  # its backlog is full
            client = open_.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        for _ in range(2):
            assert run("nix.example", "a@x.example", "b@nix.example", port=listener.getsockname()[1]) == [
                "ZSorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n"
            ]
    # The second one came too soon to count.
    assert re.fullmatch(r"127\.0\.0\.1 \d+ 1\n", table.read_text())


def test_an_address_that_timed_out_twice_is_left_alone(run, home: Path, table: Path) -> None:  # type: ignore[no-untyped-def]
    table.write_text(f"127.0.0.1 {int(time.time()) - 10} 2\n")
    server = Server(*PLAIN, b"250\r\n", b"354\r\n", b"250 2.0.0 queued\r\n")
    assert run("nix.example", "a@x.example", "b@nix.example", port=server.port) == [
        "ZSorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n"
    ]
    table.write_text(f"127.0.0.1 {int(time.time()) - 10} 1\n192.0.2.1 1000 2\n")
    assert run("nix.example", "a@x.example", "b@nix.example", port=server.port) == ["r", "K" + ACCEPTED]
    assert table.read_text() == "192.0.2.1 1000 2\n"


def test_where_there_is_no_table_none_is_made(run, table: Path) -> None:  # type: ignore[no-untyped-def]
    table.unlink()
    server = Server(*PLAIN, b"250\r\n", b"354\r\n", b"250 2.0.0 queued\r\n")
    assert run("nix.example", "a@x.example", "b@nix.example", port=server.port) == ["r", "K" + ACCEPTED]
    assert not table.exists()


class BreaksOff(Server):
    """Agrees to TLS on its first connection and hangs up in the handshake; serves the second."""

    def run(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            for answer in (b"220 x\r\n", b"250-x\r\n250 STARTTLS\r\n", b"220 go\r\n"):
                connection.sendall(answer)
                connection.recv(65536)
        super().run()


def test_a_handshake_that_breaks_off_is_done_without(run) -> None:  # type: ignore[no-untyped-def]
    server = BreaksOff(*PLAIN, b"250\r\n", b"354\r\n", b"250 2.0.0 queued\r\n")
    assert run("nix.example", "a@x.example", "b@nix.example", port=server.port) == ["r", "K" + ACCEPTED]
    server.join(60)
    assert WIRE in server.heard


def test_nothing_sent(run, home: Path) -> None:  # type: ignore[no-untyped-def]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert run("nix.example", "a@x.example", "b@nix.example", port=port) == [
            "ZSorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n"
        ]
    assert run("nix.example", "a@x.example") == ["DI (qmail-remote) was invoked improperly. (#5.3.5)\n"]
    assert run("nix.example", "a@x.example", "b@nix.example", message=b"half a line") == [
        "DSMTP cannot transfer messages with partial final lines. (#5.6.2)\n"
    ]
    (home / "control/me").unlink()
    assert run("nix.example", "a@x.example", "b@nix.example") == ["ZUnable to read control files. (#4.3.0)\n"]


def test_it_starts_without_an_event_loop() -> None:
    names = "('asyncio', 'uvloop', 'dns')"
    code = f"import ekiden.programs.qmail_remote, sys; print([name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)
    assert done.stdout == b"[]\n"
