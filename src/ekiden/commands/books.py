"""The queue's books for a command: ``runtime.books`` with click's errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from ekiden.commands.trouble import TryAgain
from ekiden.runtime import books as shop
from ekiden.runtime.books import Ask

__all__ = ["Ask", "books"]


@contextmanager
def books(home: Path) -> Iterator[Ask]:
    """A way to ask. ClickException if there is none for this user, TryAgain if there is none just now."""
    try:
        with shop.books(home) as ask:
            yield ask
    except shop.Closed as reason:
        raise (TryAgain if reason.passing else click.ClickException)(str(reason)) from None
