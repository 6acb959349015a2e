"""Letters into mailboxes, many at a time: one wait for the disk serves all that are at hand.

Nothing here raises for a mailbox's sake; each letter gets None (stored and durable) or the Trouble it met.
"""

from __future__ import annotations

import errno
from itertools import chain

from ekiden.delivery.local_limits import NO_LIMITS, LocalLimits
from ekiden.delivery.maildir import Draft, settle
from ekiden.delivery.mbox import LeftOver, Mbox
from ekiden.delivery.quotas import Quotas
from ekiden.delivery.report import Trouble, deferred, readable, unable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ekiden.delivery.letter import Letter


def to_maildirs(entries: Sequence[tuple[bytes, Letter]], limits: LocalLimits = NO_LIMITS) -> list[Trouble | None]:
    """Deliver each letter into its Maildir, and answer once all are durable."""
    drafts: list[Draft] = []
    troubles: list[Trouble | None] = []
    written: list[int] = []
    with Quotas(limits) as quotas:
        for at, (path, letter) in enumerate(entries):
            troubles.append(None)
            try:
                drafts.append(_draft(path, letter, quotas))
                written.append(at)
            except Trouble as trouble:
                troubles[at] = trouble
            except OSError as error:
                troubles[at] = _maildir_trouble(path, error)
        settle(drafts)
        for at, draft in zip(written, drafts, strict=True):
            if draft.error is None:
                quotas.count(entries[at][0], draft)
            else:
                troubles[at] = _maildir_trouble(entries[at][0], draft.error)
    return troubles


def _draft(path: bytes, letter: Letter, quotas: Quotas) -> Draft:
    draft = Draft(path, _stored(letter.return_path + letter.delivered_to, letter))
    try:
        quotas.admit(path, draft)
    except BaseException:
        draft.abandon()
        raise
    return draft


def to_mbox(path: bytes, letters: Sequence[Letter]) -> list[Trouble | None] | None:
    """Append letters to one mbox; None if it is locked by somebody else, so that nothing was done."""
    try:
        mbox = Mbox(path)
    except OSError as error:
        return [unable(f"open {readable(path)}", error, "4.2.1")] * len(letters)
    try:
        if not mbox.lock():
            return None
        troubles = [_append(mbox, path, letter) for letter in letters]
        mbox.commit()
    except OSError as error:
        return [_unwritten(path, error)] * len(letters)
    finally:
        mbox.close()
    return troubles


def locked(path: bytes) -> Trouble:
    """For a mailbox whose lock was not to be had in time."""
    return deferred(f"{readable(path)} stayed locked by another program. (#4.2.1)")


def _append(mbox: Mbox, path: bytes, letter: Letter) -> Trouble | None:
    try:
        mbox.append(letter.from_line + letter.return_path + letter.delivered_to, letter.content.chunks())
    except OSError as error:
        return _unwritten(path, error)
    return None


def _unwritten(path: bytes, error: OSError) -> Trouble:
    also = ", and what was written of it could not be taken back" if isinstance(error, LeftOver) else ""
    return unable(f"write {readable(path)}", error, also=also)


def _stored(front: bytes, letter: Letter) -> Iterable[bytes]:
    return chain((front,), letter.content.chunks())


def _maildir_trouble(path: bytes, error: OSError) -> Trouble:
    missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
    return unable(f"deliver to maildir {readable(path)}", error, "4.2.1" if missing else "4.3.0")
