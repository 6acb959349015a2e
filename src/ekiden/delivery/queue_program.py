"""Injection through qmail-queue, the door that every classic program uses (qmail-queue(8), envelopes(5)).

Runs HOME/bin/qmail-queue, or what QMAILQUEUE names, with the message on descriptor 0, the envelope on descriptor 1
and a pipe for its own words on descriptor 6.
"""

from __future__ import annotations

import os

from ekiden.delivery.content import write_all
from ekiden.delivery.report import DEFERRED, FAILED, Trouble

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_WORDS = {
    11: "an envelope address is too long (#5.1.3)",
    31: "the mail server refuses the message for good (#5.3.0)",
    51: "out of memory (#4.3.0)",
    52: "timeout (#4.3.0)",
    53: "write error, or the disk is full (#4.3.0)",
    54: "read error (#4.3.0)",
    55: "configuration cannot be read (#4.3.0)",
    56: "network trouble (#4.3.0)",
    61: "trouble in the home directory (#4.3.0)",
    62: "trouble creating queue files (#4.3.0)",
    71: "the mail server refuses the message for now (#4.3.0)",
    72: "the connection to the mail server timed out (#4.4.1)",
    73: "the mail server refuses the connection (#4.4.1)",
    74: "communication with the mail server failed (#4.4.2)",
    81: "internal fault (#4.3.0)",
    91: "bad envelope format (#4.3.0)",
    115: "an envelope address is too long (#5.1.3)",
    120: "it cannot be run (#4.3.0)",
}
"""Exit codes of qmail-queue(8)."""

OWN_WORDS = 82
"""Exit code with which qmail-queue says the reason itself on descriptor 6: ``D`` or ``Z``, then the text."""


def inject(home: str, sender: bytes, recipients: Sequence[bytes], content: Iterable[bytes]) -> int:
    """Queue a message (lines ended by LF) and give the process id of qmail-queue, ``qp`` in the log.

    Raises Trouble, whose text ends with an enhanced status code, if the message is not queued; OSError if ``content``
    cannot be read.
    """
    message, envelope, words = list(os.pipe()), os.pipe(), os.pipe()
    try:
        process = _start(home, message[0], envelope[0], words[1])
    except OSError:
        for descriptor in (message[1], envelope[1], words[0]):
            os.close(descriptor)
        raise Trouble(DEFERRED, _WORDS[120]) from None
    finally:
        for descriptor in (message[0], envelope[0], words[1]):
            os.close(descriptor)
    # An envelope that is not finished keeps qmail-queue from taking half a message.
    envelope_text = b"F%b\0" % sender + b"".join(b"T%b\0" % recipient for recipient in recipients) + b"\0"
    left = -1
    try:
        written = _feed(message[1], content)
        os.close(message.pop())
        written = written and _feed(envelope[1], (envelope_text,))
        left = _other_end(envelope[1])
    finally:
        for descriptor in (*message[1:], envelope[1]):
            os.close(descriptor)
        said = _read_words(words[0])
        _process, status = os.waitpid(process, 0)
        taken = _is_empty(left)
    _judge(os.waitstatus_to_exitcode(status), written and taken, said)
    return process


def _start(home: str, message: int, envelope: int, words: int) -> int:
    import signal  # Costs a classic program that injects nothing several milliseconds.

    program = os.environ.get("QMAILQUEUE", "bin/qmail-queue")
    actions = [(os.POSIX_SPAWN_DUP2, target, at) for target, at in ((message, 0), (envelope, 1), (words, 6))]
    # posix_spawn knows no working directory, and qmail-queue's name may be relative to the home.
    return os.posix_spawn(
        os.path.join(home, program),
        [program],
        os.environ | {"EKIDEN_HOME": home},
        file_actions=actions,
        setsigdef=[signal.SIGPIPE],
    )


def _feed(descriptor: int, chunks: Iterable[bytes]) -> bool:
    """Write to qmail-queue; whether it took everything."""
    try:
        for chunk in chunks:
            write_all(descriptor, chunk)
    except BrokenPipeError:
        return False
    return True


def _other_end(descriptor: int) -> int:
    """The end of a pipe that is read from, all having been written to the other; -1 if it cannot be had."""
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return -1


def _is_empty(descriptor: int) -> bool:
    """Whether all that was written to a pipe was read. An interpreter that cannot read its script ends with 0."""
    if descriptor < 0:
        return True
    try:
        return not os.read(descriptor, 1)
    except BlockingIOError:
        # A process of the program's has the other end still.
        return True
    finally:
        os.close(descriptor)


def _read_words(descriptor: int) -> bytes:
    said = b""
    try:
        while len(said) < 255 and (piece := os.read(descriptor, 255 - len(said))):
            said += piece
    finally:
        os.close(descriptor)
    return said


def own_words(said: bytes) -> Trouble:
    """What qmail-queue said on descriptor 6 as one printable line: a client is told it as a reply."""
    verdict = FAILED if said[:1] == b"D" else DEFERRED
    words = said[1:].decode("utf-8", "backslashreplace").rstrip()
    return Trouble(verdict, "".join(each if each.isprintable() else "?" for each in words))


def _judge(code: int, written: bool, said: bytes) -> None:
    if not code and written:
        return
    if code < 0:
        raise Trouble(DEFERRED, "qmail-queue crashed (#4.3.0)")
    if code == OWN_WORDS and len(said) > 2:
        raise own_words(said)
    permanent = 11 <= code <= 40 or code == 115
    default = "permanent trouble (#5.3.0)" if permanent else "temporary trouble (#4.3.0)"
    raise Trouble(FAILED if permanent else DEFERRED, "qmail-queue: " + _WORDS.get(code or 54, default))
