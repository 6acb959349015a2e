"""Whoever keeps passwords: answers questions about them, slows down those who guess, and logs who failed.

It hears nothing from the network but what frames hold, which are checked again here: names and passwords of bounded
length. ``runtime.pop3.keeper`` adds sessions; for SMTP a yes is all that is wanted (``roles.keeper``).
"""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import Any

import msgspec

from ekiden.runtime.link import Link
from ekiden.runtime.log import Log
from ekiden.runtime.passwords.frames import (
    BeginScram,
    CheckPassword,
    CheckScram,
    Denied,
    Forget,
    FromSmtpd,
    ScramOffer,
    Verified,
)
from ekiden.runtime.passwords.secret import Account, Unavailable
from ekiden.runtime.passwords.throttle import Throttle
from ekiden.runtime.passwords.verifier import Result, Verifier
from ekiden.runtime.pop3.frames import CheckApop, Question
from ekiden.wire import sasl

FAILURE_SECONDS = 1.0
"""After how long a wrong attempt is answered, whatever looking at it took: that a user exists is not told by time."""

_FAILED = "authentication failed"
_LATER = "passwords cannot be checked now, try again later"


class PasswordKeeper:
    """``connection`` leads to the process that asks, on behalf of clients of ``service``, a word for the log."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: socket.socket,
        verifier: Verifier,
        throttle: Throttle,
        log: Log,
        service: str = "smtp",
        frames: Any = FromSmtpd,
    ) -> None:
        self._loop = loop
        self._verifier = verifier
        self._log = log
        self._service = service
        self._throttle = throttle
        self._asking: dict[int, float] = {}
        self._told: set[str] = set()
        self.left = asyncio.Event()
        self._link: Link[Any] = Link(
            loop, connection, msgspec.msgpack.Decoder(frames), self._take, lambda _reason: self._end()
        )

    def close(self) -> None:
        """Hear no more questions."""
        self._link.close()

    @property
    def busy(self) -> bool:
        """Whether an answer is owed."""
        return bool(self._asking) and not self.left.is_set()

    def _end(self) -> None:
        self.left.set()

    def _take(self, frame: Any, _descriptor: int | None) -> None:
        if isinstance(frame, Forget):
            self._asking.pop(frame.token, None)
        else:
            self._line_up(frame)

    def _line_up(self, frame: Question) -> None:
        """Look at the question, perhaps not at once."""
        try:
            sasl.check_name(frame.user)
            if isinstance(frame, CheckPassword):
                sasl.check_name(frame.password)
        except sasl.Malformed:
            self._deny(frame.token, "AUTH", _FAILED)
            return
        now = self._loop.time()
        self._asking[frame.token] = now
        wait = 0.0 if isinstance(frame, BeginScram) else self._throttle.wait(frame.address, frame.user, now)
        if wait is None:
            self._event("refuse", frame, "too many failed logins from this address")
            self._deny(frame.token, "SYS/TEMP", "too many failed logins, try again later")
        elif wait:
            self._loop.call_later(wait, self._look, frame)
        else:
            self._look(frame)

    def _look(self, frame: Question) -> None:
        if frame.token not in self._asking:
            # The client did not wait.
            return
        done = partial(self._answer, frame)
        try:
            if isinstance(frame, CheckPassword):
                self._verifier.password(frame.user, frame.password, b"", done)
            elif isinstance(frame, CheckApop):
                self._verifier.apop(frame.user, frame.timestamp, frame.digest, done)
            else:
                self._scram(frame)
        except Unavailable as error:
            done(error)
        for problem in map(str, self._verifier.problems):
            if problem not in self._told:
                self._told.add(problem)
                self._log.alert(f"{self._service}: {problem}")

    def _scram(self, frame: BeginScram | CheckScram) -> None:
        """Raises Unavailable."""
        account, keys = self._verifier.scram(frame.user)
        if isinstance(frame, BeginScram):
            self._asking.pop(frame.token)
            self._link.send(ScramOffer(frame.token, keys.salt, keys.iterations))
            return
        signature = sasl.scram_signature(keys, frame.signed, frame.proof) if len(frame.proof) == 32 else None
        self._answer(frame, account if signature else None, signature or b"")

    def _answer(self, frame: Question, result: Result, signature: bytes = b"") -> None:
        since = self._asking.get(frame.token)
        if since is None:
            return
        now = self._loop.time()
        if isinstance(result, Account) and not self._may_be(result):
            result = Unavailable(f"uid {result.uid} may not log in here")
        if isinstance(result, Account):
            self._asking.pop(frame.token)
            self._admit(frame, result, signature, now)
        elif result is None:
            self._throttle.failed(frame.address, frame.user, now)
            self._event("refuse", frame, _FAILED)
            self._loop.call_later(max(0.0, since + FAILURE_SECONDS - now), self._deny, frame.token, "AUTH", _FAILED)
        else:
            self._event("refuse", frame, str(result))
            self._deny(frame.token, "SYS/TEMP", _LATER)

    def _may_be(self, account: Account) -> bool:
        """Root's password is not to be guessed from the network."""
        return account.uid != 0

    def _admit(self, frame: Question, account: Account, signature: bytes, now: float) -> None:
        """The password was right."""
        self._throttle.succeeded(frame.user)
        user = frame.user.decode("utf-8", "replace")
        text = f"{self._service}: {frame.address}: {user} logged in"
        self._log.event("login", text, client=frame.address, user=user)
        self._link.send(Verified(frame.token, signature))

    def _deny(self, token: int, code: str, text: str) -> None:
        self._asking.pop(token, None)
        self._link.send(Denied(token, code, text))

    def _event(self, name: str, frame: Question, reason: str) -> None:
        user = frame.user.decode("utf-8", "replace")
        text = f"refuse: {self._service}: {frame.address}: {user}: {reason}"
        self._log.event(name, text, client=frame.address, user=user, reason=reason)
