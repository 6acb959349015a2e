"""A home whose classic programs are run as people run them, and a qmail-queue that only writes down what it gets."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.peers.ekiden import Ekiden, let_everyone_run
from tests.peers.processes import wait_until

from ekiden.installation.scripts import write_bin
from ekiden.settings.first import configure, make_home

NOBODY = 65534

RECORDER = """#!{python} -S
import os, sys
message = b"".join(iter(lambda: os.read(0, 65536), b""))
envelope = b"".join(iter(lambda: os.read(1, 65536), b""))
open({place!r} + "/message", "wb").write(message)
open({place!r} + "/envelope", "wb").write(envelope)
code = {code}
if code == 82:
    os.write(6, b"Dnot today (#5.7.1)")
sys.exit(code)
"""


class Site:
    """A configured home that does not run; ``run`` runs HOME/bin/NAME."""

    def __init__(self, home: Path, place: Path) -> None:
        self.home = home
        self.place = place
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(place), "USER": "jiro", "TZ": "UTC0"}

    def run(
        self, name: str, *argv: str, data: bytes = b"", cwd: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [self.home / "bin" / name, *argv],
            input=data,
            capture_output=True,
            env={**self.environment, **environment},
            cwd=cwd,
            timeout=60,
        )

    def control(self, name: str, text: str) -> None:
        (self.home / "control" / name).write_text(text)

    def record(self, code: int = 0) -> None:
        """From now on messages are written down instead of queued, and qmail-queue ends with ``code``."""
        script = self.place / "recorder"
        script.write_text(RECORDER.format(python=sys.executable, place=str(self.place), code=code))
        script.chmod(0o755)
        self.environment["QMAILQUEUE"] = str(script)

    @property
    def message(self) -> bytes:
        return (self.place / "message").read_bytes()

    @property
    def envelope(self) -> tuple[bytes, list[bytes]]:
        """Sender and recipients that were written down."""
        sender, *recipients, end, rest = (self.place / "envelope").read_bytes().split(b"\0")
        assert sender[:1] == b"F" and end == rest == b"" and all(each[:1] == b"T" for each in recipients)
        return sender[1:], [each[1:] for each in recipients]


class Running:
    """A started ekiden whose mailbox ``tell@ekiden.example`` is a Maildir."""

    def __init__(self, ekiden: Ekiden) -> None:
        self.home = ekiden.home
        self.log = ekiden.log

    def arrived(self, count: int) -> list[Path]:
        """The messages in the Maildir, when there are as many as that."""
        new = self.home / "alias" / "Maildir" / "new"
        wait_until(lambda: len(list(new.iterdir())) >= count, f"{count} messages in the Maildir")
        return list(new.iterdir())


@pytest.fixture
def running(home: Ekiden) -> Running:
    home.control("inlinebytes", "1000")
    alias = home.home / "alias"
    (alias / ".qmail-tell").write_text("./Maildir/\n")
    for name in ("new", "cur", "tmp"):
        (alias / "Maildir" / name).mkdir(parents=True)
    write_bin(home.home)
    let_everyone_run(home.home / "bin")
    if os.geteuid() == 0:
        # Mail is never delivered as root; a home of somebody else's works without qmail's users.
        for path in (home.home, *home.home.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
    home.start()
    return Running(home)


@pytest.fixture
def site(place: Path) -> Iterator[Site]:
    home = place / "home"
    make_home(home)
    configure(home, "indy2.nix.co.jj", lambda *_: None)
    write_bin(home)
    yield Site(home, place)


@pytest.fixture
def recorded(site: Site) -> Site:
    """A site whose messages are written down."""
    site.record()
    return site
