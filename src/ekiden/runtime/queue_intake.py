"""The queue role's side towards those who inject: roles of ours, and anybody at ``run/inject``."""

from __future__ import annotations

import os
import re
import socket
import time

import msgspec

from ekiden.base.envelope import Envelope, Origin
from ekiden.base.reply import Reply
from ekiden.queue.intake import Arrival
from ekiden.runtime.frames import Accepted, Inject, IntakeRequest, Rejected, SpoolGrant, SpoolRelease, SpoolRequest
from ekiden.runtime.injection.envelope import ADDRESS_OCTETS
from ekiden.runtime.injection.limits import Limits
from ekiden.runtime.injection.link import InjectLink
from ekiden.runtime.link import Link
from ekiden.runtime.queue_shell import AnyLink, Shell

GRANTS = 5000
"""Spool files that one connection may have at once."""

RECIPIENTS = 100_000
"""Recipients of one message that anybody may inject."""

_TOKEN = re.compile(rb"[!-~]{0,1000}")


class Intakers:
    """The side towards those who inject: one connection each."""

    def __init__(self, role: Shell) -> None:
        self._role = role
        self._spools = 0
        self.limits = Limits(role.loop, role.settings)

    def open_guest(self, connection: socket.socket) -> None:
        """A new connection to ``run/inject``; the origin of what comes from it is what the kernel says."""
        granted: set[str] = set()
        link = InjectLink(
            self._role.loop,
            connection,
            self.limits,
            granted,
            lambda frame, _descriptor: self._take(link, granted, link.uid, frame),
            lambda _reason: self._closed(granted),
        )
        link.admit()

    def open(self, connection: socket.socket) -> None:
        """A new connection of a role's."""
        link: Link[IntakeRequest]
        granted: set[str] = set()
        link = Link(
            self._role.loop,
            connection,
            msgspec.msgpack.Decoder(IntakeRequest),
            lambda frame, _descriptor: self._take(link, granted, None, frame),
            lambda _reason: self._closed(granted),
        )

    def _closed(self, granted: set[str]) -> None:
        for name in granted:
            self._role.store.unlink_spool(name)

    def _take(self, link: AnyLink, granted: set[str], uid: int | None, frame: IntakeRequest) -> None:
        if isinstance(frame, Inject):
            self._inject(link, granted, uid, frame)
        elif isinstance(frame, SpoolRequest):
            self._grant(link, granted, frame.token)
        elif isinstance(frame, SpoolRelease) and frame.spool in granted:
            granted.discard(frame.spool)
            self._role.store.unlink_spool(frame.spool)

    def _inject(self, link: AnyLink, granted: set[str], uid: int | None, frame: Inject) -> None:
        origin = frame.origin
        if uid is not None:
            # What else it says of where it comes from is its own word.
            origin = Origin("local", origin.pid, uid)
        if frame.spool:
            if frame.spool not in granted:
                link.send(Rejected(frame.token, 451, "4.3.0", "spool file was not granted"))
                return
            granted.discard(frame.spool)
        token, role = frame.token, self._role
        size = role.store.spool_size(frame.spool) if frame.spool else len(frame.content)

        def answer(result: int | Reply) -> None:
            if isinstance(result, int):
                link.send(Accepted(token, result))
                return
            if frame.spool:
                role.store.unlink_spool(frame.spool)
            link.send(Rejected(token, result.code, result.status, result.text))

        if uid is not None and not is_plausible(frame.envelope):
            answer(Reply(554, "5.5.4", "the envelope says what no envelope may"))
            return
        if role.engine.stopping:
            answer(Reply(451, "4.3.2", "mail queue is shutting down"))
            return
        arrival = Arrival(frame.envelope, origin, frame.content, frame.spool, size, frame.checksum)
        role.engine.accept(arrival, role.now(), answer)
        role.wake()

    def _grant(self, link: AnyLink, granted: set[str], token: int) -> None:
        if len(granted) >= GRANTS or (isinstance(link, InjectLink) and not link.may_have_file):
            link.send(Rejected(token, 452, "4.3.1", "too many spool files at once"))
            return
        self._spools += 1
        name = f"{time.time_ns():x}-{os.getpid():x}-{self._spools:x}"
        try:
            descriptor = self._role.store.create_spool(name)
        except OSError as error:
            link.send(Rejected(token, 452, "4.3.1", f"unable to make a spool file: {error.strerror}"))
            return
        granted.add(name)
        link.send(SpoolGrant(token, name), descriptor)


def is_plausible(envelope: Envelope) -> bool:
    """Whether an envelope from an untrusted process may be passed on: what SMTP's parameters can say, and no more."""
    return (
        len(envelope.recipients) <= RECIPIENTS
        and _is_address(envelope.sender)
        and all(_is_address(one.address) for one in envelope.recipients)
        and envelope.ret in (b"", b"FULL", b"HDRS")
        and 0 <= envelope.body <= 2
        and _TOKEN.fullmatch(envelope.envid) is not None
        and all(0 <= one.notify <= 15 and _TOKEN.fullmatch(one.orcpt) for one in envelope.recipients)
    )


def _is_address(octets: bytes) -> bool:
    """Whether qmail-queue would take it: a routing table is asked about every part of an address."""
    return len(octets) <= ADDRESS_OCTETS and b"\0" not in octets
