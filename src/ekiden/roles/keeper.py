"""The keeper role: tells the smtpd processes whether what a client says is a user's password (AUTH, RFC 4954).

Started by root it is qmailp with one right of root's, to read every file, because passwords are root's; it stays root
if programs check them. It speaks with no client, and can open nothing but where passwords are kept. POP3 has keepers
of its own (``roles.pop3d``), which start sessions too. There is one such process, and only while a listener offers
AUTH, so that guesses are counted over all smtpd processes.
"""

from __future__ import annotations

import asyncio
import os
import socket
from functools import partial
from pathlib import Path

from ekiden.runtime.accepting import RunSocket, Shortage
from ekiden.runtime.fences.capabilities import become_finder
from ekiden.runtime.passwords.file import FILE
from ekiden.runtime.passwords.keeper import PasswordKeeper
from ekiden.runtime.passwords.system import DATABASES
from ekiden.runtime.passwords.throttle import Throttle
from ekiden.runtime.passwords.verifier import Verifier, warm
from ekiden.runtime.pop3.advice import problems
from ekiden.runtime.privilege import Identity
from ekiden.runtime.role import Context, run

_LOOK_SECONDS = 0.1


def serve(context: Context, finder: Identity | None) -> None:
    """Be the role as ``finder``, or as who this is if programs check passwords: they become the user."""
    uid = os.geteuid()
    programs = Verifier.runs_programs(context.settings.pop3passwords)
    if not programs:
        become_finder(finder)
    run(context, partial(main, uid=uid), isolate=not programs)


async def main(context: Context, uid: int) -> None:
    """Answer until told to stop; then what was asked. ``uid``: who the deliveries' processes can become."""
    loop = asyncio.get_running_loop()
    settings = context.settings
    warm()
    for problem in problems(context.home, settings):
        context.log.warning(problem.without_kind)
    verifier = Verifier(loop, context.home, uid, Verifier.usable(settings.pop3passwords))
    context.isolate("keeper", reads=places(context.home))
    throttle = Throttle()
    keepers: set[PasswordKeeper] = set()

    def accepted(connection: socket.socket) -> None:
        keepers.difference_update([keeper for keeper in keepers if keeper.left.is_set()])
        keepers.add(PasswordKeeper(loop, connection, verifier, throttle, context.log))

    listening = RunSocket(loop, context.sockets["keeper"], Shortage("keeper", context.log), accepted)
    context.ready()
    await context.stopping.wait()
    listening.close()
    await _finish(keepers, settings.shutdownseconds)
    for keeper in keepers:
        keeper.close()


def places(home: Path) -> list[Path]:
    """Where passwords and users are: a link in control/ leads to the file that is there now."""
    return [home / "control", home / FILE, home / "users", *map(Path, DATABASES)]


async def _finish(keepers: set[PasswordKeeper], seconds: float) -> None:
    """Until no answer is owed."""
    deadline = asyncio.get_running_loop().time() + seconds
    while any(keeper.busy for keeper in keepers) and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(_LOOK_SECONDS)
