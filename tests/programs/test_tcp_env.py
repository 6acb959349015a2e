"""tcp-env on a real connection, and asking the other host for the user."""

from __future__ import annotations

import socket
import subprocess
import threading

import pytest
from tests.programs.conftest import Site

from ekiden.runtime.ident import remote_user

NAMES = ("PROTO", "TCPLOCALIP", "TCPLOCALPORT", "TCPREMOTEIP", "TCPREMOTEPORT", "TCPREMOTEINFO", "TCPREMOTEHOST")


def described(site: Site, *argv: str, **environment: str) -> tuple[dict[str, str], tuple[int, int]]:
    """The variables that a program sees behind tcp-env, and the ports of its connection."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, _address = server.accept()
        with accepted:
            done = subprocess.run(
                [site.home / "bin" / "tcp-env", *argv, "env"],
                stdin=accepted,
                capture_output=True,
                text=True,
                check=True,
                env={**site.environment, **environment},
                timeout=60,
            )
        ports = server.getsockname()[1], client.getsockname()[1]
    seen = dict(line.split("=", 1) for line in done.stdout.splitlines())
    return {name: seen[name] for name in NAMES if name in seen}, ports


def test_variables(site: Site) -> None:
    seen, (local, remote) = described(site, "-R", TCPREMOTEINFO="old", PROTO="UDP")
    seen.pop("TCPREMOTEHOST", None)
    assert seen == {
        "PROTO": "TCP",
        "TCPLOCALIP": "127.0.0.1",
        "TCPLOCALPORT": str(local),
        "TCPREMOTEIP": "127.0.0.1",
        "TCPREMOTEPORT": str(remote),
    }


def test_what_another_server_set_stays(site: Site) -> None:
    seen, _ports = described(site, PROTO="TCP", TCPREMOTEIP="192.0.2.1")
    assert seen == {"PROTO": "TCP", "TCPREMOTEIP": "192.0.2.1"}


def test_wrong_options_are_passed_over(site: Site) -> None:
    seen, _ports = described(site, "-xR", "-y", PROTO="TCP", TCPREMOTEIP="192.0.2.1")
    assert seen == {"PROTO": "TCP", "TCPREMOTEIP": "192.0.2.1"}
    assert b"tcp-env: illegal option -- x\n" in site.run("tcp-env", "-x", PROTO="TCP").stderr


@pytest.mark.parametrize("argv", [[], ["-R", "true"], ["-t"]])
def test_wrong_use(site: Site, argv: list[str]) -> None:
    assert site.run("tcp-env", *argv).returncode == 111


def test_a_program_that_does_not_exist(site: Site) -> None:
    assert site.run("tcp-env", "/nonexistent", PROTO="TCP").returncode == 111


@pytest.mark.parametrize(
    ("answer", "user"),
    [
        (b"6193, 23 : USERID : UNIX : stjohns\r\n", b"stjohns"),
        (b"1,2:USERID:UNIX:a:b\n", b"a:b"),
        (b"1 , 2 : ERROR : NO-USER\r\n", None),
        (b"1,2:USERID:UNIX:cut off", None),
        (b"", None),
        (b"x" * 3000, None),
    ],
)
def test_ident(answer: bytes, user: bytes | None) -> None:
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _address = server.accept()
            with connection:
                asked.append(connection.recv(100))
                connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        found = remote_user(("127.0.0.1", 25), ("127.0.0.1", 4321), 5, server.getsockname()[1])
        thread.join()
    assert (found, asked) == (user, [b"4321 , 25\r\n"])


def test_nobody_to_ask() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert remote_user(("127.0.0.1", 25), ("127.0.0.1", 4321), 5, port) is None
