"""A session over pipes, with a real mailbox."""

from __future__ import annotations

import os
from pathlib import Path

from ekiden.mailstore.location import open_mailbox
from ekiden.runtime.pop3.session import Session
from ekiden.runtime.pop3.stream import Stream
from ekiden.wire.pop3.profile import Profile
from ekiden.wire.pop3.server import Server


def test_the_mailbox_is_free_when_quit_is_answered(tmp_path: Path) -> None:
    """The client's next session may come at once."""
    mbox = tmp_path / "mbox"
    mbox.write_bytes(b"From a@b Mon Nov 23 14:00:00 2026\nSubject: one\n\nbody\n\n")
    found = []

    class Watched(Stream):
        def write(self, data: bytes) -> None:
            again = open_mailbox(os.fsencode(mbox), os.fsencode(tmp_path))
            found.append(len(again))
            again.close()

    reading, writing = os.pipe()
    os.write(writing, b"QUIT\r\n")
    server = Server(Profile())
    drop = open_mailbox(os.fsencode(mbox), os.fsencode(tmp_path))
    server.open(len(drop))
    server.output()
    Session(server, drop, Watched(reading, writing, 5)).serve()
    os.close(reading)
    os.close(writing)
    assert found == [1]
