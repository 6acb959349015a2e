"""The privileged part of the POP3 server: answers the door's questions about passwords, and starts sessions.

It opens no mailbox; the process that does has become the user.
"""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass
from functools import partial
from typing import Any

from ekiden.runtime.log import Log
from ekiden.runtime.passwords.frames import Forget, Verified
from ekiden.runtime.passwords.keeper import PasswordKeeper
from ekiden.runtime.passwords.secret import Account
from ekiden.runtime.passwords.throttle import Throttle
from ekiden.runtime.passwords.verifier import Verifier
from ekiden.runtime.pop3.frames import Enter, FromDoor, Left, Question, Serve, Served
from ekiden.runtime.pop3.workers import Workers
from ekiden.wire.pop3.session import error

_USERS_REMEMBERED = 100_000


@dataclass
class _Guest:
    """A connection that was verified, or has entered."""

    account: Account
    user: bytes
    address: str


class Keeper(PasswordKeeper):
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
        super().__init__(loop, connection, verifier, Throttle(), log, "pop3", FromDoor)
        self._workers = workers
        self._delay = log_in_delay
        self._verified: dict[int, _Guest] = {}
        self._last_login: dict[bytes, float] = {}

    def _take(self, frame: Any, descriptor: int | None) -> None:
        if isinstance(frame, Enter):
            assert descriptor is not None
            self._enter(frame, descriptor)
            return
        if isinstance(frame, Forget):
            self._verified.pop(frame.token, None)
        super()._take(frame, descriptor)

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


def _send_away(descriptor: int) -> None:
    with socket.socket(fileno=descriptor) as client:
        client.setblocking(False)
        try:
            client.send(error("no process for your session, try again later", "SYS/TEMP"))
        except OSError:
            return
