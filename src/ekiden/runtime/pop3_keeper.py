"""The privileged part of the POP3 server: answers the door's questions about passwords, and starts sessions.

It hears nothing from the network but what the door's frames hold, which are checked again here: names and passwords
of bounded length. It opens no mailbox; the process that does has become the user.
"""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass
from functools import partial

import msgspec

from ekiden.runtime.link import Link
from ekiden.runtime.log import Log
from ekiden.runtime.password import Account, Unavailable
from ekiden.runtime.pop3_frames import (
    BeginScram,
    CheckApop,
    CheckPassword,
    CheckScram,
    Denied,
    Enter,
    Forget,
    FromDoor,
    Left,
    Question,
    ScramOffer,
    Serve,
    Served,
    Verified,
)
from ekiden.runtime.pop3_throttle import Throttle
from ekiden.runtime.pop3_verifier import Result, Verifier
from ekiden.runtime.pop3_workers import Workers
from ekiden.wire import sasl
from ekiden.wire.pop3.session import error

FAILURE_SECONDS = 1.0
"""After how long a wrong attempt is answered, whatever looking at it took: that a user exists is not told by time."""

_USERS_REMEMBERED = 100_000

_FAILED = "authentication failed"
_LATER = "passwords cannot be checked now, try again later"


@dataclass
class _Guest:
    """A connection that was verified, or has entered."""

    account: Account
    user: bytes
    address: str


class Keeper:
    """``connection`` is the door's. ``log_in_delay``: seconds between two logins of a user."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: socket.socket,
        verifier: Verifier,
        workers: Workers,
        log: Log,
        log_in_delay: int,
    ) -> None:
        self._loop = loop
        self._verifier = verifier
        self._workers = workers
        self._log = log
        self._delay = log_in_delay
        self._throttle = Throttle()
        self._verified: dict[int, _Guest] = {}
        self._asking: dict[int, float] = {}
        self._last_login: dict[bytes, float] = {}
        self._told: set[str] = set()
        self.left = asyncio.Event()
        self._link: Link[FromDoor] = Link(
            loop, connection, msgspec.msgpack.Decoder(FromDoor), self._take, lambda _reason: self.left.set()
        )

    def close(self) -> None:
        """Hear the door no more."""
        self._link.close()

    def _take(self, frame: FromDoor, descriptor: int | None) -> None:
        if isinstance(frame, Enter):
            assert descriptor is not None
            self._enter(frame, descriptor)
        elif isinstance(frame, Forget):
            self._verified.pop(frame.token, None)
            self._asking.pop(frame.token, None)
        else:
            self._line_up(frame)

    # Questions.

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
                self._log.alert(f"pop3: {problem}")

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
            result = Unavailable(f"unable to become uid {result.uid}")
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
        """Root has no mailbox, and who is not root is nobody else."""
        own = os.geteuid()
        return account.uid != 0 and own in (0, account.uid)

    def _admit(self, frame: Question, account: Account, signature: bytes, now: float) -> None:
        self._throttle.succeeded(frame.user)
        last = self._last_login.get(account.name)
        if self._delay and last is not None and now < last + self._delay:
            self._event("refuse", frame, "logged in a moment ago")
            self._deny(frame.token, "LOGIN-DELAY", f"log in again after {self._delay} seconds")
            return
        if self._delay:
            if len(self._last_login) >= _USERS_REMEMBERED:
                self._last_login.clear()
            self._last_login[account.name] = now
        self._verified[frame.token] = _Guest(account, frame.user, frame.address)
        self._link.send(Verified(frame.token, signature))

    def _deny(self, token: int, code: str, text: str) -> None:
        self._asking.pop(token, None)
        self._link.send(Denied(token, code, text))

    # Sessions.

    def _enter(self, frame: Enter, descriptor: int) -> None:
        guest = self._verified.pop(frame.token, None)
        if guest is None:
            self._log.alert("pop3: the door let somebody in who was not verified")
            os.close(descriptor)
            return
        account = guest.account
        task = Serve(frame.token, guest.user, account.home, account.mailbox, frame.secured, frame.unread)
        secured = ", TLS" if frame.secured else ""
        user = guest.user.decode("utf-8", "replace")
        self._log.event("login", f"pop3: {guest.address}: {user} logged in{secured}", client=guest.address, user=user)
        try:
            self._workers.serve(account.uid, account.gid, task, descriptor, partial(self._served, frame.token, guest))
        except OSError as failed:
            self._log.alert(f"pop3: no process for a session: {failed.strerror}")
            _send_away(descriptor)
            self._link.send(Left(frame.token))

    def _served(self, token: int, guest: _Guest, served: Served | None) -> None:
        self._link.send(Left(token))
        user = guest.user.decode("utf-8", "replace")
        if served is None:
            self._log.alert(f"pop3: {guest.address}: the process of {user}'s session died")
            return
        self._log.event(
            "logout",
            f"pop3: {guest.address}: {user}: {served.retrieved} retrieved, {served.removed} removed,"
            f" {served.octets} bytes sent: {served.how[:200]}",
            client=guest.address,
            user=user,
            retrieved=served.retrieved,
            removed=served.removed,
            bytes=served.octets,
        )

    def _event(self, name: str, frame: Question, reason: str) -> None:
        user = frame.user.decode("utf-8", "replace")
        text = f"refuse: pop3: {frame.address}: {user}: {reason}"
        self._log.event(name, text, client=frame.address, user=user, reason=reason)


def _send_away(descriptor: int) -> None:
    with socket.socket(fileno=descriptor) as client:
        client.setblocking(False)
        try:
            client.send(error("no process for your session, try again later", "SYS/TEMP"))
        except OSError:
            return
