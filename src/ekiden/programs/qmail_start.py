"""qmail-start: turn on mail delivery (qmail-start.8).

Usage: qmail-start [defaultdelivery [logger arg ...]]. Starts qmail-lspawn, qmail-rspawn and qmail-clean, each as its
user, and becomes qmail-send; the activity record goes to descriptor 1 or to the logger's input. Each program is the
one that PATH finds, or ours, which is run without starting another interpreter. Nothing else is printed; exit code
111 if delivery cannot be turned on, and the record says why.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from ekiden.programs import find, qmail_clean, qmail_lspawn, qmail_rspawn, qmail_send, splogger, stranger
from ekiden.runtime.classic import process_title
from ekiden.runtime.preloading import preload
from ekiden.runtime.privilege import Identities, Identity, become, identities
from ekiden.runtime.queue_place import CannotServe, prepare
from ekiden.settings.control import read
from ekiden.settings.problem import SettingsError

OWN = (qmail_clean, qmail_lspawn, qmail_rspawn, splogger)
"""Imported while everything can be read: a role's user may not be able to."""

_SPAWNED = 6
"""The highest descriptor that qmail-send is given."""


def main(argv: Sequence[str], home: str) -> int:
    """Returns only if it fails."""
    directory = Path(home).absolute()
    os.chdir("/")
    os.umask(0o077)
    _reserve()
    preload()
    who = identities(directory)
    if argv[1:]:
        _start_logger(argv[1:], who.roles["log"], directory)
    try:
        settings = read(directory / "control")
        place = prepare(directory, who)
    except (SettingsError, CannotServe) as error:
        os.write(1, f"alert: cannot start: {error}\n".encode("utf-8", "replace"))
        return 111
    default = argv[0] if argv else os.fsdecode(settings.defaultdelivery)
    pids, pipes = _start_spawners(default, who, directory)
    place.tell({"qmail-send": os.getpid(), **pids})
    os.dup2(1, 0)
    for number, descriptor in enumerate(pipes, 1):
        os.dup2(descriptor, number)
        os.close(descriptor)
    path = stranger("qmail-send")
    if path is not None:
        become(who.roles["queue"])
        os.execv(path, ["qmail-send"])
    process_title.show(("qmail-send",))
    become(who.roles["queue"])
    return qmail_send.serve(directory, settings, place)


def _reserve() -> None:
    """Have descriptors 0 to 6 taken, so that no pipe gets their numbers; 1 is the output if there is one."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(_SPAWNED + 1):
        if descriptor != 1 or not _is_open(1):
            os.dup2(null, descriptor)
    if null > _SPAWNED:
        os.close(null)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _start_logger(command: Sequence[str], identity: Identity | None, home: Path) -> None:
    """Start the logger; descriptor 1 leads to it from now on."""
    reading, writing = os.pipe()
    _start(command, identity, home, reading, 1)
    os.dup2(writing, 1)
    os.close(writing)
    os.close(reading)
    # It has no other writer: a logger that hangs must not hang the mail.
    os.set_blocking(1, False)


def _start_spawners(default: str, who: Identities, home: Path) -> tuple[dict[str, int], list[int]]:
    """Start the three; their process ids, and qmail-send's ends of their pipes in the order of its descriptors."""
    queue, remote = who.roles["queue"], who.roles["remote"]
    # The group lets it search the queue's directories for messages.
    reader = Identity(remote.uid, queue.gid) if queue and remote else remote
    pids: dict[str, int] = {}
    pipes: list[int] = []
    for command, identity in (
        (("qmail-lspawn", default), who.roles["local"]),
        (("qmail-rspawn",), reader),
        (("qmail-clean",), queue),
    ):
        commands, to = os.pipe()
        back, reports = os.pipe()
        pids[command[0]] = _start(command, identity, home, commands, reports)
        os.close(commands)
        os.close(reports)
        pipes += (to, back)
    return pids, pipes


def _start(command: Sequence[str], identity: Identity | None, home: Path, taken: int, given: int) -> int:
    """Start a program with ``taken`` and ``given`` as descriptors 0 and 1 and nothing else open; its process id."""
    pid = os.fork()
    if pid:
        return pid
    status = 111
    try:
        # What goes wrong with the program itself is for the record.
        os.dup2(1, 2)
        os.dup2(given, 1)
        os.dup2(taken, 0)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        for number in (signal.SIGPIPE, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        status = _program(command, identity)(command[1:], str(home))
    except Exception as error:
        os.write(2, f"alert: {command[0]}: {type(error).__name__}: {error}\n".encode("utf-8", "replace"))
    finally:
        os._exit(status)


def _program(command: Sequence[str], identity: Identity | None) -> Callable[[Sequence[str], str], int]:
    """Our program of that name, ready to be run as that user; does not return if another is found."""
    path = stranger(command[0])
    own = find(command[0]) if path is None else None
    if own is None:
        become(identity)
        os.execvp(path or command[0], list(command))
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    process_title.show(command)
    become(identity)
    return own
