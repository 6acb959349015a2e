"""Processes, ports and temporary places of peers.

Nothing here knows which peer it serves. A peer that is not installed fails the test; ``Unavailable`` says that a run
lacks rights, and fixtures turn it into a skipped test.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

SEARCH_PATH = f"{os.environ.get('PATH', '/usr/bin:/bin')}:/usr/local/sbin:/usr/sbin:/sbin"


class Unavailable(Exception):
    """The peer needs rights that this run does not have."""


def program(name: str) -> str:
    """The path of an installed program, also from the system directories that a user's PATH lacks."""
    path = shutil.which(name, path=SEARCH_PATH)
    if path is None:
        raise RuntimeError(f"{name} is not installed: run tests/install-peers")
    return path


_PORTS = range(10_000, 30_000)
"""Below those that outgoing connections are given."""


def _next_port() -> int:
    """The one after the last that any process of this user's was given: who has a port may bind it later, or anew."""
    counter = os.open(Path(tempfile.gettempdir()) / f"ekiden-ports.{os.getuid()}", os.O_RDWR | os.O_CREAT, 0o600)
    with open(counter, "r+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        given = int.from_bytes(file.read(4), "little")
        file.seek(0)
        file.write((given + 1).to_bytes(4, "little"))
    return _PORTS[given % len(_PORTS)]


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on now, and that nobody else is given soon."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(200):
        candidate = _next_port()
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((host, candidate))
            except OSError:
                continue
            return candidate
    raise OSError(f"no free port on {host}")


@contextmanager
def short_directory(prefix: str) -> Iterator[Path]:
    """A temporary directory with a short path (unix sockets), open to the peers' own users, removed afterwards."""
    path = Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir="/tmp"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def wait_until(condition: Callable[[], bool], what: str, step: float = 0.02, seconds: float = 60) -> None:
    """Return once ``condition`` holds; AssertionError naming ``what`` after ``seconds``: many, for slow machines."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} seconds: {what}")
        time.sleep(step)


def accepts(host: str, port: int) -> bool:
    """Whether somebody takes TCP connections there."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def run(
    arguments: Sequence[str | Path], seconds: float = 60, check: bool = True, **keywords: object
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, its output read back from a file.

    Not from a pipe: a daemon that the command leaves behind would hold that open. With ``check`` a non-zero exit is
    an AssertionError that shows the output.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        finished: subprocess.CompletedProcess[str] = subprocess.run(
            [str(argument) for argument in arguments],
            stdin=subprocess.DEVNULL if "input" not in keywords else None,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            text=True,
            check=False,
            **keywords,  # type: ignore[call-overload]
        )
        output.seek(0)
        finished.stdout = output.read()
    if check and finished.returncode != 0:
        command = " ".join(map(str, arguments))
        raise AssertionError(f"{command}: exit code {finished.returncode}\n{finished.stdout}")
    return finished


def is_alive(pid: int) -> bool:
    """Whether the process exists and is more than a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Signal a process that may have ended already."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def end(process: subprocess.Popen[bytes], seconds: float = 10) -> None:
    """Ask a child to end, and make it end if it does not."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def process_tree(roots: Iterable[int]) -> set[int]:
    """The processes given and all that descend from them, as far as they live."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parent = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry))
    found: set[int] = set()
    pending = [pid for pid in roots if is_alive(pid)]
    while pending:
        pid = pending.pop()
        if pid not in found:
            found.add(pid)
            pending.extend(children.get(pid, ()))
    return found
