"""The algorithm of qmail-local: what happens to a message for one local recipient (qmail-local(8), dot-qmail(5)).

It is a generator without side effects other than reading the recipient's .qmail files: it yields steps, one at a
time, and is told how each went; whoever drives it writes the files, runs the programs and injects the forwards. So
qmail-local, which does one thing after another, and the local role, which does many users' deliveries at once, follow
the same instructions in the same order.
"""

from __future__ import annotations

import os

from ekiden.base.sender import PER_RECIPIENT, UNANSWERED
from ekiden.delivery import dotqmail
from ekiden.delivery.report import DEFERRED, DELIVERED, Report, Trouble, cut, deferred, failed, readable
from ekiden.delivery.search import ControlFile, check_home, exists, find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from ekiden.delivery.instruction import Instruction
    from ekiden.delivery.letter import Letter

NO_MAILBOX = "Sorry, no mailbox here by that name. (#5.1.1)"
LOOPING = "This message is looping: it already has my Delivered-To line. (#5.4.6)"


class ToMaildir:
    """Deliver into the Maildir ``path``, absolute and ended by a slash."""

    __slots__ = ("path",)

    def __init__(self, path: bytes) -> None:
        self.path = path


class ToMbox:
    """Append to the file ``path``, absolute."""

    __slots__ = ("path",)

    def __init__(self, path: bytes) -> None:
        self.path = path


class Run:
    """Run a command; the answer is whether the rest of the .qmail file is to be ignored."""

    __slots__ = ("command", "environment")

    def __init__(self, command: bytes, environment: dict[bytes, bytes]) -> None:
        self.command = command
        self.environment = environment


class Forward:
    """Inject the message for all recipients at once; the answer is the injection's number for the log, ``qp``.

    ``only``: nothing else is done with the message.
    """

    __slots__ = ("only", "recipients", "sender")

    def __init__(self, sender: bytes, recipients: Sequence[bytes], only: bool) -> None:
        self.sender = sender
        self.recipients = recipients
        self.only = only


Step = ToMaildir | ToMbox | Run | Forward

if TYPE_CHECKING:
    Delivery = Generator[Step, int, Report]
    Admit = Callable[["Plan | Trouble", bytes], None]
    """Told what the .qmail files say, or why they do not, and the home; raises Trouble to end the delivery."""


class Plan:
    """What the .qmail files say about a letter, before anything is done. ``path``: the one that counts, if any."""

    __slots__ = ("default", "instructions", "new_sender", "path")

    def __init__(
        self, instructions: list[Instruction], new_sender: bytes, default: bytes | None, path: bytes
    ) -> None:
        self.instructions = instructions
        self.new_sender = new_sender
        self.default = default
        self.path = path


def plan(letter: Letter) -> Plan:
    """Read the .qmail files; raises Trouble if they do not allow a delivery."""
    control = find(letter.home, letter.dash, letter.ext)
    if control is None and letter.dash:
        raise failed(NO_MAILBOX)
    sender = new_sender(letter)
    # An empty file means the default delivery, and its execute bit means nothing then.
    if control is None:
        control = ControlFile(letter.default, False, None)
    elif not control.text:
        control = ControlFile(letter.default, False, control.default, control.path)
    return Plan(dotqmail.parse(control.text, control.forward_only), sender, control.default, control.path)


def new_sender(letter: Letter) -> bytes:
    """The envelope sender for forwarding: the -owner address if there is one, in VERP form if it wants that."""
    if letter.sender in UNANSWERED or not exists(letter.home, letter.dash, letter.ext, b"-owner"):
        return letter.sender
    if exists(letter.home, letter.dash, letter.ext, b"-owner-default"):
        return letter.local + b"-owner-@" + letter.domain + PER_RECIPIENT
    return letter.local + b"-owner@" + letter.domain


def deliver(letter: Letter, admit: Admit | None = None) -> Delivery:
    """The delivery as steps. Answers are sent in, or a step's Trouble thrown in, which ends the delivery.

    ``admit`` is called before the content is looked at.
    """
    check_home(letter.home)
    planned = _planned(letter)
    if admit is not None:
        admit(planned, letter.home)
    if letter.content.header_has(letter.delivered_to):
        raise failed(LOOPING)
    if isinstance(planned, Trouble):
        raise planned
    refuse_at_once(planned.instructions)
    files = programs = queued = 0
    recipients = []
    for instruction in planned.instructions:
        if instruction.kind == dotqmail.FORWARD:
            recipients.append(instruction.text)
        elif instruction.kind == dotqmail.PROGRAM:
            programs += 1
            if (yield Run(instruction.text, letter.environment(planned.new_sender, planned.default))):
                break
        elif instruction.kind == dotqmail.REFUSE:
            raise deferred(readable(instruction.text))
        else:
            files += 1
            path = os.path.join(letter.home, instruction.text)
            yield ToMaildir(path) if instruction.kind == dotqmail.MAILDIR else ToMbox(path)
    if recipients:
        queued = yield Forward(planned.new_sender, recipients, not files + programs)
    return Report(DELIVERED, summary(files, len(recipients), programs, queued))


def _planned(letter: Letter) -> Plan | Trouble:
    try:
        return plan(letter)
    except Trouble as trouble:
        return trouble


def refuse_at_once(instructions: Sequence[Instruction]) -> None:
    """Raise the Trouble of a refused instruction if nothing can keep it from being reached.

    Only a program can, by exit code 99. Otherwise the message would be stored again with every attempt.
    """
    for instruction in instructions:
        if instruction.kind == dotqmail.PROGRAM:
            return
        if instruction.kind == dotqmail.REFUSE:
            raise deferred(readable(instruction.text))


def summary(files: int, forwards: int, programs: int, queued: int) -> str:
    """The report of success: ``did 1+0+0``, and the forward's number if there was one."""
    return f"did {files}+{forwards}+{programs}\n" + (f"qp {queued}\n" if queued else "")


def resume(delivery: Delivery, letter: Letter, answer: int | Trouble | None) -> Step | Report:
    """Tell a delivery how its step went (None: it begins), and give its next step or its end."""
    try:
        if isinstance(answer, Trouble):
            delivery.close()
            raise answer
        return next(delivery) if answer is None else delivery.send(answer)
    except StopIteration as end:
        report: Report = end.value
    except Trouble as trouble:
        report = Report(trouble.verdict, trouble.text and trouble.text + "\n")
    except Exception as error:  # A fault of ours must not take other deliveries along, nor lose this one.
        report = Report(DEFERRED, f"Unable to deliver: {type(error).__name__}: {error}. (#4.3.0)\n")
    if letter.output:
        report.text = readable(cut(letter.output)) + report.text
    return report
