"""Those who take mail out of mailboxes while it comes in: a POP3 client, and maildir2mbox, killed now and then."""

from __future__ import annotations

import contextlib
import os
import poplib
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.peers.ekiden import COMMAND, NOBODY, Ekiden
from tests.peers.processes import run
from tests.peers.sink import describe

BROKEN = (OSError, EOFError, poplib.error_proto)
"""How a session ends whose server is killed."""

_WORD = "secret"


class Pop3Reader:
    """Reads mailboxes over and over, and deletes what it has read; whole messages only count."""

    def __init__(self, ekiden: Ekiden, port: int, mailboxes: dict[str, Path]) -> None:
        self._port = port
        self._names = sorted(mailboxes)
        self._read: dict[tuple[str, str], tuple[str, str]] = {}
        self.sessions = 0
        users = [
            f"{name}:{{PLAIN}}{_WORD}:{NOBODY}:{NOBODY}:{path.parent}:./{path.name}{'/' if path.is_dir() else ''}"
            for name, path in mailboxes.items()
        ]
        ekiden.control("pop3users", *users)
        (ekiden.home / "control" / "pop3users").chmod(0o600)

    @property
    def arrivals(self) -> list[tuple[str, str]]:
        """Identity and hash of every message that was read."""
        return list(self._read.values())

    def turn(self) -> int:
        """One session for each mailbox; how many messages were there. Raises what ``BROKEN`` names."""
        return sum(self._session(name) for name in self._names)

    def _session(self, name: str) -> int:
        client = poplib.POP3("127.0.0.1", self._port, timeout=60)
        try:
            client.user(name)
            client.pass_(_WORD)
            listed = [line.decode().split() for line in client.uidl()[1]]
            for number, identity in listed:
                if (name, identity) not in self._read:
                    content = b"\r\n".join(client.retr(int(number))[1]) + b"\r\n"
                    entry = describe(content)
                    self._read[name, identity] = str(entry["id"]), str(entry["hash"])
                client.dele(int(number))
            client.quit()
            self.sessions += 1
            return len(listed)
        finally:
            client.close()


class Mover:
    """maildir2mbox, run over and over, and now and then killed in its work."""

    def __init__(self, maildir: Path, seed: int) -> None:
        self.mbox = maildir.parent / "moved"
        self._environment = os.environ | {
            "MAILDIR": str(maildir),
            "MAIL": str(self.mbox),
            "MAILTMP": str(maildir.parent / "moving"),
        }
        self._maildir = maildir
        self._random = random.Random(seed)
        self.kills = 0

    def turn(self) -> int:
        """Move what there is, or be killed on the way; how many messages are left."""
        process = subprocess.Popen([COMMAND, "maildir2mbox"], env=self._environment, stderr=subprocess.DEVNULL)
        try:
            process.wait(self._random.uniform(0.02, 0.4) if self._random.random() < 0.3 else 60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            self.kills += 1
        return self.left()

    def left(self) -> int:
        return sum(len(os.listdir(self._maildir / part)) for part in ("new", "cur"))

    def finish(self) -> None:
        """Move all; AssertionError if that cannot be."""
        for _ in range(10):
            # Messages of this very second wait.
            time.sleep(1)
            run([COMMAND, "maildir2mbox"], env=self._environment)
            if not self.left():
                return
        raise AssertionError(f"{self.left()} messages stay in {self._maildir}")


@contextmanager
def over_and_over(turn: Callable[[], object], pause: float) -> Iterator[None]:
    """Call it again and again in a thread of its own while the block runs, whatever breaks."""
    stopping = threading.Event()

    def work() -> None:
        while not stopping.wait(pause):
            with contextlib.suppress(*BROKEN):
                turn()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
