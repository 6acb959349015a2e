"""The way into the queue for every role that takes messages: one connection to ``run/intake`` for all sessions.

Whoever has content in pieces uses ``deposit.Deposit``. When the queue goes away, or owes an answer for too long, what
it owed is answered 451 4.3.0 (it may have been queued: a duplicate is possible, a loss is not), and the connection is
made again with back-off; until then everything is answered 451.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from ekiden.base.envelope import Envelope, Origin
from ekiden.runtime.frames import (
    Accepted,
    Inject,
    IntakeAnswer,
    Rejected,
    SpoolGrant,
    SpoolRelease,
    SpoolRequest,
)
from ekiden.runtime.link import Link
from ekiden.runtime.log import Log

if TYPE_CHECKING:
    import asyncio

WRITERS = 8
"""Threads that write spool files; each may be waiting for the disk."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0

Answer = Accepted | Rejected
OnAnswer = Callable[[Answer], None]


class Intake:
    """The connection to the queue. ``connect`` makes a new one or raises OSError; ``inline`` is in octets.

    ``patience``: the longest that an answer may take, in seconds.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connect: Callable[[], socket.socket],
        inline: int,
        patience: float,
        log: Log,
    ) -> None:
        self.loop = loop
        self.inline = inline
        # Programs that share this module's names and make no Intake start sooner without it.
        from concurrent.futures import ThreadPoolExecutor

        self.writers = ThreadPoolExecutor(max_workers=WRITERS, thread_name_prefix="spool")
        self._connect = connect
        self._log = log
        self._decoder = msgspec.msgpack.Decoder(IntakeAnswer)
        self._link: Link[IntakeAnswer] | None = None
        self._waiting: dict[int, Callable[[IntakeAnswer, int | None], None]] = {}
        self._token = 0
        self._pause = _FIRST_PAUSE
        self._closed = False
        self._patience = patience
        self._seen = 0
        """The last that was asked before the last look at what is owed."""
        self._look = loop.call_later(patience / 2, self._look_at_debts)
        self._try_to_connect()

    @property
    def connected(self) -> bool:
        """Whether the queue can be asked now."""
        return self._link is not None

    def close(self) -> None:
        """For good; what is owed is answered 451."""
        self._closed = True
        self._look.cancel()
        if self._link is not None:
            self._link.close()
        self.writers.shutdown(wait=False)

    def inject(
        self,
        envelope: Envelope,
        origin: Origin,
        content: bytes,
        on_answer: OnAnswer,
        spool: str = "",
        size: int = 0,
        checksum: int = 0,
    ) -> None:
        """Ask the queue to take a message; ``Deposit.commit`` comes here."""

        def answered(answer: IntakeAnswer, descriptor: int | None) -> None:
            if isinstance(answer, SpoolGrant):
                _close(descriptor)
                answer = _unreachable(answer.token)
            on_answer(answer)

        token = self._ask(answered)
        if token is not None and self._link is not None:
            self._link.send(Inject(token, envelope, origin, content, spool, size, checksum))

    def request_spool(self, on_grant: Callable[[SpoolGrant | Rejected, int], None]) -> None:
        """Ask for a spool file; the descriptor, -1 beside ``Rejected``, is the caller's to close."""

        def answered(answer: IntakeAnswer, descriptor: int | None) -> None:
            if isinstance(answer, SpoolGrant) and descriptor is not None:
                on_grant(answer, descriptor)
                return
            _close(descriptor)
            on_grant(answer if isinstance(answer, Rejected) else _unreachable(answer.token), -1)

        token = self._ask(answered)
        if token is not None and self._link is not None:
            self._link.send(SpoolRequest(token))

    def release_spool(self, spool: str) -> None:
        """The granted file is not needed; the queue unlinks it, as it does when the connection ends."""
        if self._link is not None:
            self._link.send(SpoolRelease(spool))

    def _ask(self, answered: Callable[[IntakeAnswer, int | None], None]) -> int | None:
        """A token whose answer goes to ``answered``; None, and a refusal soon, without a queue."""
        self._token = token = self._token + 1
        if self._link is None:
            self.loop.call_soon(answered, _unreachable(token), None)
            return None
        self._waiting[token] = answered
        return token

    def _look_at_debts(self) -> None:
        """Twice in the longest time, so that nothing need be noted of each message."""
        self._look = self.loop.call_later(self._patience / 2, self._look_at_debts)
        oldest = next(iter(self._waiting), None)
        if oldest is not None and oldest <= self._seen and self._link is not None:
            self._link.close(f"no answer for {self._patience:g} seconds")
        self._seen = self._token

    def _try_to_connect(self) -> None:
        if self._closed:
            return
        try:
            connection = self._connect()
        except OSError as error:
            if self._pause == _FIRST_PAUSE:
                self._log.warning(f"unable to reach the queue: {error.strerror}; trying again")
            self.loop.call_later(self._pause, self._try_to_connect)
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)
            return
        self._link = Link(self.loop, connection, self._decoder, self._on_frame, self._on_close)

    def _on_frame(self, frame: IntakeAnswer, descriptor: int | None) -> None:
        # A queue that answers is well again; one that only lets us connect may be dying over and over.
        self._pause = _FIRST_PAUSE
        answered = self._waiting.pop(frame.token, None)
        if answered is None:
            _close(descriptor)
            return
        answered(frame, descriptor)

    def _on_close(self, reason: str) -> None:
        self._link = None
        waiting, self._waiting = self._waiting, {}
        if not self._closed:
            self._log.warning(f"connection to the queue lost: {reason}; {len(waiting)} answers owed")
            self.loop.call_later(self._pause, self._try_to_connect)
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        for token, answered in waiting.items():
            answered(_unreachable(token), None)


def _unreachable(token: int) -> Rejected:
    return Rejected(token, 451, "4.3.0", "queue unreachable, try again later")


def _close(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)
