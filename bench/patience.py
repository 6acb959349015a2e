"""``python -m bench.patience``: what silent clients do to the others: the median session beside them and without.

Each of the silent ones connects, says half a command and waits. The busy one sends messages by SMTP, or fetches its
mail by POP3, a session after the other.
"""

from __future__ import annotations

import poplib
import smtplib
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from tests.peers.ekiden import Ekiden
from tests.peers.processes import free_port

from bench.pop3 import fill, users

_TEXT = b"From: a@example.org\r\nTo: b@example.org\r\nSubject: a message\r\n\r\n" + b"A line of text.\r\n" * 200


def send(port: int) -> None:
    """One SMTP session with a message."""
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
        client.sendmail("a@example.org", ["u0@ekiden.example"], _TEXT)


def fetch(port: int) -> None:
    """One POP3 session with ten messages."""
    client = poplib.POP3("127.0.0.1", port, timeout=60)
    client.user("u0")
    client.pass_("secret")
    for number in range(1, client.stat()[0] + 1):
        client.retr(number)
    client.quit()


@contextmanager
def silent_clients(port: int, count: int) -> Iterator[None]:
    """Clients that are there and do nothing."""
    clients = []
    for _ in range(count):
        client = socket.create_connection(("127.0.0.1", port), timeout=60)
        client.sendall(b"NO")
        clients.append(client)
    time.sleep(1)
    try:
        yield
    finally:
        for client in clients:
            client.close()


def median(session: Callable[[int], None], port: int, sessions: int) -> float:
    """Milliseconds of the median session."""
    times = []
    for _ in range(sessions):
        begun = time.monotonic()
        session(port)
        times.append(time.monotonic() - begun)
    return statistics.median(times) * 1000


@click.command()
@click.option("--sessions", default=300, show_default=True, help="Sessions that are measured.")
@click.option("--silent", default=500, show_default=True, help="Silent clients.")
def main(sessions: int, silent: int) -> None:
    """Measure both protocols and print a table."""
    click.echo("| protocol | silent clients | ms a session | ms without them | ratio |")
    click.echo("| --- | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        place.chmod(0o755)
        fill(place, 10)
        served = Ekiden(place)
        served.configure()
        served.control("pop3users", *users(place))
        served.control("connectionsperclient", str(silent + 10))
        pop3 = free_port()
        served.control("listen", f"smtp 127.0.0.1:{served.port}", f"pop3 127.0.0.1:{pop3}")
        served.start()
        try:
            for name, port, session in (("SMTP", served.port, send), ("POP3", pop3, fetch)):
                median(session, port, 20)
                alone = median(session, port, sessions)
                with silent_clients(port, silent):
                    beside = median(session, port, sessions)
                click.echo(f"| {name} | {silent} | {beside:.1f} | {alone:.1f} | {beside / alone:.2f} |")
        finally:
            served.stop()


if __name__ == "__main__":
    main()
