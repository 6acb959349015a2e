"""``python -m bench.tcpserver``: connections per second of ekiden's tcpserver beside the original's.

Both start the same small C program, which writes two octets and ends, for each connection of a client in C that keeps
20 at once. They take turns.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from tests.peers.ekiden import COMMAND
from tests.peers.processes import accepts, end, free_port, program

_CHILD = """
#include <unistd.h>
int main(void) { return write(1, "x\\n", 2) != 2; }
"""

_CLIENT = """
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* client PORT AT_ONCE TOTAL: connect, read to the end, TOTAL times; exit 1 if a connection gave nothing. */
int main(int argc, char **argv) {
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    int slots = atoi(argv[2]), left = atoi(argv[3]), open = 0;
    struct pollfd *polls = calloc(slots, sizeof *polls);
    int *got = calloc(slots, sizeof *got);
    char octets[64];
    inet_pton(AF_INET, "127.0.0.1", &place.sin_addr);
    for (int i = 0; i < slots; i++) polls[i].fd = -1;
    while (left || open) {
        for (int i = 0; i < slots && left; i++) if (polls[i].fd < 0) {
            polls[i] = (struct pollfd){.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), .events = POLLIN};
            if (connect(polls[i].fd, (void *)&place, sizeof place) < 0 && errno != EINPROGRESS) return 2;
            got[i] = 0; open++; left--;
        }
        if (poll(polls, slots, 30000) <= 0) return 3;
        for (int i = 0; i < slots; i++) if (polls[i].fd >= 0 && polls[i].revents) {
            int size = read(polls[i].fd, octets, sizeof octets);
            if (size > 0) { got[i] += size; continue; }
            if (size < 0 && errno == EAGAIN) continue;
            if (got[i] != 2) return 1;
            close(polls[i].fd); polls[i].fd = -1; open--;
        }
    }
    return 0;
}
"""

OPTIONS = {"plain": [], "-v and rules": ["-v", "-x", "{rules}"]}
_AT_ONCE = 20


@contextmanager
def serving(command: list[str], options: list[str], child: Path) -> Iterator[int]:
    """A running tcpserver; its port."""
    port = free_port()
    arguments = ["-RHl0", "-c", "200", "-b", "1000", *options, "127.0.0.1", str(port), str(child)]
    process = subprocess.Popen([*command, *arguments], stderr=subprocess.DEVNULL)
    try:
        while not accepts("127.0.0.1", port):
            time.sleep(0.05)
        yield port
    finally:
        end(process)


def build(place: Path, name: str, source: str) -> Path:
    """A compiled program."""
    file = place / f"{name}.c"
    file.write_text(source)
    subprocess.run([program("gcc"), "-O2", "-o", place / name, file], check=True)
    return place / name


@click.command()
@click.option("--connections", default=5000, show_default=True, help="Connections of a run.")
@click.option("--rounds", default=3, show_default=True, help="How often each runs.")
def main(connections: int, rounds: int) -> None:
    """Measure both, in turn, and print a table."""
    contenders = {"ucspi-tcp": [program("tcpserver")], "ekiden": [str(COMMAND), "tcpserver"]}
    click.echo("| tcpserver | ucspi-tcp /s | ekiden /s | ratio |\n| --- | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        place.chmod(0o755)
        child, client = build(place, "child", _CHILD), build(place, "client", _CLIENT)
        rules = place / "rules.cdb"
        text = b'127.:allow,RELAYCLIENT=""\n:allow\n'
        subprocess.run([program("tcprules"), rules, place / "tmp"], input=text, check=True)
        for title, options in OPTIONS.items():
            rates: dict[str, list[float]] = {name: [] for name in contenders}
            for _ in range(rounds):
                for name, command in contenders.items():
                    with serving(command, [each.format(rules=rules) for each in options], child) as port:
                        begun = time.monotonic()
                        subprocess.run([client, str(port), str(_AT_ONCE), str(connections)], check=True)
                        rates[name].append(connections / (time.monotonic() - begun))
            theirs, ours = (statistics.median(rates[name]) for name in contenders)
            click.echo(f"| {title} | {theirs:,.0f} | {ours:,.0f} | {ours / theirs:.2f} |")


if __name__ == "__main__":
    main()
