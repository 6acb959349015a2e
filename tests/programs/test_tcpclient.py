"""tcpclient beside the original, and the scripts around it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.peers.ekiden import COMMAND
from tests.peers.nameserver import NameServer, host
from tests.peers.processes import free_port, program, short_directory
from tests.peers.ucspi import OURS, THEIRS, environment, own_address, run
from tests.programs.conftest import Site

from ekiden.runtime.ucspi import calling, command_line

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="low ports need root")

SERVER, CACHE, CLOSED = own_address(1), own_address(3), own_address(0)
CHILD = ("sh", "-c", "env | grep -E '^(PROTO|TCP)' | sort; echo hello >&7; exec cat <&6")


@pytest.fixture(scope="module")
def cache() -> Iterator[str]:
    """The address of a DNS server that knows SERVER as there.example, and two.example as CLOSED and SERVER."""
    with short_directory("dns") as place:
        records = [host("there.example", SERVER), "local=/in-addr.arpa/"]
        records.append("ptr-record=1.0.0.127.in-addr.arpa,here.example")
        records += [f"address=/two.example/{CLOSED}", f"address=/two.example/{SERVER}"]
        server = NameServer(place, records, CACHE, 53)
        server.start()
        yield CACHE
        server.stop()


@contextmanager
def answering(answer: bytes, port: int = 0, address: str = SERVER) -> Iterator[tuple[int, list[bytes]]]:
    """A server that reads a line, or nothing for what says nothing, and answers; its port, and what it read."""
    heard: list[bytes] = []
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _address = listener.accept()
                except OSError:
                    return
                with connection, connection.makefile("rb") as file:
                    connection.settimeout(60)
                    # Systat and daytime talk first.
                    heard.append(b"" if port in (11, 13) else file.readline())
                    while heard[-1].startswith(b"GET") and heard[-1][-4:] not in (b"\r\n\r\n", b""):
                        heard[-1] += file.readline()
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], heard
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(60)


def both(*arguments: str, **variables: str) -> tuple[int, str, str]:
    """Exit code, output and errors, the same from both, the client's own port taken out."""
    seen = []
    for side in (THEIRS, OURS):
        code, output, errors = run(side, "tcpclient", *arguments, **variables)
        seen.append((code, re.sub(r"(?<=LOCALPORT=)\d+", "CLIENT", output.decode()), errors))
    assert seen[0] == seen[1]
    return seen[1]


@pytest.mark.parametrize(
    "options",
    [
        ["-v", "-RHl0"],
        ["-RHl", "here"],
        ["-q", "-v", "-Q", "-RHl0", "-D"],
        ["-RHl0", "-T", "5", "-t", "3", "-d"],
        ["-RHl0", "-T", "1+1", "-i", CLOSED],
        ["-RHl0", "-T", "0+1"],
        ["-RH"],
        ["-v", "-Rl0"],
        ["-v"],
    ],
    ids=lambda options: " ".join(options).replace(CLOSED, "closed"),
)
@pytest.mark.parametrize("name", [SERVER, "there.example"], ids=["address", "name"])
def test_a_connection(cache: str, options: list[str], name: str) -> None:
    with answering(b"bye\r\n") as (port, heard):
        code, output, _errors = both(*options, name, str(port), *CHILD, DNSCACHEIP=cache, TCPREMOTEINFO="old")
    assert code == 0 and output.endswith("bye\r\n") and heard == [b"hello\n", b"hello\n"]


def test_two_addresses(cache: str) -> None:
    """Which one is first differs from answer to answer."""
    for side in (THEIRS, OURS):
        with answering(b"bye") as (port, _heard):
            code, output, errors = run(side, "tcpclient", "-RHl0", "two.example", str(port), *CHILD, DNSCACHEIP=cache)
        refused = f"tcpclient: unable to connect to {CLOSED} port {port}: connection refused\n"
        assert code == 0 and output.endswith(b"bye") and errors in ("", refused)
        code, _output, errors = run(side, "tcpclient", "two.example", "9", "true", DNSCACHEIP=cache)
        lines = [f"tcpclient: unable to connect to {each} port 9: connection refused" for each in (CLOSED, SERVER)]
        assert code == 111 and sorted(errors.splitlines()) == sorted(lines)


def test_a_search_list(cache: str) -> None:
    with answering(b"") as (port, _heard):
        both("-v", "-RHl0", "there", str(port), "true", DNSCACHEIP=cache, LOCALDOMAIN="no.example example")
        both("-v", "-RHl0", "nowhere", str(port), "true", DNSCACHEIP=cache, LOCALDOMAIN="no.example example")


def test_a_local_port() -> None:
    chosen = str(free_port())
    with answering(b"") as (port, _heard):
        code, output, _ = run(OURS, "tcpclient", "-RHl0", "-p", chosen, SERVER, str(port), *CHILD)
    assert code == 0 and f"TCPLOCALPORT={chosen}\n" in output.decode()


@pytest.mark.parametrize(
    "arguments",
    [
        [SERVER, "9", "true"],
        ["-q", SERVER, "9", "true"],
        ["-i", "0", SERVER, "9", "true"],
        ["nowhere.example", "9", "true"],
        [SERVER, "no-such-port", "true"],
        ["-i", "192.0.2.1", SERVER, "9", "true"],
        [],
        [SERVER],
        [SERVER, "9"],
        ["-v", "0", "9", "true"],
    ],
)
def test_no_connection(cache: str, arguments: list[str]) -> None:
    codes = []
    for side in (THEIRS, OURS):
        code, output, errors = run(side, "tcpclient", *arguments, DNSCACHEIP=cache)
        codes.append((code, output, re.sub(r"usage: .*", "usage", errors)))
    assert codes[0] == codes[1]
    assert codes[0][0] in (100, 111)


def test_a_program_that_cannot_be_run() -> None:
    with answering(b"") as (port, _heard):
        for name in ("/nonexistent", "nonexistent", "/tmp"):
            both("-RHl0", SERVER, str(port), name)


def test_a_slow_address_is_left_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that answers nothing costs the first of the two times only. DNS servers turn addresses round."""
    monkeypatch.setattr(command_line, "addresses", lambda host, families: [CLOSED, SERVER])
    waiting = []
    with socket.socket() as full:
        full.bind((CLOSED, 0))
        port = full.getsockname()[1]
        full.listen(0)
        with answering(b"x", port):
            for _ in range(3):
                waiting.append(socket.socket())
                waiting[-1].setblocking(False)
                waiting[-1].connect_ex((CLOSED, port))
            begun = time.monotonic()
            line = calling.parse(["-RHl0", "-T", "1+30", "slow.example", str(port), "true"])
            with calling.call("tcpclient", line) as connection:
                assert connection.getpeername() == (SERVER, port)
            assert 0.9 < time.monotonic() - begun < 30
    for connection in waiting:
        connection.close()


def test_ipv6() -> None:
    with answering(b"6", address="::1") as (port, _heard):
        code, output, errors = run(OURS, "tcpclient", "-v", "-RHl0", "::1", str(port), *CHILD)
        assert code == 0 and errors == f"tcpclient: connected to ::1 port {port}\n"
        assert b"PROTO=TCP6\n" in output and b"TCP6REMOTEIP=::1\n" in output and b"TCPREMOTEIP=::1\n" in output
        assert run(OURS, "tcpclient", "-4RHl0", "::1", str(port), "true")[0] == 111


SCRIPTS = {
    "who@": (11, []),
    "date@": (13, []),
    "finger@": (79, ["jiro x"]),
    "http@": (80, ["a/b%c"]),
    "tcpcat": (13, ["13"]),
    "mconnect": (25, []),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts(site: Site, name: str) -> None:
    port, arguments = SCRIPTS[name]
    seen = []
    with answering(b"HTTP/1.0 200\r\n\r\none\x07\r\ntwo\r\n", port) as (_port, heard):
        command = [str(COMMAND), "--home", str(site.home), name]
        for words in ([program(name)], [str(site.home / "bin" / name)], command):
            done = subprocess.run(
                [*words, SERVER, *arguments], input=b"QUIT\n", capture_output=True, env=environment(), timeout=60
            )
            seen.append((done.returncode, done.stdout, done.stderr))
    assert seen[0] == seen[1] == seen[2]
    assert seen[0][0] == 0 and b"two" in seen[0][1]
    assert len(heard) == 3 and heard[0] == heard[1] == heard[2]


def test_scripts_in_a_directory_with_blanks(site: Site, tmp_path: Path) -> None:
    from ekiden.runtime.ucspi.scripts import scripts

    directory = tmp_path / "a b'c"
    shutil.copytree(site.home / "bin", directory)
    for name, text in scripts(str(directory)).items():
        (directory / name).write_text(text)
    with answering(b"Sunday\r\n", 13):
        done = subprocess.run([directory / "date@", SERVER], capture_output=True, env=environment(), timeout=60)
    assert (done.stdout, done.stderr) == (b"Sunday\n", b"")
