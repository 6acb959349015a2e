"""An SMTP client that may log in (AUTH, RFC 4954): the keeper of passwords is asked, and says yes or no.

Who has logged in may relay, as if a rule set RELAYCLIENT, and its name stands in the Received field, as TCPREMOTEINFO
would.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

import msgspec

from ekiden.base.reply import Reply
from ekiden.runtime.passwords.client import TEMPORARY, Asked
from ekiden.runtime.passwords.frames import BeginScram, CheckPassword, CheckScram, Denied, ScramOffer, ToSmtpd
from ekiden.runtime.reception import Client, Desk, Reception, Shell
from ekiden.wire.smtp.events import Login, Proven, ScramBegins, ScramProof, StartTls


class LoginReception(Reception):
    """A session in which AUTH may be offered."""

    __slots__ = ("_stranger", "_token")

    def __init__(self, desk: Desk, client: Client, shell: Shell, secured: bool = False) -> None:
        super().__init__(desk, client, shell, secured)
        self._stranger = client
        self._token = 0

    def drop(self) -> None:
        """The transaction is over, or the client is gone and wants no answer."""
        super().drop()
        if self._token and self._desk.passwords is not None:
            self._desk.passwords.forget(self._token)
            self._token = 0

    def _login(self, event: Login) -> None:
        address = self._client.address
        self._ask(lambda token: CheckPassword(token, address, event.user, event.password), event.user)

    def _scram_begins(self, event: ScramBegins) -> None:
        self._ask(lambda token: BeginScram(token, self._client.address, event.user), event.user)

    def _scram_proof(self, event: ScramProof) -> None:
        address = self._client.address
        self._ask(lambda token: CheckScram(token, address, event.user, event.signed, event.proof), event.user)

    def _ask(self, make: Callable[[int], Asked], user: bytes) -> None:
        passwords = self._desk.passwords
        assert passwords is not None, "mechanisms are offered only where there is a keeper"
        self._token = passwords.ask(make, lambda answer: self._told(answer, user))

    def _told(self, answer: ToSmtpd, user: bytes) -> None:
        self._token = 0
        server = self.server
        if not server.answering:
            return
        if isinstance(answer, ScramOffer):
            server.offer(answer.salt, answer.iterations, secrets.token_urlsafe(18).encode())
        elif isinstance(answer, Denied):
            # The keeper has logged it, with the user's name.
            code, status = (454, "4.7.0") if answer.code == TEMPORARY else (535, "5.7.8")
            server.reply(Reply(code, status, answer.text))
        elif answer.signature:
            server.sign(answer.signature)
        else:
            self._admit(user)
        self._shell.ready()

    def _start_tls(self, event: StartTls) -> None:
        """What a login in clear allowed is forgotten with it (RFC 3207 section 4.2)."""
        self._client = self._stranger
        super()._start_tls(event)

    def _proven(self, event: Proven) -> None:
        self._admit(event.user)

    def _admit(self, user: bytes) -> None:
        """From now on the client may relay, and what it sends bears its name."""
        old = self._client
        policy = msgspec.structs.replace(old.policy, relay=True, login=user)
        self._client = Client(old.address, policy, old.profile, old.name, user)
        self._protocol = "ESMTPSA" if self.server.tls else "ESMTPA"
        self.server.accept()


LoginReception.handlers = {
    **Reception.handlers,
    Login: LoginReception._login,
    ScramBegins: LoginReception._scram_begins,
    ScramProof: LoginReception._scram_proof,
    Proven: LoginReception._proven,
    StartTls: LoginReception._start_tls,
}
