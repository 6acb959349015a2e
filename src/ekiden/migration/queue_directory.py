"""sendmail's queue directory: every message is taken over once, or named with the reason why not, and left.

The order, which holds at any point of a crash:

1. the control file is locked in sendmail's ways, so that no sendmail is working on it, and read with its data file;
2. the message is in our queue, durably, with a key that names it;
3. the two files are renamed to ``taken-qfID`` and ``taken-dfID``, the control file first.

Before 2 nothing has happened; between 2 and 3 the next run finds the key, takes nothing, and goes on with 3. Nothing
is ever removed. What sendmail would do meanwhile is its own affair: it must not run.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import msgspec

from ekiden.base.envelope import Body
from ekiden.delivery.maildir import sync_directory
from ekiden.migration.finding import Place, Report
from ekiden.migration.queue_file import QueueFile, read_queue_file
from ekiden.migration.queue_header import Damaged
from ekiden.queue.intake import Foreign
from ekiden.runtime.injection.direct import Direct
from ekiden.runtime.injection.door import NotQueued

TAKEN = "taken-"
WHENCE = "sendmail-queue"
"""What our books say where these messages came in."""
SYNC_EVERY = 100
"""Messages after which their files' new names are made durable."""

_CONTROL = ("qf", "hf")
_PARTS = ("qf", "df", "xf")


class Found(NamedTuple):
    """A control file, and where its data file is unless it says otherwise."""

    path: Path
    data: Path

    @property
    def id(self) -> str:
        """The message's name in sendmail's log."""
        return self.path.name[2:]


class Message(NamedTuple):
    """A message that can be taken over."""

    file: QueueFile
    data: Path
    content: bytes
    key: bytes


def control_files(directory: Path) -> Iterator[Found]:
    """All control files of a queue, its sub-queues (``q1``, or queue groups) and their ``qf`` and ``df`` included.

    In the order of their names, so of their age. OSError.
    """
    inner = [path for path in sorted(directory.iterdir()) if path.is_dir() and not path.is_symlink()]
    split = directory / "qf"
    for path in sorted((split if split.is_dir() else directory).iterdir()):
        if path.name[:2] in _CONTROL and len(path.name) > 2 and path.is_file() and not path.is_symlink():
            data = directory / "df" if (directory / "df").is_dir() else directory
            yield Found(path, data / f"df{path.name[2:]}")
    for path in inner:
        if path.name not in _PARTS:
            yield from control_files(path)


def strays(directory: Path, report: Report, apply: bool) -> None:
    """Name what belongs to no message; data files whose control file an interrupted run put aside follow it. OSError.

    To be called when all messages have been taken.
    """
    names = [(Path(place), name) for place, _, found in os.walk(directory) for name in sorted(found)]
    known = {found.id for found in control_files(directory)}
    aside = {name[len(TAKEN) + 2 :] for _, name in names if name.startswith((f"{TAKEN}qf", f"{TAKEN}hf"))}
    for directory, name in names:
        path = Place(str(directory / name))
        if name.startswith("Qf"):
            report.left(path, "sendmail could not read this one either", "if it is good, rename it to qf...")
        elif name[:2] in ("df", "tf") and name[2:] not in known:
            if name[:2] == "df" and name[2:] in aside:
                if apply:
                    (directory / name).rename(_aside(directory / name))
            else:
                what = "content without a control file" if name[:2] == "df" else "an unfinished control file"
                report.left(path, f"{what}: no message that sendmail had accepted")


def read_message(found: Found, raw: bytes, local: bytes) -> Message:
    """A message from its control file's octets; raises Damaged, and OSError if the data file cannot be read."""
    file = read_queue_file(raw, local)
    if file.programs:
        shown = ", ".join(program.decode("utf-8", "backslashreplace") for program in file.programs)
        raise Damaged(
            f"an alias led it to {shown}, which is no address; have sendmail deliver it: sendmail -qI{found.id}"
        )
    data = found.data
    if file.data_directory:
        data = Path(os.fsdecode(file.data_directory)) / data.name
        data = data if data.exists() else found.data
    if not data.exists() and _aside(data).exists():
        # The device forgot one of two new names.
        data = _aside(data)
    try:
        body = data.read_bytes()
    except FileNotFoundError:
        raise Damaged(f"its content, {data}, is not there") from None
    whole = hashlib.sha256(b"%d\0%b\0" % (int(file.birth), file.envelope.sender) + body).hexdigest()
    key = f"sendmail:{found.id}:{whole}".encode("utf-8", "surrogateescape")
    content = file.content(body)
    if not content.isascii():
        file.envelope = msgspec.structs.replace(file.envelope, body=Body.EIGHTBIT)
    return Message(file, data, content, key)


class Transfer:
    """Takes messages over one by one. Without ``queue`` it only says what would be done."""

    def __init__(self, queue: Direct | None, local: str, report: Report) -> None:
        self._queue = queue
        self._local = local.encode()
        self._report = report
        self.messages = 0
        self.recipients = 0
        self.octets = 0
        self._unsynced: set[Path] = set()
        self.again = 0
        """Messages that an interrupted run had taken."""

    def take(self, found: Found) -> None:
        """One message; what is wrong with it is reported."""
        place = Place(str(found.path))
        try:
            with _locked(found.path, self._queue is not None) as raw:
                self._take(found, read_message(found, raw, self._local), place)
        except BlockingIOError:
            self._report.left(place, "sendmail is working on it", "stop sendmail, and run this again")
        except (Damaged, NotQueued) as error:
            self._report.left(place, str(error), "it stays where it is")
        except OSError as error:
            self._report.left(place, f"{error.filename or found.path}: {error.strerror}", "it stays where it is")

    def finish(self) -> None:
        """Make the new names durable. OSError."""
        for directory in self._unsynced:
            sync_directory(os.fsencode(directory))
        self._unsynced.clear()

    def _put_aside(self, control: Path, data: Path) -> None:
        """The control file first: without it there is no message.

        The new names need not be durable at once, as the key is; but soon, for the sake of who starts sendmail again.
        """
        for path in (control, data):
            if not path.name.startswith(TAKEN):
                path.rename(_aside(path))
                self._unsynced.add(path.parent)
        if self.messages % SYNC_EVERY == 0:
            self.finish()

    def _take(self, found: Found, message: Message, place: Place) -> None:
        envelope, content = message.file.envelope, message.content
        held = found.path.name.startswith("hf")
        number = ""
        foreign = Foreign(message.key, message.file.birth, held)
        if self._queue is not None:
            taken, new = self._queue.take_over(foreign, envelope, content, WHENCE)
            if self._queue.checksum(taken) not in (crc32(content), None):
                raise Damaged(f"message {taken} in the queue has another content than it")
            self.again += not new
            self._put_aside(found.path, message.data)
            number = f" as message {taken}" + ("" if new else ", by an earlier run")
        self.messages += 1
        self.recipients += len(envelope.recipients)
        self.octets += len(content)
        text = f"{len(envelope.recipients)} recipients, {len(content)} octets, CRC-32 {crc32(content):08x}{number}"
        if held:
            reason = message.file.quarantine.decode("utf-8", "backslashreplace")
            self._report.changed(place, f"{text}, on hold: {reason}", "ekiden queue release")
        else:
            self._report.carried(place, text)


@contextlib.contextmanager
def _locked(path: Path, lock: bool) -> Iterator[bytes]:
    """A control file's octets, and both locks on it: sendmail uses flock or fcntl as it was built.

    BlockingIOError if another process has it, or it has been replaced meanwhile.
    """
    descriptor = os.open(path, (os.O_RDWR if lock else os.O_RDONLY) | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if lock:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except PermissionError:
                raise BlockingIOError from None
            if os.fstat(descriptor).st_ino != path.stat().st_ino:
                raise BlockingIOError
        yield file.read()


def _aside(path: Path) -> Path:
    """The name under which sendmail does not look at a file."""
    return path.with_name(TAKEN + path.name)
