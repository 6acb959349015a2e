"""rblsmtpd beside the original: decisions, log lines, the conversation."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from tests.peers.nameserver import NameServer
from tests.peers.processes import short_directory
from tests.peers.ucspi import OURS, THEIRS, command, environment, own_address, run

CACHE = own_address(3)
TALK = (
    b"ehlo x\r\nHELO x\r\nMAIL from:<>\r\nrcpt to:<a@b>\r\ndata\r\nRSET\r\nnoop\r\nvrfy a\nstarttls\r\n"
    b"\r\nmail\r\nMAILS\r\nmail\tx\r\n noop\r\nQUIT now\r\nnoop\r\n"
)


@pytest.fixture(scope="module")
def cache() -> Iterator[str]:
    """The address of a DNS server with lists about 1.2.3.4; names outside example it refuses."""
    with short_directory("dns") as place:
        records = [
            'txt-record=4.3.2.1.bl.example,"Blocked, see ","http://bl.example/"',
            'txt-record=4.3.2.1.other.example,"other"',
            "txt-record=4.3.2.1.long.example," + ",".join(f'"{letter * 90}"' for letter in "abcd"),
            *(f"txt-record=4.3.2.1.huge.example,{'h' * size}" for size in (250, 249, 248)),
            "address=/4.3.2.1.good.example/127.0.0.2",
        ]
        server = NameServer(place, records, CACHE, 53)
        server.start()
        yield CACHE
        server.stop()


def both(*options: str, data: bytes = TALK, **variables: str) -> tuple[int, bytes, str]:
    """Exit code, output and errors, the same from both."""
    theirs, ours = (run(side, "rblsmtpd", *options, data=data, **variables) for side in (THEIRS, OURS))
    assert ours == theirs
    return ours


DOUBTFUL = [
    "-b -r refused.test -r bl.example",
    "-r refused.test",
    "-c -b -r refused.test",
    "-c -C -r refused.test",
    "-a refused.test -r bl.example",
    "-c -b -a refused.test -r bl.example",
]
"""Lists of which the first cannot answer."""


@pytest.fixture(scope="module", autouse=True)
def originals(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[tuple[int, bytes, str]]]]:
    """What the original makes of DOUBTFUL: it takes eleven seconds for each, so it begins with the first test."""
    if os.geteuid() != 0:
        yield {}
        return
    variables = {"DNSCACHEIP": request.getfixturevalue("cache"), "TCPREMOTEIP": "1.2.3.4"}
    with ThreadPoolExecutor(len(DOUBTFUL)) as pool:
        yield {
            options: pool.submit(run, THEIRS, "rblsmtpd", *options.split(), "echo", "served", data=TALK, **variables)
            for options in DOUBTFUL
        }


@pytest.mark.parametrize("variable", ["blocked, see http://x", "-go away", "-", "", "a\tb\x7fé%\n c", "x" * 300])
@pytest.mark.parametrize("options", [[], ["-b"]])
def test_told_by_the_environment(variable: str, options: list[str]) -> None:
    code, output, _errors = both(*options, "echo", "served", RBLSMTPD=variable, TCPREMOTEIP="1.2.3.4")
    assert code == 0 and output.startswith(b"220 rblsmtpd.local\r\n" if variable else b"served\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="port 53 needs root")
@pytest.mark.parametrize(
    "options",
    [
        "",
        "-r bl.example",
        "-b -r bl.example",
        "-r bl.example -b",
        "-b -B -r bl.example",
        "-r none.example -b -r other.example -r bl.example",
        "-a good.example -r bl.example",
        "-r bl.example -a good.example",
        "-a none.example -r bl.example",
        "-r none.example",
        "-r long.example",
        "-r huge.example",
        "-r bl..example",
    ],
)
def test_told_by_lists(cache: str, options: str) -> None:
    for address in ("1.2.3.4", "1.2.3.5"):
        both(*options.split(), "echo", "served", DNSCACHEIP=cache, TCPREMOTEIP=address)


@pytest.mark.skipif(os.geteuid() != 0, reason="port 53 needs root")
def test_without_an_address(cache: str) -> None:
    both("-r", "bl.example", "echo", "served", DNSCACHEIP=cache)
    assert run(OURS, "rblsmtpd", "-r", "bl.example", "echo", DNSCACHEIP=cache, TCPREMOTEIP="2001:db8::1")[0] == 0


@pytest.mark.parametrize("data", [b"", b"quit", b"quit\n", b"rcpt\n" * 500, b"x" * 5000 + b"\r\nQUIT\r\n", b"\r\n\n"])
def test_what_clients_say(data: bytes) -> None:
    both("true", data=data, RBLSMTPD="no")


@pytest.mark.parametrize(
    "arguments", [["/nonexistent"], ["nonexistent"], ["/tmp"], ["sh", "-c", "exit 3"], [], ["-t"], ["-z", "true"]]
)
def test_programs_and_wrong_use(arguments: list[str]) -> None:
    both(*arguments, RBLSMTPD="")


def test_no_time_at_all() -> None:
    assert both("-t0", "true", RBLSMTPD="no")[1] == b"451 no\r\n"


def test_the_time_is_over() -> None:
    for side in (THEIRS, OURS):
        begun = time.monotonic()
        process = subprocess.Popen(
            [*command(side, "rblsmtpd"), "-t", "1", "true"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(RBLSMTPD="no"),
        )
        with process:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(b"noop\r\n")
            process.stdin.flush()
            assert process.stdout.read() == b"220 rblsmtpd.local\r\n250 rblsmtpd.local\r\n"
            assert time.monotonic() - begun >= 1
        assert process.returncode == 0


def test_the_log_names_the_client_and_the_process() -> None:
    process = subprocess.Popen(
        [*command(OURS, "rblsmtpd"), "true"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(RBLSMTPD="-no", TCPREMOTEIP="1.2.3.4"),
    )
    with process:
        assert process.stderr is not None
        assert re.fullmatch(rb"rblsmtpd: 1\.2\.3\.4 pid %d: 553 no\n" % process.pid, process.stderr.read())


@pytest.mark.skipif(os.geteuid() != 0, reason="port 53 needs root")
@pytest.mark.parametrize("options", DOUBTFUL)
def test_lists_that_cannot_answer(
    cache: str, originals: dict[str, Future[tuple[int, bytes, str]]], options: str
) -> None:
    variables = {"DNSCACHEIP": cache, "TCPREMOTEIP": "1.2.3.4"}
    ours = run(OURS, "rblsmtpd", *options.split(), "echo", "served", data=TALK, **variables)
    assert ours == originals[options].result(60)
