"""``python -m bench.pop3``: POP3 sessions per second of ekiden beside Dovecot, in turn, over equal Maildirs.

A session: connect, USER, PASS, STAT, UIDL, RETR of every message, QUIT. Nothing is deleted. The client is a C program
with a process for each of the clients that are there at once, so that it costs both servers the same.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from tests.peers.dovecot import Pop3Dovecot
from tests.peers.ekiden import NOBODY, Ekiden

from bench.tcpserver import build

USERS = 10
_HEADER = b"From: a@example.org\nTo: b@example.org\nSubject: message %d\n\n"
_LINE = b"A line of the message's text.\n"
_SERVERS = ("Dovecot", "ekiden")

_CLIENT = r"""
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* client PORT CLIENTS SESSIONS: each client logs in as u0, u1, ... */
static FILE *in, *out;
static char line[4096];

static char *reply(void) {
    if (!fgets(line, sizeof line, in) || line[0] != '+') { fprintf(stderr, "client: %s", line); exit(1); }
    return line;
}
static char *ask(const char *text, int number) {
    fprintf(out, text, number); fputs("\r\n", out); fflush(out);
    return reply();
}
static int lines(void) {
    int count = 0;
    while (fgets(line, sizeof line, in) && strcmp(line, ".\r\n")) count++;
    return count;
}
static void session(int port, int user) {
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons(port)};
    int one = 1, count, fd = socket(AF_INET, SOCK_STREAM, 0);
    inet_pton(AF_INET, "127.0.0.1", &place.sin_addr);
    if (connect(fd, (void *)&place, sizeof place)) { perror("connect"); exit(1); }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    in = fdopen(fd, "r"); out = fdopen(dup(fd), "w");
    reply();
    ask("USER u%d", user);
    ask("PASS secret", 0);
    count = atoi(ask("STAT", 0) + 4);
    ask("UIDL", 0);
    if (lines() != count) exit(1);
    for (int n = 1; n <= count; n++) { ask("RETR %d", n); if (lines() < 100) exit(1); }
    ask("QUIT", 0);
    fclose(in); fclose(out);
}
int main(int argc, char **argv) {
    int port = atoi(argv[1]), clients = atoi(argv[2]), sessions = atoi(argv[3]), failed = 0, status;
    for (int user = 0; user < clients; user++) if (!fork()) {
        for (int n = 0; n < sessions; n++) session(port, user);
        _exit(0);
    }
    while (wait(&status) > 0) failed |= status;
    return !!failed;
}
"""


@contextmanager
def ekiden(place: Path) -> Iterator[int]:
    """A running ekiden with the users; its port."""
    served = Ekiden(place)
    served.configure()
    port = served.port
    served.control("pop3users", *users(place))
    served.control("listen", f"pop3 127.0.0.1:{port}")
    served.start()
    try:
        yield port
    finally:
        served.stop()


def users(place: Path) -> list[str]:
    """Lines of control/pop3users."""
    who = f"{NOBODY}:{NOBODY}" if os.getuid() == 0 else f"{os.getuid()}:{os.getgid()}"
    return [f"u{n}:{{PLAIN}}secret:{who}:{place}/u{n}:./Maildir/" for n in range(USERS)]


@contextmanager
def dovecot(place: Path) -> Iterator[int]:
    """A running Dovecot with the same users; its port."""
    served = Pop3Dovecot(place)
    served.start()
    try:
        yield served.port
    finally:
        served.stop()


def fill(place: Path, messages: int, users: int = USERS, lines: int = 130) -> None:
    """Every user's Maildir, with messages of so many lines."""
    for user in range(users):
        maildir = place / f"u{user}" / "Maildir"
        for part in ("new", "cur", "tmp"):
            (maildir / part).mkdir(parents=True)
        for number in range(messages):
            (maildir / "cur" / f"{1_000_000 + number}.1.bench:2,S").write_bytes(_HEADER % number + _LINE * lines)
        if os.getuid() == 0:
            for path in (maildir.parent, *maildir.parent.rglob("*")):
                os.chown(path, NOBODY, NOBODY)


def measure(client: Path, port: int, sessions: int) -> float:
    """Sessions per second."""
    begun = time.monotonic()
    subprocess.run([client, str(port), str(USERS), str(sessions)], check=True)
    return USERS * sessions / (time.monotonic() - begun)


@click.command()
@click.option("--sessions", default=20, show_default=True, help="Sessions of each client in a run.")
@click.option("--messages", default=50, show_default=True, help="Messages in each mailbox, 4 KiB each.")
@click.option("--rounds", default=3, show_default=True, help="How often each runs.")
def main(sessions: int, messages: int, rounds: int) -> None:
    """Measure both, in turn, and print a table."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        place.chmod(0o755)
        client = build(place, "client", _CLIENT)
        rates: dict[str, list[float]] = {name: [] for name in _SERVERS}
        for round_ in range(rounds):
            for name, serve in zip(_SERVERS, (dovecot, ekiden), strict=True):
                mine = place / f"{name}{round_}"
                mine.mkdir()
                fill(mine, messages)
                with serve(mine) as port:
                    measure(client, port, 2)  # what both keep from earlier sessions is there
                    rates[name].append(measure(client, port, sessions))
                shutil.rmtree(mine, ignore_errors=True)
        theirs, ours = (statistics.median(rates[name]) for name in _SERVERS)
        click.echo("| POP3 | Dovecot sessions/s | ekiden sessions/s | ratio |\n| --- | ---: | ---: | ---: |")
        click.echo(f"| {USERS} clients, {messages} RETR | {theirs:,.0f} | {ours:,.0f} | {ours / theirs:.2f} |")


if __name__ == "__main__":
    main()
