"""tcprules and tcprulescheck beside the originals: same output, same exit code, same file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.peers import processes

RULES = b"""192.168.1.1:allow,RELAYCLIENT=""
127.:allow,RELAYCLIENT="",A=/b c/
10.1-2.:deny,A="x"
joe@1.2.3.4:deny
=.example.org:allow
=name.example:deny
:allow
"""


def run(program: str, *arguments: object, text: bytes = b"", **environment: str) -> tuple[int, bytes, bytes]:
    """Exit code, standard output, standard error of ekiden's program."""
    command = [sys.executable, "-m", "ekiden.cli", program, *map(str, arguments)]
    return _run(command, text, environment)


def original(program: str, *arguments: object, text: bytes = b"", **environment: str) -> tuple[int, bytes, bytes]:
    """The same of the original."""
    return _run([processes.program(program), *map(str, arguments)], text, environment)


def _run(command: list[str], text: bytes, environment: dict[str, str]) -> tuple[int, bytes, bytes]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TCP")}
    result = subprocess.run(command, input=text, capture_output=True, env={**inherited, **environment}, check=False)
    return result.returncode, result.stdout, result.stderr


def test_rules_are_compiled_and_moved_into_place(tmp_path: Path) -> None:
    cdb, temporary = tmp_path / "tcp.smtp.cdb", tmp_path / "tcp.smtp.tmp"
    temporary.write_bytes(b"destroyed")
    assert run("tcprules", cdb, temporary, text=RULES) == (0, b"", b"")
    assert not temporary.exists()
    assert cdb.stat().st_mode & 0o777 == 0o644
    assert original("tcprules", tmp_path / "theirs.cdb", temporary, text=RULES)[0] == 0
    assert cdb.read_bytes() == (tmp_path / "theirs.cdb").read_bytes()


def test_a_wrong_line_leaves_the_rules_alone(tmp_path: Path) -> None:
    cdb, temporary = tmp_path / "cdb", tmp_path / "tmp"
    cdb.write_bytes(b"as it was")
    expected = (100, b"", b"tcprules: fatal: unable to parse this line: 127.:alow\n")
    assert run("tcprules", cdb, temporary, text=b":deny\n127.:alow\t\n") == expected
    assert cdb.read_bytes() == b"as it was"
    assert original("tcprules", cdb, temporary, text=b":deny\n127.:alow\t\n") == expected


def test_files_that_cannot_be_made(tmp_path: Path) -> None:
    code, _, message = run("tcprules", tmp_path / "cdb", tmp_path / "absent" / "tmp")
    assert (code, message.startswith(f"tcprules: fatal: unable to create {tmp_path}/absent/tmp: ".encode())) == (
        111,
        True,
    )
    code, _, message = run("tcprules", tmp_path / "absent" / "cdb", tmp_path / "tmp")
    expected = f"tcprules: fatal: unable to move {tmp_path}/tmp to {tmp_path}/absent/cdb: ".encode()
    assert (code, message.startswith(expected)) == (111, True)
    code, _, message = run("tcprules", tmp_path / "cdb", "/dev/full")
    assert code == 111
    assert message.startswith(b"tcprules: fatal: unable to write /dev/full: ")


@pytest.mark.parametrize("program", ["tcprules", "tcprulescheck"])
def test_usage(program: str) -> None:
    assert run(program) == original(program)
    assert run(program)[0] == 100


CONNECTIONS = [
    {},
    {"TCPREMOTEIP": "192.168.1.1"},
    {"TCPREMOTEIP": "127.0.0.1"},
    {"TCPREMOTEIP": "10.2.3.4"},
    {"TCPREMOTEIP": "1.2.3.4", "TCPREMOTEINFO": "joe"},
    {"TCPREMOTEIP": "9.9.9.9", "TCPREMOTEHOST": "a.b.example.org"},
    {"TCPREMOTEIP": "9.9.9.9", "TCPREMOTEHOST": "name.example", "TCPREMOTEINFO": ""},
    {"TCPREMOTEIP": "9.9.9.9", "TCPREMOTEHOST": "Name.example"},
]


def test_verdicts_are_told_as_the_original_tells_them(tmp_path: Path) -> None:
    for name, text in (("all", RULES), ("few", b"10.:deny\n")):
        cdb = tmp_path / name
        assert run("tcprules", cdb, tmp_path / "tmp", text=text)[0] == 0
        for connection in CONNECTIONS:
            assert run("tcprulescheck", cdb, **connection) == original("tcprulescheck", cdb, **connection)


def test_an_address_may_be_an_argument(tmp_path: Path) -> None:
    cdb = tmp_path / "cdb"
    assert run("tcprules", cdb, tmp_path / "tmp", text=RULES + b'2001:db8::/32:allow,A="b"\n')[0] == 0
    assert run("tcprulescheck", cdb, "10.1.1.1", TCPREMOTEIP="127.0.0.1") == (
        0,
        b"rule 10.1.:\ndeny connection\n",
        b"",
    )
    assert run("tcprulescheck", cdb, "2001:DB8::1") == (
        0,
        b"rule 2001:db8::/32:\nset environment variable A=b\nallow connection\n",
        b"",
    )


def test_a_file_that_is_no_cdb(tmp_path: Path) -> None:
    (tmp_path / "cdb").write_bytes(b"x")
    code, output, message = run("tcprulescheck", tmp_path / "cdb")
    assert (code, output) == (111, b"")
    assert message == f"tcprulescheck: fatal: unable to read {tmp_path}/cdb: the file is damaged\n".encode()
