"""The pop3d role: three kinds of processes, so that whoever talks with strangers can neither see passwords nor mail.

- the door (nobody) accepts connections, makes TLS and hears everything up to the login (``runtime.pop3.listening``)
- the keeper (root, if started so) looks at passwords and forks sessions (``runtime.pop3.keeper``); it is this
  process, and the door is its child
- a session (the user) serves one logged-in client with one mailbox (``runtime.pop3.workers``)

Not started as root, all are one user and serve that user's mailboxes.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from functools import partial

from ekiden.runtime.fences import isolation
from ekiden.runtime.passwords.verifier import Verifier, warm
from ekiden.runtime.pop3 import listening as pop3_listening
from ekiden.runtime.pop3.advice import problems
from ekiden.runtime.pop3.keeper import Keeper
from ekiden.runtime.pop3.listening import SERVICES, make_profile
from ekiden.runtime.pop3.process import Work
from ekiden.runtime.pop3.workers import Workers
from ekiden.runtime.privilege import Identity, become
from ekiden.runtime.role import Context, run

__all__ = ["SERVICES", "serve"]


def serve(context: Context, stranger: Identity | None) -> None:
    """Fork the door as ``stranger`` and be its keeper, until told to stop or until the door has closed."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if not pid:
        _be_door(context, stranger, ours, theirs)
    theirs.close()
    for _listener, bound in context.listeners:
        bound.close()
    if context.certificate is not None:
        context.certificate.close()
    programs = Verifier.runs_programs(context.settings.pop3passwords)
    run(context, partial(_keep, connection=ours, door=pid), isolate=not programs)


def _be_door(context: Context, stranger: Identity | None, ours: socket.socket, theirs: socket.socket) -> None:
    """In the child; does not return."""
    status = 1
    try:
        ours.close()
        become(stranger)
        run(context, partial(pop3_listening.main, connection=theirs), isolate=True)
        status = 0
    except KeyboardInterrupt:
        pass
    except BaseException as error:
        context.log.alert(f"pop3d: door: {type(error).__name__}: {error}")
        context.log.flush()
    finally:
        os._exit(status)


async def _keep(context: Context, connection: socket.socket, door: int) -> None:
    loop = asyncio.get_running_loop()
    settings = context.settings
    warm()
    for problem in problems(context.home, settings):
        context.log.warning(problem.without_kind)
    work = Work(
        make_profile(settings, tls=False),
        settings.timeoutpop3d,
        settings.pop3mailbox,
        settings.defaultdelivery,
        settings.isolation == "on",
    )
    isolation.prepare("session")
    workers = Workers(loop, work)
    verifier = Verifier(loop, context.home, os.geteuid(), Verifier.usable(settings.pop3passwords))
    keeper = Keeper(loop, connection, verifier, workers, context.log, settings.pop3logindelay)
    context.isolate("pop3keeper")
    context.ready()
    await _serve(context, keeper, workers, door)
    keeper.close()
    os.waitpid(door, 0)


async def _serve(context: Context, keeper: Keeper, workers: Workers, door: int) -> None:
    """Until told to stop, or replaced and left by all clients. RuntimeError if the door's process dies before."""
    stopping, draining, left = (
        asyncio.create_task(event.wait()) for event in (context.stopping, context.draining, keeper.left)
    )
    await asyncio.wait((stopping, draining, left), return_when=asyncio.FIRST_COMPLETED)
    if left.done():
        raise RuntimeError("the door's process died")
    if not stopping.done():
        os.kill(door, signal.SIGUSR1)
        # It goes when its last client has; sessions without TLS do not need it any more.
        await asyncio.wait((stopping, left), return_when=asyncio.FIRST_COMPLETED)
        await _wait_for(workers, context.settings.reloadseconds, stopping)
    os.kill(door, signal.SIGTERM)
    workers.stop()
    await _wait_for(workers, context.settings.shutdownseconds)
    workers.kill()
    if not left.done():
        await left


async def _wait_for(workers: Workers, seconds: float, or_for: asyncio.Task[bool] | None = None) -> None:
    """Until no session is left."""
    deadline = asyncio.get_running_loop().time() + seconds
    while workers.sessions and asyncio.get_running_loop().time() < deadline:
        workers.emptied.clear()
        emptied = asyncio.create_task(workers.emptied.wait())
        waited = [emptied] if or_for is None else [emptied, or_for]
        await asyncio.wait(waited, timeout=1, return_when=asyncio.FIRST_COMPLETED)
        emptied.cancel()
        if or_for is not None and or_for.done():
            return
