"""recordio, fixcrio, addcr, delcr, argv0 and mconnect-io beside the originals."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from typing import Any

import pytest
from tests.peers.ucspi import OURS, THEIRS, command, environment, run

TEXTS = [
    b"",
    b"a\n",
    b"a\r\nb",
    b"\n\r\n\r",
    b"a\r\r\nc\rd\0\xff\n",
    b"x" * 700 + b"\n" + b"y" * 256,
    b"line\n" * 3000,
]


@pytest.mark.parametrize("text", TEXTS, ids=len)
@pytest.mark.parametrize("name", ["addcr", "delcr"])
def test_filters(name: str, text: bytes) -> None:
    assert run(OURS, name, data=text) == run(THEIRS, name, data=text)


def test_a_filter_that_cannot_read_or_write() -> None:
    for redirection in ("<&-", ">/dev/full </etc/passwd"):
        script = f'"$@" {redirection}'
        codes = [
            subprocess.run(["sh", "-c", script, "sh", *command(side, "addcr")], env=environment()).returncode
            for side in (THEIRS, OURS)
        ]
        assert codes == [111, 111]


@pytest.mark.parametrize("text", TEXTS, ids=len)
def test_fixcrio(text: bytes) -> None:
    arguments = ("sh", "-c", r"cat; printf 'o\r\np\n\r'; exit 4")
    assert run(OURS, "fixcrio", *arguments, data=text) == run(THEIRS, "fixcrio", *arguments, data=text)


def _told(errors: str, sign: str) -> list[str]:
    """One side's lines: which of both sides is first depends on who is quicker."""
    return [line for line in errors.splitlines() if line.startswith(f"PID {sign} ")]


@pytest.mark.parametrize("text", [text for text in TEXTS if len(text) < 4096 and b"\xff" not in text], ids=len)
def test_recordio(text: bytes) -> None:
    (code, output, ours), theirs = (run(side, "recordio", "cat", data=text) for side in (OURS, THEIRS))
    assert (code, output) == theirs[:2] == (0, text)
    assert _told(ours, "<") == _told(theirs[2], "<")
    # What cat writes in one piece the recorder may get in several.
    assert _joined(ours) == _joined(theirs[2])


def _joined(errors: str) -> str:
    lines = [line.removeprefix("PID > ") for line in _told(errors, ">")]
    return "".join(line.removesuffix("+") + "|" * line.endswith(" ") for line in lines)


def test_recordio_tells_the_program_s_number_and_each_packet() -> None:
    process = subprocess.Popen(
        [*command(OURS, "recordio"), "sh", "-c", 'read a; echo "$a $$"; read b; exit 5'],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    with process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        process.stdin.write(b"first\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"first %d\n" % process.pid
        process.stdin.write(b"part")
        process.stdin.close()
        lines = process.stderr.read().decode().splitlines()
        number = process.pid
        assert lines[:3] == [f"{number} < first ", f"{number} > first {number} ", f"{number} < part+"]
        assert sorted(lines[3:]) == [f"{number} < [EOF]", f"{number} > [EOF]"]
    assert process.returncode == 5


@pytest.mark.parametrize("name", ["recordio", "fixcrio"])
@pytest.mark.parametrize("arguments", [["/nonexistent"], ["nonexistent"], [], ["sh", "-c", "exit 3"]])
def test_exit_codes(name: str, arguments: list[str]) -> None:
    ours, theirs = (run(side, name, *arguments) for side in (OURS, THEIRS))
    assert ours[:2] == theirs[:2]
    # Whether the end of input is seen before the program's end is a race, in the original too.
    assert _without_input(ours[2]) == _without_input(theirs[2])


def _without_input(said: Any) -> list[Any]:
    return sorted(line for line in said.splitlines() if "< [EOF]" not in str(line))


@pytest.mark.parametrize("name", ["recordio", "fixcrio"])
def test_much_both_ways_and_a_program_that_does_not_read(name: str) -> None:
    text = os.urandom(300_000).replace(b"\n", b"")
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "timeout": 30}
    done = subprocess.run([*command(OURS, name), "cat"], input=text, **quiet)
    assert (done.returncode, done.stdout) == (0, text)
    done = subprocess.run(
        [*command(OURS, name), "sh", "-c", "exec <&-; echo done"],
        input=text,
        **quiet,
    )
    assert done.stdout.replace(b"\r", b"") == b"done\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["sh", "-zero", "-c", 'echo "$0 $1"'],
        ["/bin/sh", "sh", "-c", 'echo "$0 $1"', "a", "b"],
        ["/nonexistent", "a"],
        ["nonexistent", "a"],
        ["/etc/passwd", "a"],
        ["/tmp", "a"],
        ["sh"],
        [],
    ],
)
def test_argv0(arguments: list[str]) -> None:
    assert run(OURS, "argv0", *arguments) == run(THEIRS, "argv0", *arguments)


@pytest.mark.parametrize("side", [THEIRS, OURS])
def test_mconnect_io(side: str) -> None:
    """Talks as long as the other side does, also when there is nothing more to say."""
    heard = []

    def serve() -> None:
        far, _address = listener.accept()
        with far, far.makefile("rb") as file:
            far.sendall(b"220 hello\r\n")
            heard.append(file.readline())
            heard.append(file.readline())
            far.sendall(b"221 bye\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = str(listener.getsockname()[1])
        connect = [*command(THEIRS, "tcpclient"), "-RHl0", "127.0.0.1", port]
        done = subprocess.run(
            [*connect, *command(side, "mconnect-io")],
            input=b"noop\nquit\r\n",
            capture_output=True,
            env=environment(),
            timeout=60,
        )
        thread.join(60)
    assert (done.returncode, done.stdout) == (0, b"220 hello\r\n221 bye\n")
    assert heard == [b"noop\r\n", b"quit\r\r\n"]
