"""The local role: finds each recipient's user and has a process of that user deliver (qmail-lspawn(8)).

It is three kinds of processes, so that whoever hears of mail is not root:

- this one hears the queue and looks users up; it is qmailp, if started as root, and can change and run nothing
- the fork server (root, if started so) makes a process for a user when it is asked to (``runtime.fork_server``)
- a child of that is the user, and delivers; it is kept for a few seconds, so that a busy mailbox costs no process per
  message and one wait for the disk serves many messages

Whatever goes wrong with a child is a deferral for the messages that it had in hand.

The queue hands over more than may run at once. What may not begin yet waits here, and is not kept waiting by the
queue's next look at the disk.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections import Counter
from collections.abc import Callable
from functools import partial

import msgspec

from ekiden.base.envelope import Recipient
from ekiden.base.outcome import Outcome, Verdict
from ekiden.delivery.handing_on import NOWHERE
from ekiden.delivery.local import NO_MAILBOX
from ekiden.delivery.report import Trouble, failed
from ekiden.queue.scheduler import may_begin
from ekiden.routing.users import User, Users, UsersUnavailable, system_account
from ekiden.runtime import fork_server
from ekiden.runtime.crew import Crew
from ekiden.runtime.delivery_process import Done, Task, whose, work
from ekiden.runtime.fences import accounts as fenced_accounts
from ekiden.runtime.fences import isolation
from ekiden.runtime.fences.capabilities import become_finder
from ekiden.runtime.fork_server import ForkServer
from ekiden.runtime.frames import Attempt, DeliveryRequest, Draining
from ekiden.runtime.frames import Report as ReportFrame
from ekiden.runtime.link import Link
from ekiden.runtime.privilege import Identity
from ekiden.runtime.role import Context, run

CHILDREN = 64
"""Users whose processes are kept at the same time, if concurrencylocal does not ask for more."""

TEXT_CHARACTERS = 4000
"""Longest report taken from a child."""

_STATUS = re.compile(r"\(#([245]\.\d{1,3}\.\d{1,3})\)")
_DEFAULT_STATUS = ("2.0.0", "4.0.0", "5.0.0")


def serve(context: Context, finder: Identity | None) -> None:
    """Fork the server as who this is, and be the role as ``finder``, until the queue goes away, or until told to stop
    and what is in hand has ended.
    """
    isolation.prepare("delivery", "forwarding")
    # Libraries that ask for users are loaded with the first look-up.
    system_account(b"no:body")
    strange = fenced_accounts.unfenceable() if os.geteuid() == 0 else ""
    if strange and context.settings.isolation == "on":
        context.log.warning(f"isolation is incomplete: local has no fence, because {strange}")
    server = fork_server.start(partial(work, context), partial(whose, context), keep=(context.run,))
    # Its socket is root's, and so may be the way there.
    connection = context.connect("local")
    uid = os.geteuid()
    become_finder(finder)
    run(context, partial(_main, connection=connection, server=server, uid=uid), isolate=not strange)
    server.close()


async def _main(context: Context, connection: socket.socket, server: ForkServer, uid: int) -> None:
    role = LocalRole(context, connection, server, uid)
    users = context.home / "users"
    context.isolate("local", reads=[users, users / "cdb", *fenced_accounts.places()])
    await role.serve()


class LocalRole:
    """Attempts in, reports out. ``uid``: who the fork server is."""

    def __init__(self, context: Context, connection: socket.socket, server: ForkServer, uid: int) -> None:
        self._context = context
        self._loop = asyncio.get_running_loop()
        accounts = fenced_accounts.Accounts(self._leave).find if context.isolated else system_account
        self._users = Users(context.home, accounts, uid)
        self._ended = asyncio.Event()
        self._leaving = ""
        self._tokens = 0
        self._waiting: list[tuple[Attempt, int | None]] = []
        self._running: Counter[bytes] = Counter()
        self._busy = 0
        self._beginning = False
        self._crew = Crew(self._loop, server, Done, max(CHILDREN, context.settings.concurrencylocal))
        self._server = server
        self._loop.add_reader(server.exited, self._lose_server)
        self._link: Link[DeliveryRequest] = Link(
            self._loop,
            connection,
            msgspec.msgpack.Decoder(DeliveryRequest),
            self._take,
            lambda _reason: self._ended.set(),
        )

    async def serve(self) -> None:
        """Work until the queue goes away, or until what is in hand has ended and nothing more is wanted."""
        stopping = self._loop.create_task(self._context.stopping.wait())
        stopping.add_done_callback(lambda _task: self._link.send(Draining()))
        await self._ended.wait()
        stopping.cancel()
        self._link.close()
        self._crew.end()
        if self._leaving:
            raise RuntimeError(self._leaving)

    def _lose_server(self) -> None:
        self._loop.remove_reader(self._server.exited)
        self._leave("the fork server has ended")

    def _leave(self, reason: str = f"{fenced_accounts.SWITCH} has changed") -> None:
        """Have the supervisor put another process in this one's place, when what is in hand has had time to end."""
        if not self._leaving:
            self._leaving = reason
            self._link.send(Draining())
            self._loop.call_later(self._context.settings.shutdownseconds, self._ended.set)

    def _take(self, frame: DeliveryRequest, descriptor: int | None) -> None:
        # News of hosts that time out is remote's.
        if isinstance(frame, Attempt):
            self._waiting.append((frame, descriptor))
            self._begin()

    def _begin(self) -> None:
        """Begin what waits and may run, oldest first."""
        self._beginning = False
        limit = self._context.settings.concurrencylocal
        waiting, self._waiting = self._waiting, []
        for attempt, descriptor in waiting:
            mailbox = attempt.envelope.recipients[0].address.lower()
            if not may_begin(self._running[mailbox], limit - self._busy):
                self._waiting.append((attempt, descriptor))
                continue
            self._running[mailbox] += 1
            self._busy += 1
            try:
                self._attempt(attempt, descriptor, mailbox)
            finally:
                if descriptor is not None:
                    os.close(descriptor)

    def _attempt(self, attempt: Attempt, descriptor: int | None, mailbox: bytes) -> None:
        """Begin one delivery per recipient; the report goes out when all have ended."""
        recipients = attempt.envelope.recipients
        outcomes: dict[int, Outcome] = {}

        def ended(number: int, outcome: Outcome) -> None:
            outcomes[number] = outcome
            if len(outcomes) == len(recipients):
                self._link.send(ReportFrame(attempt.job, [outcomes[at] for at in range(len(recipients))]))
                self._end(mailbox)

        for number, recipient in enumerate(recipients):
            self._deliver(attempt, recipient, descriptor, partial(ended, number))

    def _end(self, mailbox: bytes) -> None:
        """One that ran has ended; the next may begin once all that end at the same time have."""
        self._busy -= 1
        self._running[mailbox] -= 1
        if not self._running[mailbox]:
            del self._running[mailbox]
        if self._waiting and not self._beginning:
            self._beginning = True
            self._loop.call_soon(self._begin)

    def _deliver(
        self, attempt: Attempt, recipient: Recipient, descriptor: int | None, ended: Callable[[Outcome], None]
    ) -> None:
        local, at, domain = recipient.address.rpartition(b"@")
        try:
            if not at:
                raise failed("Sorry, address must include host name. (#5.1.3)")
            if b"\0" in recipient.address:
                raise failed(NO_MAILBOX)
            if not local:
                # qmail-lspawn(8): an empty mailbox name is a trash address.
                ended(Outcome(Verdict.DELIVERED, "2.0.0", ""))
                return
            self._give(attempt, recipient, self._users.find(local), local, domain, descriptor, ended)
        except Trouble as trouble:
            ended(outcome_of(trouble.verdict, trouble.text + "\n"))
        except UsersUnavailable as error:
            ended(outcome_of(Verdict.DEFERRED, f"{error}\n"))
        except Exception as error:  # Whatever it is, the queue must get its answer.
            ended(outcome_of(Verdict.DEFERRED, f"Unable to start a delivery: {error}. (#4.3.0)\n"))

    def _give(
        self,
        attempt: Attempt,
        recipient: Recipient,
        user: User,
        local: bytes,
        domain: bytes,
        descriptor: int | None,
        ended: Callable[[Outcome], None],
    ) -> None:
        self._tokens += 1
        task = Task(
            self._tokens,
            user.name,
            user.home,
            local,
            user.dash,
            user.ext,
            domain,
            msgspec.structs.replace(attempt.envelope, recipients=[recipient]),
            attempt.content,
            descriptor is not None,
            attempt.checksum,
            self._context.settings.isolation == "on",
        )
        self._hand(user, task, None if descriptor is None else os.dup(descriptor), ended)

    def _hand(self, user: User, task: Task, descriptor: int | None, ended: Callable[[Outcome], None]) -> None:
        """Give a task to the user's child, and to another one if that has given up what it takes.

        ``descriptor`` is closed when the task has ended. Raises OSError.
        """

        def answered(done: Done | None) -> None:
            if done is not None and done.last and task.fences:
                try:
                    self._hand(user, msgspec.structs.replace(task, fences=False), descriptor, ended)
                except OSError as error:
                    ended(outcome_of(Verdict.DEFERRED, f"Unable to start a delivery: {error}. (#4.3.0)\n"))
                return
            _close(descriptor)
            ended(_outcome(done))

        sent = None
        try:
            sent = None if descriptor is None else os.dup(descriptor)
            self._crew.give(user.uid, user.gid, task.local, task.token, task, sent, answered)
        except OSError:
            _close(sent)
            _close(descriptor)
            raise


def _close(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)


def _outcome(done: Done | None) -> Outcome:
    if done is None:
        return outcome_of(Verdict.DEFERRED, "The delivery's process crashed. (#4.3.0)\n")
    outcome = outcome_of(done.verdict, done.text[:TEXT_CHARACTERS])
    if done.beyond == NOWHERE or done.verdict != Verdict.DELIVERED:
        return outcome
    return msgspec.structs.replace(outcome, relayed_dsn=done.beyond.taken, action=done.beyond.action)


def outcome_of(verdict: int, text: str) -> Outcome:
    """An outcome with the enhanced status code that the text ends with, if it fits the verdict."""
    codes = [code for code in _STATUS.findall(text) if code[0] == "245"[verdict]]
    return Outcome(verdict, codes[-1] if codes else _DEFAULT_STATUS[verdict], text)
