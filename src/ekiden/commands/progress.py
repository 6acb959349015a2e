"""A progress bar for people who watch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SECONDS = 0.1
"""How often it is drawn at most."""


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal. It is drawn between two steps and not by a thread, because processes are forked."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done: None
        return
    with Progress(console=console, auto_refresh=False, transient=True) as bar:
        task = bar.add_task(what, total=total)

        drawn = 0.0

        def step(done: int) -> None:
            nonlocal drawn
            bar.advance(task, done)
            if time.monotonic() > drawn + _SECONDS:
                bar.refresh()
                drawn = time.monotonic()

        yield step
