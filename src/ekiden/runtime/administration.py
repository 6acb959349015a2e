"""The answers to the administrator's requests: look, hold, release, delete, requeue, bounce (``control_frames``)."""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Callable, Mapping
from functools import lru_cache

import msgspec

from ekiden.queue.audit import Audited, audit
from ekiden.queue.engine import Engine
from ekiden.queue.inspect import describe, describe_end, matches
from ekiden.queue.store import MessageRow, PartRow, RowDamaged, Store, StoreDamaged, StoreFull
from ekiden.runtime.control_frames import (
    Act,
    Acted,
    Audit,
    Configure,
    ControlAnswer,
    ControlRequest,
    Done,
    Findings,
    Flush,
    Hosts,
    Ledger,
    List,
    Rows,
    Show,
    Status,
)
from ekiden.runtime.frames import HostState
from ekiden.settings.schema import Settings

SCAN = 500
"""Messages looked at per request, so that a filter that matches nothing does not stop the queue."""

_json = msgspec.json.Encoder().encode


class Administration:
    """Answers requests on the queue role's behalf."""

    def __init__(
        self,
        engine: Engine,
        store: Store,
        wake: Callable[[], None],
        hosts: Callable[[], Mapping[str, HostState]],
        forget_hosts: Callable[[], None],
        configure: Callable[[Settings], None],
    ) -> None:
        self._engine = engine
        self._store = store
        self._wake = wake
        self._hosts = hosts
        self._forget_hosts = forget_hosts
        self._configure = configure
        self._since = time.time()
        # The role does not open files when it works.
        for uid in (0, os.getuid()):
            _user(uid)

    def answer(self, frame: ControlRequest, uid: int) -> ControlAnswer:
        """Do what the user ``uid`` asks for; never raises but for ``StoreFailed``."""
        match frame:
            case List():
                return self._list(frame)
            case Show():
                return self._show(frame)
            case Act():
                return self._act(frame, _user(uid))
            case Flush():
                return self.flush(frame.after)
            case Status():
                return self._status()
            case Hosts():
                return self._tcpto(frame)
            case Audit():
                return Findings(self._audit(frame.after))
            case Ledger():
                return self._ledger(frame)
            case Configure():
                self._configure(frame.settings)
                return Done(1)

    def _audit(self, after: int) -> Audited:
        try:
            return audit(self._store, after)
        except StoreDamaged as error:
            return Audited(problems=[(after + 1, f"and those after it cannot be read: {error}")])

    def _list(self, frame: List) -> Rows:
        rows: list[bytes] = []
        after = frame.after
        now = time.time()
        damaged: list[RowDamaged] = []
        found = self._store.messages(after, SCAN, damaged)
        if damaged:
            found += [self._store.damaged_message(fault.message) for fault in damaged]
            found.sort(key=lambda message: message.id)
        for message in found:
            parts, faults = self._parts(message.id, damaged)
            if matches(frame.filter, message, parts, self._store.destination_key, now):
                rows.append(_json(describe(message, parts, self._store.destination_key, faults)))
            after = message.id
            if len(rows) >= frame.limit:
                return Rows(rows, after)
        return Rows(rows, after if len(found) == SCAN else 0)

    def _show(self, frame: Show) -> Rows:
        damaged: list[RowDamaged] = []
        try:
            message = self._store.message(frame.message)
        except RowDamaged as fault:
            damaged.append(fault)
            message = self._store.damaged_message(frame.message)
        if message is None:
            return Rows([])
        parts, faults = self._parts(message.id, damaged)
        rows = [_json(describe(message, parts, self._store.destination_key, faults))]
        if frame.octets:
            rows.append(self._beginning(message, frame.octets))
        return Rows(rows)

    def _parts(self, message: int, damaged: list[RowDamaged]) -> tuple[list[PartRow], str]:
        """A message's parts that can be read, and what is wrong with it; it may be among those damaged."""
        faults = [fault for fault in damaged if fault.message == message]
        parts = self._store.parts(message, faults)
        return parts, "; ".join(fault.fault for fault in faults)

    def _beginning(self, message: MessageRow, octets: int) -> bytes:
        try:
            if not message.spool:
                return (self._store.content(message.id) or b"")[:octets]
            with open(self._store.open_spool(message.spool), "rb") as file:
                return file.read(octets)
        except OSError as error:
            return f"its content cannot be read: {error.strerror}\n".encode()

    def _ledger(self, frame: Ledger) -> Rows:
        stored = self._store.ledger(frame.after, frame.until, SCAN)
        rows = [_json(describe_end(row)) for row in stored]
        return Rows(rows, stored[-1][0] if len(stored) >= SCAN else 0)

    def _act(self, frame: Act, user: str) -> Acted:
        now = time.time()
        # What has just been delivered must not be counted again.
        if not self._engine.commit():
            return Acted([], [], "the device is full")
        done: list[int] = []
        busy: list[int] = []
        damaged: list[int] = []
        try:
            for message in dict.fromkeys(frame.messages):
                # What is on hold is never being delivered, and nothing else is released.
                if frame.action != "release" and self._engine.scheduler.is_attempting(message):
                    busy.append(message)
                elif self._one(frame.action, message, now, user, damaged):
                    if frame.action not in ("bounce", "delete"):
                        self._engine.attribute(user, frame.action, message)
                    done.append(message)
        except StoreFull as error:
            return Acted(done, busy, str(error), damaged)
        # Who asked may rely on it from now on.
        if not self._engine.commit():
            return Acted([], busy, "the device is full", damaged)
        if frame.action == "flush":
            self._forget_pauses()
        self._wake()
        return Acted(done, busy, damaged=damaged)

    def _one(self, action: str, message: int, now: float, user: str, damaged: list[int]) -> bool:
        try:
            return self._do(action, message, now, user)
        except RowDamaged:
            damaged.append(message)
        return False

    def _do(self, action: str, message: int, now: float, user: str) -> bool:
        match action:
            case "hold":
                is_new = self._store.hold(message)
                self._engine.scheduler.withdraw(message)
                return is_new
            case "release":
                self._engine.scheduler.wake_all()
                return self._store.release(message, now)
            case "flush":
                return self._hurry(message, now)
            case "delete":
                return self._engine.delete(message, now, user)
            case "requeue":
                return self._engine.requeue(message, now)
            case "bounce":
                return self._engine.give_up(message, now, user)
        return False

    def _hurry(self, message: int, now: float) -> bool:
        row = self._store.message(message)
        if row is None or row.held:
            return False
        self._store.hurry(message, now)
        return True

    def _forget_pauses(self) -> None:
        """Let destinations and addresses that could not be reached be tried again."""
        self._forget_hosts()
        self._engine.scheduler.wake_all()

    def flush(self, after: int = 0) -> Done:
        """Make messages that are not held due now, and forget which destinations could not be reached."""
        try:
            # What was deferred a moment ago is due too.
            if not self._engine.commit():
                return Done(0, "the device is full")
            count, following = self._store.flush(time.time(), after)
        except StoreFull as error:
            return Done(0, str(error))
        self._forget_pauses()
        self._wake()
        return Done(count, next=following)

    def _status(self) -> Rows:
        scheduler = self._engine.scheduler
        figures = {
            "pid": os.getpid(),
            "since": self._since,
            "messages": self._store.count(),
            "unprocessed": 0,
            "in_flight": scheduler.busy,
            "limit": scheduler.limit,
        }
        lanes = [
            {
                "destination": lane.key.decode("utf-8", "replace"),
                "waiting": len(lane.waiting),
                "in_flight": lane.in_flight,
                "window": int(lane.window),
                "paused_until": lane.paused_until,
                "last": lane.last,
            }
            for lane in scheduler.lanes()[:1000]
            if lane.at_hand or lane.paused_until
        ]
        return Rows([_json(row) for row in [figures, *lanes]])

    def _tcpto(self, frame: Hosts) -> Rows:
        rows = [
            _json({"address": state.address, "since": state.since, "count": state.count})
            for state in self._hosts().values()
        ]
        if frame.forget:
            self._forget_hosts()
        return Rows(rows)


@lru_cache(maxsize=100)
def _user(uid: int) -> str:
    """A user's name, for the ledger; the number if there is no name, or the list of users cannot be read."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
