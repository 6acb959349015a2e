"""The queue's books for those who ask: over ``run/control`` while ekiden runs, else from the store itself."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ekiden.queue.audit import LAST
from ekiden.queue.inspect import Filter
from ekiden.runtime.administration import Administration, ControlAnswer, ControlRequest, Ledger, List, Rows
from ekiden.runtime.control import Asking

Ask = Callable[[ControlRequest], ControlAnswer]


@contextmanager
def books(home: Path) -> Iterator[Ask]:
    """A way to ask. ClickException if neither way is open to this user."""
    try:
        asking = Asking(home)
    except PermissionError:
        raise click.ClickException(f"only root and the owner of {home} may look") from None
    except OSError:
        with _closed(home) as ask:
            yield ask
        return
    with asking:
        yield asking.ask


@contextmanager
def _closed(home: Path) -> Iterator[Ask]:
    """The books while ekiden does not run, under the queue's lock."""
    from ekiden.queue.engine import Engine
    from ekiden.queue.sqlite import SQLiteStore
    from ekiden.queue.store import StoreFailed
    from ekiden.roles.queue import Unusable, lock
    from ekiden.runtime.inject_direct import NOBODY, SILENCE
    from ekiden.settings.control import read
    from ekiden.settings.problem import SettingsError

    try:
        settings = read(home / "control")
        held = lock(home / "queue")
        try:
            store = SQLiteStore(home / "queue", settings.checkpointpages)
            engine = Engine(settings, store, SILENCE, NOBODY)
            answering = Administration(engine, store, lambda: None, dict, lambda: None, lambda _settings: None)
            yield lambda frame: answering.answer(frame, os.getuid())
            store.close()
        finally:
            os.close(held)
    except (SettingsError, Unusable, StoreFailed, OSError) as error:
        raise click.ClickException(str(error)) from None


def ledger(ask: Ask, after: int = 0, until: int = LAST) -> Iterator[dict[str, Any]]:
    """Entries of the ledger, page by page."""
    while True:
        answer = ask(Ledger(after, until))
        assert isinstance(answer, Rows)
        yield from map(json.loads, answer.rows)
        after = answer.next
        if not after:
            return


def queued(ask: Ask) -> Iterator[dict[str, Any]]:
    """Messages in the queue, page by page."""
    after = 0
    while True:
        answer = ask(List(after, 200, Filter()))
        assert isinstance(answer, Rows)
        yield from map(json.loads, answer.rows)
        after = answer.next
        if not after:
            return
