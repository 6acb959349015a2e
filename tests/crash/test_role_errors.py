"""An error of the machine in the place of a system call of a role that runs: refused, deferred or done, and not lost.

Once, and for as long as ``LASTS``. One for each role; ``--seed`` chooses others, ``--every-point`` tries all.
"""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.crash.tracing import attached
from tests.peers.accounting import Ledger
from tests.peers.client import OUT_OF_PATIENCE, LoadClient
from tests.peers.deliveries import account, drain
from tests.peers.ekiden import Ekiden
from tests.peers.processes import process_tree, wait_until
from tests.peers.sinks import Sink

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="tracing needs root")]

_DISK = "ENOSPC EIO EDQUOT"
_DESCRIPTORS = "EMFILE ENFILE ENOMEM"
_GONE = "ECONNRESET EPIPE ENOBUFS"

CALLS: dict[str, dict[str, str]] = {
    "smtpd": {
        "accept4": f"{_DESCRIPTORS} ECONNABORTED",
        "write": f"{_DISK} {_GONE}",
        "read": "EIO ECONNRESET",
        "recvmsg": "ECONNRESET ENOMEM",
        "sendto": _GONE,
        "fsync": _DISK,
        "clone3": "EAGAIN ENOMEM",
        "mmap": "ENOMEM",
    },
    "queue": {
        "accept4": _DESCRIPTORS,
        "pwrite64": _DISK,
        "fdatasync": "EIO",
        "fsync": _DISK,
        "openat": f"{_DESCRIPTORS} {_DISK} EROFS",
        "unlinkat": "EIO EROFS",
        "recvmsg": "ECONNRESET ENOMEM",
        "sendto": _GONE,
        "sendmsg": _GONE,
        "pread64": "EIO",
        "mmap": "ENOMEM",
    },
    "remote": {
        "socket": f"{_DESCRIPTORS} EACCES",
        "connect": "ECONNREFUSED ENETUNREACH EADDRNOTAVAIL",
        "write": _GONE,
        "read": "ECONNRESET EIO",
        "pread64": "EIO",
        "recvmsg": "ECONNRESET ENOMEM",
        "sendto": _GONE,
        "clone3": "EAGAIN",
        "mmap": "ENOMEM",
    },
    "local": {
        "clone": "EAGAIN ENOMEM",
        "socketpair": _DESCRIPTORS,
        "openat": f"{_DESCRIPTORS} {_DISK} EROFS EACCES",
        "write": _DISK,
        "fsync": _DISK,
        "rename": f"{_DISK} EROFS EACCES",
        "pread64": "EIO",
        "recvmsg": "ECONNRESET ENOMEM",
        "sendto": _GONE,
        "setresuid": "EAGAIN EPERM",
        "mmap": "ENOMEM",
        "sendmsg": _GONE,
        "recvfrom": "ECONNRESET ENOMEM",
        "pidfd_open": _DESCRIPTORS,
    },
}
"""What each role asks the kernel for while mail passes through it, and the errors that this may have."""

SAMPLE = 1
"""Faults tried of each role."""

LASTS = 0.6
"""Seconds for which calls may fail."""

SIZES = (2000, 300_000, 2000)


@dataclass(frozen=True)
class Fault:
    call: str
    error: str
    lasting: bool

    @property
    def option(self) -> str:
        return f"inject={self.call}:error={self.error}:when={'2+' if self.lasting else '2'}"


def faults(role: str) -> list[Fault]:
    return [
        Fault(call, error, lasting)
        for call, errors in CALLS[role].items()
        for error in errors.split()
        for lasting in (False, True)
    ]


def spooled(home: Ekiden) -> set[str]:
    """The files of large contents."""
    return {path.name for path in (home.home / "queue" / "spool").iterdir()}


@pytest.mark.parametrize("role", CALLS)
def test_a_role_that_meets_an_error_loses_nothing(
    home: Ekiden, sink: Sink, tmp_path: Path, role: str, pytestconfig: pytest.Config
) -> None:
    seed = pytestconfig.getoption("--seed") or 0
    every = faults(role)
    tried = every if pytestconfig.getoption("--every-point") else random.Random(seed).sample(every, SAMPLE)
    home.routes(f":{sink.route}")
    home.control("reuseseconds", "0")
    inbox = home.make_inbox("inbox")
    home.start()
    ledger = Ledger()
    happened, left = 0, spooled(home)
    for number, fault in enumerate(tried):
        log = tmp_path / f"log-{number}"
        said = f"{role} with seed {seed}: {fault}"
        wait_until(lambda: role in home.roles().values(), f"{said}: the role is there")
        pids = sorted(process_tree(pid for pid, name in home.roles().items() if name == role))
        client = LoadClient(
            home.port,
            ledger,
            ["a@sink.example", "inbox@ekiden.example"],
            sessions=3,
            limit=15,
            size=lambda at: SIZES[at % len(SIZES)],
            first=number * 1000,
        )
        with client.running(until_done=True), attached(pids, log, "-e", fault.option, calls=fault.call):
            time.sleep(LASTS)
        # Nobody is kept waiting for what was forgotten.
        assert not ledger.troubles[OUT_OF_PATIENCE], f"{said}: clients are kept waiting\n{home.log()[-3000:]}"
        happened += "(INJECTED)" in log.read_text("ascii", "replace")
        assert drain(home, 60) == 0, f"{said}\n{home.log()[-3000:]}"
        # What could not be removed is, at the next start.
        left = left | spooled(home) if fault.call == "unlinkat" else left
        assert spooled(home) <= left, said
    LoadClient(home.port, ledger, ["a@sink.example", "inbox@ekiden.example"], limit=4, first=900_000).run()
    assert drain(home, 60) == 0, home.log()[-3000:]
    books = account(ledger, sink, inbox)
    print(
        f"{role} with seed {seed}: {happened} of {len(tried)} faults happened,"
        f" {len(ledger.acknowledged)} of {len(ledger.sent)} acknowledged, {books}"
    )
    assert books and ledger.acknowledged, f"{role} with seed {seed}: {books}"
    assert "Traceback" not in home.log()
    home.stop()
    home.start()
    assert not spooled(home)
    assert home.command("audit", check=False).returncode == 0
