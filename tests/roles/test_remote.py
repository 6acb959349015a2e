"""The remote role whole, between a queue played by the test and servers that behave in every way."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import socket
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.peers.processes import accepts, free_port, program, wait_until

from ekiden.base.envelope import Body, Envelope, Recipient
from ekiden.base.outcome import Outcome, Verdict
from ekiden.roles.remote import main
from ekiden.runtime.frames import Attempt, DeliveryAnswer, HostState, Report
from ekiden.runtime.link import Link
from ekiden.runtime.log import Log
from ekiden.runtime.role import Context
from ekiden.settings.schema import Settings

CONTENT = b"Subject: a\r\n\r\nhello\r\n.dot\r\n"
Handler = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: Server) -> None:
        self.reader = reader
        self.writer = writer
        self.server = server

    def say(self, *lines: str) -> None:
        self.writer.write("".join(line + "\r\n" for line in lines).encode())

    async def hear(self) -> str:
        line = await self.reader.readline()
        if not line:
            raise ConnectionError
        return line.decode("latin-1").rstrip("\r\n")

    async def greet(self, *extensions: str) -> None:
        self.say("220 mx.example ESMTP")
        await self.hear()
        words = ["mx.example", *extensions]
        self.say(*(f"250-{word}" for word in words[:-1]), f"250 {words[-1]}")

    async def transaction(self, answer: str = "250 2.0.0 queued") -> None:
        """One message, accepted up to the dot."""
        while True:
            command = await self.hear()
            if command == "QUIT":
                self.say("221 bye")
                raise ConnectionError
            self.server.commands.append(command)
            if command == "DATA":
                break
            self.say("250 ok")
        self.say("354 go")
        content = await self.reader.readuntil(b"\r\n.\r\n")
        self.server.contents.append(content[:-3].replace(b"\r\n..", b"\r\n."))
        if answer:
            self.say(answer)


class Server:
    """Listens at a loopback address; ``handler`` plays every connection."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.connections = 0
        self.commands: list[str] = []
        self.contents: list[bytes] = []
        self.port = 0
        self.listening: asyncio.Server | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.listening = await asyncio.start_server(self._serve, host, port, limit=1 << 26)
        self.port = self.listening.sockets[0].getsockname()[1]

    @property
    def destination(self) -> bytes:
        return b"[127.0.0.1]:%d" % self.port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._handler(Peer(reader, writer, self))
        writer.close()


class Queue:
    """Plays the queue role: sends attempts, collects reports."""

    def __init__(self, home: Path, context: Context) -> None:
        self.context = context
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(home / "run/remote"))
        self._listener.listen(5)
        self._listener.setblocking(False)
        self._reports: dict[int, asyncio.Future[Report]] = {}
        self._jobs = 0
        self.hosts: list[HostState] = []
        self.draining = False
        self.link: Link[DeliveryAnswer] | None = None
        self.closed = asyncio.Event()

    async def accept(self) -> None:
        loop = asyncio.get_running_loop()
        connection, _ = await loop.sock_accept(self._listener)
        self._reports.clear()
        self.closed.clear()
        self.link = Link(
            loop, connection, msgspec.msgpack.Decoder(DeliveryAnswer), self._take, lambda _: self.closed.set()
        )

    def attempt(
        self,
        destination: bytes,
        *recipients: bytes,
        content: bytes = CONTENT,
        in_file: bool = False,
        **more: Any,
    ) -> asyncio.Future[Report]:
        assert self.link is not None
        self._jobs += 1
        envelope = Envelope(
            b"haruo@nix.example", [Recipient(r) for r in recipients or (b"jiro@nix.example",)], **more
        )
        descriptor = None
        if in_file:
            with tempfile.TemporaryFile() as file:
                file.write(content)
                file.flush()
                descriptor = os.dup(file.fileno())
        inline = b"" if in_file else content
        self.link.send(
            Attempt(self._jobs, self._jobs, destination, envelope, inline, len(content), 0.0, in_file), descriptor
        )
        future: asyncio.Future[Report] = asyncio.get_running_loop().create_future()
        self._reports[self._jobs] = future
        return future

    def _take(self, frame: DeliveryAnswer, _descriptor: int | None) -> None:
        if isinstance(frame, HostState):
            self.hosts.append(frame)
        elif isinstance(frame, Report):
            self._reports.pop(frame.job).set_result(frame)
        else:
            self.draining = True
        if self.draining and not self._reports and self.link is not None:
            self.link.close("drained")


@contextlib.asynccontextmanager
async def role(**settings: Any) -> AsyncIterator[Queue]:
    """A running remote role and the queue that it is connected to."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        (home / "run").mkdir()
        run = os.open(home / "run", os.O_PATH)
        log = Log("remote", os.open("/dev/null", os.O_WRONLY))
        context = Context(home, Settings(me=b"me.example", **settings), log, run=run)
        queue = Queue(home, context)
        task = asyncio.get_running_loop().create_task(main(context))
        await queue.accept()
        try:
            yield queue
        finally:
            context.stopping.set()
            await asyncio.wait_for(task, 60)
            os.close(run)


async def start(handler: Handler) -> Server:
    server = Server(handler)
    await server.start()
    return server


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(100):
            await scenario()

    uvloop.run(bounded())


async def deliver(handler: Handler, **settings: Any) -> Outcome:
    """One message to a server of that behaviour."""
    server = await start(handler)
    async with role(**settings) as queue:
        report = await queue.attempt(server.destination)
        return report.outcomes[0]


async def good(peer: Peer) -> None:
    await peer.greet("PIPELINING", "8BITMIME", "SIZE")
    while True:
        await peer.transaction()


def test_messages_follow_each_other_on_one_connection() -> None:
    async def scenario() -> None:
        server = await start(good)
        async with role() as queue:
            for _ in range(5):
                report = await queue.attempt(server.destination)
                assert report.outcomes[0].verdict == Verdict.DELIVERED
                assert not report.unreachable
        assert server.connections == 1
        assert server.contents == [CONTENT] * 5

    play(scenario)


def test_connections_are_given_up_after_reusemessages_and_after_reuseseconds() -> None:
    async def scenario() -> None:
        server = await start(good)
        async with role(reusemessages=2) as queue:
            for _ in range(5):
                await queue.attempt(server.destination)
        assert server.connections == 3
        server = await start(good)
        async with role(reuseseconds=1) as queue:
            await queue.attempt(server.destination)
            await asyncio.sleep(2.5)
            await queue.attempt(server.destination)
        assert server.connections == 2
        server = await start(good)
        async with role(reuseseconds=0) as queue:
            await queue.attempt(server.destination)
            await queue.attempt(server.destination)
        assert server.connections == 2

    play(scenario)


def test_a_connection_for_one_message_is_not_given_up_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ekiden.roles.remote.SWEEP_SECONDS", 0.0001)

    async def scenario() -> None:
        server = await start(good)
        async with role(reuseseconds=0) as queue:
            report = await queue.attempt(server.destination)
        assert report.outcomes[0].verdict == Verdict.DELIVERED, report.outcomes[0].text

    play(scenario)


def test_many_at_once() -> None:
    async def scenario() -> None:
        server = await start(good)
        async with role() as queue:
            reports = await asyncio.gather(*(queue.attempt(server.destination) for _ in range(200)))
        assert all(report.outcomes[0].verdict == Verdict.DELIVERED for report in reports)
        assert len(server.contents) == 200

    play(scenario)


def few(most: int, messages: int = 1000) -> Handler:
    """Serves so many connections at once, each for so many messages, and refuses more."""
    served: set[Peer] = set()

    async def handler(peer: Peer) -> None:
        if len(served) >= most:
            peer.say("421 too many connections")
            return
        served.add(peer)
        try:
            await asyncio.sleep(0.02)
            await peer.greet("PIPELINING")
            for _ in range(messages):
                await peer.transaction(answer="")
                await asyncio.sleep(0.002)
                peer.say("250 2.0.0 queued")
        finally:
            served.remove(peer)

    return handler


@pytest.mark.parametrize("messages", [1000, 3])
@pytest.mark.parametrize("in_file", [False, True])
def test_messages_wait_for_the_connections_that_a_server_takes(messages: int, in_file: bool) -> None:
    async def scenario() -> None:
        server = await start(few(3, messages))
        async with role() as queue:
            for _ in range(3):
                attempts = (queue.attempt(server.destination, in_file=in_file) for _ in range(40))
                for report in await asyncio.gather(*attempts):
                    assert report.outcomes[0].verdict == Verdict.DELIVERED, report.outcomes[0].text
        assert len(server.contents) == 120
        assert server.connections < 40 + 120 // messages * 2 + 10

    play(scenario)


def test_where_every_connection_is_refused_nobody_waits() -> None:
    async def scenario() -> None:
        server = await start(few(0))
        async with role() as queue:
            for report in await asyncio.gather(*(queue.attempt(server.destination) for _ in range(20))):
                assert "421 too many connections" in report.outcomes[0].text
                assert report.unreachable

    play(scenario)


def test_whoever_waits_for_a_connection_is_reported_at_the_end() -> None:
    async def stuck(peer: Peer) -> None:
        if server.connections > 1:
            peer.say("421 too many connections")
            return
        await peer.greet("PIPELINING")
        await peer.transaction(answer="")
        await peer.reader.read()

    async def scenario() -> None:
        nonlocal server
        server = await start(stuck)
        async with role(shutdownseconds=1) as queue:
            waiting = [queue.attempt(server.destination) for _ in range(5)]
            await asyncio.sleep(0.3)
            assert not any(one.done() for one in waiting)
            queue.context.stopping.set()
            reports = await asyncio.gather(*waiting)
            assert {report.outcomes[0].verdict for report in reports} == {Verdict.DEFERRED}

    server: Server
    play(scenario)


def test_an_idle_connection_that_dies_when_it_is_used_costs_nothing() -> None:
    async def only_once(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await peer.transaction()
        await peer.hear()
        peer.say("421 enough")

    async def scenario() -> None:
        server = await start(only_once)
        async with role() as queue:
            for _ in range(3):
                report = await queue.attempt(server.destination)
                assert report.outcomes[0].verdict == Verdict.DELIVERED
        assert server.connections == 3

    play(scenario)


@pytest.mark.parametrize("extensions", [("x",), ("PIPELINING",)])
def test_large_content_comes_from_a_file(extensions: tuple[str, ...]) -> None:
    content = b"Subject: a\r\n\r\n" + b"..\r\n.\r\nx" * 300_000 + b"\r\n"

    async def slow(peer: Peer) -> None:
        await peer.greet(*extensions)
        await asyncio.sleep(0.2)
        await peer.transaction()

    async def scenario() -> None:
        server = await start(slow)
        async with role() as queue:
            report = await queue.attempt(server.destination, content=content, in_file=True)
        assert report.outcomes[0].verdict == Verdict.DELIVERED
        assert server.contents == [content]

    play(scenario)


def test_a_file_that_is_too_short_is_never_sent_as_whole() -> None:
    async def scenario() -> None:
        server = await start(good)
        async with role() as queue:
            assert queue.link is not None
            with tempfile.TemporaryFile() as file:
                file.write(b"short")
                file.flush()
                envelope = Envelope(b"", [Recipient(b"jiro@nix.example")])
                attempt = Attempt(1, 1, server.destination, envelope, b"", 1_000_000, 0.0, True)
                queue._reports[1] = asyncio.get_running_loop().create_future()
                queue.link.send(attempt, os.dup(file.fileno()))
            report = await queue._reports[1]
        assert (report.outcomes[0].verdict, report.outcomes[0].status) == (Verdict.DEFERRED, "4.3.0")
        assert server.contents == []

    play(scenario)


async def silent(peer: Peer) -> None:
    await asyncio.sleep(60)


async def resetting(peer: Peer) -> None:
    peer.say("220 x")
    await peer.hear()
    connection = peer.writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.writer.transport.abort()


async def gigabyte(peer: Peer) -> None:
    for _ in range(1000):
        peer.writer.write(b"220-" + b"x" * 1_000_000)
        await peer.writer.drain()


async def dripping(peer: Peer) -> None:
    while True:
        peer.writer.write(b"220-x\r\n")
        await asyncio.sleep(0.1)


async def lost_after_the_dot(peer: Peer) -> None:
    await peer.greet("PIPELINING")
    await peer.transaction(answer="")


async def silent_after_the_dot(peer: Peer) -> None:
    await peer.greet("PIPELINING")
    await peer.transaction(answer="")
    await asyncio.sleep(60)


CONNECTED = "Connected to 127.0.0.1 but connection died. "


@pytest.mark.parametrize(
    ("handler", "settings", "text"),
    [
        (silent, {"timeoutgreeting": 1}, CONNECTED + "(#4.4.2)\nNo answer within 1 seconds.\n"),
        (silent, {"timeoutremote": 1}, CONNECTED + "(#4.4.2)\nNo answer within 1 seconds.\n"),
        (dripping, {"timeoutgreeting": 1}, CONNECTED + "(#4.4.2)\nNo answer within 1 seconds.\n"),
        (resetting, {}, CONNECTED + "(#4.4.2)\n"),
        (gigabyte, {}, CONNECTED + "(#4.4.2)\nConnection ended because its reply is too long.\n"),
        (lost_after_the_dot, {}, CONNECTED + "Possible duplicate! (#4.4.2)\n"),
        (
            silent_after_the_dot,
            {"timeoutdataend": 1},
            CONNECTED + "Possible duplicate! (#4.4.2)\nNo answer within 1 seconds.\n",
        ),
    ],
)
def test_bad_servers_mean_deferred(handler: Handler, settings: dict[str, Any], text: str) -> None:
    async def scenario() -> None:
        outcome = await deliver(handler, **settings)
        assert outcome.verdict == Verdict.DEFERRED
        if handler is resetting:
            assert outcome.text.startswith(text)
        else:
            assert outcome.text == text

    play(scenario)


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["-p"], ["-e"], ["-8"]])
def test_postfix_takes_it(options: list[str]) -> None:
    port = free_port()
    user = ["-u", "nobody"] if os.geteuid() == 0 else []

    async def scenario() -> None:
        with subprocess.Popen([program("smtp-sink"), *user, *options, f"127.0.0.1:{port}", "100"]) as sink:
            try:
                wait_until(lambda: accepts("127.0.0.1", port), "smtp-sink accepts connections")
                async with role() as queue:
                    destination = b"[127.0.0.1]:%d" % port
                    recipients = [b"user%d@nix.example" % number for number in range(50)]
                    many = [queue.attempt(destination, *recipients, content=CONTENT * 100) for _ in range(50)]
                    large = CONTENT * 100_000
                    files = [queue.attempt(destination, content=large, in_file=True) for _ in range(5)]
                    reports = await asyncio.gather(*many, *files)
                assert [len(report.outcomes) for report in reports] == [50] * 50 + [1] * 5
                assert all(entry.verdict == Verdict.DELIVERED for report in reports for entry in report.outcomes)
            finally:
                sink.terminate()

    play(scenario)


def test_nobody_listens() -> None:
    async def scenario() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            async with role() as queue:
                report = await queue.attempt(b"[127.0.0.1]:%d" % taken.getsockname()[1])
        assert report.unreachable
        assert report.outcomes[0].text == "Sorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n"
        assert queue.hosts == []

    play(scenario)


def test_an_address_that_times_out_is_left_alone() -> None:
    async def scenario() -> None:
        # A full backlog lets further connections time out.
        with socket.socket() as full, contextlib.ExitStack() as clients:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            for _ in range(3):
                client = clients.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(full.getsockname())
            destination = b"[127.0.0.1]:%d" % full.getsockname()[1]
            async with role(timeoutconnect=2) as queue:
                assert (await queue.attempt(destination)).unreachable
                (news,) = queue.hosts
                assert (news.address, news.count) == ("127.0.0.1", 1)
                assert queue.link is not None
                queue.link.send(HostState("127.0.0.1", news.since, 2))
                assert (await queue.attempt(destination)).unreachable
                assert queue.hosts == [news], "it was not tried"
                server = await start(good)
                assert (await queue.attempt(server.destination)).unreachable
                queue.link.send(HostState("127.0.0.1", 0.0, 0))
                report = await queue.attempt(server.destination)
                assert report.outcomes[0].verdict == Verdict.DELIVERED

    play(scenario)


def test_eight_bit_content_is_declared_or_converted() -> None:
    content = "Subject: a\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n駅伝\r\n".encode()

    async def scenario() -> None:
        server = await start(good)
        async with role() as queue:
            await queue.attempt(server.destination, content=content)
            await queue.attempt(server.destination, content=CONTENT)
        mails = [command for command in server.commands if command.startswith("MAIL")]
        assert mails[0].endswith(f"SIZE={len(content)} BODY=8BITMIME")
        assert mails[1].endswith(f"SIZE={len(CONTENT)}")

        async def old(peer: Peer) -> None:
            await peer.greet("PIPELINING")
            while True:
                await peer.transaction()

        server = await start(old)
        async with role() as queue:
            await queue.attempt(server.destination, content=content)
            report = await queue.attempt(server.destination, content=content, in_file=True)
            assert report.outcomes[0].verdict == Verdict.DELIVERED
            signed = b"Content-Type: multipart/signed; boundary=x\r\n\r\n--x\r\n\r\n\xff\r\n--x--\r\n"
            report = await queue.attempt(server.destination, content=signed, body=int(Body.EIGHTBIT))
            assert (report.outcomes[0].verdict, report.outcomes[0].status) == (Verdict.FAILED, "5.6.3")
            report = await queue.attempt(server.destination)
            assert report.outcomes[0].verdict == Verdict.DELIVERED
        assert server.connections == 1
        assert b"=E9=A7=85=E4=BC=9D\r\n" in server.contents[0]
        assert server.contents[0] == server.contents[1]

    play(scenario)


def test_the_queue_may_go_away_and_come_back() -> None:
    async def scenario() -> None:
        release = asyncio.Event()

        async def slow(peer: Peer) -> None:
            await peer.greet("PIPELINING")
            await peer.transaction(answer="")
            await release.wait()
            peer.say("250 ok")
            await peer.transaction()

        server = await start(slow)
        async with role() as queue:
            abandoned = queue.attempt(server.destination)
            while not server.contents:
                await asyncio.sleep(0.01)
            assert queue.link is not None
            queue.link.close()
            await queue.accept()
            release.set()
            await asyncio.sleep(1)  # Until the connection is free.
            report = await queue.attempt(server.destination)
            assert report.outcomes[0].verdict == Verdict.DELIVERED
            assert not abandoned.done()
        assert server.connections == 1

    play(scenario)


def test_stopping_finishes_what_is_in_progress() -> None:
    async def scenario() -> None:
        release = asyncio.Event()

        async def slow(peer: Peer) -> None:
            await peer.greet("PIPELINING")
            await peer.transaction(answer="")
            await release.wait()
            peer.say("250 ok")
            assert await peer.hear() == "QUIT"
            server.commands.append("QUIT")
            peer.say("221 bye")

        server = await start(slow)
        async with role() as queue:
            waiting = queue.attempt(server.destination)
            while not server.contents:
                await asyncio.sleep(0.01)
            queue.context.stopping.set()
            await asyncio.sleep(0.1)
            assert not waiting.done()
            release.set()
            assert (await waiting).outcomes[0].verdict == Verdict.DELIVERED
            await queue.closed.wait()
        assert server.commands[-1] == "QUIT"

    play(scenario)


def test_stopping_waits_no_longer_than_shutdownseconds() -> None:
    async def scenario() -> None:
        server = await start(silent)
        async with role(shutdownseconds=1) as queue:
            waiting = queue.attempt(server.destination)
            await asyncio.sleep(0.1)
            queue.context.stopping.set()
            report = await waiting
            assert report.outcomes[0].verdict == Verdict.DEFERRED

    play(scenario)


def test_stopping_does_not_wait_for_what_no_queue_will_hear_of() -> None:
    async def scenario() -> None:
        server = await start(silent)
        async with role() as queue:
            waiting = queue.attempt(server.destination)
            await asyncio.sleep(0.1)
            queue.context.stopping.set()
            await asyncio.sleep(0.1)
            assert queue.link is not None
            queue.link.close()
        assert not waiting.done()

    play(scenario)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A server's certificate and key that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mx.example")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    signed = builder.sign(key, hashes.SHA256())
    path = tmp_path_factory.mktemp("tls") / "cert.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + secret)
    return path


@pytest.fixture
def context(certificate: Path) -> ssl.SSLContext:
    """A server's context with the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def tls_server(context: ssl.SSLContext, seen: list[ssl.SSLObject]) -> Handler:
    async def handler(peer: Peer) -> None:
        await peer.greet("PIPELINING", "STARTTLS")
        command = await peer.hear()
        if command != "STARTTLS":
            peer.server.commands.append("in the clear")
            peer.say("250 ok")
            await peer.transaction()
            return
        peer.say("220 go")
        await peer.writer.start_tls(context)
        seen.append(peer.writer.get_extra_info("ssl_object"))
        assert (await peer.hear()).startswith("EHLO")
        peer.say("250-mx.example", "250 PIPELINING")
        while True:
            await peer.transaction()

    return handler


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("mode", ["may", "always"])
def test_tls_is_used_where_offered_and_sessions_are_resumed(
    context: ssl.SSLContext, version: ssl.TLSVersion, mode: str
) -> None:
    async def scenario() -> None:
        context.maximum_version = version
        seen: list[ssl.SSLObject] = []
        server = await start(tls_server(context, seen))
        content = CONTENT + b"x" * 2_000_000 + b"\r\n"
        async with role(reusemessages=2, tlsremote=mode) as queue:
            for number in range(4):
                report = await queue.attempt(server.destination, content=content, in_file=bool(number % 2))
                assert report.outcomes[0].verdict == Verdict.DELIVERED, report.outcomes[0].text
        assert server.contents == [content] * 4
        assert [entry.version() for entry in seen] == [version.name.replace("_", ".")] * 2
        assert [entry.session_reused for entry in seen] == [False, True]

    play(scenario)


@pytest.mark.parametrize(("mode", "verdict"), [("may", Verdict.DELIVERED), ("always", Verdict.DEFERRED)])
def test_a_broken_handshake(mode: str, verdict: Verdict) -> None:
    async def broken(peer: Peer) -> None:
        await peer.greet("STARTTLS")
        command = await peer.hear()
        if command == "STARTTLS":
            peer.say("220 go")
            await peer.reader.read(100)
            peer.say("this is no TLS")
            return
        peer.server.commands.append(command)
        peer.say("250 ok")
        await peer.transaction()

    async def scenario() -> None:
        server = await start(broken)
        async with role(tlsremote=mode) as queue:
            report = await queue.attempt(server.destination)
        assert report.outcomes[0].verdict == verdict
        if mode == "always":
            assert "TLS failed" in report.outcomes[0].text

    play(scenario)


@pytest.mark.parametrize("said", ["421 no TLS today", "", "what?"])
def test_a_server_that_ends_the_session_at_starttls_gets_its_mail_in_the_clear(said: str) -> None:
    async def broken(peer: Peer) -> None:
        await peer.greet("STARTTLS")
        command = await peer.hear()
        if command == "STARTTLS":
            if said:
                peer.say(said)
            return
        peer.say("250 ok")
        await peer.transaction()

    async def scenario() -> None:
        assert (await deliver(broken)).verdict == Verdict.DELIVERED
        assert (await deliver(broken, tlsremote="always")).verdict == Verdict.DEFERRED

    play(scenario)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_asks_for_a_certificate_gets_its_mail_in_the_clear(
    certificate: Path, version: ssl.TLSVersion
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.load_verify_locations(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = version

    async def scenario() -> None:
        seen: list[ssl.SSLObject] = []
        server = await start(tls_server(context, seen))
        async with role() as queue:
            report = await queue.attempt(server.destination)
        assert report.outcomes[0].verdict == Verdict.DELIVERED, report.outcomes[0].text
        assert server.commands[0] == "in the clear"

    play(scenario)


@pytest.mark.parametrize(("mode", "status"), [("never", "2.0.0"), ("always", "4.7.0")])
def test_without_tls(context: ssl.SSLContext, mode: str, status: str) -> None:
    async def scenario() -> None:
        server = await start(good if mode == "always" else tls_server(context, []))
        async with role(tlsremote=mode) as queue:
            report = await queue.attempt(server.destination)
        assert report.outcomes[0].status == status
        assert report.unreachable == (mode == "always")

    play(scenario)
