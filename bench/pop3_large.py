"""``python -m bench.pop3_large``: how long a large Maildir keeps its reader waiting, at first and afterwards."""

from __future__ import annotations

import poplib
import tempfile
import time
from pathlib import Path

import click

from bench.pop3 import ekiden, fill


def look(port: int, messages: int) -> float:
    """Seconds that login, STAT, UIDL and QUIT take."""
    begun = time.monotonic()
    client = poplib.POP3("127.0.0.1", port, timeout=120)
    client.user("u0")
    client.pass_("secret")
    found, listed = client.stat()[0], len(client.uidl()[1])
    client.quit()
    if not found == listed == messages:
        raise click.ClickException(f"{found} messages and {listed} unique ids of {messages}")
    return time.monotonic() - begun


@click.command()
@click.option("--messages", default=100_000, show_default=True, help="Messages in the mailbox.")
@click.option("--size", default=1, show_default=True, help="Lines of each message's body.")
def main(messages: int, size: int) -> None:
    """Log in three times, and print what each took."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        place.chmod(0o755)
        fill(place, messages, users=1, lines=size)
        with ekiden(place) as port:
            click.echo(", ".join(f"{look(port, messages):.2f} s" for _ in range(3)))


if __name__ == "__main__":
    main()
