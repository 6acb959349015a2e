"""The queue's books for a command: ``runtime.books`` with click's errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from ekiden.runtime import books as shop
from ekiden.runtime.books import Ask, ledger, queued

__all__ = ["Ask", "books", "ledger", "queued"]


@contextmanager
def books(home: Path) -> Iterator[Ask]:
    """A way to ask. ClickException if there is none for this user."""
    try:
        with shop.books(home) as ask:
            yield ask
    except shop.Closed as reason:
        raise click.ClickException(str(reason)) from None
