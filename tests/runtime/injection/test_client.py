"""The client of run/inject against a queue process that answers by script, and against an empty queue."""

from __future__ import annotations

import array
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ekiden.runtime.frames import Accepted, Inject, IntakeRequest, Rejected, SpoolGrant, SpoolRequest
from ekiden.runtime.injection.client import INLINE_OCTETS, Injection
from ekiden.runtime.injection.connection import ANSWER_SECONDS, Connection, connect
from ekiden.runtime.injection.door import Body, Letter, NotQueued
from ekiden.settings.first import configure, make_home
from ekiden.settings.schema import Settings

Answer = Callable[[Any], Any]


def inject(home: str, letter: Letter, content: Iterable[bytes]) -> int:
    with Injection(home) as injection:
        injection.content(content)
        return injection.send(letter)


class Queue:
    """Answers one connection's frames; keeps them, and what was written to the spool file."""

    def __init__(self, home: Path, answer: Answer) -> None:
        self.frames: list[Any] = []
        self.spool = home / "spooled"
        self._answer = answer
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(home / "run" / "inject"))
        self._socket.listen(1)
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        connection, _address = self._socket.accept()
        with connection, connection.makefile("rb") as file:
            while head := file.read(4):
                frame = msgspec.msgpack.decode(file.read(struct.unpack(">I", head)[0]), type=IntakeRequest)
                self.frames.append(frame)
                answer = self._answer(frame)
                if answer is None:
                    return
                self._send(connection, answer)

    def _send(self, connection: socket.socket, answer: Any) -> None:
        encoded = msgspec.msgpack.encode(answer)
        rights = []
        if isinstance(answer, SpoolGrant):
            descriptor = os.open(self.spool, os.O_RDWR | os.O_CREAT, 0o600)
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
        data = struct.pack(">I", len(encoded)) + encoded
        connection.sendmsg([data[:3]], rights)
        connection.sendall(data[3:])

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def home(place: Path) -> Path:
    make_home(place / "home")
    configure(place / "home", "ekiden.example", lambda *_: None)
    return place / "home"


@pytest.fixture
def make_queue(home: Path) -> Iterator[Callable[[Answer], Queue]]:
    made: list[Queue] = []

    def make(answer: Answer) -> Queue:
        made.append(Queue(home, answer))
        return made[-1]

    yield make
    for queue in made:
        queue.close()


def willing(frame: Any) -> Any:
    if isinstance(frame, SpoolRequest):
        return SpoolGrant(frame.token, "name")
    return Accepted(frame.token, 77)


def test_a_small_message_travels_in_the_frame(home: Path, make_queue: Callable[[Answer], Queue]) -> None:
    queue = make_queue(willing)
    letter = Letter(b"s@x", [b"a@x", b"b@y"], notify=2, ret=b"HDRS", envid=b"id")
    assert inject(str(home), letter, [b"A: b\r", b"\n\nx\xe9", b"\ny"]) == 77
    (frame,) = queue.frames
    assert isinstance(frame, Inject)
    assert frame.content == b"A: b\r\r\n\r\nx\xe9\r\ny"
    envelope = frame.envelope
    assert (envelope.sender, envelope.ret, envelope.envid) == (b"s@x", b"HDRS", b"id")
    assert [(each.address, each.notify, each.orcpt) for each in envelope.recipients] == [
        (b"a@x", 2, b""),
        (b"b@y", 2, b""),
    ]
    assert (envelope.body, envelope.smtputf8) == (1, False)
    assert (frame.origin.pid, frame.origin.uid, frame.origin.protocol) == (os.getpid(), os.getuid(), "local")


def test_plain_text_is_seven_bit_and_odd_addresses_are_utf8(
    home: Path, make_queue: Callable[[Answer], Queue]
) -> None:
    queue = make_queue(willing)
    inject(str(home), Letter(b"", ["ü@x".encode()]), [b"A: b\n"])
    assert (queue.frames[0].envelope.body, queue.frames[0].envelope.smtputf8) == (0, True)


@pytest.mark.parametrize("control", [None, "100\n"])
def test_a_large_message_goes_into_a_file(
    home: Path, make_queue: Callable[[Answer], Queue], control: str | None
) -> None:
    if control:
        (home / "control" / "inlinebytes").write_text(control)
    limit = int(control or INLINE_OCTETS)
    queue = make_queue(willing)
    content = (b"x" * 48 + b"\n") * (limit // 50 + 1)
    assert inject(str(home), Letter(b"s@x", [b"a@x"]), [content[:99], content[99:]]) == 77
    assert queue.spool.read_bytes() == content.replace(b"\n", b"\r\n")
    frame = queue.frames[1]
    assert (frame.spool, frame.size, frame.content) == ("name", len(queue.spool.read_bytes()), b"")


def test_the_limit_is_the_settings_default() -> None:
    assert Settings(me=b"x.y").inlinebytes == INLINE_OCTETS


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (lambda frame: Rejected(frame.token, 452, "4.3.1", "mail queue is full"), 53, "mail queue is full (#4.3.1)"),
        (lambda frame: Rejected(frame.token, 451, "4.3.0", "not now"), 71, "not now (#4.3.0)"),
        (lambda frame: Rejected(frame.token, 554, "5.6.0", "never"), 31, "never (#5.6.0)"),
        (lambda frame: None, 74, "end of file"),
        (lambda frame: SpoolGrant(frame.token, "what"), 74, "means nothing"),
        (lambda frame: [3], 74, "means nothing"),
    ],
)
def test_refusals(home: Path, make_queue: Callable[[Answer], Queue], answer: Answer, code: int, said: str) -> None:
    make_queue(answer)
    with pytest.raises(NotQueued) as caught:
        inject(str(home), Letter(b"s@x", [b"a@x"]), [b"A: b\n"])
    assert caught.value.code == code
    assert said in str(caught.value)


def test_content_that_cannot_be_read(home: Path) -> None:
    def content() -> Iterator[bytes]:
        yield b"A: b\n"
        raise OSError(5, "Input/output error")

    with pytest.raises(NotQueued) as caught:
        inject(str(home), Letter(b"s@x", [b"a@x"]), content())
    assert caught.value.code == 54


def test_nobody_to_send_to(home: Path) -> None:
    assert inject(str(home), Letter(b"s@x", []), [b"A: b\n"]) == 0
    assert not (home / "queue" / "queue.sqlite").exists()


def test_a_home_whose_queue_may_not_be_written(home: Path) -> None:
    (home / "queue").rmdir()
    with pytest.raises(NotQueued) as caught:
        inject(str(home), Letter(b"s@x", [b"a@x"]), [b"A: b\n"])
    assert caught.value.code == 62


@pytest.mark.parametrize("size", [10, INLINE_OCTETS + 1000])
def test_while_ekiden_does_not_run_the_store_takes_it(home: Path, size: int) -> None:
    from ekiden.queue.sqlite import SQLiteStore

    letter = Letter(b"s@x", [b"a@x.example", b"b@ekiden.example"])
    first, second = (inject(str(home), letter, [b"x" * size + b"\n"]) for _ in range(2))
    assert 0 < first < second
    store = SQLiteStore(home / "queue")
    assert store.recover().messages == 2
    row = store.message(first)
    assert row is not None and (row.sender, row.size) == (b"s@x", size + 2)
    stored = store.content(first)
    if stored is None:
        with open(store.open_spool(row.spool), "rb") as file:
            stored = file.read()
    assert stored == b"x" * size + b"\r\n"
    assert [each.recipients[0].address for each in store.parts(first)] == [b"a@x.example", b"b@ekiden.example"]
    store.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away, which needs root")
def test_what_root_makes_belongs_to_the_owner_of_the_queue(home: Path) -> None:
    """Found by a start that raced an injection: the queue process could not open files of root's."""
    os.chown(home / "queue", 65534, 65534)
    letter = Letter(b"s@x", [b"a@x.example"])
    for size in (10, INLINE_OCTETS + 1000):
        inject(str(home), letter, [b"x" * size + b"\n"])
    made = [*(home / "queue").iterdir(), *(home / "queue" / "spool").iterdir()]
    assert len(made) >= 4
    assert {path.stat().st_uid for path in made} == {65534}


def test_what_is_not_finished_leaves_nothing(home: Path) -> None:
    with Injection(str(home)) as injection:
        injection.content([b"x" * (INLINE_OCTETS + 1)])
        assert len(os.listdir(home / "queue" / "spool")) == 1
    assert os.listdir(home / "queue" / "spool") == []


def test_who_is_sent_away_is_told_why(home: Path) -> None:
    """The queue process may close before it has read what it was sent."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(home / "run" / "inject"))
        listening.listen(1)
        connection = connect(str(home))
        refusing, _address = listening.accept()
        encoded = msgspec.msgpack.encode(Rejected(0, 451, "4.3.2", "too many connections of uid 7"))
        refusing.sendall(struct.pack(">I", len(encoded)) + encoded)
        refusing.close()
        door = Connection(connection)
        with pytest.raises(NotQueued, match=r"too many connections of uid 7 \(#4\.3\.2\)") as raised:
            door.queue(Letter(b"a@b", [b"c@d"]), Body(b"x" * 1_000_000, False, 1_000_000))
        assert not raised.value.permanent
        door.close()


def test_a_full_waiting_room_is_waited_for(home: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(home / "run" / "inject"))
        listening.listen(0)
        first = connect(str(home))
        probe = socket.socket(socket.AF_UNIX)
        probe.setblocking(False)
        with pytest.raises(BlockingIOError):
            probe.connect(str(home / "run" / "inject"))
        probe.close()
        entered: list[socket.socket] = []
        waiting = threading.Thread(target=lambda: entered.append(connect(str(home))))
        waiting.start()
        waiting.join(0.1)
        assert entered == []
        listening.accept()[0].close()
        waiting.join(60)
        assert len(entered) == 1
        assert entered[0].gettimeout() == ANSWER_SECONDS
        entered[0].close()
        first.close()
