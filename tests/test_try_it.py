"""``make run`` once its virtual environment is there: boot/try-it, in a checkout that is nobody else's business."""

from __future__ import annotations

import os
import re
import shutil
import smtplib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.peers.ekiden import COMMAND, Ekiden
from tests.peers.processes import run, wait_until
from tests.peers.sinks import Sink

TRY_IT = Path(__file__).parent.parent / "boot" / "try-it"

pytestmark = pytest.mark.slow

Try = Callable[..., str]
"""Runs boot/try-it with variables of its environment; what it said."""


@pytest.fixture
def tried(place: Path) -> Iterator[Ekiden]:
    """Where boot/try-it makes its home: below a directory that only its owner may enter, as root's own is."""
    checkout = place / "private"
    (checkout / "boot").mkdir(parents=True)
    checkout.chmod(0o700)
    shutil.copy(TRY_IT, checkout / "boot")
    ekiden = Ekiden(checkout, "mail.example.test")
    yield ekiden
    ekiden.stop()


@pytest.fixture
def try_it(tried: Ekiden) -> Try:
    def run_it(**variables: str) -> str:
        environment = {**os.environ, "LISTEN": f"127.0.0.1:{tried.port}", **variables}
        return run(["sh", tried.home.parent / "boot" / "try-it", COMMAND], env=environment).stdout

    return run_it


def lines_after(said: str, title: str) -> str:
    found = re.search(rf"^{title}:\n  (.+)$", said, re.MULTILINE)
    assert found
    return found[1]


def test_the_two_lines_send_a_message_and_show_it(try_it: Try) -> None:
    said = try_it()

    subprocess.run(lines_after(said, "Send a first message"), shell=True, check=True, timeout=60)

    show = lines_after(said, "See it arrive")
    wait_until(lambda: b"Hello." in subprocess.run(show, shell=True, capture_output=True).stdout, "the message")


def test_nothing_of_it_is_root(tried: Ekiden, try_it: Try) -> None:
    try_it()

    for pid in tried.roles():
        status = Path(f"/proc/{pid}/status").read_text()
        assert re.search(r"^Uid:(\t[1-9]\d*){4}$", status, re.MULTILINE)
        assert re.search(r"^Gid:(\t[1-9]\d*){4}$", status, re.MULTILINE)


def test_a_smart_host_gets_what_is_for_others(tried: Ekiden, try_it: Try, sink: Sink) -> None:
    try_it()
    with smtplib.SMTP("127.0.0.1", tried.port) as client, pytest.raises(smtplib.SMTPRecipientsRefused):
        client.sendmail("you@mail.example.test", "joe@other.example", "Subject: before\n\n")

    try_it(SMARTHOST=sink.route)

    with smtplib.SMTP("127.0.0.1", tried.port) as client:
        client.sendmail("you@mail.example.test", "joe@other.example", "Subject: after\n\n")
    sink.wait_for(1)
