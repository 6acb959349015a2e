"""tcpserver beside the original: what programs see, what is logged, exit codes."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.peers.nameserver import NameServer
from tests.peers.processes import short_directory
from tests.peers.ucspi import CHILD, OURS, THEIRS, Server, command, compile_rules, everything, own_address, run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="port 53 and other users need root")

CLIENT, STRANGER, CACHE, CLOSED = own_address(1), own_address(2), own_address(3), own_address(0)


@pytest.fixture(scope="module")
def cache() -> Iterator[str]:
    """The address of a DNS server that knows CLIENT by a name that is its own, STRANGER by one that is not."""
    with short_directory("dns") as place:
        records = [
            "local=/in-addr.arpa/",
            f"address=/Client.example/{CLIENT}",
            f"address=/odd-name.example/{CACHE}",
            f"ptr-record={reverse(CLIENT)},Client.Example",
            f"ptr-record={reverse(STRANGER)},odd-name.example",
            f"ptr-record={reverse('127.0.0.1')},here.example",
        ]
        server = NameServer(place, records, CACHE, 53)
        server.start()
        yield CACHE
        server.stop()


def reverse(address: str) -> str:
    return ".".join(reversed(address.split("."))) + ".in-addr.arpa"


def both(options: list[str], source: str = "", child: tuple[str, ...] = CHILD, **variables: str) -> tuple[str, str]:
    """What a client gets and what is logged, the same from both."""
    seen = []
    for side in (THEIRS, OURS):
        with Server(side, options, child, variables=variables) as server:
            answer = server.answer(source)
            log = server.log("status: 0/40\n", 2) if "-v" in options else server.log()
            assert server.stop() == 0
        seen.append((answer, log))
    assert seen[0] == seen[1]
    return seen[1]


@pytest.mark.parametrize(
    "options",
    [
        ["-v", "-RHl0"],
        ["-v", "-RH", "-l", "a b:c%d~\x7f\t!é"],
        ["-v", "-RHl" + "n" * 99],
        ["-v", "-RHl" + "n" * 120],
        ["-v", "-RHl", ""],
        ["-q", "-v", "-RHl0", "-D", "-o", "-b", "5"],
        ["-v", "-RHl0", "-d", "-O", "-P", "-t", "3", "-c", "40"],
        ["-RHl0"],
        ["-v", "-RHl0", "-B", "220 wait\r\n"],
    ],
)
def test_a_connection(options: list[str]) -> None:
    answer, _log = both(options, TCPREMOTEHOST="old", TCPREMOTEINFO="old", PROTO="UDP", TCPLOCALHOST="old")
    assert "PROTO=TCP\n" in answer and "TCPREMOTEHOST" not in answer


@pytest.mark.parametrize("options", [["-v", "-R"], ["-v", "-Rp"], ["-v", "-RHl", "here"], ["-v", "-RH"]])
@pytest.mark.parametrize("source", [CLIENT, STRANGER, CLOSED], ids=["client", "stranger", "closed"])
def test_names(cache: str, options: list[str], source: str) -> None:
    both(options, source, DNSCACHEIP=cache)


def test_a_name_is_in_lower_case_and_paranoia_takes_a_foreign_one(cache: str) -> None:
    assert "TCPREMOTEHOST=client.example\n" in both(["-v", "-Rp"], CLIENT, DNSCACHEIP=cache)[0]
    assert "TCPREMOTEHOST" not in both(["-v", "-Rp"], STRANGER, DNSCACHEIP=cache)[0]


@pytest.mark.parametrize("reply", [b"%d , %d : USERID : UNIX : jiro %%x\r\n", b"", b"%d,%d:USERID:UNIX:a:b\n"])
def test_ident(reply: bytes) -> None:
    with socket.create_server((CLIENT, 113), backlog=5) as ident:

        def serve() -> None:
            for _ in range(2):
                connection, _address = ident.accept()
                with connection:
                    ports = tuple(int(part) for part in connection.recv(100).split(b","))
                    connection.sendall(reply % ports if reply else b"")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        both(["-v", "-Hl0"], CLIENT)
        thread.join()


@pytest.mark.parametrize(
    "rules",
    [
        ':allow,RELAYCLIENT="",A="b c"\n',
        ":deny\n",
        f'{CLIENT}:allow,A="mine"\n:deny\n',
        f"{CLIENT}:deny\n127.:allow\n",
        '127.:allow,TCPREMOTEIP="1.2.3.4"\n',
        "10.:deny\n",
    ],
    ids=["relay", "nobody", "the client", "all but the client", "an address", "others"],
)
@pytest.mark.parametrize("verbose", [["-v"], []])
def test_rules(tmp_path: Path, rules: str, verbose: list[str]) -> None:
    both([*verbose, "-RHl0", "-x", compile_rules(tmp_path, rules)], CLIENT)


def test_rules_by_name(tmp_path: Path, cache: str) -> None:
    rules = compile_rules(tmp_path, '=.example:allow,A="named"\n:deny\n')
    assert "A=named\n" in both(["-v", "-R", "-x", rules], CLIENT, DNSCACHEIP=cache)[0]
    assert both(["-v", "-R", "-x", rules], CLOSED, DNSCACHEIP=cache)[0] == ""


def test_rules_that_cannot_be_read(tmp_path: Path) -> None:
    missing, damaged = str(tmp_path / "missing.cdb"), tmp_path / "damaged.cdb"
    damaged.write_bytes(b"\1" * 2048)
    for options in (["-x", missing], ["-X", "-x", missing], ["-x", f"{damaged}/x", "-X"]):
        both(["-v", "-RHl0", *options])
    # The original crashes at these.
    for path, reason in ((damaged, "protocol error"), (tmp_path, "is a directory")):
        with Server(OURS, ["-RHl0", "-x", str(path)]) as server:
            assert server.answer() == ""
            line = f"tcpserver: warning: dropping connection, unable to read {path}: {reason}\n"
            assert server.log("\n") == line


def test_rules_are_looked_up_at_each_connection(tmp_path: Path) -> None:
    rules = compile_rules(tmp_path, ":deny\n")
    with Server(OURS, ["-RHl0", "-x", rules]) as server:
        assert server.answer() == ""
        compile_rules(tmp_path, ':allow,A="now"\n')
        assert "A=now\n" in server.answer()


@pytest.mark.parametrize("child", [("/nonexistent",), ("nonexistent", "x"), ("/tmp",), ("sh", "-c", "exit 7")])
@pytest.mark.parametrize("verbosity", ["-v", "-q", "-Q"])
def test_a_program_that_cannot_be_run(child: tuple[str, ...], verbosity: str) -> None:
    both([verbosity, "-RHl0"], child=child)


def test_a_crash_is_logged_with_its_signal() -> None:
    assert "end PID status 9\n" in both(["-v", "-RHl0"], child=("sh", "-c", "kill -9 $$"))[1]


def test_programs_get_default_signals() -> None:
    # Of the signals above 31, the C library's posix_spawn has its own two ignored.
    child = ("sh", "-c", "grep -E '^Sig(Blk|Ign)' /proc/$$/status | sed 's/[0-9a-f]*\\(.\\{7\\}\\)$/\\1/'")
    both(["-RHl0"], child=child)
    both(["-RHl0", "-B", "x"], child=child)


def test_users(place: Path) -> None:
    child = ("sh", "-c", "id -u; id -g; id -G")
    for options in (["-u", "65534", "-g", "65534"], ["-g", "12"], ["-u", "65533"], ["-U"], ["-u", "0"]):
        both(["-RHl0", *options], child=child, UID="65500", GID="65501")


def test_the_limit_defers_connections() -> None:
    logs = []
    for side in (THEIRS, OURS):
        with Server(side, ["-v", "-RHl0", "-c", "2"], ("cat",)) as server:
            first, second = server.connect(), server.connect()
            for connection in (first, second):
                connection.sendall(b"x")
                assert connection.recv(1) == b"x"
            third = server.connect()
            third.sendall(b"y")
            third.settimeout(0.2)
            with pytest.raises(TimeoutError):
                third.recv(1)
            first.close()
            third.settimeout(60)
            assert third.recv(1) == b"y"
            for connection in (second, third):
                connection.close()
            lines = server.log("status: 0/2\n", 2).splitlines()
        logs.append(sorted(line for line in lines if "status:" in line))
    assert logs[0] == logs[1]


def test_sigterm_leaves_the_connections() -> None:
    for side in (THEIRS, OURS):
        with Server(side, ["-RHl0"], ("cat",)) as server, server.connect() as connection:
            connection.sendall(b"a")
            assert connection.recv(1) == b"a"
            assert server.stop() == 0
            connection.sendall(b"b")
            assert connection.recv(1) == b"b"


def test_a_silent_ident_server_keeps_nobody_else_waiting() -> None:
    with socket.create_server((CLIENT, 113)), Server(OURS, ["-Hl0"]) as server, server.connect(CLIENT) as waiting:
        assert "PROTO=TCP" in server.answer(STRANGER)
        waiting.setblocking(False)
        with pytest.raises(BlockingIOError):
            waiting.recv(1)


@pytest.mark.parametrize(
    "arguments",
    [
        ["0", "smtp-no-such", "true"],
        ["192.0.2.1", "0", "true"],
        ["no.such.example", "0", "true"],
        ["-q", "192.0.2.1", "0", "true"],
    ],
)
def test_it_cannot_listen(cache: str, arguments: list[str]) -> None:
    theirs, ours = (run(side, "tcpserver", *arguments, DNSCACHEIP=cache) for side in (THEIRS, OURS))
    assert ours == theirs
    assert ours[0] == 111


def test_a_port_in_use_and_a_user_that_cannot_be() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        theirs, ours = (run(side, "tcpserver", "127.0.0.1", port, "true") for side in (THEIRS, OURS))
    assert ours == theirs == (111, b"", "tcpserver: fatal: unable to bind: address already used\n")


@pytest.mark.parametrize("arguments", [[], ["0"], ["0", "25"], ["-z", "0", "0", "true"], ["-c"]])
def test_wrong_use(arguments: list[str]) -> None:
    (their_code, _, theirs), (code, _, ours) = (run(side, "tcpserver", *arguments) for side in (THEIRS, OURS))
    assert code == their_code == 100
    assert ours.splitlines()[:-1] == theirs.splitlines()[:-1]
    assert ours.splitlines()[-1].startswith("tcpserver: usage: tcpserver [ -")


@pytest.mark.parametrize("option", ["-unobody", "-c0", "-cmany", "-b-1", "-t1x"])
def test_what_is_no_number_is_refused(option: str) -> None:
    code, _, errors = run(OURS, "tcpserver", option, "127.0.0.1", "0", "true")
    assert code == 100 and "Traceback" not in errors


def test_ipv6() -> None:
    with Server(OURS, ["-v", "-RHl0"], host="::1") as server:
        assert server.answer().splitlines() == [
            "PROTO=TCP6",
            *(f"TCP6{line}" for line in SEEN_BY_IPV6),
            *(f"TCP{line}" for line in SEEN_BY_IPV6),
        ]
        assert "tcpserver: ok PID 0:::1:SERVER :::1::CLIENT1\n" in server.log("status: 0/40\n", 2)


SEEN_BY_IPV6 = ("LOCALHOST=0", "LOCALIP=::1", "LOCALPORT=SERVER", "REMOTEIP=::1", "REMOTEPORT=CLIENT1")


def test_both_families() -> None:
    with Server(OURS, ["-RHl0"], host="::") as server:
        assert "PROTO=TCP6\n" in server.answer()
        server.host = "127.0.0.1"
        assert server.answer().splitlines()[:3] == ["PROTO=TCP", "TCPLOCALHOST=0", "TCPLOCALIP=127.0.0.1"]
    with Server(OURS, ["-6RHl0"], host="0") as server:
        assert "TCPREMOTEIP=::ffff:127.0.0.1\n" in server.answer()
    with Server(OURS, ["-4RHl0"], host="::") as server:
        server.host = "127.0.0.1"
        assert "PROTO=TCP\n" in server.answer()


def test_a_host_from_the_hosts_file_and_a_port_by_name() -> None:
    with Server(OURS, ["-RHl0"], host="localhost") as server:
        assert "TCPLOCALIP=127.0.0.1\n" in server.answer()


@pytest.mark.slow
def test_a_thousand_children() -> None:
    with Server(OURS, ["-v", "-RHl0", "-c", "1000"], ("cat",)) as server:
        connections = [socket.create_connection(("127.0.0.1", server.port), 60) for _ in range(1000)]
        for number, connection in enumerate(connections):
            connection.sendall(b"%d\n" % number)
        for number, connection in enumerate(connections):
            assert connection.recv(100) == b"%d\n" % number
        assert "status: 1000/1000\n" in server.log()
        for connection in connections:
            connection.close()
        server.log("status: 0/1000\n", 2)


def test_nobody_reads_the_log(tmp_path: Path) -> None:
    """A closed standard error stops nothing."""
    import subprocess

    process = subprocess.Popen(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", *command(OURS, "tcpserver"), "-1v", "-RHl0", "127.0.0.1", "0", *CHILD],
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", port), 30) as connection:
                assert "PROTO=TCP" in everything(connection)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        process.stdout.close()
