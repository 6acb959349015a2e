"""qmail-send: delivers what is in the queue, through spawners and qmail-clean (qmail-send.8).

The activity record goes to descriptor 0, commands for qmail-lspawn, qmail-rspawn and qmail-clean to 1, 3 and 5; their
reports come from 2, 4 and 6. The queue is ekiden's: this is the queue role with descriptors where that has links, so
that injecting programs and ``ekiden queue`` find it as they find the daemon. TERM ends it when the deliveries in
progress have ended, ALRM tries everything now, HUP reads the control files anew. Exit code 111 if it cannot start.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import stat
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec

from ekiden.base.envelope import Envelope
from ekiden.base.outcome import MANGLED, Outcome, Verdict
from ekiden.delivery.content import Content, WireContent, WireFile, damage
from ekiden.delivery.report import readable
from ekiden.queue.lane import Part
from ekiden.queue.sqlite import SQLiteStore
from ekiden.queue.store import StoreFailed
from ekiden.roles.local import outcome_of
from ekiden.roles.queue import QueueRole, Unusable, lock
from ekiden.runtime import role
from ekiden.runtime.classic import process_title
from ekiden.runtime.classic.delivery_pipe import DeliveryPipe, Pipes
from ekiden.runtime.classic.message_files import MessageFiles
from ekiden.runtime.frames import HostState
from ekiden.runtime.log import PlainLog
from ekiden.runtime.preloading import preload
from ekiden.runtime.privilege import become, identities
from ekiden.runtime.queue_delivery import Deliverers
from ekiden.runtime.queue_place import CannotServe, Place, prepare
from ekiden.runtime.role import SIGNALS, Context
from ekiden.settings.control import read
from ekiden.settings.problem import SettingsError
from ekiden.settings.schema import Settings

LOG = 0
PIPES = {"local": (1, 2), "remote": (3, 4)}
CLEAN = (5, 6)

CLEANUP_SECONDS = 76_431
"""How often files that a crash left behind are looked for, as in qmail-send."""

_FOREVER = 1_000_000
_VERDICTS = {b"K": Verdict.DELIVERED, b"Z": Verdict.DEFERRED, b"D": Verdict.FAILED}
_ONLY_FORWARDED = re.compile(r"^did 0\+[1-9]\d*\+0$", re.MULTILINE)


def main(argv: Sequence[str], home: str) -> int:
    """Takes no arguments; whoever starts it has connected descriptors 0 to 6."""
    if argv or any(not _is_pipe(descriptor) for descriptor in range(1, 7)):
        print("qmail-send: usage: qmail-start runs qmail-send, with its descriptors connected", file=sys.stderr)
        return 111
    process_title.show(("qmail-send",))
    os.umask(0o077)
    log = PlainLog("queue", LOG)
    directory = Path(home)
    try:
        settings = read(directory / "control")
        who = identities(directory)
        place = prepare(directory, who)
        preload()
        become(who.roles["queue"])
    except (SettingsError, CannotServe) as error:
        log.alert(f"cannot start: {error}")
        return 111
    return serve(directory, settings, place)


def serve(home: Path, settings: Settings, place: Place) -> int:
    """Work until TERM; the exit code. Privileges are already given up."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # Nothing may be printed: 1 is a spawner's.
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    log = PlainLog("queue", LOG)
    most: dict[str, int] = {}
    for channel, (_to, back) in PIPES.items():
        said = os.read(back, 1)
        if not said:
            log.alert(f"cannot start: the {channel} spawner does not say how many deliveries it can run")
            return 111
        most[channel] = said[0]
    context = Context(home, adapted(settings, most), log, sockets=place.sockets, run=place.run, queue=home / "queue")
    context.reader = place.reader
    try:
        role.run(context, partial(_work, most=most, place=place))
    except (Unusable, StoreFailed, OSError) as error:
        log.alert(f"cannot go on: {error}")
        return 111
    except Exception as error:
        log.alert(f"cannot go on: {type(error).__name__}: {error}")
        raise
    return 0


def adapted(settings: Settings, most: dict[str, int]) -> Settings:
    """Settings for spawners: one recipient at a time, no more than they can run, and waited for to the end."""
    return msgspec.structs.replace(
        settings,
        concurrencylocal=min(settings.concurrencylocal, most["local"]),
        localahead=0,
        concurrencyremote=min(settings.concurrencyremote, most["remote"]),
        recipientspertransaction=1,
        shutdownseconds=_FOREVER,
    )


def _is_pipe(descriptor: int) -> bool:
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


async def _work(context: Context, most: dict[str, int], place: Place) -> None:
    held = lock(context.queue)
    store = SQLiteStore(context.queue, context.settings.checkpointpages, thorough=True)
    sender = Sender(context, store, most)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, sender.reread, most, place)
    await sender.serve()
    store.close()
    # Whoever reads the log is to get its end.
    os.set_blocking(LOG, True)
    context.log.exiting()
    os.close(held)


class Sender(QueueRole):
    """The queue role whose deliverers are spawners."""

    def __init__(self, context: Context, store: SQLiteStore, most: dict[str, int]) -> None:
        super().__init__(context, store)
        self._cleaner = Pipes(self.loop, *CLEAN, self._cleaned, self._cleaner_ended)
        self._cleaning: list[int] = []
        self.files = MessageFiles(context.queue, self._clean)
        self._deliverers = {channel: Spawned(self, channel, most[channel]) for channel in ("remote", "local")}
        self._sweep()

    def reread(self, most: dict[str, int], place: Place) -> None:
        """Take over what the control files say now, or keep what they said and say why."""
        try:
            settings = read(self._context.home / "control")
        except SettingsError as error:
            self.log.alert(f"unable to reread controls: {error}")
            return
        self.reconfigure(adapted(settings, most))
        place.reloaded()

    def die(self, whom: str) -> None:
        """End when what is in progress has ended, because somebody who is needed is gone."""
        if not self._context.stopping.is_set():
            self.log.alert(f"oh no! lost {whom} connection! dying...")
            self._context.stopping.set()

    def _sweep(self) -> None:
        for number in self.files.leftovers(time.time()):
            self._clean(number)
        self.loop.call_later(CLEANUP_SECONDS, self._sweep)

    def _clean(self, number: int) -> None:
        self._cleaning.append(number)
        self._cleaner.send(b"foop/%d\0" % number)

    def _cleaned(self, answers: bytes) -> None:
        for answer in answers:
            number = self._cleaning.pop(0) if self._cleaning else 0
            if answer != ord("+"):
                self.log.warning(f"qmail-clean unable to clean up mess/{number}")

    def _cleaner_ended(self) -> None:
        self.die("qmail-clean")


def reported_outcome(channel: str, text: bytes) -> Outcome:
    """What a spawner's report means, its letter first. Whatever cannot be understood is tried again."""
    verdict = _VERDICTS.get(text[:1])
    if verdict is None:
        return MANGLED
    outcome = outcome_of(verdict, readable(text[1:]))
    if verdict == Verdict.DELIVERED and (channel == "remote" or _ONLY_FORWARDED.search(outcome.text)):
        # qmail's programs hand on nothing of what was asked for about notices (RFC 3461 sections 5.2.2, 5.2.7.3).
        return msgspec.structs.replace(outcome, action="relayed")
    return outcome


class Spawned(Deliverers):
    """One channel's spawner in the place of delivery processes."""

    def __init__(self, sender: Sender, channel: str, most: int) -> None:
        super().__init__(sender, channel)
        self._sender = sender
        self._attempts: dict[Part, list[Outcome | None]] = {}
        self._pipe: DeliveryPipe[tuple[Part, int]] = DeliveryPipe(
            sender.loop, *PIPES[channel], most, self._reported, self._strange, lambda _keys: self._spawner_ended()
        )

        if self.table is not None:
            self.table.share()

    @property
    def present(self) -> bool:
        return self._pipe.alive

    def known_hosts(self) -> Mapping[str, HostState]:
        return self.table.load() if self.table is not None else {}

    def forget_hosts(self) -> None:
        if self.table is not None:
            self.table.keep(())

    def keep(self) -> None:
        """Nothing: the table is each qmail-remote's to keep."""

    def send(self, part: Part, envelope: Envelope) -> bool:
        """Start a delivery for each recipient; False if there is no file for the spawner to read."""
        content = self._content(part)
        if content is None:
            return False
        try:
            name = self._sender.files.take(part.message.id, content.chunks)
        except OSError as error:
            self._role.log.alert(f"msg {part.message.id}: unable to write it below mess: {error.strerror}")
            return False
        finally:
            content.close()
        self._attempts[part] = [None] * len(part.recipients)
        for place, recipient in enumerate(part.recipients):
            if b"\0" in envelope.sender + recipient.address:
                outcome = Outcome(Verdict.FAILED, "5.1.3", "No address may contain a zero octet. (#5.1.3)\n")
                self._role.loop.call_soon(self._note, part, place, outcome)
            else:
                self._pipe.start((part, place), name, envelope.sender, recipient.address)
        return True

    def _content(self, part: Part) -> Content | None:
        message, store = part.message, self._role.store
        if not message.spool:
            data = self._role.engine.content(message)
            return None if data is None else WireContent(data)
        try:
            file = store.open_spool(message.spool)
        except OSError as error:
            self._role.log.alert(f"msg {message.id}: unable to open spool/{message.spool}: {error.strerror}")
            return None
        if fault := damage(file, message.meta.checksum):
            os.close(file)
            self._role.log.alert(f"msg {message.id}: {fault.rstrip()}")
            return None
        return WireFile(file)

    def _reported(self, key: tuple[Part, int], text: bytes) -> None:
        self._note(*key, reported_outcome(self._channel, text))

    def _note(self, part: Part, place: int, outcome: Outcome) -> None:
        outcomes = self._attempts[part]
        outcomes[place] = outcome
        known = [each for each in outcomes if each is not None]
        if len(known) < len(outcomes):
            return
        self._end(part)
        unreachable = self._channel == "remote" and all(each.status == "4.4.1" for each in known)
        self._role.engine.report(part, known, unreachable, self._role.now())
        self._role.wake(urgent=False)

    def _end(self, part: Part) -> None:
        del self._attempts[part]
        self._sender.files.release(part.message.id)

    def _strange(self) -> None:
        self._role.log.warning("internal error: delivery report out of range")

    def _spawner_ended(self) -> None:
        """What it had in hand may or may not have been delivered, and is tried again after the next start."""
        self._sender.die(f"qmail-{self._channel[0]}spawn")
        for part in list(self._attempts):
            self._end(part)
            self._role.engine.lost(part, self._role.now())
        self._role.wake()
