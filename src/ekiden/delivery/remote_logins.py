"""control/remoteauth: as whom to log in to smart hosts (RFC 4954), one a line: relay, user, password.

The relay is written as in smtproutes, with the port if it is not the default; the password is the rest of the line.
The file is for the user that sends mail (qmailr) alone. If it cannot be used, mail for smart hosts waits: without
its login one would refuse it for good.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ekiden.base.outcome import Outcome, Verdict
from ekiden.routing.destination import RouteError, parse_destination, relay_destination
from ekiden.settings.lines import entries
from ekiden.settings.problem import Problem
from ekiden.settings.schema import Settings

if TYPE_CHECKING:
    from ekiden.wire.sasl_client import Credentials

FILE = "control/remoteauth"
FORM = "a line is a relay as in smtproutes, a user and a password, with spaces between them"

Lines = dict[bytes, tuple[bytes, bytes]]
"""User and password by the destination's key."""


class Logins:
    """What the file says that the settings name; nothing if there is none."""

    def __init__(self, settings: Settings) -> None:
        self.problem = ""
        """Why the file cannot be used; empty if it can."""
        self._lines: Lines = {}
        self._iterations = settings.remoteauthiterations
        if not settings.remoteauth:
            return
        try:
            with open(settings.remoteauth, "rb") as file:
                raw = file.read()
        except OSError as error:
            self.problem = f"{FILE} cannot be read: {error.strerror}"
            return
        self._lines, problems = parse(raw, settings.remoteport)
        if problems:
            self.problem = str(problems[0])

    def why_not(self, destination: bytes) -> Outcome | None:
        """Why nothing may be sent there now."""
        if not self.problem or parse_destination(destination).use_mx:
            return None
        text = f"It is not known how to log in to the smart host: {self.problem}. (#4.3.5)\n"
        return Outcome(Verdict.DEFERRED, "4.3.5", text)

    def find(self, destination: bytes) -> Credentials | None:
        """As whom to log in there, with a fresh nonce; None if as nobody."""
        line = self._lines.get(destination)
        if line is None:
            return None
        # Most hosts have no smart host that asks for a password.
        from ekiden.wire.sasl_client import Credentials

        return Credentials(*line, os.urandom(18).hex().encode(), self._iterations)


def parse(raw: bytes, port: int) -> tuple[Lines, list[Problem]]:
    """The logins in the file, and what is wrong with it."""
    lines: Lines = {}
    problems = []
    for number, entry in entries(raw):
        words = entry.split(None, 2)
        fault = "" if len(words) == 3 and not entry[:1].isspace() else "there are fewer than three words"
        if not fault:
            try:
                key = relay_destination(words[0], port)
            except RouteError as error:
                fault = str(error)
            else:
                fault = "the relay was given above" if key in lines else ""
                lines.setdefault(key, (words[1], words[2]))
        if fault:
            problems.append(Problem(file=FILE, line=number, message=fault, remedy=FORM, fatal=False))
    return lines, problems
