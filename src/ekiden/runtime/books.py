"""The queue's books for those who ask: over ``run/control`` while ekiden runs, else from the store itself."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ekiden.queue.audit import LAST
from ekiden.queue.inspect import Filter
from ekiden.queue.store import StoreFailed
from ekiden.runtime.control import Asking
from ekiden.runtime.control_frames import ControlAnswer, ControlRequest, Ledger, List, Rows
from ekiden.runtime.injection.door import NotQueued

_PAGE = 200

Ask = Callable[[ControlRequest], ControlAnswer]


class Closed(Exception):
    """The books are not open to this user, or not at all; the text says why. ``passing``: they may be soon."""

    def __init__(self, text: str, passing: bool = False) -> None:
        super().__init__(text)
        self.passing = passing


@contextmanager
def books(home: Path) -> Iterator[Ask]:
    """A way to ask. Raises Closed, also while asking."""
    try:
        asking = Asking(home)
    except PermissionError:
        raise Closed(f"only root and the owner of {home} may look") from None
    except OSError as error:
        if not os.access(home / "queue", os.W_OK | os.X_OK):
            raise Closed(f"the queue does not answer: {error.strerror or error}") from None
        with _closed(home) as ask:
            yield ask
        return
    with asking:
        yield lambda frame: _asked(asking, frame)


def _asked(asking: Asking, frame: ControlRequest) -> ControlAnswer:
    try:
        return asking.ask(frame)
    except OSError as error:
        raise Closed(f"the queue does not answer: {error.strerror or error}", passing=True) from None


@contextmanager
def _closed(home: Path) -> Iterator[Ask]:
    """The books while ekiden does not run, under the queue's lock."""
    from ekiden.runtime.injection.direct import Direct, QueueTaken

    try:
        direct = Direct(str(home))
    except NotQueued as fault:
        raise Closed(str(fault), passing=isinstance(fault, QueueTaken)) from None
    try:
        answering = direct.administration()
        yield lambda frame: answering.answer(frame, os.getuid())
    except StoreFailed as error:
        raise Closed(str(error)) from None
    finally:
        direct.close()


def ledger(ask: Ask, after: int = 0, until: int = LAST) -> Iterator[dict[str, Any]]:
    """Entries of the ledger for messages with ids above ``after`` up to ``until``, in their order."""
    return _rows(lambda above: ask(Ledger(above, until)), after)


def queued(ask: Ask) -> Iterator[dict[str, Any]]:
    """Messages in the queue, in the order of their ids."""
    return _rows(lambda above: ask(List(above, _PAGE, Filter())))


def _rows(page: Callable[[int], ControlAnswer], after: int = 0) -> Iterator[dict[str, Any]]:
    while True:
        answer = page(after)
        assert isinstance(answer, Rows)
        yield from map(json.loads, answer.rows)
        after = answer.next
        if not after:
            return
