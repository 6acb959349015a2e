"""A delivery carried out one step after another, waiting for each: qmail-local's way.

Programs print to this process's own descriptors 1 and 2.
"""

from __future__ import annotations

import time

from ekiden.delivery import mailboxes, program
from ekiden.delivery.letter import Letter
from ekiden.delivery.local import Forward, Run, Step, deliver, resume
from ekiden.delivery.local_limits import NO_LIMITS, LocalLimits
from ekiden.delivery.mbox import LOCK_PAUSE, LOCK_SECONDS
from ekiden.delivery.report import Report, Trouble

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Inject = Callable[[Forward, Letter], int]
    """Queues the letter's content after its Delivered-To field; gives ``qp`` or raises Trouble."""


def carry_out(
    letter: Letter, inject: Inject, surroundings: dict[bytes, bytes], limits: LocalLimits = NO_LIMITS
) -> Report:
    """Deliver one letter, and close its content.

    ``surroundings``: what programs get beside the variables of qmail-command(8).
    """
    delivery = deliver(letter)
    step = resume(delivery, letter, None)
    while not isinstance(step, Report):
        answer: int | Trouble
        try:
            answer = _perform(step, letter, inject, surroundings, limits)
        except Trouble as trouble:
            answer = trouble
        step = resume(delivery, letter, answer)
    letter.content.close()
    return step


def _perform(
    step: Step, letter: Letter, inject: Inject, surroundings: dict[bytes, bytes], limits: LocalLimits
) -> int:
    if isinstance(step, Forward):
        return inject(step, letter)
    if isinstance(step, Run):
        environment = surroundings | step.environment
        process = program.start(step.command, letter.home, environment, letter.content.descriptor())
        return program.judge(program.wait(process, limits.program_seconds), silent=False)
    store(step.path, letter, limits)
    return 0


def store(path: bytes, letter: Letter, limits: LocalLimits) -> None:
    """Into the Maildir of that name if it ends with a slash, else onto an mbox. Raises Trouble."""
    trouble = mailboxes.to_maildirs([(path, letter)], limits)[0] if path.endswith(b"/") else _to_mbox(path, letter)
    if trouble is not None:
        raise trouble


def _to_mbox(path: bytes, letter: Letter) -> Trouble | None:
    until = time.monotonic() + LOCK_SECONDS
    while (troubles := mailboxes.to_mbox(path, [letter])) is None:
        if time.monotonic() >= until:
            return mailboxes.locked(path)
        time.sleep(LOCK_PAUSE)
    return troubles[0]
