from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.peers.processes import accepts, free_port

from ekiden.runtime.binding import CannotListen, listen, notify_systemd, rebind, unix_socket
from ekiden.settings.schema import Listener, Settings

ACTIVATED = """
import os, sys
os.environ["LISTEN_PID"] = str(os.getpid())
from ekiden.runtime.binding import CannotListen, passed_sockets, refuse_strange, take_passed
from ekiden.settings.schema import Listener
passed = passed_sockets()
wanted = Listener("smtp", "127.0.0.1", int(sys.argv[1]))
other = Listener("smtp", "127.0.0.1", 1)
print(len(passed), take_passed(other, passed), "LISTEN_FDS" in os.environ)
try:
    refuse_strange(passed)
except CannotListen as error:
    print(error)
taken = take_passed(wanted, passed)
print(taken.getsockname()[1], os.get_inheritable(taken.fileno()), taken.getblocking(), passed)
refuse_strange(passed)
"""


def test_a_listener_accepts_connections() -> None:
    with (
        listen(Listener("smtp", "127.0.0.1", 0), 10) as bound,
        socket.create_connection(bound.getsockname()) as client,
    ):
        assert client.getpeername() == bound.getsockname()


def test_any_address_means_both_families() -> None:
    with listen(Listener("smtp", "*", 0), 10) as bound:
        port = bound.getsockname()[1]
        for address in ("127.0.0.1", "::1"):
            socket.create_connection((address, port)).close()


def test_any_address_means_ipv4_where_there_is_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    make = socket.socket

    def without_ipv6(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return make(family, kind)

    with monkeypatch.context() as patched:
        patched.setattr(socket, "socket", without_ipv6)
        bound = listen(Listener("smtp", "*", 0), 10)
        with pytest.raises(CannotListen, match="not supported"):
            listen(Listener("smtp", "[::1]", 0), 10)
    with bound:
        socket.create_connection(("127.0.0.1", bound.getsockname()[1])).close()


def test_a_port_in_use_is_named() -> None:
    with listen(Listener("smtp", "127.0.0.1", 0), 10) as bound:
        port = bound.getsockname()[1]
        with pytest.raises(CannotListen, match=f"control/listen: smtp 127.0.0.1:{port}: Address already in use"):
            listen(Listener("smtp", "127.0.0.1", port), 10)


def test_a_unix_socket_may_have_a_long_path_and_replaces_a_stale_one(tmp_path: Path) -> None:
    directory = tmp_path / ("long" * 30)
    directory.mkdir()
    unix_socket(directory / "x").close()
    with unix_socket(directory / "x") as bound:
        bound.listen()
        assert (directory / "x").is_socket()


def test_a_file_that_is_no_socket_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    with pytest.raises(OSError, match="in use"):
        unix_socket(tmp_path / "x")
    assert (tmp_path / "x").read_text() == "mine"


def test_systemd_hands_over_its_sockets() -> None:
    with listen(Listener("smtp", "127.0.0.1", 0), 10) as bound:
        port = str(bound.getsockname()[1])
        said = subprocess.run(
            ["bash", "-c", f'exec "$@" 3<&{bound.fileno()}', "bash", sys.executable, "-c", ACTIVATED, port],
            env={**os.environ, "LISTEN_FDS": "1"},
            pass_fds=[bound.fileno()],
            capture_output=True,
            text=True,
            check=True,
        )
    first, strange, taken = said.stdout.splitlines()
    assert first == "1 None False"
    assert strange.startswith(f"systemd passes a socket at 127.0.0.1:{port}, which control/listen does not name")
    assert taken == f"{port} False False []"


def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notify_systemd("READY=1")
        assert systemd.recv(100) == b"READY=1"


def test_without_systemd_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify_systemd("READY=1")


def test_new_listeners_are_bound_all_or_none() -> None:
    old, new, taken = free_port(), free_port(), free_port()
    present = [(Listener("smtp", "127.0.0.1", old), listen(Listener("smtp", "127.0.0.1", old), 10))]

    def wanted(*ports: int) -> Settings:
        return Settings(me=b"host", listen=tuple(Listener("smtp", "127.0.0.1", port) for port in ports))

    with socket.create_server(("127.0.0.1", taken)), pytest.raises(CannotListen, match=f"{taken}: Address already"):
        rebind(present, wanted(new, taken))
    socket.create_connection(("127.0.0.1", old)).close()
    assert not accepts("127.0.0.1", new)
    both = rebind(present, wanted(old, new))
    assert both[0][1] is present[0][1]
    ((_, only),) = rebind(both, wanted(new))
    assert only is both[1][1]
    assert not accepts("127.0.0.1", old)
    with pytest.raises(CannotListen, match=f"ekiden listens on 127.0.0.1:{new} itself"):
        rebind([(Listener("smtp", "127.0.0.1", new), only)], Settings(me=b"h", listen=(Listener("smtp", "*", new),)))
    only.close()
