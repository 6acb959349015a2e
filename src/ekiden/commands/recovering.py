"""queue recover: save what a damaged store holds, and say what could not be saved."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

import click

from ekiden.commands.trouble import unusable
from ekiden.queue import rebuild
from ekiden.queue.damage import FILE, RECOVERED, look
from ekiden.queue.keeping import MESSAGES, keep
from ekiden.queue.pages import PageFile, Value
from ekiden.queue.recovery import Finding, Known, Recovery, check_inline
from ekiden.queue.salvage import Salvaged, salvage
from ekiden.queue.store import Meta, StoreDamaged, StoreFailed
from ekiden.roles.queue import Unusable, lock
from ekiden.routing.route import Router
from ekiden.runtime.injection.direct import give_to_owner
from ekiden.runtime.log import safe
from ekiden.runtime.logreader import events
from ekiden.settings.control import read
from ekiden.settings.problem import SettingsError
from ekiden.settings.schema import Settings

_PIECE = 1 << 20
_FAULTS = 20


@click.command("recover")
@click.option("--dry-run", is_flag=True, help="Only say what would be saved.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_obj
def recover(home: Path, dry_run: bool, as_json: bool) -> int:
    """Save what can be read of a damaged queue; ekiden must be stopped.

    A new store is made beside the old one and takes its place when it is complete; the old one is kept in
    queue/damaged-1. Exit code 0 if nothing was wrong or all was saved, 1 if something could not be, or if there are
    contents of which nobody knows whose they are.
    """
    directory = home / "queue"
    try:
        settings = read(home / "control")
        with _locked(directory):
            return _recover(home, directory, settings, dry_run, as_json)
    except (SettingsError, Unusable, StoreFailed, sqlite3.Error) as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise unusable(error, directory) from None


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    held = lock(directory)
    try:
        yield
    finally:
        if directory.is_dir():
            give_to_owner(directory)
        os.close(held)


def _recover(home: Path, directory: Path, settings: Settings, dry_run: bool, as_json: bool) -> int:
    if (directory / RECOVERED).exists():
        if dry_run:
            click.echo("an interrupted recovery is complete but for its last steps")
            return 0
        click.echo(f"finished the recovery that was interrupted; the damaged store is in {rebuild.finish(directory)}")
        return 0
    damage, outdated = _damage(directory)
    found = _salvage(directory)
    known = _known(home) if outdated or not all(row.sure for rows in found.rows.values() for row in rows) else {}
    router = Router(settings)
    recovery = Recovery(
        found,
        known,
        lambda values, meta: content_fault(directory, values, meta),
        lambda address: _destination(router, address),
        lambda address: safe(address).encode(),
        time.time(),
    )
    recovery.judge()
    damage += found.damage or ([] if damage else _check(directory))
    # Where all messages can be read, what none of them names is what a crash has left.
    unnamed = rebuild.unnamed(directory, found) if outdated or "message" not in found.whole else []
    aside = None
    if (damage or recovery.findings) and not dry_run:
        rebuild.build(directory, recovery, time.time())
        aside = rebuild.put_in_place(
            directory, lambda place: keep(place, recovery.findings, lambda values: _pieces(directory, values))
        )
    _tell(recovery, damage, unnamed, aside, as_json)
    return 1 if unnamed or any(not finding.saved for finding in recovery.findings) else 0


def _damage(directory: Path) -> tuple[list[str], bool]:
    """What is wrong with the files; and whether something that was committed is not in them."""
    try:
        look(directory)
    except StoreDamaged as error:
        return [error.args[0]], True
    return [], False


def _check(directory: Path) -> list[str]:
    """What SQLite finds wrong with a store in which all rows can be read, such as indexes that do not fit them.

    In a process of its own that ends without closing the file, which would write the log back into it.
    """
    if not (directory / FILE).exists():
        return []
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            _write_faults(directory, writing)
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as said:
        faults = said.read().decode().splitlines()
    os.waitpid(child, 0)
    if not faults:
        raise StoreFailed(f"{directory / FILE}: the check ended without a word")
    return [f"{FILE}: {fault}" for fault in faults if fault != "ok"]


def _write_faults(directory: Path, writing: int) -> None:
    db = sqlite3.connect(directory / FILE, isolation_level=None)
    try:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        found = [str(row[0]) for row in db.execute(f"PRAGMA integrity_check({_FAULTS})")]
    except sqlite3.Error as error:
        found = [str(error)]
    os.write(writing, "\n".join(found)[:60_000].encode())


def _salvage(directory: Path) -> Salvaged:
    today = rebuild.today(directory)
    try:
        file = PageFile(directory / FILE)
    except OSError:
        return Salvaged()
    try:
        return salvage(file, today) if file.octets or file.log.frames else Salvaged()
    finally:
        file.close()


def content_fault(directory: Path, values: dict[str, Value], meta: Meta) -> str:
    """What is wrong with a message's content, in its row or in a file; "" if nothing is."""
    path = _file(directory, values)
    if path is None:
        return check_inline(values, meta)
    shown = f"queue/{path.parent.name}/{path.name}"
    size = checksum = 0
    try:
        for piece in _pieces(directory, values):
            size, checksum = size + len(piece), crc32(piece, checksum)
    except OSError as error:
        return f"its content cannot be read: {shown}: {error.strerror}"
    if size != values["size"] or (meta.checksum and checksum != meta.checksum):
        return f"its content is damaged: {shown}"
    return ""


def _file(directory: Path, values: dict[str, Value]) -> Path | None:
    """The file that a row's content is in; None if it is in the row."""
    if values.get("spool"):
        return directory / "spool" / os.path.basename(str(values["spool"]))
    if values.get("segment") is not None:
        return directory / "segments" / str(values["segment"])
    return None


def _pieces(directory: Path, values: dict[str, Value]) -> Iterator[bytes]:
    """A row's content, as far as it can be read. OSError."""
    path = _file(directory, values)
    if path is None:
        content = values.get("content")
        yield content if isinstance(content, bytes) else b""
        return
    at = 0 if values.get("spool") else values.get("at")
    if not isinstance(at, int) or at < 0:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
    left = 1 << 62 if values.get("spool") else _number(values.get("size"))
    # What is no file, such as a pipe, must not keep anybody waiting.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    with open(descriptor, "rb") as file:
        file.seek(at)
        while piece := file.read(min(_PIECE, left)):
            left -= len(piece)
            yield piece


def _number(value: Value) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _destination(router: Router, address: bytes) -> bytes:
    decision = router.route(address)
    return b"local:" + address.lower() if decision.channel == "local" else decision.destination


def _known(home: Path) -> dict[int, Known]:
    """What the log says of each message."""
    found: dict[int, Known] = {}
    directory = home / "log"
    for event in events(directory) if directory.is_dir() and os.access(directory, os.R_OK) else ():
        if "message" not in event:
            continue
        message = found.setdefault(event["message"], Known())
        match event["event"]:
            case "info":
                message.sender = str(event["sender"]).encode()
            case "starting":
                message.recipients.add(safe(str(event["recipient"]).encode()).encode())
            case "success":
                message.delivered.add(safe(str(event["recipient"]).encode()).encode())
            case "end":
                message.ended = True
    return found


def _tell(recovery: Recovery, damage: list[str], unnamed: list[str], aside: Path | None, as_json: bool) -> None:
    lost = [finding for finding in recovery.findings if not finding.saved]
    totals = {
        "saved": len(recovery.messages),
        "recipients": sum(len(part.recipients) for one in recovery.messages.values() for part in one.parts),
        "not saved": len({finding.message for finding in lost}),
        "on hold": sum(message.held for message in recovery.messages.values()),
    }
    say: Callable[[str], None] = click.echo
    if as_json:
        for finding in recovery.findings:
            say(json.dumps(_fields(finding)))
        say(json.dumps({"damage": damage, **totals, "unnamed": unnamed, "damaged store": str(aside or "")}))
        return
    for text in damage:
        say(text)
    for finding in recovery.findings:
        fields = _fields(finding)
        whom = f" from <{fields['sender']}>" if finding.sender is not None else ""
        to = f" to {', '.join(fields['recipients'])}" if finding.recipients else ""
        say(f"message {finding.message}{whom}{to}: {'' if finding.saved else 'NOT SAVED: '}{finding.text}")
    if not damage and not recovery.findings:
        say(f"nothing is wrong with the {totals['saved']} messages in the queue")
        return
    say(", ".join(f"{count} {what}" for what, count in totals.items()))
    if unnamed:
        say(_named_by_nobody(unnamed, aside))
    if aside and lost:
        say(f"what is known of those not saved, and their contents, is in {aside / MESSAGES}")
    say(f"the damaged store is in {aside}" if aside else "nothing was changed")


def _named_by_nobody(names: list[str], aside: Path | None) -> str:
    """Whose contents these are nobody knows, nor how many are in a segment."""
    segments = sum(name.startswith("segments/") for name in names)
    kept = aside or "queue"
    return (
        f"NOT SAVED: contents that no message names any more: {len(names) - segments} in files of their own in"
        f" {kept}/spool, and what is in {segments} files in {kept}/segments; some may be of messages that have left"
    )


def _fields(finding: Finding) -> dict[str, Any]:
    return {
        "message": finding.message,
        "saved": finding.saved,
        "text": finding.text,
        "sender": None if finding.sender is None else _text(finding.sender),
        "recipients": [_text(one) for one in finding.recipients],
        "certain": [_text(one) for one in finding.certain],
    }


def _text(address: bytes) -> str:
    return address.decode("utf-8", "backslashreplace")
